//! Elements at places between elements: sampling by a grid, and the grids and kernels that move.

use graver_ir::op::{DotAxes, GatherAxes, ReduceKind, Scatter, ScatterKind};
use graver_ir::{Array, DType, Dim, Op, ScalarFn, Shape, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// What a place outside of the operand gives.
#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// How values between elements are made.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// Rows `[batch, places, channels]` at coordinates, one `[batch, points]` an axis of `sizes`.
struct Sampler<'a> {
    rows: Value,
    sizes: &'a [Dim],
    mode: Mode,
    padding: Padding,
    corners: bool,
}

/// One of the elements that an axis' coordinate lies between.
#[derive(Clone, Copy)]
struct Tap {
    place: Value,
    weight: Option<Value>,
    inside: Option<Value>,
}

pub(super) fn grid_sample(n: &mut Node<'_>) -> Values {
    let (x, grid) = (n.arg(0)?, n.arg(1)?);
    let (shape, points) = (n.b.shape(x), n.b.shape(grid));
    let rank = shape.rank().saturating_sub(2);
    if rank == 0 || points.rank() != rank + 2 || !points[rank + 1].is(i64::try_from(rank).unwrap_or(0)) {
        return wrong(format!("a grid {} over {}", n.b.ty(grid), n.b.ty(x)));
    }
    let mode = match n.text("mode", "linear").as_str() {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        other => return wrong(format!("the mode `{other}`")),
    };
    let padding = match n.text("padding_mode", "zeros").as_str() {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => return wrong(format!("the padding `{other}`")),
    };
    let corners = n.flag("align_corners", false);
    let rows = rows(n.b, x)?;
    let sampler = Sampler { rows, sizes: &shape[2..], mode, padding, corners };
    let count: Dim = points[1..=rank].iter().product();
    let flat = n.b.reshape(grid, [points[0].clone(), count, points[rank + 1].clone()])?;
    let mut coordinates = Vec::new();
    for axis in 0..rank {
        // The grid names the last axis first.
        let own = n.b.part(flat, 2, &Dim::from(rank - 1 - axis), &Dim::ONE)?;
        let own = squeezed(n.b, own, 2)?;
        coordinates.push(denormalised(n.b, own, &shape[axis + 2], corners)?);
    }
    let y = sampler.sample(n.b, &coordinates)?;
    let y = n.b.swap(y, 1, 2)?;
    Ok(vec![n.b.reshape(y, [&shape[..2], &points[1..=rank]].concat())?])
}

/// `[batch, channels, ..]` as `[batch, places, channels]`.
fn rows(b: &mut Builder, x: Value) -> Result<Value> {
    let shape = b.shape(x);
    let flat = b.reshape(x, [shape[0].clone(), shape[1].clone(), shape[2..].iter().product()])?;
    b.swap(flat, 1, 2)
}

fn squeezed(b: &mut Builder, x: Value, axis: usize) -> Result<Value> {
    let shape = b.shape(x).without(&[axis]);
    b.reshape(x, shape.0)
}

/// From `-1..1` to the operand's positions.
fn denormalised(b: &mut Builder, x: Value, size: &Dim, corners: bool) -> Result<Value> {
    let above = b.with(ScalarFn::Add, x, 1.0)?;
    if corners {
        let span = b.size(&(size - Dim::ONE), b.dtype(x))?;
        let half = b.with(ScalarFn::Div, above, 2.0)?;
        return b.mul(half, span);
    }
    let size = b.size(size, b.dtype(x))?;
    let wide = b.mul(above, size)?;
    let wide = b.with(ScalarFn::Sub, wide, 1.0)?;
    b.with(ScalarFn::Div, wide, 2.0)
}

