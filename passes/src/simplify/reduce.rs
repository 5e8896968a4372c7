//! Rewrites of reductions and windows. A sum's order is part of its bits: sums of floats are never merged.

use graver_ir::op::{Broadcast, Reduce, ReduceKind, WindowAxis};
use graver_ir::{Op, Value};

use super::{Rewrite, Site};
use crate::build::Build;

pub(super) const REDUCES: &[Rewrite] = &[of_no_axes, of_axes_of_one, of_a_reduction, of_a_repetition];
pub(super) const PREFIXES: &[Rewrite] = &[of_an_axis_of_one];
pub(super) const WINDOWS: &[Rewrite] = &[of_windows_of_one];

fn attributes<'a>(site: &'a Site<'_>) -> Option<&'a Reduce> {
    if let Op::Reduce(reduce) = &site.op { Some(reduce) } else { None }
}

/// `reduce(x) over no axes = x`. Exact: the reduction of one element is that element.
fn of_no_axes(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    attributes(site)?.axes.is_empty().then_some(site.args[0])
}

/// `reduce(x) over axes of one element = reshape x`. Exact, as above.
fn of_axes_of_one(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let shape = &b.ty(site.args[0]).shape;
    attributes(site)?.axes.iter().all(|axis| shape[*axis].is(1)).then_some(())?;
    b.add(Op::Reshape(site.ty.shape.clone()), &[site.args[0]]).ok()
}

/// `reduce(reduce(x, a), b) = reduce(x, a and b)` of one kind, for integers and bool: floats have an order, and signs of zero.
fn of_a_reduction(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let outer = attributes(site)?;
    let Op::Reduce(inner) = b.graph.op(site.args[0].node).clone() else { return None };
    if inner.kind != outer.kind || site.ty.dtype.is_float() {
        return None;
    }
    let x = b.graph.args(site.args[0].node)[0];
    let kept: Vec<usize> = (0..b.ty(x).rank()).filter(|axis| !inner.axes.contains(axis)).collect();
    let mut axes: Vec<usize> = outer.axes.iter().map(|axis| kept[*axis]).chain(inner.axes).collect();
    axes.sort_unstable();
    b.add(Op::Reduce(Reduce { kind: outer.kind, axes }), &[x]).ok()
}

/// `max(broadcast x) over repeated axes = x`, and so `min`, where none of them is empty. Exact: the extreme of equals.
fn of_a_repetition(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Reduce { kind, axes } = attributes(site)?;
    let Op::Broadcast(Broadcast { shape, axes: kept }) = b.graph.op(site.args[0].node) else { return None };
    let repeated = |axis: &usize| !kept.contains(axis) && shape[*axis].is_positive();
    let all = matches!(kind, ReduceKind::Max | ReduceKind::Min) && axes.iter().all(repeated);
    (all && axes.len() + kept.len() == shape.rank()).then(|| b.graph.args(site.args[0].node)[0])
}

/// `prefix(x) along an axis of one element = x`. Exact: the first element stands as it is.
fn of_an_axis_of_one(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Prefix(prefix) = &site.op else { return None };
    site.ty.shape[prefix.axis].is(1).then_some(site.args[0])
}

/// `window(x) of one element each = x`. Exact.
fn of_windows_of_one(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Window(window) = &site.op else { return None };
    window.axes.iter().all(|axis| *axis == WindowAxis::IDENTITY).then_some(site.args[0])
}
