//! A text that a model writes: a prompt is read at once, then every token is that of the greatest score.

use std::path::Path;
use std::time::{Duration, Instant};

use graver::inspect;
use graver::nn::Storage;
use graver::prelude::*;
use graver::runtime::{Binding, Profile};
use graver::trace::{StepFn, TensorSpec, TrainState, symbol};

use super::runs::{Facts, Runs};
use crate::models::Gpt2;
use crate::numbers::Numbers;

/// Tokens that are written.
pub(super) const TOKENS: usize = 64;
/// Tokens of the prompt.
const PROMPT: usize = 16;

/// Reads a prompt, and then one token after the other, over one state.
struct Decoded {
    read: StepFn<TensorSpec, (Tensor, Tensor)>,
    more: StepFn<TensorSpec, Tensor>,
    state: TrainState,
    compile: Duration,
    prompt: Vec<i64>,
    /// Of the last call: the scores after the prompt.
    scores: Option<Array>,
}

pub(super) fn gpt2(numbers: &mut Numbers, device: &Device, storage: Option<Storage>) -> Result<Box<dyn Runs>, Error> {
    let mut model = Gpt2::new(&mut numbers.init());
    numbers.fill(&mut model)?;
    let model = match storage {
        Some(storage) => model.stored(storage),
        None => model,
    };
    let prompt = numbers.integers(0, &[1, PROMPT], 50257)?;
    let prompt = prompt.as_slice::<i64>().map(<[i64]>::to_vec).unwrap_or_default();
    let start = Instant::now();
    let caches = model.caches(PROMPT + TOKENS);
    // The text so far, of which the caches hold all but the last token: its size says how many.
    let text = || spec::<i64>((1, symbol("length", 1..=PROMPT + TOKENS)));
    let read = step(text(), |text| {
        let scores = model.next(text, &caches, 0.into());
        (scores.argmax(-1), scores)
    });
    let more = step(text(), |text: Tensor| model.next(text.narrow(1, text.dim(1) - 1, 1), &caches, text.dim(1) - 1).argmax(-1));
    let (read, state) = read.model("", &model).model("cache", &caches).eval().compile(device)?.split();
    let (more, _) = more.model("", &model).model("cache", &caches).eval().compile(device)?.split();
    Ok(Box::new(Decoded { read, more, state, compile: start.elapsed(), prompt, scores: None }))
}

impl Decoded {
    fn text(tokens: &[i64]) -> Result<Array, Error> {
        Ok(Array::from_vec([1, tokens.len()], tokens.to_vec())?)
    }

    fn token(result: &Array) -> Result<i64, Error> {
        result.as_slice::<i64>().and_then(|tokens| tokens.first().copied()).ok_or_else(|| Error::new("a step gives a token"))
    }

    /// What a function makes of a text; the state stays here.
    fn run<Y>(
        &mut self,
        tokens: &[i64],
        f: impl FnOnce(&Self, TrainState, &Array) -> Result<(TrainState, Y), (TrainState, Error)>,
    ) -> Result<Y, Error> {
        let (text, state) = (Self::text(tokens)?, std::mem::take(&mut self.state));
        let (state, result) = match f(self, state, &text) {
            Ok((state, result)) => (state, Ok(result)),
            Err((state, error)) => (state, Err(error)),
        };
        self.state = state;
        result
    }
}

impl Runs for Decoded {
    fn call(&mut self) -> Result<(), Error> {
        let mut text = self.prompt.clone();
        let (token, scores) = self.run(&text, |of, state, text| of.read.call(state, text))?;
        self.scores = Some(scores);
        text.push(Self::token(&token)?);
        while text.len() < PROMPT + TOKENS {
            let token = self.run(&text, |of, state, text| of.more.call(state, text))?;
            text.push(Self::token(&token)?);
        }
        Ok(())
    }

    fn profile(&mut self) -> Result<Profile, Error> {
        let text = vec![0; PROMPT + TOKENS];
        self.run(&text, |of, state, text| of.more.profile(state, text)).map(|(_, profile)| profile)
    }

    fn seen(&self) -> Result<f64, Error> {
        let scores = self.scores.as_ref().map(Array::to_f64).unwrap_or_default();
        Ok(scores.iter().map(|x| x.abs()).sum::<f64>() / scores.len() as f64)
    }

    fn facts(&self) -> Result<Facts, Error> {
        let text = Self::text(&vec![0; PROMPT + TOKENS])?;
        let sizes = Binding::new(self.more.program(), 0, &[&text])?.sizes;
        let kernels = self.more.kernels().len() + self.read.kernels().len();
        Ok(Facts { compile: self.compile, kernels, planned: self.more.peak_bytes(&sizes)?, sizes })
    }

    fn program(&self) -> &graver::ir::kernel::Program {
        self.more.program()
    }

    fn dump(&self, folder: &Path) -> Result<(), Error> {
        inspect::write_dumps(&self.more, folder)
    }
}
