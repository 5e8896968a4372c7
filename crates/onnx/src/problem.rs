//! What can be wrong with a model, and whose fault it is.

use graver_ir::{Diag, Dim, Error, Symbol, Value};

/// Why a node could not be translated.
#[derive(Clone, Debug)]
pub(crate) enum Problem {
    /// The model breaks a rule of ONNX.
    Wrong(Diag),
    /// The model is valid and more than this importer knows.
    Unsupported(Diag),
    /// A value must be known before the program runs, and is not.
    Unknown(Value, Diag),
    /// The import goes on only if a symbol is another size: it begins again with that size in the symbol's place.
    Assume(Symbol, Dim),
}

pub(crate) type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    /// The problem with another description.
    pub(crate) fn map(self, change: impl FnOnce(Diag) -> Diag) -> Self {
        match self {
            Self::Wrong(diag) => Self::Wrong(change(diag)),
            Self::Unsupported(diag) => Self::Unsupported(change(diag)),
            Self::Unknown(value, diag) => Self::Unknown(value, change(diag)),
            Self::Assume(symbol, dim) => Self::Assume(symbol, dim),
        }
    }
}

impl From<Diag> for Problem {
    fn from(diag: Diag) -> Self {
        Self::Wrong(diag)
    }
}

/// The model breaks a rule.
pub(crate) fn wrong<T>(message: impl Into<String>) -> Result<T> {
    Err(Problem::Wrong(Diag::new(message)))
}

/// The model asks for what is not there.
pub(crate) fn unsupported<T>(message: impl Into<String>) -> Result<T> {
    Err(Problem::Unsupported(Diag::new(message)))
}

/// The most characters of a model's text that an error repeats.
const MOST_QUOTED: usize = 80;

/// A text of the model in an error: its beginning, where it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MOST_QUOTED) {
        None => format!("`{text}`"),
        Some((end, _)) => format!("`{}..` ({} characters)", &text[..end], text.chars().count()),
    }
}

/// Why a model was not imported.
#[derive(Debug)]
pub enum Failure {
    /// It is damaged, hostile or breaks a rule of ONNX.
    Invalid(Error),
    /// It is valid, but not supported: everything that is not, with nodes' names.
    Unsupported(Error),
    /// These inputs decide about shapes: import again with their values in [`crate::Options::values`].
    Undetermined {
        /// The inputs' names.
        inputs: Vec<String>,
        /// Where the values are needed.
        error: Error,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsupported(error) => write!(f, "not supported: {error}"),
            Self::Invalid(error) | Self::Undetermined { error, .. } => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Diag> for Failure {
    fn from(diag: Diag) -> Self {
        Self::Invalid(diag.into())
    }
}
