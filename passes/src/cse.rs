//! Merges operations that compute the same: equal operation, equal operands. The first one stays, with its place. Changes no value.
//!
//! Parameters and aliases are names, not computations: they never merge.

use std::collections::HashMap;

use graver_ir::{Error, Function, Module, Op, Type, Value};

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

/// What makes two nodes compute the same. Never iterated over, so a hash map's order is not seen.
type Key = (Op, Vec<Value>, Vec<Type>);

fn merge(function: &mut Function) -> Changed {
    let (mut seen, mut moved) = (HashMap::new(), HashMap::new());
    for node in function.graph.topo() {
        if is_a_name(function.graph.op(node)) {
            continue;
        }
        let first = *seen.entry(key(function, node)).or_insert(node);
        if first != node {
            for out in (0u16..).take(function.graph.node(node).outs.len()) {
                function.graph.replace_uses(node.out(out), first.out(out));
                moved.insert(node.out(out), first.out(out));
            }
            function.graph.remove(node);
        }
    }
    // Once for all: a program may have as many results as it has parameters to train.
    for result in &mut function.results {
        result.value = moved.get(&result.value).copied().unwrap_or(result.value);
    }
    if moved.is_empty() { Changed::No } else { Changed::Yes }
}

fn key(function: &Function, node: graver_ir::NodeId) -> Key {
    let mut args = function.graph.args(node);
    let body = function.graph.node(node);
    if let Op::Map(map) = &body.op
        && map.commutes()
    {
        args.sort_unstable();
    }
    (body.op.clone(), args, body.outs.clone())
}

fn is_a_name(op: &Op) -> bool {
    matches!(op, Op::Param(_) | Op::Alias)
}
