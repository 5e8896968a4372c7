//! What can be proved of a dim: intervals over the declared ranges, and signs by putting axes at their extremes.
//!
//! Everything here is sound and incomplete: `false` means "not proved". Axes are assumed to be inside their loops, so an
//! axis of size `s` obeys `0 <= a <= s - 1` (where `s` is 0 nothing is executed, and anything may be said).

use super::arith::{gcd, merge};
use super::{Atom, Dim, MAX_NODES, Term};

/// Bounds on a value, both inclusive; saturated at the ends of `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The value is not below this.
    pub lo: i64,
    /// The value is not above this.
    pub hi: i64,
}

impl Bounds {
    const fn exact(value: i64) -> Self {
        Self { lo: value, hi: value }
    }

    fn add(self, other: Self) -> Self {
        Self { lo: self.lo.saturating_add(other.lo), hi: self.hi.saturating_add(other.hi) }
    }

    fn mul(self, other: Self) -> Self {
        let ends = [
            self.lo.saturating_mul(other.lo),
            self.lo.saturating_mul(other.hi),
            self.hi.saturating_mul(other.lo),
            self.hi.saturating_mul(other.hi),
        ];
        Self { lo: ends.into_iter().fold(i64::MAX, i64::min), hi: ends.into_iter().fold(i64::MIN, i64::max) }
    }
}

