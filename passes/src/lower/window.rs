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
    let shape = &region.graph().ty(x).shape;
    let extreme = if window.kind == ReduceKind::Min { Extreme::Min } else { Extreme::Max };
    let place = if never_padded(&window.axes, shape, region.graph().ty(value).shape.iter()) {
        stage(region, at, (value, index), &sizes(&window.axes), |region, inside, outer, inner| {
            let (index, _) = element(&window.axes, shape, outer, inner);
            (Combine::Arg(extreme), region.pull(inside, x, &index))
        })
    } else {
        padded_arg(region, at, window, value, index)
    };
    at.cast(place, DType::I32)
}

fn never_padded<'d>(axes: &[WindowAxis], shape: &Shape, counts: impl Iterator<Item = &'d Dim>) -> bool {
    axes.iter().zip(shape.iter()).zip(counts).all(|((axis, size), count)| {
        let last = (count - Dim::ONE) * Dim::from(axis.stride) + Dim::from((axis.size - 1) * axis.dilation) - &axis.low;
        axis.low.is(0) && (size - last - Dim::ONE).is_nonneg()
    })
}

/// The first position inside the operand whose element is the extreme (or NaN, if that is it): an element may equal the
/// identity that stands for padding, which is why the extreme alone does not tell.
fn padded_arg(region: &mut Region<'_>, at: &mut Point, axes: &Window, value: Value, index: &[Index]) -> ValueId {
    let x = region.graph().args(value.node)[0];
    let ty = region.graph().ty(x);
    let lengths = sizes(&axes.axes);
    let fill = axes.kind.identity(ty.dtype);
    let load = |region: &mut Region<'_>, inside: &mut Point, outer: &[Dim], inner: &[Dim]| {
        let (index, conditions) = element(&axes.axes, &ty.shape, outer, inner);
        (region.pull_or(inside, x, &index, &conditions, fill), conditions)
    };
    // The extreme is known under the operand's name, the position under the result's own.
    let extreme = (Value { node: value.node, out: u16::MAX }, index);
    stage(region, at, (value, index), &lengths, |region, inside, outer, inner| {
        let wanted = stage(region, inside, extreme, &lengths, |region, inside, outer, inner| {
            (Combine::Reduce(axes.kind), load(region, inside, outer, inner).0)
        });
        let (own, conditions) = load(region, inside, outer, inner);
        let found = same(inside, own, wanted);
        let found = inside.test(&conditions).map_or(found, |test| inside.map(ScalarFn::And, &[test, found]));
        let place = inside.position(&Index::At(row_major(inner, &lengths)));
        let never = inside.constant(Scalar::highest(DType::I64));
        (Combine::Reduce(ReduceKind::Min), inside.map(ScalarFn::Select, &[found, place, never]))
    })
}

/// `x == y`, or both are NaN.
fn same(at: &mut Point, x: ValueId, y: ValueId) -> ValueId {
    let equal = at.map(ScalarFn::Eq, &[x, y]);
    if !at.body.dtype(x).is_float() {
        return equal;
    }
    let (x, y) = (at.map(ScalarFn::IsNan, &[x]), at.map(ScalarFn::IsNan, &[y]));
    let both = at.map(ScalarFn::And, &[x, y]);
    at.map(ScalarFn::Or, &[equal, both])
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
    let wanted = at.cast(wanted, DType::I64);
    let place = at.position(&Index::At(place));
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
    let (mut window, mut places, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
    for (((axis, position), number), count) in axes.iter().zip(outer).zip(inner).zip(shape.iter()) {
        let (reached, stride) = (position + &axis.low, Dim::from(axis.stride));
        let (own, place) = if axis.dilation == 1 {
            (reached.floor_div(&stride) - number, reached.modulo(&stride) + number * &stride)
        } else {
            let start = reached - number * Dim::from(axis.dilation);
            (undilated(&start, axis.stride, &mut conditions), number.clone())
        };
        conditions.push((own.clone(), count.clone()));
        // Past the window's end, where strides are longer than what is left of windows.
        conditions.push((place.clone(), Dim::from(axis.size)));
        window.push(own);
        places.push(place);
    }
    let own = region.pull_where(at, args[0], &exact(window.clone()), &conditions);
    let outer_guard = at.guard.len();
    at.guard.extend(conditions.iter().filter(|(position, limit)| !position.is_below(limit)).cloned());
    let own = chosen(region, at, (args[1], &window), row_major(&places, &sizes(axes)), own);
    at.guard.truncate(outer_guard);
    let zero = at.constant(Scalar::zero(at.body.dtype(own)));
    region.choose(at, &conditions, own, zero)
}
