//! Activations and functions that are made of a few others.

use graver_ir::op::Composite;
use graver_ir::{DType, ScalarFn, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

type Of = fn(&mut Builder, Value) -> Result<Value>;

/// A function without attributes.
pub(super) fn plain(n: &mut Node<'_>, of: Of) -> Values {
    let x = n.arg(0)?;
    Ok(vec![of(n.b, x)?])
}

pub(super) fn reciprocal(b: &mut Builder, x: Value) -> Result<Value> {
    b.from(ScalarFn::Div, 1.0, x)
}

/// `log(1 + e^x)`, which overflows nowhere.
pub(super) fn softplus(b: &mut Builder, x: Value) -> Result<Value> {
    let size = b.map(ScalarFn::Abs, &[x])?;
    let below = b.map(ScalarFn::Neg, &[size])?;
    let decay = b.map(ScalarFn::Exp, &[below])?;
    let (tail, linear) = (b.map(ScalarFn::Log1p, &[decay])?, b.map(ScalarFn::Relu, &[x])?);
    b.add(linear, tail)
}

pub(super) fn softsign(b: &mut Builder, x: Value) -> Result<Value> {
    let size = b.map(ScalarFn::Abs, &[x])?;
    let below = b.with(ScalarFn::Add, size, 1.0)?;
    b.div(x, below)
}

pub(super) fn mish(b: &mut Builder, x: Value) -> Result<Value> {
    let soft = softplus(b, x)?;
    let squashed = b.map(ScalarFn::Tanh, &[soft])?;
    b.mul(x, squashed)
}

/// `max(0, min(1, slope * x + offset))`
pub(super) fn ramp(b: &mut Builder, x: Value, slope: f64, offset: f64) -> Result<Value> {
    let line = b.with(ScalarFn::Mul, x, slope)?;
    let line = b.with(ScalarFn::Add, line, offset)?;
    let capped = b.with(ScalarFn::Min, line, 1.0)?;
    b.with(ScalarFn::Max, capped, 0.0)
}

pub(super) fn hard_swish(b: &mut Builder, x: Value) -> Result<Value> {
    let gate = ramp(b, x, 1.0 / 6.0, 0.5)?;
    b.mul(x, gate)
}

pub(super) fn tan(b: &mut Builder, x: Value) -> Result<Value> {
    let (sin, cos) = (b.map(ScalarFn::Sin, &[x])?, b.map(ScalarFn::Cos, &[x])?);
    b.div(sin, cos)
}

/// With `m = e^x - 1`: `(m + m / (m + 1)) / 2`, accurate near 0.
pub(super) fn sinh(b: &mut Builder, x: Value) -> Result<Value> {
    let m = b.map(ScalarFn::Expm1, &[x])?;
    let above = b.with(ScalarFn::Add, m, 1.0)?;
    let other = b.div(m, above)?;
    let both = b.add(m, other)?;
    b.with(ScalarFn::Mul, both, 0.5)
}

pub(super) fn cosh(b: &mut Builder, x: Value) -> Result<Value> {
    let minus = b.map(ScalarFn::Neg, &[x])?;
    let (up, down) = (b.map(ScalarFn::Exp, &[x])?, b.map(ScalarFn::Exp, &[minus])?);
    let both = b.add(up, down)?;
    b.with(ScalarFn::Mul, both, 0.5)
}

/// `sign(x) * log1p(|x| + x^2 / (1 + sqrt(1 + x^2)))`
pub(super) fn asinh(b: &mut Builder, x: Value) -> Result<Value> {
    let (size, square) = (b.map(ScalarFn::Abs, &[x])?, b.mul(x, x)?);
    let above = b.with(ScalarFn::Add, square, 1.0)?;
    let root = b.map(ScalarFn::Sqrt, &[above])?;
    let below = b.with(ScalarFn::Add, root, 1.0)?;
    let fraction = b.div(square, below)?;
    let inner = b.add(size, fraction)?;
    let (log, sign) = (b.map(ScalarFn::Log1p, &[inner])?, b.map(ScalarFn::Sign, &[x])?);
    b.mul(sign, log)
}

/// `log(x + sqrt(x^2 - 1))`
pub(super) fn acosh(b: &mut Builder, x: Value) -> Result<Value> {
    let square = b.mul(x, x)?;
    let below = b.with(ScalarFn::Sub, square, 1.0)?;
    let root = b.map(ScalarFn::Sqrt, &[below])?;
    let inner = b.add(x, root)?;
    b.map(ScalarFn::Log, &[inner])
}

/// `log1p(2x / (1 - x)) / 2`
pub(super) fn atanh(b: &mut Builder, x: Value) -> Result<Value> {
    let (twice, rest) = (b.add(x, x)?, b.from(ScalarFn::Sub, 1.0, x)?);
    let fraction = b.div(twice, rest)?;
    let log = b.map(ScalarFn::Log1p, &[fraction])?;
    b.with(ScalarFn::Mul, log, 0.5)
}

/// The arc tangent: the argument is brought into `-0.42..0.42`, where a polynomial is accurate to the last place of `f32`
/// (Moshier, Cephes, `atanf`).
pub(super) fn atan(b: &mut Builder, x: Value) -> Result<Value> {
    const HIGH: f64 = 2.414_213_562_373_095;
    const LOW: f64 = 0.414_213_562_373_095;
    const POLYNOMIAL: [f64; 4] = [8.053_744_495_38e-2, -1.387_768_560_32e-1, 1.997_771_064_78e-1, -3.333_294_915_39e-1];
    let dtype = b.dtype(x);
    if dtype == DType::F64 {
        return unsupported("arc functions of f64");
    }
    let x = b.cast(x, DType::F32)?;
    let size = b.map(ScalarFn::Abs, &[x])?;
    let (high, low) = (b.with(ScalarFn::Gt, size, HIGH)?, b.with(ScalarFn::Gt, size, LOW)?);
    let (inverse, below) = (b.from(ScalarFn::Div, -1.0, size)?, b.with(ScalarFn::Sub, size, 1.0)?);
    let above = b.with(ScalarFn::Add, size, 1.0)?;
    let middle = b.div(below, above)?;
    let reduced = b.select(low, middle, size)?;
    let reduced = b.select(high, inverse, reduced)?;
    let zero = b.number(DType::F32, 0.0)?;
    let (eighth, quarter) =
        (b.number(DType::F32, std::f64::consts::FRAC_PI_4)?, b.number(DType::F32, std::f64::consts::FRAC_PI_2)?);
    let start = b.select(low, eighth, zero)?;
    let start = b.select(high, quarter, start)?;
    let square = b.mul(reduced, reduced)?;
    let mut sum = b.with(ScalarFn::Mul, square, POLYNOMIAL[0])?;
    for coefficient in &POLYNOMIAL[1..] {
        let next = b.with(ScalarFn::Add, sum, *coefficient)?;
        sum = b.mul(next, square)?;
    }
    let curve = b.mul(sum, reduced)?;
    let curve = b.add(curve, reduced)?;
    let angle = b.add(start, curve)?;
    let negative = b.with(ScalarFn::Lt, x, 0.0)?;
    let mirrored = b.map(ScalarFn::Neg, &[angle])?;
    let angle = b.select(negative, mirrored, angle)?;
    b.cast(angle, dtype)
}

/// `atan(x / sqrt((1 - x) (1 + x)))`
pub(super) fn asin(b: &mut Builder, x: Value) -> Result<Value> {
    let (left, right) = (b.from(ScalarFn::Sub, 1.0, x)?, b.with(ScalarFn::Add, x, 1.0)?);
    let product = b.mul(left, right)?;
    let root = b.map(ScalarFn::Sqrt, &[product])?;
    let ratio = b.div(x, root)?;
    atan(b, ratio)
}

/// `2 atan(sqrt((1 - x) / (1 + x)))`
pub(super) fn acos(b: &mut Builder, x: Value) -> Result<Value> {
    let (left, right) = (b.from(ScalarFn::Sub, 1.0, x)?, b.with(ScalarFn::Add, x, 1.0)?);
    let ratio = b.div(left, right)?;
    let root = b.map(ScalarFn::Sqrt, &[ratio])?;
    let half = atan(b, root)?;
    b.add(half, half)
}

/// `x` where it is above the bound, else another value.
pub(super) fn above(b: &mut Builder, x: Value, bound: f64, other: Value) -> Result<Value> {
    let holds = b.with(ScalarFn::Gt, x, bound)?;
    b.select(holds, x, other)
}

pub(super) fn leaky_relu(n: &mut Node<'_>) -> Values {
    let (x, slope) = (n.arg(0)?, n.float("alpha", 0.01));
    let below = n.b.with(ScalarFn::Mul, x, slope)?;
    Ok(vec![above(n.b, x, 0.0, below)?])
}

pub(super) fn prelu(n: &mut Node<'_>) -> Values {
    let (x, mut slope) = (n.arg(0)?, n.arg(1)?);
    let rank = n.b.rank(x);
    if n.version < 7 && n.b.rank(slope) == 1 && rank > 1 {
        // Slopes belonged to channels.
        let trailing: Vec<usize> = (1..rank - 1).collect();
        slope = n.b.unsqueeze(slope, &trailing)?;
    }
    let below = n.b.mul(x, slope)?;
    Ok(vec![above(n.b, x, 0.0, below)?])
}

pub(super) fn elu(n: &mut Node<'_>) -> Values {
    let (x, alpha) = (n.arg(0)?, n.float("alpha", 1.0));
    let curve = n.b.map(ScalarFn::Expm1, &[x])?;
    let below = n.b.with(ScalarFn::Mul, curve, alpha)?;
    Ok(vec![above(n.b, x, 0.0, below)?])
}

pub(super) fn selu(n: &mut Node<'_>) -> Values {
    let (alpha, gamma) = (n.float("alpha", 1.673_263_2), n.float("gamma", 1.050_701));
    let x = n.arg(0)?;
    let curve = n.b.map(ScalarFn::Expm1, &[x])?;
    let below = n.b.with(ScalarFn::Mul, curve, alpha)?;
    let y = above(n.b, x, 0.0, below)?;
    Ok(vec![n.b.with(ScalarFn::Mul, y, gamma)?])
}

/// `max(0, x) + min(0, alpha * (e^(x / alpha) - 1))`
pub(super) fn celu(n: &mut Node<'_>) -> Values {
    let (x, alpha) = (n.arg(0)?, n.float("alpha", 1.0));
    let scaled = n.b.with(ScalarFn::Div, x, alpha)?;
    let curve = n.b.map(ScalarFn::Expm1, &[scaled])?;
    let curve = n.b.with(ScalarFn::Mul, curve, alpha)?;
    let (below, line) = (n.b.with(ScalarFn::Min, curve, 0.0)?, n.b.map(ScalarFn::Relu, &[x])?);
    Ok(vec![n.b.add(line, below)?])
}

pub(super) fn hard_sigmoid(n: &mut Node<'_>) -> Values {
    let (x, slope, offset) = (n.arg(0)?, n.float("alpha", 0.2), n.float("beta", 0.5));
    Ok(vec![ramp(n.b, x, slope, offset)?])
}

/// `x * sigmoid(alpha * x)`
fn gated(n: &mut Node<'_>) -> Result<Value> {
    let (x, alpha) = (n.arg(0)?, n.float("alpha", 1.0));
    let scaled = n.b.with(ScalarFn::Mul, x, alpha)?;
    let gate = n.b.map(ScalarFn::Sigmoid, &[scaled])?;
    n.b.mul(x, gate)
}

pub(super) fn swish(n: &mut Node<'_>) -> Values {
    Ok(vec![gated(n)?])
}

pub(super) fn swiglu(n: &mut Node<'_>) -> Values {
    let (gate, line) = (gated(n)?, n.arg(1)?);
    Ok(vec![n.b.mul(gate, line)?])
}

pub(super) fn thresholded_relu(n: &mut Node<'_>) -> Values {
    let (x, alpha) = (n.arg(0)?, n.float("alpha", 1.0));
    let zero = n.b.number(n.b.dtype(x), 0.0)?;
    Ok(vec![above(n.b, x, alpha, zero)?])
}

pub(super) fn shrink(n: &mut Node<'_>) -> Values {
    let (x, bias, bound) = (n.arg(0)?, n.float("bias", 0.0), n.float("lambd", 0.5));
    let zero = n.b.number(n.b.dtype(x), 0.0)?;
    let (low, high) = (n.b.with(ScalarFn::Lt, x, -bound)?, n.b.with(ScalarFn::Gt, x, bound)?);
    let (raised, lowered) = (n.b.with(ScalarFn::Add, x, bias)?, n.b.with(ScalarFn::Sub, x, bias)?);
    let y = n.b.select(low, raised, zero)?;
    Ok(vec![n.b.select(high, lowered, y)?])
}

pub(super) fn gelu(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    Ok(vec![match n.text("approximate", "none").as_str() {
        "none" => gelu_erf(n.b, x)?,
        "tanh" => gelu_tanh(n.b, x)?,
        other => return wrong(format!("the approximation `{other}`")),
    }])
}

/// `x * Phi(x)`
pub(crate) fn gelu_erf(b: &mut Builder, x: Value) -> Result<Value> {
    b.composite(Composite::Gelu, "", &[x], |b, args| {
        let scaled = b.with(ScalarFn::Mul, args[0], std::f64::consts::FRAC_1_SQRT_2)?;
        let erf = b.map(ScalarFn::Erf, &[scaled])?;
        let twice = b.with(ScalarFn::Add, erf, 1.0)?;
        let phi = b.with(ScalarFn::Mul, twice, 0.5)?;
        b.mul(args[0], phi)
    })
}

/// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`
fn gelu_tanh(b: &mut Builder, x: Value) -> Result<Value> {
    let square = b.mul(x, x)?;
    let cube = b.mul(square, x)?;
    let cubic = b.with(ScalarFn::Mul, cube, 0.044_715)?;
    let inner = b.add(x, cubic)?;
    let scaled = b.with(ScalarFn::Mul, inner, std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2)?;
    let squashed = b.map(ScalarFn::Tanh, &[scaled])?;
    let outer = b.with(ScalarFn::Add, squashed, 1.0)?;
    let half = b.with(ScalarFn::Mul, x, 0.5)?;
    b.mul(half, outer)
}
