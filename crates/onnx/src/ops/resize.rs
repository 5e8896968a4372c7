//! Resize and Upsample: one axis after another, each a weighted sum of a few elements, whose places and weights are computed here, or in the
//! program where sizes are symbols.

mod symbolic;

use graver_ir::op::{Broadcast, GatherAxes, ReduceKind};
use graver_ir::{Array, DType, Dim, Op, ScalarFn, Shape, Value};

use super::Values;
use crate::build::Builder;
use crate::known::{Known, Quotient};
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// Elements that one axis may need: what is computed here is stored.
const MAX_TAPS: i64 = 1 << 22;

/// What is the same for all axes.
struct Rule {
    mode: Mode,
    coordinates: String,
    nearest: String,
    cubic: f64,
    antialias: bool,
    exclude_outside: bool,
    extrapolation: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// One axis: from `size` elements to `out`.
struct Line {
    size: i64,
    out: i64,
    scale: f64,
    /// Start and end of the region of interest, as fractions.
    roi: (f64, f64),
}

/// How many times the operand's size the result's is.
#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Is(f64),
    /// As their sizes say, of which one is a symbol.
    OfSizes,
}

/// What each element of the result is made of: `count` elements each.
struct Taps {
    places: Vec<i64>,
    weights: Vec<f64>,
    count: usize,
    /// Which elements lie outside of the operand and have a value of their own.
    outside: Vec<bool>,
}

pub(super) fn resize(n: &mut Node<'_>) -> Values {
    let first = n.version < 11;
    let rule = Rule {
        mode: match n.text("mode", "nearest").as_str() {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" => Mode::Cubic,
            other => return wrong(format!("the mode `{other}`")),
        },
        coordinates: n.text("coordinate_transformation_mode", if first { "asymmetric" } else { "half_pixel" }),
        nearest: n.text("nearest_mode", if first { "floor" } else { "round_prefer_floor" }),
        cubic: n.float("cubic_coeff_a", -0.75),
        antialias: n.flag("antialias", false),
        exclude_outside: n.flag("exclude_outside", false),
        extrapolation: n.float("extrapolation_value", 0.0),
    };
    if rule.coordinates == "tf_half_pixel_for_nn" && n.version >= 13 {
        return wrong("the coordinates `tf_half_pixel_for_nn`, which version 13 has no more");
    }
    let x = n.arg(0)?;
    let shape = n.b.shape(x);
    let axes = match n.ints("axes") {
        Some(axes) => n.axes(&axes, shape.rank())?,
        None => (0..shape.rank()).collect(),
    };
    let (outs, scales) = targets(n, &shape, &axes)?;
    let roi = region(n, axes.len())?;
    let dtype = n.b.dtype(x);
    // Sums of one axis are the terms of the next: they are rounded once, behind the last.
    let mut y = if rule.mode == Mode::Nearest { x } else { n.b.cast(x, wide(dtype))? };
    for (place, axis) in axes.iter().enumerate() {
        y = along(n.b, y, *axis, &outs[place], scales[place], roi[place], &rule)?;
    }
    if n.b.dtype(y) != dtype && !dtype.is_float() {
        y = n.b.map(ScalarFn::Round, &[y])?;
    }
    Ok(vec![n.b.cast(y, dtype)?])
}

/// The floats that weighted sums of elements are computed in.
const fn wide(dtype: DType) -> DType {
    if matches!(dtype, DType::F64 | DType::I64 | DType::I32 | DType::U64 | DType::U32) { DType::F64 } else { DType::F32 }
}

