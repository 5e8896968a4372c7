//! The text that language models are trained on here: this project's own book, a character at a time.

#[path = "../say/mod.rs"]
mod say;

use clap::Parser;
use graver::data::Key;
use graver::prelude::*;

use self::say::say;

/// What the user may ask for.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// How many batches are trained on.
    #[arg(long, default_value_t = 600)]
    pub(crate) steps: u32,
    /// How many characters are written then.
    #[arg(long, default_value_t = 300)]
    pub(crate) length: usize,
    /// What scores are divided by before a character is drawn: less is likelier.
    #[arg(long, default_value_t = 0.7, value_parser = temperature)]
    pub(crate) temperature: f32,
    /// Seeds the parameters, the batches and what is written.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads of the cpu. Losses and texts do not depend on it.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
}

fn temperature(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|number| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "a temperature is a number above 0".to_owned())
}

/// What came of a training.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    /// The loss of every step, in nats a character.
    pub(crate) losses: Vec<f64>,
    /// What was written after [`PROMPT`].
    pub(crate) text: String,
}

/// What is to be gone on from.
pub(crate) const PROMPT: &str = "# The ";

const PAGES: [&str; 8] = [
    include_str!("../../../../docs/architecture.md"),
    include_str!("../../../../docs/numerics.md"),
    include_str!("../../../../docs/guide/functions.md"),
    include_str!("../../../../docs/guide/generation.md"),
    include_str!("../../../../docs/guide/loops.md"),
    include_str!("../../../../docs/guide/training.md"),
    include_str!("../../../../docs/guide/data.md"),
    include_str!("../../../../docs/guide/pretrained.md"),
];

/// A text of numbered characters.
pub(crate) struct Corpus {
    characters: Vec<char>,
    text: Vec<i64>,
}

impl Corpus {
    /// The pages of the book.
    pub(crate) fn of_docs() -> Self {
        let text = PAGES.concat();
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        let mut corpus = Self { characters, text: Vec::new() };
        corpus.text = corpus.encode(&text);
        corpus
    }

    /// How many characters there are.
    pub(crate) fn vocabulary(&self) -> usize {
        self.characters.len()
    }

    /// The numbers of a text's characters, without those that the book has not.
    pub(crate) fn encode(&self, text: &str) -> Vec<i64> {
        let number = |character: char| self.characters.binary_search(&character).ok();
        text.chars().filter_map(number).map(|number| i64::try_from(number).expect("a few characters")).collect()
    }

    /// The text of numbers.
    pub(crate) fn decode(&self, numbers: &[i64]) -> String {
        let character = |number: &i64| usize::try_from(*number).ok().and_then(|number| self.characters.get(number));
        numbers.iter().filter_map(character).collect()
    }

    /// Parts of the book at places that a key says, and what comes after each of their characters: `i64[batch, length]` both.
    fn batch(&self, key: Key, [batch, length]: [usize; 2]) -> Result<(Array, Array), Error> {
        let place = |row: u64| key.below(row, self.text.len() - length);
        let rows = |ahead: usize| {
            let row = |row| self.text[place(row) + ahead..][..length].to_vec();
            Array::from_vec([batch, length], (0..batch as u64).flat_map(row).collect::<Vec<i64>>())
        };
        Ok((rows(0)?, rows(1)?))
    }
}

/// Trains by batches of the book, of a size: the loss of every step, which `step` gives for a text and what comes after its characters.
pub(crate) fn fit(
    corpus: &Corpus,
    args: &Args,
    size: [usize; 2],
    mut step: impl FnMut(&Array, &Array) -> Result<Array, Error>,
) -> Result<Vec<f64>, Error> {
    let mut losses = Vec::new();
    for number in 0..args.steps {
        let (text, after) = corpus.batch(Key::seed(args.seed).fold(number.into()), size)?;
        losses.push(step(&text, &after)?.item()?);
        report(&losses);
    }
    Ok(losses)
}

/// Says how the training goes, every now and then.
fn report(losses: &[f64]) {
    const EVERY: usize = 100;
    if losses.len().is_multiple_of(EVERY) {
        let mean = losses[losses.len() - EVERY..].iter().sum::<f64>() / EVERY as f64;
        say(&format!("step {:5}  mean loss of the last {EVERY} {mean:.4}", losses.len()));
    }
}

/// What is printed at the end.
pub(crate) fn show(corpus: &Corpus, outcome: &Outcome) {
    let guess = (corpus.vocabulary() as f64).ln();
    let last = outcome.losses.last().copied().unwrap_or(guess);
    say(&format!("loss {last:.4}; a guess among {} characters has {guess:.4}", corpus.vocabulary()));
    say(&format!("{PROMPT}{}", outcome.text));
}

/// What both models' tests say of a short training: it learns, and is the same each time and for any number of threads.
#[cfg(test)]
pub(crate) fn learns(train: impl Fn(&Args) -> Result<Outcome, Error>, losses: std::ops::Range<f64>) -> Result<(), Error> {
    let args = Args { steps: 40, length: 40, temperature: 0.7, seed: 1, threads: 1 };
    let outcome = train(&args)?;
    let last = outcome.losses[30..].iter().sum::<f64>() / 10.0;
    assert!((losses.end..5.5).contains(&outcome.losses[0]), "{:?}", outcome.losses);
    assert!(losses.contains(&last), "{last}: {:?}", outcome.losses);
    assert_eq!(outcome.text.chars().count(), 40);
    assert_eq!(train(&Args { threads: 3, ..args.clone() })?, outcome);
    assert_ne!(train(&Args { seed: 2, steps: 0, ..args.clone() })?.text, train(&Args { seed: 1, steps: 0, ..args })?.text);
    Ok(())
}
