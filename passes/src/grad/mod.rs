//! Writes out recorded derivatives, [`Op::Transform`], as ordinary operations of the same graph. Nothing is optimised here.
//!
//! One table of derivatives, `<family>.rs`, serves both modes: a derivative is a chain of linear steps, which forward mode
//! applies to tangents, and reverse mode transposes onto cotangents. Rules build ordinary operations, so that derivatives nest:
//! inner ones are written out first, and differentiated like everything else.
//!
//! Invariants: G1, steps are linear operations; G2, calls without a derivative of their own, but for blocks and checkpoints, are inlined before; only nodes on a
//! path from `x` to `y` are differentiated; cotangents are added in the order of the graph, users before operands; new nodes
//! have the place of the node that they differentiate.

mod block;
mod contract;
mod control;
mod forward;
mod index;
mod linear;
mod loops;
mod map;
mod movement;
mod path;
mod prefix;
mod reduce;
mod residual;
mod reverse;
mod scan;
mod total;

use graver_ir::op::Transform;
use graver_ir::{Diag, Error, Function, Graph, Module, NodeId, Op, Value};

use crate::build::Build;
use crate::inline::callees_first;
use crate::{Changed, Cx, Pass, vmap};
use linear::Derivative;

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "grad", about: "Writes out recorded derivatives as ordinary operations.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    // Callees first: a derivative that is written out in its caller must hold no derivative to be written out.
    for id in callees_first(module)? {
        let mut function = std::mem::take(module.function_mut(id));
        // A map over derivatives, which are written out by now, is itself differentiated as what it computes.
        let batched = vmap::in_function(module, &mut function);
        let expanded = expand_all(module, &mut function);
        *module.function_mut(id) = function;
        changed = changed.or(batched?).or(expanded?);
    }
    Ok(changed)
}

fn expand_all(module: &mut Module, function: &mut Function) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    // In order: an inner derivative precedes the outer one that differentiates it.
    let graph = &function.graph;
    for node in graph.topo_of(|node| matches!(graph.op(node), Op::Transform(_))) {
        if let Op::Transform(transform) = *function.graph.op(node) {
            expand(module, function, node, transform)?;
            changed = Changed::Yes;
        }
    }
    Ok(changed)
}

fn expand(module: &mut Module, function: &mut Function, node: NodeId, transform: Transform) -> Result<(), Error> {
    if let Transform::Jvp { outputs, wrt } = transform {
        let args = function.graph.args(node);
        forward::write_out_calls(module, function, &args[outputs..outputs + wrt], &args[..outputs]);
    }
    let args = function.graph.args(node);
    let (y, x, results) = match transform {
        Transform::Vjp { outputs, wrt: _ } => {
            let (y, rest) = args.split_at(outputs);
            let (cotangents, x) = rest.split_at(outputs);
            (y, x, reverse::expand(module, function, y, cotangents, x))
        }
        Transform::Jvp { outputs, wrt } => {
            let (y, rest) = args.split_at(outputs);
            let (x, tangents) = rest.split_at(wrt);
            (y, x, forward::expand(module, function, y, x, tangents))
        }
    };
    let results = results.map_err(|first| all_refusals(&function.graph, transform, x, y, first))?;
    let pairs: Vec<(Value, Value)> = (0u16..).map(|out| node.out(out)).zip(results).collect();
    function.replace_all(&pairs);
    function.graph.remove(node);
    Ok(())
}

/// Every operation between `x` and `y` that has no derivative, so that the user hears of all at once; `first` if none is known.
fn all_refusals(graph: &Graph, transform: Transform, x: &[Value], y: &[Value], first: Diag) -> Error {
    let order = if matches!(transform, Transform::Vjp { .. }) { path::Path::between(graph, x, y).order } else { Vec::new() };
    let mut refused: Vec<Diag> = order.into_iter().filter_map(|node| loops::refusal(graph, node)).collect();
    if !refused.contains(&first) {
        refused.insert(0, first);
    }
    Error::from_diags(refused).expect("there is the first")
}

/// The derivative of a node's first result with respect to one operand; `None` where it is zero.
///
/// # Errors
/// If it has none: the operation, its place and the reason.
fn derivative(graph: &mut Graph, node: NodeId, slot: usize) -> Result<Option<Vec<linear::Step>>, Diag> {
    let (op, args, loc) = (graph.op(node).clone(), graph.args(node), graph.loc(node).clone());
    let answer = rule(&mut Build::at(graph, &loc), &op, &args, node.into(), slot);
    let steps = match answer {
        Ok(Derivative::Zero) => Ok(None),
        Ok(Derivative::Linear(steps)) => Ok(Some(steps)),
        Err(diag) => Err(diag),
    };
    steps.map_err(|diag| diag.op(op.name()).at(&loc))
}

/// The table: every operation's rule.
fn rule(b: &mut Build<'_>, op: &Op, args: &[Value], out: Value, slot: usize) -> Result<Derivative, Diag> {
    match op {
        Op::Map(function) => Ok(map::derivative(b, *function, args, out, slot)),
        // To integers: a step.
        Op::Cast(dtype) if !dtype.is_float() => Ok(Derivative::Zero),
        Op::Cast(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Reverse(_)
        | Op::Gather(_)
        | Op::DynamicSlice(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Dot(_)
        | Op::Conv(_) => Ok(Derivative::itself(op, args, slot)),
        Op::Pad(axes) => {
            let ty = b.ty(out).clone();
            movement::pad(b, axes, args, &ty, slot)
        }
        Op::Concat(axis) => Ok(movement::concat(b, *axis, args, slot)),
        Op::Reduce(reduce) => reduce::reduce(b, reduce, args[0], out),
        Op::Prefix(of) => prefix::prefix(b, *of, args[0], out),
        Op::Window(window) => reduce::window(b, window, args[0]),
        Op::Scatter(of) => index::scatter(b, *of, args, out, slot),
        Op::DynamicUpdate(_) => Ok(index::dynamic_update(b, op, args, slot)),
        Op::Alias => Ok(Derivative::same()),
        Op::If(_) | Op::While(_) | Op::Scan(_) => panic!("G4: control flow is differentiated whole"),
        Op::Call(_) => panic!("G2: a call brings its own derivative, or is written out"),
        // Bits are no numbers.
        Op::Bitcast(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::ArgReduce(_)
        | Op::Sort(_)
        | Op::WindowArg(_)
        | Op::Philox(_)
        | Op::Param(_)
        | Op::StopGradient => Ok(Derivative::Zero),
        Op::Transform(_) => panic!("G3: inner derivatives are written out first"),
    }
}