/// The sizes of the resized axes, and how many times they are those of the operand.
fn targets(n: &Node<'_>, shape: &Shape, axes: &[usize]) -> Result<(Vec<Dim>, Vec<Scale>)> {
    let (scales_at, sizes_at) = if n.version < 11 { (1, usize::MAX) } else { (2, 3) };
    let attribute = n.floats("scales").map(|scales| scales.into_iter().map(f64::from).collect::<Vec<f64>>());
    match (attribute, n.opt(scales_at)) {
        (Some(scales), _) if !scales.is_empty() => return by_numbers(&scales, shape, axes),
        (None, Some(scales)) if n.b.known(scales).and_then(Known::array).is_none() => {
            return by_quotients(&n.quotients(scales_at, "the scales")?, shape, axes);
        }
        (None, Some(_)) => {
            let scales = n.floats_of(scales_at, "the scales")?;
            if !scales.is_empty() {
                return by_numbers(&scales, shape, axes);
            }
        }
        (Some(_) | None, _) => {}
    }
    let sizes = n.dims(sizes_at, "the sizes")?;
    if sizes.len() != axes.len() {
        return wrong(format!("{} sizes for {} axes", sizes.len(), axes.len()));
    }
    let ratio = |(axis, size): (&usize, &Dim)| match (shape[*axis].as_const(), size.as_const()) {
        _ if shape[*axis] == *size => Ok(Scale::Is(1.0)),
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^53")]
        (Some(from), Some(to)) if from > 0 => Ok(Scale::Is(to as f64 / from as f64)),
        (Some(_), Some(_)) => unsupported(format!("a size from {} to {size}", shape[*axis])),
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^53")]
        _ => Ok(size
            .exact_div(&shape[*axis])
            .and_then(|times| times.as_const())
            .map_or(Scale::OfSizes, |times| Scale::Is(times as f64))),
    };
    let ratios = axes.iter().zip(&sizes).map(ratio).collect::<Result<Vec<Scale>>>()?;
    let scales: Vec<f64> =
        ratios.iter().filter_map(|scale| if let Scale::Is(scale) = scale { Some(*scale) } else { None }).collect();
    if n.text("keep_aspect_ratio_policy", "stretch") != "stretch" && scales.len() < ratios.len() {
        return unsupported(format!("an aspect ratio of {shape}"));
    }
    let common = match n.text("keep_aspect_ratio_policy", "stretch").as_str() {
        "not_larger" => scales.iter().copied().fold(f64::INFINITY, f64::min),
        "not_smaller" => scales.iter().copied().fold(0.0, f64::max),
        _ => return Ok((sizes, ratios)),
    };
    let outs = axes.iter().map(|axis| match shape[*axis].as_const() {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "sizes are below 2^53")]
        Some(size) => Ok(Dim::from((common * size as f64 + 0.5) as i64)),
        None => unsupported(format!("an aspect ratio of {shape}")),
    });
    Ok((outs.collect::<Result<_>>()?, vec![Scale::Is(common); axes.len()]))
}

fn by_numbers(scales: &[f64], shape: &Shape, axes: &[usize]) -> Result<(Vec<Dim>, Vec<Scale>)> {
    if scales.len() != axes.len() || scales.iter().any(|scale| scale.is_nan() || *scale <= 0.0) {
        return wrong(format!("the scales {scales:?} for {} axes", axes.len()));
    }
    let outs = axes.iter().zip(scales).map(|(axis, scale)| scaled(&shape[*axis], *scale)).collect::<Result<_>>()?;
    Ok((outs, scales.iter().copied().map(Scale::Is).collect()))
}

/// Scales that are one size over another: where that is the operand's, the one is the result's.
fn by_quotients(scales: &[Quotient], shape: &Shape, axes: &[usize]) -> Result<(Vec<Dim>, Vec<Scale>)> {
    if scales.len() != axes.len() {
        return wrong(format!("{} scales for {} axes", scales.len(), axes.len()));
    }
    let along = |(axis, scale): (&usize, &Quotient)| match (scale.as_number(), scale.times(&shape[*axis])) {
        (Some(number), _) => Ok((scaled(&shape[*axis], number)?, Scale::Is(number))),
        (None, Some(size)) => Ok((size, Scale::OfSizes)),
        (None, None) => unsupported(format!("{} elements times a size over another one", shape[*axis])),
    };
    axes.iter().zip(scales).map(along).collect()
}

/// The largest divisor of sizes that a scale is looked for as: no two fractions of such have one nearest float of 32 bits between 1 and 2.
const MOST_PARTS: i64 = 1 << 11;

/// `floor(size * scale)`, where what was rounded to a float of 32 bits is taken as the fraction that it was: 10 times 2.1 is 21.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::float_cmp, reason = "whole numbers below 2^53")]
fn scaled(size: &Dim, scale: f64) -> Result<Dim> {
    let fractions = (1..=MOST_PARTS).map(|under| ((scale * under as f64).round(), under));
    let near = fractions.into_iter().find(|(over, under)| (over / *under as f64) as f32 == scale as f32);
    // Any other is a number over a power of two.
    let exact = || (0..=62).map(|power| (scale * f64::from(power).exp2(), 1i64 << power)).find(|(over, _)| *over == over.trunc());
    let most = size.as_const().map_or(1e9, |size| 1e15 / (size as f64).max(1.0));
    match near.or_else(exact) {
        Some((over, under)) if over < most => Ok((size * Dim::from(over as i64)).floor_div(&Dim::from(under))),
        Some(_) | None => unsupported(format!("{size} elements times {scale}")),
    }
}

