//! The LLaMA family, which Mistral and Qwen2 are of: Touvron et al. (2023), "LLaMA: Open and efficient foundation language models".

use graver_hub::Names;
use graver_ir::Error;
use graver_nn::{Activation, Embedding, Heads, Init, KvCache, Linear, Mask, Past, RmsNorm};
use graver_trace::{DType, Module, Size, Tensor, arange, enter};
use serde::Deserialize;

use super::rope::RopeScaling;
use super::{CausalBody, pasts};
use crate::config::{Configuration, added, positive, probability, require, splits};
use crate::parts::{linear_if, table};
use crate::pretrained::{Pretrained, stack};

/// `config.json` of a model of the family.
#[derive(Clone, Debug, Deserialize)]
pub struct LlamaConfig {
    /// The number of tokens.
    pub vocab_size: usize,
    /// The width.
    pub hidden_size: usize,
    /// The width between the dense layers.
    pub intermediate_size: usize,
    /// The number of blocks.
    pub num_hidden_layers: usize,
    /// The number of heads of attention.
    pub num_attention_heads: usize,
    /// The number of heads of keys and values; as many without it.
    pub num_key_value_heads: Option<usize>,
    /// The width of a head; the width by the heads without it.
    pub head_dim: Option<usize>,
    /// The function of the gate.
    #[serde(deserialize_with = "crate::activation::read")]
    pub hidden_act: Activation,
    /// The length that the model was trained for.
    pub max_position_embeddings: usize,
    /// What norms add to mean squares.
    pub rms_norm_eps: f64,
    /// What the frequencies of positions are powers of, in older files.
    pub rope_theta: f64,
    /// How frequencies are scaled, in older files.
    pub rope_scaling: Option<RopeScaling>,
    /// How frequencies are scaled.
    pub rope_parameters: Option<RopeScaling>,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether all of attention has biases.
    pub attention_bias: bool,
    /// Whether the dense layers have biases.
    pub mlp_bias: bool,
    /// The probability of looking past a token in training.
    pub attention_dropout: f64,
    /// How many tokens back a query sees; all without it.
    pub sliding_window: Option<usize>,
    /// Whether it is so, where a file says.
    pub use_sliding_window: bool,
    /// Whether the table of tokens is the head's too.
    pub tie_word_embeddings: bool,
}

const LLAMA: &str = r#"{
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "qkv_bias": false,
    "attention_bias": false, "mlp_bias": false, "attention_dropout": 0.0, "use_sliding_window": false,
    "tie_word_embeddings": false
}"#;

const MISTRAL: &str = r#"{
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "qkv_bias": false, "attention_bias": false, "mlp_bias": false, "attention_dropout": 0.0,
    "sliding_window": 4096, "use_sliding_window": true, "tie_word_embeddings": false
}"#;

const QWEN2: &str = r#"{
    "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "qkv_bias": true, "attention_bias": false, "mlp_bias": false, "attention_dropout": 0.0,
    "sliding_window": 4096, "use_sliding_window": false, "tie_word_embeddings": false
}"#;

impl Configuration for LlamaConfig {
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[("llama", LLAMA), ("mistral", MISTRAL), ("qwen2", QWEN2)];

    fn check(&self) -> Result<(), Error> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.key_heads()),
            ("head_dim", self.head_dim.unwrap_or(1)),
            ("sliding_window", self.window().unwrap_or(1)),
        ];
        let lacks = self.rope().lacks(self.width());
        let theta = self.rope().rope_theta.unwrap_or(self.rope_theta);
        let further = [
            splits("num_attention_heads", self.num_attention_heads, "num_key_value_heads", self.key_heads()),
            (self.head_dim.is_some() || splits("", self.hidden_size, "", self.num_attention_heads).0, self.uneven()),
            (
                self.num_attention_heads == 0 || self.width().is_multiple_of(2),
                format!("the width of a head is {}, which is odd", self.width()),
            ),
            (self.width() <= MAX_WIDTH, format!("the width of a head is {}, beyond {MAX_WIDTH}", self.width())),
            (theta > 0.0 && theta.is_finite(), format!("`rope_theta` is {theta}, and must be a number above 0")),
            added("rms_norm_eps", self.rms_norm_eps),
            probability("attention_dropout", self.attention_dropout),
            (lacks.is_none(), lacks.unwrap_or_default()),
        ];
        require(positive(sizes).into_iter().chain(further))
    }
}

/// Frequencies are made for every pair of a head, before any weight is looked at.
const MAX_WIDTH: usize = 1 << 16;

impl LlamaConfig {
    fn uneven(&self) -> String {
        splits("hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads).1
    }

    fn key_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// The width of a head.
    fn width(&self) -> usize {
        self.head_dim.unwrap_or_else(|| self.hidden_size / self.num_attention_heads.max(1))
    }

    fn window(&self) -> Option<usize> {
        self.sliding_window.filter(|_| self.use_sliding_window)
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes below 2^53")]
    fn rope(&self) -> RopeScaling {
        let said = self.rope_parameters.clone().or_else(|| self.rope_scaling.clone()).unwrap_or_default();
        let old = said.original_max_position_embeddings.unwrap_or(self.max_position_embeddings as f64);
        RopeScaling { original_max_position_embeddings: Some(old), ..said }
    }
}

/// The body of a model of the family. Parameters have the names of `LlamaModel`.
#[derive(Debug, Module)]
pub struct Llama {
    embed_tokens: Embedding,
    layers: Vec<Block>,
    norm: RmsNorm,
    #[module(skip)]
    window: Option<usize>,
    #[module(skip)]
    longest: usize,
    #[module(skip)]
    steady: usize,
}

#[derive(Debug, Module)]
struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

#[derive(Debug, Module)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    #[module(skip)]
    heads: Heads,
}

/// Shazeer (2020), "GLU variants improve transformer".
#[derive(Debug, Module)]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Block {
    fn new(config: &LlamaConfig, init: &mut Init) -> Self {
        let norm = |init: &mut Init| RmsNorm::new(config.hidden_size).eps(config.rms_norm_eps).init(init);
        let dense = |from: usize, to: usize, init: &mut Init| linear_if(config.mlp_bias, from, to, init);
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Self {
            input_layernorm: norm(init),
            self_attn: Attention::new(config, init),
            post_attention_layernorm: norm(init),
            mlp: Mlp {
                gate_proj: dense(hidden, inner, init),
                up_proj: dense(hidden, inner, init),
                down_proj: dense(inner, hidden, init),
                activation: config.hidden_act,
            },
        }
    }

