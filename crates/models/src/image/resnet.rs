//! ResNet: He et al. (2016), "Deep residual learning for image recognition".

use graver_hub::Names;
use graver_ir::Error;
use graver_nn::{Activation, BatchNorm2d, Conv2d, Init, Linear};
use graver_trace::{Module, Pool2d, Tensor, Walk, enter};
use serde::Deserialize;

use crate::config::{Configuration, Labels, positive, require};
use crate::parts::linear;
use crate::pretrained::{Pretrained, stack};

/// Of what a ResNet is stacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResNetLayer {
    /// Two convolutions of side 3.
    Basic,
    /// One of side 3 between two of side 1, of a quarter of the features.
    Bottleneck,
}

/// `config.json` of ResNet.
#[derive(Clone, Debug, Deserialize)]
pub struct ResNetConfig {
    /// The number of colours.
    pub num_channels: usize,
    /// The features after the first convolution.
    pub embedding_size: usize,
    /// The features of each stage.
    pub hidden_sizes: Vec<usize>,
    /// The layers of each stage.
    pub depths: Vec<usize>,
    /// Of what a stage is stacked.
    pub layer_type: ResNetLayer,
    /// The function after the first convolution and after every sum.
    #[serde(deserialize_with = "crate::activation::read")]
    pub hidden_act: Activation,
    /// Whether the first stage halves images too.
    pub downsample_in_first_stage: bool,
    /// Whether the first convolution of a bottleneck halves images instead of the second.
    pub downsample_in_bottleneck: bool,
    /// The names of classes.
    #[serde(default)]
    pub id2label: Labels,
    /// Whether classes exclude each other.
    pub problem_type: Option<String>,
}

impl Configuration for ResNetConfig {
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[(
        "resnet",
        r#"{
            "num_channels": 3, "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3],
            "layer_type": "bottleneck", "hidden_act": "relu", "downsample_in_first_stage": false,
            "downsample_in_bottleneck": false
        }"#,
    )];

    fn check(&self) -> Result<(), Error> {
        let least = if self.layer_type == ResNetLayer::Bottleneck { REDUCTION } else { 1 };
        let sizes = [
            ("num_channels", self.num_channels),
            ("embedding_size", self.embedding_size),
            ("hidden_sizes", self.hidden_sizes.len()),
            ("depths", self.depths.iter().copied().min().unwrap_or(0)),
        ];
        let (stages, depths) = (self.hidden_sizes.len(), self.depths.len());
        let further = [
            self.id2label.some(),
            (stages == depths, format!("there are {stages} `hidden_sizes` and {depths} `depths`")),
            (self.hidden_sizes.iter().all(|size| *size >= least), format!("`hidden_sizes` has one below {least}")),
        ];
        require(positive(sizes).into_iter().chain(further))
    }
}

/// How much narrower a bottleneck is.
const REDUCTION: usize = 4;

/// A convolution without bias, its norm, and perhaps an activation.
#[derive(Debug, Module)]
struct Convolution {
    convolution: Conv2d,
    normalization: BatchNorm2d,
    #[module(skip)]
    activation: Option<Activation>,
}

impl Convolution {
    fn new([inputs, outputs]: [usize; 2], side: usize, stride: i64, activation: Option<Activation>, init: &mut Init) -> Self {
        let convolution = Conv2d::new(inputs, outputs, side).stride(stride).padding(side / 2).bias(false).init(init);
        Self { convolution, normalization: BatchNorm2d::new(outputs).init(init), activation }
    }

    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = self.normalization.forward(self.convolution.forward(x));
        self.activation.map_or(y, |activation| activation.forward(y))
    }
}

#[derive(Debug, Module)]
struct Block {
    shortcut: Option<Convolution>,
    layer: Vec<Convolution>,
    #[module(skip)]
    activation: Activation,
}