impl Sampler<'_> {
    /// The values at the coordinates: `[batch, points, channels]`.
    fn sample(&self, b: &mut Builder, coordinates: &[Value]) -> Result<Value> {
        let mut axes = Vec::new();
        for (x, size) in coordinates.iter().zip(self.sizes) {
            axes.push(self.taps(b, *x, size)?);
        }
        let strides = Shape(self.sizes.to_vec()).strides();
        let count: usize = axes.iter().map(Vec::len).product();
        let mut sum: Option<Value> = None;
        for choice in 0..count {
            let (mut rest, mut chosen) = (choice, Vec::new());
            for taps in &axes {
                chosen.push(taps[rest % taps.len()]);
                rest /= taps.len();
            }
            let value = self.corner(b, &chosen, &strides)?;
            sum = Some(match sum {
                Some(sum) => b.add(sum, value)?,
                None => value,
            });
        }
        sum.map_or_else(|| wrong("a grid of no axes"), Ok)
    }

    /// One combination of taps: its elements times their weights.
    fn corner(&self, b: &mut Builder, taps: &[Tap], strides: &[Dim]) -> Result<Value> {
        let (mut place, mut weight, mut inside): (Option<Value>, Option<Value>, Option<Value>) = (None, None, None);
        for (tap, stride) in taps.iter().zip(strides) {
            let stride = b.size(stride, DType::I64)?;
            let along = b.mul(tap.place, stride)?;
            place = Some(both(b, ScalarFn::Add, place, along)?);
            if let Some(own) = tap.weight {
                weight = Some(both(b, ScalarFn::Mul, weight, own)?);
            }
            if let Some(own) = tap.inside {
                inside = Some(both(b, ScalarFn::And, inside, own)?);
            }
        }
        let Some(place) = place else { return wrong("a grid of no axes") };
        let mut value = b.emit(Op::Gather(GatherAxes { axis: 1, batch: 1 }), &[self.rows, place])?;
        if let Some(weight) = weight {
            let weight = b.unsqueeze(weight, &[2])?;
            let weight = b.cast(weight, b.dtype(value))?;
            value = b.mul(value, weight)?;
        }
        if let Some(inside) = inside {
            let (inside, zero) = (b.unsqueeze(inside, &[2])?, b.number(b.dtype(value), 0.0)?);
            value = b.select(inside, value, zero)?;
        }
        Ok(value)
    }

    /// The elements around a coordinate.
    fn taps(&self, b: &mut Builder, x: Value, size: &Dim) -> Result<Vec<Tap>> {
        let x = if self.mode == Mode::Nearest { b.map(ScalarFn::Round, &[x])? } else { x };
        let x = self.bounded(b, x, size)?;
        if self.mode == Mode::Nearest {
            let place = b.cast(x, DType::I64)?;
            return Ok(vec![self.tap(b, place, None, size)?]);
        }
        let floor = b.map(ScalarFn::Floor, &[x])?;
        let ratio = b.sub(x, floor)?;
        let first = b.cast(floor, DType::I64)?;
        let offsets = if self.mode == Mode::Cubic { -1..3 } else { 0..2 };
        let mut taps = Vec::new();
        for offset in offsets {
            let weight = if self.mode == Mode::Cubic { cubic(b, ratio, offset)? } else { linear(b, ratio, offset)? };
            let by = b.constant(Array::scalar(offset))?;
            let place = b.add(first, by)?;
            taps.push(self.tap(b, place, Some(weight), size)?);
        }
        Ok(taps)
    }

    /// A coordinate outside of the operand, brought back where the padding says so.
    fn bounded(&self, b: &mut Builder, x: Value, size: &Dim) -> Result<Value> {
        let dtype = b.dtype(x);
        let (low, high) = if self.corners { (0.0, Dim::ONE) } else { (-0.5, Dim::ZERO) };
        match self.padding {
            Padding::Zeros => Ok(x),
            Padding::Border => {
                let last = b.size(&(size - Dim::ONE), dtype)?;
                let x = b.with(ScalarFn::Max, x, 0.0)?;
                b.map(ScalarFn::Min, &[x, last])
            }
            Padding::Reflection => {
                // A wave of twice the range.
                let range = b.size(&(size - high), dtype)?;
                let range = b.with(ScalarFn::Max, range, 1.0)?;
                let period = b.with(ScalarFn::Mul, range, 2.0)?;
                let from = b.with(ScalarFn::Sub, x, low)?;
                let from = b.map(ScalarFn::Abs, &[from])?;
                let phase = b.map(ScalarFn::Rem, &[from, period])?;
                let back = b.sub(period, phase)?;
                let there = b.map(ScalarFn::Min, &[phase, back])?;
                b.with(ScalarFn::Add, there, low)
            }
        }
    }

    fn tap(&self, b: &mut Builder, place: Value, weight: Option<Value>, size: &Dim) -> Result<Tap> {
        let last = b.size(&(size - Dim::ONE), DType::I64)?;
        match self.padding {
            Padding::Reflection => {
                let count = b.size(size, DType::I64)?;
                let span = if self.corners { last } else { count };
                let span = b.with(ScalarFn::Max, span, 1.0)?;
                let period = b.with(ScalarFn::Mul, span, 2.0)?;
                let phase = super::movement::floor_modulo(b, place, period)?;
                let back = b.sub(period, phase)?;
                let back = if self.corners { back } else { b.with(ScalarFn::Sub, back, 1.0)? };
                let place = b.map(ScalarFn::Min, &[phase, back])?;
                let place = b.map(ScalarFn::Min, &[place, last])?;
                Ok(Tap { place, weight, inside: None })
            }
            Padding::Zeros | Padding::Border => {
                let low = b.with(ScalarFn::Max, place, 0.0)?;
                let clamped = b.map(ScalarFn::Min, &[low, last])?;
                let inside = b.map(ScalarFn::Eq, &[clamped, place])?;
                Ok(Tap { place: clamped, weight, inside: (self.padding == Padding::Zeros).then_some(inside) })
            }
        }
    }
}

