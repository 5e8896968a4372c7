//! Comparison by error bounds: how far a result may lie from an `f64` reference, and why.

use graver_ir::{Array, DType, DTypeKind, Scalar, unravel};

/// An error bound: `|got - expected| <= relative * |expected| + absolute`.
///
/// It is derived, never tuned: `relative` is a number of rounding errors times [`eps`], `absolute` the same of the terms that
/// were summed, `eps * count * sum |term|` (Higham, 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Times the expected value.
    pub relative: f64,
    /// As it is.
    pub absolute: f64,
}

impl Bound {
    /// No error: the expected value rounded to the element type.
    pub const EXACT: Self = Self { relative: 0.0, absolute: 0.0 };

    /// `count` rounding errors of a result that is not a sum.
    #[must_use]
    pub fn ulps(dtype: DType, count: f64) -> Self {
        Self { relative: count * eps(dtype), absolute: 0.0 }
    }

    /// A sum of `terms` terms whose magnitudes add up to `magnitude`, in any order, accumulated in [`DType::compute`] and
    /// rounded once to `dtype`; each term may carry one rounding error of its own (a product).
    #[must_use]
    pub fn sum(dtype: DType, terms: usize, magnitude: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "an error bound")]
        let accumulated = eps(dtype.compute()) * (terms as f64 + 1.0) * magnitude;
        Self { relative: eps(dtype), absolute: accumulated }
    }

    /// The errors of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { relative: self.relative + other.relative, absolute: self.absolute + other.absolute }
    }
}

/// The distance from 1 to the next greater value of the type; 0 for integers and bool.
#[must_use]
pub const fn eps(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => 1.0 / (1u64 << 23) as f64,
        DType::F16 => 1.0 / (1u64 << 10) as f64,
        DType::BF16 => 1.0 / (1u64 << 7) as f64,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => 0.0,
    }
}

/// The least positive normal value; below it errors are absolute.
fn min_normal(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::MIN_POSITIVE,
        DType::F32 | DType::BF16 => f64::from(f32::MIN_POSITIVE),
        DType::F16 => 1.0 / f64::from(1 << 14),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => 0.0,
    }
}

/// Whether `got` lies within `bound` of the reference.
///
/// Floats: the reference is usually `f64`; NaN equals NaN, infinities must agree, zeros of both signs are equal, and where the
/// bound reaches past the greatest value of the type, infinity is right too. Integers and bool must be equal.
///
/// # Errors
/// Which element differs first, with both values; or that shapes or kinds of types differ.
///
/// ```
/// use graver_ir::{Array, DType};
/// use graver_testkit::{Bound, check_close};
/// let expected = Array::from_vec([2], vec![1.0, 0.1])?;
/// let got = Array::from_vec([2], vec![1.0f32, 0.1])?;
/// assert_eq!(check_close(&expected, &got, Bound::EXACT), Ok(()));
/// let wrong = Array::from_vec([2], vec![1.0f32, 0.2])?;
/// assert!(check_close(&expected, &wrong, Bound::ulps(DType::F32, 4.0)).is_err());
/// # Ok::<(), graver_ir::Diag>(())
/// ```
pub fn check_close(expected: &Array, got: &Array, bound: Bound) -> Result<(), String> {
    if expected.shape() != got.shape() {
        return Err(format!("shapes differ: expected {}, got {}", expected.ty(), got.ty()));
    }
    let (x, y) = (expected.dtype().kind(), got.dtype().kind());
    if x != y && !(is_integer(x) && is_integer(y)) {
        return Err(format!("types differ: expected {}, got {}", expected.ty(), got.ty()));
    }
    let wrong = |position: &usize| !is_close(expected.get(*position), got.get(*position), bound);
    match (0..got.numel()).find(wrong) {
        None => Ok(()),
        Some(position) => Err(report(expected, got, position, bound)),
    }
}

/// As [`check_close`], with a bound of its own for every element: how far each may be off.
///
/// # Errors
/// As [`check_close`].
///
/// # Panics
/// If the bounds have another shape than what is expected.
pub fn check_each(expected: &Array, got: &Array, bounds: &Array) -> Result<(), String> {
    assert_eq!(expected.shape(), bounds.shape(), "a bound for every element");
    // Shapes and kinds of types; any bound will do.
    check_close(expected, got, Bound { relative: f64::INFINITY, absolute: f64::INFINITY })?;
    let bound = |position: usize| Bound { relative: 0.0, absolute: bounds.get(position).as_f64() };
    let wrong = |position: &usize| !is_close(expected.get(*position), got.get(*position), bound(*position));
    match (0..got.numel()).find(wrong) {
        None => Ok(()),
        Some(position) => Err(report(expected, got, position, bound(position))),
    }
}

