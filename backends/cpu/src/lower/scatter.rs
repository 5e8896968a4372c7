//! Stores at run-time positions: one after the other along axes where points may meet, in parallel along the others.

use graver_ir::Dim;
use graver_ir::kernel::Scatter;

use super::body::Nothing;
use super::cx::{At, Cx};
use super::{Lowered, Phase};
use crate::expand;
use crate::vector::{Elem, Load, Op, Pattern};

pub(super) fn lower(mut cx: Cx<'_>, scatter: &Scatter) -> Lowered {
    let free: Vec<usize> = scatter.free.iter().collect();
    let serial: Vec<usize> = (0..scatter.axes.len()).filter(|axis| !scatter.free.contains(*axis)).collect();
    let sizes: Vec<Dim> = free.iter().map(|axis| scatter.axes[*axis].clone()).collect();
    if free.is_empty() {
        cx.nested(&scatter.axes, &serial, None, 1, &mut |cx| point(cx, scatter));
    } else {
        cx.parallel(&sizes, &mut |cx, digits| {
            for (axis, digit) in free.iter().zip(digits) {
                cx.at[*axis] = At::One(*digit);
            }
            cx.nested(&scatter.axes, &serial, None, 1, &mut |cx| point(cx, scatter));
        });
    }
    let work = scatter.axes.iter().product::<Dim>() * Dim::from(scatter.body.insts.len() + 4);
    let phase = Phase { func: cx.b.finish(), extent: sizes.iter().product(), scratch: cx.scratch, work };
    Lowered::new(vec![phase], Dim::ZERO)
}

/// One store, unless its condition fails or its position is outside.
fn point(cx: &mut Cx<'_>, scatter: &Scatter) {
    let values = cx.body(&scatter.body, &mut Nothing);
    let inside = cx.inside_of(scatter.to.arg, &scatter.to.index, &values);
    let when = scatter.when.map(|when| values[when.index()]);
    let condition = match (inside, when) {
        (Some(x), Some(y)) => Some(cx.b.and(x, y)),
        (x, y) => x.or(y),
    };
    match condition {
        None => combine(cx, scatter, &values),
        Some(condition) => {
            let open = cx.b.open_if(condition);
            combine(cx, scatter, &values);
            cx.b.close_if(open);
        }
    }
}

fn combine(cx: &mut Cx<'_>, scatter: &Scatter, values: &[crate::vector::Val]) {
    let arg = cx.arg(scatter.to.arg);
    let (offset, extra) = cx.offset(scatter.to.arg, &scatter.to.index, values);
    let base = cx.b.op(Op::Arg(scatter.to.arg));
    let (ptr, _) = cx.place(base, &offset, extra, arg.dtype);
    let value = cx.b.cast(values[scatter.to.value.index()], Elem::of(arg.dtype));
    let Some(function) = scatter.kind.function() else {
        cx.b.store(ptr, arg.dtype, Pattern::One, value);
        return;
    };
    let old = cx.b.load_now(Load { ptr, dtype: arg.dtype, pattern: Pattern::One, mask: None });
    let new = expand::map(&mut cx.b, function, &[old, value]);
    cx.b.store(ptr, arg.dtype, Pattern::One, new);
}
