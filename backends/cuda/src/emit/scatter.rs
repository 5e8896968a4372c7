//! Stores at run-time positions. A thread owns a point of the free axes and a share of the target's elements, and visits the
//! other axes in order: of the points that it sees it takes those that meet its share. So what happens to one element happens in the
//! order of the points, on one thread, whatever runs beside it.

use graver_ir::Dim;
use graver_ir::kernel::Scatter;

use super::body::Given;
use super::cx::{Cx, stored};
use super::{Emitted, THREADS, finish};

/// Shares that the target's elements are dealt into, where points may meet.
const OWNERS: i64 = 16;

pub(super) fn emit(mut cx: Cx<'_>, scatter: &Scatter) -> Emitted {
    let free: Vec<usize> = scatter.free.iter().collect();
    let serial: Vec<usize> = (0..scatter.axes.len()).filter(|axis| !scatter.free.contains(*axis)).collect();
    let owners = if serial.is_empty() { 1 } else { OWNERS };
    let points: Dim = free.iter().map(|axis| scatter.axes[*axis].clone()).product();
    let count = points * Dim::from(owners);
    let total = cx.dim(&count);
    cx.open(format!("for (idx point = gr_block() * {THREADS} + gr_thread(); point < {total}; point += gr_blocks() * {THREADS})"));
    let place = if owners == 1 {
        "point".to_owned()
    } else {
        cx.line(format!("const idx place = point / {owners}, owner = point % {owners};"));
        "place".to_owned()
    };
    cx.bind_digits(&free, &scatter.axes, &place);
    for axis in &serial {
        cx.open_axis(*axis, &scatter.axes[*axis]);
    }
    point(&mut cx, scatter, owners);
    serial.iter().rev().for_each(|axis| cx.close_axis(*axis));
    cx.close();
    finish(cx, THREADS, count.ceil_div(&Dim::from(THREADS)))
}

/// One store, unless its condition fails, its position is outside, or another thread owns it.
fn point(cx: &mut Cx<'_>, scatter: &Scatter, owners: i64) {
    let values = cx.body(&scatter.body, Given::Nothing);
    let target = &scatter.to;
    let inside = cx.inside(target.arg, &target.index, &values);
    let when = scatter.when.map(|when| values[when.index()].clone());
    let conditions: Vec<String> = when.into_iter().chain(inside).collect();
    let conditional = !conditions.is_empty();
    if conditional {
        cx.open(format!("if ({})", conditions.join(" && ")));
    }
    let offset = cx.offset(target.arg, &target.index, &values);
    let offset = cx.define("i64", "to", offset);
    if owners > 1 {
        cx.open(format!("if (gr_remainder<i64>({offset}, {owners}) == owner)"));
    }
    let (arg, dtype) = (target.arg, cx.arg(target.arg).dtype);
    let (ty, value) = (super::cx::computed(dtype), &values[target.value.index()]);
    let new = match scatter.kind.function() {
        None => format!("gr_cast<{ty}>({value})"),
        Some(function) => format!("gr_{}(gr_get(p{arg}[{offset}]), gr_cast<{ty}>({value}))", function.name()),
    };
    cx.line(format!("p{arg}[{offset}] = gr_put<{}>({new});", stored(dtype)));
    if owners > 1 {
        cx.close();
    }
    if conditional {
        cx.close();
    }
}
