//! The configurations of the encoders as one.

use graver_ir::Error;
use graver_nn::Activation;
use serde::Deserialize;

use crate::config::{Configuration, Labels, added, positive, probability, require, splits};

/// Which encoder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextFamily {
    /// Devlin et al. (2019), "BERT: Pre-training of deep bidirectional transformers for language understanding".
    Bert,
    /// Liu et al. (2019), "RoBERTa: A robustly optimized BERT pretraining approach".
    #[serde(alias = "xlm-roberta", alias = "camembert")]
    Roberta,
    /// Sanh et al. (2019), "DistilBERT, a distilled version of BERT".
    DistilBert,
}

/// `config.json` of an encoder of text.
#[derive(Clone, Debug, Deserialize)]
pub struct TextConfig {
    /// Which encoder it is.
    pub model_type: TextFamily,
    /// The number of tokens.
    pub vocab_size: usize,
    /// The width.
    #[serde(alias = "dim")]
    pub hidden_size: usize,
    /// The number of blocks.
    #[serde(alias = "n_layers")]
    pub num_hidden_layers: usize,
    /// The number of heads of attention.
    #[serde(alias = "n_heads")]
    pub num_attention_heads: usize,
    /// The width between the dense layers.
    #[serde(alias = "hidden_dim")]
    pub intermediate_size: usize,
    /// The function between the dense layers.
    #[serde(alias = "activation", deserialize_with = "crate::activation::read")]
    pub hidden_act: Activation,
    /// The probability of dropping in training.
    #[serde(alias = "dropout")]
    pub hidden_dropout_prob: f64,
    /// The probability of looking past a token in training.
    #[serde(alias = "attention_dropout")]
    pub attention_probs_dropout_prob: f64,
    /// The rows of the table of positions.
    pub max_position_embeddings: usize,
    /// How many kinds of text are told apart; 0 where there is no such table.
    pub type_vocab_size: usize,
    /// What norms add to variances.
    pub layer_norm_eps: f64,
    /// The token that fills shorter rows.
    pub pad_token_id: Option<usize>,
    /// Whether the table of tokens is the last layer of a language model's head.
    pub tie_word_embeddings: bool,
    /// The names of classes.
    #[serde(default)]
    pub id2label: Labels,
    /// `multi_label_classification` where classes do not exclude each other, `regression` where scores are no probabilities.
    pub problem_type: Option<String>,
    /// Whether a dense layer of the first token follows the body.
    #[serde(skip)]
    pub pooler: bool,
}

const BERT: &str = r#"{
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "tie_word_embeddings": true
}"#;

const ROBERTA: &str = r#"{
    "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 1, "tie_word_embeddings": true
}"#;

const DISTILBERT: &str = r#"{
    "vocab_size": 30522, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072,
    "activation": "gelu", "dropout": 0.1, "attention_dropout": 0.1, "max_position_embeddings": 512, "type_vocab_size": 0,
    "layer_norm_eps": 1e-12, "pad_token_id": 0, "tie_word_embeddings": true
}"#;

impl Configuration for TextConfig {
    const DEFAULTS: &'static [(&'static str, &'static str)] =
        &[("bert", BERT), ("roberta", ROBERTA), ("xlm-roberta", ROBERTA), ("camembert", ROBERTA), ("distilbert", DISTILBERT)];

    fn check(&self) -> Result<(), Error> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        let further = [
            self.id2label.some(),
            splits("hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads),
            (self.max_length() > 0, "`max_position_embeddings` leaves no position".to_owned()),
            added("layer_norm_eps", self.layer_norm_eps),
            probability("hidden_dropout_prob", self.hidden_dropout_prob),
            probability("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ];
        require(positive(sizes).into_iter().chain(further))
    }
}

impl TextConfig {
    /// How many tokens a text may have.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }

    /// The token that fills shorter rows.
    #[must_use]
    pub fn padding(&self) -> usize {
        self.pad_token_id.unwrap_or(0)
    }

    /// Whether a text may be of several classes, or of none.
    #[must_use]
    pub fn is_multi_label(&self) -> bool {
        self.id2label.are_independent(self.problem_type.as_deref())
    }

    /// The position of the first token: RoBERTa counts from behind the padding's number.
    pub(crate) fn first_position(&self) -> usize {
        match self.model_type {
            TextFamily::Bert | TextFamily::DistilBert => 0,
            TextFamily::Roberta => self.padding() + 1,
        }
    }
}
