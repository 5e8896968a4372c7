//! Trains a recurrent network on this project's book, a character at a time, and lets it write.
//!
//! `cargo run --release --example char_lstm`

#[path = "../corpus/mod.rs"]
mod corpus;
#[path = "../corpus/draw.rs"]
mod draw;
mod model;

use clap::Parser;
use graver::prelude::*;

use crate::corpus::{Args, Corpus, Outcome, PROMPT};
use crate::model::{CharLstm, WIDTH};

const BATCH: usize = 16;
/// How many characters a training goes back.
const LENGTH: usize = 64;

fn main() -> Result<(), Error> {
    corpus::show(&Corpus::of_docs(), &train(&Args::parse())?);
    Ok(())
}

fn train(args: &Args) -> Result<Outcome, Error> {
    let (corpus, device) = (Corpus::of_docs(), cpu_with_threads(args.threads.into()));
    let mut model = CharLstm::new(corpus.vocabulary(), &mut Init::seed(args.seed));
    let mut step = model.training(&device)?;
    let losses = corpus::fit(&corpus, args, [BATCH, LENGTH], |text, after| step.run((text, after)))?;
    step.write_to(&mut model)?;
    let text = write(&model, &corpus, args, &device)?;
    Ok(Outcome { losses, text })
}

/// What follows the prompt. The memory is what the network needs of all before.
fn write(model: &CharLstm, corpus: &Corpus, args: &Args, device: &Device) -> Result<String, Error> {
    let nothing = Array::zeroed(DType::F32, [1, 1, WIDTH])?;
    let mut next = model.writing(args.temperature, args.seed, device)?;
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