impl Block {
    fn new(config: &ResNetConfig, [inputs, outputs]: [usize; 2], stride: i64, init: &mut Init) -> Self {
        // Whatever the configuration says: that is what the models that use it were trained with.
        let act = Some(Activation::Relu);
        let shortcut = inputs != outputs || stride != 1;
        let layer = match config.layer_type {
            ResNetLayer::Basic => vec![
                Convolution::new([inputs, outputs], 3, stride, act, init),
                Convolution::new([outputs, outputs], 3, 1, None, init),
            ],
            ResNetLayer::Bottleneck => {
                let (inner, early) = (outputs / REDUCTION, config.downsample_in_bottleneck);
                let (first, second) = if early { (stride, 1) } else { (1, stride) };
                vec![
                    Convolution::new([inputs, inner], 1, first, act, init),
                    Convolution::new([inner, inner], 3, second, act, init),
                    Convolution::new([inner, outputs], 1, 1, None, init),
                ]
            }
        };
        let shortcut = shortcut.then(|| Convolution::new([inputs, outputs], 1, stride, None, init));
        Self { shortcut, layer, activation: config.hidden_act }
    }

    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = self.layer.iter().fold(x, |y, part| part.forward(y));
        self.activation.forward(y + self.shortcut.as_ref().map_or(x, |shortcut| shortcut.forward(x)))
    }
}

#[derive(Debug, Module)]
struct Stage {
    layers: Vec<Block>,
}

/// The body of ResNet: features of places, `[batch, features, height / 32, width / 32]`. Parameters have the names of `ResNetModel`.
#[derive(Debug)]
pub struct ResNet {
    stem: Convolution,
    stages: Vec<Stage>,
    config: ResNetConfig,
}

impl ResNet {
    /// The features of places.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, images: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let x = self.stem.forward(images).max_pool2d(Pool2d::new(3).stride(2).padding(1));
        self.stages.iter().flat_map(|stage| &stage.layers).fold(x, |x, block| block.forward(x))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &ResNetConfig {
        &self.config
    }
}

impl Module for ResNet {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.field("embedder.embedder", &self.stem);
        walk.field("encoder.stages", &self.stages);
    }
}

impl Pretrained for ResNet {
    type Config = ResNetConfig;

    fn new(config: &ResNetConfig, init: &mut Init) -> Result<Self, Error> {
        config.check()?;
        let stem = Convolution::new([config.num_channels, config.embedding_size], 7, 2, Some(config.hidden_act), init);
        let mut inputs = config.embedding_size;
        let mut stages = Vec::new();
        for (place, (outputs, depth)) in config.hidden_sizes.iter().zip(&config.depths).enumerate() {
            let mut stride = if place == 0 && !config.downsample_in_first_stage { 1 } else { 2 };
            let layers = stack(*depth, init, |init| {
                let block = Block::new(config, [inputs, *outputs], stride, init);
                (inputs, stride) = (*outputs, 1);
                block
            });
            stages.push(Stage { layers });
        }
        Ok(Self { stem, stages, config: config.clone() })
    }

    fn names(&self) -> Names {
        Names { body: "resnet", ignored: &[], tied: &[] }
    }
}

/// The class of an image: `ResNetForImageClassification`.
#[derive(Debug, Module)]
pub struct ResNetClassifier {
    resnet: ResNet,
    #[module(name = "classifier.1")]
    classifier: Linear,
}

impl ResNetClassifier {
    /// Scores of classes, `[batch, classes]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, images: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.classifier.forward(self.resnet.forward(images).mean([-2, -1]))
    }

    /// The configuration that it was made of.
    #[must_use]
    pub const fn config(&self) -> &ResNetConfig {
        self.resnet.config()
    }
}

impl Pretrained for ResNetClassifier {
    type Config = ResNetConfig;

    fn new(config: &ResNetConfig, init: &mut Init) -> Result<Self, Error> {
        let resnet = ResNet::new(config, init)?;
        let last = *config.hidden_sizes.last().expect("a body has a stage");
        Ok(Self { resnet, classifier: linear(last, config.id2label.names().len(), init) })
    }

    fn names(&self) -> Names {
        self.resnet.names()
    }
}
