//! The network that reads characters, the step that trains it, and the one that writes.

use graver::prelude::*;
use graver::trace::TensorSpec;

use super::draw::draw;

/// Of a memory.
pub(crate) const WIDTH: usize = 128;

/// An embedding, a recurrent layer and a linear one.
#[derive(Module)]
pub(crate) struct CharLstm {
    characters: Embedding,
    lstm: Lstm,
    head: Linear,
}

/// A hidden and a cell state.
type Memory = (Tensor, Tensor);

/// A text and the memory of what was before; a character and the memory of all.
type Writing = Step<(TensorSpec, (TensorSpec, TensorSpec)), (Tensor, Memory)>;

impl CharLstm {
    /// With values.
    pub(crate) fn new(vocabulary: usize, init: &mut Init) -> Self {
        Self {
            characters: Embedding::new(vocabulary, WIDTH / 2).init(init),
            lstm: Lstm::new(WIDTH / 2, WIDTH).batch_first(true).init(init),
            head: Linear::new(WIDTH, vocabulary).init(init),
        }
    }

    /// Scores of what comes after each of `text: i64[batch, length]`.
    fn forward(&self, text: Tensor) -> Tensor {
        self.head.forward(self.lstm.forward(self.characters.forward(text)).0)
    }

    /// The character after a text that goes on from a memory, and the memory of both.
    fn next(&self, text: Tensor, memory: Memory, temperature: f32) -> (Tensor, Memory) {
        let (seen, memory) = self.lstm.forward_from(self.characters.forward(text), memory);
        (draw(self.head.forward(seen.select(1, -1)), temperature), memory)
    }

    /// A step over texts and what comes after each of their characters, which gives the loss.
    pub(crate) fn training(&self, device: &Device) -> Result<Step<(TensorSpec, TensorSpec), Tensor>, Error> {
        let inputs = (spec::<i64>(("batch", "length")), spec::<i64>(("batch", "length")));
        let loss = |model: &Self, (text, after): (Tensor, Tensor)| model.forward(text).cross_entropy(after);
        train_step(self, AdamW::new(1e-2).clip_norm(1.0), inputs, loss).compile(device)
    }

    /// A step from one character to the next.
    pub(crate) fn writing(&self, temperature: f32, seed: u64, device: &Device) -> Result<Writing, Error> {
        let memory = || spec::<f32>((1, 1, WIDTH));
        let inputs = (spec::<i64>((1, "length")), (memory(), memory()));
        let next = step(inputs, |(text, memory)| self.next(text, memory, temperature));
        next.model("", self).eval().seed(seed).compile(device)
    }
}
