//! Folders of pretrained models, as Hugging Face lays them out: configurations, weights, tokenisers, templates of conversations.
//!
//! What is read here is a stranger's: sizes are bounded, nothing panics, and all that is wrong is told at once. No network is
//! known here; nothing is fetched unless the feature `download` is on and asked to.

mod chat;
mod date;
#[cfg(feature = "download")]
mod download;
mod folder;
mod json;
mod load;
mod tokens;
mod weights;

pub use chat::{ChatTemplate, Message};
#[cfg(feature = "download")]
pub use download::Hub;
pub use folder::Folder;
pub use json::sized;
pub use load::Names;
pub use tokenizers;
pub use tokens::{Growing, Tokenizer, Tokens};
pub use weights::Weights;
