//! Checks one body at its axes: K1, K5 to K9.

use std::collections::HashSet;

use super::note;
use super::program::wrong_dim;
use crate::dim::Dim;
use crate::dtype::{DType, Scalar};
use crate::kernel::{Access, Arg, AxisSet, Body, Bounds, Index, InstKind, Kernel, Mode, Program, Reduction, ValueId};
use crate::scalar::{Rule, ScalarFn};
use crate::verify::Findings;

/// Where a body stands.
pub(super) struct Scope<'a> {
    pub(super) program: &'a Program,
    pub(super) kernel: &'a Kernel,
    /// `k3 "conv_relu", stage 1`
    pub(super) place: String,
    /// The kernel's axes.
    pub(super) axes: &'a [Dim],
    /// Those that the body is evaluated at.
    pub(super) over: AxisSet,
    /// By stage, what earlier stages kept and reduced.
    pub(super) reduced: Vec<(AxisSet, &'a [Reduction])>,
    /// The type of the sum, where there is one.
    pub(super) acc: Option<DType>,
}

impl Scope<'_> {
    /// Notes what is wrong here, if anything.
    pub(super) fn note(&self, found: &mut Findings, wrong: Option<String>) {
        note(found, || self.place.clone(), wrong);
    }

    /// Notes a violation unless `holds`.
    pub(super) fn require(&self, found: &mut Findings, holds: bool, violation: impl Into<String>) {
        self.note(found, (!holds).then(|| violation.into()));
    }

    /// What is wrong with an expression that stands here, if anything.
    pub(super) fn wrong_dim(&self, dim: &Dim) -> Option<String> {
        let allowed = |axis: usize| if self.over.contains(axis) { self.axes.get(axis).cloned() } else { None };
        wrong_dim(self.program, dim, &allowed)
    }

    /// What is wrong with positions in an argument, if anything: K7, K8, K9.
    pub(super) fn wrong_index(&self, body: &Body, arg: &Arg, index: &[Index], bounds: Bounds) -> Option<String> {
        if index.len() != arg.shape.len() {
            return Some(format!("K7: {} indices for an argument of {} axes", index.len(), arg.shape.len()));
        }
        index.iter().zip(&arg.shape).find_map(|(index, size)| match index {
            Index::Value(value, dim) => match body.insts.get(value.index()) {
                Some(inst) if inst.dtype == DType::I64 => self.wrong_dim(dim),
                Some(inst) => Some(format!("K7: a position of type {}", inst.dtype)),
                None => Some(format!("K1: the position %{} is no instruction", value.0)),
            },
            Index::At(dim) => self.wrong_dim(dim).or_else(|| {
                let refuted = bounds == Bounds::Proven && dim.leaves(size);
                refuted.then(|| format!("K8: the index {dim} leaves an axis of {size}"))
            }),
        })
    }
}

/// Every instruction.
pub(super) fn check(scope: &Scope<'_>, body: &Body, found: &mut Findings) {
    let mut seen = HashSet::new();
    for (id, inst) in body.insts.iter().enumerate() {
        let mut operands = inst.kind.operands();
        operands.retain(|operand| operand.index() >= id);
        let wrong = match operands.first() {
            Some(operand) => Some(format!("K1: uses %{}, which is not earlier", operand.0)),
            None if !seen.insert(inst) => Some("K6: an equal instruction is there already".to_owned()),
            None => wrong_kind(scope, body, &inst.kind, inst.dtype),
        };
        note(found, || format!("{}, %{id}", scope.place), wrong);
    }
}

