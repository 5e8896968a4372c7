//! T5: Raffel et al. (2020), "Exploring the limits of transfer learning with a unified text-to-text transformer".

use std::sync::Arc;

use graver_hub::{Names, Weights};
use graver_ir::{Diag, Error};
use graver_nn::{Activation, Dropout, Embedding, Heads, Init, KvCache, Linear, Mask, Past, RmsNorm};
use graver_trace::{Array, DType, Module, Param, Size, Tensor, Walk, arange, constant_array, enter, fail};
use serde::Deserialize;

use crate::config::{Configuration, added, positive, probability, require};
use crate::parts::{table, unbiased, unlike_blocks};
use crate::pretrained::{Pretrained, stack};

/// `config.json` of T5.
#[derive(Clone, Debug, Deserialize)]
pub struct T5Config {
    /// The number of tokens.
    pub vocab_size: usize,
    /// The width.
    pub d_model: usize,
    /// The width of a head.
    pub d_kv: usize,
    /// The width between the dense layers.
    pub d_ff: usize,
    /// The number of the encoder's blocks.
    pub num_layers: usize,
    /// The number of the decoder's; as many without it.
    pub num_decoder_layers: Option<usize>,
    /// The number of heads of attention.
    pub num_heads: usize,
    /// How many distances are told apart.
    pub relative_attention_num_buckets: usize,
    /// From which distance on all are one.
    pub relative_attention_max_distance: usize,
    /// The probability of dropping in training.
    pub dropout_rate: f64,
    /// What norms add to mean squares.
    pub layer_norm_epsilon: f64,
    /// The dense layers' function, `gated-` before it if it is a gate's.
    pub feed_forward_proj: String,
    /// Whether the table of tokens is the last layer too, which then is scaled.
    pub tie_word_embeddings: bool,
    /// The token that a decoded text begins with.
    pub decoder_start_token_id: u32,
    /// Whether it is scaled, where a file says.
    pub scale_decoder_outputs: Option<bool>,
    /// Whether the file has a last layer of its own.
    #[serde(skip)]
    pub has_head: bool,
}

impl Configuration for T5Config {
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[(
        "t5",
        r#"{
            "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
            "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "dropout_rate": 0.1,
            "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu", "tie_word_embeddings": true,
            "decoder_start_token_id": 0
        }"#,
    )];

    fn check(&self) -> Result<(), Error> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_heads", self.num_heads),
        ];
        let (buckets, farthest) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        let distances = buckets >= 4 && farthest > buckets / 2 && farthest <= MAX_DISTANCE;
        let activation = self.dense();
        let further = [
            (distances, format!("{buckets} numbers for distances up to {farthest} (at most {MAX_DISTANCE}) are not told apart")),
            (
                self.vocab_size == 0 || (self.decoder_start_token_id as usize) < self.vocab_size,
                format!("`decoder_start_token_id` is {}, and there are {} tokens", self.decoder_start_token_id, self.vocab_size),
            ),
            added("layer_norm_epsilon", self.layer_norm_epsilon),
            probability("dropout_rate", self.dropout_rate),
            (activation.is_ok(), activation.err().map(|diag| diag.to_string()).unwrap_or_default()),
        ];
        require(positive(sizes).into_iter().chain(further))
    }
}

/// Distances are tabled up to here.
const MAX_DISTANCE: usize = 1 << 16;

impl T5Config {
    /// Whether the dense layers have a gate, and their function.
    fn dense(&self) -> Result<(bool, Activation), Diag> {
        let name = self.feed_forward_proj.as_str();
        match name.strip_prefix("gated-") {
            // As the files mean it.
            Some("gelu") => Ok((true, Activation::GeluTanh)),
            Some(name) => Ok((true, crate::activation::named(name)?)),
            None => Ok((false, crate::activation::named(name)?)),
        }
    }

    fn is_scaled(&self) -> bool {
        self.scale_decoder_outputs.unwrap_or(self.tie_word_embeddings)
    }
}

/// An encoder and a decoder with scores of the next token: `T5ForConditionalGeneration`.
///
/// Parameters have its names.
#[derive(Debug)]
pub struct T5 {
    shared: Embedding,
    encoder: Stack,
    decoder: Stack,
    head: Option<Param>,
    config: T5Config,
}

/// What a block of the decoder keeps of the tokens before, and of the encoder's rows.
#[derive(Debug, Module)]
pub struct T5Cache {
    own: KvCache,
    other: KvCache,
}

