//! What the names mean: their bodies in primitives, each made once for the types of its operands.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use graver_ir::op::{Attend, AttendPart, Broadcast, Composite, DotAxes, Iota, Reduce, ReduceKind};
use graver_ir::{DType, Diag, Dim, FuncId, Function, Loc, Module, Op, Role, Scalar, ScalarFn, Shape, Sink, Type, Value};

use super::norm::Bits;
use crate::bodies;
use crate::build::Build;

/// A function that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Body {
    /// `(x)`
    Softmax,
    /// `(x)`
    Gelu,
    /// `(x)`
    GeluTanh,
    /// `(x, weight, bias)`
    LayerNorm {
        /// What is added to the variance.
        eps: Bits,
    },
    /// `(x, weight)`
    RmsNorm {
        /// What is added to the mean of squares.
        eps: Bits,
    },
    /// `(q, k, v, bias?) -> (y, log_sum)`
    Attend {
        /// Whether only keys count that are not later than the query.
        causal: bool,
    },
}

impl Body {
    pub(super) const fn tag(self) -> Composite {
        match self {
            Self::Softmax => Composite::Softmax,
            Self::Gelu => Composite::Gelu,
            Self::GeluTanh => Composite::GeluTanh,
            Self::LayerNorm { .. } => Composite::LayerNorm,
            Self::RmsNorm { .. } => Composite::RmsNorm,
            Self::Attend { causal } => Composite::Attend(Attend { part: AttendPart::Forward, causal }),
        }
    }

    fn write(self, b: &mut Build<'_>, args: &[Value]) -> Result<Vec<Value>, Diag> {
        Ok(vec![match self {
            Self::Softmax => softmax(b, args[0])?,
            Self::Gelu => gelu(b, args[0]),
            Self::GeluTanh => gelu_tanh(b, args[0]),
            Self::LayerNorm { eps } => layer_norm(b, [args[0], args[1], args[2]], eps)?,
            Self::RmsNorm { eps } => {
                let normal = over_root(b, args[0], args[0], eps)?;
                let weight = vector(b, args[1], args[0])?;
                b.mul(normal, weight)
            }
            Self::Attend { causal } => return attend(b, args, causal),
        }])
    }
}

/// Bodies that were made already, by the types of their operands.
#[derive(Default)]
pub(super) struct Bodies(BTreeMap<(Body, Vec<String>), FuncId>);

impl Bodies {
    /// The function of a body over operands of these types; nothing if it cannot be proved to be well typed.
    pub(super) fn function(&mut self, module: &mut Module, body: Body, types: &[Type]) -> Option<FuncId> {
        let key = (body, types.iter().map(Type::to_string).collect());
        if let Some(func) = self.0.get(&key) {
            return Some(*func);
        }
        let mut function = Function::new("");
        let param = |(place, ty): (usize, &Type)| -> Value {
            function.add_param(ty.clone(), Role::Arg(format!("x{place}")), Loc::UNKNOWN).into()
        };
        let params: Vec<Value> = types.iter().enumerate().map(param).collect();
        let results = body.write(&mut Build::at(&mut function.graph, &Loc::UNKNOWN), &params).ok()?;
        results.into_iter().for_each(|result| function.add_result(result, Sink::Out));
        let func = bodies::add(module, function, body.tag().name(), "");
        self.0.insert(key, func);
        Some(func)
    }
}

// ---- rows

fn over_last(b: &mut Build<'_>, kind: ReduceKind, x: Value) -> Result<Value, Diag> {
    let axes = vec![b.ty(x).rank() - 1];
    b.add(Op::Reduce(Reduce { kind, axes }), &[x])
}

/// One number a row, repeated along the last axis of `like`.
fn row(b: &mut Build<'_>, x: Value, like: Value) -> Result<Value, Diag> {
    let shape = b.ty(like).shape.clone();
    let axes = (0..shape.rank() - 1).collect();
    b.add(Op::Broadcast(Broadcast { shape, axes }), &[x])
}

/// A vector over the last axis, repeated to the shape of `like`.
fn vector(b: &mut Build<'_>, x: Value, like: Value) -> Result<Value, Diag> {
    let shape = b.ty(like).shape.clone();
    let axes = vec![shape.rank() - 1];
    b.add(Op::Broadcast(Broadcast { shape, axes }), &[x])
}