/// The region of interest, an axis: used where coordinates ask for it.
fn region(n: &Node<'_>, axes: usize) -> Result<Vec<(f64, f64)>> {
    let roi = if n.version >= 11 && n.opt(1).is_some() && n.text("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
        n.floats_of(1, "the region")?
    } else {
        Vec::new()
    };
    if roi.len() < 2 * axes {
        return Ok(vec![(0.0, 1.0); axes]);
    }
    Ok((0..axes).map(|axis| (roi[axis], roi[axis + axes])).collect())
}

#[expect(clippy::float_cmp, reason = "exactly one and exactly the whole mean that nothing is done")]
fn along(b: &mut Builder, x: Value, axis: usize, out: &Dim, scale: Scale, roi: (f64, f64), rule: &Rule) -> Result<Value> {
    let size = b.shape(x)[axis].clone();
    if size == *out && scale == Scale::Is(1.0) && roi == (0.0, 1.0) {
        return Ok(x);
    }
    let plain = rule.mode == Mode::Nearest && rule.coordinates == "asymmetric" && rule.nearest == "floor";
    if plain && matches!(scale, Scale::Is(scale) if scale == scale.trunc()) {
        return blocks(b, x, axis, out);
    }
    let (Some(size), Some(out), Scale::Is(scale)) = (size.as_const(), out.as_const(), scale) else {
        return symbolic::along(b, x, axis, out, scale, rule);
    };
    let line = Line { size, out, scale, roi };
    let taps = taps(&line, rule)?;
    weighted(b, x, axis, out, &taps, rule.extrapolation)
}

/// Every element repeated.
fn blocks(b: &mut Builder, x: Value, axis: usize, out: &Dim) -> Result<Value> {
    let mut shape = b.shape(x).0;
    let Some(repeats) = out.exact_div(&shape[axis]) else { return unsupported(format!("{} elements to {out}", shape[axis])) };
    let axes = (0..shape.len()).map(|place| if place > axis { place + 1 } else { place }).collect();
    let mut wide = shape.clone();
    wide.insert(axis + 1, repeats);
    let x = b.emit(Op::Broadcast(Broadcast { shape: Shape(wide), axes }), &[x])?;
    shape[axis] = out.clone();
    b.reshape(x, shape)
}

fn weighted(b: &mut Builder, x: Value, axis: usize, out: i64, taps: &Taps, extrapolation: f64) -> Result<Value> {
    let dtype = b.dtype(x);
    let length = usize::try_from(out).unwrap_or(0);
    let alone = taps.count == 1;
    let places = Array::from_vec(if alone { vec![length] } else { vec![length, taps.count] }, taps.places.clone())?;
    let places = b.constant(places)?;
    let mut y = b.emit(Op::Gather(GatherAxes { axis, batch: 0 }), &[x, places])?;
    let trailing = b.rank(x) - axis - 1;
    if !alone {
        let weights = b.constant(Array::from_vec([length, taps.count], taps.weights.clone())?.cast(dtype))?;
        let weights = b.unsqueeze(weights, &(2..2 + trailing).collect::<Vec<_>>())?;
        let terms = b.mul(y, weights)?;
        y = b.reduce(ReduceKind::Sum, terms, &[axis + 1], false)?;
    }
    if taps.outside.iter().any(|outside| *outside) {
        let outside = b.constant(Array::from_vec([length], taps.outside.clone())?)?;
        let outside = b.unsqueeze(outside, &(1..=trailing).collect::<Vec<_>>())?;
        let value = b.number(dtype, extrapolation)?;
        y = b.select(outside, value, y)?;
    }
    Ok(y)
}

