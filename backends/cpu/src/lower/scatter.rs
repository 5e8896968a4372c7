//! Stores at run-time positions: one after the other along axes where points may meet, in parallel along the others. Of these, one along which
//! elements are neighbours, and positions alike, goes over lanes, inside of the axes where points meet: rows are added to rows.

use graver_ir::Dim;
use graver_ir::kernel::{Index, Scatter};

use super::body::Nothing;
use super::cx::{At, Cx};
use super::loops::bind;
use super::nest::block;
use super::{Lowered, Phase};
use crate::expand;
use crate::vector::{Elem, Load, Op, Val};

/// Points of the axis over lanes that a parallel point has.
const COLUMNS: i64 = 128;
/// Vectors of them that are visited at once.
const UNROLL: usize = 2;

pub(super) fn lower(mut cx: Cx<'_>, scatter: &Scatter) -> Lowered {
    let lane = lane(&cx, scatter);
    let free: Vec<usize> = scatter.free.iter().filter(|axis| Some(*axis) != lane).collect();
    let serial: Vec<usize> = (0..scatter.axes.len()).filter(|axis| !scatter.free.contains(*axis)).collect();
    let blocks = lane.map(|axis| scatter.axes[axis].ceil_div(&Dim::from(COLUMNS)));
    let points: Vec<Dim> = free.iter().map(|axis| scatter.axes[*axis].clone()).chain(blocks).collect();
    if points.is_empty() {
        cx.nested(&scatter.axes, &serial, None, 1, &mut |cx| point(cx, scatter));
    } else {
        cx.parallel(&points, &mut |cx, digits| {
            bind(cx, &free, digits);
            let columns = lane.map(|axis| {
                let (number, one) = (digits[free.len()], cx.b.int(1));
                let next = cx.b.add(number, one);
                (axis, block(cx, number, next, COLUMNS, &scatter.axes[axis]))
            });
            cx.nested(&scatter.axes, &serial, None, 1, &mut |cx| match columns {
                Some((lane, (begin, end))) => row(cx, scatter, lane, begin, end),
                None => point(cx, scatter),
            });
        });
    }
    let work = scatter.axes.iter().product::<Dim>() * Dim::from(scatter.body.insts.len() + 4);
    let phase = Phase { func: cx.b.finish(), extent: points.iter().product(), scratch: cx.scratch, work };
    Lowered::new(vec![phase], Dim::ZERO)
}

/// An axis along which elements of the target are neighbours, and which has no part in where and whether.
fn lane(cx: &Cx<'_>, scatter: &Scatter) -> Option<usize> {
    let (to, along, arg) = (&scatter.to, scatter.body.axes(), cx.arg(scatter.to.arg));
    let computed = to.index.iter().filter_map(|index| if let Index::Value(value, _) = index { Some(*value) } else { None });
    let decides: Vec<usize> = computed.chain(scatter.when).map(|value| value.index()).collect();
    let fits = |axis: &usize| {
        let depends = |index: &Index| index.dim().along(*axis).is_none_or(|(slope, _)| !slope.is(0));
        let mut own = to.index.iter().zip(&arg.shape).zip(&arg.strides).filter(|((index, _), _)| depends(index));
        let (Some(((index, size), stride)), None) = (own.next(), own.next()) else { return false };
        let is_inside = index.is_known() && index.dim().is_nonneg() && index.dim().is_below(size);
        let is_near = (index.dim() * stride).along(*axis).is_some_and(|(slope, _)| slope.is(1));
        let is_long = scatter.axes[*axis].as_const().is_none_or(|size| usize::try_from(size).is_ok_and(|size| size >= cx.lanes));
        is_inside && is_near && is_long && decides.iter().all(|value| !along[*value].contains(*axis))
    };
    scatter.free.iter().filter(fits).last()
}

/// One store, unless its condition fails or its position is outside.
fn point(cx: &mut Cx<'_>, scatter: &Scatter) {
    let values = cx.body(&scatter.body, &mut Nothing);
    where_it_counts(cx, scatter, &values, &mut |cx| combine(cx, scatter, &values));
}

/// The points of an axis over lanes, which have one condition.
fn row(cx: &mut Cx<'_>, scatter: &Scatter, lane: usize, begin: Val, end: Val) {
    cx.at[lane] = At::One(begin);
    let first = cx.body(&scatter.body, &mut Nothing);
    where_it_counts(cx, scatter, &first, &mut |cx| {
        cx.swept(lane, begin, end, UNROLL, &mut |cx| {
            let values = cx.body(&scatter.body, &mut Nothing);
            combine(cx, scatter, &values);
        });
    });
    cx.at[lane] = At::Unbound;
}

/// What is done unless the point's condition fails or its position is outside.
fn where_it_counts(cx: &mut Cx<'_>, scatter: &Scatter, values: &[Val], done: &mut dyn FnMut(&mut Cx<'_>)) {
    let inside = cx.inside_of(scatter.to.arg, &scatter.to.index, values);
    let when = scatter.when.map(|when| values[when.index()]);
    let condition = match (inside, when) {
        (Some(x), Some(y)) => Some(cx.b.and(x, y)),
        (x, y) => x.or(y),
    };
    match condition {
        None => done(cx),
        Some(condition) => {
            let open = cx.b.open_if(condition);
            done(cx);
            cx.b.close_if(open);
        }
    }
}

fn combine(cx: &mut Cx<'_>, scatter: &Scatter, values: &[Val]) {
    let arg = cx.arg(scatter.to.arg);
    let (offset, extra) = cx.offset(scatter.to.arg, &scatter.to.index, values);
    let base = cx.b.op(Op::Arg(scatter.to.arg));
    let (ptr, pattern) = cx.place(base, &offset, extra, arg.dtype);
    let value = cx.b.cast(values[scatter.to.value.index()], Elem::of(arg.dtype));
    let Some(function) = scatter.kind.function() else {
        cx.b.store(ptr, arg.dtype, pattern, value);
        return;
    };
    let old = cx.b.load_now(Load { ptr, dtype: arg.dtype, pattern, mask: None });
    let new = expand::map(&mut cx.b, function, &[old, value]);
    cx.b.store(ptr, arg.dtype, pattern, new);
}
