//! Rewrites that preserve every bit, NaN and the sign of zero included: one named function a rewrite, its equation first.
//!
//! A worklist to a fixed point: a node is looked at again when an operand or a user of it changes, and every rewrite makes the
//! program smaller or moves it towards one form, so the time is near-linear. Never changes a type. Knows no machine.

mod contract;
mod control;
mod index;
mod map;
mod movement;
mod reduce;

use std::collections::VecDeque;

use graver_ir::{Args, Error, Function, Graph, Module, NodeId, Op, Scalar, Type, Value};

use crate::bodies::Given;
use crate::build::Build;
use crate::inline::has_transform;
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass =
    Pass { name: "simplify", about: "Rewrites operations to simpler ones that give the same bits.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    // Until derivatives are written out, names and stops mean something.
    let names = if module.functions.values().any(has_transform) { Names::Kept } else { Names::Removed };
    let mut changed = Changed::No;
    for function in module.functions.values_mut() {
        changed = changed.or(Worklist::new(function, names).run());
    }
    Ok(changed)
}

/// Whether [`Op::Alias`] and [`Op::StopGradient`] still have a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Kept,
    Removed,
}

/// A node that rewrites look at.
struct Site<'a> {
    op: Op,
    args: Args,
    ty: Type,
    given: &'a Given,
}

impl<'a> Site<'a> {
    /// The node, if any rewrite is of such.
    fn of(graph: &Graph, given: &'a Given, names: Names, node: NodeId) -> Option<(Self, &'static [Rewrite])> {
        let body = graph.node(node);
        let [ty] = body.outs.as_slice() else { return None };
        let rules = rules(&body.op, names);
        let site = || Self { op: body.op.clone(), args: graph.args(node), ty: ty.clone(), given };
        (!rules.is_empty()).then(|| (site(), rules))
    }

    /// Whether nobody else uses an operand: what makes it can then be replaced instead of repeated.
    fn owns(&self, graph: &Graph, slot: usize) -> bool {
        let value = self.args[slot];
        graph.has_one_use(value) && !self.given.has(value)
    }
}

/// A rewrite: a simpler value of the same type, if the equation's left side is met.
type Rewrite = fn(&mut Build<'_>, &Site<'_>) -> Option<Value>;

struct Worklist<'a> {
    function: &'a mut Function,
    given: Given,
    names: Names,
    queue: VecDeque<NodeId>,
    steps_left: usize,
}

impl<'a> Worklist<'a> {
    /// Rewrites that any one node of the original program may cause: far more than any does.
    const STEPS_A_NODE: usize = 1000;

    fn new(function: &'a mut Function, names: Names) -> Self {
        let queue: VecDeque<NodeId> = function.graph.topo().into();
        let steps_left = (queue.len() + 1) * Self::STEPS_A_NODE;
        let given = Given::of(function);
        Self { function, given, names, queue, steps_left }
    }

    fn run(mut self) -> Changed {
        let mut changed = Changed::No;
        while let Some(node) = self.queue.pop_front() {
            if self.visit(node) {
                changed = Changed::Yes;
            }
        }
        changed
    }

    fn visit(&mut self, node: NodeId) -> bool {
        let graph = &mut self.function.graph;
        if !graph.contains(node) {
            return false;
        }
        let Some((site, rules)) = Site::of(graph, &self.given, self.names, node) else { return false };
        let loc = graph.loc(node).clone();
        let mut b = Build::at(graph, &loc);
        let rewritten = rules.iter().find_map(|rule| rule(&mut b, &site));
        let added = std::mem::take(&mut b.added);
        self.queue.extend(added.iter().copied());
        let Some(new) = rewritten else {
            // A rewrite may give up half way.
            added.into_iter().rev().for_each(|node| self.remove_if_dead(node));
            return false;
        };
        self.steps_left = self.steps_left.checked_sub(1).expect("S1: rewrites come to an end");
        self.replace(node, new);
        true
    }

    fn replace(&mut self, old: NodeId, new: Value) {
        let users = self.function.graph.users(old);
        self.given.replace(self.function, old.out(0), new);
        self.queue.push_back(new.node);
        self.queue.extend(users.into_iter().map(|user| user.node));
        self.remove_if_dead(old);
    }

    /// Removes the node and what only it needed; operands that live on may now have one user.
    fn remove_if_dead(&mut self, node: NodeId) {
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            if !self.function.graph.contains(node) || self.is_live(node) {
                continue;
            }
            for arg in self.function.graph.args(node) {
                stack.push(arg.node);
                self.queue.push_back(arg.node);
            }
            self.function.graph.remove(node);
        }
    }

    fn is_live(&self, node: NodeId) -> bool {
        let graph = &self.function.graph;
        let is_given = || (0u16..).zip(&graph.node(node).outs).any(|(out, _)| self.given.has(node.out(out)));
        matches!(graph.op(node), Op::Param(_)) || graph.has_users(node) || is_given()
    }
}

/// Dispatch by family.
fn rules(op: &Op, names: Names) -> &'static [Rewrite] {
    match op {
        Op::Map(_) => map::MAPS,
        Op::Cast(_) => map::CASTS,
        Op::Reshape(_) => movement::RESHAPES,
        Op::Permute(_) => movement::PERMUTES,
        Op::Broadcast(_) => movement::BROADCASTS,
        Op::Slice(_) => movement::SLICES,
        Op::Pad(_) => movement::PADS,
        Op::Concat(_) => movement::CONCATS,
        Op::Reverse(_) => movement::REVERSES,
        Op::Reduce(_) => reduce::REDUCES,
        Op::Prefix(_) => reduce::PREFIXES,
        Op::Window(_) => reduce::WINDOWS,
        Op::Dot(_) => contract::DOTS,
        Op::Conv(_) => contract::CONVS,
        Op::Gather(_) => index::GATHERS,
        Op::Iota(_) => index::IOTAS,
        Op::DynamicSlice(_) => index::DYNAMIC_SLICES,
        Op::Alias | Op::StopGradient if names == Names::Removed => control::NAMES,
        Op::Alias
        | Op::StopGradient
        | Op::Bitcast(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Scatter(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::ArgReduce(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Philox(_)
        | Op::Param(_)
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => &[],
    }
}

/// The one value of all elements, where it is a constant: a scalar constant or a repetition of one.
pub(crate) fn splat(graph: &Graph, value: Value) -> Option<Scalar> {
    let repeated = matches!(graph.op(value.node), Op::Broadcast(_));
    let source = if repeated { graph.args(value.node)[0] } else { value };
    let Op::Const(array) = graph.op(source.node) else { return None };
    (array.numel() == 1).then(|| array.get(0))
}
