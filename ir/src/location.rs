//! Where in the user's program a thing comes from.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in the user's source, or unknown. Cheap to copy; takes no part in equality of programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loc(Option<Arc<Place>>);

/// What a known [`Loc`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file as the compiler named it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The module path, `encoder.layers.3.attn`; empty outside of modules.
    pub scope: String,
    /// The place that called the function in which this one lies.
    pub caller: Loc,
}

impl Loc {
    /// No known place.
    pub const UNKNOWN: Self = Self(None);

    /// A known place.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self(Some(Arc::new(place)))
    }

    /// The place, if known.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.0.as_deref()
    }

    /// This place, reached through a call at `caller`; innermost first, outermost caller last.
    #[must_use]
    pub fn called_from(&self, caller: &Self) -> Self {
        match self.place() {
            None => caller.clone(),
            Some(place) => Self::new(Place { caller: place.caller.called_from(caller), ..place.clone() }),
        }
    }
}

impl fmt::Display for Loc {
    /// `src/model.rs:42:7 (encoder.0)`, callers after `, called from`; `unknown place`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = self.place() else { return f.write_str("unknown place") };
        write!(f, "{}:{}:{}", place.file, place.line, place.column)?;
        if !place.scope.is_empty() {
            write!(f, " ({})", place.scope)?;
        }
        if place.caller.place().is_some() {
            write!(f, ", called from {}", place.caller)?;
        }
        Ok(())
    }
}
