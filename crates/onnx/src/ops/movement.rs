//! Operations that move elements: their shapes come from what is known of operands.

use graver_ir::dim::SymbolDecl;
use graver_ir::op::{Broadcast, SliceAxis};
use graver_ir::{DType, Diag, Dim, Op, ScalarFn, Shape, Symbol, Value};

use super::Values;
use crate::build::{Builder, agree, common, unified};
use crate::node::Node;
use crate::problem::{Problem, Result, unsupported, wrong};

/// A zero copies the operand's size, a single -1 takes what is left.
pub(super) fn reshape(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let asked = match n.ints("shape") {
        Some(shape) if n.version < 5 => shape.into_iter().map(Dim::from).collect(),
        Some(_) | None => n.dims(1, "the shape")?,
    };
    let from = n.b.shape(x);
    let copies = !n.flag("allowzero", false);
    let mut dims = Vec::new();
    for (axis, size) in asked.iter().enumerate() {
        dims.push(match from.get(axis) {
            Some(own) if copies && size.is(0) => own.clone(),
            None if copies && size.is(0) => return wrong(format!("size 0 of axis {axis} copies none of {from}")),
            Some(_) | None => size.clone(),
        });
    }
    let open: Vec<usize> = (0..dims.len()).filter(|axis| dims[*axis].is(-1)).collect();
    match open.as_slice() {
        // As many elements as there are: that is one size, if the operand's follow from it.
        [] => agree(&from.numel(), &dims.iter().product())?,
        [axis] => {
            dims[*axis] = Dim::ONE;
            let rest: Dim = dims.iter().product();
            divisible(&from.numel(), &rest)?;
            dims[*axis] = quotient(&from, &rest)?;
            if &rest * &dims[*axis] != from.numel() && (is_guess(&from, &dims) || is_split(&from, &dims, &rest)) {
                let message = format!(
                    "a size of -1 beside {rest} elements, of {}: whether they divide is known only where sizes are",
                    n.b.ty(x)
                );
                return Err(Problem::Unknown(x, Diag::new(message)));
            }
        }
        _ => return wrong("more than one size is -1"),
    }
    same_elements(&from, &dims)?;
    Ok(vec![n.b.reshape(x, dims)?])
}

/// Whether only a symbol and a number could be taken as equal, where a size of -1 has any number of elements: a symbol of many values would have one.
fn is_guess(from: &Shape, to: &[Dim]) -> bool {
    let pair = from.iter().zip(to).find(|(x, y)| x != y);
    pair.is_some_and(|(x, y)| x.symbols().is_empty() != y.symbols().is_empty())
}

/// Whether an axis of the operand may be split, and would not be if its size were taken as that of the result's first axis: then -1, which stands for
/// the rest, would be a single element.
fn is_split(from: &Shape, to: &[Dim], rest: &Dim) -> bool {
    let Some((x, y)) = from.iter().zip(to).find(|(x, y)| x != y) else { return false };
    let kept: Dim = from.iter().map(|size| if size == x { y } else { size }).product();
    from.rank() < to.len() && kept == *rest
}

/// Takes sizes of one axis as equal where else there would be other elements than there are: an axis that a reshape keeps, or regroups with
/// those behind it, has one symbol.
fn same_elements(from: &Shape, to: &[Dim]) -> Result<()> {
    if from.numel() == to.iter().product() {
        return Ok(());
    }
    let Some((x, y)) = from.iter().zip(to).find(|(x, y)| x != y) else { return Ok(()) };
    let found = match (x.symbols().as_slice(), y.symbols().as_slice()) {
        ([own], [other]) if own != other => Some((own.clone(), Dim::sym(other))),
        ([own], []) if *x == Dim::sym(own) => unified(y, x),
        ([], [other]) if *y == Dim::sym(other) => unified(x, y),
        _ => None,
    };
    found.map_or(Ok(()), |(symbol, size)| Err(Problem::Assume(symbol, size)))
}

/// Takes a symbol as so many times another where it alone decides whether elements divide: the fewest times that do.
fn divisible(all: &Dim, by: &Dim) -> Result<()> {
    let symbols = all.symbols();
    let ([symbol], Some(number)) = (symbols.as_slice(), by.as_const()) else { return Ok(()) };
    let SymbolDecl { name, lo, hi, multiple } = symbol.decl();
    let is_proportional = all.exact_div(&Dim::sym(symbol)).is_some_and(|factor| factor.as_const().is_some());
    let times = number / (all + by).content().max(1);
    if !is_proportional || !(2..=*hi).contains(&times) {
        return Ok(());
    }
    let part = Symbol::ranged(name, lo / times + i64::from(lo % times > 0), hi / times, *multiple);
    Err(Problem::Assume(symbol.clone(), Dim::from(times) * Dim::sym(&part)))
}

