//! Reverse mode: cotangents from `y` back to `x`.

use std::collections::BTreeMap;

use graver_ir::op::Call;
use graver_ir::{Diag, Function, Graph, Module, NodeId, Op, Value};

use super::linear::transpose;
use super::path::Path;
use super::{block, control, derivative, loops};
use crate::blocks::whole_of;
use crate::bodies::outs;
use crate::build::Build;

/// The cotangents of `x` given those of `y`; zeros where no `y` depends on an `x`.
pub(super) fn expand(
    module: &mut Module,
    function: &mut Function,
    y: &[Value],
    cotangents: &[Value],
    x: &[Value],
) -> Result<Vec<Value>, Diag> {
    let graph = &mut function.graph;
    let mut sweep = Sweep {
        module,
        path: Path::between(graph, x, y),
        sums: BTreeMap::new(),
        replaced: Vec::new(),
        blocks: block::Known::default(),
    };
    for (y, cotangent) in y.iter().zip(cotangents) {
        sweep.collect(graph, y.node, *y, *cotangent);
    }
    // Reversed: a user must be differentiated before its operands.
    for node in sweep.path.order.clone().into_iter().rev() {
        sweep.pull_back(graph, node)?;
    }
    let results = x.iter().map(|x| sweep.cotangent(graph, *x)).collect();
    let replaced = sweep.replaced;
    function.replace_all(&replaced.into_iter().filter(|(old, new)| old != new).collect::<Vec<_>>());
    Ok(results)
}

struct Sweep<'a> {
    module: &'a mut Module,
    path: Path,
    /// The cotangent of every value that has one so far. Looked up, never iterated.
    sums: BTreeMap<Value, Value>,
    /// Results of control flow and of blocks, and what gives them and saves residuals too.
    replaced: Vec<(Value, Value)>,
    blocks: block::Known,
}

impl Sweep<'_> {
    /// Adds to a value's cotangent, at the place of the user it comes from.
    fn collect(&mut self, graph: &mut Graph, user: NodeId, value: Value, cotangent: Value) {
        let loc = graph.loc(user).clone();
        let sum = match self.sums.get(&value) {
            Some(sum) => Build::at(graph, &loc).sum_of(*sum, cotangent),
            None => cotangent,
        };
        self.sums.insert(value, sum);
    }

    /// From a node's cotangent to those of its operands.
    fn pull_back(&mut self, graph: &mut Graph, node: NodeId) -> Result<(), Diag> {
        if loops::is_control(graph.op(node)) || whole_of(graph.op(node)).is_some() {
            return self.pull_back_control(graph, node);
        }
        if let Op::Call(call) = graph.op(node).clone() {
            return self.pull_back_call(graph, node, &call);
        }
        let Some(cotangent) = self.sums.get(&node.out(0)).copied() else { return Ok(()) };
        for (slot, arg) in self.path.operands(graph, node) {
            let Some(steps) = derivative(graph, node, slot)? else { continue };
            let (ty, loc) = (graph.ty(arg).clone(), graph.loc(node).clone());
            let pulled = transpose(&mut Build::at(graph, &loc), &steps, &ty, cotangent)
                .map_err(|diag| diag.op(graph.op(node).name()).at(&loc))?;
            self.collect(graph, node, arg, pulled);
        }
        Ok(())
    }

    fn pull_back_call(&mut self, graph: &mut Graph, node: NodeId, call: &Call) -> Result<(), Diag> {
        let outs = (0u16..).take(call.results.len());
        let cotangents: Vec<Option<Value>> = outs.map(|out| self.sums.get(&node.out(out)).copied()).collect();
        if cotangents.iter().all(Option::is_none) {
            return Ok(());
        }
        for (arg, cotangent) in control::call_vjp(self.module, &self.path, (graph, node), call, &cotangents)? {
            if self.path.carries(graph, arg) {
                self.collect(graph, node, arg, cotangent);
            }
        }
        Ok(())
    }

    fn pull_back_control(&mut self, graph: &mut Graph, node: NodeId) -> Result<(), Diag> {
        let own = outs(node, 0..graph.node(node).outs.len());
        let cotangents: Vec<Option<Value>> = own.iter().map(|out| self.sums.get(out).copied()).collect();
        if cotangents.iter().all(Option::is_none) {
            return Ok(());
        }
        let args = graph.args(node);
        let wanted: Vec<bool> = args.iter().map(|arg| self.path.carries(graph, *arg)).collect();
        let pulled = if whole_of(graph.op(node)).is_some() {
            block::pull(self.module, &mut self.blocks, (graph, node), &cotangents, &wanted)?
        } else {
            loops::pull(self.module, graph, node, &cotangents, &wanted)?
        };
        for (slot, cotangent) in pulled.derivatives {
            if wanted[slot] {
                self.collect(graph, node, args[slot], cotangent);
            }
        }
        self.replaced.extend(own.into_iter().zip(pulled.values));
        Ok(())
    }

    fn cotangent(&self, graph: &mut Graph, x: Value) -> Value {
        let (ty, loc) = (graph.ty(x).clone(), graph.loc(x.node).clone());
        self.sums.get(&x).copied().unwrap_or_else(|| Build::at(graph, &loc).zeros(&ty))
    }
}
