//! Texts that go on: transformers' tokens and scores, the cache against the whole text, and what a step writes.

use graver_ir::kernel::{KernelBody, Mode, Place, Program, launches};
use graver_models::{CausalBody, CausalLm, Decoder, Generation, Gpt2, Llama, Pretrained, Room, T5};
use graver_runtime::Checkpoint;
use graver_trace::{Array, Error, compile, spec, step, symbol};

use crate::common::{Reference, cpu, path};

/// The prompts of the references, and how many tokens follow.
const PROMPTS: [(&str, &[&[u32]]); 2] = [("alone", &[&[7, 3, 19, 4]]), ("beside", &[&[5, 30, 11, 8, 22], &[9, 14], &[3, 3, 25]])];
const MORE: usize = 7;

fn model<B: CausalBody>(case: &str) -> CausalLm<B> {
    CausalLm::of_folder(&Reference::of(case).folder).expect("the reference is whole")
}

/// The tokens of every text.
fn tokens(decoder: &mut Decoder, prompts: &[&[u32]], options: &Generation) -> Result<Vec<Vec<u32>>, Error> {
    let mut texts = vec![Vec::new(); prompts.len()];
    for step in decoder.generate(prompts, options)? {
        texts.iter_mut().zip(step?).for_each(|(text, token)| text.extend(token));
    }
    Ok(texts)
}

#[track_caller]
fn close(got: &[f64], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (x, y) in got.iter().zip(expected) {
        assert!((x - y).abs() <= 1e-5 * y.abs().max(1.0), "{what}: {x} is not {y}");
    }
}

