//! From texts to embeddings and classes.

use graver_models::hub::Folder;
use graver_models::{Classifier, Configuration, Embedder, Generation, LlamaConfig, SentenceEncoder, T5Config};
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

/// A copy of the sentence encoder in which `modules.json` puts the encoder of tokens inside.
fn inside(test: &str) -> Copy {
    let copy = Copy::of("sentence", test);
    copy.edit("modules.json", |modules| modules[0]["path"] = "0_Transformer".into());
    std::fs::create_dir(copy.file("0_Transformer")).expect("writable");
    for name in ["config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json"] {
        std::fs::rename(copy.file(name), copy.file(&format!("0_Transformer/{name}"))).expect("copied");
    }
    copy
}

#[test]
fn the_encoder_of_tokens_may_be_inside() -> Result<(), Error> {
    let copy = inside("inside");
    let inside = Embedder::of_folder(&copy.folder(), &cpu())?;
    let plain = Embedder::of_folder(&Reference::of("sentence").folder, &cpu())?;
    assert_eq!(inside.embed(&TEXTS)?, plain.embed(&TEXTS)?);
    copy.edit("0_Transformer/sentence_bert_config.json", |limits| limits["max_seq_length"] = 4.into());
    assert_ne!(Embedder::of_folder(&copy.folder(), &cpu())?.embed(&TEXTS[..1])?, plain.embed(&TEXTS[..1])?);
    Ok(())
}

/// What sentence-transformers does with texts before they are tokens.
#[test]
fn texts_are_written_as_the_folder_says() -> Result<(), Error> {
    let plain = Embedder::of_folder(&Reference::of("sentence").folder, &cpu())?;
    let embed = |copy: &Copy, text: &str| Embedder::of_folder(&copy.folder(), &cpu())?.embed(&[text]);
    let copy = Copy::of("sentence", "written");
    // A tokeniser that does not fold case itself.
    copy.edit("tokenizer.json", |file| file["normalizer"] = serde_json::Value::Null);
    assert_ne!(embed(&copy, "INK fills")?, plain.embed(&["ink fills"])?);
    copy.edit("sentence_bert_config.json", |limits| limits["do_lower_case"] = true.into());
    assert_eq!(embed(&copy, "INK fills")?, plain.embed(&["ink fills"])?);
    let prompts =
        |name: &str| format!(r#"{{"prompts": {{"query": "the press: ", "plain": ""}}, "default_prompt_name": {name}}}"#);
    let write = |name: &str| std::fs::write(copy.file("config_sentence_transformers.json"), prompts(name)).expect("writable");
    for (name, text) in [("null", "ink"), (r#""plain""#, "ink"), (r#""query""#, "the press: ink")] {
        write(name);
        assert_eq!(embed(&copy, "Ink ")?, plain.embed(&[text])?, "{name}");
    }
    copy.edit("1_Pooling/config.json", |config| config["include_prompt"] = false.into());
    let error = embed(&copy, "ink").expect_err("the prompt counts").to_string();
    assert!(error.contains("the prompt `query`, and pooling without it (`include_prompt`) is not supported"), "{error}");
    write(r#""other""#);
    let error = embed(&copy, "ink").expect_err("no such prompt").to_string();
    assert!(error.contains(r#"`default_prompt_name` is `other`, and `prompts` has ["plain", "query"]"#), "{error}");
    Ok(())
}

#[test]
fn the_tokeniser_s_limit_holds_where_no_other_is_said() -> Result<(), Error> {
    let copy = Copy::of("sentence", "limit");
    let longest = |copy: &Copy| SentenceEncoder::of_folder(&copy.folder()).map(|model| model.max_length());
    let write = |limit: &str| {
        std::fs::write(copy.file("tokenizer_config.json"), format!(r#"{{"model_max_length": {limit}}}"#)).expect("writable");
    };
    write("6");
    assert_eq!(longest(&copy)?, 10);
    copy.edit("sentence_bert_config.json", |limits| drop(limits.as_object_mut().expect("fields").remove("max_seq_length")));
    assert_eq!(longest(&copy)?, 6);
    write("1000000000000000019884624838656");
    assert_eq!(longest(&copy)?, 16);
    write("0");
    assert!(longest(&copy).expect_err("nothing").to_string().contains("`model_max_length` is 0"));
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

/// As transformers' pipelines have it: scores as they are, of which the softmax would make the classes' probabilities.
#[test]
fn numbers_of_a_regression_are_no_probabilities() -> Result<(), Error> {
    let copy = Copy::of("classify", "regression");
    copy.edit("config.json", |config| config["problem_type"] = "regression".into());
    let rows = Classifier::of_folder(&copy.folder(), &cpu())?.classify(&TEXTS)?;
    let expected = Reference::of("classify").array("one", "probabilities").to_f64();
    for (row, expected) in rows.iter().zip(expected.chunks(3)) {
        let total: f64 = row.iter().map(|scored| scored.score.exp()).sum();
        assert!((row.iter().map(|scored| scored.score).sum::<f64>() - 1.0).abs() > 0.01, "{row:?}");
        for (label, expected) in ["bad", "fair", "good"].iter().zip(expected) {
            let scored = row.iter().find(|scored| scored.label == *label).expect("every number is there");
            assert!((scored.score.exp() / total - expected).abs() < 1e-5, "{scored:?} of {total} is not {expected}");
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
