//! The error function and powers, for `f32`.

use super::exp::exp;
use super::{copysign, polynomial, polynomial_f64};
use crate::vector::{Binary, Builder, Compare, Elem, Shift, Unary, Val};

/// `erf(x)/x - 1` in `x^2`, for `|x| <= 1`, within 4e-11. Without the 1, rounding errors are an eighth.
const ERF: [f32; 8] =
    [0.128_379_16, -3.7612638e-01, 1.1283782e-01, -2.686543e-02, 5.2210316e-03, -8.4840803e-04, 1.1265959e-04, -9.667045e-06];
/// `log(1 - erf(x))` for `1 <= x <= 4`, within 1e-8.
const LOG_ERFC: [f32; 10] = [
    4.1632922e-04,
    -1.1306752e+00,
    -0.630_953,
    -1.1105502e-01,
    2.7099524e-02,
    -5.064947e-03,
    6.8583665e-04,
    -6.229835e-05,
    3.3216845e-06,
    -7.582682e-08,
];
/// `log2((1 + s)/(1 - s))/s` in `s^2`, for `|s| <= 0.172`, within 6e-16.
const LOG2: [f64; 7] = [
    2.885390081777927,
    0.961796693924232,
    0.5770780172926201,
    0.41219839452951484,
    0.32061693320147355,
    0.26142622173862223,
    0.2431378046690069,
];
/// `2^f` for `|f| <= 1/2`, within 2e-14.
const EXP2: [f64; 10] = [
    1.0000000000000135,
    0.6931471805599462,
    0.24022650695639908,
    0.0555041086646514,
    0.009618129194038007,
    0.0013333558200859905,
    0.0001540343367383866,
    1.525267287609254e-05,
    1.3259662936174463e-06,
    1.0205916556573999e-07,
];

/// The error function: odd; a polynomial up to 1, `1 - e^p(x)` beyond, 1 from 4 on.
pub(super) fn erf(b: &mut Builder, x: Val) -> Val {
    let magnitude = b.unary(Unary::Abs, x);
    let (four, one) = (b.f32(4.0), b.f32(1.0));
    // NaN stays NaN: the comparison fails.
    let limited = b.binary(Binary::MinFast, four, magnitude);
    let square = b.mul(limited, limited);
    let near = polynomial(b, square, &ERF);
    let near = b.fma(near, limited, limited);
    let exponent = polynomial(b, limited, &LOG_ERFC);
    let complement = exp(b, exponent);
    let far = b.sub(one, complement);
    let is_near = b.compare(Compare::Lt, limited, one);
    let result = b.select(is_near, near, far);
    copysign(b, result, x)
}

/// `x^y = 2^(y log2 |x|)` in `f64`, with the sign and the special cases of IEEE 754 `pow`.
pub(super) fn pow(b: &mut Builder, x: Val, y: Val) -> Val {
    let magnitude = b.unary(Unary::Abs, x);
    let wide = b.cast(magnitude, Elem::F64);
    let exponent = log2(b, wide);
    let wide_y = b.cast(y, Elem::F64);
    let product = b.mul(exponent, wide_y);
    let power = exp2(b, product);
    let power = b.cast(power, Elem::F32);
    signed_power(b, x, y, power)
}