// ---- places and weights

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "sizes are below 2^53")]
fn taps(line: &Line, rule: &Rule) -> Result<Taps> {
    let count = kernel(0.5, line.scale, rule).len() as i64;
    if line.size < 1 || line.out.saturating_mul(count) > MAX_TAPS {
        return unsupported(format!("resizing {} elements to {}, {count} of them for each", line.size, line.out));
    }
    let stored = if rule.mode == Mode::Nearest { 1 } else { usize::try_from(count).unwrap_or(0) };
    let mut taps = Taps { places: Vec::new(), weights: Vec::new(), count: stored, outside: Vec::new() };
    for place in 0..line.out {
        let at = coordinate(line, rule, place as f64)?;
        let cropped = rule.coordinates == "tf_crop_and_resize";
        taps.outside.push(cropped && (at < 0.0 || at > (line.size - 1) as f64));
        let inside = |place: i64| place.clamp(0, line.size - 1);
        if rule.mode == Mode::Nearest {
            taps.places.push(inside(nearest(at, &rule.nearest)?));
            continue;
        }
        // The element to the left of a whole coordinate is the first of the pair, with weight zero.
        let ratio = if at == at.floor() { 1.0 } else { at - at.floor() };
        let mut weights = kernel(ratio, line.scale, rule);
        let first = at.ceil() as i64 - count / 2;
        let places: Vec<i64> = (first..first + count).collect();
        if rule.exclude_outside {
            places.iter().zip(&mut weights).filter(|(place, _)| inside(**place) != **place).for_each(|(_, weight)| *weight = 0.0);
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= if sum == 0.0 { 1.0 } else { sum });
        }
        taps.places.extend(places.into_iter().map(inside));
        taps.weights.extend(weights);
    }
    Ok(taps)
}

/// Where an element of the result lies in the operand.
#[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "as the specification says")]
fn coordinate(line: &Line, rule: &Rule, x: f64) -> Result<f64> {
    let (size, scale, out) = (line.size as f64, line.scale, line.scale * line.size as f64);
    let (start, end) = line.roi;
    Ok(match rule.coordinates.as_str() {
        "half_pixel" => (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel" if out == 1.0 => -0.5,
        "pytorch_half_pixel" => (x + 0.5) / scale - 0.5,
        "align_corners" if out == 1.0 => 0.0,
        "align_corners" => x * (size - 1.0) / (out - 1.0),
        "asymmetric" => x / scale,
        "tf_half_pixel_for_nn" => (x + 0.5) / scale,
        "half_pixel_symmetric" => size / 2.0 * (1.0 - line.out as f64 / out) + (x + 0.5) / scale - 0.5,
        "tf_crop_and_resize" if out == 1.0 => (end - start) * (size - 1.0) / 2.0 + start * (size - 1.0),
        "tf_crop_and_resize" => x * (end - start) * (size - 1.0) / (out - 1.0) + start * (size - 1.0),
        other => return unsupported(format!("the coordinates `{other}`")),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a coordinate is below 2^53")]
fn nearest(at: f64, mode: &str) -> Result<i64> {
    let (low, ratio) = (at.floor() as i64, at - at.floor());
    Ok(match mode {
        _ if ratio == 0.0 => low,
        "round_prefer_floor" => low + i64::from(ratio > 0.5),
        "round_prefer_ceil" => low + i64::from(ratio >= 0.5),
        "floor" => low,
        "ceil" => low + 1,
        other => return wrong(format!("the nearest mode `{other}`")),
    })
}

/// The weights of the elements around a coordinate that lies `ratio` behind the left one of its two neighbours.
#[expect(clippy::cast_possible_truncation, reason = "a kernel is bounded by its caller")]
fn kernel(ratio: f64, scale: f64, rule: &Rule) -> Vec<f64> {
    let reach: f64 = if rule.mode == Mode::Cubic { 2.0 } else { 1.0 };
    // Without antialiasing, or where the axis grows, neighbours alone.
    let shrink = if rule.antialias { scale.min(1.0) } else { 1.0 };
    let start = ((-reach / shrink).floor() + 1.0).max(-1e7) as i64;
    let place = |place: i64| {
        #[expect(clippy::cast_precision_loss, reason = "a kernel is bounded by its caller")]
        let distance = (shrink * (place as f64 - ratio)).abs();
        if rule.mode == Mode::Cubic { cubic(distance, rule.cubic) } else { (1.0 - distance).max(0.0) }
    };
    let weights: Vec<f64> = (start..2 - start).map(place).collect();
    if !rule.antialias {
        return weights;
    }
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Keys (1981), "Cubic convolution interpolation for digital image processing".
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}
