//! Blocks of transformers: Vaswani et al. (2017), "Attention is all you need"; before or after the norms, Xiong et al. (2020),
//! "On layer normalization in the transformer architecture".

use graver_trace::{Module, Tensor, enter};

use super::{Activation, Dropout, LayerNorm, Linear, Mask, MultiHeadAttention, Past};
use crate::init::Init;

/// Attention over the sequence itself, then two dense layers, each added to what it is of.
///
/// Parameters: `self_attn` ([`MultiHeadAttention`]), `linear1`, `linear2`, `norm1`, `norm2`.
///
/// ```
/// use graver_nn::{Activation, Init, Mask, TransformerEncoderLayer};
/// let block = TransformerEncoderLayer::new(64, 8, 256).activation(Activation::Gelu).norm_first(true).init(&mut Init::seed(0));
/// assert_eq!(block.linear1.weight.value().shape(), [256, 64]);
/// ```
#[derive(Debug, Module)]
pub struct TransformerEncoderLayer {
    /// Over the sequence itself.
    pub self_attn: MultiHeadAttention,
    /// From the width to the hidden one.
    pub linear1: Linear,
    /// And back.
    pub linear2: Linear,
    /// Of attention.
    pub norm1: LayerNorm,
    /// Of the dense layers.
    pub norm2: LayerNorm,
    #[module(skip)]
    residual: Residual,
}

/// [`TransformerEncoderLayer`] with attention over another sequence between the two.
///
/// Parameters: `self_attn`, `multihead_attn`, `linear1`, `linear2`, `norm1`, `norm2`, `norm3`.
#[derive(Debug, Module)]
pub struct TransformerDecoderLayer {
    /// Over the sequence itself.
    pub self_attn: MultiHeadAttention,
    /// Over the encoder's results.
    pub multihead_attn: MultiHeadAttention,
    /// From the width to the hidden one.
    pub linear1: Linear,
    /// And back.
    pub linear2: Linear,
    /// Of attention over the sequence itself.
    pub norm1: LayerNorm,
    /// Of attention over the encoder's results.
    pub norm2: LayerNorm,
    /// Of the dense layers.
    pub norm3: LayerNorm,
    #[module(skip)]
    residual: Residual,
}

/// What blocks are before they have values.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct TransformerOptions<L> {
    width: usize,
    heads: usize,
    hidden: usize,
    eps: f64,
    attention_dropout: f64,
    residual: Residual,
    make: fn(Self, &mut Init) -> L,
}

/// How a part is added to what it is of.
#[derive(Clone, Copy, Debug)]
struct Residual {
    norm_first: bool,
    activation: Activation,
    dropout: Dropout,
}

impl Residual {
    #[track_caller]
    fn add(self, x: Tensor, norm: &LayerNorm, part: impl FnOnce(Tensor) -> Tensor) -> Tensor {
        if self.norm_first {
            x + self.dropout.forward(part(norm.forward(x)))
        } else {
            norm.forward(x + self.dropout.forward(part(x)))
        }
    }

    #[track_caller]
    fn dense(self, x: Tensor, norm: &LayerNorm, [first, second]: [&Linear; 2]) -> Tensor {
        self.add(x, norm, |x| second.forward(self.dropout.forward(self.activation.forward(first.forward(x)))))
    }
}

impl TransformerEncoderLayer {
    /// Over so many features, by so many heads, through so many hidden features.
    pub const fn new(width: usize, heads: usize, hidden: usize) -> TransformerOptions<Self> {
        TransformerOptions::new(width, heads, hidden, |options, init| Self {
            self_attn: options.attention(init),
            linear1: Linear::new(options.width, options.hidden).init(init),
            linear2: Linear::new(options.hidden, options.width).init(init),
            norm1: options.norm(init),
            norm2: options.norm(init),
            residual: options.residual,
        })
    }

    /// The block applied to `[batch, time, width]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor, mask: Mask) -> Tensor {
        self.forward_from(None, x, mask)
    }

    /// The block applied behind what a cache has seen: [`MultiHeadAttention::forward_from`].
    #[must_use]
    #[track_caller]
    pub fn forward_from(&self, past: Option<Past<'_>>, x: Tensor, mask: Mask) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let x = self.residual.add(x, &self.norm1, |x| self.self_attn.forward_from(past, x, mask));
        self.residual.dense(x, &self.norm2, [&self.linear1, &self.linear2])
    }
}

impl TransformerDecoderLayer {
    /// Over so many features, by so many heads, through so many hidden features.
    pub const fn new(width: usize, heads: usize, hidden: usize) -> TransformerOptions<Self> {
        TransformerOptions::new(width, heads, hidden, |options, init| Self {
            self_attn: options.attention(init),
            multihead_attn: options.attention(init),
            linear1: Linear::new(options.width, options.hidden).init(init),
            linear2: Linear::new(options.hidden, options.width).init(init),
            norm1: options.norm(init),
            norm2: options.norm(init),
            norm3: options.norm(init),
            residual: options.residual,
        })
    }

    /// The block applied to `[batch, queries, width]` over an encoder's `memory: [batch, keys, width]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor, memory: Tensor, mask: Mask, memory_mask: Mask) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let x = self.residual.add(x, &self.norm1, |x| self.self_attn.forward(x, mask));
        let x = self.residual.add(x, &self.norm2, |x| self.multihead_attn.forward_over(x, memory, memory_mask));
        self.residual.dense(x, &self.norm3, [&self.linear1, &self.linear2])
    }
}

impl<L> TransformerOptions<L> {
    const fn new(width: usize, heads: usize, hidden: usize, make: fn(Self, &mut Init) -> L) -> Self {
        let residual = Residual { norm_first: false, activation: Activation::Relu, dropout: Dropout::new(0.1) };
        Self { width, heads, hidden, eps: 1e-5, attention_dropout: 0.1, residual, make }
    }

    /// The function between the dense layers: relu by default.
    pub const fn activation(mut self, activation: Activation) -> Self {
        self.residual.activation = activation;
        self
    }

    /// The probability of dropping parts' results, and keys that a query looks at, in training: 0.1 by default.
    pub const fn dropout(mut self, probability: f64) -> Self {
        self.residual.dropout = Dropout::new(probability);
        self.attention_dropout(probability)
    }

    /// Another probability for keys alone. At 0 scores need not be kept in training.
    pub const fn attention_dropout(mut self, probability: f64) -> Self {
        self.attention_dropout = probability;
        self
    }

    /// What norms add to variances: 1e-5 by default.
    pub const fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Whether norms come before the parts instead of after the sums, as they do by default.
    pub const fn norm_first(mut self, first: bool) -> Self {
        self.residual.norm_first = first;
        self
    }

    /// The block with PyTorch's default values.
    ///
    /// # Panics
    /// If the width does not split into the heads.
    #[track_caller]
    pub fn init(self, init: &mut Init) -> L {
        (self.make)(self, init)
    }

    fn attention(&self, init: &mut Init) -> MultiHeadAttention {
        MultiHeadAttention::new(self.width, self.heads).dropout(self.attention_dropout).init(init)
    }

    fn norm(&self, init: &mut Init) -> LayerNorm {
        LayerNorm::new(self.width).eps(self.eps).init(init)
    }
}
