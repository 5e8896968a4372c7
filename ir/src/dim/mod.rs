//! Sizes and index expressions: integers, symbols and loop axes under `+ - * floordiv mod min max`, always in canonical form.
//!
//! Two dims that are equal as written polynomials are equal as values (`==`), whichever way they were built. What equality
//! cannot see, [`Dim::is_nonneg`] and [`Dim::bounds`] prove by intervals over the declared ranges of symbols.
//! Arithmetic never panics: a coefficient that leaves `i64` saturates, and type inference refuses such sizes.

mod arith;
mod limit;
mod prove;
mod read;

pub use limit::{MAX_DEPTH, MAX_NODES};
pub use prove::Bounds;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::{Name, Quoted};

/// The greatest size that a symbol, an axis or a tensor may have: larger ones are refused as errors.
pub const MAX_SIZE: i64 = 1 << 48;

/// A named size that is not known until run time, with what is declared about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "SymbolDecl")]
pub struct Symbol(Arc<SymbolDecl>);

/// What is declared about a [`Symbol`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SymbolDecl {
    /// The name, unique in a module: `batch`.
    pub name: String,
    /// The least value that it takes.
    pub lo: i64,
    /// The greatest value that it takes.
    pub hi: i64,
    /// A number that divides every value that it takes.
    pub multiple: i64,
}

impl Symbol {
    /// A symbol of any size: `0..=2^32`, no known divisor.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self::ranged(name, 0, 1 << 32, 1)
    }

    /// A symbol with `lo <= value <= hi` and `value % multiple == 0`. Bounds are clamped to `0..=MAX_SIZE`.
    #[must_use]
    pub fn ranged(name: impl Into<String>, lo: i64, hi: i64, multiple: i64) -> Self {
        let (lo, hi) = (lo.clamp(0, MAX_SIZE), hi.clamp(0, MAX_SIZE));
        Self(Arc::new(SymbolDecl { name: name.into(), lo, hi: hi.max(lo), multiple: multiple.max(1) }))
    }

    /// The declaration.
    #[must_use]
    pub fn decl(&self) -> &SymbolDecl {
        &self.0
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A value that it may have, 64 if it may.
    fn usual(&self) -> i64 {
        let SymbolDecl { lo, hi, multiple, .. } = self.0.as_ref();
        let (below, least) = (64.clamp(*lo, *hi) / multiple * multiple, 1.clamp(*lo, *hi));
        if below >= least { below } else { ((least - 1) / multiple).saturating_add(1).saturating_mul(*multiple) }
    }
}

impl Ord for Symbol {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Symbol {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Symbol {
    /// The name; quoted where it is not a word or could be read as a loop axis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits =
            self.name().strip_prefix('a').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
        if digits { write!(f, "{}", Quoted(self.name())) } else { write!(f, "{}", Name(self.name())) }
    }
}

/// A loop axis of a kernel: a variable that runs over `0..size`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AxisVar {
    /// Its position among the kernel's axes.
    pub id: u32,
    /// The number of values that it takes.
    pub size: Dim,
}

/// What a polynomial is made of besides numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Atom {
    /// A symbolic size.
    Sym(Symbol),
    /// A loop axis.
    Axis(AxisVar),
    /// `floor(x / y)`, `y > 0`
    FloorDiv(Dim, Dim),
    /// `x - y * floor(x / y)`, `y > 0`
    Mod(Dim, Dim),
    /// The lesser.
    Min(Dim, Dim),
    /// The greater.
    Max(Dim, Dim),
}

/// A product of atoms times a coefficient. No atoms: the constant term.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term {
    /// Sorted; an atom of degree two is there twice.
    pub atoms: Vec<Atom>,
    /// Never zero.
    pub coeff: i64,
}

/// A size or an index: a polynomial over [`Atom`]s with integer coefficients, in canonical form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Repr")]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Repr {
    Const(i64),
    /// Sorted by atoms, at least one term with an atom.
    Poly(Arc<Vec<Term>>),
}

/// The values of symbols at run time.
pub type Sizes = BTreeMap<String, i64>;

/// Why a dim has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DimError {
    /// A symbol was given no value.
    #[error("the size `{0}` has no value")]
    Unbound(String),
    /// A loop axis where only sizes may be.
    #[error("loop axis {0} outside of a kernel")]
    Axis(u32),
    /// The value does not fit in 64 bits.
    #[error("the size {0} overflows 64 bits")]
    Overflow(String),
    /// The divisor is not positive.
    #[error("the size {0} divides by zero")]
    DivideByZero(String),
}

impl Dim {
    /// Zero.
    pub const ZERO: Self = Self(Repr::Const(0));
    /// One.
    pub const ONE: Self = Self(Repr::Const(1));

