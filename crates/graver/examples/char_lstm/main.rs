//! Trains a recurrent network on this project's book, a character at a time, and lets it write.
//!
//! `cargo run --release --example char_lstm`

#[path = "../corpus/mod.rs"]
mod corpus;

use clap::Parser;
use corpus::{Args, Corpus, Outcome, PROMPT, draw};
use graver::prelude::*;

const WIDTH: usize = 128;
const BATCH: usize = 16;
/// How many characters a training goes back.
const LENGTH: usize = 64;

#[derive(Module)]
struct CharLstm {
    characters: Embedding,
    lstm: Lstm,
    head: Linear,
}

/// A hidden and a cell state.
type Memory = (Tensor, Tensor);

impl CharLstm {
    fn new(vocabulary: usize, init: &mut Init) -> Self {
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
}

fn main() -> Result<(), Error> {
    corpus::show(&Corpus::of_docs(), &train(&Args::parse())?);
    Ok(())
}

fn train(args: &Args) -> Result<Outcome, Error> {
    let (corpus, device) = (Corpus::of_docs(), cpu_with_threads(args.threads.into()));
    let mut model = CharLstm::new(corpus.vocabulary(), &mut Init::seed(args.seed));
    let inputs = (spec::<i64>(("batch", "length")), spec::<i64>(("batch", "length")));
    let loss = |model: &CharLstm, (text, after): (Tensor, Tensor)| model.forward(text).cross_entropy(after);
    let mut step = train_step(&model, AdamW::new(1e-2).clip_norm(1.0), inputs, loss).compile(&device)?;
    let losses = corpus::fit(&corpus, args, [BATCH, LENGTH], |text, after| step.run((text, after)))?;
    step.write_to(&mut model)?;
    let text = write(&model, &corpus, args, &device)?;
    Ok(Outcome { losses, text })
}

/// What follows the prompt. The memory is what the network needs of all before.
fn write(model: &CharLstm, corpus: &Corpus, args: &Args, device: &Device) -> Result<String, Error> {
    let memory = || spec::<f32>((1, 1, WIDTH));
    let inputs = (spec::<i64>((1, "length")), (memory(), memory()));
    let mut next = step(inputs, |(text, memory)| model.next(text, memory, args.temperature))
        .model("", model)
        .eval()
        .seed(args.seed)
        .compile(device)?;
    let nothing = Array::zeroed(DType::F32, [1, 1, WIDTH])?;
    let (mut text, mut memory) = (corpus.encode(PROMPT), (nothing.clone(), nothing));
    let mut written = Vec::new();
    while written.len() < args.length {
        let (character, after) = next.run((&Array::from_vec([1, text.len()], text)?, (&memory.0, &memory.1)))?;
        memory = after;
        text = character.as_slice::<i64>().expect("positions are i64").to_vec();
        written.extend(&text);
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