impl Dim {
    /// An interval that holds every value, from the declared ranges of symbols and axes.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.with_terms(|terms| terms.iter().fold(Bounds::exact(0), |sum, term| sum.add(term.bounds())))
    }

    /// Whether the value is proved to be not below another's, for all sizes and inside all loops.
    #[must_use]
    pub fn is_at_least(&self, other: &Self) -> bool {
        self.is_plainly_at_least(other) || (self - other).is_nonneg()
    }

    /// As [`Dim::is_at_least`], by the bounds of every term alone: in little time, and of fewer values.
    #[must_use]
    pub fn is_plainly_at_least(&self, other: &Self) -> bool {
        let mut difference = Bounds::exact(0);
        let mut add = |atoms: &[Atom], coeff: i64| {
            let product = atoms.iter().fold(Bounds::exact(coeff), |product, atom| product.mul(atom.bounds()));
            difference = difference.add(product);
        };
        self.with_terms(|x| other.with_terms(|y| merge(x, y, |atoms, x, y| add(atoms, x.saturating_sub(y)))));
        difference.lo >= 0
    }

    /// Whether the value is proved to be zero or more, for all sizes and inside all loops.
    #[must_use]
    pub fn is_nonneg(&self) -> bool {
        let sure = |dim: &Self| dim.bounds().lo >= 0;
        if sure(self) {
            return true;
        }
        // One way or the other: both would double the work with every quotient.
        let least = self.extreme(End::Least, Ways::Bound);
        let least = least.as_ref().unwrap_or(self);
        sure(least) || least.is_nonneg_undivided()
    }

    /// As [`Dim::is_nonneg`], with `floor(x / c)` between `(x - c + 1) / c` and `x / c`, and everything multiplied by `c`.
    fn is_nonneg_undivided(&self) -> bool {
        if self.bracketed().is_some_and(|least| least.bounds().lo >= 0) {
            return true;
        }
        if let Some(rest) = self.without_dominated_quotient() {
            return rest.is_nonneg();
        }
        let Some((quotient, divisor, coeff, rest)) = self.linear_floor_div() else { return false };
        let nearest = if coeff > 0 { quotient - Self::from(divisor - 1) } else { quotient };
        // A whole number is not negative where its multiple is above that of -1.
        (rest * Self::from(divisor) + nearest * Self::from(coeff) + Self::from(divisor - 1)).is_nonneg()
    }

    /// The value with every `floor(x / c)` replaced by a polynomial that is not above it (not below it where it is subtracted):
    /// coefficients of `x`, whose atoms are not negative, are divided and rounded one by one.
    fn bracketed(&self) -> Option<Self> {
        let bound = |x: &Self, divisor: i64, coeff: i64| {
            let divide = |term: Term| {
                let sure = term.atoms.iter().all(|atom| atom.bounds().lo >= 0);
                let down = term.coeff.div_euclid(divisor);
                let up = coeff < 0 && !term.atoms.is_empty() && term.coeff.rem_euclid(divisor) != 0;
                sure.then_some(Term { coeff: down + i64::from(up), ..term })
            };
            x.terms().into_iter().map(divide).collect::<Option<Vec<Term>>>().map(Self::from_terms)
        };
        let replace = |term: Term| match term.atoms.as_slice() {
            [Atom::FloorDiv(x, y)] => match y.as_const() {
                Some(divisor) if divisor > 0 => Some(bound(x, divisor, term.coeff)? * Self::from(term.coeff)),
                Some(_) | None => None,
            },
            _ => Some(Self::from_terms([term])),
        };
        self.terms().into_iter().map(replace).sum()
    }

    /// The rest of `self = k * floor(x / c) - k * floor(y / c) + rest` where `x >= y` is proved and `k > 0`.
    fn without_dominated_quotient(&self) -> Option<Self> {
        let terms = self.terms();
        let quotient = |term: &Term| match term.atoms.as_slice() {
            [Atom::FloorDiv(x, y)] => Some((x.clone(), y.clone(), term.coeff)),
            _ => None,
        };
        let quotients: Vec<_> = terms.iter().filter_map(quotient).collect();
        let (high, low) = quotients.iter().filter(|(_, _, k)| *k > 0).find_map(|high| {
            let below = |low: &&(Self, Self, i64)| high.1 == low.1 && low.2 < 0 && (&high.0 - &low.0).is_nonneg();
            Some((high, quotients.iter().find(below)?))
        })?;
        let shared = Self::from(high.2.min(low.2.saturating_neg()));
        let whole = |(x, y, _): &(Self, Self, i64)| Self::atom(Atom::FloorDiv(x.clone(), y.clone()));
        Some(self - shared * (whole(high) - whole(low)))
    }

    /// `(x, c, k, rest)` with `self = k * floor(x / c) + rest`, for numbers `c` and `k`.
    fn linear_floor_div(&self) -> Option<(Self, i64, i64, Self)> {
        let mut terms = self.terms();
        let divides = |term: &Term| match term.atoms.as_slice() {
            [Atom::FloorDiv(x, y)] => Some((x.clone(), y.as_const().filter(|divisor| *divisor > 0)?, term.coeff)),
            _ => None,
        };
        let (place, (x, divisor, coeff)) = terms.iter().enumerate().find_map(|(place, term)| Some((place, divides(term)?)))?;
        terms.remove(place);
        Some((x, divisor, coeff, Self::from_terms(terms)))
    }

    /// Whether the value is proved to be at least one.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        (self - Self::ONE).is_nonneg()
    }

    /// Whether `0 <= self < limit` is proved.
    #[must_use]
    pub fn is_below(&self, limit: &Self) -> bool {
        self.is_nonneg() && (limit - self - Self::ONE).is_nonneg()
    }

    /// Whether `0 <= self < limit` is proved to fail somewhere inside loops that are not empty: at a corner, for any sizes.
    #[must_use]
    pub fn leaves(&self, limit: &Self) -> bool {
        let is_negative = |corner: Self| (-corner - Self::ONE).bounds().lo >= 0;
        let corner = |dim: &Self| dim.extreme(End::Least, Ways::Corner).is_some_and(is_negative);
        corner(self) || corner(&(limit - self - Self::ONE))
    }

    /// The greatest number that is known to divide every value (0 for the dim 0).
    #[must_use]
    pub fn known_multiple(&self) -> i64 {
        self.terms().iter().fold(0, |common: i64, term| {
            let own = term.atoms.iter().fold(term.coeff, |product: i64, atom| match atom {
                Atom::Sym(symbol) => product.saturating_mul(symbol.decl().multiple),
                Atom::Min(x, y) | Atom::Max(x, y) => product.saturating_mul(gcd(x.known_multiple(), y.known_multiple()).max(1)),
                Atom::Axis(_) | Atom::FloorDiv(..) | Atom::Mod(..) => product,
            });
            gcd(common, own)
        })
    }

    /// The value with what depends on axes put where it makes it least or greatest; `None` if some effect has no known sign.
    fn extreme(&self, end: End, ways: Ways) -> Option<Self> {
        let depends = |atom: &&Atom| atom.depends_on_axes();
        if self.terms().iter().any(|term| term.atoms.iter().filter(depends).count() > 2) {
            return None;
        }
        let mut value = self.clone();
        while let Some(atom) = value.top_level_loop(ways) {
            let (slope, rest) = value.split_linear(&atom)?;
            let end = if slope.is_nonneg() {
                end
            } else if (-slope.clone()).is_nonneg() {
                end.other()
            } else {
                return None;
            };
            let at_end = atom.extreme(end)?;
            // Products of many axes of symbolic sizes would grow without bound.
            if slope.term_count().saturating_mul(at_end.term_count()) > MAX_NODES {
                return None;
            }
            value = rest + slope * at_end;
        }
        Some(value)
    }

    /// Some factor of a term that depends on axes. The highest first: slopes may hold lower ones.
    fn top_level_loop(&self, ways: Ways) -> Option<Atom> {
        let terms = self.terms();
        let wanted = |atom: &&Atom| match ways {
            Ways::Corner => matches!(atom, Atom::Axis(_)),
            Ways::Bound => atom.depends_on_axes(),
        };
        terms.iter().flat_map(|term| &term.atoms).filter(wanted).max().cloned()
    }

    /// `(slope, rest)` with `self = slope * atom + rest`; `None` where the atom occurs squared or inside another atom.
    fn split_linear(&self, atom: &Atom) -> Option<(Self, Self)> {
        let (mut slope, mut rest) = (Vec::new(), Vec::new());
        for mut term in self.terms() {
            match term.atoms.iter().filter(|x| *x == atom).count() {
                0 => rest.push(term),
                1 => {
                    term.atoms.retain(|x| x != atom);
                    slope.push(term);
                }
                _ => return None,
            }
        }
        Some((Self::from_terms(slope), Self::from_terms(rest)))
    }
}

