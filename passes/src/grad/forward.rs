//! Forward mode: tangents from `x` on to `y`.

use std::collections::BTreeMap;

use graver_ir::op::{Call, Composite};
use graver_ir::{Diag, Function, Graph, Module, NodeId, Op, Value};

use super::control::{call_vjp, is_custom};
use super::linear::apply;
use super::loops::{self, is_control};
use super::path::Path;
use super::{block, derivative, reverse};
use crate::blocks::whole_of;
use crate::bodies::outs;
use crate::build::Build;
use crate::inline::splice;

/// The tangents of `y` given those of `x`; zeros where a `y` depends on no `x`.
pub(super) fn expand(
    module: &mut Module,
    function: &mut Function,
    y: &[Value],
    x: &[Value],
    tangents: &[Value],
) -> Result<Vec<Value>, Diag> {
    let path = Path::between(&function.graph, x, y);
    let mut sweep = Sweep { module, known: BTreeMap::new(), replaced: Vec::new(), blocks: block::Known::default() };
    for (x, tangent) in x.iter().zip(tangents) {
        add(&mut function.graph, &mut sweep.known, x.node, *x, *tangent);
    }
    for node in &path.order {
        let op = function.graph.op(*node);
        if is_control(op) || whole_of(op).is_some() {
            sweep.push_control(&mut function.graph, &path, *node)?;
        } else if let Op::Call(call) = op.clone() {
            sweep.push_call(function, &path, *node, &call)?;
        } else {
            sweep.push_forward(&mut function.graph, &path, *node)?;
        }
    }
    let results = y.iter().map(|y| sweep.known.get(y).copied().unwrap_or_else(|| zeros(&mut function.graph, *y))).collect();
    let replaced = sweep.replaced;
    replaced.into_iter().for_each(|(old, new)| function.replace(old, new));
    Ok(results)
}

/// Puts bodies in the place of calls between `x` and `y` that bring a derivative for reverse mode: what they mean is their body, which has
/// a derivative in either. Gives `y` as they are afterwards.
pub(super) fn write_out_calls(module: &Module, function: &mut Function, x: &[Value], y: &[Value]) -> Vec<Value> {
    let mut y = y.to_vec();
    loop {
        let path = Path::between(&function.graph, x, &y);
        let brings = |op: &Op| matches!(op, Op::Call(call) if !is_custom(call)) && whole_of(op).is_none();
        let Some(node) = path.order.into_iter().find(|node| brings(function.graph.op(*node))) else { return y };
        let Op::Call(call) = function.graph.op(node).clone() else { return y };
        let (args, loc) = (function.graph.args(node), function.graph.loc(node).clone());
        let results = splice(&mut function.graph, module.function(call.func), &args, &loc);
        for (own, result) in outs(node, 0..call.results.len()).into_iter().zip(results) {
            function.replace(own, result);
            y.iter_mut().filter(|y| **y == own).for_each(|y| *y = result);
        }
        function.graph.remove(node);
    }
}

struct Sweep<'a> {
    module: &'a mut Module,
    /// The tangent of every value that has one so far. Looked up, never iterated.
    known: BTreeMap<Value, Value>,
    /// Results of control flow and of blocks, and what gives them and their tangents.
    replaced: Vec<(Value, Value)>,
    blocks: block::Known,
}

impl Sweep<'_> {
    /// From the tangents of a node's operands to its own: the sum over operands.
    fn push_forward(&mut self, graph: &mut Graph, path: &Path, node: NodeId) -> Result<(), Diag> {
        for (slot, arg) in path.operands(graph, node) {
            let Some(tangent) = self.known.get(&arg).copied() else { continue };
            let Some(steps) = derivative(graph, node, slot)? else { continue };
            let loc = graph.loc(node).clone();
            let pushed = apply(&mut Build::at(graph, &loc), &steps, tangent)?;
            add(graph, &mut self.known, node, node.into(), pushed);
        }
        Ok(())
    }

    /// By the user's rule: its transpose, which the call brings, transposed. That is linear in cotangents, so those may be anything.
    fn push_call(&mut self, function: &mut Function, path: &Path, node: NodeId, call: &Call) -> Result<(), Diag> {
        let loc = function.graph.loc(node).clone();
        if call.tag != Some(Composite::CustomForward) {
            let message = "the derivative of its own that this function has is one for reverse mode";
            return Err(Diag::new(message).op("custom_vjp").help("use grad or vjp, or custom_jvp").at(&loc));
        }
        let mut b = Build::at(&mut function.graph, &loc);
        let mut names = Vec::new();
        for ty in &call.results {
            let zeros = ty.dtype.is_float().then(|| b.zeros(ty));
            names.push(zeros.map(|zeros| b.add(Op::Alias, &[zeros])).transpose()?);
        }
        let (args, rule): (Vec<Value>, Vec<Value>) =
            call_vjp(self.module, path, (&mut function.graph, node), call, &names)?.into_iter().unzip();
        let tangents: Vec<Value> =
            args.iter().map(|arg| self.known.get(arg).copied().unwrap_or_else(|| zeros(&mut function.graph, *arg))).collect();
        let floats: Vec<Value> = names.iter().flatten().copied().collect();
        let pushed = reverse::expand(self.module, function, &rule, &tangents, &floats)?;
        let own = outs(node, 0..call.results.len()).into_iter().zip(&names).filter(|(_, name)| name.is_some());
        for ((own, _), tangent) in own.zip(pushed) {
            add(&mut function.graph, &mut self.known, node, own, tangent);
        }
        Ok(())
    }

    /// Control flow and blocks take all tangents at once, and are replaced by what gives their results and the tangents of those.
    fn push_control(&mut self, graph: &mut Graph, path: &Path, node: NodeId) -> Result<(), Diag> {
        let tangent = |arg: &Value| self.known.get(arg).copied().filter(|_| path.carries(graph, *arg));
        let tangents: Vec<Option<Value>> = graph.args(node).iter().map(tangent).collect();
        if tangents.iter().all(Option::is_none) {
            return Ok(());
        }
        let pushed = if whole_of(graph.op(node)).is_some() {
            block::push(self.module, &mut self.blocks, (graph, node), &tangents)?
        } else {
            loops::push(self.module, graph, node, &tangents)?
        };
        let own = outs(node, 0..pushed.values.len());
        for (place, tangent) in pushed.derivatives {
            add(graph, &mut self.known, node, own[place], tangent);
        }
        self.replaced.extend(own.into_iter().zip(pushed.values));
        Ok(())
    }
}

fn add(graph: &mut Graph, known: &mut BTreeMap<Value, Value>, node: NodeId, value: Value, tangent: Value) {
    let loc = graph.loc(node).clone();
    let sum = match known.get(&value) {
        Some(sum) => Build::at(graph, &loc).sum_of(*sum, tangent),
        None => tangent,
    };
    known.insert(value, sum);
}

fn zeros(graph: &mut Graph, y: Value) -> Value {
    let (ty, loc) = (graph.ty(y).clone(), graph.loc(y.node).clone());
    Build::at(graph, &loc).zeros(&ty)
}
