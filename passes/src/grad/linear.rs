//! Derivatives as linear maps: chains of linear operations, applied to tangents forwards and transposed onto cotangents.

use graver_ir::op::{Op, Reduce, ReduceKind};
use graver_ir::{Diag, ScalarFn, Type, Value, infer};

use super::{contract, index, map, movement, prefix, reduce};
use crate::build::Build;

/// The derivative of an operation with respect to one operand.
#[derive(Debug)]
pub(super) enum Derivative {
    /// Zero wherever it exists: steps, comparisons, positions.
    Zero,
    /// The tangent goes through these steps in order; no steps: it stays as it is.
    Linear(Vec<Step>),
}

impl Derivative {
    /// `dy = dx`
    pub(super) const fn same() -> Self {
        Self::Linear(Vec::new())
    }

    /// One linear operation.
    pub(super) fn step(op: Op, before: &[Value], after: &[Value]) -> Self {
        Self::Linear(vec![Step::new(op, before, after)])
    }

    /// The operation itself, which is linear in this operand.
    pub(super) fn itself(op: &Op, args: &[Value], slot: usize) -> Self {
        Self::step(op.clone(), &args[..slot], &args[slot + 1..])
    }

    /// `dy = dx * factor`
    pub(super) fn scale(factor: Value) -> Self {
        Self::Linear(vec![Step::scale(factor)])
    }
}

/// A linear operation on a tangent, the other operands being constant: `op(before.., tangent, after..)`.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) op: Op,
    pub(super) before: Vec<Value>,
    pub(super) after: Vec<Value>,
}

impl Step {
    pub(super) fn new(op: Op, before: &[Value], after: &[Value]) -> Self {
        Self { op, before: before.to_vec(), after: after.to_vec() }
    }

    /// `tangent * factor`
    pub(super) fn scale(factor: Value) -> Self {
        Self::new(Op::Map(ScalarFn::Mul), &[], &[factor])
    }

    /// `tangent / divisor`
    pub(super) fn divide(divisor: Value) -> Self {
        Self::new(Op::Map(ScalarFn::Div), &[], &[divisor])
    }

    /// `select(condition, tangent, 0)`
    pub(super) fn where_true(condition: Value, zeros: Value) -> Self {
        Self::new(Op::Map(ScalarFn::Select), &[condition], &[zeros])
    }

    /// `select(condition, 0, tangent)`
    pub(super) fn where_false(condition: Value, zeros: Value) -> Self {
        Self::new(Op::Map(ScalarFn::Select), &[condition, zeros], &[])
    }

    /// The sum of the tangent along axes.
    pub(super) fn sum(axes: &[usize]) -> Self {
        Self::new(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: axes.to_vec() }), &[], &[])
    }

    /// The operand slot of the tangent.
    pub(super) fn slot(&self) -> usize {
        self.before.len()
    }

    /// The step's result for a tangent.
    pub(super) fn apply(&self, b: &mut Build<'_>, tangent: Value) -> Result<Value, Diag> {
        b.add(self.op.clone(), &[&self.before[..], &[tangent], &self.after].concat())
    }

    /// The type of the step's result for a tangent of type `x`.
    fn result_type(&self, b: &Build<'_>, x: &Type) -> Result<Type, Diag> {
        let (before, after) = (self.before.iter().map(|v| b.ty(*v)), self.after.iter().map(|v| b.ty(*v)));
        let types: Vec<&Type> = before.chain([x]).chain(after).collect();
        infer(&self.op, &types).map(|mut outs| outs.swap_remove(0))
    }
}

/// The tangent after all steps.
pub(super) fn apply(b: &mut Build<'_>, steps: &[Step], tangent: Value) -> Result<Value, Diag> {
    steps.iter().try_fold(tangent, |tangent, step| step.apply(b, tangent))
}

/// The cotangent of an operand of type `x`: the steps' transposes, last step first.
pub(super) fn transpose(b: &mut Build<'_>, steps: &[Step], x: &Type, cotangent: Value) -> Result<Value, Diag> {
    let mut types = vec![x.clone()];
    for step in &steps[..steps.len().saturating_sub(1)] {
        types.push(step.result_type(b, &types[types.len() - 1])?);
    }
    steps.iter().zip(&types).rev().try_fold(cotangent, |g, (step, x)| transpose_step(b, step, x, g))
}

/// The cotangent of one step's tangent, which has type `x`.
fn transpose_step(b: &mut Build<'_>, step: &Step, x: &Type, g: Value) -> Result<Value, Diag> {
    match &step.op {
        Op::Map(function) => map::transpose(b, *function, step, g),
        Op::Cast(_) => b.add(Op::Cast(x.dtype), &[g]),
        Op::Reshape(_) => b.add(Op::Reshape(x.shape.clone()), &[g]),
        Op::Permute(perm) => b.add(Op::Permute(perm.inverse()), &[g]),
        Op::Broadcast(broadcast) => movement::transpose_broadcast(b, broadcast, g),
        Op::Slice(axes) => movement::transpose_slice(b, axes, x, g),
        Op::Pad(axes) => movement::transpose_pad(b, axes, x, g),
        Op::Concat(axis) => movement::transpose_concat(b, *axis, step, x, g),
        Op::Reverse(axes) => b.add(Op::Reverse(axes.clone()), &[g]),
        Op::Reduce(reduce) => reduce::transpose_sum(b, reduce, x, g),
        Op::Prefix(of) => prefix::transpose(b, *of, g),
        Op::Window(window) => reduce::transpose_window_sum(b, window, x, g),
        Op::WindowTake(axes) => reduce::transpose_take(b, axes, step, x, g),
        Op::WindowPut(put) => reduce::transpose_put(b, put, step, g),
        Op::Gather(axes) => index::transpose_gather(b, *axes, step, x, g),
        Op::Scatter(of) => index::transpose_scatter(b, *of, step, x, g),
        Op::DynamicSlice(slice) => index::transpose_dynamic_slice(b, slice, step, x, g),
        Op::DynamicUpdate(axes) => index::transpose_dynamic_update(b, axes, step, x, g),
        Op::Dot(axes) => contract::transpose_dot(b, axes, step, x, g),
        Op::Conv(conv) => contract::transpose_conv(b, conv, step, x, g),
        Op::Bitcast(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::ArgReduce(_)
        | Op::Sort(_)
        | Op::WindowArg(_)
        | Op::Philox(_)
        | Op::Param(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => panic!("G1: a derivative's steps are linear, `{}` is not", step.op.name()),
    }
}