/// Which end of a range.
#[derive(Clone, Copy)]
enum End {
    Least,
    Greatest,
}

/// What an extreme is good for.
#[derive(Clone, Copy)]
enum Ways {
    /// Only axes are put at their ends: some point of the loops has the value (what else depends on axes stays as it is).
    Corner,
    /// Quotients and remainders of axes too, what occurs twice at both of its ends: no point is beyond.
    Bound,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Least => Self::Greatest,
            Self::Greatest => Self::Least,
        }
    }
}

impl Term {
    fn bounds(&self) -> Bounds {
        self.atoms.iter().fold(Bounds::exact(self.coeff), |product, atom| product.mul(atom.bounds()))
    }
}

impl Atom {
    fn depends_on_axes(&self) -> bool {
        match self {
            Self::Sym(_) => false,
            Self::Axis(_) => true,
            Self::FloorDiv(x, y) | Self::Mod(x, y) | Self::Min(x, y) | Self::Max(x, y) => {
                !x.axes().is_empty() || !y.axes().is_empty()
            }
        }
    }

    /// A bound of the atom without axes, at this end of its range.
    fn extreme(&self, end: End) -> Option<Dim> {
        let both = |x: &Dim, y: &Dim| Some((x.extreme(end, Ways::Bound)?, y.extreme(end, Ways::Bound)?));
        match (self, end) {
            (Self::Sym(_), _) => Some(Dim::atom(self.clone())),
            (Self::Axis(_), End::Least) => Some(Dim::ZERO),
            (Self::Axis(axis), End::Greatest) => Some(&axis.size - Dim::ONE),
            // Rises with `x`, for a divisor that stays.
            (Self::FloorDiv(x, y), _) if y.axes().is_empty() => Some(x.extreme(end, Ways::Bound)?.floor_div(y)),
            (Self::Mod(_, y), _) if y.axes().is_empty() => Some(if matches!(end, End::Least) { Dim::ZERO } else { y - Dim::ONE }),
            (Self::FloorDiv(..) | Self::Mod(..), _) => None,
            (Self::Min(x, y), _) => both(x, y).map(|(x, y)| x.min_with(&y)),
            (Self::Max(x, y), _) => both(x, y).map(|(x, y)| x.max_with(&y)),
        }
    }

    fn bounds(&self) -> Bounds {
        match self {
            Self::Sym(symbol) => Bounds { lo: symbol.decl().lo, hi: symbol.decl().hi },
            Self::Axis(axis) => Bounds { lo: 0, hi: axis.size.bounds().hi.saturating_sub(1).max(0) },
            Self::FloorDiv(x, y) => floor_div(x.bounds(), y.bounds()),
            Self::Mod(x, y) => {
                let (x, y) = (x.bounds(), y.bounds());
                let hi = y.hi.saturating_sub(1).max(0);
                Bounds { lo: 0, hi: if x.lo >= 0 { hi.min(x.hi) } else { hi } }
            }
            Self::Min(x, y) => {
                let (x, y) = (x.bounds(), y.bounds());
                Bounds { lo: x.lo.min(y.lo), hi: x.hi.min(y.hi) }
            }
            Self::Max(x, y) => {
                let (x, y) = (x.bounds(), y.bounds());
                Bounds { lo: x.lo.max(y.lo), hi: x.hi.max(y.hi) }
            }
        }
    }
}

