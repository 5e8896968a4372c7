//! Movement: arithmetic on indices.

use graver_ir::kernel::{Index, ValueId};
use graver_ir::op::{Broadcast, PadAxis, Perm, SliceAxis};
use graver_ir::{DType, Dim, Graph, NodeId, Op, Scalar, ScalarFn, Shape, Type, Value};

use super::point::{Condition, Point, at as exact, expression};
use super::region::Region;

/// Axis `i` of the result is axis `perm[i]` of the operand.
pub(super) fn permuted(perm: &Perm, index: &[Index]) -> Vec<Index> {
    perm.inverse().axes().iter().map(|place| index[*place].clone()).collect()
}

/// Axes that the operand lacks do not matter.
pub(super) fn broadcast(broadcast: &Broadcast, index: &[Index]) -> Vec<Index> {
    broadcast.axes.iter().map(|axis| index[*axis].clone()).collect()
}

/// `start + i * step`
pub(super) fn sliced(at: &mut Point, ranges: &[SliceAxis], index: &[Index]) -> Vec<Index> {
    ranges.iter().zip(index).map(|(range, index)| affine(at, index, range.step, &range.start)).collect()
}

/// `size - 1 - i` along the reversed axes.
pub(super) fn reversed(at: &mut Point, axes: &[usize], ty: &Type, index: &[Index]) -> Vec<Index> {
    let mut inner = index.to_vec();
    for axis in axes {
        inner[*axis] = affine(at, &index[*axis], -1, &(&ty.shape[*axis] - Dim::ONE));
    }
    inner
}

/// `start + index * step`, for run-time positions too.
fn affine(at: &mut Point, index: &Index, step: i64, start: &Dim) -> Index {
    match index {
        Index::At(dim) => Index::At(start + dim * Dim::from(step)),
        Index::Value(value, dim) => {
            let value = if step == 1 {
                *value
            } else {
                let step = at.constant(Scalar::int(DType::I64, step));
                at.map(ScalarFn::Mul, &[*value, step])
            };
            Index::Value(value, start + dim * Dim::from(step))
        }
    }
}

/// A parameter is loaded as if it had the result's shape; else the index is that of the same row-major position.
pub(super) fn reshape(region: &mut Region<'_>, at: &mut Point, value: Value, index: &[Index]) -> ValueId {
    let graph = region.graph();
    let (x, shape) = (graph.args(value.node)[0], &graph.ty(value).shape);
    if let Op::Param(_) = graph.op(x.node) {
        return region.load(at, x.node, (shape, index), None);
    }
    let inner = reshaped(shape, &graph.ty(x).shape, index);
    region.pull(at, x, &inner)
}

/// The index under the shape `to` of the element that has `index` under the shape `from`.
///
/// Axes are split into the least groups of equal sizes, and only inside a group is a position computed and split again.
pub(super) fn reshaped(from: &Shape, to: &Shape, index: &[Index]) -> Vec<Index> {
    let mut result = Vec::with_capacity(to.rank());
    for (outer, inner) in groups(from, to) {
        regrouped(&from[outer.clone()], &to[inner], &index[outer], &mut result);
    }
    result
}

fn regrouped(from: &[Dim], to: &[Dim], index: &[Index], result: &mut Vec<Index>) {
    let is_wide = |size: &&Dim| !size.is(1);
    let wide = from.iter().zip(index).find(|(size, _)| !size.is(1));
    if from.iter().filter(is_wide).count() <= 1 && to.iter().filter(is_wide).count() <= 1 {
        let only = wide.map_or(Index::At(Dim::ZERO), |(_, index)| index.clone());
        result.extend(to.iter().map(|size| if size.is(1) { Index::At(Dim::ZERO) } else { only.clone() }));
        return;
    }
    let position: Dim = from.iter().zip(index).fold(Dim::ZERO, |sum, (size, index)| sum * size + expression(index));
    let strides = Shape(to.to_vec()).strides();
    let quotients = strides.iter().map(|stride| position.floor_div(stride));
    result.extend(exact(quotients.zip(to).enumerate().map(|(place, (quotient, size))| {
        // The first axis of a group has nothing above it to take off.
        if place == 0 { quotient } else { quotient.modulo(size) }
    })));
}

