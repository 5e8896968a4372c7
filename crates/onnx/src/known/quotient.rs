//! Floats that are computed of sizes: quotients of integer expressions, as exporters spell a half of a size.
//!
//! Exact is what has a power of two below: floats of 32 bits hold it, and its sums and products, while sizes are below 2^24 or so. Another
//! quotient is rounded once. That leaves its floor and its ceiling what they are, for such sizes; it is not computed with any further.

use graver_ir::{Dim, ScalarFn};

use super::apply;

/// The most binary digits behind the point of a number that is followed.
const DIGITS: i32 = 8;
/// What such a number is times a power of two is below this, so that its product with a size of as much is exact in 24 digits.
const MOST: f64 = 4096.0;

/// `over / under`: what it is where `under` is positive.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quotient {
    over: Dim,
    under: Dim,
}

impl Quotient {
    fn new(over: Dim, under: Dim) -> Self {
        match over.exact_div(&under) {
            Some(whole) => Self::from(whole),
            None => Self { over, under },
        }
    }

    /// A number of few digits.
    pub(crate) fn number(value: f64) -> Option<Self> {
        let scaled = |digits: i32| value * f64::from(digits).exp2();
        #[expect(clippy::float_cmp, reason = "whether it is a whole number")]
        let digits = (0..=DIGITS).find(|digits| scaled(*digits) == scaled(*digits).trunc())?;
        let over = scaled(digits);
        #[expect(clippy::cast_possible_truncation, reason = "a whole number, and bounded")]
        (over.abs() < MOST).then(|| Self { over: Dim::from(over as i64), under: Dim::from(1i64 << digits) })
    }

    /// The size, if it is one.
    pub(crate) fn whole(&self) -> Option<&Dim> {
        self.under.is(1).then_some(&self.over)
    }

    /// The number, if it is one.
    #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^53")]
    pub(crate) fn as_number(&self) -> Option<f64> {
        Some(self.over.as_const()? as f64 / self.under.as_const()? as f64)
    }

    /// A size times this, where that is a size.
    pub(crate) fn times(&self, size: &Dim) -> Option<Dim> {
        (size * &self.over).exact_div(&self.under)
    }

    fn is_exact(&self) -> bool {
        self.under.as_const().is_some_and(|under| under > 0 && under & (under - 1) == 0)
    }

    fn floor(&self) -> Option<Dim> {
        self.under.is_positive().then(|| self.over.floor_div(&self.under))
    }

    fn ceil(&self) -> Option<Dim> {
        self.under.is_positive().then(|| self.over.ceil_div(&self.under))
    }

    /// As a cast makes an integer of it: rounded towards zero.
    pub(crate) fn truncated(&self) -> Option<Dim> {
        if self.under.is(1) || self.over.is_nonneg() { self.floor() } else { None }
    }

    fn by(&self, divisor: &Self) -> Option<Self> {
        let exact = self.is_exact() && divisor.is_exact() && divisor.over.as_const().is_none_or(|over| over > 0);
        exact.then(|| Self::new(&self.over * &divisor.under, &self.under * &divisor.over))
    }
}

impl From<Dim> for Quotient {
    fn from(over: Dim) -> Self {
        Self { over, under: Dim::ONE }
    }
}

/// Exact values over what is below all of them.
fn common(args: &[&Quotient]) -> Option<(Vec<Dim>, Dim)> {
    let unders: Option<Vec<i64>> = args.iter().map(|x| x.under.as_const().filter(|_| x.is_exact())).collect();
    // The greatest of powers of two is a multiple of all.
    let most = unders?.into_iter().max()?;
    let overs = args.iter().map(|x| Some(&x.over * Dim::from(most / x.under.as_const()?))).collect::<Option<_>>()?;
    Some((overs, Dim::from(most)))
}

/// A scalar function of floats.
pub(super) fn apply_floats(function: ScalarFn, args: &[&Quotient]) -> Option<Quotient> {
    let of_common = |args: &[&Quotient]| {
        let (overs, under) = common(args)?;
        Some((apply(function, &overs.iter().collect::<Vec<_>>())?, under))
    };
    let y = match (function, args) {
        (ScalarFn::Floor, [x]) => x.floor()?.into(),
        (ScalarFn::Ceil, [x]) => x.ceil()?.into(),
        (ScalarFn::Round, [x]) => x.whole()?.clone().into(),
        (ScalarFn::Div, [x, y]) => x.by(y)?,
        (ScalarFn::Mul, [x, y]) if x.is_exact() && y.is_exact() => Quotient::new(&x.over * &y.over, &x.under * &y.under),
        (ScalarFn::Select, [c, x, y]) => {
            if c.whole()?.as_const()? == 0 {
                (*y).clone()
            } else {
                (*x).clone()
            }
        }
        (ScalarFn::Neg | ScalarFn::Abs | ScalarFn::Add | ScalarFn::Sub | ScalarFn::Max | ScalarFn::Min, args) => {
            let (over, under) = of_common(args)?;
            Quotient::new(over, under)
        }
        (ScalarFn::Eq | ScalarFn::Ne | ScalarFn::Lt | ScalarFn::Gt | ScalarFn::Le | ScalarFn::Ge, args) => {
            of_common(args)?.0.into()
        }
        _ => return None,
    };
    (y.over.is_small() && y.under.is_small()).then_some(y)
}
