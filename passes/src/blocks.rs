//! The functions whose values have memory of their own: the entry, and what control flow applies, directly or through others.

use std::collections::BTreeSet;

use graver_ir::op::Composite;
use graver_ir::{FuncId, Module, Op};

/// The blocks of a module, ascending. Calls that are left do not lead to any: they are regions.
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
