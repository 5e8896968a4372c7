//! Attention of several heads.

use graver_trace::{Attention, DType, Module, Param, Size, Tensor, arange, enter};

use super::{KvCache, Linear, Past, Rotary};
use crate::init::{Fill, Init};

/// What a query does not see, and what is added to scores. All of it together holds.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Mask {
    causal: bool,
    keep: Option<Tensor>,
    bias: Option<Tensor>,
}

impl Mask {
    /// Every query sees every key.
    pub const fn none() -> Self {
        Self { causal: false, keep: None, bias: None }
    }

    /// The last query sees every key, the one before all but the last, and so on.
    pub const fn causal() -> Self {
        Self { causal: true, keep: None, bias: None }
    }

    /// Only keys where `keep: [batch, keys]` is not 0 are seen: the attention mask of a tokeniser.
    pub const fn keep(mut self, keep: Tensor) -> Self {
        self.keep = Some(keep);
        self
    }

    /// This is added to the scores; it broadcasts to `[batch, heads, queries, keys]`.
    pub const fn bias(mut self, bias: Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// What is added to the scores besides the causal mask.
    #[track_caller]
    fn to_bias(self, dtype: DType) -> Option<Tensor> {
        let hidden = self.keep.map(|keep| {
            // The least number instead of minus infinity: a query that sees nothing gets a mean, not NaN.
            let zeros = keep.cast(dtype).zeros_like();
            zeros.masked_fill(keep.eq(0), least(dtype)).unsqueeze(1).unsqueeze(1)
        });
        match (hidden, self.bias) {
            (Some(hidden), Some(bias)) => Some(hidden + bias),
            (one, other) => one.or(other),
        }
    }
}

fn least(dtype: DType) -> f64 {
    if dtype == DType::F16 { -65504.0 } else { f64::from(f32::MIN) }
}

/// How a row of features is split into heads: what layers of attention have in common, whatever they call their weights.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Heads {
    queries: usize,
    keys: usize,
    rotary: Option<Rotary>,
    scale: Option<f64>,
    dropout: f64,
}

impl Heads {
    /// So many heads.
    pub const fn new(heads: usize) -> Self {
        Self { queries: heads, keys: heads, rotary: None, scale: None, dropout: 0.0 }
    }

    /// So many heads of keys and values, each of which serves several of the queries': Ainslie et al. (2023), "GQA".
    pub const fn keys(mut self, heads: usize) -> Self {
        self.keys = heads;
        self
    }

    /// Queries and keys are turned by their positions.
    pub fn rotary(mut self, rotary: Rotary) -> Self {
        self.rotary = Some(rotary);
        self
    }

