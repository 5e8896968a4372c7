//! Random constants, sizes, positions, gathers and scatters.

use graver_ir::op::{Broadcast, DynamicSlice, GatherAxes, Iota, Scatter, ScatterKind, Sort};
use graver_ir::{DType, Op, Shape};

use super::numbers::Numbers;
use super::{Gen, Known, Recipe, scalar};
use crate::fill::Fill;
use crate::samples::{INTS, NUMBERS};

pub(super) const RECIPES: &[Recipe] = &[constant, size, iota, gather, scatter, block, update, sort];

/// A constant array in the place of a value that there is.
fn constant(g: &mut Gen<'_>) -> Option<()> {
    let like = g.any(|x| x.ty.shape.as_const().is_some())?;
    let known = g.fresh(like.dtype(), &like.ty.shape, Fill::Quarters);
    g.values.push(known);
    Some(())
}

/// A symbol's value, added to integers.
fn size(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.ty.shape.iter().any(|dim| dim.as_const().is_none()))?;
    let dim = x.ty.shape.iter().find(|dim| dim.as_const().is_none())?.clone();
    let max = f64::from(u16::try_from(x.sizes().into_iter().max()?).ok()?);
    let numbers = Numbers { max, error: 0.0, grain: Some(1.0) };
    let size = g.emit(Op::Size(dim), &[], numbers)?;
    let shape = x.ty.shape;
    g.emit(Op::Broadcast(Broadcast { shape, axes: Vec::new() }), &[size.value], numbers).map(drop)
}

/// Positions in the shape of a value that there is.
fn iota(g: &mut Gen<'_>) -> Option<()> {
    let like = g.any(|x| x.rank() > 0)?;
    let (axis, dtype) = (g.rng.below(like.rank()), *g.rng.pick(&NUMBERS));
    let last = f64::from(u16::try_from(like.sizes()[axis].saturating_sub(1)).ok()?);
    let numbers = Numbers { max: last, error: 0.0, grain: Some(1.0) };
    g.emit(Op::Iota(Iota { dtype, shape: like.ty.shape, axis }), &[], numbers.cast(dtype)).map(drop)
}

/// A value, an axis of it that is not empty, and positions along it that were given or computed.
fn positions(g: &mut Gen<'_>) -> Option<(Known, Known, GatherAxes)> {
    let x = g.any(|x| x.rank() > 0 && x.sizes().into_iter().all(|size| size < 20))?;
    let axis = g.rng.below(x.rank());
    let size = x.sizes()[axis];
    if size == 0 {
        return None;
    }
    let batch = if axis > 0 && g.rng.once_in(2) { 1 } else { 0 };
    let extra = g.rng.below(4) + usize::from(batch == 0 && g.rng.once_in(2));
    let index = match g.any(|y| y.dtype() == DType::I64 && y.rank() == 1) {
        Some(y) if batch == 0 && y.sizes()[0] < 20 && g.rng.once_in(2) => computed(g, &y, size)?,
        Some(_) | None => {
            let dims = x.ty.shape[..batch].iter().cloned().chain([extra.into()]).collect::<Vec<_>>();
            if Shape(dims.clone()).as_const().is_none() && g.inputs.is_none() {
                return None;
            }
            let dtype = *g.rng.pick(&INTS);
            g.fresh(dtype, dims, Fill::Index(i64::try_from(size).ok()?))
        }
    };
    let grown = x.sizes().into_iter().product::<usize>() / size * index.sizes().into_iter().product::<usize>();
    (grown <= super::MAX_ELEMENTS).then_some((x, index, GatherAxes { axis, batch }))
}

/// `(y & 127) % size`, whatever `y` is.
fn computed(g: &mut Gen<'_>, y: &Known, size: usize) -> Option<Known> {
    use graver_ir::ScalarFn::{And, Rem};
    let mask = g.splat(y.dtype(), &y.ty.shape, 127.0);
    let low = g.emit_hidden(Op::Map(And), &[y.value, mask], Numbers::discrete(y.dtype()).capped(127.0))?;
    let size = f64::from(u8::try_from(size).ok()?);
    let limit = g.splat(y.dtype(), &y.ty.shape, size);
    g.emit_hidden(Op::Map(Rem), &[low.value, limit], low.numbers.capped(size))
}

fn gather(g: &mut Gen<'_>) -> Option<()> {
    let (x, index, axes) = positions(g)?;
    g.emit(Op::Gather(axes), &[x.value, index.value], x.numbers).map(drop)
}

/// What was gathered goes back to where it came from.
fn scatter(g: &mut Gen<'_>) -> Option<()> {
    let (x, index, axes) = positions(g)?;
    if x.dtype() == DType::Bool {
        return None;
    }
    let update = g.emit(Op::Gather(axes), &[x.value, index.value], x.numbers)?;
    let count = index.sizes().into_iter().product::<usize>() + 1;
    let numbers = x.numbers.sum(x.dtype(), count);
    let zero = g.b.constant(scalar(x.dtype(), 0.0));
    let zeros = g.b.add(Op::Broadcast(Broadcast { shape: x.ty.shape.clone(), axes: Vec::new() }), &[zero]);
    let base = if g.rng.once_in(2) { x.value } else { zeros };
    let kind = *g.rng.pick(&[ScatterKind::Add, ScatterKind::Add, ScatterKind::Set, ScatterKind::Max, ScatterKind::Min]);
    g.emit(Op::Scatter(Scatter { kind, at: axes }), &[base, index.value, update.value], numbers).map(drop)
}

/// A value, an axis of it, the size of a block that fits, and a start that was given or is a number.
fn blocks(g: &mut Gen<'_>) -> Option<(Known, usize, Known, Known)> {
    let x = g.any(|x| x.rank() > 0 && x.sizes().into_iter().all(|size| (1..20).contains(&size)))?;
    let axis = g.rng.below(x.rank());
    let number = x.ty.shape[axis].as_const()?;
    let taken = i64::try_from(g.rng.below(usize::try_from(number).ok()?)).ok()? + 1;
    let start = g.fresh(DType::I64, Shape::SCALAR, Fill::Index(number - taken + 1));
    let slice = DynamicSlice { axes: vec![axis], sizes: vec![taken.into()] };
    let part = g.emit(Op::DynamicSlice(slice), &[x.value, start.value], x.numbers)?;
    Some((x, axis, part, start))
}

fn block(g: &mut Gen<'_>) -> Option<()> {
    blocks(g).map(drop)
}

/// A block goes back to another place of what it is from.
fn update(g: &mut Gen<'_>) -> Option<()> {
    let (x, axis, part, start) = blocks(g)?;
    let zero = g.splat(DType::I64, &Shape::SCALAR, 0.0);
    let start = if g.rng.once_in(2) { start.value } else { zero };
    g.emit(Op::DynamicUpdate(vec![axis]), &[x.value, part.value, start], x.numbers).map(drop)
}

/// An order of what is known to the last bit: how far others are off decides nothing.
fn sort(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0 && x.numbers.error == 0.0 && x.sizes().into_iter().all(|size| size < 20))?;
    let (axis, descending) = (g.rng.below(x.rank()), g.rng.once_in(2));
    let last = f64::from(u16::try_from(x.sizes()[axis].saturating_sub(1)).ok()?);
    let numbers = Numbers { max: last, error: 0.0, grain: Some(1.0) };
    g.emit(Op::Sort(Sort { axis, descending }), &[x.value], numbers).map(drop)
}
