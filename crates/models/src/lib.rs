//! Pretrained models by their Hugging Face names: architectures, heads, and how their folders are read.
//!
//! Paths of parameters are the names in the files, configurations are the files'. Nothing is executed here, and no file is opened
//! but through `graver-hub`, and pictures where their paths are given.

mod activation;
mod causal;
mod config;
mod generate;
mod image;
mod parts;
mod pipeline;
mod pretrained;
mod support;
mod t5;
mod text;

/// What the paths of this library's files begin with: their lines say nothing to a user.
const SOURCES: &str = file!().split_at(file!().len() - "lib.rs".len()).0;

pub use causal::{CausalBody, CausalLm, Gpt2, Gpt2Config, Llama, LlamaConfig, RopeScaling};
pub use config::{Configuration, Labels};
pub use generate::{Continuation, Decoder, Generation, Generator, Pieces, Room};
pub use graver_hub as hub;
pub use image::{
    ConvNext, ConvNextClassifier, ConvNextConfig, Filter, ImageProcessor, ImageSize, Picture, ResNet, ResNetClassifier,
    ResNetConfig, ResNetLayer, Vit, VitClassifier, VitConfig,
};
pub use pipeline::{Classifier, Embedder, ImageClassifier, Scored};
pub use pretrained::{Pretrained, model_type};
pub use support::refused;
pub use t5::{T5, T5Cache, T5Config};
pub use text::{
    MaskedLm, Pooling, QuestionAnswering, SentenceEncoder, SequenceClassifier, TextConfig, TextEncoder, TextFamily, TextInput,
    TokenClassifier,
};

/// The programs of the guide's chapter.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/pretrained.md")]
struct Guide;
