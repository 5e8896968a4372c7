//! Which node goes to which region.

use std::collections::BTreeSet;

use graver_ir::{Function, Graph, NodeId, Op, Value};

use crate::Cx;
use crate::lower::index::splat;

/// Regions by number. A live node is in a region, or is free: then every region that needs it has its own copy. Parameters
/// and constant arrays are neither.
#[derive(Debug)]
pub(super) struct Partition {
    regions: Vec<Option<usize>>,
    free: Vec<bool>,
}

impl Partition {
    /// The region that computes a node.
    pub(super) fn region(&self, id: NodeId) -> Option<usize> {
        self.regions[id.index()]
    }

    /// Whether regions compute it for themselves.
    pub(super) fn is_free(&self, id: NodeId) -> bool {
        self.free[id.index()]
    }

    /// What a region must read to have this value: itself, or what free nodes are made of.
    pub(super) fn sources(&self, graph: &Graph, value: Value, found: &mut BTreeSet<Value>) {
        if !self.is_free(value.node) {
            found.insert(value);
            return;
        }
        for arg in graph.args(value.node) {
            self.sources(graph, arg, found);
        }
    }
}

/// Every op a region of its own.
pub(super) fn of(function: &Function, _cx: &mut Cx<'_>) -> Partition {
    let graph = &function.graph;
    let mut partition = Partition { regions: vec![None; graph.bound()], free: vec![false; graph.bound()] };
    let results: BTreeSet<NodeId> = function.results.iter().map(|result| result.value.node).collect();
    for id in live(function).into_iter().filter(|id| !is_given(graph.op(*id))) {
        let free = matches!(graph.op(id), Op::Const(_) | Op::Size(_)) && !results.contains(&id);
        partition.free[id.index()] = free;
        partition.regions[id.index()] = (!free).then_some(id.index());
    }
    partition
}

/// Whether a value is there without computing: parameters, and arrays of different elements.
fn is_given(op: &Op) -> bool {
    if let Op::Const(array) = op { splat(array).is_none() } else { matches!(op, Op::Param(_)) }
}

/// The nodes that results follow from, in topological order.
fn live(function: &Function) -> Vec<NodeId> {
    let graph = &function.graph;
    let mut alive = vec![false; graph.bound()];
    for result in &function.results {
        alive[result.value.node.index()] = true;
    }
    let mut order = graph.topo();
    for id in order.iter().rev().filter(|id| graph.contains(**id)) {
        if alive[id.index()] {
            for arg in graph.args(*id) {
                alive[arg.node.index()] = true;
            }
        }
    }
    order.retain(|id| alive[id.index()]);
    order
}