    /// The symbol as a size.
    #[must_use]
    pub fn sym(symbol: &Symbol) -> Self {
        Self::atom(Atom::Sym(symbol.clone()))
    }

    /// The loop axis `id` of `size` steps as an index. An axis of one step is the index 0.
    #[must_use]
    pub fn axis(id: u32, size: &Self) -> Self {
        if *size == Self::ONE { Self::ZERO } else { Self::atom(Atom::Axis(AxisVar { id, size: size.clone() })) }
    }

    /// The atom alone, with coefficient one.
    #[must_use]
    pub fn atom(atom: Atom) -> Self {
        Self(Repr::Poly(Arc::new(vec![Term { atoms: vec![atom], coeff: 1 }])))
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_const(&self) -> Option<i64> {
        match &self.0 {
            Repr::Const(value) => Some(*value),
            Repr::Poly(_) => None,
        }
    }

    /// Whether it is the number `value`.
    #[must_use]
    pub fn is(&self, value: i64) -> bool {
        self.as_const() == Some(value)
    }

    /// The terms in canonical order; a constant has one without atoms, zero has none.
    #[must_use]
    pub fn terms(&self) -> Vec<Term> {
        self.with_terms(<[Term]>::to_vec)
    }

    fn with_terms<R>(&self, visit: impl FnOnce(&[Term]) -> R) -> R {
        match &self.0 {
            Repr::Const(0) => visit(&[]),
            Repr::Const(value) => visit(&[Term { atoms: Vec::new(), coeff: *value }]),
            Repr::Poly(terms) => visit(terms),
        }
    }

    /// The number of terms.
    #[must_use]
    pub fn term_count(&self) -> usize {
        match &self.0 {
            Repr::Const(0) => 0,
            Repr::Const(_) => 1,
            Repr::Poly(terms) => terms.len(),
        }
    }

    /// Every symbol that occurs, in name order, without repeats.
    #[must_use]
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut found = Vec::new();
        self.visit_atoms(&mut |atom| {
            if let Atom::Sym(symbol) = atom {
                found.push(symbol.clone());
            }
        });
        found.sort();
        found.dedup();
        found
    }

    /// Every loop axis that occurs in the index, by id, without repeats (not those inside axes' sizes).
    #[must_use]
    pub fn axes(&self) -> Vec<AxisVar> {
        let mut found = Vec::new();
        self.visit_atoms(&mut |atom| {
            if let Atom::Axis(axis) = atom {
                found.push(axis.clone());
            }
        });
        found.sort();
        found.dedup();
        found
    }

    fn visit_atoms(&self, visit: &mut dyn FnMut(&Atom)) {
        let Repr::Poly(terms) = &self.0 else { return };
        for atom in terms.iter().flat_map(|term| &term.atoms) {
            visit(atom);
            match atom {
                Atom::Sym(_) | Atom::Axis(_) => {}
                Atom::FloorDiv(x, y) | Atom::Mod(x, y) | Atom::Min(x, y) | Atom::Max(x, y) => {
                    x.visit_atoms(visit);
                    y.visit_atoms(visit);
                }
            }
        }
    }

    /// The expression with every atom for which `replace` answers replaced, and put in canonical form again.
    #[must_use]
    pub fn substitute(&self, replace: &dyn Fn(&Atom) -> Option<Self>) -> Self {
        let Repr::Poly(terms) = &self.0 else { return self.clone() };
        let mut sum = Self::ZERO;
        for term in terms.iter() {
            let mut product = Self::from(term.coeff);
            for atom in &term.atoms {
                let value = replace(atom).unwrap_or_else(|| match atom {
                    Atom::Sym(_) | Atom::Axis(_) => Self::atom(atom.clone()),
                    Atom::FloorDiv(x, y) => x.substitute(replace).floor_div(&y.substitute(replace)),
                    Atom::Mod(x, y) => x.substitute(replace).modulo(&y.substitute(replace)),
                    Atom::Min(x, y) => x.substitute(replace).min_with(&y.substitute(replace)),
                    Atom::Max(x, y) => x.substitute(replace).max_with(&y.substitute(replace)),
                });
                product = product * value;
            }
            sum = sum + product;
        }
        sum
    }

    /// What varies, and the constant term.
    ///
    /// ```
    /// use graver_ir::{Dim, Symbol};
    ///
    /// let n = Dim::sym(&Symbol::new("n"));
    /// assert_eq!((&n + Dim::from(3)).apart(), (n, 3));
    /// assert_eq!(Dim::from(4).apart(), (Dim::ZERO, 4));
    /// ```
    #[must_use]
    pub fn apart(&self) -> (Self, i64) {
        let constant = match &self.0 {
            Repr::Const(value) => *value,
            Repr::Poly(terms) => terms.iter().find(|term| term.atoms.is_empty()).map_or(0, |term| term.coeff),
        };
        (self - Self::from(constant), constant)
    }

