//! From prompts to the texts that follow: pieces, options, draws, and what is refused.

use graver_models::hub::Folder;
use graver_models::{Generation, Generator, Room};
use graver_runtime::Checkpoint;
use graver_trace::{Device, Error};
use serde_json::Value;

use crate::common::{Copy, cpu, path};

/// What transformers generated, and the token that also ends a text.
fn references() -> (u32, Vec<(String, String)>) {
    let file = std::fs::read(path("generate").join("generated.json")).expect("kept beside the tests");
    let value: Value = serde_json::from_slice(&file).expect("JSON");
    let of = |text: &Value, name: &str| text[name].as_str().expect("a text").to_owned();
    let texts = value["texts"].as_array().expect("an array").iter().map(|text| (of(text, "prompt"), of(text, "text"))).collect();
    (u32::try_from(value["end"].as_u64().expect("a number")).expect("small"), texts)
}

fn generator(texts: usize, device: &Device) -> Generator {
    let folder = Folder::open(path("generate")).expect("kept beside the tests");
    Generator::of_folder(&folder, Room { texts, tokens: 48 }, device).expect("a whole folder")
}

/// As the folder says, but without the stop token that is there for [`stop_tokens_end_a_text`].
fn plain(generator: &Generator) -> Generation {
    Generation { eos_token_id: vec![0], ..generator.options().clone() }
}

#[test]
fn texts_are_transformers_and_pieces_make_them() -> Result<(), Error> {
    let (_, texts) = references();
    let mut alone = generator(1, &cpu());
    let options = plain(&alone);
    for (prompt, expected) in &texts {
        let pieces = alone.stream(prompt, &options)?.collect::<Result<Vec<String>, Error>>()?;
        assert!(pieces.len() > 4 && pieces.iter().all(|piece| !piece.is_empty()), "{pieces:?}");
        assert_eq!(&pieces.concat(), expected);
    }
    let (prompts, expected): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
    assert_eq!(generator(2, &cpu()).generate(&prompts, &options)?, expected);
    Ok(())
}

/// A text beside others ends by itself, and a stop token is the last.
#[test]
fn stop_tokens_end_a_text() -> Result<(), Error> {
    let (end, texts) = references();
    let prompts: Vec<&str> = texts.iter().map(|(prompt, _)| prompt.as_str()).collect();
    let mut both = generator(2, &cpu());
    assert_eq!(both.options().eos_token_id, [0, end]);
    let said = both.options().clone();
    let found = both.generate(&prompts, &said)?;
    assert!(texts[0].1.starts_with(&found[0]) && found[0].len() < texts[0].1.len(), "{found:?}");
    assert!(texts[1].1.starts_with(&found[1]), "{found:?}");
    Ok(())
}

#[test]
fn draws_are_the_same_for_any_number_of_threads() -> Result<(), Error> {
    let drawn = |threads: usize, seed: u64| {
        let device = Device::new(std::sync::Arc::new(graver_cpu::Cpu::new(threads)));
        let mut generator = generator(1, &device);
        let options = Generation { do_sample: true, seed, top_p: 1.0, top_k: 0, ..plain(&generator) };
        generator.generate(&["Ink fills"], &options)
    };
    assert_eq!(drawn(1, 3)?, drawn(3, 3)?);
    assert_ne!(drawn(1, 3)?, drawn(1, 4)?);
    Ok(())
}

/// `LogitsProcessor`s of transformers, one by one and together.
#[test]
fn probabilities_are_transformers() -> Result<(), Error> {
    let expected = Checkpoint::read(path("picking").join("expected.safetensors"))?.arrays;
    let plain = Generation { top_k: 0, ..Generation::default() };
    let cases = [
        ("plain", plain.clone()),
        ("cold", Generation { temperature: 0.5, ..plain.clone() }),
        ("hot", Generation { temperature: 2.5, ..plain.clone() }),
        ("few", Generation { top_k: 5, ..plain.clone() }),
        ("share", Generation { top_p: 0.8, ..plain.clone() }),
        ("penalised", Generation { repetition_penalty: 1.4, ..plain.clone() }),
        ("all", Generation { temperature: 1.6, top_k: 12, top_p: 0.7, repetition_penalty: 1.3, ..plain }),
    ];
    let (scores, tokens) = (expected["scores"].to_f64(), expected["tokens"].to_f64());
    for (name, options) in cases {
        for ((scores, tokens), expected) in scores.chunks(40).zip(tokens.chunks(6)).zip(expected[name].to_f64().chunks(40)) {
            let tokens: Vec<u32> = tokens.iter().map(|token| *token as u32).collect();
            for (x, y) in options.probabilities(scores, &tokens).iter().zip(expected) {
                assert!((x - y).abs() <= 1e-6 && (*x == 0.0) == (*y == 0.0), "{name}: {x} is not {y}");
            }
        }
    }
    Ok(())
}

