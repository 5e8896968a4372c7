//! What the families call the same things.

use graver_hub::Names;

use super::config::TextFamily;

/// Paths of the parts of an encoder and of its heads.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) layers: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) attended: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) norm: &'static str,
    /// Of models with a head.
    pub(super) body: &'static str,
    /// Of classifiers of texts: the hidden layer, which BERT counts to its body.
    pub(super) hidden: &'static str,
    pub(super) classes: &'static str,
    /// Of language models.
    pub(super) word_hidden: &'static str,
    pub(super) word_norm: &'static str,
    /// The last layer's weight, where it is not the table of tokens.
    pub(super) words: &'static str,
    pub(super) word_bias: &'static str,
    /// The last layer's own bias, where it has a weight of its own.
    pub(super) own_word_bias: &'static str,
    pub(super) names: Names,
    /// Of a last layer of its own: the other bias is in its file too, and unused.
    pub(super) untied: &'static [(&'static str, &'static str)],
}

/// Constants that old files keep.
const CONSTANTS: &str = "position_ids";

const BERT: Paths = Paths {
    layers: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attended: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
    body: "bert",
    hidden: "bert.pooler.dense",
    classes: "classifier",
    word_hidden: "cls.predictions.transform.dense",
    word_norm: "cls.predictions.transform.LayerNorm",
    words: "cls.predictions.decoder.weight",
    word_bias: "cls.predictions.bias",
    own_word_bias: "cls.predictions.decoder.bias",
    untied: &[("cls.predictions.bias", "cls.predictions.decoder.bias")],
    names: Names {
        body: "bert",
        ignored: &[CONSTANTS, "pooler", "cls.seq_relationship"],
        tied: &[
            ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
            ("cls.predictions.decoder.bias", "cls.predictions.bias"),
        ],
    },
};

const ROBERTA: Paths = Paths {
    body: "roberta",
    hidden: "classifier.dense",
    classes: "classifier.out_proj",
    word_hidden: "lm_head.dense",
    word_norm: "lm_head.layer_norm",
    words: "lm_head.decoder.weight",
    word_bias: "lm_head.bias",
    own_word_bias: "lm_head.decoder.bias",
    untied: &[("lm_head.bias", "lm_head.decoder.bias")],
    names: Names {
        body: "roberta",
        ignored: &[CONSTANTS, "pooler"],
        tied: &[
            ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
            ("lm_head.decoder.bias", "lm_head.bias"),
        ],
    },
    ..BERT
};

const DISTILBERT: Paths = Paths {
    layers: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attended: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
    body: "distilbert",
    hidden: "pre_classifier",
    classes: "classifier",
    word_hidden: "vocab_transform",
    word_norm: "vocab_layer_norm",
    words: "vocab_projector.weight",
    word_bias: "vocab_projector.bias",
    own_word_bias: "vocab_projector.bias",
    untied: &[],
    names: Names {
        body: "distilbert",
        ignored: &[CONSTANTS],
        tied: &[("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight")],
    },
};

impl TextFamily {
    pub(super) fn paths(self) -> &'static Paths {
        match self {
            Self::Bert => &BERT,
            Self::Roberta => &ROBERTA,
            Self::DistilBert => &DISTILBERT,
        }
    }
}
