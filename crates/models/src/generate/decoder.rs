//! A language model with its cache: a prompt at once, then a token at a time.
//!
//! What a cache holds of a prompt is not read again: the next turn of a conversation begins with all that was said before.

use std::slice::SliceIndex;

use graver_ir::{Diag, Error};
use graver_trace::{Array, Device, DimArg, Step, StepFn, Tensor, TensorSpec, TrainState, concat, spec, step, symbol};

use super::options::{Generation, Limits};
use crate::causal::{CausalBody, CausalLm};
use crate::pretrained::knows;
use crate::t5::T5;

/// A function of tokens and masks.
type Entry = StepFn<Vec<TensorSpec>, Tensor>;

/// How much a [`Decoder`] has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// How many texts go on at once.
    pub texts: usize,
    /// The most tokens of a text, its prompt among them; no more than the model reads.
    pub tokens: usize,
}

/// A language model with the keys and values of the tokens that it has seen.
///
/// Texts of different lengths begin behind what is no token, so that all of them end at the same place.
#[derive(Debug)]
pub struct Decoder {
    prefill: Entry,
    decode: Entry,
    state: TrainState,
    room: Room,
    /// How many tokens the model knows.
    vocabulary: usize,
    seen: Seen,
    /// Longer texts are read as a whole.
    steady: usize,
    kind: Kind,
}

/// What the cache holds, a row for each text.
#[derive(Debug, Default)]
struct Seen {
    tokens: Vec<Vec<i64>>,
    /// Whether there is a token.
    masks: Vec<Vec<i64>>,
}

/// How prompts are read.
#[derive(Debug)]
enum Kind {
    /// A text begins with its prompt.
    Continued,
    /// An encoder reads the prompt, and a text begins with this token; the mask of the prompts.
    Encoded { start: u32, prompts: Option<Array> },
}

impl Decoder {
    /// A model with room for so much.
    ///
    /// # Errors
    /// If there is room for nothing or for more than all models hold, or the model does not compile.
    pub fn new<B: CausalBody>(model: &CausalLm<B>, room: Room, device: &Device) -> Result<Self, Error> {
        let room = Room { tokens: room.tokens.min(model.body().longest()), ..room };
        room.check()?;
        let caches = model.body().caches(room.texts, room.tokens);
        let entry = |inputs| {
            let next = step(inputs, |inputs: Vec<Tensor>| {
                // Of what was seen before a prompt, and of the prompt; or of both.
                let masks: Vec<Tensor> = inputs[1..].iter().rev().copied().collect();
                model.next(inputs[0], concat(&masks, 1), &caches)
            });
            next.model("", model).model("cache", &caches).eval().compile(device)
        };
        let (past, length) = (symbol("past", 0..=room.tokens), symbol("length", 1..=room.tokens));
        let prefill = entry(vec![room.spec(&length, "ids"), room.spec(&length, "mask"), room.spec(&past, "seen")])?;
        let decode = entry(vec![room.spec(&1usize, "ids"), room.spec(&length, "mask")])?;
        let vocabulary = model.body().words().weight.value().shape()[0];
        Ok(Self { steady: model.body().steady(), vocabulary, ..Self::of(prefill, decode, room, Kind::Continued) })
    }

    /// An encoder and a decoder with room for so much: for prompts, and for what follows each.
    ///
    /// # Errors
    /// As [`Decoder::new`].
    pub fn of_t5(model: &T5, room: Room, device: &Device) -> Result<Self, Error> {
        room.check()?;
        let caches = model.caches(room.texts, room.tokens);
        let (source, length) = (symbol("source", 1..=room.tokens), symbol("length", 1..=room.tokens));
        let prefill = step(vec![room.spec(&1usize, "ids"), room.spec(&source, "source"), room.spec(&source, "mask")], |inputs| {
            let (ids, source, mask) = (inputs[0], inputs[1], inputs[2]);
            model.decode_into(&caches, ids, model.encode(source, mask), mask).select(1, -1)
        });
        let decode = step(vec![room.spec(&1usize, "ids"), room.spec(&length, "text"), room.spec(&source, "mask")], |inputs| {
            let (ids, text, mask) = (inputs[0], inputs[1], inputs[2]);
            model.decode_from(&caches, text.dim(1) - 1, ids, mask).select(1, -1)
        });
        let prefill = prefill.model("", model).model("cache", &caches).eval().compile(device)?;
        let decode = decode.model("", model).model("cache", &caches).eval().compile(device)?;
        let kind = Kind::Encoded { start: model.config().decoder_start_token_id, prompts: None };
        Ok(Self { vocabulary: model.config().vocab_size, ..Self::of(prefill, decode, room, kind) })
    }

