//! The functions whose values have memory of their own: the entry, and what control flow and calls of blocks apply, directly or
//! through others.

use std::collections::BTreeSet;

use graver_ir::op::Composite;
use graver_ir::{FuncId, Module, Op};

/// The blocks of a module, ascending. Regions lead to none.
pub(crate) fn blocks(module: &Module) -> Vec<FuncId> {
    let mut found = BTreeSet::new();
    let mut open: Vec<FuncId> = module.entry().map(|(id, _)| id).into_iter().collect();
    while let Some(id) = open.pop() {
        if found.insert(id) {
            let graph = &module.function(id).graph;
            let applied = graph.nodes().map(|node| graph.op(node)).filter(|op| !is_region(op));
            open.extend(applied.flat_map(Op::functions));
        }
    }
    found.into_iter().collect()
}

/// Whether the operation calls a region that the fuse pass outlined, or what a kernel is known for.
pub(crate) fn is_region(op: &Op) -> bool {
    if let Op::Call(call) = op { matches!(call.tag, Some(Composite::Region | Composite::Attend(_))) } else { false }
}

/// The block that the operation calls: operations that are repeated, and kept once.
pub(crate) fn block_of(op: &Op) -> Option<FuncId> {
    if let Op::Call(call) = op { (call.tag == Some(Composite::Block)).then_some(call.func) } else { None }
}

/// The function that the operation calls, if derivatives are made of it whole: a block, or what derivatives compute again.
pub(crate) fn whole_of(op: &Op) -> Option<FuncId> {
    block_of(op).or_else(|| checkpoint_of(op))
}

/// The function that derivatives compute again.
pub(crate) fn checkpoint_of(op: &Op) -> Option<FuncId> {
    if let Op::Call(call) = op { (call.tag == Some(Composite::Checkpoint)).then_some(call.func) } else { None }
}

/// Whether the operation calls a block.
pub(crate) fn is_block(op: &Op) -> bool {
    block_of(op).is_some()
}
