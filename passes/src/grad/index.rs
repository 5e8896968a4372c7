//! Derivatives of gather and scatter, and of dynamic slices and updates, which are each other's transposes.

use graver_ir::op::{DynamicSlice, GatherAxes};
use graver_ir::{Diag, Op, Type, Value};

use super::linear::{Derivative, Step};
use crate::build::Build;

/// `scatter_add(x, index, update)`: `x` passes; the update is scattered into zeros.
pub(super) fn scatter_add(b: &mut Build<'_>, axes: GatherAxes, args: &[Value], slot: usize) -> Derivative {
    if slot == 0 {
        return Derivative::same();
    }
    let ty = b.ty(args[0]).clone();
    let zeros = b.zeros(&ty);
    Derivative::step(Op::ScatterAdd(axes), &[zeros, args[1]], &[])
}

/// The cotangents added at the positions that they were gathered from.
pub(super) fn transpose_gather(b: &mut Build<'_>, axes: GatherAxes, step: &Step, x: &Type, g: Value) -> Result<Value, Diag> {
    let zeros = b.zeros(x);
    b.add(Op::ScatterAdd(axes), &[zeros, step.after[0], g])
}

/// The cotangents at the positions that the update was added to.
pub(super) fn transpose_scatter(b: &mut Build<'_>, axes: GatherAxes, step: &Step, g: Value) -> Result<Value, Diag> {
    assert_eq!(step.slot(), 2, "G1: a scatter is a step of its update");
    b.add(Op::Gather(axes), &[g, step.before[1]])
}

/// `dynamic_update(x, update, start..)`, which is linear in both together: in one of them, the other being zero.
pub(super) fn dynamic_update(b: &mut Build<'_>, op: &Op, args: &[Value], slot: usize) -> Derivative {
    let other = b.ty(args[1 - slot]).clone();
    let zeros = b.zeros(&other);
    let (before, after) = if slot == 0 { (vec![], vec![zeros]) } else { (vec![zeros], vec![]) };
    Derivative::step(op.clone(), &before, &[&after, &args[2..]].concat())
}

/// The cotangent in its place among zeros.
pub(super) fn transpose_dynamic_slice(
    b: &mut Build<'_>,
    slice: &DynamicSlice,
    step: &Step,
    x: &Type,
    g: Value,
) -> Result<Value, Diag> {
    let zeros = b.zeros(x);
    b.add(Op::DynamicUpdate(slice.axes.clone()), &[&[zeros, g], &step.after[..]].concat())
}

/// Of the operand: the cotangent but for the block, which is zero; of the update: the block.
pub(super) fn transpose_dynamic_update(
    b: &mut Build<'_>,
    axes: &[usize],
    step: &Step,
    x: &Type,
    g: Value,
) -> Result<Value, Diag> {
    if step.slot() == 0 {
        return b.add(step.op.clone(), &[&[g], &step.after[..]].concat());
    }
    let sizes = axes.iter().map(|axis| x.shape[*axis].clone()).collect();
    b.add(Op::DynamicSlice(DynamicSlice { axes: axes.to_vec(), sizes }), &[&[g], &step.after[..]].concat())
}
