//! Scaled dot-product attention: one composite, whatever masks, biases and shared heads it has.

use graver_ir::op::Composite;
use graver_ir::{DType, Dim, ScalarFn, Shape, Type};

use super::composite::{floats, one, softmax, tagged, with_number};
use super::contract::matmul;
use super::index::{iota_of, size_like};
use super::map::{broadcast_pair, like, map, same_dtype, stretch};
use super::movement::{reshape_to, transpose};
use crate::call::call;
use crate::context::{Traced, done, wrong};
use crate::tensor::Tensor;

/// What an attention is besides its operands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attention {
    causal: bool,
    scale: Option<f64>,
}

impl Attention {
    /// Every query sees every key; scores are divided by the root of the width.
    #[must_use]
    pub const fn new() -> Self {
        Self { causal: false, scale: None }
    }

    /// The last query sees every key, the one before all but the last, and so on.
    #[must_use]
    pub const fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// Scores are multiplied by this instead.
    #[must_use]
    pub const fn scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// The composite's attributes for queries of this type.
    fn attributes(self, q: &Type) -> Traced<Attributes> {
        let scale = match (self.scale, q.shape[q.rank() - 1].as_const()) {
            (Some(scale), _) => scale,
            #[expect(clippy::cast_precision_loss, reason = "a width is far below 2^53")]
            (None, Some(width)) => 1.0 / (width as f64).sqrt(),
            (None, None) => return wrong(format!("the width of {q} must be a number")),
        };
        Ok(Attributes { causal: self.causal, scale })
    }
}

/// What the body of the composite depends on besides its operands.
#[derive(Clone, Copy)]
struct Attributes {
    causal: bool,
    scale: f64,
}

/// Ainslie et al. (2023), "GQA": how many heads of queries each head of keys and values serves.
fn check_attention(q: &Type, k: &Type, v: &Type) -> Traced<Dim> {
    same_dtype(q, k)?;
    same_dtype(q, v)?;
    floats("attention", q)?;
    let rank = q.rank();
    let alike = rank >= 2
        && k.rank() == rank
        && v.rank() == rank
        && v.shape[..rank - 1] == k.shape[..rank - 1]
        && k.shape[rank - 1] == q.shape[rank - 1];
    let group = match rank {
        _ if !alike => None,
        _ if k.shape[..rank - 2] == q.shape[..rank - 2] => Some(Dim::ONE),
        3.. if k.shape[..rank - 3] == q.shape[..rank - 3] => q.shape[rank - 3].exact_div(&k.shape[rank - 3]),
        _ => None,
    };
    group.map_or_else(
        || {
            let takes = "takes q [.., queries, d], k [.., keys, d] and v [.., keys, e]";
            wrong(format!("{takes}, whose heads (the axis before) may serve several of the queries', got {q}, {k} and {v}"))
        },
        Ok,
    )
}

/// Vaswani et al. (2017), "Attention is all you need": `softmax(scale * q k^T + bias) v`.
#[track_caller]
fn attention(q: Tensor, k: Tensor, v: Tensor, bias: Option<Tensor>, options: Attention) -> Traced {
    let ty = q.ty()?;
    let group = check_attention(&ty, &k.ty()?, &v.ty()?)?;
    if let Some(bias) = bias {
        same_dtype(&ty, &bias.ty()?)?;
    }
    let attributes = options.attributes(&ty)?;
    let name = format!("{}scale{:e}", if attributes.causal { "causal_" } else { "" }, attributes.scale);
    let args: Vec<Tensor> = [q, k, v].into_iter().chain(bias).collect();
    one(call(tagged(Composite::Attention, &name), &args, |args| {
        let (q, keys, values) = (&ty.shape, args[1].ty()?.shape, args[2].ty()?.shape);
        // Heads that share keys stand below each other, as further queries of one head: keys and values are not repeated.
        let folded = fold(q, &group);
        let columns = &keys[keys.len() - 2];
        let scores = matmul(reshape_to(args[0], folded.clone())?, transpose(args[1], (-2).into(), (-1).into())?)?;
        let scores = with_number(ScalarFn::Mul, reshape_to(scores, with_last(q, columns))?, attributes.scale)?;
        let shares = softmax(masked(scores, args.get(3).copied(), attributes)?)?;
        let y = matmul(reshape_to(shares, with_last(&folded, columns))?, args[2])?;
        Ok(vec![reshape_to(y, with_last(q, &values[values.len() - 1]))?])
    }))
}

/// `[.., heads, queries, d]` as `[.., heads / group, group * queries, d]`.
fn fold(q: &Shape, group: &Dim) -> Shape {
    let mut shape = q.clone();
    if *group != Dim::ONE {
        let rank = shape.len();
        shape.0[rank - 3] = q[rank - 3].floor_div(group);
        shape.0[rank - 2] = group * &q[rank - 2];
    }
    shape
}

fn with_last(shape: &Shape, last: &Dim) -> Shape {
    let mut shape = shape.clone();
    let rank = shape.len();
    shape.0[rank - 1] = last.clone();
    shape
}

/// The scores with the bias, and without what comes later.
#[track_caller]
fn masked(mut scores: Tensor, bias: Option<Tensor>, attributes: Attributes) -> Traced {
    if let Some(bias) = bias {
        scores = map(ScalarFn::Add, &[scores, stretch(bias, &scores.ty()?.shape)?])?;
    }
    if attributes.causal { mask_future(scores) } else { Ok(scores) }
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

impl Tensor {
    /// Scaled dot-product attention of queries `[.., l, d]` over keys `[.., s, d]` and values `[.., s, e]`: `[.., l, e]`.
    /// Keys and values may have fewer heads (the axis before) than queries: each then serves as many in a row.
    #[must_use]
    #[track_caller]
    pub fn attention(self, keys: Self, values: Self, options: Attention) -> Self {
        done("attention", attention(self, keys, values, None, options))
    }

    /// [`Tensor::attention`] with a bias that is added to the scores and broadcasts to `[.., l, s]`: minus infinity masks.
    #[must_use]
    #[track_caller]
    pub fn attention_with_bias(self, keys: Self, values: Self, bias: Self, options: Attention) -> Self {
        done("attention", attention(self, keys, values, Some(bias), options))
    }
}
