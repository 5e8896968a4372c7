//! From texts to embeddings and classes.

use graver_models::hub::Folder;
use graver_models::{Classifier, Configuration, Embedder, Generation, LlamaConfig, T5Config};
use graver_trace::{Device, Error};

use crate::common::{Case, Copy, Reference, check, cpu, path};

/// What the references were made of.
const TEXTS: [&str; 3] = [
    "A graver cuts lines into copper.",
    "Ink fills them",
    "the press, the paper and the ink make the print: one by one, again and again",
];

fn embeddings(reference: &Reference, device: &Device) -> Result<f64, Error> {
    let embedder = Embedder::of_folder(&reference.folder, device)?;
    Ok(reference.check("one", "embeddings", &embedder.embed(&TEXTS)?))
}

pub(crate) const CASES: &[Case] = &[
    // WordPiece, cut to ten tokens; the first row and the mean beside each other, of length 1.
    Case { name: "sentence", model: "SentenceEncoder", run: embeddings },
    // The last token, the greatest, and the mean that counts later tokens more; two dense layers behind them.
    Case { name: "sentence_dense", model: "SentenceEncoder", run: embeddings },
];

#[test]
fn embeddings_of_sentences() -> Result<(), Error> {
    check(CASES)?;
    let embedder = Embedder::of_folder(&Reference::of("sentence").folder, &cpu())?;
    // A text's embedding does not depend on what is beside it.
    let alone = embedder.embed(&TEXTS[1..2])?.to_f64();
    let beside = embedder.embed(&TEXTS)?.to_f64()[32..64].to_vec();
    assert!(alone.iter().zip(&beside).all(|(x, y)| (x - y).abs() < 1e-6));
    assert_eq!(embedder.embed::<&str>(&[]).expect_err("nothing").to_string(), "there is no text to encode");
    Ok(())
}

/// One compiled function for any number of texts.
#[test]
fn any_number_of_texts_is_embedded() -> Result<(), Error> {
    let embedder = Embedder::of_folder(&Reference::of("sentence").folder, &cpu())?;
    let one = |text: &str| Ok::<_, Error>(embedder.embed(&[text])?.to_f64());
    for count in [1, 3, 7] {
        let texts: Vec<&str> = TEXTS.iter().chain(&["", "Ink"]).copied().cycle().take(count).collect();
        let rows = embedder.embed(&texts)?;
        assert_eq!(rows.shape(), [count, 32]);
        for (text, row) in texts.iter().zip(rows.to_f64().chunks(32)) {
            assert!(one(text)?.iter().zip(row).all(|(x, y)| (x - y).abs() < 1e-6), "{text:?} beside {count} others");
        }
    }
    Ok(())
}

/// Byte-level BPE, padding with another number than 0.
#[test]
fn classes_of_texts() -> Result<(), Error> {
    let reference = Reference::of("classify");
    let classifier = Classifier::of_folder(&reference.folder, &cpu())?;
    let expected = reference.array("one", "probabilities").to_f64();
    let rows = classifier.classify(&TEXTS)?;
    for (row, expected) in rows.iter().zip(expected.chunks(3)) {
        assert!(row.windows(2).all(|pair| pair[0].score >= pair[1].score), "{row:?}");
        for (label, expected) in ["bad", "fair", "good"].iter().zip(expected) {
            let scored = row.iter().find(|scored| scored.label == *label).expect("every class is there");
            assert!((scored.score - expected).abs() < 1e-5, "{scored:?} is not {expected}");
        }
    }
    Ok(())
}

#[test]
fn a_model_of_another_family_is_refused() {
    let folder = Folder::open(path("gpt2")).expect("kept beside the tests");
    let error = Embedder::of_folder(&folder, &cpu()).expect_err("GPT-2 is no encoder").to_string();
    assert!(error.contains("the model type is `gpt2`, and here it must be one of bert, roberta"), "{error}");
}

/// Another model's numbers, a length for no text, and configurations that say nothing or what cannot be.
#[test]
fn what_does_not_fit_together_is_told() {
    let copy = Copy::of("classify", "other");
    copy.edit("tokenizer.json", |file| {
        let vocabulary = file["model"]["vocab"].as_object_mut().expect("a vocabulary");
        vocabulary.values_mut().for_each(|id| *id = (id.as_u64().expect("a number") + 1000).into());
    });
    let classifier = Classifier::of_folder(&copy.folder(), &cpu()).expect("a whole folder");
    let error = classifier.classify(&["Ink"]).expect_err("all numbers are too large").to_string();
    assert!(error.contains("and the model has ") && error.ends_with("is tokenizer.json that of another model?"), "{error}");
    let copy = Copy::of("sentence", "short");
    copy.edit("sentence_bert_config.json", |file| file["max_seq_length"] = 1.into());
    let error = Embedder::of_folder(&copy.folder(), &cpu()).expect_err("two tokens are special").to_string();
    assert_eq!(error, "tokenizer: texts of at most 1 tokens leave no place for the 2 special ones");
    let copy = Copy::of("classify", "nameless");
    copy.edit("config.json", |file| drop(file.as_object_mut().expect("fields").remove("model_type")));
    let error = graver_models::model_type(&copy.folder()).expect_err("no family").to_string();
    assert!(error.ends_with("config.json: has no `model_type`, by which its family is known"), "{error}");
    let llama = r#"{"model_type": "llama", "rope_theta": 0.0, "vocab_size": 40, "hidden_size": 16, "num_attention_heads": 4}"#;
    let error = LlamaConfig::of_json(llama).expect_err("no frequencies").to_string();
    assert_eq!(error, "configuration: `rope_theta` is 0, and must be a number above 0");
    let error = T5Config::of_json(r#"{"model_type": "t5", "vocab_size": 40, "decoder_start_token_id": 40}"#).expect_err("0..40");
    assert_eq!(error.to_string(), "configuration: `decoder_start_token_id` is 40, and there are 40 tokens");
    let copy = Copy::of("generate", "end");
    copy.edit("generation_config.json", |file| file["eos_token_id"] = (-1).into());
    let error = Generation::of_folder(&copy.folder()).expect_err("no token").to_string();
    assert!(error.ends_with("`eos_token_id`: is neither the number of a token nor a list of them"), "{error}");
}
