//! Sizes and offsets as a plan computes with them: exact, for usual sizes alone, or, of very many, as coefficients.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use graver_ir::dim::{Atom, Bounds, Dim};
use smallvec::SmallVec;

/// A number of bytes as the plan computes with it.
pub(super) trait Bytes: Clone + PartialEq {
    /// Whether what holds for usual sizes is all that there is to prove.
    const IS_NOMINAL: bool = false;

    /// Whether what follows from earlier proofs is not proved again, which is worth it among very many.
    const FOLLOWS: bool = false;

    /// The sum.
    fn plus(&self, other: &Self) -> Self;

    /// What is below neither.
    fn greater(&self, other: &Self) -> Self;

    /// Whether it is proved to be not below another for all sizes.
    fn is_at_least(&self, other: &Self) -> bool;

    /// The value for usual sizes.
    fn nominal(&self) -> i64;
}

impl Bytes for i64 {
    const IS_NOMINAL: bool = true;

    fn plus(&self, other: &Self) -> Self {
        self.saturating_add(*other)
    }

    fn greater(&self, other: &Self) -> Self {
        *self.max(other)
    }

    fn is_at_least(&self, other: &Self) -> bool {
        self >= other
    }

    fn nominal(&self) -> i64 {
        *self
    }
}

impl Bytes for Dim {
    fn plus(&self, other: &Self) -> Self {
        self + other
    }

    fn greater(&self, other: &Self) -> Self {
        if self.is_plainly_at_least(other) {
            return self.clone();
        }
        if other.is_plainly_at_least(self) {
            return other.clone();
        }
        let exact = self.max_with(other);
        if nesting(&exact) <= DEEPEST { exact } else { bound(&flat(self), &flat(other)) }
    }

    fn is_at_least(&self, other: &Self) -> bool {
        Self::is_at_least(self, other)
    }

    fn nominal(&self) -> i64 {
        Self::nominal(self)
    }
}

/// How deep maxima may nest in an offset: proofs look into both sides of each, so their cost doubles with every level.
const DEEPEST: usize = 2;

fn nesting(dim: &Dim) -> usize {
    let of = |atom: &Atom| match atom {
        Atom::Max(x, y) => 1 + nesting(x).max(nesting(y)),
        Atom::Min(x, y) | Atom::FloorDiv(x, y) | Atom::Mod(x, y) => nesting(x).max(nesting(y)),
        Atom::Sym(_) | Atom::Axis(_) => 0,
    };
    dim.terms().iter().flat_map(|term| &term.atoms).map(of).max().unwrap_or(0)
}

/// An offset, of positive terms, without maxima: not below it.
fn flat(dim: &Dim) -> Dim {
    dim.substitute(&|atom| match atom {
        Atom::Max(x, y) => Some(bound(&flat(x), &flat(y))),
        Atom::Sym(_) | Atom::Axis(_) | Atom::Min(..) | Atom::FloorDiv(..) | Atom::Mod(..) => None,
    })
}

fn bound(x: &Dim, y: &Dim) -> Dim {
    let basis = Basis::of([x, y]);
    basis.plain(x).greater_of_each(&basis.plain(y)).dim()
}

/// The products of symbols that sizes are sums of, and what each lies between.
pub(super) struct Basis {
    /// Of each product, by its atoms.
    places: BTreeMap<Vec<Atom>, usize>,
    /// By place.
    products: Vec<Dim>,
    /// By place.
    bounds: Vec<Bounds>,
    /// Whether no product is negative for any sizes.
    is_nonneg: bool,
    /// By place, for usual sizes.
    nominal: Vec<i64>,
}

