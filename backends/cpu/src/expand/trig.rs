//! Sine and cosine, for `f32`. The argument is reduced in `f64`; beyond 2^28 a helper is called.

use super::polynomial;
use crate::vector::{Binary, Builder, Compare, Elem, Helper, Op, Unary, Val};

/// `(sin(r)/r - 1) / r^2` in `r^2`, for `|r| <= pi/4`, within 3e-11.
const SIN: [f32; 4] = [-1.6666667e-01, 8.333332e-03, -1.9840083e-04, 2.7249314e-06];
/// `(cos(r) - 1 + r^2/2) / r^4` in `r^2`, for `|r| <= pi/4`, within 3e-12.
const COS: [f32; 4] = [4.1666668e-02, -1.3888888e-03, 2.4800596e-05, -2.730045e-07];
/// `pi/2` in two parts; the first has 33 bits, so that products with a quadrant below 2^28 lose little.
const HALF_PI: [f64; 2] = [1.5707963267341256, 6.077100506506192e-11];
/// Beyond this the reduction is not accurate.
const HUGE: f32 = 268_435_456.0;

pub(super) fn sin(b: &mut Builder, x: Val) -> Val {
    of_quadrant(b, x, 0, Helper::SinF32)
}

pub(super) fn cos(b: &mut Builder, x: Val) -> Val {
    of_quadrant(b, x, 1, Helper::CosF32)
}

/// The sine of `x` plus `quarters` right angles.
fn of_quadrant(b: &mut Builder, x: Val, quarters: u32, helper: Helper) -> Val {
    let (quadrant, r) = reduce(b, x);
    let quarters = b.constant(Elem::I32, u64::from(quarters));
    let quadrant = b.add(quadrant, quarters);
    let square = b.mul(r, r);
    let sine = sine(b, r, square);
    let cosine = cosine(b, square);
    let (one, zero) = (b.constant(Elem::I32, 1), b.constant(Elem::I32, 0));
    let odd = b.and(quadrant, one);
    let odd = b.compare(Compare::Ne, odd, zero);
    let value = b.select(odd, cosine, sine);
    // Quadrants 2 and 3 are negative.
    let two = b.constant(Elem::I32, 2);
    let half = b.and(quadrant, two);
    let sign = b.shift(crate::vector::Shift::Left, half, 30);
    let bits = b.bitcast(value, Elem::I32);
    let bits = b.binary(Binary::Xor, bits, sign);
    let value = b.bitcast(bits, Elem::F32);
    let magnitude = b.unary(Unary::Abs, x);
    let huge = b.f32(HUGE);
    let is_huge = b.compare(Compare::Ge, magnitude, huge);
    b.op(Op::Patch { mask: is_huge, value, helper, arg: x })
}

/// `x = quadrant * pi/2 + r`.
fn reduce(b: &mut Builder, x: Val) -> (Val, Val) {
    let wide = b.cast(x, Elem::F64);
    let inverse = b.f64(std::f64::consts::FRAC_2_PI);
    let scaled = b.mul(wide, inverse);
    let quadrant = b.unary(Unary::Nearest, scaled);
    let (high, low) = (b.f64(-HALF_PI[0]), b.f64(-HALF_PI[1]));
    let r = b.fma(quadrant, high, wide);
    let r = b.fma(quadrant, low, r);
    // Adding 1.5 * 2^52 leaves the integer in the low bits.
    let magic = b.f64(6_755_399_441_055_744.0);
    let shifted = b.add(quadrant, magic);
    let bits = b.bitcast(shifted, Elem::I64);
    (b.cast(bits, Elem::I32), b.cast(r, Elem::F32))
}

fn sine(b: &mut Builder, r: Val, square: Val) -> Val {
    let tail = polynomial(b, square, &SIN);
    let cube = b.mul(square, r);
    b.fma(tail, cube, r)
}

/// `1 - h + (((1 - (1 - h)) - h) + c r^4)` with `h = r^2/2`: what rounding `1 - h` lost is added back.
fn cosine(b: &mut Builder, square: Val) -> Val {
    let tail = polynomial(b, square, &COS);
    let fourth = b.mul(square, square);
    let (half, one) = (b.f32(0.5), b.f32(1.0));
    let h = b.mul(square, half);
    let near = b.sub(one, h);
    let back = b.sub(one, near);
    let lost = b.sub(back, h);
    let rest = b.fma(tail, fourth, lost);
    b.add(near, rest)
}