fn both(b: &mut Builder, function: ScalarFn, x: Option<Value>, y: Value) -> Result<Value> {
    match x {
        Some(x) => b.map(function, &[x, y]),
        None => Ok(y),
    }
}

fn linear(b: &mut Builder, ratio: Value, offset: i64) -> Result<Value> {
    if offset == 1 { Ok(ratio) } else { b.from(ScalarFn::Sub, 1.0, ratio) }
}

/// Keys (1981), "Cubic convolution interpolation for digital image processing", with -0.75.
fn cubic(b: &mut Builder, ratio: Value, offset: i64) -> Result<Value> {
    const A: f64 = -0.75;
    let distance = match offset {
        -1 => b.with(ScalarFn::Add, ratio, 1.0)?,
        0 => ratio,
        1 => b.from(ScalarFn::Sub, 1.0, ratio)?,
        _ => b.from(ScalarFn::Sub, 2.0, ratio)?,
    };
    let near = offset == 0 || offset == 1;
    let coefficients = if near { [A + 2.0, -(A + 3.0), 0.0, 1.0] } else { [A, -5.0 * A, 8.0 * A, -4.0 * A] };
    let mut y = b.with(ScalarFn::Mul, distance, coefficients[0])?;
    for coefficient in &coefficients[1..3] {
        let sum = b.with(ScalarFn::Add, y, *coefficient)?;
        y = b.mul(sum, distance)?;
    }
    b.with(ScalarFn::Add, y, coefficients[3])
}