    fn of(prefill: Step<Vec<TensorSpec>, Tensor>, decode: Step<Vec<TensorSpec>, Tensor>, room: Room, kind: Kind) -> Self {
        let ((prefill, state), (decode, _)) = (prefill.split(), decode.split());
        Self { prefill, decode, state, room, vocabulary: 0, seen: Seen::default(), steady: usize::MAX, kind }
    }

    /// With another token that texts behind an encoder begin with.
    pub(super) fn starting(mut self, token: u32) -> Result<Self, Error> {
        knows(self.vocabulary, [i64::from(token)])?;
        if let Kind::Encoded { start, .. } = &mut self.kind {
            *start = token;
        }
        Ok(self)
    }

    /// How much there is room for.
    #[must_use]
    pub const fn room(&self) -> Room {
        self.room
    }

    /// What reads a prompt.
    #[must_use]
    pub const fn prefill(&self) -> &Entry {
        &self.prefill
    }

    /// What reads one token more.
    #[must_use]
    pub const fn decode(&self) -> &Entry {
        &self.decode
    }

    /// Parameters and caches.
    #[must_use]
    pub const fn state(&self) -> &TrainState {
        &self.state
    }

    /// With what a text begins that follows a prompt.
    #[must_use]
    pub fn beginning(&self, prompt: &[u32]) -> Vec<u32> {
        match self.kind {
            Kind::Continued => prompt.to_vec(),
            Kind::Encoded { start, .. } => vec![start],
        }
    }

    /// Begins with prompts: scores of the token to come after each, `[texts, vocabulary]`. As many tokens as the cache holds of all of them,
    /// from where they begin, are not read again.
    ///
    /// # Errors
    /// If there are not as many as there is room for, if one is empty, too long or has tokens that the model does not know, or if the call fails.
    pub fn begin<P: AsRef<[u32]>>(&mut self, prompts: &[P]) -> Result<Array, Error> {
        let rows: Vec<&[u32]> = prompts.iter().map(AsRef::as_ref).collect();
        check(&rows, self.room)?;
        knows(self.vocabulary, rows.iter().copied().flatten().copied().map(i64::from))?;
        let new = Seen::of_prompts(&rows);
        let (inputs, seen) = match self.kind {
            Kind::Continued => {
                let is_steady = self.seen.length().max(new.length()) <= self.steady;
                let past = if is_steady { self.seen.common(&new) } else { 0 };
                ([table(&new.tokens, past..)?, table(&new.masks, past..)?, table(&new.masks, ..past)?], new)
            }
            Kind::Encoded { start, .. } => {
                let begun = Seen::of_prompts(&vec![&[start][..]; rows.len()]);
                ([table(&begun.tokens, ..)?, table(&new.tokens, ..)?, table(&new.masks, ..)?], begun)
            }
        };
        let scores = self.run(Which::Prefill, &inputs.each_ref())?;
        self.seen = seen;
        if let (Kind::Encoded { prompts, .. }, [_, _, mask]) = (&mut self.kind, inputs) {
            *prompts = Some(mask);
        }
        Ok(scores)
    }