/// A byte is a token here, so a character is up to four.
#[test]
fn pieces_are_whole_characters() -> Result<(), Error> {
    let tokenizer = Folder::open(path("generate"))?.tokenizer()?;
    let text = "Grüße, 東京 \u{1f5fc}!";
    let ids = tokenizer.ids(text)?;
    assert!(ids.len() > text.chars().count(), "several tokens a character");
    for start in 0..ids.len() {
        let mut growing = tokenizer.growing(&ids[..start]);
        let pieces = ids[start..].iter().map(|id| growing.push(*id)).collect::<Result<Vec<_>, _>>()?;
        let shown = pieces.concat() + &growing.rest()?;
        assert!(text.ends_with(&shown) && !shown.contains('\u{FFFD}'), "{start}: {pieces:?}");
        let begun = tokenizer.decode(&ids[..start])?;
        assert_eq!(begun.trim_end_matches('\u{FFFD}').to_owned() + &shown, text);
    }
    // What never becomes a character is shown at the end.
    let mut growing = tokenizer.growing(&[]);
    let first = tokenizer.ids("é")?[0];
    assert_eq!((growing.push(first)?, growing.rest()?, growing.rest()?), (String::new(), "\u{FFFD}".to_owned(), String::new()));
    Ok(())
}

#[test]
fn options_are_read_where_transformers_reads_them() -> Result<(), Error> {
    let copy = Copy::of("generate", "options");
    let read = || Generation::of_folder(&copy.folder());
    let own = read()?;
    assert_eq!((own.max_new_tokens, own.temperature, own.top_k, own.top_p), (Some(24), 0.9, 50, 0.95));
    copy.edit("generation_config.json", |file| file["eos_token_id"] = 7.into());
    assert_eq!(read()?.eos_token_id, [7]);
    copy.edit("generation_config.json", |file| {
        file["num_beams"] = 4.into();
        file["typical_p"] = 1.0.into();
        file["min_length"] = 3.into();
    });
    let error = read().expect_err("beams").to_string();
    assert!(error.contains("`num_beams` is 4, which is not supported") && error.contains("`min_length` is 3"), "{error}");
    assert!(!error.contains("typical_p"), "{error}");
    copy.edit("generation_config.json", |file| *file = serde_json::json!({"temperature": -1.0, "top_p": 1.5}));
    let error = read().expect_err("out of range").to_string();
    assert!(error.contains("generation_config.json: `temperature` is -1") && error.contains("`top_p` is 1.5"), "{error}");
    copy.edit("generation_config.json", |file| *file = serde_json::json!({"temperature": "warm", "top_k": -1}));
    let error = read().expect_err("these are no numbers").to_string();
    assert!(error.contains("generation_config.json: `temperature`: invalid type") && error.contains("`top_k`: "), "{error}");
    // What says nothing, and what nothing depends on, is no request; what is not known is one.
    copy.edit("generation_config.json", |file| {
        *file = serde_json::json!({
            "pad_token_id": 3, "transformers_version": "5.0.0", "use_cache": true, "output_scores": true, "cache_implementation": "static",
            "length_penalty": 2.0, "unknown": false, "other": 1, "third": 1.0, "fourth": [], "fifth": {}, "forced_eos_token_id": null
        });
    });
    assert_eq!(read()?, Generation::default());
    copy.edit("generation_config.json", |file| {
        *file = serde_json::json!({
            "forced_bos_token_id": 0, "stop_strings": ["."], "unknown": 2, "max_time": 1.0, "other": "some", "guidance_scale": 1
        });
    });
    let error = read().expect_err("five of them").to_string();
    for said in
        ["`forced_bos_token_id` is 0", "`stop_strings` is [\".\"]", "`unknown` is 2", "`max_time` is 1.0", "`other` is \"some\""]
    {
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(error.lines().count(), 5, "{error}");
    // Without the file, the configuration; without that, what is usual in the family.
    std::fs::remove_file(copy.file("generation_config.json")).expect("copied");
    assert_eq!(read()?, Generation { eos_token_id: vec![0], ..Generation::default() });
    copy.edit("config.json", |file| drop(file.as_object_mut().expect("an object").remove("eos_token_id")));
    assert_eq!(read()?.eos_token_id, [50256]);
    Ok(())
}

#[test]
fn a_decoder_begins_with_the_token_that_is_said() -> Result<(), Error> {
    let copy = Copy::of("t5", "start");
    std::fs::copy(path("generate").join("tokenizer.json"), copy.file("tokenizer.json")).expect("kept beside the tests");
    let begins = |said: &str| {
        std::fs::write(copy.file("generation_config.json"), said).expect("writable");
        let generator = Generator::of_folder(&copy.folder(), Room { texts: 1, tokens: 8 }, &cpu());
        generator.map(|generator| generator.decoder().beginning(&[5]))
    };
    assert_eq!(begins("{}")?, [0]);
    assert_eq!(begins(r#"{"decoder_start_token_id": 3}"#)?, [3]);
    let error = begins(r#"{"decoder_start_token_id": 40}"#).expect_err("0..40").to_string();
    assert!(error.contains("the token 40, and the model has 40 of them"), "{error}");
    let error = begins(r#"{"decoder_start_token_id": "x"}"#).expect_err("no token").to_string();
    assert!(error.contains("generation_config.json: `decoder_start_token_id`: invalid type: string"), "{error}");
    Ok(())
}

/// What a tokeniser was trained on is no limit of the model: the whole prompt is read.
#[test]
fn prompts_are_not_cut_as_the_tokeniser_s_file_says() -> Result<(), Error> {
    let text = "A graver cuts lines into copper.";
    let copy = Copy::of("generate", "cut");
    let whole = copy.folder().tokenizer()?.ids(text)?;
    copy.edit("tokenizer.json", |file| {
        file["truncation"] = serde_json::json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    });
    let tokenizer = copy.folder().tokenizer()?;
    assert_eq!(tokenizer.ids(text)?, whole);
    assert!(whole.len() > 3 && tokenizer.max_length(4)?.ids(text)? == whole[..4]);
    Ok(())
}

#[test]
fn what_there_is_no_room_for_is_told() -> Result<(), Error> {
    let folder = Folder::open(path("generate"))?;
    let mut generator = Generator::of_folder(&folder, Room { texts: 2, tokens: 10 }, &cpu())?;
    let options = |most: usize| Generation { max_new_tokens: Some(most), eos_token_id: Vec::new(), ..Generation::default() };
    let mut told = |prompts: &[&str], options: &Generation| match generator.generate(prompts, options) {
        Ok(texts) => format!("no error: {texts:?}"),
        Err(error) => error.to_string(),
    };
    assert!(told(&["Ink"], &options(1)).contains("room for 2 texts at once, and 1 prompts are given"));
    assert!(told(&["Ink", ""], &options(1)).contains("a prompt has no tokens"));
    let long = told(&["Ink", "the press, the paper, the other thing"], &options(1));
    assert!(long.contains("are more than the 10 that there is room for"), "{long}");
    // The last token of all is not read.
    let ids = folder.tokenizer()?.ids("Ink")?.len();
    assert!(told(&["Ink", "Ink"], &options(12 - ids)).contains("are more than the 10"));
    assert!(told(&["Ink", "Ink"], &options(11 - ids)).contains("no error"));
    assert!(told(&["Ink", "Ink"], &options(0)).contains(r#"no error: ["", ""]"#));
    let length = Generation { max_length: Some(2), ..Generation::default() };
    assert!(told(&["Ink", "Ink"], &length).contains("`max_length` is 2"));
    let hot = Generation { temperature: f64::NAN, ..options(1) };
    assert!(told(&["Ink", "Ink"], &hot).contains("`temperature` is NaN"));
    let error = Generator::of_folder(&folder, Room { texts: 0, tokens: 10 }, &cpu()).expect_err("no text").to_string();
    assert!(error.contains("there must be room"), "{error}");
    let error = Generator::of_folder(&Folder::open(path("bert"))?, Room { texts: 1, tokens: 8 }, &cpu()).expect_err("BERT");
    assert!(error.to_string().contains("the model type `bert` does not generate text"), "{error}");
    Ok(())
}
