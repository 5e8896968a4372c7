//! Contractions: axes and their roles, bodies of both sides, and an epilogue at the sum's own index space.

use std::collections::BTreeSet;
use std::ops::Range;

use graver_ir::dim::Dim;
use graver_ir::kernel::{AxisSet, Contract, Index, InstKind, KernelBody, Side, ValueId};
use graver_ir::op::{ConvAxis, DotAxes};
use graver_ir::{DType, Graph, Op, Scalar, Shape, Value};

use super::map::wrapped;
use super::movement::{groups, undilated};
use super::point::{Condition, Point, at as exact};
use super::region::{Region, axes_in};
use super::stores;

/// Roles of axes, and where both operands and the result are at a point.
struct Roles {
    batch: Vec<Dim>,
    m: Vec<Dim>,
    n: Vec<Dim>,
    k: Vec<Dim>,
    lhs: Vec<Dim>,
    rhs: Vec<Dim>,
    result: Vec<Dim>,
    /// Where the left index is inside its operand, and the right.
    inside: [Vec<Condition>; 2],
}

/// The kernel of the region's only contraction.
pub(super) fn lower(region: &mut Region<'_>, contraction: Value) -> KernelBody {
    let graph = region.graph();
    let args = graph.args(contraction.node);
    let roles = if let Op::Dot(axes) = graph.op(contraction.node) {
        dot(region, axes, args[0], args[1])
    } else {
        conv(region, contraction)
    };
    let dtype = graph.ty(contraction).dtype;
    let a = side(region, args[0], &roles.lhs, &roles.inside[0]);
    let b = side(region, args[1], &roles.rhs, &roles.inside[1]);
    let mut at = Point::at_sum(contraction, exact(roles.result.clone()));
    let result = exact(roles.result.clone());
    let stores = stores::at_sum(region, &mut at, contraction, &result);
    let set = |dims: &[Dim]| axes_in(dims);
    let (batch, m, n, k) = (set(&roles.batch), set(&roles.m), set(&roles.n), set(&roles.k));
    debug_assert_eq!(batch.union(m).union(n).union(k), AxisSet::first(region.axes.len()), "every axis has a role");
    KernelBody::Contract(Contract {
        axes: region.axes.clone(),
        batch,
        m,
        n,
        k,
        a,
        b,
        acc: dtype.compute(),
        epilogue: at.body,
        stores,
    })
}

fn side(region: &mut Region<'_>, operand: Value, index: &[Dim], inside: &[Condition]) -> Side {
    let mut at = Point::default();
    let dtype = region.graph().ty(operand).dtype;
    let value = region.pull_or(&mut at, operand, &exact(index.to_vec()), inside, Scalar::zero(dtype));
    Side { body: at.body, value }
}

/// The sum itself, in the epilogue.
pub(super) fn sum(at: &mut Point, dtype: DType, value: Value, index: &[Index]) -> ValueId {
    let (contraction, place) = at.sum.as_ref().expect("L6: a contraction is read in its own epilogue only");
    assert!(*contraction == value && place == index, "L7: a sum is read at the point where it was summed");
    let sum = at.body.push(InstKind::Acc, dtype.compute());
    wrapped(at, sum, dtype)
}

