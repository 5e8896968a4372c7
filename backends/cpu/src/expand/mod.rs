//! Scalar functions as sequences of vector operations, at any width.
//!
//! Error bounds for `f32`, in units in the last place against `f64`, over the whole range with denormals, infinities and
//! NaN, as tested in `tests/functions.rs`: `exp log` 1, `sin cos expm1 log1p erf rsqrt` 1.5, `sigmoid pow` 2, `tanh` 2.5.
//! Where vectors have sixteen lanes, `erf` and `tanh` are looked up by pieces, within the same bounds.
//! `f64` transcendental functions call [`crate::helpers`] lane by lane. Polynomials interpolate their functions at Chebyshev
//! points, computed to 40 digits.

mod exp;
mod log;
mod philox;
mod pieces;
mod special;
mod trig;

use graver_ir::ScalarFn;

pub(crate) use philox::philox;

use crate::vector::{Binary, Builder, Compare, Elem, Helper, Op, Unary, Val};

/// The function of the operands, which have one type (but for a condition).
pub(crate) fn map(b: &mut Builder, function: ScalarFn, operands: &[Val]) -> Val {
    match operands {
        [x] => unary(b, function, *x),
        [x, y] => binary(b, function, *x, *y),
        [condition, x, y] => b.select(*condition, *x, *y),
        _ => unreachable!("a scalar function has one to three operands"),
    }
}

fn unary(b: &mut Builder, function: ScalarFn, x: Val) -> Val {
    let double = b.ty(x).elem == Elem::F64;
    match function {
        ScalarFn::Neg => b.unary(Unary::Neg, x),
        ScalarFn::Abs => b.unary(Unary::Abs, x),
        ScalarFn::Sign => sign(b, x),
        ScalarFn::Relu => relu(b, x),
        ScalarFn::Floor => b.unary(Unary::Floor, x),
        ScalarFn::Ceil => b.unary(Unary::Ceil, x),
        ScalarFn::Trunc => b.unary(Unary::Trunc, x),
        ScalarFn::Round => b.unary(Unary::Nearest, x),
        ScalarFn::Sqrt => b.unary(Unary::Sqrt, x),
        ScalarFn::Rsqrt => rsqrt(b, x),
        ScalarFn::Not => b.unary(Unary::Not, x),
        ScalarFn::IsNan => b.compare(Compare::Ne, x, x),
        ScalarFn::IsFinite => is_finite(b, x),
        ScalarFn::Exp if double => call(b, Helper::ExpF64, &[x]),
        ScalarFn::Expm1 if double => call(b, Helper::Expm1F64, &[x]),
        ScalarFn::Log if double => call(b, Helper::LogF64, &[x]),
        ScalarFn::Log1p if double => call(b, Helper::Log1pF64, &[x]),
        ScalarFn::Sin if double => call(b, Helper::SinF64, &[x]),
        ScalarFn::Cos if double => call(b, Helper::CosF64, &[x]),
        ScalarFn::Tanh if double => call(b, Helper::TanhF64, &[x]),
        ScalarFn::Erf if double => call(b, Helper::ErfF64, &[x]),
        ScalarFn::Sigmoid if double => sigmoid_f64(b, x),
        ScalarFn::Exp => exp::exp(b, x),
        ScalarFn::Expm1 => exp::expm1(b, x),
        ScalarFn::Sigmoid => exp::sigmoid(b, x),
        ScalarFn::Tanh if b.looks_up() => pieces::odd(b, x, &pieces::TANH),
        ScalarFn::Tanh => exp::tanh(b, x),
        ScalarFn::Log => log::log(b, x),
        ScalarFn::Log1p => log::log1p(b, x),
        ScalarFn::Sin => trig::sin(b, x),
        ScalarFn::Cos => trig::cos(b, x),
        ScalarFn::Erf if b.looks_up() => pieces::odd(b, x, &pieces::ERF),
        ScalarFn::Erf => special::erf(b, x),
        ScalarFn::Add
        | ScalarFn::Sub
        | ScalarFn::Mul
        | ScalarFn::Div
        | ScalarFn::Rem
        | ScalarFn::Pow
        | ScalarFn::Max
        | ScalarFn::Min
        | ScalarFn::And
        | ScalarFn::Or
        | ScalarFn::Xor
        | ScalarFn::Shl
        | ScalarFn::Shr
        | ScalarFn::Eq
        | ScalarFn::Ne
        | ScalarFn::Lt
        | ScalarFn::Le
        | ScalarFn::Gt
        | ScalarFn::Ge
        | ScalarFn::Select => unreachable!("arity: {function} of one operand"),
    }
}

