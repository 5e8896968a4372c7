//! Windows: reductions over a window's own axes, and choices of one element of a window.

use graver_ir::dim::Dim;
use graver_ir::kernel::{Combine, Index, ValueId};
use graver_ir::op::{Extreme, ReduceKind, Window, WindowAxis, WindowPut};
use graver_ir::{DType, Scalar, ScalarFn, Shape, Value};

use super::movement::undilated;
use super::point::{Condition, Point, at as exact, expression};
use super::reduce::stage;
use super::region::Region;

fn sizes(axes: &[WindowAxis]) -> Vec<Dim> {
    axes.iter().map(|axis| Dim::from(axis.size)).collect()
}

/// The operand's index of an element of a window, and what says that it is not padding.
fn element(axes: &[WindowAxis], shape: &Shape, window: &[Dim], inner: &[Dim]) -> (Vec<Index>, Vec<Condition>) {
    let position = |((axis, window), inner): ((&WindowAxis, &Dim), &Dim)| {
        window * Dim::from(axis.stride) - &axis.low + inner * Dim::from(axis.dilation)
    };
    let positions: Vec<Dim> = axes.iter().zip(window).zip(inner).map(position).collect();
    let conditions = positions.iter().cloned().zip(shape.iter().cloned()).collect();
    (exact(positions), conditions)
}

/// The elements of a window combined; padding is the identity.
pub(super) fn window(region: &mut Region<'_>, at: &mut Point, window: &Window, value: Value, index: &[Index]) -> ValueId {
    let x = region.graph().args(value.node)[0];
    let ty = region.graph().ty(x);
    stage(region, at, (value, index), &sizes(&window.axes), |region, inside, outer, inner| {
        let (index, conditions) = element(&window.axes, &ty.shape, outer, inner);
        let element = region.pull_or(inside, x, &index, &conditions, window.kind.identity(ty.dtype));
        (Combine::Reduce(window.kind), element)
    })
}

/// The position in its window of the extreme element. Padding never wins.
pub(super) fn arg(region: &mut Region<'_>, at: &mut Point, window: &Window, value: Value, index: &[Index]) -> ValueId {
    let x = region.graph().args(value.node)[0];
    let ty = region.graph().ty(x);
    let (axes, lengths) = (&window.axes, sizes(&window.axes));
    let extreme = if window.kind == ReduceKind::Min { Extreme::Min } else { Extreme::Max };
    let is_padded = !never_padded(axes, &ty.shape, region.graph().ty(value).shape.iter());
    let fill = window.kind.identity(ty.dtype);
    let place = stage(region, at, (value, index), &lengths, |region, inside, outer, inner| {
        let (index, conditions) = element(axes, &ty.shape, outer, inner);
        let element =
            if is_padded { region.pull_or(inside, x, &index, &conditions, fill) } else { region.pull(inside, x, &index) };
        (Combine::Arg(extreme), element)
    });
    let place = at.cast(place, DType::I32);
    if is_padded { past_padding(at, axes, &ty.shape, index, place) } else { place }
}

fn never_padded<'d>(axes: &[WindowAxis], shape: &Shape, counts: impl Iterator<Item = &'d Dim>) -> bool {
    axes.iter().zip(shape.iter()).zip(counts).all(|((axis, size), count)| {
        let last = (count - Dim::ONE) * Dim::from(axis.stride) + Dim::from((axis.size - 1) * axis.dilation) - &axis.low;
        axis.low.is(0) && (size - last - Dim::ONE).is_nonneg()
    })
}

/// The first position inside the operand, if that is later than `place`; -1 where there is none.
///
/// Of elements that equal the identity, as padding does, the first one wins, which is the window's first: no other place may be
/// padding, and none inside is before the first inside.
fn past_padding(at: &mut Point, axes: &[WindowAxis], shape: &Shape, index: &[Index], place: ValueId) -> ValueId {
    let (mut firsts, mut conditions) = (Vec::new(), Vec::new());
    for ((axis, size), index) in axes.iter().zip(shape.iter()).zip(index) {
        let begin = expression(index) * Dim::from(axis.stride) - &axis.low;
        let dilation = Dim::from(axis.dilation);
        let first = if axis.low.is(0) { Dim::ZERO } else { (Dim::ZERO - &begin).ceil_div(&dilation).max_with(&Dim::ZERO) };
        if !reaches_inside(axis, size) {
            conditions.extend([(first.clone(), Dim::from(axis.size)), (begin + &first * dilation, size.clone())]);
        }
        firsts.push(first);
    }
    let first = row_major(&firsts, &sizes(axes));
    let place = if first.is(0) {
        place
    } else {
        let first = at.position(&Index::At(first));
        let first = at.cast(first, DType::I32);
        at.map(ScalarFn::Max, &[place, first])
    };
    let Some(is_there) = at.test(&conditions) else { return place };
    let nowhere = at.constant(Scalar::int(DType::I32, -1));
    at.map(ScalarFn::Select, &[is_there, place, nowhere])
}