    #[track_caller]
    fn forward(&self, x: Tensor, mask: Mask, past: Option<Past<'_>>) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let x = x + self.self_attn.forward(self.input_layernorm.forward(x), mask, past);
        x + self.mlp.forward(self.post_attention_layernorm.forward(x))
    }
}

impl Attention {
    fn new(config: &LlamaConfig, init: &mut Init) -> Self {
        let width = config.width();
        let (queries, keys) = (config.num_attention_heads * width, config.key_heads() * width);
        let biased = config.qkv_bias || config.attention_bias;
        let rotary = config.rope().rotary(width, config.rope_theta, config.max_position_embeddings);
        Self {
            q_proj: linear_if(biased, config.hidden_size, queries, init),
            k_proj: linear_if(biased, config.hidden_size, keys, init),
            v_proj: linear_if(biased, config.hidden_size, keys, init),
            o_proj: linear_if(config.attention_bias, queries, config.hidden_size, init),
            heads: Heads::new(config.num_attention_heads)
                .keys(config.key_heads())
                .rotary(rotary)
                .dropout(config.attention_dropout),
        }
    }

    #[track_caller]
    fn forward(&self, x: Tensor, mask: Mask, past: Option<Past<'_>>) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let (q, k, v) = (self.q_proj.forward(x), self.k_proj.forward(x), self.v_proj.forward(x));
        self.o_proj.forward(self.heads.attend_from(past, q, k, v, mask))
    }

    fn cache(&self, texts: usize, tokens: usize) -> KvCache {
        let weight = self.k_proj.weight.value();
        self.heads.cache(texts, tokens, weight.shape()[0], weight.dtype())
    }
}

impl Mlp {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.down_proj.forward(self.activation.forward(self.gate_proj.forward(x)) * self.up_proj.forward(x))
    }
}

/// A bias that hides keys this many tokens back, and further; the last of the queries `x` is the last of so many keys.
#[track_caller]
fn window_bias(x: Tensor, keys: Size, window: usize) -> Tensor {
    let now = arange(x.dim(1), DType::I64) + (keys - x.dim(1));
    let age = now.unsqueeze(-1) - arange(keys, DType::I64);
    let seen = age.cast(x.dtype()).zeros_like();
    let window = i64::try_from(window).expect("sizes in configurations are below 2^31");
    seen.masked_fill(age.ge(window), f64::from(f32::MIN)).unsqueeze(0).unsqueeze(0)
}

impl CausalBody for Llama {
    const PATH: &'static str = "model";

    #[track_caller]
    fn hidden(&self, ids: Tensor, mask: Tensor, caches: &[KvCache]) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let x = self.embed_tokens.forward(ids);
        // Where turns depend on the length, what the cache holds was turned otherwise, and it matters where a text begins.
        let begins = (self.steady < usize::MAX).then(|| -(mask.sum(1) - mask.dim(1)));
        let pasts = pasts(ids, mask, caches).map(|past| past.map(|past| begins.map_or(past, |begins| past.begins(begins))));
        let (keys, mask) = (mask.dim(1), Mask::causal().keep(mask));
        let mask = self.window.map_or(mask, |window| mask.bias(window_bias(x, keys, window)));
        self.norm.forward(self.layers.iter().zip(pasts).fold(x, |x, (block, past)| block.forward(x, mask, past)))
    }

    /// Positions are distances here: where a text begins does not matter.
    fn caches(&self, texts: usize, tokens: usize) -> Vec<KvCache> {
        self.layers.iter().map(|block| block.self_attn.cache(texts, tokens)).collect()
    }

    fn blocks(&self) -> usize {
        self.layers.len()
    }

    fn longest(&self) -> usize {
        self.longest
    }

    fn steady(&self) -> usize {
        self.steady
    }

    fn words(&self) -> &Embedding {
        &self.embed_tokens
    }

    fn is_tied(config: &LlamaConfig) -> bool {
        config.tie_word_embeddings
    }
}

impl Pretrained for Llama {
    type Config = LlamaConfig;

    fn new(config: &LlamaConfig, init: &mut Init) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            embed_tokens: table(config.vocab_size, config.hidden_size, init),
            layers: stack(config.num_hidden_layers, init, |init| Block::new(config, init)),
            norm: RmsNorm::new(config.hidden_size).eps(config.rms_norm_eps).init(init),
            // A window as wide as any text hides nothing.
            window: config.window().filter(|window| *window < config.rope().longest(config.max_position_embeddings)),
            longest: config.rope().longest(config.max_position_embeddings),
            steady: config.rope().rotary(config.width(), config.rope_theta, config.max_position_embeddings).steady(),
        })
    }

    fn names(&self) -> Names {
        Names { body: Self::PATH, ignored: &["rotary_emb.inv_freq"], tied: &[("lm_head.weight", "model.embed_tokens.weight")] }
    }
}
