//! Arithmetic that keeps dims canonical: sums and products of polynomials, and the simplifications of `floordiv` and `mod`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;

use super::{Atom, Dim, Repr, Term};

impl Dim {
    /// The dim with these terms, in any order, with repeats and zeros.
    pub(crate) fn from_terms(terms: impl IntoIterator<Item = Term>) -> Self {
        let mut sum: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        for term in terms {
            let coeff = sum.entry(term.atoms).or_insert(0);
            *coeff = coeff.saturating_add(term.coeff);
        }
        sum.retain(|_, coeff| *coeff != 0);
        Self::from_sorted(sum.into_iter().map(|(atoms, coeff)| Term { atoms, coeff }).collect())
    }

    /// The dim with these terms, which are in order, without repeats and zeros.
    fn from_sorted(terms: Vec<Term>) -> Self {
        match terms.as_slice() {
            [] => Self::ZERO,
            [term] if term.atoms.is_empty() => Self(Repr::Const(term.coeff)),
            _ => Self(Repr::Poly(Arc::new(terms))),
        }
    }

    /// `floor(self / divisor)` for a positive divisor.
    ///
    /// `(q*d + r) floordiv d = q + (r floordiv d)`, which is `q` where `0 <= r < d` is proved;
    /// `(x floordiv a + c) floordiv b = (x + a*c) floordiv (a*b)`.
    #[must_use]
    pub fn floor_div(&self, divisor: &Self) -> Self {
        if divisor.is(1) {
            return self.clone();
        }
        if let (Some(x), Some(y)) = (self.as_const(), divisor.as_const())
            && y > 0
        {
            return Self::from(x.div_euclid(y));
        }
        let (quotient, rest) = self.split_by(divisor);
        if rest.is_below(divisor) {
            return quotient;
        }
        let inner = rest.as_floor_div().map(|(x, y, other)| (x + other * &y).floor_div(&(y * divisor)));
        quotient + inner.unwrap_or_else(|| rest.reduced_floor_div(divisor))
    }

    /// `rest floordiv divisor` with a common constant factor removed from both.
    fn reduced_floor_div(self, divisor: &Self) -> Self {
        let factor = divisor.as_const().map_or(1, |d| gcd(d, self.content()));
        if factor > 1 {
            let small = self.divide_content(factor);
            let divisor = divisor.divide_content(factor);
            if divisor.is(1) { small } else { Self::atom(Atom::FloorDiv(small, divisor)) }
        } else {
            Self::atom(Atom::FloorDiv(self, divisor.clone()))
        }
    }

    /// `self - divisor * floor(self / divisor)` for a positive divisor: terms that the divisor divides drop out.
    #[must_use]
    pub fn modulo(&self, divisor: &Self) -> Self {
        if divisor.is(1) {
            return Self::ZERO;
        }
        if let (Some(x), Some(y)) = (self.as_const(), divisor.as_const())
            && y > 0
        {
            return Self::from(x.rem_euclid(y));
        }
        let (_, rest) = self.split_by(divisor);
        if rest.is_below(divisor) { rest } else { Self::atom(Atom::Mod(rest, divisor.clone())) }
    }

    /// `ceil(self / divisor)` for a positive divisor.
    #[must_use]
    pub fn ceil_div(&self, divisor: &Self) -> Self {
        (self + divisor - Self::ONE).floor_div(divisor)
    }

    /// The least multiple of `multiple` that is not below `self`.
    #[must_use]
    pub fn round_up(&self, multiple: i64) -> Self {
        self.ceil_div(&Self::from(multiple)) * Self::from(multiple)
    }

    /// The lesser of both.
    #[must_use]
    pub fn min_with(&self, other: &Self) -> Self {
        if other.is_at_least(self) {
            self.clone()
        } else if self.is_at_least(other) {
            other.clone()
        } else {
            let (x, y) = if self <= other { (self, other) } else { (other, self) };
            Self::atom(Atom::Min(x.clone(), y.clone()))
        }
    }

    /// The greater of both.
    #[must_use]
    pub fn max_with(&self, other: &Self) -> Self {
        if other.is_at_least(self) {
            other.clone()
        } else if self.is_at_least(other) {
            self.clone()
        } else {
            let (x, y) = if self <= other { (self, other) } else { (other, self) };
            Self::atom(Atom::Max(x.clone(), y.clone()))
        }
    }

    /// `self / divisor` where the division is exact as a polynomial, e.g. `(12*n) / (4*n) = 3`.
    #[must_use]
    pub fn exact_div(&self, divisor: &Self) -> Option<Self> {
        let (quotient, rest) = self.split_by(divisor);
        rest.is(0).then_some(quotient)
    }

