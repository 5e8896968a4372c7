//! Which values of an iteration are kept for its derivative, and which are computed again.
//!
//! Kept are values that a late node uses and that an iteration alone can tell. What is cheap to compute from values that are kept
//! anyway, or from others of no more bytes, is computed again: comparisons, factors of derivatives, movement, random bits.
//! What depends on closed-over values alone is computed again, and slices of what is scanned are there.

use std::collections::BTreeSet;

use graver_ir::{Graph, Op, ScalarFn, Value};

use crate::lower::name::is_notable_function;

/// When the values of a differentiated body are known.
pub(super) struct Times {
    late: Vec<bool>,
    varies: Vec<bool>,
    scanned: BTreeSet<Value>,
}

impl Times {
    /// `params` are those of the body, `closed` those of them that are the same in every iteration; `seeds` are cotangents.
    pub(super) fn of(graph: &Graph, (params, carried): (&[Value], usize), closed: &BTreeSet<Value>, seeds: &[Value]) -> Self {
        let [mut late, mut varies] = [vec![false; graph.bound()], vec![false; graph.bound()]];
        seeds.iter().for_each(|seed| late[seed.node.index()] = true);
        let own: Vec<Value> = params.iter().copied().filter(|param| !closed.contains(param)).collect();
        own.iter().for_each(|param| varies[param.node.index()] = true);
        for node in graph.topo() {
            for arg in graph.args(node) {
                late[node.index()] |= late[arg.node.index()];
                varies[node.index()] |= varies[arg.node.index()];
            }
        }
        Self { late, varies, scanned: own.into_iter().skip(carried).collect() }
    }

    /// Whether it depends on cotangents.
    pub(super) fn is_late(&self, value: Value) -> bool {
        self.late[value.node.index()]
    }

    /// Whether it is the same in every iteration.
    pub(super) fn is_invariant(&self, value: Value) -> bool {
        !self.late[value.node.index()] && !self.varies[value.node.index()]
    }

    /// Whether the derivative of an iteration has it without keeping it.
    fn is_there(&self, value: Value) -> bool {
        self.is_invariant(value) || self.scanned.contains(&value)
    }
}

/// The values that are kept: stacked by the forward scan.
pub(super) struct Residuals {
    pub(super) saved: BTreeSet<Value>,
}

impl Residuals {
    /// For computing `roots`; `forced` are kept in any case.
    pub(super) fn choose(graph: &Graph, times: &Times, roots: &[Value], forced: BTreeSet<Value>) -> Self {
        let mut saved: BTreeSet<Value> = used_early(graph, times, roots).into_iter().chain(forced.iter().copied()).collect();
        // Users first: what is computed again may be cheap to compute from what is computed again too.
        for node in graph.topo().into_iter().rev() {
            let value = Value::from(node);
            if saved.contains(&value)
                && !forced.contains(&value)
                && let Some(sources) = sources(graph, times, value, &saved)
            {
                saved.remove(&value);
                saved.extend(sources);
            }
        }
        Self { saved }
    }
}

/// Early values that change from one iteration to the next and that late ones, or the roots themselves, are.
fn used_early(graph: &Graph, times: &Times, roots: &[Value]) -> BTreeSet<Value> {
    let (mut found, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), roots.to_vec());
    while let Some(value) = open.pop() {
        if !times.is_late(value) {
            found.extend((!times.is_there(value)).then_some(value));
        } else if seen.insert(value.node) {
            open.extend(graph.args(value.node));
        }
    }
    found
}

/// The most operations that are computed again for one value.
const AGAIN: usize = 8;

/// What must be kept besides to compute the value again, if that is worth it: through what is cheap, as far as what is there.
fn sources(graph: &Graph, times: &Times, value: Value, saved: &BTreeSet<Value>) -> Option<Vec<Value>> {
    if !is_cheap(graph.op(value.node)) {
        return None;
    }
    let (mut fresh, mut open, mut again) = (BTreeSet::new(), vec![value], 0);
    while let Some(next) = open.pop() {
        again += 1;
        // No more is worth it, and a value that is used twice is met as often as there are ways to it.
        if again > AGAIN {
            return None;
        }
        for arg in graph.args(next.node).into_iter().filter(|arg| !times.is_there(*arg) && !saved.contains(arg)) {
            if is_cheap(graph.op(arg.node)) {
                open.push(arg);
            } else {
                fresh.insert(arg);
            }
        }
    }
    let bytes = |value: &Value| graph.ty(*value).bytes().nominal();
    let worth = fresh.iter().map(bytes).sum::<i64>() <= bytes(&value);
    worth.then(|| fresh.into_iter().collect())
}

fn is_cheap(op: &Op) -> bool {
    match op {
        Op::Map(function) => !is_notable_function(*function) || *function == ScalarFn::Relu,
        Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Iota(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Reverse(_)
        | Op::Philox(_)
        | Op::Alias
        | Op::StopGradient => true,
        Op::Const(_)
        | Op::Size(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
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
        | Op::Param(_)
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => false,
    }
}
