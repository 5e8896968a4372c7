//! What can be proved of a dim: intervals over the declared ranges, and signs by putting axes at their extremes.
//!
//! Everything here is sound and incomplete: `false` means "not proved". Axes are assumed to be inside their loops, so an
//! axis of size `s` obeys `0 <= a <= s - 1` (where `s` is 0 nothing is executed, and anything may be said).

use super::arith::gcd;
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
        self.terms().iter().fold(Bounds::exact(0), |sum, term| sum.add(term.bounds()))
    }

    /// Whether the value is proved to be zero or more, for all sizes and inside all loops.
    #[must_use]
    pub fn is_nonneg(&self) -> bool {
        self.bounds().lo >= 0 || self.least_over_axes().is_some_and(|least| least.bounds().lo >= 0)
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
        self.least_over_axes().is_some_and(is_negative) || (limit - self - Self::ONE).least_over_axes().is_some_and(is_negative)
    }

    /// The greatest number that is known to divide every value (0 for the dim 0).
    #[must_use]
    pub fn known_multiple(&self) -> i64 {
        self.terms().iter().fold(0, |common: i64, term| {
            let own = term.atoms.iter().fold(term.coeff, |product: i64, atom| match atom {
                Atom::Sym(symbol) => product.saturating_mul(symbol.decl().multiple),
                Atom::Axis(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => product,
            });
            gcd(common, own)
        })
    }

    /// The value with every axis put where it makes it least; `None` if some axis' effect has no known sign, or if axes
    /// are multiplied by more than one other: the signs of slopes are proved in the same way, once for every factor.
    fn least_over_axes(&self) -> Option<Self> {
        let is_axis = |atom: &&Atom| matches!(atom, Atom::Axis(_));
        if self.terms().iter().any(|term| term.atoms.iter().filter(is_axis).count() > 2) {
            return None;
        }
        let mut least = self.clone();
        while let Some(axis) = least.top_level_axis() {
            let (slope, rest) = least.split_linear(&axis)?;
            let Atom::Axis(var) = &axis else { return None };
            // Products of many axes of symbolic sizes would grow without bound.
            if slope.term_count().saturating_mul(var.size.term_count() + 1) > MAX_NODES {
                return None;
            }
            least = if slope.is_nonneg() {
                rest
            } else if (-slope.clone()).is_nonneg() {
                rest + slope * (&var.size - Self::ONE)
            } else {
                return None;
            };
        }
        Some(least)
    }

    /// Some axis that is a factor of a term. The highest first: slopes may hold lower ones.
    fn top_level_axis(&self) -> Option<Atom> {
        let terms = self.terms();
        terms.iter().flat_map(|term| &term.atoms).filter(|atom| matches!(atom, Atom::Axis(_))).max().cloned()
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

impl Term {
    fn bounds(&self) -> Bounds {
        self.atoms.iter().fold(Bounds::exact(self.coeff), |product, atom| product.mul(atom.bounds()))
    }
}

impl Atom {
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
