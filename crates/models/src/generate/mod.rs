//! Text that goes on: models over a cache, tokens picked from their scores, pieces of text as they come.
//!
//! A prompt is read by one compiled function and every further token by another, over one state: parameters and cache, which is
//! updated in place. Lengths are sizes of their inputs, so nothing is compiled again as a text grows.

mod decoder;
mod generator;
mod options;
mod pick;

pub use decoder::{Continuation, Decoder, Room};
pub use generator::{Generator, Pieces};
pub use options::Generation;
