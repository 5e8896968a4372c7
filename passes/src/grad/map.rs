//! Derivatives of maps: one row of mathematics a function. Kinks follow PyTorch.

use graver_ir::{Diag, Scalar, ScalarFn, Value};

use super::linear::{Derivative, Step};
use crate::build::Build;

/// The derivative with respect to operand `slot` of `out = function(args)`.
pub(super) fn derivative(b: &mut Build<'_>, function: ScalarFn, args: &[Value], out: Value, slot: usize) -> Derivative {
    use ScalarFn as F;
    let x = args[0];
    let y = *args.last().expect("a map has an operand");
    match function {
        F::Neg => negated(),
        // |x|' = sign x, and 0 at 0.
        F::Abs => Derivative::scale(b.map(F::Sign, &[x])),
        F::Sign | F::Floor | F::Ceil | F::Trunc | F::Round => Derivative::Zero,
        // relu'(0) = 0; by the result, which is positive where the operand is, so that the operand need not be kept.
        F::Relu => Derivative::Linear(vec![where_positive(b, out)]),
        F::Exp => Derivative::scale(out),
        // e^x = out + 1.
        F::Expm1 => Derivative::scale(plus(b, out, 1.0)),
        F::Log => Derivative::Linear(vec![Step::divide(x)]),
        F::Log1p => Derivative::Linear(vec![Step::divide(plus(b, x, 1.0))]),
        // 1 / (2 sqrt x).
        F::Sqrt => Derivative::Linear(vec![Step::divide(times(b, out, 2.0))]),
        // -x^(-3/2) / 2.
        F::Rsqrt => Derivative::scale(rsqrt(b, x, out)),
        F::Sin => Derivative::scale(b.map(F::Cos, &[x])),
        F::Cos => Derivative::Linear(vec![Step::scale(b.map(F::Sin, &[x])), negate()]),
        // 1 - out^2.
        F::Tanh => Derivative::scale(one_minus(b, out, out)),
        // out (1 - out).
        F::Sigmoid => Derivative::scale(sigmoid(b, out)),
        // 2 / sqrt(pi) e^(-x^2).
        F::Erf => Derivative::scale(erf(b, x)),
        F::Add => Derivative::same(),
        F::Sub if slot == 0 => Derivative::same(),
        F::Sub => negated(),
        F::Mul => Derivative::scale(args[1 - slot]),
        F::Div if slot == 0 => Derivative::Linear(vec![Step::divide(y)]),
        // -x / y^2 = -out / y.
        F::Div => Derivative::Linear(vec![Step::scale(out), Step::divide(y), negate()]),
        // x - y trunc(x / y).
        F::Rem if slot == 0 => Derivative::same(),
        F::Rem => Derivative::Linear(vec![Step::scale(quotient(b, x, y)), negate()]),
        F::Pow if slot == 0 => Derivative::scale(pow_base(b, x, y)),
        F::Pow => Derivative::scale(pow_exponent(b, x, y, out)),
        F::Max => Derivative::Linear(extreme(b, F::Lt, args, slot)),
        F::Min => Derivative::Linear(extreme(b, F::Gt, args, slot)),
        F::Select => Derivative::Linear(vec![selected(b, args, slot)]),
        F::Not | F::IsNan | F::IsFinite | F::And | F::Or | F::Xor | F::Shl | F::Shr => Derivative::Zero,
        F::Eq | F::Ne | F::Lt | F::Le | F::Gt | F::Ge => Derivative::Zero,
    }
}

/// A map that is linear in its tangent is diagonal, hence its own transpose.
pub(super) fn transpose(b: &mut Build<'_>, function: ScalarFn, step: &Step, g: Value) -> Result<Value, Diag> {
    use ScalarFn as F;
    assert!(matches!(function, F::Neg | F::Mul | F::Div | F::Select), "G1: a derivative's steps are linear, `{function}` is not");
    step.apply(b, g)
}

fn negate() -> Step {
    Step::new(graver_ir::Op::Map(ScalarFn::Neg), &[], &[])
}

fn negated() -> Derivative {
    Derivative::Linear(vec![negate()])
}

fn plus(b: &mut Build<'_>, x: Value, constant: f64) -> Value {
    let constant = b.like(x, constant);
    b.map(ScalarFn::Add, &[x, constant])
}

