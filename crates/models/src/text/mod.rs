//! Encoders of text: BERT, RoBERTa and DistilBERT, which differ in names and in how positions are counted, and their heads.

mod config;
mod encoder;
mod heads;
mod names;
mod sentence;

pub use config::{TextConfig, TextFamily};
pub use encoder::{TextEncoder, TextInput};
pub use heads::{MaskedLm, QuestionAnswering, SequenceClassifier, TokenClassifier};
pub(crate) use sentence::Writing;
pub use sentence::{Pooling, SentenceEncoder};
