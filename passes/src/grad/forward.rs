//! Forward mode: tangents from `x` on to `y`.

use std::collections::BTreeMap;

use graver_ir::{Diag, Function, Graph, Module, NodeId, Value};

use super::linear::apply;
use super::loops::{self, is_control};
use super::path::Path;
use super::{block, derivative};
use crate::blocks::is_block;
use crate::bodies::outs;
use crate::build::Build;

/// The tangents of `y` given those of `x`; zeros where a `y` depends on no `x`.
pub(super) fn expand(
    module: &mut Module,
    function: &mut Function,
    y: &[Value],
    x: &[Value],
    tangents: &[Value],
) -> Result<Vec<Value>, Diag> {
    let (path, graph) = (Path::between(&function.graph, x, y), &mut function.graph);
    let mut sweep = Sweep { module, known: BTreeMap::new(), replaced: Vec::new(), blocks: block::Known::default() };
    for (x, tangent) in x.iter().zip(tangents) {
        add(graph, &mut sweep.known, x.node, *x, *tangent);
    }
    for node in &path.order {
        if is_control(graph.op(*node)) || is_block(graph.op(*node)) {
            sweep.push_control(graph, &path, *node)?;
        } else {
            sweep.push_forward(graph, &path, *node)?;
        }
    }
    let results = y.iter().map(|y| sweep.known.get(y).copied().unwrap_or_else(|| zeros(graph, *y))).collect();
    let replaced = sweep.replaced;
    replaced.into_iter().for_each(|(old, new)| function.replace(old, new));
    Ok(results)
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

    /// Control flow and blocks take all tangents at once, and are replaced by what gives their results and the tangents of those.
    fn push_control(&mut self, graph: &mut Graph, path: &Path, node: NodeId) -> Result<(), Diag> {
        let tangent = |arg: &Value| self.known.get(arg).copied().filter(|_| path.carries(graph, *arg));
        let tangents: Vec<Option<Value>> = graph.args(node).iter().map(tangent).collect();
        if tangents.iter().all(Option::is_none) {
            return Ok(());
        }
        let pushed = if is_block(graph.op(node)) {
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
