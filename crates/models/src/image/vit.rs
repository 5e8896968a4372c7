//! ViT: Dosovitskiy et al. (2021), "An image is worth 16x16 words".

use graver_hub::{Names, Weights};
use graver_ir::Error;
use graver_nn::{Activation, Conv2d, Dropout, Heads, Init, LayerNorm, Linear, Mask};
use graver_trace::{Module, Param, Tensor, Walk, concat, enter};
use serde::Deserialize;

use crate::config::{Configuration, Labels, added, positive, probability, require, splits};
use crate::parts::{linear, linear_if, weights};
use crate::pretrained::{Pretrained, stack};

/// `config.json` of ViT.
#[derive(Clone, Debug, Deserialize)]
pub struct VitConfig {
    /// The width.
    pub hidden_size: usize,
    /// The number of blocks.
    pub num_hidden_layers: usize,
    /// The number of heads of attention.
    pub num_attention_heads: usize,
    /// The width between the dense layers.
    pub intermediate_size: usize,
    /// The function between the dense layers.
    #[serde(deserialize_with = "crate::activation::read")]
    pub hidden_act: Activation,
    /// The probability of dropping in training.
    pub hidden_dropout_prob: f64,
    /// The probability of looking past a patch in training.
    pub attention_probs_dropout_prob: f64,
    /// What norms add to variances.
    pub layer_norm_eps: f64,
    /// The side of images.
    #[serde(deserialize_with = "crate::config::side")]
    pub image_size: usize,
    /// The side of patches.
    #[serde(deserialize_with = "crate::config::side")]
    pub patch_size: usize,
    /// The number of colours.
    pub num_channels: usize,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// The width of the pooled row; the width without it.
    pub pooler_output_size: Option<usize>,
    /// The function of the pooled row.
    #[serde(deserialize_with = "crate::activation::read")]
    pub pooler_act: Activation,
    /// The names of classes.
    #[serde(default)]
    pub id2label: Labels,
    /// Whether classes exclude each other.
    pub problem_type: Option<String>,
    /// Whether a dense layer of the first row follows the body.
    #[serde(skip)]
    pub pooler: bool,
}

impl Configuration for VitConfig {
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[(
        "vit",
        r#"{
            "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "layer_norm_eps": 1e-12,
            "image_size": 224, "patch_size": 16, "num_channels": 3, "qkv_bias": true, "pooler_act": "tanh"
        }"#,
    )];

    fn check(&self) -> Result<(), Error> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("image_size", self.image_size),
            ("num_channels", self.num_channels),
            ("pooler_output_size", self.pooler_output_size.unwrap_or(1)),
        ];
        let further = [
            self.id2label.some(),
            splits("hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads),
            splits("image_size", self.image_size, "patch_size", self.patch_size),
            (self.image_size < 1 << 16, format!("`image_size` is {}, beyond any image", self.image_size)),
            added("layer_norm_eps", self.layer_norm_eps),
            probability("hidden_dropout_prob", self.hidden_dropout_prob),
            probability("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ];
        require(positive(sizes).into_iter().chain(further))
    }
}

/// The body of ViT: a row of features for the image, then one for every patch. Parameters have the names of `ViTModel`'s files.
#[derive(Debug)]
pub struct Vit {
    class: Param,
    positions: Param,
    patches: Conv2d,
    layers: Vec<Block>,
    norm: LayerNorm,
    pooler: Option<Linear>,
    config: VitConfig,
}

#[derive(Debug, Module)]
struct Block {
    #[module(name = "attention.attention.query")]
    query: Linear,
    #[module(name = "attention.attention.key")]
    key: Linear,
    #[module(name = "attention.attention.value")]
    value: Linear,
    #[module(name = "attention.output.dense")]
    attended: Linear,
    #[module(name = "intermediate.dense")]
    up: Linear,
    #[module(name = "output.dense")]
    down: Linear,
    layernorm_before: LayerNorm,
    layernorm_after: LayerNorm,
    #[module(skip)]
    heads: Heads,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: Dropout,
}

impl Block {
    fn new(config: &VitConfig, init: &mut Init) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |init: &mut Init| LayerNorm::new(width).eps(config.layer_norm_eps).init(init);
        Self {
            query: linear_if(config.qkv_bias, width, width, init),
            key: linear_if(config.qkv_bias, width, width, init),
            value: linear_if(config.qkv_bias, width, width, init),
            attended: linear(width, width, init),
            up: linear(width, inner, init),
            down: linear(inner, width, init),
            layernorm_before: norm(init),
            layernorm_after: norm(init),
            heads: Heads::new(config.num_attention_heads).dropout(config.attention_probs_dropout_prob),
            activation: config.hidden_act,
            dropout: Dropout::new(config.hidden_dropout_prob),
        }
    }

    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = self.layernorm_before.forward(x);
        let y = self.heads.attend(self.query.forward(y), self.key.forward(y), self.value.forward(y), Mask::none());
        let x = x + self.dropout.forward(self.attended.forward(y));
        let y = self.activation.forward(self.up.forward(self.layernorm_after.forward(x)));
        x + self.dropout.forward(self.down.forward(y))
    }
}