fn times(b: &mut Build<'_>, x: Value, constant: f64) -> Value {
    let constant = b.like(x, constant);
    b.map(ScalarFn::Mul, &[x, constant])
}

/// `1 - x y`
fn one_minus(b: &mut Build<'_>, x: Value, y: Value) -> Value {
    let (one, product) = (b.like(x, 1.0), b.map(ScalarFn::Mul, &[x, y]));
    b.map(ScalarFn::Sub, &[one, product])
}

fn where_positive(b: &mut Build<'_>, x: Value) -> Step {
    let zeros = b.like(x, 0.0);
    Step::where_true(b.map(ScalarFn::Gt, &[x, zeros]), zeros)
}

fn rsqrt(b: &mut Build<'_>, x: Value, out: Value) -> Value {
    let ratio = b.map(ScalarFn::Div, &[out, x]);
    times(b, ratio, -0.5)
}

fn sigmoid(b: &mut Build<'_>, out: Value) -> Value {
    let one = b.like(out, 1.0);
    let rest = b.map(ScalarFn::Sub, &[one, out]);
    b.map(ScalarFn::Mul, &[out, rest])
}

fn erf(b: &mut Build<'_>, x: Value) -> Value {
    let square = b.map(ScalarFn::Mul, &[x, x]);
    let negative = b.map(ScalarFn::Neg, &[square]);
    let bell = b.map(ScalarFn::Exp, &[negative]);
    times(b, bell, std::f64::consts::FRAC_2_SQRT_PI)
}

fn quotient(b: &mut Build<'_>, x: Value, y: Value) -> Value {
    let ratio = b.map(ScalarFn::Div, &[x, y]);
    b.map(ScalarFn::Trunc, &[ratio])
}

/// `y x^(y - 1)`, and 0 where both are 0: there `x` is taken to be 1, so that no infinity arises in any order.
fn pow_base(b: &mut Build<'_>, x: Value, y: Value) -> Value {
    let (zeros, ones) = (b.like(x, 0.0), b.like(x, 1.0));
    let (no_base, no_exponent) = (b.map(ScalarFn::Eq, &[x, zeros]), b.map(ScalarFn::Eq, &[y, zeros]));
    let neither = b.map(ScalarFn::And, &[no_base, no_exponent]);
    let base = b.map(ScalarFn::Select, &[neither, ones, x]);
    let exponent = b.map(ScalarFn::Sub, &[y, ones]);
    let power = b.map(ScalarFn::Pow, &[base, exponent]);
    b.map(ScalarFn::Mul, &[y, power])
}

/// `x^y log x`, and 0 where `x = 0` and `y >= 0`: there the logarithm is that of 1.
fn pow_exponent(b: &mut Build<'_>, x: Value, y: Value, out: Value) -> Value {
    let (zeros, ones) = (b.like(x, 0.0), b.like(x, 1.0));
    let (no_base, rising) = (b.map(ScalarFn::Eq, &[x, zeros]), b.map(ScalarFn::Ge, &[y, zeros]));
    let flat = b.map(ScalarFn::And, &[no_base, rising]);
    let base = b.map(ScalarFn::Select, &[flat, ones, x]);
    let log = b.map(ScalarFn::Log, &[base]);
    b.map(ScalarFn::Mul, &[out, log])
}

/// All to the extreme operand, half to each of equal ones; `loses` compares this operand with the other.
fn extreme(b: &mut Build<'_>, loses: ScalarFn, args: &[Value], slot: usize) -> Vec<Step> {
    let (this, other) = (args[slot], args[1 - slot]);
    let (zeros, ones, halves) = (b.like(this, 0.0), b.like(this, 1.0), b.like(this, 0.5));
    let (lost, tied) = (b.map(loses, &[this, other]), b.map(ScalarFn::Eq, &[this, other]));
    let share = b.map(ScalarFn::Select, &[tied, halves, ones]);
    vec![Step::where_false(lost, zeros), Step::scale(share)]
}

fn selected(b: &mut Build<'_>, args: &[Value], slot: usize) -> Step {
    let ty = b.ty(args[1]).clone();
    let zeros = b.full(&ty.shape, Scalar::zero(ty.dtype));
    if slot == 1 { Step::where_true(args[0], zeros) } else { Step::where_false(args[0], zeros) }
}
