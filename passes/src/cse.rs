//! Merges operations that compute the same: equal operation, equal operands. The first one stays, with its place. Changes no value.
//!
//! Parameters and aliases are names, not computations: they never merge.

use graver_ir::{Error, Function, Graph, Module, NodeId, Op, Value};
use rustc_hash::FxHashMap;

use crate::bodies::outs;
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "cse", about: "Merges operations that compute the same.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    for function in module.functions.values_mut() {
        changed = changed.or(merge(function));
    }
    Ok(changed)
}

/// What makes two nodes compute the same: their types follow. Never iterated over, so a hash map's order is not seen.
type Key<'a> = (&'a Op, Vec<Value>);

fn merge(function: &mut Function) -> Changed {
    let graph = &function.graph;
    let mut seen: FxHashMap<Key<'_>, NodeId> = FxHashMap::default();
    // By node: the first one that computes the same.
    let mut firsts: Vec<Option<NodeId>> = vec![None; graph.bound()];
    let mut twins: Vec<(NodeId, NodeId)> = Vec::new();
    for node in graph.topo() {
        let first = if is_a_name(graph.op(node)) { node } else { *seen.entry(key(graph, node, &firsts)).or_insert(node) };
        firsts[node.index()] = Some(first);
        if first != node {
            twins.push((node, first));
        }
    }
    let of = |(node, first): &(NodeId, NodeId)| {
        let count = graph.node(*node).outs.len();
        outs(*node, 0..count).into_iter().zip(outs(*first, 0..count))
    };
    let pairs: Vec<(Value, Value)> = twins.iter().flat_map(of).collect();
    function.replace_all(&pairs);
    twins.iter().for_each(|(node, _)| function.graph.remove(*node));
    if twins.is_empty() { Changed::No } else { Changed::Yes }
}

fn key<'a>(graph: &'a Graph, node: NodeId, firsts: &[Option<NodeId>]) -> Key<'a> {
    let op = graph.op(node);
    let first = |arg: Value| firsts[arg.node.index()].expect("I5: operands come before users").out(arg.out);
    let mut args: Vec<Value> = graph.args(node).into_iter().map(first).collect();
    if let Op::Map(map) = op
        && map.commutes()
    {
        args.sort_unstable();
    }
    (op, args)
}

fn is_a_name(op: &Op) -> bool {
    matches!(op, Op::Param(_) | Op::Alias)
}
