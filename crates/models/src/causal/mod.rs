//! Language models that see only what came before: GPT-2 and the LLaMA family.

mod gpt2;
mod llama;
mod rope;

use graver_hub::{Names, Weights};
use graver_ir::Error;
use graver_nn::{Embedding, Init, KvCache, Past};
use graver_trace::{DType, Module, Param, Tensor, Walk, arange, enter, fail};

pub use gpt2::{Gpt2, Gpt2Config};
pub use llama::{Llama, LlamaConfig};
pub use rope::RopeScaling;

use crate::config::Configuration;
use crate::parts::{unbiased, unlike_blocks};
use crate::pretrained::Pretrained;

/// What a [`CausalLm`] is made of.
pub trait CausalBody: Pretrained {
    /// Its path in files of models with a head.
    const PATH: &'static str;

    /// Rows of features, `[batch, length, hidden]`, of tokens `ids: i64[batch, length]`, behind those that the caches hold: one cache a
    /// block, or none at all. `mask: i64[batch, past + length]` is 0 for what is no token: before a text where there are caches.
    fn hidden(&self, ids: Tensor, mask: Tensor, caches: &[KvCache]) -> Tensor;

    /// A cache for each block: room for so many texts of so many tokens.
    fn caches(&self, texts: usize, tokens: usize) -> Vec<KvCache>;

    /// How many blocks there are.
    fn blocks(&self) -> usize;

    /// The most tokens of a text.
    fn longest(&self) -> usize;

    /// Up to how many tokens what a cache holds of a text does not depend on how long the text is.
    fn steady(&self) -> usize {
        usize::MAX
    }

    /// The table of tokens.
    fn words(&self) -> &Embedding;

    /// Whether the table of tokens is the head's too.
    fn is_tied(config: &Self::Config) -> bool;
}

/// Scores of the next token: `GPT2LMHeadModel`, `LlamaForCausalLM` and their like.
#[derive(Debug)]
pub struct CausalLm<B> {
    body: B,
    /// The last layer's weight, where it is not the table of tokens.
    words: Option<Param>,
}

impl<B: CausalBody> CausalLm<B> {
    /// Scores of all tokens to come after each place, `[batch, length, vocabulary]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, ids: Tensor, mask: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.scores(self.body.hidden(ids, mask, &[]))
    }

    /// Scores of the token to come after the last of each text, `[texts, vocabulary]`: [`CausalBody::hidden`] of tokens behind those
    /// that caches hold. A step that calls it leaves the caches with these tokens too.
    #[must_use]
    #[track_caller]
    pub fn next(&self, ids: Tensor, mask: Tensor, caches: &[KvCache]) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        if let Some(diag) = unlike_blocks(caches, self.body.blocks()) {
            return fail(diag);
        }
        self.scores(self.body.hidden(ids, mask, caches).select(1, -1))
    }

    #[track_caller]
    fn scores(&self, hidden: Tensor) -> Tensor {
        let words = self.words.as_ref().unwrap_or(&self.body.words().weight);
        hidden.matmul(words.get().t())
    }

    /// The body.
    #[must_use]
    pub const fn body(&self) -> &B {
        &self.body
    }
}

impl<B: CausalBody> Module for CausalLm<B> {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field(B::PATH, &self.body);
        walk.field("lm_head.weight", &self.words);
    }
}

impl<B: CausalBody> Pretrained for CausalLm<B>
where
    B::Config: Configuration,
{
    type Config = B::Config;

    fn new(config: &Self::Config, init: &mut Init) -> Result<Self, Error> {
        let body = B::new(config, init)?;
        let shape = body.words().weight.value().shape().to_vec();
        let words = (!B::is_tied(config)).then(|| unbiased(shape[1], shape[0], init).weight);
        Ok(Self { body, words })
    }

    fn names(&self) -> Names {
        self.body.names()
    }

    fn adapt(config: &mut Self::Config, weights: &Weights) {
        B::adapt(config, weights);
    }
}

/// What each block goes on from: nothing where there are no caches.
#[track_caller]
fn pasts<'c>(ids: Tensor, mask: Tensor, caches: &'c [KvCache]) -> impl Iterator<Item = Option<Past<'c>>> {
    let length = mask.dim(1) - ids.dim(1);
    let pasts = caches.iter().map(move |cache| Some(cache.after(length)));
    pasts.chain(std::iter::repeat(None))
}

/// The position of each token in its text, which may begin behind what is none: `i64[batch, length]`.
#[track_caller]
fn positions(ids: Tensor, mask: Tensor) -> Tensor {
    let ends = mask.cast(DType::I64).sum(1).unsqueeze(-1) - ids.dim(1);
    (ends + arange(ids.dim(1), DType::I64)).clamp(0, i64::MAX)
}
