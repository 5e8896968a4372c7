//! Text to tokens, one at a time, with a place for every one.

use crate::error::Diag;
use crate::location::{Loc, Place};

/// A piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A letter or `_`, then letters, digits and `_`.
    Word(&'a str),
    /// Digits, perhaps with a fraction and an exponent; no sign.
    Number(&'a str),
    /// What is between two quotes, escapes as written.
    Quoted(&'a str),
    /// A quote without its other one.
    Unclosed,
    /// Anything else.
    Mark(char),
    /// Nothing more.
    End,
}

/// A place in a text.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    /// Bytes already read.
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token and the place of its first byte.
    pub(crate) fn next(&mut self) -> (Token<'a>, usize) {
        self.skip_blank();
        let start = self.at;
        let rest = &self.text[start..];
        let Some(first) = rest.chars().next() else { return (Token::End, start) };
        let (token, length) = match first {
            '"' => quoted(rest),
            '0'..='9' => number(rest),
            'a'..='z' | 'A'..='Z' | '_' => {
                let length = span(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
                (Token::Word(&rest[..length]), length)
            }
            _ => (Token::Mark(first), first.len_utf8()),
        };
        self.at += length;
        (token, start)
    }

    /// Skips white space and comments, which go from `//` to the end of the line.
    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = span(rest, |byte| byte.is_ascii_whitespace());
            let comment = if rest[blank..].starts_with("//") { span(&rest[blank..], |byte| byte != b'\n') } else { 0 };
            self.at += blank + comment;
            if comment == 0 {
                return;
            }
        }
    }

    /// The message at a place, as `<text>:line:column`, both from 1; columns count characters.
    pub(crate) fn diag(&self, at: usize, message: impl Into<String>) -> Diag {
        let before = &self.text[..at];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|char| *char != '\n').count() + 1;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let place = Place { file: super::UNNAMED.to_owned(), line: count(line), column: count(column), ..Place::default() };
        Diag::new(message).at(&Loc::new(place))
    }
}

/// How many leading bytes satisfy the condition, which only ASCII bytes or only non-ASCII characters as a whole do.
fn span(text: &str, holds: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|byte| !holds(byte)).unwrap_or(text.len())
}

fn quoted(rest: &str) -> (Token<'_>, usize) {
    let mut escaped = false;
    for (place, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return (Token::Quoted(&rest[1..place]), place + 1),
            b'\n' => break,
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    (Token::Unclosed, rest.len())
}

/// `12`, `1.5`, `1e-7`; of `0..=9` only the `0`.
fn number(rest: &str) -> (Token<'_>, usize) {
    let digits = |from: usize| span(&rest[from..], |byte| byte.is_ascii_digit());
    let mut length = digits(0);
    if rest[length..].starts_with('.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
    }
    if rest[length..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[length + 1..].starts_with(['+', '-']));
        if digits(length + 1 + sign) > 0 {
            length += 1 + sign + digits(length + 1 + sign);
        }
    }
    (Token::Number(&rest[..length]), length)
}

/// A quoted string's meaning, or the escape that has none.
pub(crate) fn unescape(raw: &str) -> Result<String, String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(place) = rest.find('\\') {
        text.push_str(&rest[..place]);
        let escape = &rest[place + 1..];
        let (char, length) = match escape.chars().next() {
            Some(char @ ('"' | '\\')) => (Some(char), 1),
            Some('n') => (Some('\n'), 1),
            Some('u') => {
                let code = escape.strip_prefix("u{").and_then(|code| code.split_once('}')).map(|(code, _)| code);
                let char = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
                (char, code.map_or(0, |code| code.len() + 3))
            }
            Some(_) | None => (None, 0),
        };
        text.push(char.ok_or_else(|| format!("`\\{}` is no escape", escape.chars().take(1).collect::<String>()))?);
        rest = &escape[length..];
    }
    text.push_str(rest);
    Ok(text)
}