    /// The value when symbols have these sizes.
    ///
    /// # Errors
    /// A symbol without a size, an overflow, a division by a size that is not positive.
    pub fn eval(&self, sizes: &Sizes) -> Result<i64, DimError> {
        self.eval_with(&mut |atom| match atom {
            Atom::Sym(symbol) => sizes.get(symbol.name()).copied(),
            Atom::Axis(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
        })
    }

    /// A number to compare sizes by: every symbol is taken as 64, or as the value that it may have nearest below, or else above, that. It
    /// decides what is better; of what is correct it tells at most that something does not hold for all sizes.
    #[must_use]
    pub fn nominal(&self) -> i64 {
        let value = self.eval_with(&mut |atom| match atom {
            Atom::Sym(symbol) => Some(symbol.usual()),
            Atom::Axis(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
        });
        value.unwrap_or(i64::MAX)
    }

    /// The value when `lookup` gives the values of symbols and axes.
    ///
    /// # Errors
    /// As [`Dim::eval`].
    pub fn eval_with(&self, lookup: &mut dyn FnMut(&Atom) -> Option<i64>) -> Result<i64, DimError> {
        let terms = match &self.0 {
            Repr::Const(value) => return Ok(*value),
            Repr::Poly(terms) => terms,
        };
        let overflow = || DimError::Overflow(self.to_string());
        let mut sum = 0i64;
        for term in terms.iter() {
            let mut product = term.coeff;
            for atom in &term.atoms {
                product = product.checked_mul(atom.eval_with(lookup)?).ok_or_else(overflow)?;
            }
            sum = sum.checked_add(product).ok_or_else(overflow)?;
        }
        Ok(sum)
    }
}

impl Atom {
    fn eval_with(&self, lookup: &mut dyn FnMut(&Self) -> Option<i64>) -> Result<i64, DimError> {
        if let Some(value) = lookup(self) {
            return Ok(value);
        }
        let mut both = |x: &Dim, y: &Dim| Ok((x.eval_with(lookup)?, y.eval_with(lookup)?));
        let positive = |y: i64| if y > 0 { Ok(y) } else { Err(DimError::DivideByZero(self.to_string())) };
        match self {
            Self::Sym(symbol) => Err(DimError::Unbound(symbol.name().to_owned())),
            Self::Axis(axis) => Err(DimError::Axis(axis.id)),
            Self::FloorDiv(x, y) => both(x, y).and_then(|(x, y)| Ok(x.div_euclid(positive(y)?))),
            Self::Mod(x, y) => both(x, y).and_then(|(x, y)| Ok(x.rem_euclid(positive(y)?))),
            Self::Min(x, y) => both(x, y).map(|(x, y)| x.min(y)),
            Self::Max(x, y) => both(x, y).map(|(x, y)| x.max(y)),
        }
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        Self(Repr::Const(value))
    }
}

impl From<i32> for Dim {
    fn from(value: i32) -> Self {
        Self(Repr::Const(i64::from(value)))
    }
}

impl From<usize> for Dim {
    /// Saturates at `i64::MAX`, which no type admits.
    fn from(value: usize) -> Self {
        Self(Repr::Const(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<&Symbol> for Dim {
    fn from(symbol: &Symbol) -> Self {
        Self::sym(symbol)
    }
}

impl From<&Self> for Dim {
    fn from(dim: &Self) -> Self {
        dim.clone()
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sym(symbol) => symbol.fmt(f),
            Self::Axis(axis) => write!(f, "a{}", axis.id),
            Self::FloorDiv(x, y) => write!(f, "floordiv({x}, {y})"),
            Self::Mod(x, y) => write!(f, "mod({x}, {y})"),
            Self::Min(x, y) => write!(f, "min({x}, {y})"),
            Self::Max(x, y) => write!(f, "max({x}, {y})"),
        }
    }
}

impl fmt::Display for Dim {
    /// `64*batch + 3`: terms in canonical order, the constant last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = match &self.0 {
            Repr::Const(value) => return write!(f, "{value}"),
            Repr::Poly(terms) => terms,
        };
        let constant_last = terms.iter().filter(|t| !t.atoms.is_empty()).chain(terms.iter().filter(|t| t.atoms.is_empty()));
        for (position, term) in constant_last.enumerate() {
            match (position, term.coeff < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let magnitude = term.coeff.unsigned_abs();
            if magnitude != 1 || term.atoms.is_empty() {
                write!(f, "{magnitude}")?;
            }
            for (place, atom) in term.atoms.iter().enumerate() {
                if place > 0 || magnitude != 1 {
                    f.write_str("*")?;
                }
                write!(f, "{atom}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