    /// Goes on with a token for each text: scores of the token to come after it, `[texts, vocabulary]`.
    ///
    /// # Errors
    /// If nothing has begun, if there is no room for another token or not one for each text, or if the call fails.
    pub fn next(&mut self, tokens: &[u32]) -> Result<Array, Error> {
        let wrong = |message: String| Err(Diag::new(message).op("generate").into());
        if tokens.len() != self.seen.masks.len() {
            return wrong(format!("{} texts have begun, and {} tokens are given", self.seen.masks.len(), tokens.len()));
        }
        match self.seen.length() {
            0 => return wrong("no text has begun".to_owned()),
            length if length == self.room.tokens => return wrong(format!("there is room for {length} tokens, and no more")),
            _ => {}
        }
        self.seen.push(tokens);
        let scores = self.scores_of_last();
        if scores.is_err() {
            self.seen.pop();
        }
        scores
    }

    fn scores_of_last(&mut self) -> Result<Array, Error> {
        let last = self.seen.length() - 1;
        let (ids, text) = (table(&self.seen.tokens, last..)?, table(&self.seen.masks, ..)?);
        let prompts = match &self.kind {
            Kind::Continued => None,
            Kind::Encoded { prompts, .. } => prompts.clone(),
        };
        let inputs: Vec<&Array> = [&ids, &text].into_iter().chain(&prompts).collect();
        self.run(Which::Decode, &inputs)
    }

    /// Goes on from prompts until every text has ended.
    ///
    /// # Errors
    /// As [`Decoder::begin`]; if the options make no sense, or there is no room for as many tokens as they ask for.
    pub fn generate<P: AsRef<[u32]>>(&mut self, prompts: &[P], options: &Generation) -> Result<Continuation<'_>, Error> {
        options.check()?;
        let begun = prompts.iter().map(|prompt| Text { tokens: self.beginning(prompt.as_ref()), has_ended: false });
        let texts: Vec<Text> = begun.collect();
        let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
        let left = options.most(Limits { prompt: longest, room: self.room.tokens })?;
        let scores = self.begin(prompts)?;
        Ok(Continuation { decoder: self, options: options.clone(), texts, scores, count: 0, left })
    }

    fn run(&mut self, which: Which, inputs: &[&Array]) -> Result<Array, Error> {
        let entry = match which {
            Which::Prefill => &self.prefill,
            Which::Decode => &self.decode,
        };
        let (state, scores) = match entry.call(std::mem::take(&mut self.state), inputs.to_vec()) {
            Ok((state, scores)) => (state, Ok(scores)),
            Err((state, error)) => (state, Err(error)),
        };
        self.state = state;
        scores
    }
}

impl Seen {
    /// Prompts, the shorter ones behind what is no token.
    fn of_prompts(prompts: &[&[u32]]) -> Self {
        let length = prompts.iter().map(|row| row.len()).max().unwrap_or(0);
        let row = |prompt: &&[u32], number: fn(u32) -> i64| {
            let before = std::iter::repeat_n(0, length - prompt.len());
            before.chain(prompt.iter().map(|token| number(*token))).collect()
        };
        Self {
            tokens: prompts.iter().map(|prompt| row(prompt, i64::from)).collect(),
            masks: prompts.iter().map(|prompt| row(prompt, |_| 1)).collect(),
        }
    }

    /// How many places have the same tokens in all texts. Not the last one of the others, whose scores are asked for.
    fn common(&self, other: &Self) -> usize {
        let pairs = |x: &Vec<Vec<i64>>, y: &Vec<Vec<i64>>, place: usize| x.iter().zip(y).all(|(x, y)| x[place] == y[place]);
        let is_same = |place: &usize| pairs(&self.tokens, &other.tokens, *place) && pairs(&self.masks, &other.masks, *place);
        (0..self.length().min(other.length() - 1)).take_while(is_same).count()
    }

    fn length(&self) -> usize {
        self.masks.first().map_or(0, Vec::len)
    }

    fn push(&mut self, tokens: &[u32]) {
        self.tokens.iter_mut().zip(tokens).for_each(|(row, token)| row.push(i64::from(*token)));
        self.masks.iter_mut().for_each(|row| row.push(1));
    }

