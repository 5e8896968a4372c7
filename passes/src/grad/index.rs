//! Derivatives of gather and scatter, which are each other's transposes.

use graver_ir::op::GatherAxes;
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
