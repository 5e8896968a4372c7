//! Which node goes to which region, and which values are computed again rather than kept.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::{Function, Graph, NodeId, Value};

use super::class::{Class, class, is_cheap, space};
use super::facts::Facts;
use super::grow::{Regions, grow};
use super::relation::{is_affine, is_random};
use crate::Cx;

/// Regions by number. A live node is in a region, or is free: then every region that needs it has its own copy. A node may be
/// both: computed in its region, and again in others. Parameters and constant arrays are neither.
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

    /// Whether a region other than the node's own computes it for itself.
    pub(super) fn is_free(&self, id: NodeId) -> bool {
        self.free[id.index()]
    }

    /// What `region` must read of others to have this value: itself, or what free nodes are made of.
    pub(super) fn sources(&self, graph: &Graph, region: usize, value: Value, found: &mut BTreeSet<Value>) {
        if self.region(value.node) == Some(region) {
            return;
        }
        if !self.is_free(value.node) {
            found.insert(value);
            return;
        }
        for arg in graph.args(value.node) {
            self.sources(graph, region, arg, found);
        }
    }
}

/// The regions of an entry.
pub(super) fn of(function: &Function, cx: &mut Cx<'_>) -> Partition {
    let facts = Facts::of(function, cx.target);
    let regions = grow(&facts);
    let mut partition = Partition { regions: vec![None; function.graph.bound()], free: facts.free.clone() };
    for id in facts.computed() {
        partition.regions[id.index()] = regions.region(id).map(NodeId::index);
    }
    recompute(&facts, &mut partition);
    remark(&facts, &regions, &partition, cx);
    partition
}

/// The most maps that are computed again instead of being kept in memory.
const AGAIN: usize = 4;

/// Values that others can compute again from values that are in memory anyway, with no more bytes read, are not kept.
fn recompute(facts: &Facts<'_>, partition: &mut Partition) {
    let mut kept = shared(facts, partition);
    for id in facts.computed() {
        if kept.contains(&id.into())
            && !facts.returned[id.index()]
            && let Some(chain) = chain(facts, partition, id, &kept)
        {
            for node in chain {
                partition.free[node.index()] = true;
            }
            kept.remove(&id.into());
        }
    }
}

/// Values that other regions than their own read.
fn shared(facts: &Facts<'_>, partition: &Partition) -> BTreeSet<Value> {
    let reads = facts.computed().into_iter().flat_map(|id| facts.reads[id.index()].iter());
    reads.filter(|read| partition.region(read.source.node) != partition.region(read.reader)).map(|read| read.source).collect()
}

/// The maps from kept values to this one, if computing them again is worth it and every reader can: contractions, sorts and control flow read
/// what is in memory.
fn chain(facts: &Facts<'_>, partition: &Partition, id: NodeId, kept: &BTreeSet<Value>) -> Option<Vec<NodeId>> {
    let graph = facts.graph();
    let foreign = |reader: &&NodeId| partition.region(**reader) != partition.region(id);
    let readable = facts.readers[id.index()].iter().filter(foreign).all(|reader| {
        let reads = facts.reads[reader.index()].iter().filter(|read| read.source.node == id);
        !matches!(class(graph, *reader), Class::Contract | Class::Sort | Class::Attend | Class::Control)
            && reads.into_iter().all(|read| is_affine(&read.relation) && !is_random(&read.relation))
    });
    let (mut nodes, mut sources) = (Vec::new(), BTreeSet::new());
    if !readable || !again(facts, kept, id, id, &mut nodes, &mut sources) {
        return None;
    }
    let wide = sources.iter().filter(|value| !space(&graph.ty(**value).shape).is_empty());
    let bytes: i64 = wide.map(|value| facts.bytes(*value)).sum();
    (bytes <= facts.bytes(id.into())).then_some(nodes)
}

fn again(
    facts: &Facts<'_>,
    kept: &BTreeSet<Value>,
    goal: NodeId,
    id: NodeId,
    nodes: &mut Vec<NodeId>,
    sources: &mut BTreeSet<Value>,
) -> bool {
    let graph = facts.graph();
    if class(graph, id) == Class::Given || (id != goal && kept.contains(&id.into())) {
        sources.insert(id.into());
        return true;
    }
    if !is_cheap(graph, id) {
        return facts.free[id.index()] && class(graph, id) == Class::Source && graph.args(id).is_empty();
    }
    if !facts.free[id.index()] {
        nodes.push(id);
    }
    nodes.len() <= AGAIN && graph.args(id).into_iter().all(|arg| again(facts, kept, goal, arg.node, nodes, sources))
}

/// One line for every pair of neighbours that are two kernels.
fn remark(facts: &Facts<'_>, regions: &Regions<'_>, partition: &Partition, cx: &mut Cx<'_>) {
    let graph = facts.graph();
    let mut said = BTreeMap::new();
    for id in facts.computed() {
        for read in &facts.reads[id.index()] {
            let (from, to) = (partition.region(read.source.node), partition.region(id));
            if let Some(refusal) = regions.refusal(read.source.node, id)
                && from != to
                && !partition.is_free(read.source.node)
                && said.insert((from, to), ()).is_none()
            {
                let (x, y) = (graph.node(read.source.node), graph.node(id));
                cx.remarks.push(format!(
                    "`{}` ({}) and `{}` ({}) are two kernels: {refusal}",
                    x.op.name(),
                    x.loc,
                    y.op.name(),
                    y.loc
                ));
            }
        }
    }
}