impl Basis {
    /// What these sizes are sums of.
    pub(super) fn of<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Self {
        let mut basis =
            Self { places: BTreeMap::new(), products: Vec::new(), bounds: Vec::new(), is_nonneg: true, nominal: Vec::new() };
        for term in dims.into_iter().flat_map(Dim::terms) {
            let product = product(&term.atoms);
            if let Entry::Vacant(new) = basis.places.entry(term.atoms) {
                new.insert(basis.bounds.len());
                basis.bounds.push(product.bounds());
                basis.is_nonneg &= product.bounds().lo >= 0;
                basis.nominal.push(product.nominal());
                basis.products.push(product);
            }
        }
        basis
    }

    /// No bytes.
    pub(super) fn zero(&self) -> Plain<'_> {
        self.plain(&Dim::ZERO)
    }

    /// The size as coefficients.
    ///
    /// # Panics
    /// If it is not one of those that the basis was made of, nor a sum of them.
    pub(super) fn plain(&self, dim: &Dim) -> Plain<'_> {
        let mut coeffs = SmallVec::from_elem(0, self.bounds.len());
        for term in dim.terms() {
            coeffs[self.places[&term.atoms]] = term.coeff;
        }
        Plain::new(self, coeffs)
    }
}

fn product(atoms: &[Atom]) -> Dim {
    atoms.iter().fold(Dim::ONE, |product, atom| product * Dim::atom(atom.clone()))
}

/// So many products are few: their coefficients lie where the size does.
const FEW: usize = 4;

/// A size as coefficients over a basis, with its value for usual sizes.
#[derive(Clone)]
pub(super) struct Plain<'a> {
    basis: &'a Basis,
    coeffs: SmallVec<[i64; FEW]>,
    nominal: i64,
}

impl<'a> Plain<'a> {
    fn new(basis: &'a Basis, coeffs: SmallVec<[i64; FEW]>) -> Self {
        let terms = coeffs.iter().zip(&basis.nominal).map(|(coeff, nominal)| coeff.saturating_mul(*nominal));
        Self { basis, nominal: terms.fold(0, i64::saturating_add), coeffs }
    }

    fn with(&self, other: &Self, of: impl Fn(i64, i64) -> i64) -> Self {
        Self::new(self.basis, self.coeffs.iter().zip(&other.coeffs).map(|(x, y)| of(*x, *y)).collect())
    }

    /// The greater coefficient of every product: not below either, since sizes are not negative.
    fn greater_of_each(&self, other: &Self) -> Self {
        self.with(other, i64::max)
    }

    /// The size.
    pub(super) fn dim(&self) -> Dim {
        let terms = self.basis.products.iter().zip(&self.coeffs).filter(|(_, coeff)| **coeff != 0);
        terms.map(|(product, coeff)| product * Dim::from(*coeff)).sum()
    }
}

impl PartialEq for Plain<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.coeffs == other.coeffs
    }
}

impl Bytes for Plain<'_> {
    const FOLLOWS: bool = true;

    fn plus(&self, other: &Self) -> Self {
        self.with(other, i64::saturating_add)
    }

    fn greater(&self, other: &Self) -> Self {
        if self.is_at_least(other) {
            self.clone()
        } else if other.is_at_least(self) {
            other.clone()
        } else {
            self.greater_of_each(other)
        }
    }

    fn is_at_least(&self, other: &Self) -> bool {
        // Most are so coefficient by coefficient: looked at without a branch, for this is asked of every pair.
        let each = self.coeffs.iter().zip(&other.coeffs).fold(true, |all, (x, y)| all & (x >= y));
        if each && self.basis.is_nonneg {
            return true;
        }
        let least = |((x, y), bounds): ((&i64, &i64), &Bounds)| {
            let coeff = x.saturating_sub(*y);
            coeff.saturating_mul(if coeff < 0 { bounds.hi } else { bounds.lo })
        };
        let products = self.coeffs.iter().zip(&other.coeffs).zip(&self.basis.bounds);
        products.map(least).fold(0, i64::saturating_add) >= 0
    }

    fn nominal(&self) -> i64 {
        self.nominal
    }
}