    /// Scores are multiplied by this instead of divided by the root of a head's width.
    pub const fn scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// In training a query looks past each key with this probability.
    pub const fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// Attention of `q: [batch, queries, heads * d]` over `k: [batch, keys, heads' * d]` and `v: [batch, keys, heads' * e]`:
    /// `[batch, queries, heads * e]`.
    #[must_use]
    #[track_caller]
    pub fn attend(&self, q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor {
        self.attend_from(None, q, k, v, mask)
    }

    /// [`Heads::attend`] over the positions of a cache too, those of `k` and `v` behind them, which the cache then holds. The mask is of
    /// all of them.
    #[must_use]
    #[track_caller]
    pub fn attend_from(&self, past: Option<Past<'_>>, q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor {
        let (q, k, v) = (split(q, self.queries), split(k, self.keys), split(v, self.keys));
        // The last of both are at the same time.
        let (start, begins) = past.map_or((0.into(), None), |past| (past.length, past.begins));
        let (q, k) = (self.turned(q, k.dim(-2) - q.dim(-2) + start, begins), self.turned(k, start, begins));
        let (k, v) = past.map_or((k, v), |past| past.extend(k, v));
        self.attend_heads(q, k, v, mask)
    }

    /// Attention of `q: [batch, queries, heads * d]` over the positions that a cache holds, and no others: those of another sequence.
    #[must_use]
    #[track_caller]
    pub fn attend_over(&self, past: Past<'_>, q: Tensor, mask: Mask) -> Tensor {
        let q = split(q, self.queries);
        let q = self.turned(q, past.length - q.dim(-2), past.begins);
        let (k, v) = past.read();
        self.attend_heads(q, k, v, mask)
    }

    #[track_caller]
    fn attend_heads(&self, q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor {
        let mut options = Attention::new().dropout(self.dropout);
        if let Some(scale) = self.scale {
            options = options.scale(scale);
        }
        if mask.causal {
            options = options.causal();
        }
        join(match mask.to_bias(q.dtype()) {
            Some(bias) => q.attention_with_bias(k, v, bias, options),
            None => q.attention(k, v, options),
        })
    }

    /// Room for the keys and values of so many sequences of so many positions, each a row of so many features.
    #[must_use]
    pub fn cache(&self, batch: usize, capacity: usize, features: usize, dtype: DType) -> KvCache {
        KvCache::new(batch, self.keys, capacity, features / self.keys, dtype)
    }

    /// Heads turned by their positions, the first of which is `start`, counted from where each sequence begins.
    #[track_caller]
    fn turned(&self, x: Tensor, start: Size, begins: Option<Tensor>) -> Tensor {
        let Some(rotary) = &self.rotary else { return x };
        let positions = arange(x.dim(-2), DType::I64) + start;
        rotary.forward(x, begins.map_or(positions, |begins| positions - begins.unsqueeze(-1).unsqueeze(-1)))
    }
}

/// `[batch, time, heads * width]` as `[batch, heads, time, width]`.
#[track_caller]
fn split(x: Tensor, heads: usize) -> Tensor {
    x.reshape((x.dim(0), x.dim(1), heads, -1)).transpose(1, 2)
}

/// The inverse of [`split`].
#[track_caller]
fn join(x: Tensor) -> Tensor {
    x.transpose(1, 2).flatten(2)
}

/// Attention of several heads over a sequence, its own or another: Vaswani et al. (2017), "Attention is all you need".
///
/// Parameters: `in_proj_weight: [(heads + 2 * heads of keys) * d, width]`, rows for queries, keys and values after one another,
/// `in_proj_bias`, `out_proj.weight: [width, width]`, `out_proj.bias`.
///
/// ```
/// use graver_nn::{Init, Mask, MultiHeadAttention};
/// use graver_trace::{spec, trace};
/// let attention = MultiHeadAttention::new(64, 8).kv_heads(2).init(&mut Init::seed(0));
/// let traced = trace(|x| attention.forward(x, Mask::causal()), spec::<f32>(("batch", "time", 64)))?;
/// let (_, main) = traced.module().entry().expect("a traced module has an entry");
/// assert_eq!(main.result_types()[0].to_string(), "f32[batch, time, 64]");
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[derive(Debug, Module)]
pub struct MultiHeadAttention {
    /// `[(heads + 2 * heads of keys) * d, width]`
    pub in_proj_weight: Param,
    /// `[(heads + 2 * heads of keys) * d]`
    pub in_proj_bias: Option<Param>,
    /// From the heads' results to the width.
    pub out_proj: Linear,
    #[module(skip)]
    heads: Heads,
}

/// What a [`MultiHeadAttention`] is before it has values.
#[derive(Clone, Debug)]
#[must_use]
pub struct MultiHeadAttentionOptions {
    width: usize,
    heads: Heads,
    bias: bool,
}

impl MultiHeadAttention {
    /// Over so many features, by so many heads.
    #[expect(clippy::new_ret_no_self, reason = "a layer exists once it has values; until then it is options")]
    pub const fn new(width: usize, heads: usize) -> MultiHeadAttentionOptions {
        MultiHeadAttentionOptions { width, heads: Heads::new(heads), bias: true }
    }

    /// `x: [batch, time, width]` over itself.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor, mask: Mask) -> Tensor {
        self.forward_from(None, x, mask)
    }

    /// `x: [batch, time, width]` behind what a cache has seen, which then holds `x` too. The mask is of all positions.
    #[must_use]
    #[track_caller]
    pub fn forward_from(&self, past: Option<Past<'_>>, x: Tensor, mask: Mask) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let (queries, keys) = self.rows();
        let parts = self.project(x, 0, queries + 2 * keys);
        let part = |start: usize, size: usize| parts.narrow(-1, start, size);
        let (q, k, v) = (part(0, queries), part(queries, keys), part(queries + keys, keys));
        self.out_proj.forward(self.heads.attend_from(past, q, k, v, mask))
    }

    /// Room for the keys and values of so many sequences of so many positions.
    #[must_use]
    pub fn cache(&self, batch: usize, capacity: usize) -> KvCache {
        self.heads.cache(batch, capacity, self.rows().1, self.in_proj_weight.value().dtype())
    }

    /// `x: [batch, queries, width]` over `memory: [batch, keys, width]`.
    #[must_use]
    #[track_caller]
    pub fn forward_over(&self, x: Tensor, memory: Tensor, mask: Mask) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let (queries, keys) = self.rows();
        let (q, parts) = (self.project(x, 0, queries), self.project(memory, queries, 2 * keys));
        self.out_proj.forward(self.heads.attend(q, parts.narrow(-1, 0, keys), parts.narrow(-1, keys, keys), mask))
    }

