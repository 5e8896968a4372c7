//! A language model with its cache: a prompt at once, then a token at a time.

use graver_ir::{Diag, Error};
use graver_trace::{Array, Device, DimArg, StepFn, Tensor, TensorSpec, TrainState, spec, step, symbol};

use super::options::{Generation, Limits};
use crate::causal::{CausalBody, CausalLm};

/// A function of ids and their mask.
type Entry = StepFn<(TensorSpec, TensorSpec), Tensor>;

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
    /// For each text and place, whether there is a token.
    masks: Vec<Vec<i64>>,
}

impl Decoder {
    /// A model with room for so much.
    ///
    /// # Errors
    /// If there is room for nothing, or the model does not compile.
    pub fn new<B: CausalBody>(model: &CausalLm<B>, room: Room, device: &Device) -> Result<Self, Error> {
        let room = Room { tokens: room.tokens.min(model.body().longest()), ..room };
        if room.texts == 0 || room.tokens == 0 {
            return Err(Diag::new("there must be room for a text and a token").op("generate").into());
        }
        let caches = model.body().caches(room.texts, room.tokens);
        let length = symbol("length", 1..=room.tokens);
        let entry = |new: &dyn DimArg| {
            let tokens = |length: &dyn DimArg, name| spec::<i64>((room.texts, length)).named(name);
            let next = step((tokens(new, "ids"), tokens(&length, "mask")), |(ids, mask)| model.next(ids, mask, &caches));
            next.model("", model).model("cache", &caches).eval().compile(device)
        };
        let ((prefill, state), (decode, _)) = (entry(&length)?.split(), entry(&1usize)?.split());
        Ok(Self { prefill, decode, state, room, masks: Vec::new() })
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

    /// Begins with prompts, forgetting what was before. Scores of the token to come after each, `[texts, vocabulary]`.
    ///
    /// # Errors
    /// If there are not as many as there is room for, if one is empty or too long, or if the call fails.
    pub fn begin<P: AsRef<[u32]>>(&mut self, prompts: &[P]) -> Result<Array, Error> {
        let rows: Vec<&[u32]> = prompts.iter().map(AsRef::as_ref).collect();
        check(&rows, self.room)?;
        let length = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let before = |row: &[u32]| std::iter::repeat_n(0, length - row.len());
        let ids = rows.iter().flat_map(|row| before(row).chain(row.iter().map(|id| i64::from(*id))));
        let ids = Array::from_vec([rows.len(), length], ids.collect::<Vec<i64>>())?;
        self.masks = rows.iter().map(|row| before(row).chain(row.iter().map(|_| 1)).collect()).collect();
        self.run(&ids)
    }

    /// Goes on with a token for each text: scores of the token to come after it, `[texts, vocabulary]`.
    ///
    /// # Errors
    /// If nothing has begun, if there is no room for another token or not one for each text, or if the call fails.
    pub fn next(&mut self, tokens: &[u32]) -> Result<Array, Error> {
        let wrong = |message: String| Err(Diag::new(message).op("generate").into());
        if tokens.len() != self.masks.len() {
            return wrong(format!("{} texts have begun, and {} tokens are given", self.masks.len(), tokens.len()));
        }
        match self.masks.first() {
            None => return wrong("no text has begun".to_owned()),
            Some(mask) if mask.len() == self.room.tokens => {
                return wrong(format!("there is room for {} tokens, and no more", self.room.tokens));
            }
            Some(_) => {}
        }
        let ids = Array::from_vec([tokens.len(), 1], tokens.iter().map(|id| i64::from(*id)).collect::<Vec<i64>>())?;
        self.masks.iter_mut().for_each(|mask| mask.push(1));
        let scores = self.run(&ids);
        if scores.is_err() {
            self.masks.iter_mut().for_each(|mask| mask.truncate(mask.len() - 1));
        }
        scores
    }

    /// Goes on from prompts until every text has ended.
    ///
    /// # Errors
    /// As [`Decoder::begin`]; if the options make no sense, or there is no room for as many tokens as they ask for.
    pub fn generate<P: AsRef<[u32]>>(&mut self, prompts: &[P], options: &Generation) -> Result<Continuation<'_>, Error> {
        options.check()?;
        let longest = prompts.iter().map(|prompt| prompt.as_ref().len()).max().unwrap_or(0);
        let left = options.most(Limits { prompt: longest, room: self.room.tokens })?;
        let scores = self.begin(prompts)?;
        let texts = prompts.iter().map(|prompt| Text { tokens: prompt.as_ref().to_vec(), has_ended: false }).collect();
        Ok(Continuation { decoder: self, options: options.clone(), texts, scores, count: 0, left })
    }

    /// Reads tokens as the masks say: the prompt, or one more.
    fn run(&mut self, ids: &Array) -> Result<Array, Error> {
        let length = self.masks.first().map_or(0, Vec::len);
        let mask = Array::from_vec([self.masks.len(), length], self.masks.concat())?;
        let entry = if ids.shape() == mask.shape() { &self.prefill } else { &self.decode };
        match entry.call(std::mem::take(&mut self.state), (ids, &mask)) {
            Ok((state, scores)) => {
                self.state = state;
                Ok(scores)
            }
            Err((state, error)) => {
                self.state = state;
                Err(error)
            }
        }
    }
}

fn check(prompts: &[&[u32]], room: Room) -> Result<(), Error> {
    let wrong = |message: String| Err(Diag::new(message).op("generate").into());
    if prompts.len() != room.texts {
        return wrong(format!("there is room for {} texts at once, and {} prompts are given", room.texts, prompts.len()));
    }
    match prompts.iter().max_by_key(|prompt| prompt.len()) {
        _ if prompts.iter().any(|prompt| prompt.is_empty()) => {
            wrong("a prompt has no tokens: there is nothing to go on from".to_owned())
        }
        Some(longest) if longest.len() > room.tokens => {
            wrong(format!("a prompt has {} tokens, and there is room for {}", longest.len(), room.tokens))
        }
        _ => Ok(()),
    }
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
        let scores = self.scores.to_f64();
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
