//! Evaluates operations whose operands are constants, by the interpreter, where the result is no larger than a few elements or
//! than its operands: repeated scalars stay repetitions, and weights are not multiplied by masks at compile time.
//!
//! An operation that fails on its constants (a position out of range) is left to fail at run time, at the user's line.

use graver_interp::eval_op;
use graver_ir::{Array, DType, Error, Function, Module, NodeId, Op, Scalar, Sizes};

use crate::build::Build;
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "fold", about: "Evaluates operations on constants.", run };

/// Results of up to this many elements are stored whatever they come from.
const FEW: usize = 16;

/// Results of more elements are never stored: compile time is not the time to compute in.
const MANY: usize = 1 << 16;

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    for function in module.functions.values_mut() {
        changed = changed.or(fold(function));
    }
    Ok(changed)
}

fn fold(function: &mut Function) -> Changed {
    let mut changed = Changed::No;
    for node in function.graph.topo() {
        if let Some(array) = value_of(function, node) {
            let loc = function.graph.loc(node).clone();
            let constant = Build::at(&mut function.graph, &loc).add(Op::Const(array), &[]);
            function.replace(node.into(), constant.expect("a constant has no constraint"));
            changed = Changed::Yes;
        }
    }
    changed
}

/// The value of a node that is worth a constant.
fn value_of(function: &Function, node: NodeId) -> Option<Array> {
    let body = function.graph.node(node);
    if !is_used(function, node) {
        return None;
    }
    if let Op::Size(dim) = &body.op {
        return dim.as_const().map(|size| Array::full([], Scalar::int(DType::I64, size)));
    }
    if is_kept(&body.op) {
        return None;
    }
    let args = function.graph.args(node);
    let constants: Vec<&Array> = args.iter().map(|arg| constant(function.graph.op(arg.node))).collect::<Option<_>>()?;
    let numel = body.outs[0].shape.as_const()?.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    let largest = constants.iter().map(|array| array.numel()).max().unwrap_or(0);
    (numel <= FEW.max(largest) && largest.max(numel) <= MANY).then_some(())?;
    eval_op(&body.op, &constants, &Sizes::new()).ok()?.pop()
}

/// Whether a node has users or is a result: a constant in the place of a dead node would be dead too.
fn is_used(function: &Function, node: NodeId) -> bool {
    function.graph.has_users(node) || function.results.iter().any(|result| result.value.node == node)
}

fn constant(op: &Op) -> Option<&Array> {
    if let Op::Const(array) = op { Some(array) } else { None }
}

/// What has no operands, or is not evaluated: names and stops mean something to derivatives, repetitions and random bits are
/// cheaper made than stored, calls, control flow and derivatives are others' work.
fn is_kept(op: &Op) -> bool {
    match op {
        Op::Const(_) | Op::Size(_) | Op::Iota(_) | Op::Param(_) => true,
        Op::Alias | Op::StopGradient | Op::Broadcast(_) | Op::Philox(_) | Op::Call(_) | Op::Transform(_) => true,
        Op::If(_) | Op::While(_) | Op::Scan(_) => true,
        Op::Map(_)
        | Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Dot(_)
        | Op::Conv(_) => false,
    }
}