    /// `(slope, rest)` with `self = slope * axis + rest`, both free of the loop axis; `None` where it is not of this form.
    #[must_use]
    pub fn along(&self, axis: usize) -> Option<(Self, Self)> {
        let is_axis = |atom: &Atom| matches!(atom, Atom::Axis(var) if var.id as usize == axis);
        let (mut slope, mut rest) = (Self::ZERO, Self::ZERO);
        for term in self.terms() {
            let times = term.atoms.iter().filter(|atom| is_axis(atom)).count();
            let others = term.atoms.iter().filter(|atom| !is_axis(atom));
            let product = others.fold(Self::from(term.coeff), |product, atom| product * Self::atom(atom.clone()));
            if product.axes().iter().any(|var| var.id as usize == axis) || times > 1 {
                return None;
            }
            if times == 1 {
                slope = slope + product;
            } else {
                rest = rest + product;
            }
        }
        Some((slope, rest))
    }

    /// `(q, r)` with `self = q * divisor + r`, every term that the divisor divides being in `q`.
    fn split_by(&self, divisor: &Self) -> (Self, Self) {
        let divisor = divisor.terms();
        let [by] = divisor.as_slice() else {
            // A sum divides only a multiple of itself; try the quotient of the leading terms.
            let leading = |dim: &[Term]| dim.last().cloned();
            let (Some(x), Some(y)) = (leading(&self.terms()), leading(&divisor)) else { return (Self::ZERO, self.clone()) };
            let by = Self::from_terms(divisor);
            return match x.divide(&y) {
                Some(q) if Self::from_terms([q.clone()]) * &by == *self => (Self::from_terms([q]), Self::ZERO),
                Some(_) | None => (Self::ZERO, self.clone()),
            };
        };
        let (mut quotient, mut rest) = (Vec::new(), Vec::new());
        for term in self.terms() {
            match term.divide(by) {
                Some(divided) => quotient.push(divided),
                None if term.atoms.is_empty() && by.atoms.is_empty() => {
                    // The constant term keeps only its remainder: 7 = 1*4 + 3.
                    quotient.push(Term { atoms: Vec::new(), coeff: term.coeff.wrapping_div_euclid(by.coeff) });
                    rest.push(Term { atoms: Vec::new(), coeff: term.coeff.wrapping_rem_euclid(by.coeff) });
                }
                None => rest.push(term),
            }
        }
        (Self::from_terms(quotient), Self::from_terms(rest))
    }

    /// `(x, y, other)` with `self = x floordiv y + other`.
    fn as_floor_div(&self) -> Option<(Self, Self, Self)> {
        let mut terms = self.terms();
        let place = terms.iter().position(|term| term.coeff == 1 && matches!(term.atoms.as_slice(), [Atom::FloorDiv(..)]))?;
        match terms.remove(place).atoms.pop()? {
            Atom::FloorDiv(x, y) => Some((x, y, Self::from_terms(terms))),
            Atom::Sym(_) | Atom::Axis(_) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
        }
    }

    /// The greatest number that divides all coefficients; 0 for the dim 0.
    #[must_use]
    pub fn content(&self) -> i64 {
        self.with_terms(|terms| terms.iter().fold(0, |common, term| gcd(common, term.coeff)))
    }

    fn divide_content(&self, factor: i64) -> Self {
        Self::from_terms(self.terms().into_iter().map(|term| Term { coeff: term.coeff / factor, ..term }))
    }
}

impl Term {
    /// The exact quotient of two monomials.
    fn divide(&self, by: &Self) -> Option<Self> {
        if self.coeff.checked_rem(by.coeff) != Some(0) {
            return None;
        }
        let mut atoms = self.atoms.clone();
        for atom in &by.atoms {
            let place = atoms.iter().position(|x| x == atom)?;
            atoms.remove(place);
        }
        Some(Self { atoms, coeff: self.coeff / by.coeff })
    }
}

pub(super) fn gcd(x: i64, y: i64) -> i64 {
    let (mut x, mut y) = (x.unsigned_abs(), y.unsigned_abs());
    while y != 0 {
        (x, y) = (y, x % y);
    }
    i64::try_from(x).unwrap_or(i64::MAX)
}

fn add(x: &Dim, y: &Dim) -> Dim {
    plus(x, y, 1)
}

fn sub(x: &Dim, y: &Dim) -> Dim {
    plus(x, y, -1)
}

