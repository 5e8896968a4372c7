//! ConvNeXt: Liu et al. (2022), "A ConvNet for the 2020s".

use graver_hub::Names;
use graver_ir::Error;
use graver_nn::{Activation, Conv2d, Fill, Init, LayerNorm, Linear};
use graver_trace::{Module, Param, Tensor, Walk, enter, ones};
use serde::Deserialize;

use crate::config::{Configuration, Labels, added, positive, require};
use crate::parts::linear;
use crate::pretrained::{Pretrained, stack};

/// `config.json` of ConvNeXt.
#[derive(Clone, Debug, Deserialize)]
pub struct ConvNextConfig {
    /// The number of colours.
    pub num_channels: usize,
    /// The side of the patches that the first convolution reads.
    #[serde(deserialize_with = "crate::config::side")]
    pub patch_size: usize,
    /// The features of each stage.
    pub hidden_sizes: Vec<usize>,
    /// The blocks of each stage.
    pub depths: Vec<usize>,
    /// The function between the dense layers.
    #[serde(deserialize_with = "crate::activation::read")]
    pub hidden_act: Activation,
    /// What the last norm adds to variances.
    pub layer_norm_eps: f64,
    /// What a block's features are multiplied by at first; 0 for no such factors.
    pub layer_scale_init_value: f64,
    /// The probability of leaving out the last block in training; earlier ones have less.
    pub drop_path_rate: f64,
    /// The names of classes.
    #[serde(default)]
    pub id2label: Labels,
    /// Whether classes exclude each other.
    pub problem_type: Option<String>,
}

impl Configuration for ConvNextConfig {
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[(
        "convnext",
        r#"{
            "num_channels": 3, "patch_size": 4, "hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3],
            "hidden_act": "gelu", "layer_norm_eps": 1e-12, "layer_scale_init_value": 1e-6, "drop_path_rate": 0.0
        }"#,
    )];

    fn check(&self) -> Result<(), Error> {
        let sizes = [
            ("num_channels", self.num_channels),
            ("patch_size", self.patch_size),
            ("hidden_sizes", self.hidden_sizes.iter().copied().min().unwrap_or(0)),
            ("depths", self.depths.iter().copied().min().unwrap_or(0)),
        ];
        let (stages, depths) = (self.hidden_sizes.len(), self.depths.len());
        let further = [
            self.id2label.some(),
            (stages == depths, format!("there are {stages} `hidden_sizes` and {depths} `depths`")),
            ((0.0..1.0).contains(&self.drop_path_rate), format!("`drop_path_rate` is {}, not in 0..1", self.drop_path_rate)),
            added("layer_norm_eps", self.layer_norm_eps),
        ];
        require(positive(sizes).into_iter().chain(further))
    }
}

/// What norms within add to variances, whatever the configuration says.
const EPS: f64 = 1e-6;
/// How much wider a block is between its dense layers.
const EXPANSION: usize = 4;

fn norm(size: usize, eps: f64, init: &mut Init) -> LayerNorm {
    LayerNorm::new(size).eps(eps).init(init)
}

/// A norm over channels, which stand before places.
#[track_caller]
fn over_channels(norm: &LayerNorm, x: Tensor) -> Tensor {
    norm.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2])
}

#[derive(Debug, Module)]
struct Block {
    dwconv: Conv2d,
    layernorm: LayerNorm,
    pwconv1: Linear,
    pwconv2: Linear,
    layer_scale_parameter: Option<Param>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropped: f64,
}

impl Block {
    fn new(config: &ConvNextConfig, size: usize, dropped: f64, init: &mut Init) -> Self {
        let (inner, scale) = (EXPANSION * size, config.layer_scale_init_value);
        Self {
            dwconv: Conv2d::new(size, size, 7).padding(3).groups(size).init(init),
            layernorm: norm(size, EPS, init),
            pwconv1: linear(size, inner, init),
            pwconv2: linear(inner, size, init),
            layer_scale_parameter: (scale > 0.0).then(|| init.param(Fill::Constant(scale), [size])),
            activation: config.hidden_act,
            dropped,
        }
    }

    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = self.layernorm.forward(self.dwconv.forward(x).permute([0, 2, 3, 1]));
        let y = self.pwconv2.forward(self.activation.forward(self.pwconv1.forward(y)));
        let y = self.layer_scale_parameter.as_ref().map_or(y, |scale| y * scale.get()).permute([0, 3, 1, 2]);
        // Huang et al. (2016), "Deep networks with stochastic depth": of each image on its own.
        let kept = (self.dropped > 0.0).then(|| ones((x.dim(0), 1, 1, 1), x.dtype()).dropout(self.dropped));
        x + kept.map_or(y, |kept| y * kept)
    }
}

