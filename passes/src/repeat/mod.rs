//! Keeps once what is repeated: runs of equal operations become calls of one function, a *block* ([`Composite::Block`]).
//!
//! What a compiler does to the layers of a deep model it does once for all of them. [`find`] looks for stretches of the graph in
//! which the same operations, of the same types and from the same lines, come again at equal distances; [`cut`] compares how
//! they are wired, and what the copies that agree read and give becomes the parameters and results of the block. Copies that differ
//! in numbers alone agree: the numbers become parameters. Derivatives are made of blocks as they are, lowering writes every
//! call out as launches of the same kernels. Changes no value; the order of additions stays.
//!
//! What is done with the derivatives of layers (an optimiser's updates) is a block only where the layers are: then [`crate::join`] brings
//! every gradient together with its use, which one kernel may compute. Convolutions are left where they are: layouts are chosen for whole chains of them.
//!
//! Nodes of a model file have a line each. Their lines do not count, but must go on by equal steps from copy to copy ([`crate::places`]). Such layers
//! are left as they are where they read what may be a causal mask: attention finds it where it is computed, not behind a block's operand.

mod cut;
mod find;

use graver_ir::op::{Call, Composite};
use graver_ir::{Error, FuncId, Module, NodeId, Op, Value};

use crate::bodies::{add, outs};
use crate::{Changed, Cx, Pass};
use cut::{Copy, Cut};

/// The pass.
pub(crate) const PASS: Pass =
    Pass { name: "repeat", about: "Keeps repeated operations once, as a function that is called.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    let ids: Vec<FuncId> = module.functions.keys().copied().collect();
    for id in ids {
        changed = changed.or(outline(module, id));
    }
    Ok(changed)
}

/// Cuts one function. Blocks are not cut further: they are compiled once as they are.
fn outline(module: &mut Module, id: FuncId) -> Changed {
    let sequence = find::sequence(module, id);
    // In order: what is differentiated comes before what is done with derivatives.
    let mut made: Vec<usize> = Vec::new();
    for run in find::runs(&sequence) {
        let function = module.function(id);
        let Some(cut) = Cut::of(function, &sequence.nodes, run) else { continue };
        if cut.reads_derivatives(function) && !made.contains(&cut.copies.len()) {
            continue;
        }
        made.push(cut.copies.len());
        let (body, name) = (cut.body(function), function.name.clone());
        let results = body.result_types();
        let func = add(module, body, &name, "block");
        let op = Op::Call(Call { func, tag: Some(Composite::Block), vjp: None, results });
        call(module, id, &op, &cut);
    }
    if made.is_empty() { Changed::No } else { Changed::Yes }
}

/// Puts calls in the place of the copies.
fn call(module: &mut Module, id: FuncId, op: &Op, cut: &Cut) {
    let function = module.function_mut(id);
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    for copy in &cut.copies {
        let node = function.graph.add(op.clone(), &copy.reads, copy.loc.clone());
        let node = node.expect("R1: a copy reads values of the block's types");
        let gives = cut.gives.iter().map(|(place, out)| copy.nodes[*place].out(*out));
        pairs.extend(gives.zip(outs(node, 0..cut.gives.len())));
    }
    // What one copy gives, the next may read.
    function.replace_all(&pairs);
    // Reversed: a user goes before its operands. Numbers stay, for others may use them.
    let is_number = |node: &NodeId| matches!(function.graph.op(*node), Op::Const(_));
    let inside = |copy: &Copy| cut.inside().map(|place| copy.nodes[place]).collect::<Vec<NodeId>>();
    let gone = cut.copies.iter().flat_map(inside).filter(|node| !is_number(node)).collect::<Vec<_>>();
    function.graph.remove_all(&gone.into_iter().rev().collect::<Vec<_>>());
}
