//! Vaswani et al. (2017), "Attention is all you need", as exporters write it: products of queries and keys, scaled before or after, with
//! biases or selections as masks, a softmax of rows, perhaps with zeros where all of a row is masked, and products with values.
//!
//! Operands may have their axes in any order, and heads may be merged with the batch on the way. Conditions: where a mask selects, scores
//! are finite and far from the mask's number; where rows without keys are zeros, values are finite.

use graver_ir::op::{Broadcast, DotAxes, Perm};
use graver_ir::{DType, Dim, Module, Op, Scalar, ScalarFn, Shape, Value};

use super::body::{Bodies, Body};
use super::later::without_later;
use super::pattern::Pattern;
use super::{Found, call, softmax};
use crate::build::Build;

/// What scores are masked with is at most this: added to a score or put in its place, it is the same.
pub(super) const HIDDEN: f64 = -1e30;

/// Attention that was found.
pub(super) struct Attention {
    queries: Operand,
    keys: Operand,
    values: Operand,
    /// The axes of the scores but the last two.
    lead: Vec<Dim>,
    biases: Vec<Scaled>,
    scale: f64,
    empty: Empty,
    /// The result's shape before `swapped`, and whether its last two axes are exchanged then.
    shape: Shape,
    swapped: bool,
}

/// An operand, and the order in which its axes are taken: batch, then queries or keys, then the width.
#[derive(Clone)]
struct Operand {
    value: Value,
    order: Vec<usize>,
}

/// What is added to the scores, of their shape.
#[derive(Clone)]
pub(super) enum Bias {
    /// As it is.
    Added(Value),
    /// This number where a mask does not hold, 0 elsewhere.
    Hidden(Value, Scalar),
    /// This number where a mask holds, 0 elsewhere.
    HiddenBy(Value, Scalar),
    /// This number unless a value holds, or does not, whose axes are these of the scores (none: of one element); 0 elsewhere.
    Unless { value: Value, axes: Vec<Option<usize>>, holds: bool, number: Scalar },
}

/// A bias, and what it is multiplied by before it is added.
struct Scaled {
    bias: Bias,
    by: f64,
}

/// Which rows are zeros, whatever their shares are.
#[derive(Clone)]
enum Empty {
    None,
    /// Those whose shares are no numbers.
    Nan,
    /// Those where a condition holds, which is repeated like this to the shape of the shares.
    Where(Value, Broadcast),
}

pub(super) fn attention(p: &mut Pattern<'_>, last: Value) -> Option<Found> {
    let Op::Dot(axes) = p.graph.op(last.node) else { return None };
    let args = p.graph.args(last.node);
    let straight = p.attempt(|p| of_shares(p, last, axes, [args[0], args[1]], false));
    let found = straight.or_else(|| {
        let axes = DotAxes {
            lhs_batch: axes.rhs_batch.clone(),
            rhs_batch: axes.lhs_batch.clone(),
            lhs_contract: axes.rhs_contract.clone(),
            rhs_contract: axes.lhs_contract.clone(),
        };
        p.attempt(|p| of_shares(p, last, &axes, [args[1], args[0]], true))
    });
    found.map(Found::Attention)
}

