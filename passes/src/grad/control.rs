//! Derivatives of control: names pass, stops stop, calls with a derivative of their own use it.

use graver_ir::op::{Call, Composite};
use graver_ir::{Diag, Graph, Loc, Module, NodeId, Value};

use super::path::Path;
use crate::bodies::outs;
use crate::build::Build;
use crate::inline::splice;

/// Whether a call's derivative is one that the user wrote.
pub(super) fn is_custom(call: &Call) -> bool {
    call.tag.is_some_and(Composite::is_custom)
}

/// The cotangents of a call's float operands by the derivative that it brings, which is written out in place.
///
/// The derivative takes the operands and a cotangent of every float result; it gives a cotangent of every float operand. One that the user
/// wrote takes the results too, and gives cotangents of the first operands.
pub(super) fn call_vjp(
    module: &Module,
    path: &Path,
    (graph, node): (&mut Graph, NodeId),
    call: &Call,
    cotangents: &[Option<Value>],
) -> Result<Vec<(Value, Value)>, Diag> {
    let (args, loc, custom) = (graph.args(node), graph.loc(node).clone(), is_custom(call));
    let Some(vjp) = call.vjp.map(|vjp| module.function(vjp)) else {
        panic!("G2: inline runs before grad, a call without a derivative of its own is left at {loc}");
    };
    let mut operands = args.clone();
    if custom {
        operands.extend(outs(node, 0..call.results.len()));
    }
    for (ty, cotangent) in call.results.iter().zip(cotangents).filter(|(ty, _)| ty.dtype.is_float()) {
        operands.push(cotangent.unwrap_or_else(|| Build::at(graph, &loc).zeros(ty)));
    }
    let floats: Vec<Value> = args.into_iter().filter(|arg| graph.ty(*arg).dtype.is_float()).collect();
    let (floats, closed) = floats.split_at(if custom { vjp.results.len() } else { floats.len() });
    if closed.iter().any(|arg| path.carries(graph, *arg)) {
        let message = "the derivative of its own that this function has says nothing of what the function closes over";
        return Err(Diag::new(message)
            .op(if call.tag == Some(Composite::CustomForward) { "custom_jvp" } else { "custom_vjp" })
            .help("pass it as an argument, or stop_gradient()")
            .at(&loc));
    }
    check_signature(graph, vjp, &operands, floats, &loc)?;
    let results = splice(graph, vjp, &operands, &loc);
    Ok(floats.iter().copied().zip(results).collect())
}

/// Refuses a derivative whose parameters and results are not what the call needs.
fn check_signature(
    graph: &Graph,
    vjp: &graver_ir::Function,
    operands: &[Value],
    floats: &[Value],
    loc: &Loc,
) -> Result<(), Diag> {
    let takes: Vec<String> = vjp.params.iter().map(|param| vjp.graph.ty(param.node.into()).to_string()).collect();
    let gives: Vec<String> = vjp.result_types().iter().map(ToString::to_string).collect();
    let texts = |values: &[Value]| values.iter().map(|value| graph.ty(*value).to_string()).collect::<Vec<_>>();
    let (needs, wanted) = (texts(operands), texts(floats));
    if takes == needs && gives == wanted {
        return Ok(());
    }
    let arrow = |from: &[String], to: &[String]| format!("({}) -> ({})", from.join(", "), to.join(", "));
    let message =
        format!("the derivative `{}` is {}, the call needs {}", vjp.name, arrow(&takes, &gives), arrow(&needs, &wanted));
    Err(Diag::new(message).op("call").at(loc))
}