/// `x + times * y`.
fn plus(x: &Dim, y: &Dim, times: i64) -> Dim {
    if let (Some(x), Some(y)) = (x.as_const(), y.as_const()) {
        return Dim::from(x.saturating_add(y.saturating_mul(times)));
    }
    let mut sum = Vec::with_capacity(x.term_count() + y.term_count());
    x.with_terms(|x| {
        y.with_terms(|y| {
            merge(x, y, |atoms, x, y| {
                let coeff = x.saturating_add(y.saturating_mul(times));
                if coeff != 0 {
                    sum.push(Term { atoms: atoms.to_vec(), coeff });
                }
            });
        });
    });
    Dim::from_sorted(sum)
}

/// Every product of atoms that occurs in either, in order, with its coefficients in both.
pub(super) fn merge<'t>(x: &'t [Term], y: &'t [Term], mut visit: impl FnMut(&'t [Atom], i64, i64)) {
    let (mut i, mut j) = (0, 0);
    loop {
        let order = match (x.get(i), y.get(j)) {
            (Some(left), Some(right)) => left.atoms.cmp(&right.atoms),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        match order {
            Ordering::Less => visit(&x[i].atoms, x[i].coeff, 0),
            Ordering::Equal => visit(&x[i].atoms, x[i].coeff, y[j].coeff),
            Ordering::Greater => visit(&y[j].atoms, 0, y[j].coeff),
        }
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
    }
}

fn mul(x: &Dim, y: &Dim) -> Dim {
    match (x.as_const(), y.as_const()) {
        (Some(x), Some(y)) => return Dim::from(x.saturating_mul(y)),
        (Some(times), None) => return scaled(y, times),
        (None, Some(times)) => return scaled(x, times),
        (None, None) => {}
    }
    let product = |x: &Term, y: &Term| {
        let mut atoms: Vec<Atom> = x.atoms.iter().chain(&y.atoms).cloned().collect();
        atoms.sort();
        Term { atoms, coeff: x.coeff.saturating_mul(y.coeff) }
    };
    x.with_terms(|x| {
        y.with_terms(|y| match (x, y) {
            ([x], [y]) => Dim::from_sorted(vec![product(x, y)]),
            _ => Dim::from_terms(x.iter().flat_map(|x| y.iter().map(move |y| product(x, y)))),
        })
    })
}

fn scaled(x: &Dim, times: i64) -> Dim {
    match times {
        0 => Dim::ZERO,
        1 => x.clone(),
        _ => {
            Dim::from_sorted(x.terms().into_iter().map(|term| Term { coeff: term.coeff.saturating_mul(times), ..term }).collect())
        }
    }
}

macro_rules! operators {
    ($($op:ident $method:ident $work:ident;)*) => {$(
        impl $op for Dim { type Output = Dim; fn $method(self, other: Dim) -> Dim { $work(&self, &other) } }
        impl $op<&Dim> for Dim { type Output = Dim; fn $method(self, other: &Dim) -> Dim { $work(&self, other) } }
        impl $op<Dim> for &Dim { type Output = Dim; fn $method(self, other: Dim) -> Dim { $work(self, &other) } }
        impl $op for &Dim { type Output = Dim; fn $method(self, other: &Dim) -> Dim { $work(self, other) } }
    )*};
}

operators! {
    Add add add;
    Sub sub sub;
    Mul mul mul;
}

impl Neg for Dim {
    type Output = Self;

    fn neg(self) -> Self {
        mul(&self, &Self::from(-1i64))
    }
}

impl std::iter::Sum for Dim {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |x, y| x + y)
    }
}

impl std::iter::Product for Dim {
    fn product<I: Iterator<Item = Self>>(iter: I) -> Self {
        let mut product = Factors::default();
        iter.for_each(|dim| product.take(&dim));
        product.dim()
    }
}

impl<'a> std::iter::Product<&'a Self> for Dim {
    fn product<I: Iterator<Item = &'a Self>>(iter: I) -> Self {
        let mut product = Factors::default();
        iter.for_each(|dim| product.take(dim));
        product.dim()
    }
}

/// A product as it grows: numbers apart, which are multiplied in at the end, once.
struct Factors {
    number: i64,
    rest: Option<Dim>,
}

impl Default for Factors {
    fn default() -> Self {
        Self { number: 1, rest: None }
    }
}

impl Factors {
    fn take(&mut self, dim: &Dim) {
        match dim.as_const() {
            Some(number) => self.number = self.number.saturating_mul(number),
            None => self.rest = Some(self.rest.as_ref().map_or_else(|| dim.clone(), |rest| mul(rest, dim))),
        }
    }

    fn dim(self) -> Dim {
        self.rest.map_or(Dim::from(self.number), |rest| scaled(&rest, self.number))
    }
}