fn mean(b: &mut Build<'_>, x: Value) -> Result<Value, Diag> {
    let count = b.ty(x).shape.last().and_then(Dim::as_const);
    let count = count.ok_or_else(|| Diag::new("a row's length is a number"))?;
    let sum = over_last(b, ReduceKind::Sum, x)?;
    #[expect(clippy::cast_precision_loss, reason = "a row is far shorter than 2^53")]
    let count = b.like(sum, count as f64);
    Ok(b.map(ScalarFn::Div, &[sum, count]))
}

fn softmax(b: &mut Build<'_>, x: Value) -> Result<Value, Diag> {
    let (exp, sum, _) = exponentials(b, x)?;
    let sum = row(b, sum, exp)?;
    Ok(b.map(ScalarFn::Div, &[exp, sum]))
}

/// `exp(x - max x)`, its sum and the greatest element, by row.
fn exponentials(b: &mut Build<'_>, x: Value) -> Result<(Value, Value, Value), Diag> {
    let top = over_last(b, ReduceKind::Max, x)?;
    let repeated = row(b, top, x)?;
    let shifted = b.map(ScalarFn::Sub, &[x, repeated]);
    let exp = b.map(ScalarFn::Exp, &[shifted]);
    let sum = over_last(b, ReduceKind::Sum, exp)?;
    Ok((exp, sum, top))
}

// ---- maps

fn times(b: &mut Build<'_>, x: Value, number: f64) -> Value {
    let number = b.like(x, number);
    b.mul(x, number)
}

fn plus(b: &mut Build<'_>, x: Value, number: f64) -> Value {
    let number = b.like(x, number);
    b.sum_of(x, number)
}

fn gelu(b: &mut Build<'_>, x: Value) -> Value {
    let scaled = times(b, x, FRAC_1_SQRT_2);
    let erf = b.map(ScalarFn::Erf, &[scaled]);
    let twice = plus(b, erf, 1.0);
    let phi = times(b, twice, 0.5);
    b.mul(x, phi)
}

