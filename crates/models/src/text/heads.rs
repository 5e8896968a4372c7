//! What stands on encoders of text.

use graver_hub::Names;
use graver_ir::Error;
use graver_nn::{Activation, Dropout, Init, LayerNorm, Linear};
use graver_trace::{Module, Param, Tensor, Walk, enter};

use super::config::{TextConfig, TextFamily};
use super::encoder::{TextEncoder, TextInput, norm};
use crate::parts::{linear, zeros};
use crate::pretrained::Pretrained;

/// The class of a text: `BertForSequenceClassification` and its like.
#[derive(Debug)]
pub struct SequenceClassifier {
    body: TextEncoder,
    hidden: Linear,
    classes: Linear,
    dropout: Dropout,
}

/// The class of every token: `BertForTokenClassification` and its like.
#[derive(Debug)]
pub struct TokenClassifier {
    body: TextEncoder,
    classes: Linear,
    dropout: Dropout,
}

/// Where in a text an answer begins and ends: `BertForQuestionAnswering` and its like.
#[derive(Debug)]
pub struct QuestionAnswering {
    body: TextEncoder,
    ends: Linear,
}

/// Which token stood at every place: `BertForMaskedLM` and its like.
#[derive(Debug)]
pub struct MaskedLm {
    body: TextEncoder,
    hidden: Linear,
    norm: LayerNorm,
    words: Param,
    bias: Param,
}

impl SequenceClassifier {
    /// Scores of classes, `[batch, classes]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, input: TextInput) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let first = self.body.forward(input).select(1, 0);
        let hidden = match self.config().model_type {
            TextFamily::Bert => self.hidden.forward(first).tanh(),
            TextFamily::Roberta => self.hidden.forward(self.dropout.forward(first)).tanh(),
            TextFamily::DistilBert => self.hidden.forward(first).relu(),
        };
        self.classes.forward(self.dropout.forward(hidden))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &TextConfig {
        self.body.config()
    }
}

impl TokenClassifier {
    /// Scores of classes, `[batch, length, classes]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, input: TextInput) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.classes.forward(self.dropout.forward(self.body.forward(input)))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &TextConfig {
        self.body.config()
    }
}

impl QuestionAnswering {
    /// Scores of every place as the first and as the last of the answer, `[batch, length]` each.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, input: TextInput) -> (Tensor, Tensor) {
        let _scope = enter(self, crate::SOURCES);
        let ends = self.ends.forward(self.body.forward(input));
        (ends.select(-1, 0), ends.select(-1, 1))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &TextConfig {
        self.body.config()
    }
}

impl MaskedLm {
    /// Scores of all tokens at every place, `[batch, length, vocabulary]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, input: TextInput) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let hidden = self.hidden.forward(self.body.forward(input));
        let activation = match self.config().model_type {
            TextFamily::Bert | TextFamily::DistilBert => self.config().hidden_act,
            TextFamily::Roberta => Activation::Gelu,
        };
        self.norm.forward(activation.forward(hidden)).matmul(self.words.get().t()) + &self.bias
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &TextConfig {
        self.body.config()
    }
}

/// The body of a model with a head, which has no dense layer of its own behind it.
fn body(config: &TextConfig, init: &mut Init) -> Result<TextEncoder, Error> {
    TextEncoder::new(&TextConfig { pooler: false, ..config.clone() }, init)
}

impl Module for SequenceClassifier {
    fn visit(&self, walk: &mut Walk<'_>) {
        let paths = self.config().model_type.paths();
        walk.field(paths.body, &self.body);
        walk.field(paths.hidden, &self.hidden);
        walk.field(paths.classes, &self.classes);
    }
}

impl Module for TokenClassifier {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field(self.config().model_type.paths().body, &self.body);
        walk.field("classifier", &self.classes);
    }
}

impl Module for QuestionAnswering {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field(self.config().model_type.paths().body, &self.body);
        walk.field("qa_outputs", &self.ends);
    }
}

impl Module for MaskedLm {
    fn visit(&self, walk: &mut Walk<'_>) {
        let paths = self.config().model_type.paths();
        walk.field(paths.body, &self.body);
        walk.field(paths.word_hidden, &self.hidden);
        walk.field(paths.word_norm, &self.norm);
        walk.field(paths.words, &self.words);
        let is_tied = self.config().tie_word_embeddings;
        walk.field(if is_tied { paths.word_bias } else { paths.own_word_bias }, &self.bias);
    }
}

impl Pretrained for SequenceClassifier {
    type Config = TextConfig;

    fn new(config: &TextConfig, init: &mut Init) -> Result<Self, Error> {
        Ok(Self {
            body: body(config, init)?,
            hidden: linear(config.hidden_size, config.hidden_size, init),
            classes: linear(config.hidden_size, config.id2label.names().len(), init),
            dropout: Dropout::new(config.hidden_dropout_prob),
        })
    }

    fn names(&self) -> Names {
        self.body.names()
    }
}

impl Pretrained for TokenClassifier {
    type Config = TextConfig;

    fn new(config: &TextConfig, init: &mut Init) -> Result<Self, Error> {
        Ok(Self {
            body: body(config, init)?,
            classes: linear(config.hidden_size, config.id2label.names().len(), init),
            dropout: Dropout::new(config.hidden_dropout_prob),
        })
    }

    fn names(&self) -> Names {
        self.body.names()
    }
}

impl Pretrained for QuestionAnswering {
    type Config = TextConfig;

    fn new(config: &TextConfig, init: &mut Init) -> Result<Self, Error> {
        Ok(Self { body: body(config, init)?, ends: linear(config.hidden_size, 2, init) })
    }

    fn names(&self) -> Names {
        self.body.names()
    }
}

impl Pretrained for MaskedLm {
    type Config = TextConfig;

    fn new(config: &TextConfig, init: &mut Init) -> Result<Self, Error> {
        let body = body(config, init)?;
        let words = if config.tie_word_embeddings {
            body.words().weight.tie()
        } else {
            linear(config.hidden_size, config.vocab_size, init).weight
        };
        Ok(Self {
            hidden: linear(config.hidden_size, config.hidden_size, init),
            norm: norm(config, init),
            words,
            bias: zeros(config.vocab_size, init),
            body,
        })
    }

    fn names(&self) -> Names {
        let paths = self.config().model_type.paths();
        Names { tied: if self.config().tie_word_embeddings { paths.names.tied } else { paths.untied }, ..paths.names }
    }
}
