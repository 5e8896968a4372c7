//! Fourier transforms as products with matrices that are computed here, and the windows and filters around them.

use graver_ir::op::{DotAxes, GatherAxes};
use graver_ir::{Array, DType, Dim, Op, Scalar, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// The most elements of a matrix that is computed here.
const MANY: i64 = 1 << 22;

/// What a transform asks for.
struct Transform {
    /// Points of the result's circle.
    length: i64,
    inverse: bool,
    one_sided: bool,
}

pub(super) fn fourier(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let rank = n.b.rank(x);
    if rank < 2 {
        return wrong(format!("takes [.., time, 1 or 2], got {}", n.b.ty(x)));
    }
    let axis = match n.opt(2) {
        Some(_) => n.integers(2, "the axis")?.first().copied().unwrap_or(-2),
        None => n.int("axis", if n.version < 20 { 1 } else { -2 }),
    };
    let axis = n.axis(axis, rank)?;
    let Some(size) = n.b.shape(x)[axis].as_const() else { return unsupported("the transform of a symbolic size") };
    let (inverse, one_sided) = (n.flag("inverse", false), n.flag("onesided", false));
    let length = match n.opt(1) {
        Some(_) => n.integers(1, "the length")?.first().copied().unwrap_or(0),
        None if inverse && one_sided => 2 * (size - 1),
        None => size,
    };
    Ok(vec![transform(n.b, x, axis, &Transform { length, inverse, one_sided })?])
}

/// Along one axis, computed in `f64`, since most of a sum cancels; the last axis holds real and imaginary parts.
fn transform(b: &mut Builder, x: Value, axis: usize, how: &Transform) -> Result<Value> {
    let dtype = b.dtype(x);
    let wide = b.cast(x, DType::F64)?;
    let y = transformed(b, wide, axis, how)?;
    b.cast(y, dtype)
}

fn transformed(b: &mut Builder, x: Value, axis: usize, how: &Transform) -> Result<Value> {
    let rank = b.rank(x);
    let shape = b.shape(x);
    let (Some(size), Some(parts)) = (shape[axis].as_const(), shape[rank - 1].as_const()) else {
        return unsupported(format!("the transform of {}", b.ty(x)));
    };
    let bins = if how.one_sided && !how.inverse { how.length / 2 + 1 } else { how.length };
    // What is longer is cut; what is shorter counts as zeros.
    let used = size.min(if how.one_sided && how.inverse { how.length / 2 + 1 } else { how.length });
    if how.length < 1 || axis + 1 >= rank || !(1..=2).contains(&parts) || used.saturating_mul(bins) > MANY {
        return unsupported(format!("the transform of {} to {} points", b.ty(x), how.length));
    }
    let x = b.part(x, axis, &Dim::ZERO, &Dim::from(used))?;
    let (cos, sin) = waves(used, bins, how);
    let (cos, sin) = (matrix(b, used, bins, cos)?, matrix(b, used, bins, sin)?);
    let real = part(b, x, 0)?;
    let by = |b: &mut Builder, x: Value, waves: Value| -> Result<Value> {
        let y = b.dot(x, waves, DotAxes { lhs_contract: vec![axis], rhs_contract: vec![0], ..DotAxes::default() })?;
        // The new axis is the last one.
        let mut order: Vec<usize> = (0..rank - 2).collect();
        order.insert(axis, rank - 2);
        b.permute(y, order)
    };
    let (mut re, mut im) = (by(b, real, cos)?, by(b, real, sin)?);
    if parts == 2 {
        let imaginary = part(b, x, 1)?;
        let (crossed, own) = (by(b, imaginary, sin)?, by(b, imaginary, cos)?);
        re = b.sub(re, crossed)?;
        im = b.add(im, own)?;
    }
    let re = b.unsqueeze(re, &[rank - 1])?;
    if how.one_sided && how.inverse {
        return Ok(re);
    }
    let im = b.unsqueeze(im, &[rank - 1])?;
    b.concat(rank - 1, &[re, im])
}

fn part(b: &mut Builder, x: Value, place: i64) -> Result<Value> {
    let last = b.rank(x) - 1;
    let one = b.part(x, last, &Dim::from(place), &Dim::ONE)?;
    let shape = b.shape(one).without(&[last]);
    b.reshape(one, shape.0)
}

/// `cos` and `sin` of the angles, with the direction's sign and the inverse's factor; one-sided spectra count twice.
fn waves(used: i64, bins: i64, how: &Transform) -> (Vec<f64>, Vec<f64>) {
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for from in 0..used {
        for to in 0..bins {
            // Reduced before it is a float, so that large products stay exact.
            let turn = (i128::from(from) * i128::from(to)) % i128::from(how.length);
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let angle = std::f64::consts::TAU * turn as f64 / how.length as f64;
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let scale = if how.inverse { 1.0 / how.length as f64 } else { 1.0 };
            let mirrored = how.inverse && how.one_sided && from > 0 && 2 * from != how.length;
            let scale = if mirrored { 2.0 * scale } else { scale };
            cos.push(scale * angle.cos());
            sin.push(scale * if how.inverse { angle.sin() } else { -angle.sin() });
        }
    }
    (cos, sin)
}

fn matrix(b: &mut Builder, rows: i64, columns: i64, data: Vec<f64>) -> Result<Value> {
    let size = |size: i64| usize::try_from(size).unwrap_or(0);
    b.constant(Array::from_vec([size(rows), size(columns)], data)?)
}

/// Transforms of overlapping frames.
pub(super) fn short_time(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let shape = n.b.shape(x);
    let step = n.integers(1, "the step")?.first().copied().unwrap_or(0);
    let (Some(size), 3) = (shape.get(1).and_then(Dim::as_const), shape.rank()) else {
        return unsupported(format!("frames of {}", n.b.ty(x)));
    };
    let window = n.opt(2);
    let length = match (n.opt(3), window) {
        (Some(_), _) => n.integers(3, "the frames' length")?.first().copied().unwrap_or(0),
        (None, Some(window)) => n.b.shape(window).first().and_then(Dim::as_const).unwrap_or(0),
        (None, None) => size,
    };
    if step < 1 || !(1..=size).contains(&length) {
        return wrong(format!("frames of {length} by {step} of {size} elements"));
    }
    let frames = (size - length) / step + 1;
    if frames.saturating_mul(length) > MANY {
        return unsupported(format!("{frames} frames of {length} elements"));
    }
    let places: Vec<i64> = (0..frames).flat_map(|frame| (0..length).map(move |place| frame * step + place)).collect();
    let counts = [frames, length].map(|count| usize::try_from(count).unwrap_or(0));
    let places = n.b.constant(Array::from_vec(counts, places)?)?;
    let mut framed = n.b.emit(Op::Gather(GatherAxes { axis: 1, batch: 0 }), &[x, places])?;
    if let Some(window) = window {
        let window = n.b.unsqueeze(window, &[1])?;
        framed = n.b.mul(framed, window)?;
    }
    let how = Transform { length, inverse: false, one_sided: n.flag("onesided", true) };
    Ok(vec![transform(n.b, framed, 2, &how)?])
}

/// A window as a sum of cosines of multiples of the angle.
pub(super) fn window(n: &mut Node<'_>, cosines: &[f64]) -> Values {
    let size = n.integers(0, "the size")?.first().copied().unwrap_or(-1);
    if !(0..=MANY).contains(&size) {
        return unsupported(format!("a window of {size} elements"));
    }
    let dtype = n.type_of("output_datatype")?.unwrap_or(DType::F32);
    let around = if n.flag("periodic", true) { size } else { size - 1 };
    let value = |place: i64| -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let angle = std::f64::consts::TAU * place as f64 / around as f64;
        #[expect(clippy::cast_precision_loss, reason = "a handful of terms")]
        cosines.iter().enumerate().map(|(times, weight)| weight * (angle * times as f64).cos()).sum()
    };
    let values: Vec<Scalar> = (0..size).map(|place| Scalar::float(dtype, value(place))).collect();
    Ok(vec![n.b.constant(Array::from_scalars(dtype, [values.len()], &values)?)?])
}

