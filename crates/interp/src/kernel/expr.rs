//! Index expressions as they are written: symbols are numbers, nothing is simplified, so that a wrong rewrite of a [`Dim`]
//! cannot hide here.

use graver_ir::dim::{Atom, DimError};
use graver_ir::{Diag, Dim, Sizes};

/// A [`Dim`] for given sizes, to be evaluated at points.
pub(super) struct Expr {
    text: String,
    terms: Vec<Term>,
}

struct Term {
    coeff: i64,
    factors: Vec<Factor>,
}

enum Factor {
    Number(i64),
    Axis(usize),
    FloorDiv(Expr, Expr),
    Mod(Expr, Expr),
    Min(Expr, Expr),
    Max(Expr, Expr),
}

/// A value of an axis at a point of a stage that does not visit it.
pub(super) const UNVISITED: i64 = i64::MIN;

impl Expr {
    pub(super) fn new(dim: &Dim, sizes: &Sizes) -> Result<Self, Diag> {
        let term = |term: graver_ir::dim::Term| {
            let factors = term.atoms.iter().map(|atom| factor(atom, sizes)).collect::<Result<_, _>>()?;
            Ok(Term { coeff: term.coeff, factors })
        };
        Ok(Self { text: dim.to_string(), terms: dim.terms().into_iter().map(term).collect::<Result<_, Diag>>()? })
    }

    /// The value at a point: one position an axis of the kernel.
    pub(super) fn at(&self, point: &[i64]) -> Result<i64, Diag> {
        self.terms.iter().try_fold(0i64, |sum, term| {
            let product = term.factors.iter().try_fold(term.coeff, |product, factor| {
                product.checked_mul(self.factor_at(factor, point)?).ok_or_else(|| self.fail(DimError::Overflow))
            })?;
            sum.checked_add(product).ok_or_else(|| self.fail(DimError::Overflow))
        })
    }

    fn factor_at(&self, factor: &Factor, point: &[i64]) -> Result<i64, Diag> {
        let positive = |y: i64| if y > 0 { Ok(y) } else { Err(self.fail(DimError::DivideByZero)) };
        match factor {
            Factor::Number(value) => Ok(*value),
            Factor::Axis(axis) => match point.get(*axis) {
                Some(value) if *value != UNVISITED => Ok(*value),
                Some(_) | None => Err(Diag::new(format!("{} uses axis {axis}, which is not visited here", self.text))),
            },
            Factor::FloorDiv(x, y) => Ok(x.at(point)?.div_euclid(positive(y.at(point)?)?)),
            Factor::Mod(x, y) => Ok(x.at(point)?.rem_euclid(positive(y.at(point)?)?)),
            Factor::Min(x, y) => Ok(x.at(point)?.min(y.at(point)?)),
            Factor::Max(x, y) => Ok(x.at(point)?.max(y.at(point)?)),
        }
    }

    fn fail(&self, error: fn(String) -> DimError) -> Diag {
        Diag::new(error(self.text.clone()).to_string())
    }
}

fn factor(atom: &Atom, sizes: &Sizes) -> Result<Factor, Diag> {
    let both = |x: &Dim, y: &Dim| Ok((Expr::new(x, sizes)?, Expr::new(y, sizes)?));
    match atom {
        Atom::Sym(symbol) => sizes
            .get(symbol.name())
            .map(|size| Factor::Number(*size))
            .ok_or_else(|| Diag::new(DimError::Unbound(symbol.name().to_owned()).to_string())),
        Atom::Axis(axis) => Ok(Factor::Axis(axis.id as usize)),
        Atom::FloorDiv(x, y) => both(x, y).map(|(x, y)| Factor::FloorDiv(x, y)),
        Atom::Mod(x, y) => both(x, y).map(|(x, y)| Factor::Mod(x, y)),
        Atom::Min(x, y) => both(x, y).map(|(x, y)| Factor::Min(x, y)),
        Atom::Max(x, y) => both(x, y).map(|(x, y)| Factor::Max(x, y)),
    }
}

/// The values of sizes that depend on symbols alone.
pub(super) fn sizes_of(dims: &[Dim], sizes: &Sizes) -> Result<Vec<i64>, Diag> {
    dims.iter().map(|dim| size_of(dim, sizes)).collect()
}

/// The value of a size that depends on symbols alone.
pub(super) fn size_of(dim: &Dim, sizes: &Sizes) -> Result<i64, Diag> {
    Expr::new(dim, sizes)?.at(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use graver_ir::Symbol;

    fn check(dim: &Dim, point: &[i64], expected: Result<i64, &str>) {
        let sizes = Sizes::from([("n".to_owned(), 5), ("zero".to_owned(), 0), ("huge".to_owned(), i64::MAX)]);
        let found = Expr::new(dim, &sizes).and_then(|expr| expr.at(point)).map_err(|diag| diag.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn expressions_have_the_values_of_their_dims() {
        let (n, axis) = (Dim::sym(&Symbol::new("n")), Dim::axis(1, &Dim::from(100)));
        check(&Dim::ZERO, &[], Ok(0));
        check(&(&n * &n * Dim::from(-2) + Dim::from(3)), &[], Ok(-47));
        check(&(&axis - &n).floor_div(&Dim::from(3)), &[UNVISITED, 1], Ok(-2));
        check(&(&axis - &n).modulo(&Dim::from(3)), &[UNVISITED, 1], Ok(2));
        check(&axis.min_with(&n).max_with(&Dim::from(2)), &[UNVISITED, 9], Ok(5));
        check(&axis.min_with(&n).max_with(&Dim::from(2)), &[UNVISITED, 1], Ok(2));
    }

    #[test]
    fn what_has_no_value_is_an_error() {
        let sym = |name: &str| Dim::sym(&Symbol::new(name));
        let axis = Dim::axis(0, &Dim::from(100));
        check(&axis, &[UNVISITED], Err("a0 uses axis 0, which is not visited here"));
        check(&sym("m"), &[], Err("the size `m` has no value"));
        check(&axis.floor_div(&sym("zero")), &[7], Err("the size floordiv(a0, zero) divides by zero"));
        check(&(sym("huge") + Dim::ONE), &[], Err("the size huge + 1 overflows 64 bits"));
    }
}
