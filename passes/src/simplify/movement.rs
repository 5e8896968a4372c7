//! Rewrites of movement: compositions become one, and what moves nothing goes. All exact: elements keep their bits.
//!
//! One form is aimed at: `reshape` for axes of one element, broadcasts after everything else, repeated scalars untouched.

use graver_ir::op::{Broadcast, PadAxis, Perm, Prefix, SliceAxis};
use graver_ir::{Dim, Op, Shape, Value};

use super::contract::{permuted, permuted_conv, permuted_dot};
use super::{Rewrite, Site, splat};
use crate::build::Build;

pub(super) const RESHAPES: &[Rewrite] = &[moved_nothing, moved_splat, reshape_of_reshape, reshape_of_broadcast];
pub(super) const PERMUTES: &[Rewrite] =
    &[moved_nothing, moved_splat, permute_of_permute, permute_of_ones, permute_of_broadcast, permuted_dot, permuted_conv];
pub(super) const BROADCASTS: &[Rewrite] = &[moved_nothing, broadcast_of_broadcast, broadcast_to_ones, broadcast_of_inserted_ones];
pub(super) const SLICES: &[Rewrite] =
    &[moved_nothing, moved_splat, slice_of_slice, slice_of_pad, slice_of_concat, slice_of_broadcast];
pub(super) const PADS: &[Rewrite] = &[pad_of_nothing, pad_of_pad];
pub(super) const CONCATS: &[Rewrite] = &[concat_of_one, concat_with_nothing, concat_of_concat];
pub(super) const REVERSES: &[Rewrite] =
    &[reverse_of_nothing, moved_splat, reverse_of_reverse, reverse_of_prefix, reverse_of_broadcast, reverse_of_ones];

/// The operand and its operation.
fn operand<'a>(b: &'a Build<'_>, site: &Site<'_>) -> (Value, &'a Op) {
    (site.args[0], b.graph.op(site.args[0].node))
}

/// `reshape x = x` to its own shape; `permute x = x` by the identity; `broadcast x = x` to its own rank; `slice x = x` of everything.
fn moved_nothing(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let x = site.args[0];
    let whole = |axes: &[SliceAxis]| axes.iter().zip(b.ty(x).shape.iter()).all(|(axis, size)| is_everything(axis, size));
    let stays = match (&site.op, *b.ty(x) == site.ty) {
        (Op::Permute(perm), _) => perm.is_identity(),
        (Op::Slice(axes), true) => whole(axes),
        (_, same_type) => same_type,
    };
    stays.then_some(x)
}

fn is_everything(axis: &SliceAxis, size: &Dim) -> bool {
    axis.start.is(0) && axis.step == 1 && axis.size == *size
}

/// `move(broadcast c) = broadcast c` of a constant `c`: constants are not carried about.
fn moved_splat(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let value = splat(b.graph, site.args[0])?;
    Some(b.full(&site.ty.shape, value))
}

/// `reshape(reshape x) = reshape x`
fn reshape_of_reshape(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let (inner, Op::Reshape(_)) = operand(b, site) else { return None };
    let x = b.graph.args(inner.node)[0];
    b.add(Op::Reshape(site.ty.shape.clone()), &[x]).ok()
}

/// `reshape(broadcast x) = broadcast x` where `x` is a scalar, or the reshape only puts axes of one element in.
fn reshape_of_broadcast(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let (repeated, Op::Broadcast(broadcast)) = operand(b, site) else { return None };
    let axes = if broadcast.axes.is_empty() {
        Vec::new()
    } else {
        let places = places_without_ones(&broadcast.shape, &site.ty.shape)?;
        broadcast.axes.iter().map(|axis| places[*axis]).collect()
    };
    let x = b.graph.args(repeated.node)[0];
    b.add(Op::Broadcast(Broadcast { shape: site.ty.shape.clone(), axes }), &[x]).ok()
}

/// `permute(permute x) = permute x` by the product.
fn permute_of_permute(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Permute(outer) = &site.op else { return None };
    let (inner, x) = permuted(b, site.args[0])?;
    b.add(Op::Permute(outer.after(&inner)), &[x]).ok()
}

/// `permute x = reshape x` where the axes of more than one element keep their order.
fn permute_of_ones(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Permute(perm) = &site.op else { return None };
    let shape = &b.ty(site.args[0]).shape;
    perm.axes().iter().filter(|axis| !shape[**axis].is(1)).is_sorted().then_some(())?;
    b.add(Op::Reshape(site.ty.shape.clone()), &[site.args[0]]).ok()
}

/// `permute(broadcast x) = broadcast(permute x)`
fn permute_of_broadcast(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Permute(perm) = &site.op else { return None };
    let (repeated, Op::Broadcast(broadcast)) = operand(b, site) else { return None };
    let places: Vec<usize> = broadcast.axes.iter().map(|axis| perm.inverse().axes()[*axis]).collect();
    let x = b.graph.args(repeated.node)[0];
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_unstable_by_key(|axis| places[*axis]);
    let axes = order.iter().map(|axis| places[*axis]).collect();
    let moved = permute_unless_identity(b, x, order)?;
    b.add(Op::Broadcast(Broadcast { shape: site.ty.shape.clone(), axes }), &[moved]).ok()
}