    fn pop(&mut self) {
        self.tokens.iter_mut().chain(&mut self.masks).for_each(|row| row.truncate(row.len() - 1));
    }
}

/// One of a decoder's two functions.
#[derive(Clone, Copy)]
enum Which {
    Prefill,
    Decode,
}

impl Room {
    /// No more tokens of all texts are asked for: caches hold many numbers for each.
    const MOST: usize = 1 << 24;

    fn check(self) -> Result<(), Error> {
        let Self { texts, tokens } = self;
        let wrong = |message: String| Err(Diag::new(message).op("generate").into());
        if texts == 0 || tokens == 0 {
            return wrong("there must be room for a text and a token".to_owned());
        }
        match texts.saturating_mul(tokens) {
            all if all > Self::MOST => {
                wrong(format!("room for {texts} texts of {tokens} tokens each: more than {} tokens are asked for", Self::MOST))
            }
            _ => Ok(()),
        }
    }

    /// So many numbers for each text.
    fn spec(self, length: &dyn DimArg, name: &str) -> TensorSpec {
        spec::<i64>((self.texts, length)).named(name)
    }
}

/// A range of places of rows of the same length.
fn table(rows: &[Vec<i64>], places: impl SliceIndex<[i64], Output = [i64]> + Clone) -> Result<Array, Diag> {
    let parts: Vec<&[i64]> = rows.iter().map(|row| &row[places.clone()]).collect();
    Array::from_vec([rows.len(), parts.first().map_or(0, |part| part.len())], parts.concat())
}

fn check(prompts: &[&[u32]], room: Room) -> Result<(), Error> {
    let wrong = |message: String| Err(Diag::new(message).op("generate").into());
    if prompts.len() != room.texts {
        return wrong(format!("there is room for {} texts at once, and {} prompts are given", room.texts, prompts.len()));
    }
    if prompts.iter().any(|prompt| prompt.is_empty()) {
        return wrong("a prompt has no tokens: there is nothing to go on from".to_owned());
    }
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    if longest > room.tokens {
        return wrong(format!("a prompt has {longest} tokens, and there is room for {}", room.tokens));
    }
    Ok(())
}

/// A text that goes on.
#[derive(Debug)]
struct Text {
    /// Its prompt's, and those that were picked.
    tokens: Vec<u32>,
    has_ended: bool,
}

/// Texts as they go on: for each step one token a text, or `None` for a text that has ended. A stop token is given, too.
#[derive(Debug)]
#[must_use]
pub struct Continuation<'d> {
    decoder: &'d mut Decoder,
    options: Generation,
    texts: Vec<Text>,
    /// Of the token to come; those of the step before are read first.
    scores: Array,
    count: usize,
    left: usize,
}

impl Continuation<'_> {
    fn step(&mut self) -> Result<Vec<Option<u32>>, Error> {
        if self.count > 0 {
            // What follows a text that has ended is never looked at.
            let last: Vec<u32> = self.texts.iter().map(|text| *text.tokens.last().expect("prompts have tokens")).collect();
            self.scores = self.decoder.next(&last)?;
        }
        let scores = self.scores.fetch()?.to_f64();
        let vocabulary = scores.len() / self.texts.len();
        let mut picked = Vec::new();
        for (place, (text, scores)) in self.texts.iter_mut().zip(scores.chunks(vocabulary)).enumerate() {
            if text.has_ended {
                picked.push(None);
                continue;
            }
            let token = self.options.pick(scores, &text.tokens, (place, self.count))?;
            text.has_ended = self.options.eos_token_id.contains(&token);
            text.tokens.push(token);
            picked.push(Some(token));
        }
        self.count += 1;
        self.left -= 1;
        Ok(picked)
    }
}

impl Iterator for Continuation<'_> {
    type Item = Result<Vec<Option<u32>>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 || self.texts.iter().all(|text| text.has_ended) {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.left = 0;
        }
        Some(step)
    }
}
