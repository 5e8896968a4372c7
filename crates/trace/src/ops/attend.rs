//! The composite that attention is, with its derivative, which computes shares again from the logarithms of their sums.
//!
//! Operands are checked, and queries scaled, before: see `attention`.

use graver_ir::op::{Attend, AttendPart, Composite, ReduceKind};
use graver_ir::{DType, Dim, FuncId, Op, ScalarFn, Shape, Type};

use super::composite::{one, softmax, tagged};
use super::contract::matmul;
use super::index::{iota_of, size_like};
use super::map::{broadcast_pair, like, map, narrow, stretch, widen};
use super::movement::{reshape_to, transpose};
use super::random::dropout;
use super::reduce::{Keep, reduce};
use crate::call::{call, call_with, function};
use crate::context::{Traced, emit};
use crate::tensor::{Axes, Tensor};

/// `softmax(q k^T + bias) v` of `[q, k, v]` or `[q, k, v, bias]`.
#[track_caller]
pub(super) fn attend(args: &[Tensor], causal: bool) -> Traced {
    let vjp = derivative(args, causal)?;
    one(call_with(part(AttendPart::Forward, causal), Some(vjp), args, |args| forward(args, causal)))
}

/// [`attend`] where shares are dropped at random: no composite, its derivative is that of its parts.
#[track_caller]
pub(super) fn attend_dropped(args: &[Tensor], causal: bool, probability: f64) -> Traced {
    let scores = Scores::of(args[0], args[1], args.get(3).copied(), causal)?;
    let shares = dropout(softmax(scores.values)?, probability)?;
    scores.by_keys(narrow(shares, args[0].ty()?.dtype)?, args[2])
}

fn part(part: AttendPart, causal: bool) -> crate::call::Named {
    tagged(Composite::Attend(Attend { part, causal }), "")
}

/// `(q, k, v, bias?, cotangents of y and log_sum) -> cotangents of q, k, v, bias?`
#[track_caller]
fn derivative(args: &[Tensor], causal: bool) -> Traced<FuncId> {
    let mut types: Vec<Type> = args.iter().map(|arg| arg.ty()).collect::<Traced<_>>()?;
    let (q, v) = (types[0].clone(), &types[2]);
    let y = Type::new(q.dtype, with_last(&q.shape, &v.shape[v.rank() - 1]));
    let log_sum = Type::new(q.dtype.compute(), Shape(q.shape[..q.rank() - 1].to_vec()));
    types.extend([y, log_sum]);
    let name = Attend { part: AttendPart::Forward, causal }.name();
    function(format!("{name}_derivative"), types, |args| backward(args, causal))
}

#[track_caller]
fn forward(args: &[Tensor], causal: bool) -> Traced<Vec<Tensor>> {
    let scores = Scores::of(args[0], args[1], args.get(3).copied(), causal)?;
    let most = emit(Op::StopGradient, &[over_keys(scores.values, ReduceKind::Max)?])?;
    let exp = map(ScalarFn::Exp, &[minus_rows(scores.values, most)?])?;
    let sum = over_keys(exp, ReduceKind::Sum)?;
    let shares = map(ScalarFn::Div, &[exp, stretch(column(sum)?, &scores.shape()?)?])?;
    let y = scores.by_keys(narrow(shares, args[0].ty()?.dtype)?, args[2])?;
    Ok(vec![y, map(ScalarFn::Add, &[most, map(ScalarFn::Log, &[sum])?])?])
}

#[track_caller]
fn backward(args: &[Tensor], causal: bool) -> Traced<Vec<Tensor>> {
    let (operands, cotangents) = args.split_at(args.len() - 2);
    let forward = call(part(AttendPart::Forward, causal), operands, |args| forward(args, causal))?;
    let products = map(ScalarFn::Mul, &[widen(cotangents[0])?, widen(forward[0])?])?;
    let delta = map(ScalarFn::Sub, &[over_keys(products, ReduceKind::Sum)?, cotangents[1]])?;
    let given: Vec<Tensor> = operands.iter().copied().chain([cotangents[0], forward[1], delta]).collect();
    let mut results = call(part(AttendPart::Backward, causal), &given, |args| derivatives(args, causal))?;
    if let Some(bias) = operands.get(3) {
        // The derivative of what nobody differentiates is dead code; else it is as large as the scores.
        let changes = Changes::of(&given, causal)?;
        results.push(sum_to(changes.changes, &bias.ty()?)?);
    }
    Ok(results)
}