fn binary(b: &mut Builder, function: ScalarFn, x: Val, y: Val) -> Val {
    let elem = b.ty(x).elem;
    match function {
        ScalarFn::Add => b.add(x, y),
        ScalarFn::Sub => b.sub(x, y),
        ScalarFn::Mul => b.mul(x, y),
        ScalarFn::Div => b.binary(Binary::Div, x, y),
        ScalarFn::Rem if elem == Elem::F64 => call(b, Helper::RemF64, &[x, y]),
        ScalarFn::Rem if elem == Elem::F32 => call(b, Helper::RemF32, &[x, y]),
        ScalarFn::Rem => b.binary(Binary::Rem, x, y),
        ScalarFn::Pow if elem == Elem::F64 => call(b, Helper::PowF64, &[x, y]),
        ScalarFn::Pow => special::pow(b, x, y),
        ScalarFn::Max => b.binary(Binary::Max, x, y),
        ScalarFn::Min => b.binary(Binary::Min, x, y),
        ScalarFn::And => b.and(x, y),
        ScalarFn::Or => b.or(x, y),
        ScalarFn::Xor => b.binary(Binary::Xor, x, y),
        ScalarFn::Shl => b.binary(Binary::Shl, x, y),
        ScalarFn::Shr => b.binary(Binary::Shr, x, y),
        ScalarFn::Eq => b.compare(Compare::Eq, x, y),
        ScalarFn::Ne => b.compare(Compare::Ne, x, y),
        ScalarFn::Lt => b.compare(Compare::Lt, x, y),
        ScalarFn::Le => b.compare(Compare::Le, x, y),
        ScalarFn::Gt => b.compare(Compare::Gt, x, y),
        ScalarFn::Ge => b.compare(Compare::Ge, x, y),
        ScalarFn::Neg
        | ScalarFn::Abs
        | ScalarFn::Sign
        | ScalarFn::Relu
        | ScalarFn::Floor
        | ScalarFn::Ceil
        | ScalarFn::Trunc
        | ScalarFn::Round
        | ScalarFn::Exp
        | ScalarFn::Expm1
        | ScalarFn::Log
        | ScalarFn::Log1p
        | ScalarFn::Sqrt
        | ScalarFn::Rsqrt
        | ScalarFn::Sin
        | ScalarFn::Cos
        | ScalarFn::Tanh
        | ScalarFn::Sigmoid
        | ScalarFn::Erf
        | ScalarFn::Not
        | ScalarFn::IsNan
        | ScalarFn::IsFinite
        | ScalarFn::Select => unreachable!("arity: {function} of two operands"),
    }
}

fn call(b: &mut Builder, helper: Helper, args: &[Val]) -> Val {
    let width = args.iter().map(|arg| b.ty(*arg).width).max().expect("a function has operands");
    let args = args.iter().map(|arg| b.with_width(*arg, width)).collect();
    b.op(Op::Call(helper, args))
}

/// `(x > 0) - (x < 0)`, and NaN where `x` is.
fn sign(b: &mut Builder, x: Val) -> Val {
    let elem = b.ty(x).elem;
    let (zero, one) = (b.number(elem, 0), b.number(elem, 1));
    let (above, below) = (b.compare(Compare::Gt, x, zero), b.compare(Compare::Lt, x, zero));
    let positive = b.select(above, one, zero);
    if matches!(elem, Elem::U32 | Elem::U8) {
        return positive;
    }
    let minus = b.number(elem, -1);
    let result = b.select(below, minus, positive);
    if !elem.is_float() {
        return result;
    }
    let nan = b.compare(Compare::Ne, x, x);
    b.select(nan, x, result)
}

/// `max(x, 0)`; the comparison fails for NaN, which is given.
fn relu(b: &mut Builder, x: Val) -> Val {
    let elem = b.ty(x).elem;
    let zero = b.number(elem, 0);
    // The second operand is given for NaN.
    b.binary(Binary::MaxFast, zero, x)
}

fn rsqrt(b: &mut Builder, x: Val) -> Val {
    let one = b.number(b.ty(x).elem, 1);
    let root = b.unary(Unary::Sqrt, x);
    b.binary(Binary::Div, one, root)
}

/// `|x| < inf`, false for NaN.
fn is_finite(b: &mut Builder, x: Val) -> Val {
    let infinity = match b.ty(x).elem {
        Elem::F64 => b.f64(f64::INFINITY),
        Elem::F32 | Elem::I64 | Elem::I32 | Elem::U32 | Elem::U8 | Elem::Bool => b.f32(f32::INFINITY),
    };
    let magnitude = b.unary(Unary::Abs, x);
    b.compare(Compare::Lt, magnitude, infinity)
}

/// `c[0] + c[1] x + ...` by Horner's rule.
fn polynomial(b: &mut Builder, x: Val, coefficients: &[f32]) -> Val {
    let mut sum = None;
    for coefficient in coefficients.iter().rev() {
        let coefficient = b.f32(*coefficient);
        sum = Some(sum.map_or(coefficient, |sum| b.fma(sum, x, coefficient)));
    }
    sum.expect("a polynomial has coefficients")
}

/// As [`polynomial`], in `f64`.
fn polynomial_f64(b: &mut Builder, x: Val, coefficients: &[f64]) -> Val {
    let mut sum = None;
    for coefficient in coefficients.iter().rev() {
        let coefficient = b.f64(*coefficient);
        sum = Some(sum.map_or(coefficient, |sum| b.fma(sum, x, coefficient)));
    }
    sum.expect("a polynomial has coefficients")
}

/// `x` limited to `low..=high`; NaN stays NaN.
fn clamp(b: &mut Builder, x: Val, low: f32, high: f32) -> Val {
    let (low, high) = (b.f32(low), b.f32(high));
    let x = b.binary(Binary::MaxFast, low, x);
    b.binary(Binary::MinFast, high, x)
}

/// The magnitude of the first with the sign of the second.
fn copysign(b: &mut Builder, magnitude: Val, sign: Val) -> Val {
    let (bits, sign) = (b.bitcast(magnitude, Elem::U32), b.bitcast(sign, Elem::U32));
    let mask = b.constant(Elem::U32, 0x8000_0000);
    let sign = b.and(sign, mask);
    let result = b.or(bits, sign);
    b.bitcast(result, Elem::F32)
}

/// As [`exp::sigmoid`].
fn sigmoid_f64(b: &mut Builder, x: Val) -> Val {
    let magnitude = b.unary(Unary::Abs, x);
    let negated = b.unary(Unary::Neg, magnitude);
    let e = call(b, Helper::ExpF64, &[negated]);
    let (one, zero) = (b.f64(1.0), b.f64(0.0));
    let denominator = b.add(e, one);
    let positive = b.compare(Compare::Ge, x, zero);
    let numerator = b.select(positive, one, e);
    b.binary(Binary::Div, numerator, denominator)
}
