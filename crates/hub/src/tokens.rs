//! Texts as rows of numbers, by the `tokenizers` crate.

use std::panic::{AssertUnwindSafe, catch_unwind};

use graver_ir::{Array, Diag, Error};
use tokenizers::{Encoding, PostProcessor, TruncationParams};

/// Texts cut into tokens, and numbered.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    padding: u32,
}

/// A batch of texts, as long as the longest: `i64[texts, length]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// The tokens' numbers; the padding's at the end of shorter texts.
    pub ids: Array,
    /// 1 for tokens and 0 for padding.
    pub mask: Array,
    /// To which of two texts a token belongs; 0 for padding.
    pub types: Array,
}

impl Tokenizer {
    /// A tokeniser that was made in the program: trained on the spot. How it pads and cuts texts is forgotten.
    #[must_use]
    pub fn new(mut inner: tokenizers::Tokenizer) -> Self {
        let padding = inner.get_padding().map_or(0, |padding| padding.pad_id);
        // Rows are made equally long here, where the model's own number of the padding is known.
        inner.with_padding(None);
        // What a file cuts is what it was trained on, and no limit of the model: `max_length` sets that.
        inner.with_truncation(None).expect("no truncation is not refused");
        Self { inner, padding }
    }

    /// The tokeniser of a `tokenizer.json`.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn from_bytes(json: &[u8]) -> Result<Self, Error> {
        quietly(|| tokenizers::Tokenizer::from_bytes(json)).map(Self::new)
    }

    /// With the number that fills shorter rows.
    #[must_use]
    pub const fn padding(mut self, id: u32) -> Self {
        self.padding = id;
        self
    }

    /// Texts of more tokens than this, the special ones among them, are cut.
    ///
    /// # Errors
    /// If that is not even enough for the special ones.
    pub fn max_length(mut self, max_length: usize) -> Result<Self, Error> {
        // The crate subtracts them unasked.
        let special = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if max_length < special {
            let message = format!("texts of at most {max_length} tokens leave no place for the {special} special ones");
            return Err(Diag::new(message).op("tokenizer").into());
        }
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        self.inner.with_truncation(Some(truncation)).map_err(|error| Error::new(error.to_string()))?;
        Ok(self)
    }

    /// The tokeniser of the `tokenizers` crate.
    #[must_use]
    pub const fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// The number of a token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Texts as a batch.
    ///
    /// # Errors
    /// If there are none, or the tokeniser fails.
    pub fn encode<T: AsRef<str>>(&self, texts: &[T]) -> Result<Tokens, Error> {
        let one = |text: &T| quietly(|| self.inner.encode(text.as_ref(), true));
        self.batch(&texts.iter().map(one).collect::<Result<Vec<_>, _>>()?)
    }

    /// Pairs of texts as a batch: a question and where its answer is.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pairs<T: AsRef<str>>(&self, pairs: &[(T, T)]) -> Result<Tokens, Error> {
        let one = |(first, second): &(T, T)| quietly(|| self.inner.encode((first.as_ref(), second.as_ref()), true));
        self.batch(&pairs.iter().map(one).collect::<Result<Vec<_>, _>>()?)
    }

    /// The numbers of a text's tokens.
    ///
    /// # Errors
    /// If the tokeniser fails.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        quietly(|| self.inner.encode(text, true)).map(|encoding| encoding.get_ids().to_vec())
    }

    /// The numbers of the tokens of a text that has its special ones written out: none is added.
    ///
    /// # Errors
    /// If the tokeniser fails.
    pub fn bare_ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        quietly(|| self.inner.encode(text, false)).map(|encoding| encoding.get_ids().to_vec())
    }

    /// A text that begins with these tokens and grows.
    #[must_use]
    pub fn growing(&self, ids: &[u32]) -> Growing<'_> {
        Growing { tokenizer: self, ids: ids.to_vec(), start: 0, shown: ids.len() }
    }

    /// The text of tokens, without the special ones.
    ///
    /// # Errors
    /// If the tokeniser fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        quietly(|| self.inner.decode(ids, true))
    }

    fn batch(&self, rows: &[Encoding]) -> Result<Tokens, Error> {
        let Some(length) = rows.iter().map(|row| row.get_ids().len()).max() else {
            return Err(Error::new("there is no text to encode"));
        };
        let table = |part: fn(&Encoding) -> &[u32], rest: u32| {
            let row = |row| padded(part(row), length, rest);
            Array::from_vec([rows.len(), length], rows.iter().flat_map(row).collect::<Vec<i64>>())
        };
        Ok(Tokens {
            ids: table(Encoding::get_ids, self.padding)?,
            mask: table(Encoding::get_attention_mask, 0)?,
            types: table(Encoding::get_type_ids, 0)?,
        })
    }
}

/// A text that grows by tokens: what each adds, in whole characters.
///
/// A token's text depends on what is before it, and a character may take several tokens. So the tokens that were shown last are decoded
/// again with those that were not, and nothing is shown while the end is no whole character.
#[derive(Clone, Debug)]
pub struct Growing<'t> {
    tokenizer: &'t Tokenizer,
    ids: Vec<u32>,
    /// The first token that is decoded again.
    start: usize,
    /// How many tokens were shown.
    shown: usize,
}

/// What stands for bytes that are no character.
const NO_CHARACTER: char = '\u{FFFD}';

impl Growing<'_> {
    /// Adds a token; gives the characters that are whole with it, perhaps none.
    ///
    /// # Errors
    /// If the tokeniser fails.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.ids.push(id);
        let text = self.unseen()?;
        Ok(if text.ends_with(NO_CHARACTER) { String::new() } else { self.show(text) })
    }

    /// What is left at the end, whole or not.
    ///
    /// # Errors
    /// If the tokeniser fails.
    pub fn rest(&mut self) -> Result<String, Error> {
        let text = self.unseen()?;
        Ok(self.show(text))
    }

    /// The text of the tokens that were not shown, behind those that were shown last.
    fn unseen(&self) -> Result<String, Error> {
        let text = |ids: &[u32]| self.tokenizer.decode(ids);
        let (before, all) = (text(&self.ids[self.start..self.shown])?, text(&self.ids[self.start..])?);
        // Not all of what was before, where it ends within a character that is whole now.
        let same = before.chars().zip(all.chars()).take_while(|(x, y)| x == y).map(|(x, _)| x.len_utf8()).sum::<usize>();
        Ok(all[same..].to_owned())
    }

    fn show(&mut self, text: String) -> String {
        if !text.is_empty() {
            (self.start, self.shown) = (self.shown, self.ids.len());
        }
        text
    }
}

fn padded(row: &[u32], length: usize, rest: u32) -> impl Iterator<Item = i64> {
    row.iter().copied().chain(std::iter::repeat(rest)).take(length).map(i64::from)
}

/// What the tokeniser gives, or its failure: some of its files make it panic.
fn quietly<T>(f: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|error| Error::new(error.to_string())),
        Err(_) => Err(Error::new("the tokeniser failed on its own file or on this text")),
    }
}
