//! Which nodes a derivative concerns.

use std::collections::BTreeSet;

use graver_ir::{Graph, NodeId, Op, Value};

/// The nodes through which `y` depends on `x` by floats, operands before users.
pub(super) struct Path {
    pub(super) order: Vec<NodeId>,
    on: Vec<bool>,
}

impl Path {
    pub(super) fn between(graph: &Graph, x: &[Value], y: &[Value]) -> Self {
        let needed = ancestors(graph, y);
        let sources: BTreeSet<NodeId> = x.iter().map(|value| value.node).collect();
        let mut path = Self { order: Vec::new(), on: vec![false; graph.bound()] };
        for node in graph.topo() {
            if needed[node.index()] && (sources.contains(&node) || path.enters(graph, node)) {
                path.on[node.index()] = true;
                path.order.push(node);
            }
        }
        path
    }

    fn enters(&self, graph: &Graph, node: NodeId) -> bool {
        !matches!(graph.op(node), Op::StopGradient) && graph.args(node).iter().any(|arg| self.carries(graph, *arg))
    }

    /// Whether a value carries a dependence on `x`.
    pub(super) fn carries(&self, graph: &Graph, value: Value) -> bool {
        // Nodes that a rule adds lie behind the table: they are constants to this derivative.
        self.on.get(value.node.index()) == Some(&true) && graph.ty(value).dtype.is_float()
    }

    /// The operands of a node that carry one, with their slots.
    pub(super) fn operands(&self, graph: &Graph, node: NodeId) -> Vec<(usize, Value)> {
        if matches!(graph.op(node), Op::StopGradient) {
            return Vec::new();
        }
        graph.args(node).into_iter().enumerate().filter(|(_, arg)| self.carries(graph, *arg)).collect()
    }
}

/// Every node that `y` is computed from, `y` included, other than by way of what stops derivatives.
fn ancestors(graph: &Graph, y: &[Value]) -> Vec<bool> {
    let mut found = vec![false; graph.bound()];
    let mut stack: Vec<NodeId> = y.iter().map(|value| value.node).collect();
    while let Some(node) = stack.pop() {
        if !std::mem::replace(&mut found[node.index()], true) && !matches!(graph.op(node), Op::StopGradient) {
            stack.extend(graph.args(node).iter().map(|arg| arg.node));
        }
    }
    found
}