    /// The rows of the weight for queries, and for keys.
    fn rows(&self) -> (usize, usize) {
        let Heads { queries, keys, .. } = self.heads;
        let width = self.in_proj_weight.value().shape()[0] / (queries + 2 * keys);
        (queries * width, keys * width)
    }

    /// `x` by some rows of the weight.
    #[track_caller]
    fn project(&self, x: Tensor, start: usize, rows: usize) -> Tensor {
        let y = x.matmul(self.in_proj_weight.get().narrow(0, start, rows).t());
        match &self.in_proj_bias {
            Some(bias) => y + bias.get().narrow(0, start, rows),
            None => y,
        }
    }
}

impl MultiHeadAttentionOptions {
    /// Fewer heads of keys and values, each of which serves several of the queries'; as many by default.
    pub fn kv_heads(mut self, heads: usize) -> Self {
        self.heads = self.heads.keys(heads);
        self
    }

    /// Queries and keys are turned by their positions; they are not by default.
    pub fn rotary(mut self, rotary: Rotary) -> Self {
        self.heads = self.heads.rotary(rotary);
        self
    }

    /// In training a query looks past each key with this probability, 0 by default.
    pub fn dropout(mut self, probability: f64) -> Self {
        self.heads = self.heads.dropout(probability);
        self
    }

    /// Whether there are biases; there are by default.
    pub const fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The layer with PyTorch's default values: Xavier uniform weights, biases 0.
    ///
    /// # Panics
    /// If the width does not split into the heads, or the heads into those of keys.
    #[track_caller]
    pub fn init(self, init: &mut Init) -> MultiHeadAttention {
        let Self { width, heads, bias } = self;
        let (queries, keys) = (heads.queries, heads.keys);
        assert!(queries > 0 && width % queries == 0, "a width of {width} does not split into {queries} heads");
        assert!(keys > 0 && queries % keys == 0, "{queries} heads do not share {keys} heads of keys");
        let rows = width / queries * (queries + 2 * keys);
        let in_proj_weight = init.param(Fill::XavierUniform { gain: 1.0 }, [rows, width]);
        let mut zeros = |size: usize| init.param(Fill::Constant(0.0), [size]);
        let (in_proj_bias, out_bias) = (bias.then(|| zeros(rows)), bias.then(|| zeros(width)));
        let out_proj = Linear { bias: out_bias, ..Linear::new(width, width).bias(false).init(init) };
        MultiHeadAttention { in_proj_weight, in_proj_bias, out_proj, heads }
    }
}