/// The places of a grid's points, moved by a matrix.
pub(super) fn affine_grid(n: &mut Node<'_>) -> Values {
    let (theta, sizes, corners) = (n.arg(0)?, n.dims(1, "the size")?, n.flag("align_corners", false));
    let dtype = n.b.dtype(theta);
    let Some(spatial) = sizes.get(2..).filter(|spatial| (2..=3).contains(&spatial.len())) else {
        return wrong(format!("a grid of sizes {sizes:?}"));
    };
    let shape = Shape(spatial.to_vec());
    let count = shape.numel();
    let mut columns = Vec::new();
    for axis in (0..spatial.len()).rev() {
        let place = n.b.iota(dtype, &shape, axis)?;
        let (twice, span) = (n.b.with(ScalarFn::Mul, place, 2.0)?, n.b.size(&spatial[axis], dtype)?);
        let at = if corners {
            let span = n.b.with(ScalarFn::Sub, span, 1.0)?;
            n.b.div(twice, span)?
        } else {
            let middle = n.b.with(ScalarFn::Add, twice, 1.0)?;
            n.b.div(middle, span)?
        };
        let at = n.b.with(ScalarFn::Sub, at, 1.0)?;
        columns.push(n.b.reshape(at, [count.clone(), Dim::ONE])?);
    }
    let one = n.b.number(dtype, 1.0)?;
    columns.push(n.b.fill(one, &Shape(vec![count, Dim::ONE]))?);
    let points = n.b.concat(1, &columns)?;
    let moved = n.b.dot(theta, points, DotAxes { lhs_contract: vec![2], rhs_contract: vec![1], ..DotAxes::default() })?;
    let moved = n.b.swap(moved, 1, 2)?;
    let axes = Dim::from(spatial.len());
    Ok(vec![n.b.reshape(moved, [&sizes[..1], spatial, &[axes]].concat())?])
}

/// Dai et al. (2017), "Deformable convolutional networks": every tap of the kernel reads at a place of its own.
pub(super) fn deform_conv(n: &mut Node<'_>) -> Values {
    let (x, kernel, offset) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
    let (shape, weights, places) = (n.b.shape(x), n.b.shape(kernel), n.b.shape(offset));
    let taps = super::contract::kernel_sizes(n, kernel)?;
    let (2, 4, 4) = (taps.len(), shape.rank(), places.rank()) else {
        return unsupported(format!("a deformed convolution of {} by {}", n.b.ty(x), n.b.ty(kernel)));
    };
    let spatial = super::window::spatial(n, x, &taps)?;
    let groups = Dim::from(n.int("offset_group", 1).max(1));
    let (count, outs) = (Dim::from(taps[0].saturating_mul(taps[1])), [places[2].clone(), places[3].clone()]);
    // Each group of channels is a row of its own: `[batch * groups, channels / groups, ..]`.
    let batch = &shape[0] * &groups;
    let part = shape[1].floor_div(&groups);
    let split = n.b.reshape(x, [batch.clone(), part.clone(), shape[2].clone(), shape[3].clone()])?;
    let moved = n.b.reshape(offset, [batch.clone(), count.clone(), Dim::from(2), outs[0].clone(), outs[1].clone()])?;
    let points = [batch.clone(), &count * &outs[0] * &outs[1]];
    let mut coordinates = Vec::new();
    for (axis, windows) in spatial.iter().enumerate() {
        let own = n.b.part(moved, 2, &Dim::from(axis), &Dim::ONE)?;
        let own = squeezed(n.b, own, 2)?;
        let regular = regular(n.b, windows, &taps, &outs, axis, n.b.dtype(own))?;
        let at = n.b.add(own, regular)?;
        coordinates.push(n.b.reshape(at, points.clone())?);
    }
    let rows = rows(n.b, split)?;
    let sampler = Sampler { rows, sizes: &shape[2..], mode: Mode::Linear, padding: Padding::Zeros, corners: true };
    let mut values = sampler.sample(n.b, &coordinates)?;
    if let Some(mask) = n.opt(4) {
        let mask = n.b.reshape(mask, [points.as_slice(), &[Dim::ONE]].concat())?;
        values = n.b.mul(values, mask)?;
    }
    // `[batch, channels, taps, outs]`, summed over channels of a group and taps.
    let values = n.b.swap(values, 1, 2)?;
    let (own, all) = (n.int("group", 1).max(1), &outs[0] * &outs[1]);
    let own = Dim::from(own);
    let inner = shape[1].floor_div(&own) * &count;
    let values = n.b.reshape(values, [shape[0].clone(), own.clone(), inner.clone(), all])?;
    let matrix = n.b.reshape(kernel, [own.clone(), weights[0].floor_div(&own), inner])?;
    let axes = DotAxes { lhs_batch: vec![1], rhs_batch: vec![0], lhs_contract: vec![2], rhs_contract: vec![2] };
    let y = n.b.dot(values, matrix, axes)?;
    let y = n.b.permute(y, vec![1, 0, 3, 2])?;
    let mut y = n.b.reshape(y, [shape[0].clone(), weights[0].clone(), outs[0].clone(), outs[1].clone()])?;
    if let Some(bias) = n.opt(3) {
        let bias = n.b.unsqueeze(bias, &[1, 2])?;
        y = n.b.add(y, bias)?;
    }
    Ok(vec![y])
}