fn is_integer(kind: DTypeKind) -> bool {
    matches!(kind, DTypeKind::Signed | DTypeKind::Unsigned)
}

fn is_close(expected: Scalar, got: Scalar, bound: Bound) -> bool {
    if !got.dtype().is_float() {
        return expected.as_i128() == got.as_i128();
    }
    let (x, y) = (expected.as_f64(), got.as_f64());
    let rounded = Scalar::float(got.dtype(), x).as_f64();
    if x.is_nan() || y.is_nan() {
        return x.is_nan() && y.is_nan();
    }
    if rounded == y {
        return true;
    }
    let tolerance = bound.relative * x.abs().max(min_normal(got.dtype())) + bound.absolute;
    if x.is_infinite() || y.is_infinite() {
        let far = Scalar::float(got.dtype(), x + tolerance.copysign(x)).as_f64();
        return y.is_infinite() && far == y && !x.is_infinite();
    }
    // Where the reference rounds to infinity, the greatest value is as near as the type gets.
    (x - y).abs() <= tolerance || (rounded.is_infinite() && (x - y).abs() <= tolerance + eps(got.dtype()) * x.abs())
}

fn report(expected: &Array, got: &Array, position: usize, bound: Bound) -> String {
    let (x, y) = (expected.get(position), got.get(position));
    let index = unravel(position, got.shape());
    let wrong = (0..got.numel()).filter(|position| !is_close(expected.get(*position), got.get(*position), bound)).count();
    format!(
        "{} element {index:?}: expected {x}, got {y}, which differ by {:e}, more than {:e} * {:e} + {:e}; {wrong} of {} elements are wrong",
        got.ty(),
        (x.as_f64() - y.as_f64()).abs(),
        bound.relative,
        x.as_f64().abs(),
        bound.absolute,
        got.numel()
    )
}

#[cfg(test)]
mod tests {
    use graver_ir::{Array, DType, f16};

    use super::{Bound, check_close};

    fn check(expected: f64, got: Array, bound: Bound, close: bool) {
        let got = got.reshape([]).expect("one element");
        let result = check_close(&Array::scalar(expected), &got, bound);
        assert_eq!(result.is_ok(), close, "{expected} against {got:?}: {result:?}");
    }

    #[test]
    fn bounds_are_kept_and_no_more() {
        let eps = f64::from(f32::EPSILON);
        check(1.0, Array::scalar(1.0f32 + 2.0 * f32::EPSILON), Bound::ulps(DType::F32, 2.0), true);
        check(1.0, Array::scalar(1.0f32 + 3.0 * f32::EPSILON), Bound::ulps(DType::F32, 2.0), false);
        check(0.0, Array::scalar(f32::EPSILON), Bound { relative: 1.0, absolute: eps }, true);
        check(0.0, Array::scalar(3.0 * f32::EPSILON), Bound { relative: 1.0, absolute: eps }, false);
        check(0.1, Array::scalar(0.1f32), Bound::EXACT, true);
    }

    #[test]
    fn nan_infinity_and_overflow() {
        let loose = Bound::ulps(DType::F16, 1.0);
        check(f64::NAN, Array::scalar(f32::NAN), Bound::EXACT, true);
        check(f64::NAN, Array::scalar(1.0f32), loose, false);
        check(1.0, Array::scalar(f32::NAN), loose, false);
        check(1e9, Array::scalar(f16::INFINITY), Bound::EXACT, true);
        check(1e9, Array::scalar(f16::NEG_INFINITY), loose, false);
        check(65_500.0, Array::scalar(f16::INFINITY), loose, true);
        check(60_000.0, Array::scalar(f16::INFINITY), loose, false);
        check(f64::INFINITY, Array::scalar(f16::MAX), loose, false);
        check(65_530.0, Array::scalar(f16::MAX), loose, true);
        check(1e9, Array::scalar(f16::MAX), loose, false);
    }

    #[test]
    fn integers_are_exact_and_the_message_names_the_place() {
        let x = Array::from_vec([2, 2], vec![1i64, 2, 3, 4]).expect("four");
        let y = Array::from_vec([2, 2], vec![1i32, 2, 3, 5]).expect("four");
        let message = check_close(&x, &y, Bound { relative: 1.0, absolute: 9.0 }).expect_err("4 is not 5");
        assert!(message.contains("element [1, 1]: expected 4, got 5"), "{message}");
        assert!(check_close(&x, &x.reshape([4]).expect("four"), Bound::EXACT).is_err());
        assert!(check_close(&x, &x.cast(DType::F32), Bound::EXACT).is_err());
    }
}