/// Of a product of shares on the left with values on the right.
fn of_shares(p: &mut Pattern<'_>, last: Value, axes: &DotAxes, [shares, values]: [Value; 2], swapped: bool) -> Option<Attention> {
    let batch = axes.lhs_batch.len();
    let in_order = axes.lhs_batch.iter().copied().eq(0..batch) && axes.lhs_contract == [batch + 1];
    (in_order && p.graph.ty(shares).rank() == batch + 2).then_some(())?;
    let values = operand(p, values, &axes.rhs_batch, &axes.rhs_contract, Width::Last)?;
    let shape = if swapped { exchanged(p.shape(last)) } else { p.shape(last).clone() };
    let shares = same_matrices(p, shares);
    let (shares, empty) = guarded(p, shares);
    let x = softmax::shares(p, shares)?;
    let mut scores = Scores { lead: None, biases: Vec::new(), scale: 1.0 };
    let product = scores.descend(p, x)?;
    let Op::Dot(axes) = p.graph.op(product.node) else { return None };
    p.enter(product);
    let args = p.graph.args(product.node);
    let queries = operand(p, args[0], &axes.lhs_batch, &axes.lhs_contract, Width::Contracted)?;
    let keys = operand(p, args[1], &axes.rhs_batch, &axes.rhs_contract, Width::Contracted)?;
    let own = p.shape(product);
    let lead = scores.lead.unwrap_or_else(|| own[..own.rank() - 2].to_vec());
    has_kernel(p, &queries, &values, &own[own.rank() - 2]).then_some(())?;
    Some(Attention { queries, keys, values, lead, biases: scores.biases, scale: scores.scale, empty, shape, swapped })
}

/// Whether it is of numbers that a kernel computes with, of known widths, and of several queries.
fn has_kernel(p: &Pattern<'_>, queries: &Operand, values: &Operand, count: &Dim) -> bool {
    let width = |operand: &Operand| {
        let shape = p.shape(operand.value);
        operand.order.last().and_then(|axis| shape[*axis].as_const()).is_some_and(|width| width > 0)
    };
    let float = matches!(p.dtype(queries.value), DType::F32 | DType::F16 | DType::BF16);
    float && width(queries) && width(values) && !count.is(1)
}

/// Which axis of an operand the width is.
#[derive(Clone, Copy)]
enum Width {
    Contracted,
    Last,
}

/// The axes of an operand of a product, which has one that is contracted and one that is free.
fn operand(p: &Pattern<'_>, value: Value, batch: &[usize], contract: &[usize], width: Width) -> Option<Operand> {
    let rank = p.graph.ty(value).rank();
    let free: Vec<usize> = (0..rank).filter(|axis| !batch.contains(axis) && !contract.contains(axis)).collect();
    let ([contract], [free]) = (contract, free.as_slice()) else { return None };
    let [row, column] = match width {
        Width::Contracted => [*free, *contract],
        Width::Last => [*contract, *free],
    };
    Some(Operand { value, order: batch.iter().copied().chain([row, column]).collect() })
}

fn exchanged(shape: &Shape) -> Shape {
    let mut shape = shape.clone();
    let rank = shape.rank();
    shape.0.swap(rank - 2, rank - 1);
    shape
}

/// What is a value before its axes but the last two were merged or split.
fn same_matrices(p: &mut Pattern<'_>, mut x: Value) -> Value {
    while let Some(from) = regrouped(p, x) {
        p.enter(x);
        x = from;
    }
    x
}

fn regrouped(p: &Pattern<'_>, x: Value) -> Option<Value> {
    let Op::Reshape(to) = p.graph.op(x.node) else { return None };
    let from = p.graph.args(x.node)[0];
    let shape = p.shape(from);
    let (old, new) = (shape.rank().checked_sub(2)?, to.rank().checked_sub(2)?);
    (shape[old..] == to[new..]).then_some(from)
}

/// `select(isnan x, 0, x)`, or zeros in rows where something else holds, as `x`, and what it does.
fn guarded(p: &mut Pattern<'_>, shares: Value) -> (Value, Empty) {
    let guarded = p.attempt(|p| {
        let [condition, zero, x] = p.three(shares)?;
        (p.constant(zero)? == 0.0).then_some(())?;
        if p.attempt(|p| p.one(condition, ScalarFn::IsNan)) == Some(x) {
            return Some((x, Empty::Nan));
        }
        let Op::Broadcast(broadcast) = p.graph.op(condition.node) else { return None };
        let by_row = broadcast.axes.iter().all(|axis| axis + 1 < broadcast.shape.rank());
        by_row.then(|| (x, Empty::Where(p.graph.args(condition.node)[0], broadcast.clone())))
    });
    match guarded {
        Some((x, empty)) => (same_matrices(p, x), empty),
        None => (shares, Empty::None),
    }
}

