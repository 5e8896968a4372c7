//! Checks what control flow has to do with its functions: I20 to I22.

use super::Findings;
use super::function::at;
use super::module::params;
use crate::dtype::DType;
use crate::graph::NodeId;
use crate::module::{FuncId, Function, Module};
use crate::op::{Op, scan_signature};
use crate::ty::Type;

/// The functions that a node of control flow names. Nothing to check at any other node.
pub(super) fn signature(module: &Module, caller: &Function, id: NodeId, found: &mut Findings) {
    let operands: Vec<&Type> = caller.graph.args(id).into_iter().map(|arg| caller.graph.ty(arg)).collect();
    let own = |types: &[&Type]| types.iter().map(|ty| (*ty).clone()).collect::<Vec<_>>();
    let mut check = |number: &str, func: FuncId, takes: &[Type], gives: &[Type]| {
        // That there is no such function is found elsewhere.
        let Some(callee) = module.functions.get(&func) else { return };
        let (params, results) = (own(&params(callee)), callee.result_types());
        found.require(params == takes && results == gives, || {
            let message = format!("{number}: `{}` is {params:?} -> {results:?}, it must be {takes:?} -> {gives:?}", callee.name);
            at(&caller.graph, id, message)
        });
    };
    match caller.graph.op(id) {
        Op::If(op) => {
            let takes = own(operands.get(1..).unwrap_or_default());
            check("I20", op.then, &takes, &op.results);
            check("I20", op.otherwise, &takes, &op.results);
        }
        Op::While(op) => {
            let takes = own(&operands);
            check("I21", op.cond, &takes, &[Type::scalar(DType::Bool)]);
            check("I21", op.body, &takes, &takes[..op.carried.min(takes.len())]);
        }
        Op::Scan(op) => {
            let (takes, gives) = scan_signature(op, &operands);
            check("I22", op.body, &takes, &gives);
        }
        Op::Map(_)
        | Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
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
        | Op::Param(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Call(_)
        | Op::Transform(_) => {}
    }
}