/// Where the taps of a kernel that is not deformed read along one axis: `[taps, outs..]`.
fn regular(
    b: &mut Builder,
    axis: &super::window::Spatial,
    taps: &[i64],
    outs: &[Dim; 2],
    place: usize,
    dtype: DType,
) -> Result<Value> {
    let shape = Shape(vec![Dim::from(taps[0]), Dim::from(taps[1]), outs[0].clone(), outs[1].clone()]);
    let (tap, out) = (b.iota(dtype, &shape, place)?, b.iota(dtype, &shape, place + 2)?);
    #[expect(clippy::cast_precision_loss, reason = "windows are small")]
    let (dilation, stride) = (axis.dilation as f64, axis.stride as f64);
    let (tap, out) = (b.with(ScalarFn::Mul, tap, dilation)?, b.with(ScalarFn::Mul, out, stride)?);
    let at = b.add(tap, out)?;
    let low = b.size(&axis.low, dtype)?;
    let at = b.sub(at, low)?;
    b.reshape(at, [&shape[0] * &shape[1], shape[2].clone(), shape[3].clone()])
}

/// Columns of patches added up to images.
pub(super) fn col_to_image(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let (image, block) = (n.integers(1, "the image's shape")?, n.integers(2, "the block's shape")?);
    let rank = image.len();
    let one = |name: &str, count: usize, default: i64| n.ints(name).unwrap_or_else(|| vec![default; count]);
    let (dilations, strides, pads) = (one("dilations", rank, 1), one("strides", rank, 1), one("pads", 2 * rank, 0));
    let lists = [block.len(), dilations.len(), strides.len(), pads.len() / 2];
    if n.b.rank(x) != 3 || lists != [rank; 4] || block.iter().chain(&dilations).chain(&strides).any(|number| *number < 1) {
        return wrong(format!("blocks {block:?} by {strides:?} of an image {image:?}"));
    }
    let mut columns = Vec::new();
    for axis in 0..rank {
        let span = image[axis].saturating_add(pads[axis]).saturating_add(pads[axis + rank]);
        let reach = dilations[axis].saturating_mul(block[axis] - 1).saturating_add(1);
        columns.push(Dim::from((span.saturating_sub(reach)).div_euclid(strides[axis]).saturating_add(1)));
    }
    let dims = |list: &[i64]| list.iter().map(|size| Dim::from(*size)).collect::<Vec<Dim>>();
    let (image_shape, grid) = (Shape(dims(&image)), Shape([dims(&block), columns].concat()));
    let image_strides = image_shape.strides();
    let outside = n.b.size(&image_shape.numel(), DType::I64)?;
    let (mut place, mut inside): (Option<Value>, Option<Value>) = (None, None);
    for axis in 0..rank {
        let (tap, column) = (n.b.iota(DType::I64, &grid, axis)?, n.b.iota(DType::I64, &grid, axis + rank)?);
        let (dilation, stride) = (n.b.constant(Array::scalar(dilations[axis]))?, n.b.constant(Array::scalar(strides[axis]))?);
        let (tap, column) = (n.b.mul(tap, dilation)?, n.b.mul(column, stride)?);
        let at = n.b.add(tap, column)?;
        let low = n.b.constant(Array::scalar(pads[axis]))?;
        let at = n.b.sub(at, low)?;
        let size = n.b.constant(Array::scalar(image[axis]))?;
        let (low, high) = (n.b.with(ScalarFn::Ge, at, 0.0)?, n.b.map(ScalarFn::Lt, &[at, size])?);
        let within = n.b.map(ScalarFn::And, &[low, high])?;
        let stride = n.b.size(&image_strides[axis], DType::I64)?;
        let at = n.b.mul(at, stride)?;
        place = Some(both(n.b, ScalarFn::Add, place, at)?);
        inside = Some(both(n.b, ScalarFn::And, inside, within)?);
    }
    let (Some(place), Some(inside)) = (place, inside) else { return wrong("an image of no axes") };
    let place = n.b.select(inside, place, outside)?;
    let place = n.b.reshape(place, [grid.numel()])?;
    let shape = n.b.shape(x);
    let channels = shape[1].floor_div(&block.iter().map(|size| Dim::from(*size)).product());
    let rows = &shape[0] * &channels;
    let update = n.b.reshape(x, [rows.clone(), grid.numel()])?;
    let zero = n.b.number(n.b.dtype(x), 0.0)?;
    // What lies in the padding is added behind the image's end, and cut off.
    let empty = n.b.fill(zero, &Shape(vec![rows, image_shape.numel() + Dim::ONE]))?;
    let sums =
        n.b.emit(Op::Scatter(Scatter { kind: ScatterKind::Add, at: GatherAxes { axis: 1, batch: 0 } }), &[empty, place, update])?;
    let sums = n.b.part(sums, 1, &Dim::ZERO, &image_shape.numel())?;
    Ok(vec![n.b.reshape(sums, [&[shape[0].clone(), channels], &image_shape[..]].concat())?])
}

