//! Removes what no result needs: nodes, parts of control flow, and functions that the entry does not reach. Parameters stay. Changes no value.
//!
//! A dead operation that could fail at run time (a position out of range) is removed like any other.

use std::collections::BTreeSet;

use graver_ir::{Error, FuncId, Function, Module, NodeId};

use crate::blocks::block_of;
use crate::inline::callees_first;
use crate::{Changed, Cx, Pass, narrow};

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "dce", about: "Removes what no result needs.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = remove_dead_functions(module);
    let mut order = callees_first(module)?;
    // No other becomes one.
    let called =
        |function: &Function| function.graph.nodes().filter_map(|node| block_of(function.graph.op(node))).collect::<Vec<_>>();
    let blocks: BTreeSet<FuncId> = module.functions.values().flat_map(called).collect();
    // Callers first: what they do not need of a loop, its body need not compute.
    while let Some(id) = order.pop() {
        if blocks.contains(&id) {
            changed = changed.or(narrow::block(module, id));
        }
        let mut function = std::mem::take(module.function_mut(id));
        changed = changed.or(remove_dead_nodes(&mut function));
        let before: BTreeSet<FuncId> = module.functions.keys().copied().collect();
        if narrow::run(module, &mut function) == Changed::Yes {
            changed = Changed::Yes;
            let _ = remove_dead_nodes(&mut function);
        }
        *module.function_mut(id) = function;
        // The bodies that were made just now are callees, and have not had their turn.
        order.extend(module.functions.keys().filter(|id| !before.contains(id)));
    }
    Ok(changed.or(remove_dead_functions(module)))
}

/// Removes the nodes that neither a result nor a parameter needs.
pub(crate) fn remove_dead_nodes(function: &mut Function) -> Changed {
    let live = live_nodes(function);
    let mut dead: Vec<NodeId> = function.graph.topo_of(|node| !live[node.index()]);
    // Reversed: a user goes before its operands.
    dead.reverse();
    function.graph.remove_all(&dead);
    if dead.is_empty() { Changed::No } else { Changed::Yes }
}

fn live_nodes(function: &Function) -> Vec<bool> {
    let mut live = vec![false; function.graph.bound()];
    let results = function.results.iter().map(|result| result.value.node);
    let mut stack: Vec<NodeId> = results.chain(function.params.iter().map(|param| param.node)).collect();
    while let Some(node) = stack.pop() {
        if !std::mem::replace(&mut live[node.index()], true) {
            stack.extend(function.graph.args(node).iter().map(|arg| arg.node));
        }
    }
    live
}

fn remove_dead_functions(module: &mut Module) -> Changed {
    let live = live_functions(module);
    let before = module.functions.len();
    module.functions.retain(|id, _| live.contains(id));
    if module.functions.len() == before { Changed::No } else { Changed::Yes }
}

fn live_functions(module: &Module) -> BTreeSet<FuncId> {
    let mut live = BTreeSet::new();
    let mut stack: Vec<FuncId> = module.entry().map(|(id, _)| id).into_iter().collect();
    while let Some(id) = stack.pop() {
        if live.insert(id) {
            stack.extend(callees(module.function(id)));
        }
    }
    live
}

/// The functions that a function names, derivatives included, in the order of its nodes.
pub(crate) fn callees(function: &Function) -> Vec<FuncId> {
    function.graph.nodes().flat_map(|node| function.graph.op(node).functions()).collect()
}