/// What a stack's blocks see besides the tokens that they are given.
#[derive(Clone, Copy)]
struct Around<'c> {
    mask: Mask,
    /// How many tokens came before, which the caches hold.
    past: Size,
    memory: Memory,
    /// One a block, or none.
    caches: &'c [T5Cache],
}

/// The encoder's rows: themselves, or how many of them the caches hold.
#[derive(Clone, Copy)]
enum Memory {
    None,
    Rows(Tensor, Mask),
    Kept(Size, Mask),
}

impl Around<'_> {
    fn new(mask: Mask, memory: Memory) -> Self {
        Self { mask, past: 0.into(), memory, caches: &[] }
    }
}

/// A stack of blocks.
#[derive(Debug, Module)]
struct Stack {
    block: Vec<Block>,
    final_layer_norm: RmsNorm,
    #[module(skip)]
    distances: Distances,
    #[module(skip)]
    dropout: Dropout,
}

/// Attention over the sequence itself, perhaps over the encoder's results, and dense layers; each adds to what it is of.
#[derive(Debug)]
struct Block {
    own: Part<Attention>,
    other: Option<Part<Attention>>,
    dense: Part<Dense>,
}

/// What a norm comes before.
#[derive(Debug)]
struct Part<P> {
    inner: P,
    norm: RmsNorm,
    dropout: Dropout,
}

#[derive(Debug, Module)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    relative_attention_bias: Option<Embedding>,
    #[module(skip)]
    heads: Heads,
}

#[derive(Debug)]
struct Dense {
    gate: Option<Linear>,
    up: Linear,
    wo: Linear,
    activation: Activation,
    dropout: Dropout,
}

/// The number of each distance, from the farthest behind to the farthest before.
#[derive(Clone, Debug)]
struct Distances {
    numbers: Arc<[i64]>,
    farthest: i64,
}

impl Distances {
    /// Half of the numbers are for near distances, one each; the others' widths grow. A decoder has none for what comes later.
    fn new(config: &T5Config, decodes: bool) -> Self {
        let size = |size: usize| i64::try_from(size).expect("sizes in configurations are below 2^31");
        let (numbers, farthest) = (size(config.relative_attention_num_buckets), size(config.relative_attention_max_distance));
        let half = if decodes { numbers } else { numbers / 2 };
        let number = |key: i64| match (decodes, key > 0) {
            (true, true) => 0,
            (true, false) => bucket(-key, half, farthest),
            (false, later) => bucket(key.abs(), half, farthest) + if later { half } else { 0 },
        };
        Self { numbers: (-farthest..=farthest).map(number).collect(), farthest }
    }

    /// The number of every key's distance from every query, `i64[queries, keys]`; there are `past` keys more, before the others.
    #[track_caller]
    fn of(&self, queries: Size, past: Size) -> Tensor {
        let now = arange(queries, DType::I64) + past;
        let distance = (arange(queries + past, DType::I64) - now.unsqueeze(-1)).clamp(-self.farthest, self.farthest);
        let numbers = Array::from_vec([self.numbers.len()], self.numbers.to_vec()).expect("as many as there are");
        constant_array(&numbers).index_select(0, distance + self.farthest)
    }
}

/// In `f32`, as the models were trained.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "distances are below 2^17")]
fn bucket(distance: i64, numbers: i64, farthest: i64) -> i64 {
    let near = numbers / 2;
    if distance < near {
        return distance;
    }
    let share = (distance as f32 / near as f32).ln() / ((farthest as f64 / near as f64).ln() as f32);
    (near + (share * (numbers - near) as f32) as i64).min(numbers - 1)
}

impl Attention {
    fn new(config: &T5Config, biased: bool, init: &mut Init) -> Self {
        let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
        Self {
            q: unbiased(width, inner, init),
            k: unbiased(width, inner, init),
            v: unbiased(width, inner, init),
            o: unbiased(inner, width, init),
            relative_attention_bias: biased.then(|| table(config.relative_attention_num_buckets, config.num_heads, init)),
            heads: Heads::new(config.num_heads).scale(1.0).dropout(config.dropout_rate),
        }
    }

    /// Over these rows, and what a cache holds before them.
    #[track_caller]
    fn forward(&self, x: Tensor, rows: Tensor, mask: Mask, past: Option<Past<'_>>) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.o.forward(self.heads.attend_from(past, self.q.forward(x), self.k.forward(rows), self.v.forward(rows), mask))
    }

    /// Over what a cache holds.
    #[track_caller]
    fn forward_over(&self, x: Tensor, mask: Mask, past: Past<'_>) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.o.forward(self.heads.attend_over(past, self.q.forward(x), mask))
    }