/// Ranges of axes of both shapes whose products are equal, as small as can be told.
pub(crate) fn groups(from: &Shape, to: &Shape) -> Vec<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut groups = Vec::new();
    let (mut i, mut j, mut start) = (0, 0, (0, 0));
    let (mut left, mut right) = (Dim::ONE, Dim::ONE);
    loop {
        if left == right && (i, j) != start {
            groups.push((start.0..i, start.1..j));
            (start, left, right) = ((i, j), Dim::ONE, Dim::ONE);
        }
        // The side whose product divides the other's lags behind.
        let left_lags = right.exact_div(&left).is_some() && !right.is(0);
        if i < from.rank() && (left_lags || j == to.rank()) {
            left = left * &from[i];
            i += 1;
        } else if j < to.rank() {
            right = right * &to[j];
            j += 1;
        } else if i < from.rank() {
            left = left * &from[i];
            i += 1;
        } else {
            break;
        }
    }
    if (i, j) != start {
        groups.push((start.0..i, start.1..j));
    }
    groups
}

/// The operand inside, the value around it and between its elements.
pub(super) fn pad(region: &mut Region<'_>, at: &mut Point, axes: &[PadAxis], value: Value, index: &[Index]) -> ValueId {
    let graph = region.graph();
    let args = graph.args(value.node);
    let (mut inner, mut conditions) = (Vec::new(), Vec::new());
    for ((pad, index), size) in axes.iter().zip(index).zip(graph.ty(args[0]).shape.iter()) {
        let position = unpadded(pad, expression(index), &mut conditions);
        conditions.push((position.clone(), size.clone()));
        inner.push(Index::At(position));
    }
    if let Some(fill) = splat(region, args[1]) {
        return region.pull_or(at, args[0], &inner, &conditions, fill);
    }
    let outside = region.pull(at, args[1], &[]);
    let inside = region.pull_where(at, args[0], &inner, &conditions);
    region.choose(at, &conditions, inside, outside)
}

fn unpadded(pad: &PadAxis, index: &Dim, conditions: &mut Vec<Condition>) -> Dim {
    undilated(&(index - &pad.low), pad.interior + 1, conditions)
}

/// `position / by`, where it is divisible.
pub(super) fn undilated(position: &Dim, by: i64, conditions: &mut Vec<Condition>) -> Dim {
    if by == 1 {
        return position.clone();
    }
    conditions.push((position.modulo(&Dim::from(by)), Dim::ONE));
    position.floor_div(&Dim::from(by))
}

/// The constant that every element of a value is, if it is one.
fn splat(region: &Region<'_>, value: Value) -> Option<Scalar> {
    if let Op::Const(array) = region.graph().op(value.node) { super::index::splat(array) } else { None }
}

/// The first operand whose end is not reached.
pub(super) fn concat(region: &mut Region<'_>, at: &mut Point, axis: usize, value: Value, index: &[Index]) -> ValueId {
    let graph = region.graph();
    let position = expression(&index[axis]);
    let mut end = Dim::ZERO;
    let mut chosen = None;
    for arg in graph.args(value.node) {
        let size = &graph.ty(arg).shape[axis];
        let mut inner = index.to_vec();
        inner[axis] = Index::At(position - &end);
        let own = region.pull_where(at, arg, &inner, &[(position - &end, size.clone())]);
        chosen = Some(match chosen {
            None => own,
            Some(before) => region.choose(at, &[(position.clone(), end.clone())], before, own),
        });
        end = end + size;
    }
    chosen.expect("I4: a concatenation has an operand")
}

/// Whether a reshape only adds and removes axes of size one.
pub(crate) fn is_trivial_reshape(graph: &Graph, id: NodeId) -> bool {
    let (from, to) = (&graph.ty(graph.args(id)[0]).shape, &graph.ty(id.into()).shape);
    let wide = |shape: &[Dim]| shape.iter().filter(|size| !size.is(1)).count();
    groups(from, to).into_iter().all(|(outer, inner)| wide(&from[outer]) <= 1 && wide(&to[inner]) <= 1)
}