/// Those of the operands but a bias: a target that knows them as two kernels has the two calls in the place of theirs.
#[track_caller]
fn derivatives(args: &[Tensor], causal: bool) -> Traced<Vec<Tensor>> {
    let mut results = call(part(AttendPart::Queries, causal), args, |args| queries(args, causal))?;
    results.extend(call(part(AttendPart::Keys, causal), args, |args| keys(args, causal))?);
    Ok(results)
}

#[track_caller]
fn queries(args: &[Tensor], causal: bool) -> Traced<Vec<Tensor>> {
    let Changes { scores, changes, .. } = Changes::of(args, causal)?;
    Ok(vec![scores.by_keys(narrow(changes, args[0].ty()?.dtype)?, args[1])?])
}

#[track_caller]
fn keys(args: &[Tensor], causal: bool) -> Traced<Vec<Tensor>> {
    let Changes { scores, shares, changes } = Changes::of(args, causal)?;
    let (dtype, g) = (args[0].ty()?.dtype, args[args.len() - 3]);
    let of = |weights, x| scores.by_queries(narrow(weights, dtype)?, x);
    Ok(vec![of(changes, args[0])?, of(shares, g)?])
}

/// Scores, `[.., h, l, s]`, as wide as they are computed.
struct Scores {
    values: Tensor,
    /// The shape of the queries.
    queries: Shape,
    /// How many heads of queries share keys.
    group: Dim,
}

impl Scores {
    #[track_caller]
    fn of(q: Tensor, k: Tensor, bias: Option<Tensor>, causal: bool) -> Traced<Self> {
        let (queries, keys) = (q.ty()?.shape, k.ty()?.shape);
        let group = match queries.rank() {
            0..3 => Dim::ONE,
            rank => queries[rank - 3].exact_div(&keys[rank - 3]).unwrap_or(Dim::ONE),
        };
        let scores = Self { values: q, queries, group };
        let values = widen(masked(scores.between(q, k)?, bias, causal)?)?;
        Ok(Self { values, ..scores })
    }

    fn shape(&self) -> Traced<Shape> {
        Ok(self.values.ty()?.shape)
    }

    /// `x y^T` of something that each query has and something that each key has.
    #[track_caller]
    fn between(&self, of_query: Tensor, of_key: Tensor) -> Traced {
        let keys = of_key.ty()?.shape;
        let products = matmul(self.fold(of_query)?, transpose(of_key, (-2).into(), (-1).into())?)?;
        self.unfold(products, &keys[keys.rank() - 2])
    }

    /// For each query, the sum over keys of what each key has, by weights.
    #[track_caller]
    fn by_keys(&self, weights: Tensor, of_key: Tensor) -> Traced {
        let own = of_key.ty()?.shape;
        let sums = matmul(self.fold(weights)?, of_key)?;
        self.unfold(sums, &own[own.rank() - 1])
    }

    /// For each key, the sum over queries of what each query has, by weights.
    #[track_caller]
    fn by_queries(&self, weights: Tensor, of_query: Tensor) -> Traced {
        matmul(transpose(self.fold(weights)?, (-2).into(), (-1).into())?, self.fold(of_query)?)
    }

    /// Heads that share keys stand below each other, as further queries of one head: keys and values are not repeated.
    #[track_caller]
    fn fold(&self, x: Tensor) -> Traced {
        let mut shape = x.ty()?.shape;
        if self.group != Dim::ONE {
            let rank = shape.rank();
            shape.0[rank - 3] = shape[rank - 3].floor_div(&self.group);
            shape.0[rank - 2] = &self.group * &shape[rank - 2];
        }
        reshape_to(x, shape)
    }

