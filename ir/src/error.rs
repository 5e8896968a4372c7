//! Diagnostics: what a user is told when a program is wrong.

use std::fmt;

use crate::location::{Loc, Place};
use crate::text::UNNAMED;

/// One thing that is wrong with a user's program: where, what, both sides, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diag {
    /// The user's line.
    pub loc: Loc,
    /// The operation concerned, `dot`; empty if none.
    pub op: String,
    /// What is wrong, with both sides.
    pub message: String,
    /// What to do about it; empty if unknown.
    pub help: String,
}

impl Diag {
    /// A diagnostic without a place yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self { loc: Loc::UNKNOWN, op: String::new(), message: message.into(), help: String::new() }
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// With the operation's name, unless it has one.
    #[must_use]
    pub fn op(mut self, op: impl Into<String>) -> Self {
        if self.op.is_empty() {
            self.op = op.into();
        }
        self
    }

    /// With a place, unless it has one.
    #[must_use]
    pub fn at(mut self, loc: &Loc) -> Self {
        if self.loc.place().is_none() {
            self.loc = loc.clone();
        }
        self
    }
}

impl fmt::Display for Diag {
    /// `src/model.rs:42:7: dot: contracting sizes differ, ...; transpose the right side?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.loc.place().is_some() {
            write!(f, "{}: ", self.loc)?;
        }
        if !self.op.is_empty() {
            write!(f, "{}: ", self.op)?;
        }
        f.write_str(&self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diag {}

/// Everything that is wrong with a user's program, in the order of discovery. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    diags: Vec<Diag>,
}

impl Error {
    /// All of these; `None` if there are none.
    #[must_use]
    pub fn from_diags(diags: Vec<Diag>) -> Option<Self> {
        if diags.is_empty() { None } else { Some(Self { diags }) }
    }

    /// An error that is one message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::from(Diag::new(message))
    }

    /// What is wrong with a text that this file holds: `model.gir:4:11: ..`, and `model.gir: ..` where no place in the text is known.
    #[must_use]
    pub fn in_file(self, file: &str) -> Self {
        let named = |diag: Diag| match diag.loc.place() {
            Some(place) if place.file == UNNAMED => {
                let loc = Loc::new(Place { file: file.to_owned(), ..place.clone() });
                Diag { loc, ..diag }
            }
            Some(_) | None => Diag::new(format!("{file}: {diag}")),
        };
        Self { diags: self.diags.into_iter().map(named).collect() }
    }

    /// The diagnostics, at least one.
    #[must_use]
    pub fn diags(&self) -> &[Diag] {
        &self.diags
    }
}

impl From<Diag> for Error {
    fn from(diag: Diag) -> Self {
        Self { diags: vec![diag] }
    }
}

impl fmt::Display for Error {
    /// One diagnostic a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, diag) in self.diags.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diag}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    /// As [`fmt::Display`]: it is what `fn main() -> Result<(), Error>` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
