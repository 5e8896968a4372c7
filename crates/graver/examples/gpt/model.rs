//! The network that reads characters, the step that trains it, and the functions that write.

use graver::nn::{Mask, TransformerEncoderLayer};
use graver::prelude::*;
use graver::trace::{StepFn, TensorSpec};

use super::draw::draw;

const WIDTH: usize = 64;
const HEADS: usize = 4;
const BLOCKS: usize = 2;
/// How many characters it sees.
pub(crate) const CONTEXT: usize = 64;

/// Embeddings, blocks of attention, a norm and a linear layer.
#[derive(Module)]
pub(crate) struct Gpt {
    characters: Embedding,
    positions: Embedding,
    blocks: Vec<TransformerEncoderLayer>,
    norm: LayerNorm,
    head: Linear,
}

/// The character after a text that the caches are to hold; that after a text of which they hold all but the last, whose size says how
/// many; and the state of both functions.
pub(crate) type Writer = (StepFn<TensorSpec, Tensor>, StepFn<TensorSpec, Tensor>, TrainState);

impl Gpt {
    /// With values.
    pub(crate) fn new(vocabulary: usize, init: &mut Init) -> Self {
        let block = |init: &mut Init| {
            let options = TransformerEncoderLayer::new(WIDTH, HEADS, 4 * WIDTH).activation(Activation::Gelu);
            options.dropout(0.0).norm_first(true).init(init)
        };
        Self {
            characters: Embedding::new(vocabulary, WIDTH).init(init),
            positions: Embedding::new(CONTEXT, WIDTH).init(init),
            blocks: (0..BLOCKS).map(|_| block(init)).collect(),
            norm: LayerNorm::new(WIDTH).init(init),
            head: Linear::new(WIDTH, vocabulary).init(init),
        }
    }

    /// Scores of what comes after each of `text: i64[batch, length]`, behind `past` characters that the caches hold, if there are any.
    fn forward(&self, text: Tensor, caches: &[KvCache], past: Size) -> Tensor {
        let positions = self.positions.weight.get().narrow(0, past, text.dim(1));
        let pasts = caches.iter().map(|cache| Some(cache.after(past))).chain(std::iter::repeat(None));
        let x = self.characters.forward(text) + positions;
        let x = self.blocks.iter().zip(pasts).fold(x, |x, (block, past)| block.forward_from(past, x, Mask::causal()));
        self.head.forward(self.norm.forward(x))
    }

    /// A step over texts and what comes after each of their characters, which gives the loss.
    pub(crate) fn training(&self, device: &Device) -> Result<Step<(TensorSpec, TensorSpec), Tensor>, Error> {
        let length = || symbol("length", 1..=CONTEXT);
        let inputs = (spec::<i64>(("batch", length())), spec::<i64>(("batch", length())));
        let loss = |model: &Self, (text, after): (Tensor, Tensor)| model.forward(text, &[], 0.into()).cross_entropy(after);
        train_step(self, AdamW::new(3e-3).clip_norm(1.0), inputs, loss).compile(device)
    }

    /// What writes one text: two functions over one state.
    pub(crate) fn writer(&self, temperature: f32, seed: u64, device: &Device) -> Result<Writer, Error> {
        let caches: Vec<KvCache> = self.blocks.iter().map(|block| block.self_attn.cache(1, CONTEXT)).collect();
        let next = |text: Tensor, past: Size| draw(self.forward(text, &caches, past).select(1, -1), temperature);
        let text = || spec::<i64>((1, symbol("length", 1..=CONTEXT)));
        let read = step(text(), |text| next(text, 0.into())).model("", self).model("cache", &caches);
        let more = step(text(), |text: Tensor| next(text.narrow(1, text.dim(1) - 1, 1), text.dim(1) - 1));
        let more = more.model("", self).model("cache", &caches);
        let (read, state) = read.eval().seed(seed).compile(device)?.split();
        let (more, _) = more.eval().seed(seed).compile(device)?.split();
        Ok((read, more, state))
    }
}
