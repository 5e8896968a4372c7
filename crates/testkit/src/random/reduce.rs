//! Random reductions and windows.

use graver_ir::op::{ArgReduce, Extreme, Prefix, Reduce, ReduceKind, Window, WindowAxis, WindowPut};
use graver_ir::{DType, Dim, Op};

use super::numbers::Numbers;
use super::{Gen, Known, Recipe};

pub(super) const RECIPES: &[Recipe] = &[reduce, reduce, prefix, arg_reduce, window, window_places];

/// A kind that the type takes, over `count` elements; no extreme of nothing, which is infinite.
fn kind(g: &mut Gen<'_>, dtype: DType, count: usize) -> Option<ReduceKind> {
    let kind = *g.rng.pick(&ReduceKind::ALL);
    match kind {
        ReduceKind::Sum | ReduceKind::Prod => dtype != DType::Bool,
        ReduceKind::Max | ReduceKind::Min => count > 0,
    }
    .then_some(kind)
}

fn combined(kind: ReduceKind, x: &Known, count: usize) -> Numbers {
    match kind {
        ReduceKind::Sum => x.numbers.sum(x.dtype(), count),
        ReduceKind::Prod => x.numbers.prod(x.dtype(), count.min(20)),
        ReduceKind::Max | ReduceKind::Min => x.numbers,
    }
}

fn reduce(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0)?;
    let axes: Vec<usize> = (0..x.rank()).filter(|_| g.rng.once_in(2)).collect();
    let count: usize = axes.iter().map(|axis| x.sizes()[*axis]).product();
    let kind = kind(g, x.dtype(), count)?;
    if kind == ReduceKind::Prod && count > 20 {
        return None;
    }
    let numbers = combined(kind, &x, count);
    g.emit(Op::Reduce(Reduce { kind, axes }), &[x.value], numbers).map(drop)
}

/// Of floats every other time: their roundings are what orders of combination differ by.
fn prefix(g: &mut Gen<'_>) -> Option<()> {
    let floats = g.rng.once_in(2);
    let x = g.any(|x| x.rank() > 0 && (!floats || x.dtype().is_float()))?;
    let (axis, reverse) = (g.rng.below(x.rank()), g.rng.once_in(2));
    let count = x.sizes()[axis];
    let kind = kind(g, x.dtype(), count)?;
    if kind == ReduceKind::Prod && count > 20 {
        return None;
    }
    let numbers = combined(kind, &x, count.max(1));
    g.emit(Op::Prefix(Prefix { kind, axis, reverse }), &[x.value], numbers).map(drop)
}

fn arg_reduce(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0 && x.numbers.is_exact())?;
    let axis = g.rng.below(x.rank());
    let size = x.sizes()[axis];
    if size == 0 {
        return None;
    }
    let kind = *g.rng.pick(&[Extreme::Max, Extreme::Min]);
    let numbers = Numbers { max: f64::from(u16::try_from(size).ok()?), error: 0.0, grain: Some(1.0) };
    g.emit(Op::ArgReduce(ArgReduce { kind, axis }), &[x.value], numbers).map(drop)
}

/// Windows over the last axis, of up to three elements, no two of which are padding.
fn axes(g: &mut Gen<'_>, x: &Known) -> Option<Vec<WindowAxis>> {
    let (last, before) = (*x.sizes().last()?, x.rank() - 1);
    let size = g.rng.int(2, 3);
    if i64::try_from(last).ok()? < size {
        return None;
    }
    let (low, high) = (Dim::from(g.rng.int(0, 1)), Dim::from(g.rng.int(0, 1)));
    let window = WindowAxis { size, stride: g.rng.int(1, 2), dilation: 1, low, high };
    Some([vec![WindowAxis::IDENTITY; before], vec![window]].concat())
}

fn window(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0)?;
    let axes = axes(g, &x)?;
    let kind = kind(g, x.dtype(), 3)?;
    g.emit(Op::Window(Window { kind, axes }), &[x.value], combined(kind, &x, 3)).map(drop)
}

/// The places of extremes, what is there, and the way back.
fn window_places(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0 && x.numbers.is_exact())?;
    let axes = axes(g, &x)?;
    let kind = *g.rng.pick(&[ReduceKind::Max, ReduceKind::Min]);
    let arg = Window { kind, axes: axes.clone() };
    let place = g.emit(Op::WindowArg(arg), &[x.value], Numbers { max: 3.0, error: 0.0, grain: Some(1.0) })?;
    let y = g.any(|y| y.ty.shape == x.ty.shape)?;
    let taken = g.emit(Op::WindowTake(axes.clone()), &[y.value, place.value], y.numbers)?;
    if taken.dtype() == DType::Bool {
        return None;
    }
    let put = WindowPut { axes, shape: x.ty.shape.clone() };
    g.emit(Op::WindowPut(put), &[taken.value, place.value], taken.numbers.sum(y.dtype(), 3)).map(drop)
}