/// How many times `rest` elements are in a shape.
fn quotient(shape: &Shape, rest: &Dim) -> Result<Dim> {
    let all = shape.numel();
    if rest.is(0) {
        return wrong(format!("-1 beside a size of 0, from {shape}"));
    }
    Ok(all.exact_div(rest).unwrap_or_else(|| all.floor_div(rest)))
}

pub(super) fn flatten(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let (shape, axis) = (n.b.shape(x), n.int("axis", 1));
    let axis = if usize::try_from(axis) == Ok(shape.rank()) { shape.rank() } else { n.axis(axis, shape.rank())? };
    let (lead, rest) = shape.split_at(axis);
    Ok(vec![n.b.reshape(x, [lead.iter().product::<Dim>(), rest.iter().product()])?])
}

pub(super) fn squeeze(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let shape = n.b.shape(x);
    let axes = match n.axes_of(1, shape.rank())? {
        Some(axes) => axes,
        None => {
            let open = |size: &&Dim| size.as_const().is_none() && size.bounds().lo <= 1 && size.bounds().hi >= 1;
            if let Some(size) = shape.iter().find(open) {
                let what = format!("which axes of {} have one element is known only where sizes are: {size} may be 1", n.b.ty(x));
                return Err(Problem::Unknown(x, Diag::new(what)));
            }
            (0..shape.rank()).filter(|axis| shape[*axis].is(1)).collect()
        }
    };
    Ok(vec![n.b.reshape(x, shape.without(&axes).0)?])
}

pub(super) fn unsqueeze(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let count = match n.ints("axes") {
        Some(axes) => axes.len(),
        None => n.integers(1, "the axes")?.len(),
    };
    let axes = n.axes_of(1, n.b.rank(x) + count)?.unwrap_or_default();
    Ok(vec![n.b.unsqueeze(x, &axes)?])
}