/// What was done to products before they went into the softmax.
struct Scores {
    lead: Option<Vec<Dim>>,
    biases: Vec<Scaled>,
    scale: f64,
}

impl Scores {
    /// From the softmax to the product.
    fn descend(&mut self, p: &mut Pattern<'_>, mut x: Value) -> Option<Value> {
        while !matches!(p.graph.op(x.node), Op::Dot(_)) {
            x = self.step(p, x)?;
        }
        Some(x)
    }

    fn step(&mut self, p: &mut Pattern<'_>, x: Value) -> Option<Value> {
        if let Some(from) = regrouped(p, x) {
            p.enter(x);
            return Some(from);
        }
        if let Some((from, factor)) = p.with_constant(x, ScalarFn::Mul) {
            self.scale *= factor;
            return Some(from);
        }
        if let Some((from, divisor)) = p.with_constant(x, ScalarFn::Div) {
            self.scale /= divisor;
            return Some(from);
        }
        let (from, bias) = masked(p, x).or_else(|| biased(p, x))?;
        // What hides a score hides it multiplied by anything that is positive.
        (self.scale > 0.0).then_some(())?;
        self.lead.get_or_insert_with(|| p.shape(x)[..p.shape(x).rank() - 2].to_vec());
        self.biases.push(Scaled { bias, by: self.scale });
        Some(from)
    }
}

/// A selection between scores and a number that hides them.
fn masked(p: &mut Pattern<'_>, x: Value) -> Option<(Value, Bias)> {
    let hidden = |p: &Pattern<'_>, x: Value| {
        let number = crate::simplify::splat(p.graph, x)?;
        (number.as_f64() <= HIDDEN).then_some(number)
    };
    p.attempt(|p| {
        let [mask, yes, no] = p.three(x)?;
        match (hidden(p, yes), hidden(p, no)) {
            (None, Some(number)) => Some((yes, Bias::Hidden(mask, number))),
            (Some(number), None) => Some((no, Bias::HiddenBy(mask, number))),
            (Some(_), Some(_)) | (None, None) => None,
        }
    })
}

/// A sum, of which what comes from a product is the scores.
fn biased(p: &mut Pattern<'_>, x: Value) -> Option<(Value, Bias)> {
    p.either(x, ScalarFn::Add, |p, scores, bias| is_of_product(p, scores).then_some((scores, Bias::Added(bias))))
}

/// Whether a value is a product under scales, masks and biases.
fn is_of_product(p: &Pattern<'_>, x: Value) -> bool {
    let (mut open, mut steps) = (vec![x], 0);
    while let Some(x) = open.pop() {
        steps += 1;
        let op = p.graph.op(x.node);
        if matches!(op, Op::Dot(_)) {
            return true;
        }
        let passes = [ScalarFn::Mul, ScalarFn::Div, ScalarFn::Add, ScalarFn::Select];
        let goes_on = matches!(op, Op::Reshape(_)) || matches!(op, Op::Map(function) if passes.contains(function));
        if steps < 16 && goes_on {
            open.extend(p.graph.args(x.node));
        }
    }
    false
}

// ---- building

