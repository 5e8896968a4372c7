//! Pretrained models by their Hugging Face names: architectures, heads, and how their folders are read.
//!
//! Paths of parameters are the names in the files, configurations are the files'. Nothing is executed here, and no file is opened
//! but through `graver-hub`.

mod activation;
mod config;
mod pretrained;
mod text;

/// What the paths of this library's files begin with: their lines say nothing to a user.
const SOURCES: &str = file!().split_at(file!().len() - "lib.rs".len()).0;

pub use config::{Configuration, Labels};
pub use graver_hub as hub;
pub use pretrained::{Pretrained, model_type};
pub use text::{
    MaskedLm, QuestionAnswering, SequenceClassifier, TextConfig, TextEncoder, TextFamily, TextInput, TokenClassifier,
};
