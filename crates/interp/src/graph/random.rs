//! Random bits.

use graver_ir::philox::philox_word;

use super::Out;
use crate::dense::{Data, Dense};

/// Philox4x32-10 of the row-major position of every element.
pub(super) fn philox(stream: u32, key: &Dense, out: Out) -> Dense {
    let key = key_words(key.data.ints());
    let numel = out.shape.iter().product::<usize>() as u64;
    let words = (0..numel).map(|position| i64::from(philox_word(key, position, stream)));
    let data = Data::Int(words.collect());
    out.of(data)
}

/// `[key 0, key 1, step low, step high]`
pub(crate) fn key_words(key: &[i64]) -> [u32; 4] {
    let words = <[i64; 4]>::try_from(key).expect("typed: a key has four words");
    words.map(|word| u32::try_from(word).expect("typed: a key's words are u32"))
}