impl Attention {
    /// The call, with what goes in and comes out moved to where it is wanted; nothing if that cannot be proved to be well typed.
    pub(super) fn build(&self, b: &mut Build<'_>, module: &mut Module, bodies: &mut Bodies) -> Option<Value> {
        let shared = shared(b, &self.keys).zip(shared(b, &self.values)).filter(|_| self.is_shared(b));
        let mut q = self.moved(b, &self.queries, &self.lead)?;
        if self.scale != 1.0 {
            let scale = b.like(q, self.scale);
            q = b.mul(q, scale);
        }
        let (k, v) = match shared {
            Some(found) => found,
            None => (self.moved(b, &self.keys, &self.lead)?, self.moved(b, &self.values, &self.lead)?),
        };
        let mut args = vec![q, k, v];
        let [queries, keys] = [q, k].map(|x| b.ty(x).shape[b.ty(x).rank() - 2].clone());
        let shape = Shape(self.lead.iter().chain([&queries, &keys]).cloned().collect());
        let (mut causal, mut biases) = (false, Vec::new());
        for Scaled { bias, by } in &self.biases {
            match without_later(b.graph, bias, &shape) {
                Some(rest) => {
                    causal = true;
                    biases.extend(rest.into_iter().map(|bias| Scaled { bias, by: *by }));
                }
                None => biases.push(Scaled { bias: bias.clone(), by: *by }),
            }
        }
        if let Some(bias) = total(b, &biases, &shape, b.ty(q).dtype)? {
            args.push(bias);
        }
        let results = call(b, Body::Attend { causal }, &args, module, bodies)?;
        let mut y = results[0];
        if let Some(empty) = self.empty_rows(b, y, results[1])? {
            let zero = b.like(y, 0.0);
            y = b.map(ScalarFn::Select, &[empty, zero, y]);
        }
        y = reshaped(b, y, self.shape.clone())?;
        if self.swapped {
            let rank = self.shape.rank();
            let order = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            y = permuted(b, y, order)?;
        }
        Some(y)
    }

    /// Which rows are zeros, for every element of the result.
    fn empty_rows(&self, b: &mut Build<'_>, y: Value, log_sum: Value) -> Option<Option<Value>> {
        let shape = b.ty(y).shape.clone();
        let last = shape.rank() - 1;
        let (empty, axes) = match &self.empty {
            Empty::None => return Some(None),
            Empty::Nan => (b.map(ScalarFn::IsNan, &[log_sum]), (0..last).collect()),
            Empty::Where(condition, broadcast) => {
                (broadcast.shape[..last] == shape[..last]).then_some(())?;
                (*condition, broadcast.axes.clone())
            }
        };
        b.add(Op::Broadcast(Broadcast { shape, axes }), &[empty]).ok().map(Some)
    }

    /// Whether queries have the axes of the scores as they are, so that heads stand in one axis.
    fn is_shared(&self, b: &Build<'_>) -> bool {
        let shape = &b.ty(self.queries.value).shape;
        self.queries.order[..self.lead.len().min(self.queries.order.len())].iter().map(|axis| &shape[*axis]).eq(&self.lead)
    }

    fn moved(&self, b: &mut Build<'_>, operand: &Operand, lead: &[Dim]) -> Option<Value> {
        let x = permuted(b, operand.value, operand.order.clone())?;
        let shape = b.ty(x).shape.clone();
        reshaped(b, x, Shape([lead, &shape[shape.rank() - 2..]].concat()))
    }
}

/// The sum of all biases of scores of this shape, with one element along axes where they are repeated.
fn total(b: &mut Build<'_>, biases: &[Scaled], shape: &Shape, dtype: DType) -> Option<Option<Value>> {
    let mut total: Option<Value> = None;
    for Scaled { bias, by } in biases {
        let compact = match bias {
            Bias::Added(value) => {
                let value = compact(b, *value, shape)?;
                if *by == 1.0 {
                    value
                } else {
                    let by = b.like(value, *by);
                    b.mul(value, by)
                }
            }
            Bias::Hidden(mask, number) | Bias::HiddenBy(mask, number) => {
                let mask = compact(b, *mask, shape)?;
                hiding(b, mask, matches!(bias, Bias::Hidden(..)), *number, dtype)
            }
            Bias::Unless { value, axes, holds, number } => {
                let own = (0..shape.rank()).map(|axis| if axes.contains(&Some(axis)) { shape[axis].clone() } else { Dim::ONE });
                let mask = reshaped(b, *value, Shape(own.collect()))?;
                hiding(b, mask, *holds, *number, dtype)
            }
        };
        total = Some(match total {
            Some(total) => sum(b, total, compact)?,
            None => compact,
        });
    }
    Some(total)
}