/// A norm and a convolution of places two by two.
#[derive(Debug, Module)]
struct Downsampling {
    #[module(name = "0")]
    norm: LayerNorm,
    #[module(name = "1")]
    convolution: Conv2d,
}

#[derive(Debug, Module)]
struct Stage {
    downsampling_layer: Option<Downsampling>,
    layers: Vec<Block>,
}

impl Stage {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let x = self.downsampling_layer.as_ref().map_or(x, |part| part.convolution.forward(over_channels(&part.norm, x)));
        self.layers.iter().fold(x, |x, block| block.forward(x))
    }
}

/// The body of ConvNeXt. Parameters have the names of `ConvNextModel`.
#[derive(Debug)]
pub struct ConvNext {
    patches: Conv2d,
    first: LayerNorm,
    stages: Vec<Stage>,
    last: LayerNorm,
    config: ConvNextConfig,
}

impl ConvNext {
    /// The features of places, `[batch, features, height, width]`: an image's sides divided by those of patches, and by 2 for each further stage.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, images: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let x = over_channels(&self.first, self.patches.forward(images));
        self.stages.iter().fold(x, |x, stage| stage.forward(x))
    }

    /// The features of whole images, `[batch, features]`, from those of places.
    #[must_use]
    #[track_caller]
    pub fn pooled(&self, features: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.last.forward(features.mean([-2, -1]))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &ConvNextConfig {
        &self.config
    }
}

impl Module for ConvNext {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field("embeddings.patch_embeddings", &self.patches);
        walk.field("embeddings.layernorm", &self.first);
        walk.field("encoder.stages", &self.stages);
        walk.field("layernorm", &self.last);
    }
}

impl Pretrained for ConvNext {
    type Config = ConvNextConfig;

    fn new(config: &ConvNextConfig, init: &mut Init) -> Result<Self, Error> {
        config.check()?;
        let [first, last] =
            [config.hidden_sizes.first(), config.hidden_sizes.last()].map(|size| *size.expect("a body has a stage"));
        let patch = i64::try_from(config.patch_size).unwrap_or(i64::MAX);
        let patches = Conv2d::new(config.num_channels, first, config.patch_size).stride(patch).init(init);
        let (embedded, mut inputs, mut stages) = (norm(first, EPS, init), first, Vec::new());
        let (blocks, mut done) = (config.depths.iter().sum::<usize>(), 0u32);
        for (place, (outputs, depth)) in config.hidden_sizes.iter().zip(&config.depths).enumerate() {
            let downsampling_layer = (place > 0).then(|| Downsampling {
                norm: norm(inputs, EPS, init),
                convolution: Conv2d::new(inputs, *outputs, 2).stride(2).init(init),
            });
            let layers = stack(*depth, init, |init| {
                #[expect(clippy::cast_precision_loss, reason = "depths are far below 2^53")]
                let dropped = config.drop_path_rate * f64::from(done) / blocks.saturating_sub(1).max(1) as f64;
                done += 1;
                Block::new(config, *outputs, dropped, init)
            });
            inputs = *outputs;
            stages.push(Stage { downsampling_layer, layers });
        }
        Ok(Self { patches, first: embedded, stages, last: norm(last, config.layer_norm_eps, init), config: config.clone() })
    }

    fn names(&self) -> Names {
        Names { body: "convnext", ignored: &[], tied: &[] }
    }
}

/// The class of an image: `ConvNextForImageClassification`.
#[derive(Debug, Module)]
pub struct ConvNextClassifier {
    convnext: ConvNext,
    classifier: Linear,
}

impl ConvNextClassifier {
    /// Scores of classes, `[batch, classes]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, images: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.classifier.forward(self.convnext.pooled(self.convnext.forward(images)))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &ConvNextConfig {
        self.convnext.config()
    }
}

impl Pretrained for ConvNextClassifier {
    type Config = ConvNextConfig;

    fn new(config: &ConvNextConfig, init: &mut Init) -> Result<Self, Error> {
        let convnext = ConvNext::new(config, init)?;
        let last = *config.hidden_sizes.last().expect("a body has a stage");
        Ok(Self { convnext, classifier: linear(last, config.id2label.names().len(), init) })
    }

    fn names(&self) -> Names {
        self.convnext.names()
    }
}
