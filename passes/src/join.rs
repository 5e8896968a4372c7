//! Makes one block of two whose calls go together in pairs: of a layer's derivative and the update of its parameters, so that a
//! gradient meets its use in one function, and in one kernel.
//!
//! A pair is a call and the only block that it reads from, directly and in no other way. Pairs that are wired alike become calls
//! of one function, which gives what both gave; dce takes away what nobody reads any more. Changes no value.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::op::{Call, Composite};
use graver_ir::{Error, FuncId, Function, Graph, Loc, Module, NodeId, Op, Role, Value};

use crate::blocks::{block_of, is_block};
use crate::bodies::{Given, add, outs, param_values, set_results};
use crate::inline::splice;
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "join", about: "Makes one block of two whose calls go together.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let ids: Vec<FuncId> = module.functions.keys().copied().collect();
    let mut changed = Changed::No;
    for id in ids {
        let graph = &module.function(id).graph;
        let calls = graph.topo_of(|node| is_block(graph.op(node)));
        let seconds = seconds(graph, &calls);
        if seconds.is_empty() {
            continue;
        }
        let (mut known, mut given) = (BTreeMap::new(), Given::of(module.function(id)));
        for call in calls {
            let graph = &module.function(id).graph;
            if seconds.contains(&callee(graph, call))
                && let Some(pair) = pair(graph, call)
            {
                join(module, id, &pair, &mut known, &mut given);
                changed = Changed::Yes;
            }
        }
    }
    Ok(changed)
}

/// The functions whose calls come second in pairs that are alike. A pair that is alone may be two layers of a chain.
fn seconds(graph: &Graph, calls: &[NodeId]) -> BTreeSet<FuncId> {
    let mut counts: BTreeMap<(FuncId, FuncId, Vec<Wire>), usize> = BTreeMap::new();
    for pair in calls.iter().filter_map(|call| pair(graph, *call)) {
        *counts.entry((callee(graph, pair.first), callee(graph, pair.second), pair.wires)).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|((_, second, _), _)| second).collect()
}

/// Two calls of blocks, and where the second one's operands come from.
struct Pair {
    first: NodeId,
    second: NodeId,
    wires: Vec<Wire>,
}

/// An operand of a pair's second call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wire {
    /// This result of the first.
    Result(u16),
    /// This operand of the first.
    Shared(usize),
    /// The next value that the first does not know.
    Own,
}

/// The blocks that pairs became, by functions and wires. Looked up, never iterated.
type Known = BTreeMap<(FuncId, FuncId, Vec<Wire>), FuncId>;

/// The pair whose second call this is.
fn pair(graph: &Graph, second: NodeId) -> Option<Pair> {
    let args = graph.args(second);
    let feeders: BTreeSet<NodeId> = args.iter().map(|arg| arg.node).filter(|node| is_block(graph.op(*node))).collect();
    let [first] = feeders.into_iter().collect::<Vec<_>>()[..] else { return None };
    let others = args.iter().filter(|arg| arg.node != first);
    if callee(graph, first) == callee(graph, second) || reaches(graph, first, others.map(|arg| arg.node).collect()) {
        return None;
    }
    let known = graph.args(first);
    let wire = |arg: &Value| match known.iter().position(|own| own == arg) {
        _ if arg.node == first => Wire::Result(arg.out),
        Some(slot) => Wire::Shared(slot),
        None => Wire::Own,
    };
    Some(Pair { first, second, wires: args.iter().map(wire).collect() })
}

/// Whether any of the nodes is computed from `from`.
fn reaches(graph: &Graph, from: NodeId, mut open: Vec<NodeId>) -> bool {
    let mut seen = vec![false; graph.bound()];
    while let Some(node) = open.pop() {
        if node == from {
            return true;
        }
        if !std::mem::replace(&mut seen[node.index()], true) {
            open.extend(graph.args(node).iter().map(|arg| arg.node));
        }
    }
    false
}

fn callee(graph: &Graph, node: NodeId) -> FuncId {
    block_of(graph.op(node)).expect("J1: the node calls a block")
}

/// Puts one call in the place of two.
fn join(module: &mut Module, id: FuncId, pair: &Pair, known: &mut Known, given: &mut Given) {
    let graph = &module.function(id).graph;
    let key = (callee(graph, pair.first), callee(graph, pair.second), pair.wires.clone());
    let func = match known.get(&key) {
        Some(func) => *func,
        None => {
            let (first, second) = (module.function(key.0), module.function(key.1));
            let (body, name) = (joined(first, second, &pair.wires), first.name.clone());
            add(module, body, &name, "joined")
        }
    };
    known.insert(key, func);
    let op = Op::Call(Call { func, tag: Some(Composite::Block), vjp: None, results: module.function(func).result_types() });
    let function = module.function_mut(id);
    let (mut args, loc) = (function.graph.args(pair.first), function.graph.loc(pair.first).clone());
    let own = function.graph.args(pair.second).into_iter().zip(&pair.wires).filter(|(_, wire)| **wire == Wire::Own);
    args.extend(own.map(|(arg, _)| arg));
    let node = function.graph.add(op, &args, loc).expect("J1: a pair takes what its calls took");
    let counts = [pair.first, pair.second].map(|old| function.graph.node(old).outs.len());
    let old = [outs(pair.first, 0..counts[0]), outs(pair.second, 0..counts[1])].concat();
    for (old, new) in old.into_iter().zip(outs(node, 0..counts[0] + counts[1])) {
        given.replace(function, old, new);
    }
    [pair.second, pair.first].into_iter().for_each(|old| function.graph.remove(old));
}

/// The first function's body and the second's behind it.
fn joined(first: &Function, second: &Function, wires: &[Wire]) -> Function {
    let mut function = first.clone();
    let mut results: Vec<Value> = function.results.iter().map(|result| result.value).collect();
    let params = param_values(&function);
    let mut args = Vec::new();
    for (param, wire) in param_values(second).into_iter().zip(wires) {
        args.push(match wire {
            Wire::Result(out) => results[usize::from(*out)],
            Wire::Shared(slot) => params[*slot],
            Wire::Own => {
                let (ty, loc) = (second.graph.ty(param).clone(), second.graph.loc(param.node).clone());
                function.add_param(ty, Role::Arg(format!("x{}", function.params.len())), loc).into()
            }
        });
    }
    results.extend(splice(&mut function.graph, second, &args, &Loc::UNKNOWN));
    set_results(&mut function, &results);
    function
}
