//! Trains a small GPT on this project's book, a character at a time, and lets it write over a cache of keys and values.
//!
//! `cargo run --release --example gpt`

#[path = "../corpus/mod.rs"]
mod corpus;
#[path = "../corpus/draw.rs"]
mod draw;
mod model;

use clap::Parser;
use graver::prelude::*;

use crate::corpus::{Args, Corpus, Outcome, PROMPT};
use crate::model::{CONTEXT, Gpt};

const BATCH: usize = 16;

fn main() -> Result<(), Error> {
    corpus::show(&Corpus::of_docs(), &train(&Args::parse())?);
    Ok(())
}

fn train(args: &Args) -> Result<Outcome, Error> {
    let (corpus, device) = (Corpus::of_docs(), cpu_with_threads(args.threads.into()));
    let mut model = Gpt::new(corpus.vocabulary(), &mut Init::seed(args.seed));
    let mut step = model.training(&device)?;
    let losses = corpus::fit(&corpus, args, [BATCH, CONTEXT], |text, after| step.run((text, after)))?;
    step.write_to(&mut model)?;
    let text = write(&model, &corpus, args, &device)?;
    Ok(Outcome { losses, text })
}

/// What follows the prompt.
fn write(model: &Gpt, corpus: &Corpus, args: &Args, device: &Device) -> Result<String, Error> {
    let (read, more, mut state) = model.writer(args.temperature, args.seed, device)?;
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
