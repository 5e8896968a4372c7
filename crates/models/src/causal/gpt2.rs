//! GPT-2: Radford et al. (2019), "Language models are unsupervised multitask learners".

use graver_hub::Names;
use graver_ir::Error;
use graver_nn::{Activation, Dropout, Embedding, Heads, Init, KvCache, LayerNorm, Mask, Past};
use graver_trace::{DType, Module, Param, Tensor, arange, enter};
use serde::Deserialize;

use super::{CausalBody, pasts, positions};
use crate::config::{Configuration, added, positive, probability, require, splits};
use crate::parts::{table, weights, zeros};
use crate::pretrained::{Pretrained, stack};

/// `config.json` of GPT-2.
#[derive(Clone, Debug, Deserialize)]
pub struct Gpt2Config {
    /// The number of tokens.
    pub vocab_size: usize,
    /// The rows of the table of positions.
    pub n_positions: usize,
    /// The width.
    pub n_embd: usize,
    /// The number of blocks.
    pub n_layer: usize,
    /// The number of heads of attention.
    pub n_head: usize,
    /// The width between the dense layers; four times the width without it.
    pub n_inner: Option<usize>,
    /// The function between the dense layers.
    #[serde(deserialize_with = "crate::activation::read")]
    pub activation_function: Activation,
    /// What norms add to variances.
    pub layer_norm_epsilon: f64,
    /// The probability of dropping in training.
    pub resid_pdrop: f64,
    /// The probability of dropping features of tokens and positions in training.
    pub embd_pdrop: f64,
    /// The probability of looking past a token in training.
    pub attn_pdrop: f64,
    /// Whether scores are divided by the root of a head's width.
    pub scale_attn_weights: bool,
    /// Whether scores are divided by the block's number too.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether the table of tokens is the head's too.
    pub tie_word_embeddings: bool,
}

impl Configuration for Gpt2Config {
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[(
        "gpt2",
        r#"{
            "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1, "embd_pdrop": 0.1,
            "attn_pdrop": 0.1, "scale_attn_weights": true, "scale_attn_by_inverse_layer_idx": false, "tie_word_embeddings": true
        }"#,
    )];

    fn check(&self) -> Result<(), Error> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("n_positions", self.n_positions),
            ("n_embd", self.n_embd),
            ("n_inner", self.n_inner.unwrap_or(1)),
        ];
        let further = [
            splits("n_embd", self.n_embd, "n_head", self.n_head),
            added("layer_norm_epsilon", self.layer_norm_epsilon),
            probability("resid_pdrop", self.resid_pdrop),
            probability("embd_pdrop", self.embd_pdrop),
            probability("attn_pdrop", self.attn_pdrop),
        ];
        require(positive(sizes).into_iter().chain(further))
    }
}

/// The body of GPT-2. Parameters have the names of `GPT2Model`.
#[derive(Debug, Module)]
pub struct Gpt2 {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<Block>,
    ln_f: LayerNorm,
    #[module(skip)]
    dropout: Dropout,
}

#[derive(Debug, Module)]
struct Block {
    ln_1: LayerNorm,
    attn: Attention,
    ln_2: LayerNorm,
    mlp: Mlp,
    #[module(skip)]
    dropout: Dropout,
}

#[derive(Debug, Module)]
struct Attention {
    c_attn: Affine,
    c_proj: Affine,
    #[module(skip)]
    heads: Heads,
}

#[derive(Debug, Module)]
struct Mlp {
    c_fc: Affine,
    c_proj: Affine,
    #[module(skip)]
    activation: Activation,
}

/// `x W + b`: a dense layer whose weight is `[inputs, outputs]`.
#[derive(Debug, Module)]
struct Affine {
    weight: Param,
    bias: Param,
}

impl Affine {
    fn new(inputs: usize, outputs: usize, init: &mut Init) -> Self {
        Self { weight: weights(&[inputs, outputs], init), bias: zeros(outputs, init) }
    }

    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        x.matmul(&self.weight) + &self.bias
    }
}