    fn cache(&self, texts: usize, tokens: usize) -> KvCache {
        let weight = self.k.weight.value();
        self.heads.cache(texts, tokens, weight.shape()[0], weight.dtype())
    }
}

impl Dense {
    fn new(config: &T5Config, init: &mut Init) -> Result<Self, Error> {
        let (gated, activation) = config.dense()?;
        Ok(Self {
            gate: gated.then(|| unbiased(config.d_model, config.d_ff, init)),
            up: unbiased(config.d_model, config.d_ff, init),
            wo: unbiased(config.d_ff, config.d_model, init),
            activation,
            dropout: Dropout::new(config.dropout_rate),
        })
    }

    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = match &self.gate {
            Some(gate) => self.activation.forward(gate.forward(x)) * self.up.forward(x),
            None => self.activation.forward(self.up.forward(x)),
        };
        self.wo.forward(self.dropout.forward(y))
    }
}

impl Module for Dense {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field("wi_0", &self.gate);
        walk.field(if self.gate.is_some() { "wi_1" } else { "wi" }, &self.up);
        walk.field("wo", &self.wo);
    }
}

impl<P> Part<P> {
    fn new(inner: P, config: &T5Config, init: &mut Init) -> Self {
        let norm = RmsNorm::new(config.d_model).eps(config.layer_norm_epsilon).init(init);
        Self { inner, norm, dropout: Dropout::new(config.dropout_rate) }
    }

    #[track_caller]
    fn add(&self, x: Tensor, part: impl FnOnce(&P, Tensor) -> Tensor) -> Tensor {
        x + self.dropout.forward(part(&self.inner, self.norm.forward(x)))
    }
}

impl<P: Module> Part<P> {
    fn visit_as(&self, place: usize, name: &str, walk: &mut Walk<'_>) {
        walk.field(&format!("layer.{place}.{name}"), &self.inner);
        walk.field(&format!("layer.{place}.layer_norm"), &self.norm);
    }
}

impl Module for Block {
    fn visit(&self, walk: &mut Walk<'_>) {
        self.own.visit_as(0, "SelfAttention", walk);
        if let Some(other) = &self.other {
            other.visit_as(1, "EncDecAttention", walk);
        }
        self.dense.visit_as(1 + usize::from(self.other.is_some()), "DenseReluDense", walk);
    }
}

impl Block {
    fn new(config: &T5Config, decodes: bool, first: bool, init: &mut Init) -> Result<Self, Error> {
        let own = Attention::new(config, first, init);
        let own = Part::new(own, config, init);
        let other = decodes.then(|| {
            let other = Attention::new(config, false, init);
            Part::new(other, config, init)
        });
        let dense = Dense::new(config, init)?;
        Ok(Self { own, other, dense: Part::new(dense, config, init) })
    }

    #[track_caller]
    fn forward(&self, x: Tensor, around: Around<'_>, cache: Option<&T5Cache>) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let own = cache.map(|cache| cache.own.after(around.past));
        let mut x = self.own.add(x, |attention, y| attention.forward(y, y, around.mask, own));
        if let Some(other) = &self.other {
            x = other.add(x, |attention, y| match (around.memory, cache) {
                (Memory::Rows(rows, mask), _) => attention.forward(y, rows, mask, cache.map(|cache| cache.other.after(0))),
                (Memory::Kept(rows, mask), Some(cache)) => attention.forward_over(y, mask, cache.other.after(rows)),
                (Memory::None, _) | (Memory::Kept(..), None) => {
                    unreachable!("a decoder has an encoder's rows, or caches that hold them")
                }
            });
        }
        self.dense.add(x, |dense, y| dense.forward(y))
    }
}

impl Stack {
    fn new(config: &T5Config, layers: usize, decodes: bool, init: &mut Init) -> Result<Self, Error> {
        let mut first = true;
        let block = stack(layers, init, |init| Block::new(config, decodes, std::mem::take(&mut first), init));
        Ok(Self {
            block: block.into_iter().collect::<Result<_, _>>()?,
            final_layer_norm: RmsNorm::new(config.d_model).eps(config.layer_norm_epsilon).init(init),
            distances: Distances::new(config, decodes),
            dropout: Dropout::new(config.dropout_rate),
        })
    }