fn permute_unless_identity(b: &mut Build<'_>, x: Value, order: Vec<usize>) -> Option<Value> {
    let perm = Perm::new(order).expect("a sorted 0..n is a permutation");
    if perm.is_identity() { Some(x) } else { b.add(Op::Permute(perm), &[x]).ok() }
}

/// `broadcast(broadcast x) = broadcast x`
fn broadcast_of_broadcast(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Broadcast(outer) = &site.op else { return None };
    let (repeated, Op::Broadcast(inner)) = operand(b, site) else { return None };
    let axes = inner.axes.iter().map(|axis| outer.axes[*axis]).collect();
    let x = b.graph.args(repeated.node)[0];
    b.add(Op::Broadcast(Broadcast { shape: outer.shape.clone(), axes }), &[x]).ok()
}

/// `broadcast x = reshape x` where all new axes have one element. A constant stays a repeated constant.
fn broadcast_to_ones(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Broadcast(Broadcast { shape, axes }) = &site.op else { return None };
    let ones = (0..shape.rank()).all(|axis| axes.contains(&axis) || shape[axis].is(1));
    (ones && splat(b.graph, site.args[0]).is_none()).then_some(())?;
    b.add(Op::Reshape(shape.clone()), &[site.args[0]]).ok()
}

/// `broadcast(reshape x) = broadcast x` where the reshape only put axes of one element in: the broadcast has them anyway.
fn broadcast_of_inserted_ones(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Broadcast(outer) = &site.op else { return None };
    let (reshaped, Op::Reshape(shape)) = operand(b, site) else { return None };
    let x = b.graph.args(reshaped.node)[0];
    let kept = places_without_ones(&b.ty(x).shape, shape)?;
    let axes = kept.into_iter().map(|axis| outer.axes[axis]).collect();
    b.add(Op::Broadcast(Broadcast { shape: outer.shape.clone(), axes }), &[x]).ok()
}

/// Where the axes of `from` are in `to`, if `to` is `from` with axes of one element put in.
fn places_without_ones(from: &Shape, to: &Shape) -> Option<Vec<usize>> {
    let mut places = Vec::new();
    for (place, size) in to.iter().enumerate() {
        match from.get(places.len()) {
            Some(next) if next == size => places.push(place),
            _ => size.is(1).then_some(())?,
        }
    }
    (places.len() == from.rank()).then_some(places)
}

/// `slice(slice x) = slice x`
fn slice_of_slice(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Slice(outer) = &site.op else { return None };
    let (sliced, Op::Slice(inner)) = operand(b, site) else { return None };
    let both = |(outer, inner): (&SliceAxis, &SliceAxis)| SliceAxis {
        start: &inner.start + &outer.start * Dim::from(inner.step),
        size: outer.size.clone(),
        step: inner.step.saturating_mul(outer.step),
    };
    let axes = outer.iter().zip(inner).map(both).collect();
    let x = b.graph.args(sliced.node)[0];
    b.add(Op::Slice(axes), &[x]).ok()
}

/// `slice(pad x) = slice x` where the slice is proved to see no padding.
fn slice_of_pad(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Slice(slices) = &site.op else { return None };
    let (padded, Op::Pad(pads)) = operand(b, site) else { return None };
    let x = b.graph.args(padded.node)[0];
    let inside = |((slice, pad), size): ((&SliceAxis, &PadAxis), &Dim)| {
        let start = &slice.start - &pad.low;
        let last = &start + (&slice.size - Dim::ONE) * Dim::from(slice.step);
        let fits = pad.interior == 0 && start.is_nonneg() && (size - last - Dim::ONE).is_nonneg();
        fits.then(|| SliceAxis { start, size: slice.size.clone(), step: slice.step })
    };
    let axes: Option<Vec<SliceAxis>> = slices.iter().zip(pads).zip(b.ty(x).shape.iter()).map(inside).collect();
    b.add(Op::Slice(axes?), &[x]).ok()
}

/// `slice(concat(x, y)) = slice x` where the slice is proved to lie in one operand.
fn slice_of_concat(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Slice(slices) = &site.op else { return None };
    let (joined, Op::Concat(axis)) = operand(b, site) else { return None };
    let (axis, slice) = (*axis, &slices[*axis]);
    let mut offset = Dim::ZERO;
    for x in b.graph.args(joined.node) {
        let start = &slice.start - &offset;
        let last = &start + (&slice.size - Dim::ONE) * Dim::from(slice.step);
        let size = &b.ty(x).shape[axis];
        if start.is_nonneg() && (size - &last - Dim::ONE).is_nonneg() {
            let mut axes = slices.clone();
            axes[axis].start = start;
            return b.add(Op::Slice(axes), &[x]).ok();
        }
        offset = offset + size;
    }
    None
}

