//! Trains a small BERT, and its tokeniser before, to tell in which language a line of this project is written.
//!
//! `cargo run --release -p graver-models --example lines`

mod model;

use std::time::Instant;

use graver::prelude::*;
use graver::trace::Module;
use graver_models::Classifier;
use graver_models::hub::Tokenizer;
use graver_models::hub::tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use graver_models::hub::tokenizers::processors::bert::BertProcessing;
use graver_models::hub::tokenizers::{self, AddedToken, normalizers, pre_tokenizers};

use crate::model::LENGTH;

/// The languages, each with files that are written in it.
const LANGUAGES: [(&str, &[&str]); 4] = [
    ("english", &[include_str!("../../../../docs/architecture.md"), include_str!("../../../../docs/numerics.md")]),
    ("rust", &[include_str!("../../src/text/encoder.rs"), include_str!("../../src/t5.rs")]),
    ("python", &[include_str!("../../tests/reference/make.py")]),
    (
        "graver",
        &[include_str!("../../../../ir/tests/programs/loops.gir"), include_str!("../../../../ir/tests/programs/sample.gir")],
    ),
];

const EPOCHS: u64 = 10;
const VOCABULARY: usize = 600;

fn main() -> Result<(), Error> {
    let (classifier, [accuracy, most]) = trained(EPOCHS)?;
    println!("test accuracy: {accuracy:.4}; the most frequent language alone: {most:.4}");
    for text in [
        "The passes never read a file, and never see a backend.",
        "let copper = graver.cut(&lines)?;",
        "%7 = add(%3, %4) : f32[n, 3]",
    ] {
        let first = &classifier.classify(&[text])?[0][0];
        println!("{:.2}  {:8}  {text}", first.score, first.label);
    }
    Ok(())
}

/// A classifier, how much of what it was not trained on it gets right, and how much the most frequent language alone would.
fn trained(epochs: u64) -> Result<(Classifier, [f64; 2]), Error> {
    let (train, test) = lines();
    let tokenizer = tokenizer(train.iter().map(|(text, _)| text.as_str()))?;
    let names = LANGUAGES.map(|(name, _)| name);
    let mut model = model::new(tokenizer.inner().get_vocab_size(true), &names, &mut Init::seed(0))?;
    println!("{} lines to train on, {} to test with; {} parameters", train.len(), test.len(), model.count());

    let mut step = model::training(&model, &cpu())?;

    let start = Instant::now();
    let batches = DataLoader::new(InMemory::new(encoded(&tokenizer, &train)?)?, 16)?.shuffle(0);
    for epoch in 0..epochs {
        let (mut total, mut count) = (0.0, 0.0);
        for batch in batches.epoch(epoch) {
            let (ids, mask, language) = batch?;
            total += step.run((&ids, &mask, &language))?.item()?;
            count += 1.0;
        }
        println!("epoch {:2}  loss {:.4}", epoch + 1, total / count);
    }
    println!("trained in {:.1} s", start.elapsed().as_secs_f64());

    step.write_to(&mut model)?;
    let classifier = Classifier::new(&model, tokenizer, &cpu())?;
    let texts: Vec<&str> = test.iter().map(|(text, _)| text.as_str()).collect();
    let ranked = classifier.classify(&texts)?;
    let right = ranked.iter().zip(&test).filter(|(classes, (_, language))| classes[0].label == LANGUAGES[*language].0).count();
    Ok((classifier, [share(right, test.len()), share(most_frequent(&test), test.len())]))
}

/// Lines, each with the number of its language.
type Lines = Vec<(String, usize)>;

/// The lines of all files that have a few words; every fifth is to test with.
fn lines() -> (Lines, Lines) {
    let of_language = |(language, (_, files)): (usize, &(&str, &[&str]))| {
        let lines = files.iter().flat_map(|file| file.lines()).map(str::trim);
        let spoken = lines.filter(|line| line.split_whitespace().count() > 2);
        spoken.map(|line| (line.to_owned(), language)).collect::<Lines>()
    };
    let all: Lines = LANGUAGES.iter().enumerate().flat_map(of_language).collect();
    let (test, train): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(place, _)| place % 5 == 4);
    let items = |numbered: Vec<(usize, (String, usize))>| numbered.into_iter().map(|(_, item)| item).collect();
    (items(train), items(test))
}

/// WordPiece, trained on these texts.
fn tokenizer<'a>(texts: impl Iterator<Item = &'a str> + Send) -> Result<Tokenizer, Error> {
    let failed = |error: tokenizers::Error| Error::new(error.to_string());
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(|token| AddedToken::from(token, true));
    let mut trainer: tokenizers::models::TrainerWrapper =
        WordPieceTrainer::builder().show_progress(false).vocab_size(VOCABULARY).special_tokens(special.to_vec()).build().into();
    let model = WordPiece::builder().unk_token("[UNK]".to_owned()).build().map_err(failed)?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_normalizer(Some(normalizers::BertNormalizer::default()));
    inner.with_pre_tokenizer(Some(pre_tokenizers::bert::BertPreTokenizer));
    inner.train(&mut trainer, texts).map_err(failed)?;
    let token = |name: &str| (name.to_owned(), inner.token_to_id(name).expect("a special token"));
    let processing = BertProcessing::new(token("[SEP]"), token("[CLS]"));
    inner.with_post_processor(Some(processing));
    Tokenizer::new(inner).max_length(LENGTH)
}

/// Tokens, their mask, and languages.
fn encoded(tokenizer: &Tokenizer, lines: &Lines) -> Result<(Array, Array, Array), Error> {
    let texts: Vec<&str> = lines.iter().map(|(text, _)| text.as_str()).collect();
    let tokens = tokenizer.encode(&texts)?;
    let languages: Vec<i64> = lines.iter().map(|(_, language)| i64::try_from(*language).expect("four of them")).collect();
    Ok((tokens.ids, tokens.mask, Array::from_vec([languages.len()], languages)?))
}

fn most_frequent(lines: &Lines) -> usize {
    (0..LANGUAGES.len()).map(|language| lines.iter().filter(|(_, other)| *other == language).count()).max().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred lines")]
fn share(part: usize, of: usize) -> f64 {
    part as f64 / of as f64
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_learns() -> Result<(), graver::Error> {
        let (classifier, [accuracy, most]) = super::trained(2)?;
        assert!(accuracy > most + 0.1, "{accuracy} {most}");
        assert_eq!(classifier.classify(&["let copper = graver.cut(&lines)?;"])?[0].len(), 4);
        Ok(())
    }
}