/// Triangles over a spectrum, evenly spaced in mels.
pub(super) fn mel_weights(n: &mut Node<'_>) -> Values {
    let one = |n: &Node<'_>, place: usize| -> Result<f64> {
        Ok(n.floats_of(place, "the filters' sizes")?.first().copied().unwrap_or(0.0))
    };
    let (bins, length, rate) = (one(n, 0)?, one(n, 1)?, one(n, 2)?);
    let (low, high) = (one(n, 3)?, one(n, 4)?);
    if !(1.0..=1e5).contains(&bins) || !(1.0..=1e7).contains(&length) || rate <= 0.0 || bins * length > 1e7 {
        return unsupported(format!("{bins} filters over {length} points"));
    }
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let spacing = (mel(high) - mel(low)) / (bins + 2.0);
    let edge = |place: f64| {
        let hertz = 700.0 * (10f64.powf((place * spacing + mel(low)) / 2595.0) - 1.0);
        ((length + 1.0) * hertz / rate).floor()
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let (count, spectrum) = (bins as usize, (length as usize) / 2 + 1);
    let mut weights = vec![0f64; count * spectrum];
    for filter in 0..count {
        #[expect(clippy::cast_precision_loss, reason = "checked above")]
        let edges = [0.0, 1.0, 2.0].map(|more| edge(filter as f64 + more));
        for place in 0..spectrum {
            #[expect(clippy::cast_precision_loss, reason = "checked above")]
            let weight = triangle(place as f64, edges);
            weights[place * count + filter] = weight;
        }
    }
    let dtype = n.type_of("output_datatype")?.unwrap_or(DType::F32);
    Ok(vec![n.b.constant(Array::from_vec([spectrum, count], weights)?.cast(dtype))?])
}

/// The height at a point; a rising side of no width is the centre alone.
#[expect(clippy::float_cmp, reason = "edges are whole numbers")]
fn triangle(x: f64, [left, centre, right]: [f64; 3]) -> f64 {
    if x >= centre && x < right {
        (right - x) / (right - centre)
    } else if x >= left && x <= centre && centre > left {
        (x - left) / (centre - left)
    } else if x == centre && centre <= left {
        1.0
    } else {
        0.0
    }
}
