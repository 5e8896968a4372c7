//! Modules, losses and optimisers: what a network is trained with, written over tensors under trace.
//!
//! Names and shapes of parameters, defaults and conventions are PyTorch's, so that state dictionaries interchange. No
//! operation of the graph is defined here, and nothing is executed.

mod init;
mod layer;
pub mod loss;
mod optim;
mod save;
mod storage;

/// What the paths of this library's files begin with: their lines say nothing to a user.
const SOURCES: &str = file!().split_at(file!().len() - "lib.rs".len()).0;

pub use graver_runtime::Checkpoint;
pub use init::{Fill, Init};
pub use layer::{
    Activation, AvgPool2d, BatchNorm1d, BatchNorm2d, BatchNormOptions, Conv2d, Conv2dOptions, ConvTranspose2d, Dropout,
    Embedding, EmbeddingOptions, Flatten, GlobalAvgPool2d, GroupNorm, GroupNormOptions, Gru, Heads, KvCache, LastAxes, Layer,
    LayerNorm, LayerNormOptions, Linear, LinearOptions, Longer, Lstm, Mask, MaxPool2d, MultiHeadAttention,
    MultiHeadAttentionOptions, Past, RecurrentOptions, RecurrentWeights, RmsNorm, RmsNormOptions, Rotary, Sequential,
    TransformerDecoderLayer, TransformerEncoderLayer, TransformerOptions, Upsample,
};
pub use optim::{
    Adam, AdamW, ClipNorm, ClipValue, Cosine, InverseSqrt, LinearDecay, MultiStepDecay, OneCycle, Optimizer, PolynomialDecay,
    Repeat, Rules, Schedule, Sgd, StepDecay, Then, Update, Warmup, train_step,
};
pub use save::{Differences, ModelFile, StateFile};
pub use storage::Storage;
