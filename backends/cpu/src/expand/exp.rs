//! The exponential and what is made of it, for `f32`.

use super::{clamp, copysign, polynomial};
use crate::vector::{Binary, Builder, Compare, Elem, Shift, Unary, Val};

/// `(e^r - 1 - r) / r^2` for `|r| <= log(2) / 2`, within 6.5e-8.
const EXP: [f32; 5] = [0.5, 1.6666578e-01, 4.1666556e-02, 8.363173e-03, 1.3926176e-03];
/// `log(2)` in two parts, the first exact when multiplied by an exponent.
const LN2: [f32; 2] = [0.693_359_4, -0.000_212_194_44];

/// Adding it to a float of at most 22 bits leaves the nearest integer in the low bits: `1.5 * 2^23`.
const MAGIC: f32 = 12_582_912.0;

/// `x = n log(2) + r`.
struct Reduced {
    /// As a float.
    n: Val,
    /// As an `i32`.
    exponent: Val,
    /// `e^r - 1`
    minus_one: Val,
}

fn reduce(b: &mut Builder, x: Val) -> Reduced {
    let (log2e, magic) = (b.f32(std::f32::consts::LOG2_E), b.f32(MAGIC));
    let shifted = b.fma(x, log2e, magic);
    let n = b.sub(shifted, magic);
    let (bits, magic) = (b.bitcast(shifted, Elem::I32), b.constant(Elem::I32, u64::from(MAGIC.to_bits())));
    let exponent = b.sub(bits, magic);
    let (high, low) = (b.f32(-LN2[0]), b.f32(-LN2[1]));
    let r = b.fma(n, high, x);
    let r = b.fma(n, low, r);
    let tail = polynomial(b, r, &EXP);
    let square = b.mul(r, r);
    Reduced { n, exponent, minus_one: b.fma(tail, square, r) }
}

/// `2^n` for an `i32` of `-126..=127`.
fn power_of_two(b: &mut Builder, n: Val) -> Val {
    let bias = b.constant(Elem::I32, 127);
    let exponent = b.add(n, bias);
    let bits = b.shift(Shift::Left, exponent, 23);
    b.bitcast(bits, Elem::F32)
}

/// `e^x`, which may be denormal.
pub(super) fn exp(b: &mut Builder, x: Val) -> Val {
    let x = clamp(b, x, -104.0, 89.0);
    let Reduced { n, minus_one, .. } = reduce(b, x);
    let one = b.f32(1.0);
    let e = b.add(minus_one, one);
    b.binary(Binary::Scale, e, n)
}

/// `e^x - 1 = 2^n ((e^r - 1) + (1 - 2^-n))`, where nothing is lost near 0.
pub(super) fn expm1(b: &mut Builder, x: Val) -> Val {
    let x = clamp_keep_zero(b, x);
    let Reduced { n, exponent, minus_one } = reduce(b, x);
    let (zero, least) = (b.constant(Elem::I32, 0), b.constant(Elem::I32, u64::from((-126i32).cast_unsigned())));
    let negated = b.sub(zero, exponent);
    let negated = b.binary(Binary::Max, negated, least);
    let inverse = power_of_two(b, negated);
    let one = b.f32(1.0);
    let rest = b.sub(one, inverse);
    let sum = b.add(minus_one, rest);
    let result = b.binary(Binary::Scale, sum, n);
    // Near 0 the scaling is by 1, and tiny results must not be halved into denormals.
    let zero = b.f32(0.0);
    let small = b.compare(Compare::Eq, n, zero);
    b.select(small, minus_one, result)
}

/// Below -30 the answer is -1; above 89 infinity.
fn clamp_keep_zero(b: &mut Builder, x: Val) -> Val {
    clamp(b, x, -30.0, 89.0)
}

/// `1 / (1 + e^-x)`, by `e^-|x|` so that neither side overflows.
pub(super) fn sigmoid(b: &mut Builder, x: Val) -> Val {
    let magnitude = b.unary(Unary::Abs, x);
    let negated = b.unary(Unary::Neg, magnitude);
    let e = exp(b, negated);
    let (one, zero) = (b.number(b.ty(x).elem, 1), b.number(b.ty(x).elem, 0));
    let denominator = b.add(e, one);
    let positive = b.compare(Compare::Ge, x, zero);
    let numerator = b.select(positive, one, e);
    b.binary(Binary::Div, numerator, denominator)
}

/// `t / (t + 2)` with `t = e^(2|x|) - 1`, and the sign of `x`.
pub(super) fn tanh(b: &mut Builder, x: Val) -> Val {
    let magnitude = b.unary(Unary::Abs, x);
    let limited = clamp(b, magnitude, 0.0, 10.0);
    let (two, doubled) = (b.f32(2.0), b.add(limited, limited));
    let t = expm1(b, doubled);
    let denominator = b.add(t, two);
    let result = b.binary(Binary::Div, t, denominator);
    copysign(b, result, x)
}