    /// The first block's biases of distances serve all.
    #[track_caller]
    fn forward(&self, x: Tensor, around: Around<'_>) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let table = self.block.first().and_then(|block| block.own.inner.relative_attention_bias.as_ref());
        let distances = || self.distances.of(x.dim(1), around.past);
        let bias = table.map(|table| table.forward(distances()).permute([2, 0, 1]).unsqueeze(0));
        let around = Around { mask: bias.map_or(around.mask, |bias| around.mask.bias(bias)), ..around };
        let caches = around.caches.iter().map(Some).chain(std::iter::repeat(None));
        let blocks = self.block.iter().zip(caches);
        let x = blocks.fold(self.dropout.forward(x), |x, (block, cache)| block.forward(x, around, cache));
        self.dropout.forward(self.final_layer_norm.forward(x))
    }
}

impl T5 {
    /// The encoder's rows, `[batch, length, width]`, of tokens `ids: i64[batch, length]` where `mask` is 1.
    #[must_use]
    #[track_caller]
    pub fn encode(&self, ids: Tensor, mask: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.encoder.forward(self.shared.forward(ids), Around::new(Mask::none().keep(mask), Memory::None))
    }

    /// Scores of the tokens that follow each of `ids`, over an encoder's rows where `mask` is 1: `[batch, length, vocabulary]`.
    #[must_use]
    #[track_caller]
    pub fn decode(&self, ids: Tensor, memory: Tensor, mask: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.scores(ids, Around::new(Mask::causal(), Memory::Rows(memory, Mask::none().keep(mask))))
    }

    /// As [`T5::decode`]; caches then hold the tokens, and what the decoder takes of the encoder's rows.
    #[must_use]
    #[track_caller]
    pub fn decode_into(&self, caches: &[T5Cache], ids: Tensor, memory: Tensor, mask: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        if let Some(diag) = unlike_blocks(caches, self.decoder.block.len()) {
            return fail(diag);
        }
        self.scores(ids, Around { caches, ..Around::new(Mask::causal(), Memory::Rows(memory, Mask::none().keep(mask))) })
    }

    /// As [`T5::decode_into`] for tokens behind the first `past`, over the encoder's rows that the caches hold.
    #[must_use]
    #[track_caller]
    pub fn decode_from(&self, caches: &[T5Cache], past: Size, ids: Tensor, mask: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        if let Some(diag) = unlike_blocks(caches, self.decoder.block.len()) {
            return fail(diag);
        }
        let memory = Memory::Kept(mask.dim(1), Mask::none().keep(mask));
        self.scores(ids, Around { caches, past, ..Around::new(Mask::causal(), memory) })
    }

    /// A cache for each of the decoder's blocks: room for so many texts, of so many tokens before and after.
    #[must_use]
    pub fn caches(&self, texts: usize, tokens: usize) -> Vec<T5Cache> {
        let cache = |part: &Part<Attention>| part.inner.cache(texts, tokens);
        let both = |block: &Block| Some(T5Cache { own: cache(&block.own), other: cache(block.other.as_ref()?) });
        self.decoder.block.iter().filter_map(both).collect()
    }

    #[track_caller]
    fn scores(&self, ids: Tensor, around: Around<'_>) -> Tensor {
        let x = self.decoder.forward(self.shared.forward(ids), around);
        #[expect(clippy::cast_precision_loss, reason = "a width is far below 2^53")]
        let x = if self.config.is_scaled() { x * (1.0 / (self.config.d_model as f64).sqrt()) } else { x };
        x.matmul(self.head.as_ref().unwrap_or(&self.shared.weight).get().t())
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &T5Config {
        &self.config
    }
}

impl Module for T5 {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field("shared", &self.shared);
        walk.field("encoder", &self.encoder);
        walk.field("decoder", &self.decoder);
        walk.field("lm_head.weight", &self.head);
    }
}

impl Pretrained for T5 {
    type Config = T5Config;

    fn new(config: &T5Config, init: &mut Init) -> Result<Self, Error> {
        config.check()?;
        let decoders = config.num_decoder_layers.unwrap_or(config.num_layers);
        Ok(Self {
            shared: table(config.vocab_size, config.d_model, init),
            encoder: Stack::new(config, config.num_layers, false, init)?,
            decoder: Stack::new(config, decoders, true, init)?,
            head: config.has_head.then(|| unbiased(config.d_model, config.vocab_size, init).weight),
            config: config.clone(),
        })
    }

    fn names(&self) -> Names {
        Names {
            body: "",
            ignored: &["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias"],
            tied: &[("encoder.embed_tokens.weight", "shared.weight"), ("decoder.embed_tokens.weight", "shared.weight")],
        }
    }

    fn adapt(config: &mut T5Config, weights: &Weights) {
        config.has_head = weights.has("lm_head.weight");
    }
}