fn dot(region: &mut Region<'_>, axes: &DotAxes, x: Value, y: Value) -> Roles {
    let graph = region.graph();
    let (lhs, rhs) = (&graph.ty(x).shape, &graph.ty(y).shape);
    let (mut left, mut right) = (vec![None; lhs.rank()], vec![None; rhs.rank()]);
    let mut paired = |region: &mut Region<'_>, l: &[usize], r: &[usize], apart: bool| -> Vec<Dim> {
        let pairs = l.iter().zip(r);
        let place = |(l, r): (&usize, &usize)| {
            let merged = || {
                let merged = merged_from(graph, (y, *r), &mut BTreeSet::new());
                merged.or_else(|| merged_from(graph, (x, *l), &mut BTreeSet::new()))
            };
            let merged = if apart { merged() } else { None };
            let sizes = merged.unwrap_or_else(|| vec![lhs[*l].clone()]);
            let index = sizes.iter().fold(Dim::ZERO, |index, size| index * size + region.axis(size));
            left[*l] = Some(index.clone());
            right[*r] = Some(index.clone());
            index
        };
        pairs.map(place).collect()
    };
    let batch = paired(region, &axes.lhs_batch, &axes.rhs_batch, false);
    let k = paired(region, &axes.lhs_contract, &axes.rhs_contract, true);
    let mut free = |sides: &mut Vec<Option<Dim>>, shape: &Shape| -> Vec<Dim> {
        let open = sides.iter_mut().zip(shape.iter()).filter(|(index, _)| index.is_none());
        open.map(|(index, size)| index.insert(region.axis(size)).clone()).collect()
    };
    let (m, n) = (free(&mut left, lhs), free(&mut right, rhs));
    let result = batch.iter().chain(&m).chain(&n).cloned().collect();
    let all = |sides: Vec<Option<Dim>>| sides.into_iter().map(|index| index.expect("every axis has a role")).collect();
    Roles { batch, m, n, k, lhs: all(left), rhs: all(right), result, inside: [const { Vec::new() }; 2] }
}

/// Parts of an axis at most.
const MOST_PARTS: usize = 4;

/// The sizes of the axes that an axis of a value is made of, where a reshape of what is computed makes it and they are known:
/// over each of them apart, no quotient tells where an element is. What was `seen` is not looked at again.
fn merged_from(graph: &Graph, (value, axis): (Value, usize), seen: &mut BTreeSet<(Value, usize)>) -> Option<Vec<Dim>> {
    if !seen.insert((value, axis)) {
        return None;
    }
    let args = graph.args(value.node);
    let op = graph.op(value.node);
    if let Op::Permute(perm) = op {
        return merged_from(graph, (args[0], perm.axes()[axis]), seen);
    }
    if let Op::Broadcast(broadcast) = op {
        let inner = broadcast.axes.iter().position(|outer| *outer == axis)?;
        return merged_from(graph, (args[0], inner), seen);
    }
    if matches!(op, Op::Map(_) | Op::Cast(_) | Op::Alias | Op::StopGradient) {
        return args.iter().find_map(|arg| merged_from(graph, (*arg, axis), seen));
    }
    // A parameter is read as if it had any shape.
    let reshaped = matches!(op, Op::Reshape(_)) && !matches!(graph.op(args[0].node), Op::Param(_));
    let (from, to) = (&graph.ty(*args.first().filter(|_| reshaped)?).shape, &graph.ty(value).shape);
    let (inner, outer) = groups(from, to).into_iter().find(|(_, outer)| outer.contains(&axis))?;
    let wide = |axes: Range<usize>, shape: &Shape| axes.filter(|axis| !shape[*axis].is(1)).collect::<Vec<usize>>();
    match (wide(inner, from).as_slice(), wide(outer, to).as_slice()) {
        ([inner], [_]) => merged_from(graph, (args[0], *inner), seen),
        (inner, [_]) if inner.len() <= MOST_PARTS => {
            let sizes: Vec<Dim> = inner.iter().map(|axis| from[*axis].clone()).collect();
            sizes.iter().all(|size| size.as_const().is_some()).then_some(sizes)
        }
        (_, _) => None,
    }
}

