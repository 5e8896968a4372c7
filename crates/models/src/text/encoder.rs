//! The body of the encoders.

use graver_hub::{Names, Weights};
use graver_ir::Error;
use graver_nn::{Activation, Dropout, Embedding, Heads, Init, LayerNorm, Linear, Mask};
use graver_trace::{DType, Module, Tensor, Walk, arange, enter, ones};

use super::config::{TextConfig, TextFamily};
use super::names::Paths;
use crate::config::Configuration;
use crate::parts::{linear, table};
use crate::pretrained::{Pretrained, stack};

/// What an encoder reads: `i64[batch, length]` each.
#[derive(Clone, Copy, Debug)]
pub struct TextInput {
    /// The tokens' numbers.
    pub ids: Tensor,
    /// 1 for tokens and 0 for padding.
    pub mask: Tensor,
    /// To which of two texts a token belongs; without it, all to the first.
    pub types: Option<Tensor>,
}

/// An encoder of text, which gives a row of features for every token.
///
/// Parameters have the names of `BertModel`, `RobertaModel` or `DistilBertModel`.
#[derive(Debug)]
pub struct TextEncoder {
    words: Embedding,
    positions: Embedding,
    types: Option<Embedding>,
    norm: LayerNorm,
    layers: Vec<TextLayer>,
    pooler: Option<Linear>,
    dropout: Dropout,
    config: TextConfig,
}

/// One block of an encoder.
#[derive(Debug)]
struct TextLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    norm: LayerNorm,
    heads: Heads,
    activation: Activation,
    dropout: Dropout,
    paths: &'static Paths,
}

impl TextEncoder {
    /// The last block's rows, `[batch, length, hidden]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, input: TextInput) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let mask = Mask::none().keep(input.mask);
        self.layers.iter().fold(self.embedded(input), |x, layer| layer.forward(x, mask))
    }

    /// The dense layer and `tanh` of the first token's row, if the model has them: `[batch, hidden]`.
    #[must_use]
    #[track_caller]
    pub fn pooled(&self, hidden: Tensor) -> Option<Tensor> {
        let _scope = enter(self, crate::SOURCES);
        self.pooler.as_ref().map(|pooler| pooler.forward(hidden.select(1, 0)).tanh())
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &TextConfig {
        &self.config
    }

    #[track_caller]
    fn embedded(&self, input: TextInput) -> Tensor {
        let mut x = self.words.forward(input.ids);
        if let Some(table) = &self.types {
            let types = input.types.unwrap_or_else(|| input.ids.zeros_like());
            x = x + table.forward(types);
        }
        x = x + self.positions.forward(self.places(input.ids));
        self.dropout.forward(self.norm.forward(x))
    }

    /// Every token's row in the table of positions.
    #[track_caller]
    fn places(&self, ids: Tensor) -> Tensor {
        match self.config.model_type {
            TextFamily::Bert | TextFamily::DistilBert => arange(ids.dim(1), DType::I64),
            TextFamily::Roberta => places_after_padding(ids, self.config.padding()),
        }
    }

    /// The table of tokens, which may be the last layer of a head.
    pub(super) const fn words(&self) -> &Embedding {
        &self.words
    }
}

/// Tokens counted from behind the padding's number; padding itself stays at that number.
#[track_caller]
fn places_after_padding(ids: Tensor, padding: usize) -> Tensor {
    let padding = i64::try_from(padding).expect("sizes in configurations are below 2^31");
    let tokens = ids.ne(padding).cast(DType::F32);
    // A sum over what comes before, which is exact far beyond any length.
    let before = ones((ids.dim(1), ids.dim(1)), DType::F32).triu(0);
    (tokens.matmul(before) * tokens).cast(DType::I64) + padding
}

impl TextLayer {
    fn new(config: &TextConfig, init: &mut Init) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        Self {
            query: linear(width, width, init),
            key: linear(width, width, init),
            value: linear(width, width, init),
            attended: linear(width, width, init),
            attention_norm: norm(config, init),
            up: linear(width, inner, init),
            down: linear(inner, width, init),
            norm: norm(config, init),
            heads: Heads::new(config.num_attention_heads).dropout(config.attention_probs_dropout_prob),
            activation: config.hidden_act,
            dropout: Dropout::new(config.hidden_dropout_prob),
            paths: config.model_type.paths(),
        }
    }

    #[track_caller]
    fn forward(&self, x: Tensor, mask: Mask) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = self.heads.attend(self.query.forward(x), self.key.forward(x), self.value.forward(x), mask);
        let x = self.attention_norm.forward(x + self.dropout.forward(self.attended.forward(y)));
        let y = self.down.forward(self.activation.forward(self.up.forward(x)));
        self.norm.forward(x + self.dropout.forward(y))
    }
}

impl Module for TextLayer {
    fn visit(&self, walk: &mut Walk<'_>) {
        let paths = self.paths;
        walk.field(paths.query, &self.query);
        walk.field(paths.key, &self.key);
        walk.field(paths.value, &self.value);
        walk.field(paths.attended, &self.attended);
        walk.field(paths.attention_norm, &self.attention_norm);
        walk.field(paths.up, &self.up);
        walk.field(paths.down, &self.down);
        walk.field(paths.norm, &self.norm);
    }
}

impl Module for TextEncoder {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field("embeddings.word_embeddings", &self.words);
        walk.field("embeddings.position_embeddings", &self.positions);
        walk.field("embeddings.token_type_embeddings", &self.types);
        walk.field("embeddings.LayerNorm", &self.norm);
        walk.field(self.config.model_type.paths().layers, &self.layers);
        walk.field("pooler.dense", &self.pooler);
    }
}

pub(super) fn norm(config: &TextConfig, init: &mut Init) -> LayerNorm {
    LayerNorm::new(config.hidden_size).eps(config.layer_norm_eps).init(init)
}

impl Pretrained for TextEncoder {
    type Config = TextConfig;

    fn new(config: &TextConfig, init: &mut Init) -> Result<Self, Error> {
        config.check()?;
        let width = config.hidden_size;
        Ok(Self {
            words: table(config.vocab_size, width, init),
            positions: table(config.max_position_embeddings, width, init),
            types: (config.type_vocab_size > 0).then(|| table(config.type_vocab_size, width, init)),
            norm: norm(config, init),
            layers: stack(config.num_hidden_layers, init, |init| TextLayer::new(config, init)),
            pooler: config.pooler.then(|| linear(width, width, init)),
            dropout: Dropout::new(config.hidden_dropout_prob),
            config: config.clone(),
        })
    }

    fn names(&self) -> Names {
        self.config.model_type.paths().names
    }

    fn adapt(config: &mut TextConfig, weights: &Weights) {
        config.pooler = weights.names().any(|name| name.ends_with("pooler.dense.weight"));
    }
}
