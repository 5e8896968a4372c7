//! Positions that differ from one instance to another: an axis of instances is a batch axis of a gather and of a scatter.

use graver_ir::op::{Broadcast, DynamicSlice, GatherAxes, Iota, Scatter, ScatterKind};
use graver_ir::{DType, Diag, Dim, Op, ScalarFn, Shape, Value};

use super::{Lane, move_axis, stacked};
use crate::build::Build;

/// Where everything has its own instance: it is one more batch axis.
const fn batched(at: GatherAxes) -> GatherAxes {
    GatherAxes { axis: at.axis + 1, batch: at.batch + 1 }
}

/// What is the same for all is not repeated, unless it has batch axes of its own.
pub(super) fn gather(b: &mut Build<'_>, at: GatherAxes, args: &[Lane], size: &Dim) -> Result<Value, Diag> {
    match (args[0].mapped, args[1].mapped, at.batch) {
        // Instances are an axis that is not indexed.
        (true, false, 0) => b.add(Op::Gather(GatherAxes { axis: at.axis + 1, batch: 0 }), &[args[0].value, args[1].value]),
        // They are the first axis of the positions, which take the place of the axis.
        (false, true, 0) => {
            let picked = b.add(Op::Gather(at), &[args[0].value, args[1].value])?;
            move_axis(b, picked, at.axis, 0)
        }
        _ => {
            let [x, index] = [args[0].whole(b, size)?, args[1].whole(b, size)?];
            b.add(Op::Gather(batched(at)), &[x, index])
        }
    }
}

pub(super) fn scatter(b: &mut Build<'_>, of: Scatter, args: &[Lane], size: &Dim) -> Result<Value, Diag> {
    let [x, update] = [args[0].whole(b, size)?, args[2].whole(b, size)?];
    if !args[1].mapped && of.at.batch == 0 {
        let at = GatherAxes { axis: of.at.axis + 1, batch: 0 };
        return b.add(Op::Scatter(Scatter { kind: of.kind, at }), &[x, args[1].value, update]);
    }
    let index = args[1].whole(b, size)?;
    b.add(Op::Scatter(Scatter { kind: of.kind, at: batched(of.at) }), &[x, index, update])
}

/// A block at the same place of every instance is a block; at other places it is gathered, axis by axis.
pub(super) fn dynamic_slice(b: &mut Build<'_>, slice: &DynamicSlice, args: &[Lane], size: &Dim) -> Result<Value, Diag> {
    let (mut x, starts) = (args[0].whole(b, size)?, &args[1..]);
    if starts.iter().all(|start| !start.mapped) {
        let axes = slice.axes.iter().map(|axis| axis + 1).collect();
        let operands: Vec<Value> = std::iter::once(x).chain(starts.iter().map(|start| start.value)).collect();
        return b.add(Op::DynamicSlice(DynamicSlice { axes, sizes: slice.sizes.clone() }), &operands);
    }
    for ((axis, count), start) in slice.axes.iter().zip(&slice.sizes).zip(starts) {
        let index = positions(b, *start, count, size)?;
        x = b.add(Op::Gather(GatherAxes { axis: axis + 1, batch: 1 }), &[x, index])?;
    }
    Ok(x)
}

/// As [`dynamic_slice`]; at other places the block is scattered along the first axis, inside of what is gathered there.
pub(super) fn dynamic_update(b: &mut Build<'_>, axes: &[usize], args: &[Lane], size: &Dim) -> Result<Value, Diag> {
    let ([x, update], starts) = ([args[0].whole(b, size)?, args[1].whole(b, size)?], &args[2..]);
    if starts.iter().all(|start| !start.mapped) {
        let axes = axes.iter().map(|axis| axis + 1).collect();
        let operands: Vec<Value> = [x, update].into_iter().chain(starts.iter().map(|start| start.value)).collect();
        return b.add(Op::DynamicUpdate(axes), &operands);
    }
    update_along(b, axes, starts, (x, update), size)
}

fn update_along(
    b: &mut Build<'_>,
    axes: &[usize],
    starts: &[Lane],
    (x, update): (Value, Value),
    size: &Dim,
) -> Result<Value, Diag> {
    let ([axis, rest @ ..], [start, later @ ..]) = (axes, starts) else { return Ok(update) };
    let count = b.ty(update).shape[axis + 1].clone();
    let index = positions(b, *start, &count, size)?;
    let at = GatherAxes { axis: axis + 1, batch: 1 };
    let block = if rest.is_empty() {
        update
    } else {
        let there = b.add(Op::Gather(at), &[x, index])?;
        update_along(b, rest, later, (there, update), size)?
    };
    b.add(Op::Scatter(Scatter { kind: ScatterKind::Set, at }), &[x, index, block])
}

/// `[instances, count]`: the positions of a block, of every instance.
fn positions(b: &mut Build<'_>, start: Lane, count: &Dim, size: &Dim) -> Result<Value, Diag> {
    let shape = stacked(size, std::slice::from_ref(count));
    let starts = start.whole(b, size)?;
    let starts = b.add(Op::Broadcast(Broadcast { shape: shape.clone(), axes: vec![0] }), &[starts])?;
    let within = b.add(Op::Iota(Iota { dtype: DType::I64, shape: Shape(shape.0), axis: 1 }), &[])?;
    Ok(b.map(ScalarFn::Add, &[starts, within]))
}