impl Vit {
    /// Rows of features, `[batch, 1 + patches, hidden]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, images: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let patches = self.patches.forward(images).flatten(2).t();
        let class = self.class.get().expand((images.dim(0), 1, self.config.hidden_size));
        let x = concat(&[class, patches], 1) + &self.positions;
        self.norm.forward(self.layers.iter().fold(x, |x, block| block.forward(x)))
    }

    /// The dense layer of the first row, if the model has it: `[batch, pooled]`.
    #[must_use]
    #[track_caller]
    pub fn pooled(&self, hidden: Tensor) -> Option<Tensor> {
        let _scope = enter(self, crate::SOURCES);
        self.pooler.as_ref().map(|pooler| self.config.pooler_act.forward(pooler.forward(hidden.select(1, 0))))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &VitConfig {
        &self.config
    }
}

impl Module for Vit {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field("embeddings.cls_token", &self.class);
        walk.field("embeddings.position_embeddings", &self.positions);
        walk.field("embeddings.patch_embeddings.projection", &self.patches);
        walk.field("encoder.layer", &self.layers);
        walk.field("layernorm", &self.norm);
        walk.field("pooler.dense", &self.pooler);
    }
}

impl Pretrained for Vit {
    type Config = VitConfig;

    fn new(config: &VitConfig, init: &mut Init) -> Result<Self, Error> {
        config.check()?;
        let (width, side) = (config.hidden_size, config.patch_size);
        let patches = (config.image_size / side).pow(2);
        Ok(Self {
            class: weights(&[1, 1, width], init),
            positions: weights(&[1, patches + 1, width], init),
            patches: Conv2d::new(config.num_channels, width, side).stride(side).init(init),
            layers: stack(config.num_hidden_layers, init, |init| Block::new(config, init)),
            norm: LayerNorm::new(width).eps(config.layer_norm_eps).init(init),
            pooler: config.pooler.then(|| linear(width, config.pooler_output_size.unwrap_or(width), init)),
            config: config.clone(),
        })
    }

    fn names(&self) -> Names {
        Names { body: "vit", ignored: &["embeddings.mask_token", "pooler"], tied: &[] }
    }

    fn adapt(config: &mut VitConfig, weights: &Weights) {
        config.pooler = weights.names().any(|name| name.ends_with("pooler.dense.weight"));
    }
}

/// The class of an image: `ViTForImageClassification`.
#[derive(Debug, Module)]
pub struct VitClassifier {
    vit: Vit,
    classifier: Linear,
}

impl VitClassifier {
    /// Scores of classes, `[batch, classes]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, images: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.classifier.forward(self.vit.forward(images).select(1, 0))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &VitConfig {
        self.vit.config()
    }
}

impl Pretrained for VitClassifier {
    type Config = VitConfig;

    fn new(config: &VitConfig, init: &mut Init) -> Result<Self, Error> {
        let vit = Vit::new(&VitConfig { pooler: false, ..config.clone() }, init)?;
        Ok(Self { vit, classifier: linear(config.hidden_size, config.id2label.names().len(), init) })
    }

    fn names(&self) -> Names {
        self.vit.names()
    }
}