/// The determinant of small matrices, by their first rows.
pub(super) fn determinant(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let shape = n.b.shape(x);
    let size = match &shape[..] {
        [.., rows, columns] if rows == columns => rows.as_const().and_then(|size| usize::try_from(size).ok()),
        _ => None,
    };
    match size {
        Some(size) if (1..=4).contains(&size) => Ok(vec![expanded(n.b, x, size)?]),
        Some(_) | None => unsupported(format!("the determinant of {}", n.b.ty(x))),
    }
}

fn expanded(b: &mut Builder, x: Value, size: usize) -> Result<Value> {
    let rank = b.rank(x);
    let element = |b: &mut Builder, column: usize| -> Result<Value> {
        let row = b.part(x, rank - 2, &Dim::ZERO, &Dim::ONE)?;
        let one = b.part(row, rank - 1, &Dim::from(column), &Dim::ONE)?;
        let shape = b.shape(one).without(&[rank - 2, rank - 1]);
        b.reshape(one, shape.0)
    };
    if size == 1 {
        return element(b, 0);
    }
    let below = b.part(x, rank - 2, &Dim::ONE, &Dim::from(size - 1))?;
    let mut terms = Vec::new();
    for column in 0..size {
        let left = b.part(below, rank - 1, &Dim::ZERO, &Dim::from(column))?;
        let right = b.part(below, rank - 1, &Dim::from(column + 1), &Dim::from(size - 1 - column))?;
        let minor = b.concat(rank - 1, &[left, right])?;
        let (factor, minor) = (element(b, column)?, expanded(b, minor, size - 1)?);
        let term = b.mul(factor, minor)?;
        let term = if column % 2 == 1 { b.map(ScalarFn::Neg, &[term])? } else { term };
        terms.push(b.unsqueeze(term, &[0])?);
    }
    let all = b.concat(0, &terms)?;
    b.reduce(ReduceKind::Sum, all, &[0], false)
}