    #[track_caller]
    fn unfold(&self, x: Tensor, last: &Dim) -> Traced {
        reshape_to(x, with_last(&self.queries, last))
    }
}

/// What the derivatives are sums of.
struct Changes {
    scores: Scores,
    /// The share of every key.
    shares: Tensor,
    /// The loss' derivative with respect to every score: `share * (g v^T - delta)`.
    changes: Tensor,
}

impl Changes {
    /// Of `(q, k, v, bias?, g, log_sum, delta)`.
    #[track_caller]
    fn of(args: &[Tensor], causal: bool) -> Traced<Self> {
        let (operands, given) = args.split_at(args.len() - 3);
        let scores = Scores::of(operands[0], operands[1], operands.get(3).copied(), causal)?;
        let shares = map(ScalarFn::Exp, &[minus_rows(scores.values, given[1])?])?;
        let products = widen(scores.between(given[0], operands[2])?)?;
        let changes = map(ScalarFn::Mul, &[shares, minus_rows(products, given[2])?])?;
        Ok(Self { scores, shares, changes })
    }
}

fn with_last(shape: &Shape, last: &Dim) -> Shape {
    let mut shape = shape.clone();
    let rank = shape.rank();
    shape.0[rank - 1] = last.clone();
    shape
}

#[track_caller]
fn over_keys(x: Tensor, kind: ReduceKind) -> Traced {
    reduce(x, kind, &Axes::Some(vec![(-1).into()]), Keep::No)
}

/// `[..]` as `[.., 1]`.
#[track_caller]
fn column(x: Tensor) -> Traced {
    let mut shape = x.ty()?.shape;
    shape.0.push(Dim::ONE);
    reshape_to(x, shape)
}

/// `x - row` with one `row` for each row of `x`.
#[track_caller]
fn minus_rows(x: Tensor, rows: Tensor) -> Traced {
    map(ScalarFn::Sub, &[x, stretch(column(rows)?, &x.ty()?.shape)?])
}

/// The inverse of stretching: `x` summed to a type that stretches to its shape.
#[track_caller]
fn sum_to(x: Tensor, to: &Type) -> Traced {
    let shape = x.ty()?.shape;
    let lead = shape.rank() - to.rank();
    let repeats = |axis: &usize| *axis < lead || (to.shape[axis - lead].is(1) && !shape[*axis].is(1));
    let axes: Vec<usize> = (0..shape.rank()).filter(repeats).collect();
    let axes = Axes::Some(axes.into_iter().map(crate::tensor::Axis::from).collect());
    narrow(reshape_to(reduce(x, ReduceKind::Sum, &axes, Keep::No)?, to.shape.clone())?, to.dtype)
}

/// The scores with the bias, and without what comes later.
#[track_caller]
fn masked(mut scores: Tensor, bias: Option<Tensor>, causal: bool) -> Traced {
    if let Some(bias) = bias {
        scores = map(ScalarFn::Add, &[scores, stretch(bias, &scores.ty()?.shape)?])?;
    }
    if causal { mask_future(scores) } else { Ok(scores) }
}

/// Minus infinity where a key comes after its query; the last of both are at the same time.
#[track_caller]
fn mask_future(scores: Tensor) -> Traced {
    let ty = scores.ty()?;
    let matrix = Shape(ty.shape[ty.rank() - 2..].to_vec());
    let (queries, keys) = (matrix[0].clone(), matrix[1].clone());
    let lead = size_like(&(keys - queries), DType::I64)?;
    let (places, lead) = broadcast_pair(iota_of(DType::I64, matrix.clone(), 0)?, lead)?;
    let now = map(ScalarFn::Add, &[places, lead])?;
    let seen = map(ScalarFn::Le, &[iota_of(DType::I64, matrix, 1)?, now])?;
    let never = stretch(like(scores, f64::NEG_INFINITY)?, &ty.shape)?;
    map(ScalarFn::Select, &[stretch(seen, &ty.shape)?, scores, never])
}