/// `slice(broadcast x) = broadcast(slice x)`
fn slice_of_broadcast(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Slice(slices) = &site.op else { return None };
    let (repeated, Op::Broadcast(Broadcast { axes, .. })) = operand(b, site) else { return None };
    let (axes, x) = (axes.clone(), b.graph.args(repeated.node)[0]);
    let kept = axes.iter().map(|axis| slices[*axis].clone()).collect();
    let sliced = b.add(Op::Slice(kept), &[x]).ok()?;
    b.add(Op::Broadcast(Broadcast { shape: site.ty.shape.clone(), axes }), &[sliced]).ok()
}

/// `pad x = x` by nothing.
fn pad_of_nothing(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Pad(pads) = &site.op else { return None };
    pads.iter().all(|pad| pad.low.is(0) && pad.high.is(0) && pad.interior == 0).then_some(site.args[0])
}

/// `pad(pad x) = pad x` with one constant and nothing between elements.
fn pad_of_pad(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Pad(outer) = &site.op else { return None };
    let (padded, Op::Pad(inner)) = operand(b, site) else { return None };
    let inner = inner.clone();
    let args = b.graph.args(padded.node);
    let same = args[1] == site.args[1] || splat(b.graph, args[1]).is_some_and(|x| splat(b.graph, site.args[1]) == Some(x));
    let dense = outer.iter().chain(&inner).all(|pad| pad.interior == 0);
    (same && dense).then_some(())?;
    let both = |(x, y): (&PadAxis, &PadAxis)| PadAxis { low: &x.low + &y.low, high: &x.high + &y.high, interior: 0 };
    b.add(Op::Pad(outer.iter().zip(&inner).map(both).collect()), &args).ok()
}

/// `concat(x) = x`
fn concat_of_one(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    if let [x] = site.args[..] { Some(x) } else { None }
}

/// `concat(x, y) = concat(x)` where `y` has no elements along the axis.
fn concat_with_nothing(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Concat(axis) = site.op else { return None };
    let mut some: Vec<Value> = site.args.iter().copied().filter(|arg| !b.ty(*arg).shape[axis].is(0)).collect();
    if some.is_empty() {
        some.extend(site.args.first());
    }
    (some.len() < site.args.len()).then_some(())?;
    b.add(Op::Concat(axis), &some).ok()
}

/// `concat(concat(x, y), z) = concat(x, y, z)` along one axis, where the inner one has no other user.
fn concat_of_concat(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let nested = |b: &Build<'_>, place: usize| site.owns(b.graph, place) && *b.graph.op(site.args[place].node) == site.op;
    (0..site.args.len()).any(|place| nested(b, place)).then_some(())?;
    let mut flat = Vec::new();
    for (place, arg) in site.args.iter().enumerate() {
        if nested(b, place) {
            flat.extend(b.graph.args(arg.node));
        } else {
            flat.push(*arg);
        }
    }
    b.add(site.op.clone(), &flat).ok()
}

/// `reverse x = x` of no axes.
fn reverse_of_nothing(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Reverse(axes) = &site.op else { return None };
    axes.is_empty().then_some(site.args[0])
}

/// `reverse(reverse x) = reverse x` of the axes that only one of them reverses.
fn reverse_of_reverse(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Reverse(outer) = &site.op else { return None };
    let (reversed, Op::Reverse(inner)) = operand(b, site) else { return None };
    let once = (0..site.ty.rank()).filter(|axis| outer.contains(axis) != inner.contains(axis)).collect();
    let x = b.graph.args(reversed.node)[0];
    b.add(Op::Reverse(once), &[x]).ok()
}

/// `reverse(prefix(reverse x)) = prefix x` from the other end, where its axis is turned, and nobody else needs the inner one. Exact: the same
/// elements in the same order.
fn reverse_of_prefix(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Reverse(outer) = &site.op else { return None };
    let (combined, Op::Prefix(prefix)) = operand(b, site) else { return None };
    let (reversed, prefix) = (b.graph.args(combined.node)[0], *prefix);
    let Op::Reverse(inner) = b.graph.op(reversed.node) else { return None };
    (inner == outer && site.owns(b.graph, 0)).then_some(())?;
    let x = b.graph.args(reversed.node)[0];
    b.add(Op::Prefix(Prefix { reverse: prefix.reverse != outer.contains(&prefix.axis), ..prefix }), &[x]).ok()
}

/// `reverse(broadcast x) = broadcast(reverse x)`: only the axes of `x` are turned.
fn reverse_of_broadcast(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Reverse(axes) = &site.op else { return None };
    let (repeated, Op::Broadcast(broadcast)) = operand(b, site) else { return None };
    let broadcast = broadcast.clone();
    let turned = (0..broadcast.axes.len()).filter(|axis| axes.contains(&broadcast.axes[*axis])).collect();
    let x = b.graph.args(repeated.node)[0];
    let turned = b.add(Op::Reverse(turned), &[x]).ok()?;
    b.add(Op::Broadcast(broadcast), &[turned]).ok()
}

/// `reverse x = x` along axes of one element.
fn reverse_of_ones(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Reverse(axes) = &site.op else { return None };
    let more: Vec<usize> = axes.iter().copied().filter(|axis| !site.ty.shape[*axis].is(1)).collect();
    (more.len() < axes.len()).then_some(())?;
    b.add(Op::Reverse(more), &[site.args[0]]).ok()
}
