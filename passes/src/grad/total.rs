//! Sums over the iterations of a scan, taken after it where that is one contraction.
//!
//! What a closed-over value gets is the sum of what every iteration gives. Where an iteration gives a product of two of its values (the
//! gradient of a weight, by a contraction or a convolution), both are stacked, and the sum over iterations joins the sums of the product:
//! `sum_t a_t . b_t = [a] . [b]`.
//! Sums and movement go through. Everything else is a term that is added up from one iteration to the next.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::op::{DotAxes, Reduce, ReduceKind};
use graver_ir::{Diag, Graph, Op, ScalarFn, Value};

use super::residual::Times;
use crate::build::Build;
use crate::vmap::sum_of_convs;

/// How the sums are taken.
#[derive(Default)]
pub(super) struct Totals {
    /// Values whose stacks are needed after the loop, ascending.
    pub(super) stacked: Vec<Value>,
    /// Values that are added up inside of it.
    pub(super) terms: Vec<Value>,
}

impl Totals {
    /// For the cotangents of closed-over parameters.
    pub(super) fn plan(graph: &Graph, times: &Times, gradients: &[(usize, Value)]) -> Self {
        let (mut stacked, mut sums, mut terms) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        let mut open: Vec<Value> = gradients.iter().map(|(_, value)| *value).filter(|value| !is_zero(graph, *value)).collect();
        let mut seen = BTreeSet::new();
        while let Some(value) = open.pop() {
            if !seen.insert(value) {
                continue;
            }
            // A derivative that a user wrote need not be linear in cotangents: what does not depend on them is a term of every iteration.
            if !times.is_late(value) {
                terms.insert(value);
                continue;
            }
            let args = graph.args(value.node);
            match role(graph, value) {
                Role::Through(count) => open.extend(args[..count].iter().filter(|arg| !is_zero(graph, **arg))),
                Role::Product if !args.iter().any(|arg| times.is_invariant(*arg)) => stacked.extend(args),
                Role::Sum => sums.push((value, args[0])),
                Role::Product | Role::Other => drop(terms.insert(value)),
            }
        }
        // A sum costs no memory where what it sums is stacked anyway.
        terms.extend(sums.into_iter().filter(|(_, of)| !stacked.contains(of)).map(|(value, _)| value));
        Self { stacked: stacked.into_iter().collect(), terms: terms.into_iter().collect() }
    }

    /// The total of a value of the body, after the loop. `known` begins with the sums that the loop has taken.
    pub(super) fn value(
        &self,
        b: &mut Build<'_>,
        graph: &Graph,
        value: Value,
        (known, stacks): (&mut BTreeMap<Value, Value>, &BTreeMap<Value, Value>),
    ) -> Result<Value, Diag> {
        if let Some(total) = known.get(&value) {
            return Ok(*total);
        }
        if is_zero(graph, value) {
            return Ok(b.zeros(graph.ty(value)));
        }
        let (op, args) = (graph.op(value.node), graph.args(value.node));
        let total = match role(graph, value) {
            Role::Through(count) => {
                let mut operands = Vec::new();
                for arg in &args[..count] {
                    operands.push(self.value(b, graph, *arg, (&mut *known, stacks))?);
                }
                for arg in &args[count..] {
                    operands.push(b.zeros(graph.ty(*arg)));
                }
                b.add(op.clone(), &operands)
            }
            Role::Product => product(b, op, stacks[&args[0]], stacks[&args[1]]),
            Role::Sum => b.add(Op::Reduce(sum_with_iterations(op)), &[stacks[&args[0]]]),
            Role::Other => panic!("G6: `{}` is a term, which has its sum", op.name()),
        }?;
        // A value that is used twice has one total: without it, sums of sums are written out as often as there are ways to them.
        known.insert(value, total);
        Ok(total)
    }
}

/// What a sum over iterations does at an operation.
enum Role {
    /// It goes on to so many operands, the first ones; the others are zero.
    Through(usize),
    /// It joins the sums of a product.
    Product,
    /// It joins a sum.
    Sum,
    /// It stops.
    Other,
}

fn role(graph: &Graph, value: Value) -> Role {
    match graph.op(value.node) {
        Op::Map(ScalarFn::Add | ScalarFn::Sub) => Role::Through(2),
        Op::Map(ScalarFn::Neg) | Op::Reshape(_) | Op::Permute(_) | Op::Reverse(_) | Op::Slice(_) => Role::Through(1),
        Op::Pad(_) if is_zero(graph, graph.args(value.node)[1]) => Role::Through(1),
        Op::Dot(_) | Op::Conv(_) => Role::Product,
        Op::Reduce(reduce) if reduce.kind == ReduceKind::Sum => Role::Sum,
        Op::Map(_)
        | Op::Pad(_)
        | Op::Reduce(_)
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
        | Op::Broadcast(_)
        | Op::Concat(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Philox(_)
        | Op::Param(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => Role::Other,
    }
}

/// Whether every element is known to be zero.
fn is_zero(graph: &Graph, value: Value) -> bool {
    let op = graph.op(value.node);
    if let Op::Const(array) = op {
        return (0..array.numel()).all(|position| array.get(position).is_zero());
    }
    let moves = matches!(op, Op::Broadcast(_) | Op::Reshape(_) | Op::Permute(_) | Op::Slice(_) | Op::Reverse(_) | Op::Cast(_));
    moves && is_zero(graph, graph.args(value.node)[0])
}

/// Both operands are one slice an iteration along a new first axis, which is summed over too.
fn product(b: &mut Build<'_>, op: &Op, lhs: Value, rhs: Value) -> Result<Value, Diag> {
    if let Op::Conv(conv) = op {
        return sum_of_convs(b, conv, lhs, rhs);
    }
    b.add(Op::Dot(with_iterations(op)), &[lhs, rhs])
}

fn with_iterations(op: &Op) -> DotAxes {
    let Op::Dot(axes) = op else { panic!("G6: `{}` is no product", op.name()) };
    let next = |axes: &[usize]| axes.iter().map(|axis| axis + 1).collect::<Vec<_>>();
    let first = |axes: &[usize]| std::iter::once(0).chain(next(axes)).collect();
    DotAxes {
        lhs_batch: next(&axes.lhs_batch),
        rhs_batch: next(&axes.rhs_batch),
        lhs_contract: first(&axes.lhs_contract),
        rhs_contract: first(&axes.rhs_contract),
    }
}

fn sum_with_iterations(op: &Op) -> Reduce {
    let Op::Reduce(reduce) = op else { panic!("G6: `{}` is no sum", op.name()) };
    Reduce { kind: ReduceKind::Sum, axes: std::iter::once(0).chain(reduce.axes.iter().map(|axis| axis + 1)).collect() }
}
