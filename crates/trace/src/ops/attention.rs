//! Scaled dot-product attention: one composite, whatever masks, biases and shared heads it has.

use graver_ir::{Dim, ScalarFn, Type};

use super::attend;
use super::composite::{floats, with_number};
use super::map::same_dtype;
use super::random::is_dropped;
use crate::context::{Traced, done, wrong};
use crate::tensor::Tensor;

/// What an attention is besides its operands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attention {
    causal: bool,
    scale: Option<f64>,
    dropout: f64,
}

impl Attention {
    /// Every query sees every key; scores are divided by the root of the width.
    #[must_use]
    pub const fn new() -> Self {
        Self { causal: false, scale: None, dropout: 0.0 }
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

    /// In training a query looks past each key with this probability, and the more at the others: scores are then kept for the derivative.
    #[must_use]
    pub const fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// What scores of queries of this type are multiplied by.
    fn scale_of(self, q: &Type) -> Traced<f64> {
        match (self.scale, q.shape[q.rank() - 1].as_const()) {
            (Some(scale), _) => Ok(scale),
            #[expect(clippy::cast_precision_loss, reason = "a width is far below 2^53")]
            (None, Some(width)) => Ok(1.0 / (width as f64).sqrt()),
            (None, None) => wrong(format!("the width of {q} must be a number")),
        }
    }
}

/// Ainslie et al. (2023), "GQA": each head of keys and values serves as many heads of queries.
fn check_attention(q: &Type, k: &Type, v: &Type) -> Traced<()> {
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
    if group.is_some() {
        return Ok(());
    }
    let takes = "takes q [.., queries, d], k [.., keys, d] and v [.., keys, e]";
    wrong(format!("{takes}, whose heads (the axis before) may serve several of the queries', got {q}, {k} and {v}"))
}

/// Vaswani et al. (2017), "Attention is all you need": `softmax(scale * q k^T + bias) v`. The queries are scaled: they are fewer than scores.
#[track_caller]
fn attention(q: Tensor, k: Tensor, v: Tensor, bias: Option<Tensor>, options: Attention) -> Traced {
    let ty = q.ty()?;
    check_attention(&ty, &k.ty()?, &v.ty()?)?;
    if let Some(bias) = bias {
        same_dtype(&ty, &bias.ty()?)?;
    }
    let q = with_number(ScalarFn::Mul, q, options.scale_of(&ty)?)?;
    let args: Vec<Tensor> = [q, k, v].into_iter().chain(bias).collect();
    if is_dropped(options.dropout)? {
        attend::attend_dropped(&args, options.causal, options.dropout)
    } else {
        attend::attend(&args, options.causal)
    }
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