impl Block {
    fn new(config: &Gpt2Config, place: usize, init: &mut Init) -> Self {
        let (width, inner) = (config.n_embd, config.n_inner.unwrap_or(4 * config.n_embd));
        let norm = |init: &mut Init| LayerNorm::new(width).eps(config.layer_norm_epsilon).init(init);
        Self {
            ln_1: norm(init),
            attn: Attention {
                c_attn: Affine::new(width, 3 * width, init),
                c_proj: Affine::new(width, width, init),
                heads: Heads::new(config.n_head).scale(scale(config, place)).dropout(config.attn_pdrop),
            },
            ln_2: norm(init),
            mlp: Mlp {
                c_fc: Affine::new(width, inner, init),
                c_proj: Affine::new(inner, width, init),
                activation: config.activation_function,
            },
            dropout: Dropout::new(config.resid_pdrop),
        }
    }

    #[track_caller]
    fn forward(&self, x: Tensor, mask: Mask, past: Option<Past<'_>>) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let x = x + self.dropout.forward(self.attn.forward(self.ln_1.forward(x), mask, past));
        x + self.dropout.forward(self.mlp.forward(self.ln_2.forward(x)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn scale(config: &Gpt2Config, place: usize) -> f64 {
    let width = if config.scale_attn_weights { (config.n_embd / config.n_head) as f64 } else { 1.0 };
    let place = if config.scale_attn_by_inverse_layer_idx { (place + 1) as f64 } else { 1.0 };
    1.0 / (width.sqrt() * place)
}

impl Attention {
    #[track_caller]
    fn forward(&self, x: Tensor, mask: Mask, past: Option<Past<'_>>) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let parts = self.c_attn.forward(x).chunk(3, -1);
        self.c_proj.forward(self.heads.attend_from(past, parts[0], parts[1], parts[2], mask))
    }

    fn cache(&self, texts: usize, tokens: usize) -> KvCache {
        let weight = self.c_proj.weight.value();
        self.heads.cache(texts, tokens, weight.shape()[0], weight.dtype())
    }
}

impl Mlp {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.c_proj.forward(self.activation.forward(self.c_fc.forward(x)))
    }
}

impl CausalBody for Gpt2 {
    const PATH: &'static str = "transformer";

    #[track_caller]
    fn hidden(&self, ids: Tensor, mask: Tensor, caches: &[KvCache]) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let places = if caches.is_empty() { arange(ids.dim(1), DType::I64) } else { positions(ids, mask) };
        let x = self.dropout.forward(self.wte.forward(ids) + self.wpe.forward(places));
        let (pasts, mask) = (pasts(ids, mask, caches), Mask::causal().keep(mask));
        self.ln_f.forward(self.h.iter().zip(pasts).fold(x, |x, (block, past)| block.forward(x, mask, past)))
    }

    fn caches(&self, texts: usize, tokens: usize) -> Vec<KvCache> {
        self.h.iter().map(|block| block.attn.cache(texts, tokens)).collect()
    }

    fn blocks(&self) -> usize {
        self.h.len()
    }

    fn longest(&self) -> usize {
        self.wpe.weight.value().shape()[0]
    }

    fn words(&self) -> &Embedding {
        &self.wte
    }

    fn is_tied(config: &Gpt2Config) -> bool {
        config.tie_word_embeddings
    }
}

impl Pretrained for Gpt2 {
    type Config = Gpt2Config;

    fn new(config: &Gpt2Config, init: &mut Init) -> Result<Self, Error> {
        config.check()?;
        let mut place = 0..;
        Ok(Self {
            wte: table(config.vocab_size, config.n_embd, init),
            wpe: table(config.n_positions, config.n_embd, init),
            h: stack(config.n_layer, init, |init| Block::new(config, place.next().expect("numbers do not end"), init)),
            ln_f: LayerNorm::new(config.n_embd).eps(config.layer_norm_epsilon).init(init),
            dropout: Dropout::new(config.embd_pdrop),
        })
    }

    fn names(&self) -> Names {
        Names {
            body: Self::PATH,
            ignored: &["attn.bias", "attn.masked_bias"],
            tied: &[("lm_head.weight", "transformer.wte.weight")],
        }
    }
}