/// Whether every window has an element inside of an axis, which windows begin `low` before and end `high` after at most.
fn reaches_inside(axis: &WindowAxis, size: &Dim) -> bool {
    let last = Dim::from((axis.size - 1) * axis.dilation);
    let (before, after) = (axis.low.is(0), (&last - &axis.high).is_nonneg());
    let is_dense = axis.dilation == 1 && (last - &axis.low).is_nonneg();
    size.is_positive() && after && (before || is_dense)
}

fn row_major(index: &[Dim], sizes: &[Dim]) -> Dim {
    index.iter().zip(sizes).fold(Dim::ZERO, |position, (index, size)| position * size + index)
}

/// The element at a run-time place of its window: of all its elements, the one at the place.
pub(super) fn take(region: &mut Region<'_>, at: &mut Point, axes: &[WindowAxis], value: Value, index: &[Index]) -> ValueId {
    let args = region.graph().args(value.node);
    let ty = region.graph().ty(args[0]);
    let lengths = sizes(axes);
    let (kind, zero) = choice(ty.dtype);
    stage(region, at, (value, index), &lengths, |region, inside, outer, inner| {
        let (index, conditions) = element(axes, &ty.shape, outer, inner);
        let own = region.pull_or(inside, args[0], &index, &conditions, zero);
        (Combine::Reduce(kind), chosen(region, inside, (args[1], outer), row_major(inner, &lengths), own))
    })
}

/// How one value among nothing else is combined: a sum of numbers with zeros, any of truth values.
fn choice(dtype: DType) -> (ReduceKind, Scalar) {
    (if dtype == DType::Bool { ReduceKind::Max } else { ReduceKind::Sum }, Scalar::zero(dtype))
}

/// `own` where the window's place is this one, else zero.
fn chosen(region: &mut Region<'_>, at: &mut Point, places: (Value, &[Dim]), place: Dim, own: ValueId) -> ValueId {
    let wanted = region.pull(at, places.0, &exact(places.1.to_vec()));
    let place = at.position(&Index::At(place));
    let place = at.cast(place, DType::I32);
    let here = at.map(ScalarFn::Eq, &[wanted, place]);
    let zero = at.constant(Scalar::zero(at.body.dtype(own)));
    at.map(ScalarFn::Select, &[here, own, zero])
}

/// Whether every element lies in at most one window.
pub(crate) fn tiles(axes: &[WindowAxis]) -> bool {
    axes.iter().all(|axis| axis.stride >= axis.size && axis.dilation == 1)
}

/// The values of the windows whose place an element is: of all windows along an axis, those that hold it, by how many strides they begin
/// before the last of them.
pub(super) fn put(region: &mut Region<'_>, at: &mut Point, put: &WindowPut, value: Value, index: &[Index]) -> ValueId {
    if tiles(&put.axes) {
        let outer: Vec<Dim> = index.iter().map(|index| expression(index).clone()).collect();
        return put_from(region, at, &put.axes, value, (&outer, &vec![Dim::ZERO; outer.len()]));
    }
    let holding: Vec<Dim> = put.axes.iter().map(|axis| Dim::from(holding(axis))).collect();
    stage(region, at, (value, index), &holding, |region, inside, outer, inner| {
        (Combine::Reduce(ReduceKind::Sum), put_from(region, inside, &put.axes, value, (outer, inner)))
    })
}

/// How many windows along an axis may hold an element: with distances between a window's elements, one for each of these.
fn holding(axis: &WindowAxis) -> i64 {
    if axis.dilation == 1 { (axis.size - 1) / axis.stride + 1 } else { axis.size }
}

/// What the window gives in which the element at `outer` has a place, of the number `inner` of those that may hold it, if there is one and the place is
/// chosen.
fn put_from(
    region: &mut Region<'_>,
    at: &mut Point,
    axes: &[WindowAxis],
    value: Value,
    (outer, inner): (&[Dim], &[Dim]),
) -> ValueId {
    let args = region.graph().args(value.node);
    let shape = &region.graph().ty(args[0]).shape;
    let (mut window, mut places, mut exists, mut holds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (((axis, position), number), count) in axes.iter().zip(outer).zip(inner).zip(shape.iter()) {
        let (reached, stride) = (position + &axis.low, Dim::from(axis.stride));
        let (own, place) = if axis.dilation == 1 {
            (reached.floor_div(&stride) - number, reached.modulo(&stride) + number * &stride)
        } else {
            let start = reached - number * Dim::from(axis.dilation);
            (undilated(&start, axis.stride, &mut holds), number.clone())
        };
        exists.push((own.clone(), count.clone()));
        // Past the window's end, where strides are longer than what is left of windows.
        holds.push((place.clone(), Dim::from(axis.size)));
        window.push(own);
        places.push(place);
    }
    let zero = Scalar::zero(region.graph().ty(args[0]).dtype);
    let own = region.pull_or(at, args[0], &exact(window.clone()), &exists, zero);
    let outer_guard = at.guard.len();
    at.guard.extend(exists.into_iter().filter(|(position, limit)| !position.is_below(limit)));
    let own = chosen(region, at, (args[1], &window), row_major(&places, &sizes(axes)), own);
    at.guard.truncate(outer_guard);
    let zero = at.constant(Scalar::zero(at.body.dtype(own)));
    region.choose(at, &holds, own, zero)
}