fn gelu_tanh(b: &mut Build<'_>, x: Value) -> Value {
    let square = b.mul(x, x);
    let cube = b.mul(square, x);
    let cubic = times(b, cube, 0.044_715);
    let inner = b.sum_of(x, cubic);
    let scaled = times(b, inner, FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
    let squashed = b.map(ScalarFn::Tanh, &[scaled]);
    let twice = plus(b, squashed, 1.0);
    let gate = times(b, twice, 0.5);
    b.mul(x, gate)
}

// ---- normalisations

fn layer_norm(b: &mut Build<'_>, [x, weight, bias]: [Value; 3], eps: Bits) -> Result<Value, Diag> {
    let mean = mean(b, x)?;
    let mean = row(b, mean, x)?;
    let centred = b.map(ScalarFn::Sub, &[x, mean]);
    let normal = over_root(b, centred, centred, eps)?;
    let (weight, bias) = (vector(b, weight, x)?, vector(b, bias, x)?);
    let scaled = b.mul(normal, weight);
    Ok(b.sum_of(scaled, bias))
}

/// `x / sqrt(mean y^2 + eps)`
fn over_root(b: &mut Build<'_>, x: Value, y: Value, eps: Bits) -> Result<Value, Diag> {
    let squares = b.mul(y, y);
    let mean = mean(b, squares)?;
    let above = plus(b, mean, f64::from_bits(eps.0));
    let inverse = b.map(ScalarFn::Rsqrt, &[above]);
    let inverse = row(b, inverse, x)?;
    Ok(b.mul(x, inverse))
}

// ---- attention

/// `softmax(q k^T + bias) v` and the logarithms of sums, where heads of keys may serve several of queries.
fn attend(b: &mut Build<'_>, args: &[Value], causal: bool) -> Result<Vec<Value>, Diag> {
    let (q, k, v) = (args[0], args[1], args[2]);
    let (queries, keys) = (b.ty(q).shape.clone(), b.ty(k).shape.clone());
    let rank = queries.rank();
    let (own, width) = (keys[rank - 2].clone(), b.ty(v).shape[rank - 1].clone());
    let rows = folded(b, q, &keys)?;
    let mut scores = matmul(b, rows, k, rank - 1)?;
    scores = b.add(Op::Reshape(with_last(&queries, &own)), &[scores])?;
    if let Some(bias) = args.get(3) {
        let bias = stretched(b, *bias, &with_last(&queries, &own))?;
        scores = b.sum_of(scores, bias);
    }
    if causal {
        scores = without_future(b, scores)?;
    }
    let (exp, sum, top) = exponentials(b, scores)?;
    let repeated = row(b, sum, exp)?;
    let shares = b.map(ScalarFn::Div, &[exp, repeated]);
    let shares = folded(b, shares, &keys)?;
    let y = matmul(b, shares, v, rank - 2)?;
    let y = b.add(Op::Reshape(with_last(&queries, &width)), &[y])?;
    let log = b.map(ScalarFn::Log, &[sum]);
    Ok(vec![y, b.sum_of(top, log)])
}

/// Minus infinity where a key comes after its query; the last of both are at the same time.
fn without_future(b: &mut Build<'_>, scores: Value) -> Result<Value, Diag> {
    let ty = b.ty(scores).clone();
    let last = ty.rank() - 1;
    let matrix = Shape(ty.shape[last - 1..].to_vec());
    let lead = b.add(Op::Size(&matrix[1] - &matrix[0]), &[])?;
    let lead = b.add(Op::Broadcast(Broadcast { shape: matrix.clone(), axes: Vec::new() }), &[lead])?;
    let mut place = |axis| b.add(Op::Iota(Iota { dtype: DType::I64, shape: matrix.clone(), axis }), &[]);
    let (query, key) = (place(0)?, place(1)?);
    let now = b.sum_of(query, lead);
    let seen = b.map(ScalarFn::Le, &[key, now]);
    let seen = b.add(Op::Broadcast(Broadcast { shape: ty.shape.clone(), axes: vec![last - 1, last] }), &[seen])?;
    let never = b.full(&ty.shape, Scalar::lowest(ty.dtype));
    Ok(b.map(ScalarFn::Select, &[seen, scores, never]))
}

/// Heads that share keys stand below each other, as further queries of one head.
fn folded(b: &mut Build<'_>, x: Value, keys: &Shape) -> Result<Value, Diag> {
    let mut shape = b.ty(x).shape.clone();
    let rank = shape.rank();
    if rank < 3 || shape[rank - 3] == keys[rank - 3] {
        return Ok(x);
    }
    let group = shape[rank - 3].exact_div(&keys[rank - 3]);
    let group = group.ok_or_else(|| Diag::new("heads share keys alike"))?;
    shape.0[rank - 3] = keys[rank - 3].clone();
    shape.0[rank - 2] = &group * &shape[rank - 2];
    b.add(Op::Reshape(shape), &[x])
}

/// Products of the matrices in the last two axes, over the last axis of `x` and this one of `y`.
fn matmul(b: &mut Build<'_>, x: Value, y: Value, axis: usize) -> Result<Value, Diag> {
    let rank = b.ty(x).rank();
    let lead: Vec<usize> = (0..rank - 2).collect();
    let axes = DotAxes { lhs_batch: lead.clone(), rhs_batch: lead, lhs_contract: vec![rank - 1], rhs_contract: vec![axis] };
    b.add(Op::Dot(axes), &[x, y])
}

/// A value whose axes of one element are repeated.
pub(super) fn stretched(b: &mut Build<'_>, x: Value, shape: &Shape) -> Result<Value, Diag> {
    let from = b.ty(x).shape.clone();
    let kept: Vec<usize> = (0..from.rank()).filter(|axis| !from[*axis].is(1) || shape[*axis].is(1)).collect();
    let narrow = Shape(kept.iter().map(|axis| from[*axis].clone()).collect());
    let x = b.add(Op::Reshape(narrow), &[x])?;
    b.add(Op::Broadcast(Broadcast { shape: shape.clone(), axes: kept }), &[x])
}

fn with_last(shape: &Shape, last: &Dim) -> Shape {
    let mut shape = shape.clone();
    if let Some(own) = shape.0.last_mut() {
        *own = last.clone();
    }
    shape
}