/// The sign of an odd power of a negative number, NaN of a fractional one, and 1 of `x^0` and `1^y`.
fn signed_power(b: &mut Builder, x: Val, y: Val, power: Val) -> Val {
    let (zero, one, half, nan) = (b.f32(0.0), b.f32(1.0), b.f32(0.5), b.f32(f32::NAN));
    let floor = b.unary(Unary::Floor, y);
    let whole = b.compare(Compare::Eq, floor, y);
    let halved = b.mul(y, half);
    let halved_floor = b.unary(Unary::Floor, halved);
    let uneven = b.compare(Compare::Ne, halved_floor, halved);
    let odd = b.and(whole, uneven);
    let negative_power = copysign(b, power, x);
    let result = b.select(odd, negative_power, power);
    let negative = b.compare(Compare::Lt, x, zero);
    let minus_infinity = b.f32(f32::NEG_INFINITY);
    let finite = b.compare(Compare::Gt, x, minus_infinity);
    let fraction = b.unary(crate::vector::Unary::Not, whole);
    let undefined = b.and(negative, finite);
    let undefined = b.and(undefined, fraction);
    let result = b.select(undefined, nan, result);
    let (x_nan, y_nan) = (b.compare(Compare::Ne, x, x), b.compare(Compare::Ne, y, y));
    let any_nan = b.or(x_nan, y_nan);
    let result = b.select(any_nan, nan, result);
    // (-1)^(+-inf) = 1
    let (magnitude, infinity) = (b.unary(Unary::Abs, y), b.f32(f32::INFINITY));
    let unit = b.unary(Unary::Abs, x);
    let unit = b.compare(Compare::Eq, unit, one);
    let infinite = b.compare(Compare::Eq, magnitude, infinity);
    let unit_infinite = b.and(unit, infinite);
    let (x_one, y_zero) = (b.compare(Compare::Eq, x, one), b.compare(Compare::Eq, y, zero));
    let is_one = b.or(x_one, y_zero);
    let is_one = b.or(is_one, unit_infinite);
    b.select(is_one, one, result)
}

/// `log2(x)` of a nonnegative `f64` that was an `f32`; infinities for 0 and infinity.
fn log2(b: &mut Builder, x: Val) -> Val {
    let bits = b.bitcast(x, Elem::I64);
    let root = b.int(std::f64::consts::FRAC_1_SQRT_2.to_bits().cast_signed());
    let distance = b.sub(bits, root);
    // The exponent, moved up by 2048 so that the shift need not keep a sign.
    let bias = b.int(2048 << 52);
    let field = b.add(distance, bias);
    let biased = b.shift(Shift::Logical, field, 52);
    let up = b.int(2048);
    let exponent = b.sub(biased, up);
    let exponent_field = b.shift(Shift::Left, exponent, 52);
    let mantissa = b.sub(bits, exponent_field);
    let mantissa = b.bitcast(mantissa, Elem::F64);
    let one = b.f64(1.0);
    let (below, above) = (b.sub(mantissa, one), b.add(mantissa, one));
    let s = b.binary(Binary::Div, below, above);
    let square = b.mul(s, s);
    let series = polynomial_f64(b, square, &LOG2);
    let fraction = b.mul(series, s);
    // The integer as a float: in the low bits of 2^52 * 1.5 plus it.
    let magic = b.f64(6_755_399_441_055_744.0);
    let magic_bits = b.bitcast(magic, Elem::I64);
    let shifted = b.add(exponent, magic_bits);
    let shifted = b.bitcast(shifted, Elem::F64);
    let exponent = b.sub(shifted, magic);
    let sum = b.add(exponent, fraction);
    let (zero, infinity, minus) = (b.f64(0.0), b.f64(f64::INFINITY), b.f64(f64::NEG_INFINITY));
    let is_zero = b.compare(Compare::Eq, x, zero);
    let sum = b.select(is_zero, minus, sum);
    let is_infinite = b.compare(Compare::Eq, x, infinity);
    b.select(is_infinite, infinity, sum)
}

/// `2^x` within the range of `f32`, beyond which it gives 0 or what rounds to infinity.
fn exp2(b: &mut Builder, x: Val) -> Val {
    let (low, high) = (b.f64(-200.0), b.f64(200.0));
    let x = b.binary(Binary::MaxFast, low, x);
    let x = b.binary(Binary::MinFast, high, x);
    let n = b.unary(Unary::Nearest, x);
    let f = b.sub(x, n);
    let power = polynomial_f64(b, f, &EXP2);
    let magic = b.f64(6_755_399_441_055_744.0);
    let shifted = b.add(n, magic);
    let bits = b.bitcast(shifted, Elem::I64);
    let field = b.shift(Shift::Left, bits, 52);
    let power = b.bitcast(power, Elem::I64);
    let scaled = b.add(power, field);
    b.bitcast(scaled, Elem::F64)
}