/// This number, unless a mask holds or does not; 0 elsewhere.
fn hiding(b: &mut Build<'_>, mask: Value, holds: bool, number: Scalar, dtype: DType) -> Value {
    let own = b.ty(mask).shape.clone();
    let (zero, number) = (b.full(&own, Scalar::zero(dtype)), b.full(&own, number));
    let [yes, no] = if holds { [zero, number] } else { [number, zero] };
    b.map(ScalarFn::Select, &[mask, yes, no])
}

/// The operand of a repetition of heads, `[.., g, s, d]` of `[.., g * n, s, d]`, where nothing else was done to it.
fn shared(b: &Build<'_>, operand: &Operand) -> Option<Value> {
    operand.order.iter().copied().eq(0..operand.order.len()).then_some(())?;
    let Op::Reshape(to) = b.graph.op(operand.value.node) else { return None };
    let repeated = b.graph.args(operand.value.node)[0];
    let Op::Broadcast(Broadcast { shape, axes }) = b.graph.op(repeated.node) else { return None };
    let rank = to.rank();
    let new = rank.checked_sub(2)?;
    let as_many = shape.rank() == rank + 1 && axes.iter().copied().eq((0..=rank).filter(|axis| *axis != new));
    let merged = as_many && new >= 1 && to[..new - 1] == shape[..new - 1] && to[new..] == shape[new + 1..];
    merged.then(|| b.graph.args(repeated.node)[0])
}

fn permuted(b: &mut Build<'_>, x: Value, order: Vec<usize>) -> Option<Value> {
    let perm = Perm::new(order).ok()?;
    if perm.is_identity() { Some(x) } else { b.add(Op::Permute(perm), &[x]).ok() }
}

fn reshaped(b: &mut Build<'_>, x: Value, shape: Shape) -> Option<Value> {
    if b.ty(x).shape == shape { Some(x) } else { b.add(Op::Reshape(shape), &[x]).ok() }
}

/// A value of this shape, or of one whose axes but the last two are grouped in another way, with one element along axes where it is repeated.
fn compact(b: &mut Build<'_>, x: Value, shape: &Shape) -> Option<Value> {
    let from = b.ty(x).shape.clone();
    let (lead, last) = (shape.rank() - 2, from.rank().checked_sub(2)?);
    (from[last..] == shape[lead..]).then_some(())?;
    let small = once(b, x)?;
    if from == *shape {
        return Some(small);
    }
    let own = b.ty(small).shape.clone();
    if own[..last].iter().all(|size| size.is(1)) {
        return reshaped(b, small, Shape([&vec![Dim::ONE; lead], &own[last..]].concat()));
    }
    let whole = stretched(b, small, &Shape([&from[..last], &own[last..]].concat()))?;
    reshaped(b, whole, Shape([&shape[..lead], &own[last..]].concat()))
}

/// A value with one element along axes where it is repeated.
fn once(b: &mut Build<'_>, x: Value) -> Option<Value> {
    let Op::Broadcast(Broadcast { axes, shape }) = b.graph.op(x.node).clone() else { return Some(x) };
    if !axes.is_sorted() {
        return Some(x);
    }
    let own = (0..shape.rank()).map(|axis| if axes.contains(&axis) { shape[axis].clone() } else { Dim::ONE });
    let operand = b.graph.args(x.node)[0];
    reshaped(b, operand, Shape(own.collect()))
}

/// The sum of two values whose axes of one element are for all.
fn sum(b: &mut Build<'_>, x: Value, y: Value) -> Option<Value> {
    let (xs, ys) = (b.ty(x).shape.clone(), b.ty(y).shape.clone());
    let common = Shape(xs.iter().zip(ys.iter()).map(|(x, y)| if x.is(1) { y.clone() } else { x.clone() }).collect());
    let (x, y) = (stretched(b, x, &common)?, stretched(b, y, &common)?);
    Some(b.sum_of(x, y))
}

fn stretched(b: &mut Build<'_>, x: Value, shape: &Shape) -> Option<Value> {
    super::body::stretched(b, x, shape).ok()
}
