//! Logarithms, for `f32`.

use super::polynomial;
use crate::vector::{Binary, Builder, Compare, Elem, Shift, Val};

/// `(log(1 + f) - f + f^2/2) / f^3` for `sqrt(1/2) <= 1 + f <= sqrt(2)`, within 2.9e-8.
const LOG: [f32; 9] = [
    3.333333e-01,
    -2.4999997e-01,
    2.0000716e-01,
    -1.6667803e-01,
    1.4249058e-01,
    -1.2425687e-01,
    1.168542e-01,
    -1.1479734e-01,
    6.971612e-02,
];
const LN2: [f32; 2] = [0.693_359_4, -0.000_212_194_44];

/// The natural logarithm; minus infinity of 0, NaN below.
pub(super) fn log(b: &mut Builder, x: Val) -> Val {
    // Denormals are scaled up.
    let (least, scale) = (b.f32(f32::MIN_POSITIVE), b.f32(8_388_608.0));
    let denormal = b.compare(Compare::Lt, x, least);
    let scaled = b.mul(x, scale);
    let normal = b.select(denormal, scaled, x);
    let (zero, shift) = (b.f32(0.0), b.f32(-23.0));
    let offset = b.select(denormal, shift, zero);
    let (exponent, f) = split(b, normal);
    let exponent = b.add(exponent, offset);
    let result = log_split(b, exponent, f);
    specials(b, x, result)
}

/// `x = 2^e (1 + f)` as `(e, f)`, `sqrt(1/2) <= 1 + f < sqrt(2)`.
fn split(b: &mut Builder, x: Val) -> (Val, Val) {
    let bits = b.bitcast(x, Elem::I32);
    // From the bits of sqrt(1/2) up, the exponent field counts.
    let root = b.constant(Elem::I32, u64::from(std::f32::consts::FRAC_1_SQRT_2.to_bits()));
    let distance = b.sub(bits, root);
    let exponent = b.shift(Shift::Arithmetic, distance, 23);
    let field = b.shift(Shift::Left, exponent, 23);
    let mantissa = b.sub(bits, field);
    let mantissa = b.bitcast(mantissa, Elem::F32);
    let one = b.f32(1.0);
    (b.cast(exponent, Elem::F32), b.sub(mantissa, one))
}

/// `e log(2) + log(1 + f)`, the small parts first.
fn log_split(b: &mut Builder, e: Val, f: Val) -> Val {
    let square = b.mul(f, f);
    let tail = polynomial(b, f, &LOG);
    let cube = b.mul(square, f);
    let low = b.f32(LN2[1]);
    let low = b.mul(e, low);
    let sum = b.fma(tail, cube, low);
    let half = b.f32(-0.5);
    let sum = b.fma(square, half, sum);
    let sum = b.add(f, sum);
    let high = b.f32(LN2[0]);
    b.fma(e, high, sum)
}

/// What the formula does not give: 0, infinity, negative numbers and NaN.
fn specials(b: &mut Builder, x: Val, result: Val) -> Val {
    let (zero, infinity, nan) = (b.f32(0.0), b.f32(f32::INFINITY), b.f32(f32::NAN));
    let minus_infinity = b.f32(f32::NEG_INFINITY);
    let below_infinity = b.compare(Compare::Lt, x, infinity);
    // Infinity and NaN are their own logarithms.
    let result = b.select(below_infinity, result, x);
    let is_zero = b.compare(Compare::Eq, x, zero);
    let result = b.select(is_zero, minus_infinity, result);
    let negative = b.compare(Compare::Lt, x, zero);
    b.select(negative, nan, result)
}

/// `log(1 + x) = log(u) + (x - (u - 1)) / u` with `u = 1 + x` as it was rounded.
pub(super) fn log1p(b: &mut Builder, x: Val) -> Val {
    let one = b.f32(1.0);
    let u = b.add(x, one);
    // For large `x` the lost part is taken from the other side.
    let back = b.sub(u, one);
    let lost_small = b.sub(x, back);
    let rest = b.sub(u, x);
    let lost_large = b.sub(one, rest);
    let large = b.compare(Compare::Gt, x, one);
    let lost = b.select(large, lost_large, lost_small);
    let correction = b.binary(Binary::Div, lost, u);
    let (exponent, f) = split(b, u);
    let main = log_split(b, exponent, f);
    let sum = b.add(main, correction);
    let result = specials(b, u, sum);
    // Tiny numbers are their own answers, the sign of zero too.
    let (magnitude, tiny) = (b.unary(crate::vector::Unary::Abs, x), b.f32(1e-7));
    let is_tiny = b.compare(Compare::Lt, magnitude, tiny);
    b.select(is_tiny, x, result)
}
