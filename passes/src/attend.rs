//! Attention that stays a call, because the target has a kernel for it: which calls these are. What does not stay is written out
//! like every other call.

use graver_ir::op::{Attend, AttendPart, Composite, Transform};
use graver_ir::{DType, Graph, Module, NodeId, Op, Target};

/// The attention that an operation calls, if it calls one.
pub(crate) fn attend_of_op(op: &Op) -> Option<Attend> {
    let Op::Call(call) = op else { return None };
    if let Some(Composite::Attend(attend)) = call.tag { Some(attend) } else { None }
}

/// Whether an operation calls attention.
pub(crate) fn is_attend(op: &Op) -> bool {
    attend_of_op(op).is_some()
}

/// Whether attention may stay in this module, for a target that knows it: its derivative is known in reverse mode, once.
pub(crate) fn may_stay(module: &Module, target: &Target) -> bool {
    let mut transforms = module.functions.values().flat_map(|function| {
        let graph = &function.graph;
        graph.nodes().filter_map(|node| if let Op::Transform(transform) = graph.op(node) { Some(transform) } else { None })
    });
    let once = match (transforms.next(), transforms.next()) {
        (None, _) | (Some(Transform::Vjp { .. }), None) => true,
        (Some(Transform::Vjp { .. } | Transform::Jvp { .. }), _) => false,
    };
    once && target.attends
}

/// Whether a kernel takes these operands: of numbers that are computed in `f32`, of known widths, and of several queries. `across`: the
/// target knows sums over rows.
pub(crate) fn has_kernel(graph: &Graph, node: NodeId, across: bool) -> bool {
    let Some(attend) = attend_of_op(graph.op(node)) else { return false };
    if attend.part == AttendPart::Backward && !across {
        return false;
    }
    let args = graph.args(node);
    let [q, k, v] = [0, 1, 2].map(|place| graph.ty(args[place]));
    let rank = q.rank();
    let widths = [q, v].iter().all(|ty| ty.shape[rank - 1].as_const().is_some_and(|width| width > 0));
    let one_query = q.shape[rank - 2].is(1) && attend.part == AttendPart::Forward;
    let float = matches!(q.dtype, DType::F32 | DType::F16 | DType::BF16);
    widths && float && !one_query && [k, v].iter().all(|ty| ty.rank() == rank)
}
