//! Forward mode: tangents from `x` on to `y`.

use std::collections::BTreeMap;

use graver_ir::{Diag, Graph, NodeId, Value};

use super::derivative;
use super::linear::apply;
use super::path::Path;
use crate::build::Build;

/// The tangents of `y` given those of `x`; zeros where a `y` depends on no `x`.
pub(super) fn expand(graph: &mut Graph, y: &[Value], x: &[Value], tangents: &[Value]) -> Result<Vec<Value>, Diag> {
    let path = Path::between(graph, x, y);
    let mut known: BTreeMap<Value, Value> = BTreeMap::new();
    for (x, tangent) in x.iter().zip(tangents) {
        add(graph, &mut known, x.node, *x, *tangent);
    }
    for node in &path.order {
        push_forward(graph, &path, &mut known, *node)?;
    }
    Ok(y.iter().map(|y| known.get(y).copied().unwrap_or_else(|| zeros(graph, *y))).collect())
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
