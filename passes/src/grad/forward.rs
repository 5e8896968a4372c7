//! Forward mode: tangents from `x` on to `y`.

use std::collections::BTreeMap;

use graver_ir::{Diag, Function, Graph, Module, NodeId, Value};

use super::derivative;
use super::linear::apply;
use super::loops::{self, is_control};
use super::path::Path;
use crate::bodies::outs;
use crate::build::Build;

/// The tangents of `y` given those of `x`; zeros where a `y` depends on no `x`.
pub(super) fn expand(
    module: &mut Module,
    function: &mut Function,
    y: &[Value],
    x: &[Value],
    tangents: &[Value],
) -> Result<Vec<Value>, Diag> {
    let path = Path::between(&function.graph, x, y);
    let (graph, mut replaced) = (&mut function.graph, Vec::new());
    let mut known: BTreeMap<Value, Value> = BTreeMap::new();
    for (x, tangent) in x.iter().zip(tangents) {
        add(graph, &mut known, x.node, *x, *tangent);
    }
    for node in &path.order {
        if is_control(graph.op(*node)) {
            push_control(module, graph, &path, &mut known, *node, &mut replaced)?;
        } else {
            push_forward(graph, &path, &mut known, *node)?;
        }
    }
    let results = y.iter().map(|y| known.get(y).copied().unwrap_or_else(|| zeros(graph, *y))).collect();
    replaced.into_iter().for_each(|(old, new)| function.replace(old, new));
    Ok(results)
}

/// From the tangents of a node's operands to its own: the sum over operands.
fn push_forward(graph: &mut Graph, path: &Path, known: &mut BTreeMap<Value, Value>, node: NodeId) -> Result<(), Diag> {
    for (slot, arg) in path.operands(graph, node) {
        let Some(tangent) = known.get(&arg).copied() else { continue };
        let Some(steps) = derivative(graph, node, slot)? else { continue };
        let loc = graph.loc(node).clone();
        let pushed = apply(&mut Build::at(graph, &loc), &steps, tangent)?;
        add(graph, known, node, node.into(), pushed);
    }
    Ok(())
}

/// Control flow takes all tangents at once, and is replaced by what gives its results and theirs.
fn push_control(
    module: &mut Module,
    graph: &mut Graph,
    path: &Path,
    known: &mut BTreeMap<Value, Value>,
    node: NodeId,
    replaced: &mut Vec<(Value, Value)>,
) -> Result<(), Diag> {
    let tangent = |arg: &Value| known.get(arg).copied().filter(|_| path.carries(graph, *arg));
    let tangents: Vec<Option<Value>> = graph.args(node).iter().map(tangent).collect();
    if tangents.iter().all(Option::is_none) {
        return Ok(());
    }
    let pushed = loops::push(module, graph, node, &tangents)?;
    let own = outs(node, 0..pushed.values.len());
    for (place, tangent) in pushed.derivatives {
        add(graph, known, node, own[place], tangent);
    }
    replaced.extend(own.into_iter().zip(pushed.values));
    Ok(())
}

fn add(graph: &mut Graph, known: &mut BTreeMap<Value, Value>, node: NodeId, value: Value, tangent: Value) {
    let loc = graph.loc(node).clone();
    let sum = match known.get(&value) {
        Some(sum) => Build::at(graph, &loc).sum_of(*sum, tangent),
        None => tangent,
    };
    known.insert(value, sum);
}

fn zeros(graph: &mut Graph, y: Value) -> Value {
    let (ty, loc) = (graph.ty(y).clone(), graph.loc(y.node).clone());
    Build::at(graph, &loc).zeros(&ty)
}
