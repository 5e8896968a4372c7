//! Where in the user's program a thing comes from.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in the user's source, or unknown. Cheap to copy; takes no part in equality of programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Flat>", into = "Vec<Flat>")]
pub struct Loc(Option<Arc<Place>>);

/// What a known [`Loc`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// The part of a module path that is another one in every call of a block.
const ANY: &str = "*";

/// The most callers that a place read from outside may have: chains are walked by recursion.
pub(crate) const MAX_CALLERS: usize = 64;

/// A place as it is serialized: a chain is a list, innermost first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flat {
    file: String,
    line: u32,
    column: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
}

impl From<Loc> for Vec<Flat> {
    fn from(loc: Loc) -> Self {
        let chain = std::iter::successors(loc.place(), |place| place.caller.place());
        let flat = |Place { file, line, column, scope, caller: _ }: &Place| Flat {
            file: file.clone(),
            line: *line,
            column: *column,
            scope: scope.clone(),
        };
        chain.map(flat).collect()
    }
}

impl TryFrom<Vec<Flat>> for Loc {
    type Error = String;

    fn try_from(chain: Vec<Flat>) -> Result<Self, String> {
        let chain = chain.into_iter().map(|Flat { file, line, column, scope }| Place {
            file,
            line,
            column,
            scope,
            caller: Self::UNKNOWN,
        });
        Self::chain(chain.collect())
    }
}

impl Loc {
    /// The first of these places, called from the second, and so on.
    pub(crate) fn chain(places: Vec<Place>) -> Result<Self, String> {
        if places.len() > MAX_CALLERS {
            return Err(format!("a chain of more than {MAX_CALLERS} places"));
        }
        Ok(places.into_iter().rev().fold(Self::UNKNOWN, |caller, place| Self::new(Place { caller, ..place })))
    }

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

    /// This place inside of a function that the user knows by name: `encoder.0` becomes `encoder.0.softmax`.
    #[must_use]
    pub fn within(&self, name: &str) -> Self {
        match self.place() {
            None => Self::UNKNOWN,
            Some(place) if place.scope.is_empty() => Self::new(Place { scope: name.to_owned(), ..place.clone() }),
            Some(place) => Self::new(Place { scope: format!("{}.{name}", place.scope), ..place.clone() }),
        }
    }

    /// This place of a block that is kept once, as one call of it has it: `blocks.*.attn` of the call in `blocks.3` is `blocks.3.attn`.
    #[must_use]
    pub fn of_call(&self, call: &Self) -> Self {
        let (Some(place), Some(call)) = (self.place(), call.place()) else { return self.clone() };
        if !place.scope.contains(ANY) {
            return self.clone();
        }
        let mut own = place.scope.split('.');
        let agrees = call.scope.split('.').all(|known| own.next().is_some_and(|own| own == known || own == ANY));
        if !agrees || !place.scope.split('.').any(|own| own == ANY) {
            return self.clone();
        }
        let scope = own.fold(call.scope.clone(), |scope, part| scope + "." + part);
        Self::new(Place { scope, ..place.clone() })
    }

    /// The place that both are, but for parts of their module paths: those are `*`. `None` if they are different places.
    #[must_use]
    pub fn common(&self, other: &Self) -> Option<Self> {
        let (Some(x), Some(y)) = (self.place(), other.place()) else { return (self == other).then(|| self.clone()) };
        let (xs, ys): (Vec<&str>, Vec<&str>) = (x.scope.split('.').collect(), y.scope.split('.').collect());
        let caller = x.caller.common(&y.caller)?;
        if (&x.file, x.line, x.column, xs.len()) != (&y.file, y.line, y.column, ys.len()) {
            return None;
        }
        let scope: Vec<&str> = xs.iter().zip(&ys).map(|(x, y)| if x == y { *x } else { ANY }).collect();
        Some(Self::new(Place { scope: scope.join("."), caller, ..x.clone() }))
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
