//! Whether a value can be had at a run-time position: what may lie between a gather and the arrays that it reads.

use graver_ir::{Graph, NodeId, Op, Value};

use crate::lower::movement::{groups, is_trivial_reshape};

/// Whether lowering can pull the value where the axes marked `random` have run-time positions. `stored` nodes are arrays.
pub(super) fn reaches(graph: &Graph, value: Value, random: &[bool], stored: &dyn Fn(NodeId) -> bool) -> bool {
    let args = graph.args(value.node);
    if stored(value.node) || !random.contains(&true) {
        return true;
    }
    let into = |arg: Value, random: Vec<bool>| reaches(graph, arg, &random, stored);
    match graph.op(value.node) {
        Op::Param(_) | Op::Const(_) | Op::Size(_) | Op::Iota(_) => true,
        Op::Map(_) | Op::Cast(_) | Op::Bitcast(_) | Op::Alias | Op::StopGradient => {
            args.iter().all(|arg| into(*arg, random.to_vec()))
        }
        Op::Permute(perm) => into(args[0], perm.inverse().axes().iter().map(|place| random[*place]).collect()),
        Op::Broadcast(broadcast) => into(args[0], broadcast.axes.iter().map(|axis| random[*axis]).collect()),
        Op::Slice(_) | Op::Reverse(_) => into(args[0], random.to_vec()),
        Op::Reshape(shape) => {
            let from = &graph.ty(args[0]).shape;
            stored(args[0].node)
                || (is_trivial_reshape(graph, value.node) && {
                    let mut inner = vec![false; from.rank()];
                    for (outer, own) in groups(shape, from) {
                        let any = outer.clone().any(|axis| random[axis]);
                        own.filter(|axis| !from[*axis].is(1)).for_each(|axis| inner[axis] = any);
                    }
                    into(args[0], inner)
                })
        }
        Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Philox(_)
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => false,
    }
}
