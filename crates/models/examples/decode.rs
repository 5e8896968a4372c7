//! How fast text is generated: GPT-2's smallest model with random weights, a prompt and then a token at a time.
//!
//! `cargo run --release -p graver-models --example decode [threads]`

use std::time::Instant;

use graver::cpu_with_threads;
use graver::ir::Sizes;
use graver::prelude::*;
use graver_models::{CausalLm, Configuration, Decoder, Gpt2, Gpt2Config, Pretrained, Room};

const PROMPT: usize = 64;
const TOKENS: usize = 64;

fn main() -> Result<(), Error> {
    let threads = std::env::args().nth(1).and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let device = cpu_with_threads(threads);
    // What a configuration leaves out is as in GPT-2's smallest.
    let model = CausalLm::<Gpt2>::new(&Gpt2Config::of_json(r#"{"model_type": "gpt2"}"#)?, &mut Init::seed(0))?;
    let start = Instant::now();
    let mut decoder = Decoder::new(&model, Room { texts: 1, tokens: PROMPT + 2 * TOKENS }, &device)?;
    println!("both functions compiled in {:.2} s", start.elapsed().as_secs_f64());
    for (what, working) in
        [("prompt", decoder.prefill().working_bytes(&sizes())?), ("token", decoder.decode().working_bytes(&sizes())?)]
    {
        println!("a {what}: {:.1} MiB to work in", working.total() as f64 / f64::from(1 << 20));
    }

    for (run, first) in [("first", 0), ("second", 1)] {
        // Nothing of it is in the cache.
        let prompt: Vec<u32> = (first..first + PROMPT as u32).map(|place| place * 97 % 50_000).collect();
        let start = Instant::now();
        let mut scores = decoder.begin(&[&prompt])?;
        let first = start.elapsed().as_secs_f64();
        let mut took = Vec::new();
        for _ in 0..TOKENS {
            let start = Instant::now();
            scores = decoder.next(&[likeliest(&scores)])?;
            took.push(start.elapsed().as_secs_f64());
        }
        let rate = TOKENS as f64 / took.iter().sum::<f64>();
        took.sort_by(f64::total_cmp);
        let median = took[TOKENS / 2] * 1e3;
        println!("{run} run on {threads} threads: prompt of {PROMPT} {first:.3} s; {rate:.1} tokens/s, median {median:.1} ms");
        let start = Instant::now();
        decoder.begin(&[&prompt])?;
        println!("the prompt again, which the cache holds: {:.3} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn sizes() -> Sizes {
    [("length".to_owned(), PROMPT as i64), ("past".to_owned(), 0)].into()
}

fn likeliest(scores: &Array) -> u32 {
    let scores = scores.as_slice::<f32>().expect("scores are f32");
    let best = (0..scores.len()).fold(0, |best, place| if scores[place] > scores[best] { place } else { best });
    u32::try_from(best).expect("a vocabulary is small")
}
