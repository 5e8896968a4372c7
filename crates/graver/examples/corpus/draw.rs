//! What is written next, by chance.

use graver::prelude::*;
use graver::trace::uniform;

/// Draws from scores `[.., characters]` by their probabilities: the greatest, once each has a number of Gumbel's distribution added.
pub(crate) fn draw(scores: Tensor, temperature: f32) -> Tensor {
    let chance = -(-uniform(scores.shape(), DType::F32).log()).log();
    (scores / temperature + chance).argmax(-1)
}
