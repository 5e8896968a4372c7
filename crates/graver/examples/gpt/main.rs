//! Trains a small GPT on this project's book, a character at a time, and lets it write over a cache of keys and values.
//!
//! `cargo run --release --example gpt`

#[path = "../corpus/mod.rs"]
mod corpus;

use clap::Parser;
use corpus::{Args, Corpus, Outcome, PROMPT, draw};
use graver::nn::{Mask, TransformerEncoderLayer};
use graver::prelude::*;

const WIDTH: usize = 64;
const HEADS: usize = 4;
const BLOCKS: usize = 2;
const BATCH: usize = 16;
/// How many characters it sees.
const CONTEXT: usize = 64;

#[derive(Module)]
struct Gpt {
    characters: Embedding,
    positions: Embedding,
    blocks: Vec<TransformerEncoderLayer>,
    norm: LayerNorm,
    head: Linear,
}

impl Gpt {
    fn new(vocabulary: usize, init: &mut Init) -> Self {
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
}

fn main() -> Result<(), Error> {
    corpus::show(&Corpus::of_docs(), &train(&Args::parse())?);
    Ok(())
}

fn train(args: &Args) -> Result<Outcome, Error> {
    let (corpus, device) = (Corpus::of_docs(), cpu_with_threads(args.threads.into()));
    let mut model = Gpt::new(corpus.vocabulary(), &mut Init::seed(args.seed));
    let length = || symbol("length", 1..=CONTEXT);
    let inputs = (spec::<i64>(("batch", length())), spec::<i64>(("batch", length())));
    let loss = |model: &Gpt, (text, after): (Tensor, Tensor)| model.forward(text, &[], 0.into()).cross_entropy(after);
    let mut step = train_step(&model, AdamW::new(3e-3).clip_norm(1.0), inputs, loss).compile(&device)?;
    let losses = corpus::fit(&corpus, args, [BATCH, CONTEXT], |text, after| step.run((text, after)))?;
    step.write_to(&mut model)?;
    let text = write(&model, &corpus, args, &device)?;
    Ok(Outcome { losses, text })
}

/// What follows the prompt: one function reads a text, another one character more, over one state.
fn write(model: &Gpt, corpus: &Corpus, args: &Args, device: &Device) -> Result<String, Error> {
    let caches: Vec<KvCache> = model.blocks.iter().map(|block| block.self_attn.cache(1, CONTEXT)).collect();
    let next = |text: Tensor, past: Size| draw(model.forward(text, &caches, past).select(1, -1), args.temperature);
    // The text so far, of which the cache holds all but the last: its size says how many.
    let text = || spec::<i64>((1, symbol("length", 1..=CONTEXT)));
    let read = step(text(), |text| next(text, 0.into())).model("", model).model("cache", &caches);
    let more = step(text(), |text: Tensor| next(text.narrow(1, text.dim(1) - 1, 1), text.dim(1) - 1));
    let more = more.model("", model).model("cache", &caches);
    let (read, mut state) = read.eval().seed(args.seed).compile(device)?.split();
    let (more, _) = more.eval().seed(args.seed).compile(device)?.split();

    let (mut seen, mut written) = (corpus.encode(PROMPT), Vec::new());
    let mut is_known = false;
    while written.len() < args.length {
        if seen.len() > CONTEXT {
            // The cache is full: on from the later half.
            seen.drain(..seen.len() - CONTEXT / 2);
            is_known = false;
        }
        let function = if is_known { &more } else { &read };
        let text = Array::from_vec([1, seen.len()], seen.clone())?;
        let character;
        (state, character) = function.call(state, &text).map_err(|(_, error)| error)?;
        seen.extend(character.as_slice::<i64>().expect("positions are i64"));
        written.extend(seen.last());
        is_known = true;
    }
    Ok(corpus.decode(&written))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_learns() -> Result<(), graver::Error> {
        super::corpus::learns(super::train, 2.0..3.2)
    }
}
