//! Trains a small BERT, and its tokeniser before, to tell from which page of the book a sentence is.
//!
//! `cargo run --release -p graver-models --example pages`

use std::time::Instant;

use graver::prelude::*;
use graver_models::hub::Tokenizer;
use graver_models::hub::tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use graver_models::hub::tokenizers::processors::bert::BertProcessing;
use graver_models::hub::tokenizers::{self, AddedToken, normalizers, pre_tokenizers};
use graver_models::{Classifier, Configuration, Pretrained, SequenceClassifier, TextConfig, TextInput};

/// The pages by name.
const PAGES: [(&str, &str); 4] = [
    ("data", include_str!("../../../../docs/guide/data.md")),
    ("graphs", include_str!("../../../../docs/ir.md")),
    ("gpus", include_str!("../../../../docs/cuda.md")),
    ("numerics", include_str!("../../../../docs/numerics.md")),
];

const EPOCHS: u64 = 20;
const VOCABULARY: usize = 600;
const LENGTH: usize = 32;

fn main() -> Result<(), Error> {
    let (train, test) = sentences();
    let tokenizer = tokenizer(train.iter().map(|(text, _)| text.as_str()))?;
    let config = TextConfig::of_json(&config(tokenizer.inner().get_vocab_size(true)))?;
    let mut model = SequenceClassifier::new(&config, &mut Init::seed(0))?;
    println!("{} sentences to train on, {} to test with; {} parameters", train.len(), test.len(), model.count());

    let tokens = || spec::<i64>(("batch", "length"));
    let inputs = (tokens(), tokens(), spec::<i64>(["batch"]));
    let optimizer = AdamW::new(1e-3).weight_decay("*.weight", 0.01);
    let mut step = train_step(&model, optimizer, inputs, |model, (ids, mask, page)| {
        model.forward(TextInput { ids, mask, types: None }).cross_entropy(page)
    })
    .compile(&cpu())?;

    let start = Instant::now();
    let batches = DataLoader::new(InMemory::new(encoded(&tokenizer, &train)?)?, 16)?.shuffle(0);
    for epoch in 0..EPOCHS {
        let (mut total, mut count) = (0.0, 0.0);
        for batch in batches.epoch(epoch) {
            let (ids, mask, page) = batch?;
            total += step.run((&ids, &mask, &page))?.item()?;
            count += 1.0;
        }
        println!("epoch {:2}  loss {:.4}", epoch + 1, total / count);
    }
    println!("trained in {:.1} s", start.elapsed().as_secs_f64());

    step.write_to(&mut model)?;
    let classifier = Classifier::new(&model, tokenizer, &cpu())?;
    let texts: Vec<&str> = test.iter().map(|(text, _)| text.as_str()).collect();
    let ranked = classifier.classify(&texts)?;
    let right = ranked.iter().zip(&test).filter(|(classes, (_, page))| classes[0].label == PAGES[*page].0).count();
    let (accuracy, most) = (share(right, test.len()), share(most_frequent(&test), test.len()));
    println!("test accuracy: {accuracy:.4}; the most frequent page alone: {most:.4}");
    for text in ["Results are the same bits for any number of threads.", "A loader shuffles the items of every epoch."] {
        let first = &classifier.classify(&[text])?[0][0];
        println!("{:.2}  {:8}  {text}", first.score, first.label);
    }
    Ok(())
}

/// The configuration of the model, as a file would have it.
fn config(vocabulary: usize) -> String {
    let labels: Vec<String> = PAGES.iter().enumerate().map(|(page, (name, _))| format!(r#""{page}": "{name}""#)).collect();
    format!(
        r#"{{
            "model_type": "bert", "vocab_size": {vocabulary}, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": {LENGTH}, "id2label": {{ {} }}
        }}"#,
        labels.join(", ")
    )
}

type Sentences = Vec<(String, usize)>;

/// The prose of the pages, sentence by sentence; every fifth is to test with.
fn sentences() -> (Sentences, Sentences) {
    let of_page = |(page, (_, text)): (usize, &(&str, &str))| {
        // Programs stand between fences: every other part.
        let prose: Vec<&str> = text.split("```").step_by(2).collect();
        let is_sentence = |text: &&str| text.split_whitespace().count() > 4;
        let prose = prose.join("\n").replace('\n', " ");
        prose.split(['.', '|', ';', ':']).filter(is_sentence).map(|text| (text.trim().to_owned(), page)).collect::<Sentences>()
    };
    let all: Sentences = PAGES.iter().enumerate().flat_map(of_page).collect();
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

/// Tokens, their mask, and pages.
fn encoded(tokenizer: &Tokenizer, sentences: &Sentences) -> Result<(Array, Array, Array), Error> {
    let texts: Vec<&str> = sentences.iter().map(|(text, _)| text.as_str()).collect();
    let tokens = tokenizer.encode(&texts)?;
    let pages: Vec<i64> = sentences.iter().map(|(_, page)| i64::try_from(*page).expect("four pages")).collect();
    Ok((tokens.ids, tokens.mask, Array::from_vec([pages.len()], pages)?))
}

fn most_frequent(sentences: &Sentences) -> usize {
    (0..PAGES.len()).map(|page| sentences.iter().filter(|(_, other)| *other == page).count()).max().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred sentences")]
fn share(part: usize, of: usize) -> f64 {
    part as f64 / of as f64
}
