//! Functions that the standard library lacks, in `f64`.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};

/// The error function, to a few units in the last place.
///
/// Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964): below 1.5 the series 7.1.6, whose terms are all
/// positive, so that nothing cancels; above, one less the continued fraction 7.1.14 of the complement, which is below 0.04 there.
///
/// ```
/// assert!((graver_interp::erf(0.5) - 0.520_499_877_813_046_5).abs() < 1e-15);
/// ```
#[must_use]
pub fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    if x.is_nan() {
        x
    } else if magnitude < 1.5 {
        erf_series(x)
    } else if magnitude < 6.0 {
        (1.0 - erfc_fraction(magnitude)).copysign(x)
    } else {
        // The complement is below 2^-54.
        1f64.copysign(x)
    }
}

/// `2/sqrt(pi) * e^(-x^2) * sum of 2^n x^(2n+1) / (1 * 3 * .. * (2n+1))`
fn erf_series(x: f64) -> f64 {
    let square = x * x;
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    // The terms' ratio falls: once they are small they stay so.
    while term.abs() > sum.abs() * 1e-18 {
        odd += 2.0;
        term *= 2.0 * square / odd;
        sum += term;
    }
    FRAC_2_SQRT_PI * (-square).exp() * sum
}

/// `e^(-x^2)/sqrt(pi) * 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ..))))`, for `x >= 1.5`
fn erfc_fraction(x: f64) -> f64 {
    let denominator = (1..=150).rev().fold(x, |rest, k| x + f64::from(k) / 2.0 / rest);
    (-x * x).exp() / (PI.sqrt() * denominator)
}

/// `1 / (1 + e^-x)` without overflow on either side.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of arbitrary-precision software, to 17 digits.
    #[test]
    fn erf_is_accurate() {
        let rows: [(f64, f64); 19] = [
            (1e-300, 1.1283791670955126e-300),
            (1e-10, 1.1283791670955126e-10),
            (0.0625, 0.07043197772238707),
            (0.5, 0.5204998778130465),
            (0.84375, 0.7672256612323416),
            (1.0, 0.8427007929497149),
            (1.4999, 0.9660932516622953),
            (1.5001, 0.9661170377204175),
            (1.5, 0.9661051464753108),
            (1.9375, 0.9938568063952132),
            (1.99999, 0.9953220583449658),
            (2.0, 0.9953222650189527),
            (2.5, 0.999593047982555),
            (3.0, 0.9999779095030014),
            (4.0, 0.9999999845827421),
            (5.0, 0.9999999999984626),
            (5.75, 0.9999999999999996),
            (6.0, 1.0),
            (6.5, 1.0),
        ];
        for (x, expected) in rows {
            let found = erf(x);
            assert!((found - expected).abs() <= 4e-16 * expected.abs(), "erf({x}) = {found:?}, not {expected:?}");
            assert_eq!(erf(-x), -found);
        }
    }

    #[test]
    fn erf_at_the_ends() {
        assert_eq!(erf(f64::INFINITY), 1.0);
        assert_eq!(erf(f64::NEG_INFINITY), -1.0);
        assert!(erf(f64::NAN).is_nan());
        assert_eq!(erf(-0.0).to_bits(), (-0.0f64).to_bits());
    }

    #[test]
    fn sigmoid_does_not_overflow() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(1000.0), 1.0);
        assert_eq!(sigmoid(-1000.0), 0.0);
        assert!((sigmoid(-700.0) / (-700f64).exp() - 1.0).abs() < 1e-15);
        assert!(sigmoid(f64::NAN).is_nan());
    }
}