fn as_transformers(case: &str, decoder: impl Fn(Room) -> Result<Decoder, Error>) -> Result<(), Error> {
    let expected = Checkpoint::read(path(case).join("generated.safetensors"))?.arrays;
    for (call, prompts) in PROMPTS {
        let room = Room { texts: prompts.len(), tokens: 12 };
        let mut decoder = decoder(room)?;
        for (kind, repetition_penalty) in [("plain", 1.0), ("penalised", 1.7)] {
            let options = Generation { max_new_tokens: Some(MORE), repetition_penalty, ..Generation::default() };
            let (found, wanted) = (tokens(&mut decoder, prompts, &options)?, &expected[&format!("{call}.{kind}.tokens")]);
            let found: Vec<f64> = found.concat().into_iter().map(f64::from).collect();
            assert_eq!(found, wanted.to_f64(), "{case} {call} {kind}");
            // [texts, steps, vocabulary], over the tokens that transformers picked.
            let (scores, vocabulary) = (expected[&format!("{call}.{kind}.scores")].to_f64(), 40);
            let mut got = decoder.begin(prompts)?;
            for step in 0..MORE {
                let rows = (0..prompts.len()).map(|text| &scores[(text * MORE + step) * vocabulary..][..vocabulary]);
                close(&got.to_f64(), &rows.collect::<Vec<_>>().concat(), &format!("{case} {call} {kind} step {step}"));
                if step + 1 < MORE {
                    let next: Vec<u32> = (0..prompts.len()).map(|text| found[text * MORE + step] as u32).collect();
                    got = decoder.next(&next)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn gpt2_as_in_transformers() -> Result<(), Error> {
    let model = model::<Gpt2>("gpt2");
    as_transformers("gpt2", |room| Decoder::new(&model, room, &cpu()))
}

/// An encoder reads the prompt, and its rows are kept as the decoder takes them.
#[test]
fn t5_as_in_transformers() -> Result<(), Error> {
    ["t5", "t5_gated"].into_iter().try_for_each(|case| {
        let model = T5::of_folder(&Reference::of(case).folder)?;
        as_transformers(case, |room| Decoder::of_t5(&model, room, &cpu()))
    })
}

/// Shared heads, turned positions, windows narrower than the text.
#[test]
fn the_llama_family_as_in_transformers() -> Result<(), Error> {
    ["llama", "llama3", "dynamic", "longrope", "mistral", "qwen2"].into_iter().try_for_each(|case| {
        let model = model::<Llama>(case);
        as_transformers(case, |room| Decoder::new(&model, room, &cpu()))
    })
}

/// Scores of the last token of every prefix, with the cache and without, whatever the prompt's length and the number of texts.
fn cache_is_the_whole_text<B: CausalBody>(case: &str) -> Result<(), Error> {
    let model = model::<B>(case);
    let ids = || spec::<i64>(("texts", "length"));
    let whole = compile(|(ids, mask)| model.forward(ids, mask), (ids(), ids()), &cpu())?;
    for texts in [1, 2, 3] {
        let mut decoder = Decoder::new(&model, Room { texts, tokens: 11 }, &cpu())?;
        for prompt in [1, 4, 7, 11] {
            let text = |row: usize, place: usize| ((row * 13 + place * 7 + prompt) % 40) as u32;
            let part = |length: usize| (0..texts).map(|row| (0..length).map(|place| text(row, place)).collect()).collect();
            let starts: Vec<Vec<u32>> = part(prompt);
            let mut got = decoder.begin(&starts)?;
            for length in prompt..=11 {
                let all: Vec<Vec<u32>> = part(length);
                let ids = Array::from_vec([texts, length], all.concat().into_iter().map(i64::from).collect::<Vec<i64>>())?;
                let ones = Array::from_vec([texts, length], vec![1i64; texts * length])?;
                let scores = whole.call((&ids, &ones))?.to_f64();
                let last = scores.chunks(40).skip(length - 1).step_by(length).collect::<Vec<_>>().concat();
                close(&got.to_f64(), &last, &format!("{case}: {texts} texts, prompts of {prompt}, at {length}"));
                if length < 11 {
                    got = decoder.next(&(0..texts).map(|row| text(row, length)).collect::<Vec<u32>>())?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_cache_is_the_whole_text() -> Result<(), Error> {
    cache_is_the_whole_text::<Gpt2>("gpt2")?;
    cache_is_the_whole_text::<Llama>("llama")?;
    cache_is_the_whole_text::<Llama>("mistral")
}

/// How many elements of the state each launch that writes it stores.
fn stored(program: &Program, length: i64) -> Vec<i64> {
    let mut counts = Vec::new();
    for launch in launches(&program.entries[0].steps) {
        let kernel = program.kernel(launch.kernel);
        for (view, arg) in launch.args.iter().zip(&kernel.args) {
            let place = &program.entries[0].buffer(view.buffer).place;
            if arg.mode != Mode::Read && matches!(place, Place::State(_)) {
                let KernelBody::Nest(nest) = &kernel.body else { panic!("{} writes the state", kernel.name) };
                let count = nest.axes.iter().product::<graver_ir::Dim>();
                counts.push(count.eval(&[("length".to_owned(), length)].into()).expect("sizes are known"));
            }
        }
    }
    counts
}

/// What is new is written, and nothing else: no step copies a cache, nor computes what is as large as one.
#[test]
fn a_step_writes_what_is_new() -> Result<(), Error> {
    let mut decoder = Decoder::new(&model::<Llama>("llama"), Room { texts: 2, tokens: 16 }, &cpu())?;
    // Two blocks; two heads of keys, of width 4.
    let (keys, values) = (2 * 2 * 4, 2 * 2 * 4);
    assert_eq!(stored(decoder.prefill().program(), 5), [keys * 5, values * 5, keys * 5, values * 5]);
    assert_eq!(stored(decoder.decode().program(), 9), [keys, values, keys, values]);
    // What the decoder of T5 takes of the prompts is written once.
    let t5 = Decoder::of_t5(&T5::of_folder(&Reference::of("t5").folder)?, Room { texts: 2, tokens: 16 }, &cpu())?;
    assert_eq!(stored(t5.decode().program(), 9), [2 * 3 * 6; 2]);
    // Nothing that a step works in grows with the room.
    let bytes = |decoder: &Decoder| decoder.decode().peak_bytes(&[("length".to_owned(), 9)].into());
    let narrow = Decoder::new(&model::<Llama>("llama"), Room { texts: 2, tokens: 9 }, &cpu())?;
    assert_eq!(bytes(&narrow)?, bytes(&decoder)?);
    decoder.begin(&[[1u32, 2, 3], [4, 5, 6]])?;
    let places = |decoder: &Decoder| {
        let caches = decoder.state().entries().filter(|entry| entry.path.starts_with("cache."));
        caches.map(|entry| (entry.path.clone(), entry.value.bytes().as_ptr())).collect::<Vec<_>>()
    };
    let before = places(&decoder);
    assert_eq!(before.len(), 4);
    for token in 0..13 {
        decoder.next(&[token, token + 1])?;
        assert_eq!(places(&decoder), before, "the caches stay where they are");
    }
    Ok(())
}

#[test]
fn caches_of_another_model_are_an_error() -> Result<(), Error> {
    let model = model::<Gpt2>("gpt2");
    let caches = &model.body().caches(1, 12)[..1];
    let ids = || spec::<i64>((1, symbol("length", 1..=12)));
    let wrong = step((ids(), ids()), |(ids, mask)| model.next(ids, mask, caches)).trace().expect_err("one is missing");
    assert!(wrong.to_string().contains("1 caches are given for 2 blocks"), "{wrong}");
    let t5 = T5::of_folder(&Reference::of("t5").folder)?;
    let wrong = step((ids(), ids()), |(ids, mask)| t5.decode_from(&[], 0.into(), ids, mask)).trace().expect_err("none is there");
    assert!(wrong.to_string().contains("0 caches are given for 1 blocks"), "{wrong}");
    Ok(())
}

/// A tokeniser of another model gives such tokens.
#[test]
fn tokens_that_the_model_does_not_know_are_an_error() -> Result<(), Error> {
    let mut decoder = Decoder::new(&model::<Gpt2>("gpt2"), Room { texts: 1, tokens: 4 }, &cpu())?;
    let error = decoder.begin(&[[39, 40]]).expect_err("there are 40").to_string();
    assert_eq!(error, "a text has the token 40, and the model has 40 of them; is tokenizer.json that of another model?");
    decoder.begin(&[[39, 39]]).map(drop)
}

/// What is asked for has no bound where a model has none.
#[test]
fn a_room_beyond_all_bounds_is_an_error() {
    let t5 = T5::of_folder(&Reference::of("t5").folder).expect("the reference is whole");
    for (texts, tokens) in [(1, usize::MAX), (usize::MAX, 2), (1 << 14, 1 << 14)] {
        let error = Decoder::of_t5(&t5, Room { texts, tokens }, &cpu()).expect_err("there is no such room").to_string();
        assert_eq!(
            error,
            format!("generate: room for {texts} texts of {tokens} tokens each: more than 16777216 tokens are asked for")
        );
    }
    let error = Decoder::new(&model::<Gpt2>("gpt2"), Room { texts: usize::MAX, tokens: 4 }, &cpu()).expect_err("nor this one");
    assert!(error.to_string().contains("more than 16777216 tokens"), "{error}");
}