pub(super) fn transpose(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let rank = n.b.rank(x);
    let axes = match n.ints("perm") {
        Some(perm) => n.axes(&perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    if axes.len() != rank {
        return wrong(format!("{axes:?} does not permute {}", n.b.ty(x)));
    }
    Ok(vec![n.b.permute(x, axes)?])
}

pub(super) fn expand(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let shape = common(&[n.b.shape(x), Shape(n.dims(1, "the shape")?)])?;
    Ok(vec![n.b.stretch(x, &shape)?])
}

pub(super) fn tile(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let (shape, repeats) = (n.b.shape(x), n.dims(1, "the repeats")?);
    if repeats.len() != shape.rank() {
        return wrong(format!("{} repeats of {}", repeats.len(), n.b.ty(x)));
    }
    let blocks: Vec<Dim> = repeats.iter().zip(shape.iter()).flat_map(|(repeat, size)| [repeat.clone(), size.clone()]).collect();
    let axes = (0..shape.rank()).map(|axis| 2 * axis + 1).collect();
    let repeated = n.b.emit(Op::Broadcast(Broadcast { shape: Shape(blocks), axes }), &[x])?;
    let sizes: Vec<Dim> = repeats.iter().zip(shape.iter()).map(|(repeat, size)| repeat * size).collect();
    Ok(vec![n.b.reshape(repeated, sizes)?])
}

pub(super) fn concat(n: &mut Node<'_>) -> Values {
    let parts = n.all()?;
    let axis = n.axis(n.int("axis", 1), n.b.rank(parts[0]))?;
    Ok(vec![n.b.concat(axis, &parts)?])
}

/// Sizes are an attribute, an operand, or equal but for the last.
pub(super) fn split(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let shape = n.b.shape(x);
    let axis = n.axis(n.int("axis", 0), shape.rank())?;
    let sizes: Vec<Dim> = match n.ints("split") {
        Some(sizes) => sizes.into_iter().map(Dim::from).collect(),
        None if n.opt(1).is_some() => n.dims(1, "the sizes of parts")?,
        None => {
            let count = n.int("num_outputs", i64::try_from(n.proto.output.len()).unwrap_or(i64::MAX));
            equal_parts(n, x, axis, count)?
        }
    };
    if let Some(size) = sizes.iter().find(|size| size.as_const().is_some_and(|size| size < 0)) {
        return wrong(format!("a part of {size} elements of axis {axis} of {}", n.b.ty(x)));
    }
    if sizes.iter().cloned().sum::<Dim>() != shape[axis] {
        return wrong(format!("parts of {sizes:?} are not the whole of axis {axis} of {}", n.b.ty(x)));
    }
    let (mut start, mut parts) = (Dim::ZERO, Vec::new());
    for size in sizes {
        parts.push(n.b.part(x, axis, &start, &size)?);
        start = start + size;
    }
    Ok(parts)
}

fn equal_parts(n: &Node<'_>, x: Value, axis: usize, count: i64) -> Result<Vec<Dim>> {
    if !(1..=1 << 16).contains(&count) {
        return wrong(format!("{count} parts"));
    }
    let size = n.b.along(x, axis)?;
    let part = size.ceil_div(&Dim::from(count));
    let last = &size - &part * Dim::from(count - 1);
    // The last of two is never less than nothing; that of five elements in four parts would be.
    if count > 2 && size.as_const().is_none() && !last.is_nonneg() {
        let what =
            format!("whether {size} elements are {count} parts of {part}, the last one shorter, is known only where sizes are");
        return Err(Problem::Unknown(x, Diag::new(what)));
    }
    let mut parts = vec![part; usize::try_from(count - 1).unwrap_or(0)];
    parts.push(last);
    Ok(parts)
}

/// Bounds are attributes before version 10, operands from there.
pub(super) fn slice(n: &mut Node<'_>) -> Values {
    let mut x = n.arg(0)?;
    let rank = n.b.rank(x);
    let attribute = |n: &Node<'_>, name: &str| n.ints(name).map(|list| list.into_iter().map(Dim::from).collect::<Vec<_>>());
    let starts = attribute(n, "starts").map_or_else(|| n.dims(1, "the starts"), Ok)?;
    let ends = attribute(n, "ends").map_or_else(|| n.dims(2, "the ends"), Ok)?;
    let axes = match n.axes_of(3, rank)? {
        Some(axes) => axes,
        None => (0..starts.len()).collect(),
    };
    let steps = if n.opt(4).is_some() { n.integers(4, "the steps")? } else { vec![1; starts.len()] };
    if axes.len() != starts.len() || ends.len() != starts.len() || steps.len() != starts.len() || axes.len() > rank {
        return wrong(format!("{} starts, {} ends, {} steps for axes {axes:?}", starts.len(), ends.len(), steps.len()));
    }
    for (place, axis) in axes.into_iter().enumerate() {
        x = range(n.b, x, axis, &starts[place], &ends[place], steps[place])?;
    }
    Ok(vec![x])
}

/// One axis of a slice. A negative step takes the elements of the reversed axis.
fn range(b: &mut Builder, x: Value, axis: usize, start: &Dim, end: &Dim, step: i64) -> Result<Value> {
    let size = b.shape(x)[axis].clone();
    if step == 0 || step == i64::MIN {
        return wrong("a step of 0");
    }
    let (x, start, end) = if step > 0 {
        (x, clamped(b, start, &size)?, clamped(b, end, &size)?)
    } else {
        // In the reversed axis position p is n - 1 - p, and what lies before the first element comes last.
        let flip = |dim: Dim| &size - Dim::ONE - dim;
        let (start, end) = (flip(mirrored(b, start, &size)?), flip(mirrored(b, end, &size)?));
        (b.emit(Op::Reverse(vec![axis]), &[x])?, start, end)
    };
    let step = step.abs();
    let length = (end - &start).max_with(&Dim::ZERO).ceil_div(&Dim::from(step));
    let mut axes = b.whole(x);
    let range = SliceAxis { start: if length.is(0) { Dim::ZERO } else { start }, size: length, step };
    if axes[axis] == range {
        return Ok(x);
    }
    axes[axis] = range;
    b.emit(Op::Slice(axes), &[x])
}

/// A bound that may count from the end, inside of `0..=size`.
fn clamped(b: &mut Builder, bound: &Dim, size: &Dim) -> Result<Dim> {
    let bound = absolute(b, bound, size)?;
    let bound = bound.max_with(&Dim::ZERO);
    if bound.as_const().is_none() && size.as_const().is_some() && !(size - &bound).is_nonneg() {
        // What reaches past a table's end is a mistake of the caller's, not a shorter result.
        b.assume_at_most(&bound, size)?;
    }
    Ok(bound.min_with(size))
}

/// A bound of a slice backwards, inside of `-1..=size - 1`.
fn mirrored(b: &Builder, bound: &Dim, size: &Dim) -> Result<Dim> {
    let bound = absolute(b, bound, size)?;
    let last = size - Dim::ONE;
    Ok(bound.min_with(&last).max_with(&Dim::from(-1)))
}

/// A bound without what it counts from the end: one that does so for few elements alone, as where the middle of a picture is cut out, is taken
/// to have more.
fn absolute(b: &Builder, bound: &Dim, size: &Dim) -> Result<Dim> {
    match bound.as_const() {
        Some(number) if number < 0 => Ok(size + bound),
        Some(_) => Ok(bound.clone()),
        None if bound.is_nonneg() => Ok(bound.clone()),
        None if (-bound.clone()).is_positive() => Ok(size + bound),
        None if b.assume_at_least(bound, 0)? => Ok(bound.clone()),
        None => unsupported(format!("a bound {bound}, which may be negative")),
    }
}

pub(super) fn pad(n: &mut Node<'_>) -> Values {
    let mut x = n.arg(0)?;
    let rank = n.b.rank(x);
    let pads = match n.ints("pads").or_else(|| n.ints("paddings")) {
        Some(pads) => pads.into_iter().map(Dim::from).collect(),
        None => n.dims(1, "the padding")?,
    };
    let axes = if n.opt(3).is_some() { n.axes(&n.integers(3, "the axes")?, rank)? } else { (0..rank).collect() };
    if pads.len() != 2 * axes.len() {
        return wrong(format!("{} paddings for {} axes", pads.len(), axes.len()));
    }
    let mode = n.text("mode", "constant");
    let dtype = n.b.dtype(x);
    let value = match n.opt(2) {
        Some(value) => n.b.reshape(value, [])?,
        None if n.b.format(x).is_some_and(|format| !format.has_zero()) => {
            return unsupported(format!("padding by zero of {}, which has none", n.b.element(x).name()));
        }
        None => n.b.number(dtype, n.float("value", 0.0))?,
    };
    for (place, axis) in axes.iter().enumerate() {
        let (low, high) = (&pads[place], &pads[place + axes.len()]);
        x = cut(n.b, x, *axis, low, high)?;
        let (low, high) = (low.max_with(&Dim::ZERO), high.max_with(&Dim::ZERO));
        x = match mode.as_str() {
            "constant" => n.b.pad(x, *axis, &low, &high, value)?,
            "edge" | "reflect" | "wrap" if low.is(0) && high.is(0) => x,
            "edge" | "reflect" | "wrap" => repeat(n.b, x, *axis, [&low, &high], &mode)?,
            other => return wrong(format!("the mode `{other}`")),
        };
    }
    Ok(vec![x])
}

/// What negative paddings take away.
fn cut(b: &mut Builder, x: Value, axis: usize, low: &Dim, high: &Dim) -> Result<Value> {
    let lost = |pad: &Dim| (-pad.clone()).max_with(&Dim::ZERO);
    let (low, high) = (lost(low), lost(high));
    let rest = &b.shape(x)[axis] - &low - &high;
    b.part(x, axis, &low, &rest)
}

/// Padding by elements of the operand itself.
fn repeat(b: &mut Builder, x: Value, axis: usize, [low, high]: [&Dim; 2], mode: &str) -> Result<Value> {
    let size = b.shape(x)[axis].clone();
    let all = b.count(DType::I64, &(&size + low + high))?;
    let (low, count) = (b.size(low, DType::I64)?, b.size(&size, DType::I64)?);
    let place = b.sub(all, low)?;
    let last = b.with(ScalarFn::Sub, count, 1.0)?;
    let from = match mode {
        "edge" => {
            let place = b.with(ScalarFn::Max, place, 0.0)?;
            b.map(ScalarFn::Min, &[place, last])?
        }
        "wrap" => floor_modulo(b, place, count)?,
        _ => {
            // A wave of period 2(n - 1); a single element repeats.
            let period = b.with(ScalarFn::Mul, last, 2.0)?;
            let period = b.with(ScalarFn::Max, period, 1.0)?;
            let phase = floor_modulo(b, place, period)?;
            let back = b.sub(period, phase)?;
            let place = b.map(ScalarFn::Min, &[phase, back])?;
            b.map(ScalarFn::Min, &[place, last])?
        }
    };
    b.emit(Op::Gather(graver_ir::op::GatherAxes { axis, batch: 0 }), &[x, from])
}

pub(super) fn floor_modulo(b: &mut Builder, x: Value, y: Value) -> Result<Value> {
    let rest = b.map(ScalarFn::Rem, &[x, y])?;
    let lifted = b.add(rest, y)?;
    b.map(ScalarFn::Rem, &[lifted, y])
}

pub(super) fn depth_to_space(n: &mut Node<'_>) -> Values {
    let (x, block) = (n.arg(0)?, Dim::from(n.int("blocksize", 1).max(1)));
    let shape = n.b.shape(x);
    let [batch, depth, height, width] = &shape[..] else { return wrong(format!("takes [n, c, h, w], got {}", n.b.ty(x))) };
    let channels = depth.floor_div(&(&block * &block));
    let (blocks, order) = match n.text("mode", "DCR").as_str() {
        "DCR" => ([batch, &block, &block, &channels, height, width], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([batch, &channels, &block, &block, height, width], [0, 1, 4, 2, 5, 3]),
        other => return wrong(format!("the mode `{other}`")),
    };
    let x = n.b.reshape(x, blocks.map(Dim::clone))?;
    let x = n.b.permute(x, order.to_vec())?;
    Ok(vec![n.b.reshape(x, [batch.clone(), channels.clone(), height * &block, width * &block])?])
}

pub(super) fn space_to_depth(n: &mut Node<'_>) -> Values {
    let (x, block) = (n.arg(0)?, Dim::from(n.int("blocksize", 1).max(1)));
    let shape = n.b.shape(x);
    let [batch, channels, height, width] = &shape[..] else { return wrong(format!("takes [n, c, h, w], got {}", n.b.ty(x))) };
    let (rows, columns) = (height.floor_div(&block), width.floor_div(&block));
    let order = match n.text("mode", "DCR").as_str() {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        other => return wrong(format!("the mode `{other}`")),
    };
    let x = n.b.reshape(x, [batch, channels, &rows, &block, &columns, &block].map(Dim::clone))?;
    let x = n.b.permute(x, order)?;
    Ok(vec![n.b.reshape(x, [batch.clone(), channels * &block * &block, rows, columns])?])
}

/// Cuts or pads axes to sizes, in the middle.
pub(super) fn center_crop_pad(n: &mut Node<'_>) -> Values {
    let mut x = n.arg(0)?;
    let rank = n.b.rank(x);
    let (sizes, axes) = (n.dims(1, "the shape")?, n.axes_of(usize::MAX, rank)?.unwrap_or_else(|| (0..rank).collect()));
    if sizes.len() != axes.len() {
        return wrong(format!("{} sizes for {} axes", sizes.len(), axes.len()));
    }
    let zero = n.b.number(n.b.dtype(x), 0.0)?;
    for (axis, size) in axes.into_iter().zip(sizes) {
        let own = n.b.shape(x)[axis].clone();
        let (Some(from), Some(to)) = (own.as_const(), size.as_const()) else { return unsupported("sizes that are symbols") };
        let half = Dim::from((from - to).abs() / 2);
        x = if from >= to {
            n.b.part(x, axis, &half, &size)?
        } else {
            let high = &size - &own - &half;
            n.b.pad(x, axis, &half, &high, zero)?
        };
    }
    Ok(vec![x])
}

/// The first elements of every row backwards, as many as its length says.
pub(super) fn reverse_sequence(n: &mut Node<'_>) -> Values {
    let (x, lengths) = (n.arg(0)?, n.arg(1)?);
    let rank = n.b.rank(x);
    let (time, batch) = (n.axis(n.int("time_axis", 0), rank)?, n.axis(n.int("batch_axis", 1), rank)?);
    if time == batch {
        return wrong("time and batch are one axis");
    }
    let mut order = vec![batch, time];
    order.extend((0..rank).filter(|axis| *axis != batch && *axis != time));
    let perm = graver_ir::op::Perm::new(order).map_err(graver_ir::Diag::new)?;
    let rows = n.b.permute(x, perm.axes().to_vec())?;
    let shape = Shape(n.b.shape(rows)[..2].to_vec());
    let place = n.b.iota(DType::I64, &shape, 1)?;
    let lengths = n.b.cast(lengths, DType::I64)?;
    let lengths = n.b.unsqueeze(lengths, &[1])?;
    let inside = n.b.map(ScalarFn::Lt, &[place, lengths])?;
    let last = n.b.with(ScalarFn::Sub, lengths, 1.0)?;
    let mirrored = n.b.sub(last, place)?;
    let from = n.b.select(inside, mirrored, place)?;
    let y = n.b.gather(rows, from, 1, 1)?;
    Ok(vec![n.b.permute(y, perm.inverse().axes().to_vec())?])
}