fn floor_div(x: Bounds, y: Bounds) -> Bounds {
    // A divisor is at least one wherever the division is executed.
    let (least, most) = (y.lo.max(1), y.hi.max(1));
    Bounds {
        lo: if x.lo >= 0 { x.lo.div_euclid(most) } else { x.lo.div_euclid(least) },
        hi: if x.hi >= 0 { x.hi.div_euclid(least) } else { x.hi.div_euclid(most) },
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dim, Sizes, Symbol};

    fn n() -> Dim {
        Dim::sym(&Symbol::new("n"))
    }

    #[test]
    fn equal_polynomials_are_equal_dims() {
        let (n, m) = (n(), Dim::sym(&Symbol::new("m")));
        assert_eq!((&n + &m) * (&n - &m), &n * &n - &m * &m);
        assert_eq!((&n * Dim::from(24) * Dim::from(24)).to_string(), "576*n");
        assert_eq!((&n - &n), Dim::ZERO);
    }

    #[test]
    fn an_index_split_by_its_row_length_gives_row_and_column() {
        let (rows, columns) = (n(), Dim::from(576));
        let (row, column) = (Dim::axis(0, &rows), Dim::axis(1, &columns));
        let flat = &row * &columns + &column;
        assert_eq!(flat.floor_div(&columns), row);
        assert_eq!(flat.modulo(&columns), column);
    }

    #[test]
    fn symbolic_row_lengths_split_too() {
        let s = Dim::sym(&Symbol::new("s"));
        let (row, column) = (Dim::axis(0, &n()), Dim::axis(1, &s));
        let flat = &row * &s + &column;
        assert_eq!(flat.floor_div(&s), row);
        assert_eq!(flat.modulo(&s), column);
    }

    #[test]
    fn a_padded_window_is_not_proved_inside() {
        let (x, k) = (Dim::axis(0, &Dim::from(24)), Dim::axis(1, &Dim::from(3)));
        assert!(!(&x + &k - Dim::ONE).is_nonneg());
        assert!((&x + &k).is_below(&Dim::from(26)));
        assert!(!(&x + &k).is_below(&Dim::from(25)));
    }

    /// What is left of a size that was halved again and again, and grown back.
    #[test]
    fn what_halving_leaves_is_not_negative() {
        let mut size = Dim::sym(&Symbol::new("s"));
        for _ in 0..4 {
            let half = size.floor_div(&Dim::from(2));
            let left = &size - &half * Dim::from(2);
            assert!(left.is_nonneg() && (Dim::ONE - &left).is_nonneg(), "{left}");
            assert!(!(left - Dim::ONE).is_nonneg(), "it may be even");
            size = half;
        }
    }

    #[test]
    fn leaving_is_proved_at_corners() {
        let (row, ten) = (Dim::axis(0, &n()), Dim::from(10));
        assert!((&row + Dim::ONE).leaves(&n()), "the last row's neighbour");
        assert!((&row - Dim::ONE).leaves(&n()), "the first row's neighbour");
        assert!(!row.leaves(&n()));
        assert!(!row.leaves(&ten), "n may be ten or less");
        assert!(ten.leaves(&ten) && !Dim::ZERO.leaves(&ten));
    }

    #[test]
    fn parts_of_a_position_are_proved_inside() {
        let s = Dim::sym(&Symbol::ranged("s", 1, 1 << 20, 1));
        let flat = Dim::axis(0, &(n() * Dim::from(784)));
        assert!(flat.floor_div(&Dim::from(784)).is_below(&n()));
        assert!(!flat.floor_div(&Dim::from(783)).is_below(&n()));
        assert!(flat.modulo(&Dim::from(784)).floor_div(&Dim::from(28)).is_below(&Dim::from(28)));
        let rows = Dim::axis(1, &(n() * &s));
        assert!(rows.modulo(&s).is_below(&s));
        assert!(rows.floor_div(&s).is_below(&n()));
    }

    #[test]
    fn sizes_that_were_rounded_up_are_compared() {
        let rounded = |size: i64| (n() * Dim::from(size)).round_up(64);
        assert!((rounded(400) - rounded(40)).is_nonneg());
        assert!((rounded(40) - n() * Dim::from(40)).is_nonneg());
        assert!((rounded(784) - rounded(150) - rounded(96)).is_nonneg());
        assert!((rounded(400) - rounded(390)).is_nonneg());
        assert!(!(rounded(40) - rounded(400)).is_nonneg());
        assert!(!(rounded(128) - rounded(100) - rounded(20)).is_nonneg(), "not so for n = 1");
        assert!(!(n() * Dim::from(40) - rounded(40)).is_nonneg());
    }

    #[test]
    fn nested_divisions_collapse_and_values_agree() {
        let x = n() + Dim::from(5);
        let nested = x.floor_div(&Dim::from(4)).floor_div(&Dim::from(3));
        assert_eq!(nested, x.floor_div(&Dim::from(12)));
        for value in 0..50 {
            let sizes = Sizes::from([("n".to_owned(), value)]);
            assert_eq!(nested.eval(&sizes), Ok((value + 5) / 12));
            assert_eq!((n() * Dim::from(6) + Dim::from(9)).floor_div(&Dim::from(4)).eval(&sizes), Ok((value * 6 + 9) / 4));
        }
    }

    #[test]
    fn overflow_is_an_error_not_a_wrap() {
        let big = n() * n() * n();
        assert!(big.eval(&Sizes::from([("n".to_owned(), 1 << 40)])).is_err());
        assert!(n().eval(&Sizes::new()).is_err());
    }
}