/// What is wrong with an instruction whose operands exist, if anything.
fn wrong_kind(scope: &Scope<'_>, body: &Body, kind: &InstKind, dtype: DType) -> Option<String> {
    let ty = |value: &ValueId| body.dtype(*value);
    match kind {
        InstKind::Const(scalar) => typed(dtype, scalar.dtype()),
        InstKind::Index(dim) => scope.wrong_dim(dim).or_else(|| typed(dtype, DType::I64)),
        InstKind::Load(access) => wrong_load(scope, body, access, dtype),
        InstKind::Map(function, args) => wrong_map(*function, &args.iter().map(ty).collect::<Vec<_>>(), dtype),
        InstKind::Cast(value) => converts_unsigned(ty(value), dtype)
            .then(|| format!("K5: a cast of {} to {dtype}, of which one is only stored", ty(value))),
        InstKind::Bitcast(value) => {
            let (from, bool) = (ty(value), ty(value) == DType::Bool || dtype == DType::Bool);
            (from.size() != dtype.size() || bool).then(|| format!("K5: the bits of {from} as {dtype}"))
        }
        InstKind::Reduced { stage, slot } => wrong_reduced(scope, (*stage, *slot), dtype),
        InstKind::Acc => match scope.acc {
            Some(acc) => typed(dtype, acc),
            None => Some("K5: `acc` outside of an epilogue".to_owned()),
        },
        InstKind::Check { ok, value, trap } => {
            let known = (trap.0 as usize) < scope.program.traps.len();
            let trap = (!known).then(|| format!("K22: there is no trap t{}", trap.0));
            trap.or_else(|| typed(ty(ok), DType::Bool)).or_else(|| typed(dtype, ty(value)))
        }
        InstKind::Philox { key, position, stream: _ } => {
            let keys = key.iter().find_map(|word| typed(ty(word), DType::U32));
            keys.or_else(|| typed(ty(position), DType::I64)).or_else(|| typed(dtype, DType::U32))
        }
    }
}

/// Whether a conversion is between a float and `u64`, which kernels know by its bits alone.
pub(super) fn converts_unsigned(from: DType, to: DType) -> bool {
    from == DType::U64 && to.is_float() || from.is_float() && to == DType::U64
}

fn typed(found: DType, expected: DType) -> Option<String> {
    (found != expected).then(|| format!("K5: the type is {found}, it must be {expected}"))
}

/// The scalar table's rule, in compute types. A select only moves a value, so it may do so in any type.
fn wrong_map(function: ScalarFn, args: &[DType], dtype: DType) -> Option<String> {
    let moves = function.rule() == Rule::Select;
    let stored = args.iter().find(|arg| **arg != arg.compute() && !moves);
    match function.infer(args) {
        Err(message) => Some(format!("K5: {function} {message}")),
        Ok(_) if stored.is_some() => Some(format!("K5: {function} in a type that is only stored")),
        Ok(result) => typed(dtype, result),
    }
}

fn wrong_load(scope: &Scope<'_>, body: &Body, access: &Access, dtype: DType) -> Option<String> {
    let Some(arg) = scope.kernel.args.get(access.arg) else { return Some(format!("K7: there is no argument p{}", access.arg)) };
    let fill = match access.bounds {
        Bounds::Fill(fill) => typed(Scalar::dtype(fill), arg.dtype),
        Bounds::Proven | Bounds::Clamp => None,
    };
    let written = (arg.mode == Mode::Write).then(|| format!("K7: p{} is only written", access.arg));
    let index = || scope.wrong_index(body, arg, &access.index, access.bounds);
    written.or_else(index).or(fill).or_else(|| typed(dtype, arg.dtype))
}

fn wrong_reduced(scope: &Scope<'_>, (stage, slot): (usize, usize), dtype: DType) -> Option<String> {
    let Some((keep, reductions)) = scope.reduced.get(stage) else {
        return Some(format!("K11: stage {stage} is not earlier"));
    };
    match reductions.get(slot) {
        None => Some(format!("K11: stage {stage} has no reduction {slot}")),
        Some(_) if !scope.over.contains_all(*keep) => Some(format!("K11: stage {stage} keeps axes that are not visited here")),
        Some(reduction) => typed(dtype, reduction.dtype),
    }
}