/// `y[n, o, i..] = sum over c, k.. of x[n, g*C/groups + c, i*stride - low + k*kernel_dilation ..] * kernel[o, c, k..]`
///
/// Of a dilated operand, results at `i = by * q + r` meet elements, and no zeros in between, at every `by`-th tap: which ones follows from the phase `r`. Where
/// results are whole numbers of phases, `r` is a batch axis, and there are so many fewer taps.
fn conv(region: &mut Region<'_>, value: Value) -> Roles {
    let graph = region.graph();
    let Op::Conv(conv) = graph.op(value.node) else { panic!("L5: a contraction is a dot or a convolution") };
    let args = graph.args(value.node);
    let (x, kernel, y) = (&graph.ty(args[0]).shape, &graph.ty(args[1]).shape, &graph.ty(value).shape);
    let spatial = conv.axes.len();
    // Either kind of groups is a batch axis of the contraction: it splits the features, or the rows.
    let parts = conv.groups.max(conv.batch_groups);
    let group = region.axis(&Dim::from(parts));
    let rows = region.axis(&y[conv.output[0]]);
    let size = |axis: usize| &y[conv.output[axis + 2]];
    let phases: Vec<Dim> = conv.axes.iter().enumerate().map(|(axis, way)| Dim::from(phases(way, size(axis)))).collect();
    let own: Vec<Dim> = phases.iter().map(|by| region.axis(by)).collect();
    let windows: Vec<Dim> = (0..spatial).map(|axis| region.axis(&size(axis).floor_div(&phases[axis]))).collect();
    let features_each = y[conv.output[1]].floor_div(&Dim::from(parts));
    let feature = region.axis(&features_each);
    let channel_last = conv.input[1] + 1 == x.rank();
    let mut channel = Dim::ZERO;
    if !channel_last {
        channel = region.axis(&kernel[conv.kernel[1]]);
    }
    let taps: Vec<Dim> = (0..spatial).map(|axis| region.axis(&kernel[conv.kernel[axis + 2]].ceil_div(&phases[axis]))).collect();
    if channel_last {
        channel = region.axis(&kernel[conv.kernel[1]]);
    }
    let (mut lhs, mut rhs, mut result) = (vec![Dim::ZERO; x.rank()], vec![Dim::ZERO; x.rank()], vec![Dim::ZERO; x.rank()]);
    let (row_part, channel_part) = if conv.groups > 1 { (Dim::ZERO, group.clone()) } else { (group.clone(), Dim::ZERO) };
    lhs[conv.input[0]] = row_part * &y[conv.output[0]] + &rows;
    lhs[conv.input[1]] = channel_part * &kernel[conv.kernel[1]] + &channel;
    result[conv.output[0]] = rows.clone();
    result[conv.output[1]] = &group * &features_each + &feature;
    rhs[conv.kernel[0]] = result[conv.output[1]].clone();
    rhs[conv.kernel[1]] = channel.clone();
    let mut inside = [const { Vec::new() }; 2];
    for (axis, way) in conv.axes.iter().enumerate() {
        let (by, window, mut tap) = (&phases[axis], &windows[axis], taps[axis].clone());
        let position = if by.is(1) {
            let position = window * Dim::from(way.stride) - &way.low + &tap * Dim::from(way.kernel_dilation);
            undilated(&position, way.input_dilation, &mut inside[0])
        } else {
            // `by * q + r - low + k = by * p`, so that `k = low - r` but for a multiple.
            let first = &way.low - &own[axis];
            let along = &tap - first.floor_div(by);
            tap = &along * by + first;
            inside[1].push((tap.clone(), kernel[conv.kernel[axis + 2]].clone()));
            window + along
        };
        inside[0].push((position.clone(), x[conv.input[axis + 2]].clone()));
        lhs[conv.input[axis + 2]] = position;
        rhs[conv.kernel[axis + 2]] = tap;
        result[conv.output[axis + 2]] = window * by + &own[axis];
    }
    let m = std::iter::once(rows).chain(windows).collect();
    let k = std::iter::once(channel).chain(taps).collect();
    let batch = std::iter::once(group).chain(own).collect();
    Roles { batch, m, n: vec![feature], k, lhs, rhs, result, inside }
}

/// The phases into which results fall by the taps that meet elements: 1 if they are not told apart.
fn phases(way: &ConvAxis, results: &Dim) -> i64 {
    let plain = way.stride == 1 && way.kernel_dilation == 1 && results.exact_div(&Dim::from(way.input_dilation)).is_some();
    if plain { way.input_dilation } else { 1 }
}
