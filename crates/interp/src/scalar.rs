//! The meaning of every scalar function and conversion.
//!
//! Floats are computed in `f64` and rounded once to their type, which is exact for the arithmetic of `f32`: `f64` has more
//! than twice its digits. The 16-bit floats are rounded to `f32` first, as the machines do that compute in it. Integers
//! are held as `i64` (a `u64` by its bits), computed in `i128` and wrap to their width. NaN results are one positive quiet NaN, so that answers do not depend on
//! the machine. Everything is total: what is an error of a call gives a defined value here, and is reported by whoever calls.

use std::cmp::Ordering;

use graver_ir::{DType, DTypeKind, Scalar, ScalarFn, bf16, f16};

use crate::special;

/// Whether floats are rounded to their types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Every value is rounded to its type: what a backend should give, but for the order of sums and the last bits of functions.
    Typed,
    /// Values of all float types stay `f64`: the reference that errors are measured from.
    Reference,
}

/// A value without its type: floats as `f64`; integers and bool as `i64`, a `u64` by its bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Num {
    Float(f64),
    Int(i64),
}

impl Num {
    pub(crate) fn float(self) -> f64 {
        match self {
            Self::Float(x) => x,
            Self::Int(_) => unreachable!("typed: a float is asked for where an integer is"),
        }
    }

    pub(crate) fn int(self) -> i64 {
        match self {
            Self::Int(x) => x,
            Self::Float(_) => unreachable!("typed: an integer is asked for where a float is"),
        }
    }

    pub(crate) fn of(scalar: Scalar) -> Self {
        if scalar.dtype().is_float() { Self::Float(scalar.as_f64()) } else { Self::Int(scalar.bits().cast_signed()) }
    }

    pub(crate) fn scalar(self, dtype: DType) -> Scalar {
        match self {
            Self::Float(x) => Scalar::float(dtype, x),
            Self::Int(x) => Scalar::from_i128(dtype, exact(dtype, x)),
        }
    }
}

/// A function of scalars.
///
/// Total: integer division and remainder by zero give 0; a shift by a negative amount or by the width or more gives 0, or
/// the sign's fill; NaN passes through `min`, `max`, `relu` and `sign`; of zeros of both signs `min` and `max` give the second.
///
/// ```
/// use graver_interp::apply;
/// use graver_ir::{DType, Scalar, ScalarFn};
/// let [x, y] = [250, 10].map(|x| Scalar::int(DType::U8, x));
/// assert_eq!(apply(ScalarFn::Add, &[x, y]), Scalar::int(DType::U8, 4));
/// ```
///
/// # Panics
/// If the operands do not satisfy the function's type rule.
#[must_use]
pub fn apply(function: ScalarFn, operands: &[Scalar]) -> Scalar {
    let dtypes: Vec<DType> = operands.iter().map(|x| x.dtype()).collect();
    let dtype = function.infer(&dtypes).expect("typed: operands satisfy the function's rule");
    let operands: Vec<Num> = operands.iter().map(|x| Num::of(*x)).collect();
    let last = dtypes[dtypes.len() - 1];
    finish(dtype, Precision::Typed, apply_num(function, last, &operands)).scalar(dtype)
}

/// A scalar converted to another type, as [`graver_ir::Op::Cast`]: floats to integers truncate and saturate, NaN gives 0;
/// integers to narrower integers keep their low bits; anything but zero, NaN too, is true.
#[must_use]
pub fn cast(x: Scalar, dtype: DType) -> Scalar {
    cast_num(Num::of(x), x.dtype(), dtype, Precision::Typed).scalar(dtype)
}

/// The function, neither rounded nor wrapped for floats; `dtype` is the type of the last operand.
pub(crate) fn apply_num(function: ScalarFn, dtype: DType, operands: &[Num]) -> Num {
    match operands {
        [Num::Int(condition), x, y] => {
            if *condition != 0 {
                *x
            } else {
                *y
            }
        }
        [Num::Float(x)] => on_floats(function, *x, *x),
        [Num::Float(x), Num::Float(y)] => on_floats(function, *x, *y),
        [Num::Int(x)] => Num::Int(on_ints(function, dtype, *x, *x)),
        [Num::Int(x), Num::Int(y)] => Num::Int(on_ints(function, dtype, *x, *y)),
        other => unreachable!("typed: {function} of {other:?}"),
    }
}

/// A function of one or two floats, in `f64`. A function of one ignores `y`.
pub(crate) fn on_floats(function: ScalarFn, x: f64, y: f64) -> Num {
    let float = match function {
        ScalarFn::Neg => -x,
        ScalarFn::Abs => x.abs(),
        ScalarFn::Sign => sign(x),
        ScalarFn::Relu => maximum(x, 0.0),
        ScalarFn::Floor => x.floor(),
        ScalarFn::Ceil => x.ceil(),
        ScalarFn::Trunc => x.trunc(),
        ScalarFn::Round => x.round_ties_even(),
        ScalarFn::Exp => x.exp(),
        ScalarFn::Expm1 => x.exp_m1(),
        ScalarFn::Log => x.ln(),
        ScalarFn::Log1p => x.ln_1p(),
        ScalarFn::Sqrt => x.sqrt(),
        ScalarFn::Rsqrt => 1.0 / x.sqrt(),
        ScalarFn::Sin => x.sin(),
        ScalarFn::Cos => x.cos(),
        ScalarFn::Tanh => x.tanh(),
        ScalarFn::Sigmoid => special::sigmoid(x),
        ScalarFn::Erf => special::erf(x),
        ScalarFn::Add => x + y,
        ScalarFn::Sub => x - y,
        ScalarFn::Mul => x * y,
        ScalarFn::Div => x / y,
        ScalarFn::Rem => x % y,
        ScalarFn::Pow => x.powf(y),
        ScalarFn::Max => maximum(x, y),
        ScalarFn::Min => minimum(x, y),
        ScalarFn::IsNan => return truth(x.is_nan()),
        ScalarFn::IsFinite => return truth(x.is_finite()),
        ScalarFn::Eq => return truth(x == y),
        ScalarFn::Ne => return truth(x != y),
        ScalarFn::Lt => return truth(x < y),
        ScalarFn::Le => return truth(x <= y),
        ScalarFn::Gt => return truth(x > y),
        ScalarFn::Ge => return truth(x >= y),
        ScalarFn::Not | ScalarFn::And | ScalarFn::Or | ScalarFn::Xor | ScalarFn::Shl | ScalarFn::Shr | ScalarFn::Select => {
            unreachable!("typed: {function} of floats")
        }
    };
    Num::Float(float)
}

/// A function of one or two integers or truth values of `dtype`. A function of one ignores `y`.
pub(crate) fn on_ints(function: ScalarFn, dtype: DType, x: i64, y: i64) -> i64 {
    let (x, y) = (exact(dtype, x), exact(dtype, y));
    let wide = match function {
        ScalarFn::Neg => x.wrapping_neg(),
        ScalarFn::Abs => x.wrapping_abs(),
        ScalarFn::Sign => x.signum(),
        ScalarFn::Relu => x.max(0),
        ScalarFn::Not if dtype == DType::Bool => 1 - x,
        ScalarFn::Not => !x,
        ScalarFn::Add => x.wrapping_add(y),
        ScalarFn::Sub => x.wrapping_sub(y),
        ScalarFn::Mul => x.wrapping_mul(y),
        ScalarFn::Div if y == 0 => 0,
        ScalarFn::Div => x.wrapping_div(y),
        ScalarFn::Rem if y == 0 => 0,
        ScalarFn::Rem => x.wrapping_rem(y),
        ScalarFn::Max => x.max(y),
        ScalarFn::Min => x.min(y),
        ScalarFn::And => x & y,
        ScalarFn::Or => x | y,
        ScalarFn::Xor => x ^ y,
        ScalarFn::Shl => shift_left(dtype, x, y),
        ScalarFn::Shr => shift_right(dtype, x, y),
        ScalarFn::Eq => return i64::from(x == y),
        ScalarFn::Ne => return i64::from(x != y),
        ScalarFn::Lt => return i64::from(x < y),
        ScalarFn::Le => return i64::from(x <= y),
        ScalarFn::Gt => return i64::from(x > y),
        ScalarFn::Ge => return i64::from(x >= y),
        ScalarFn::Floor
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
        | ScalarFn::IsNan
        | ScalarFn::IsFinite
        | ScalarFn::Pow
        | ScalarFn::Select => unreachable!("typed: {function} of {dtype}"),
    };
    wrap(dtype, wide)
}

/// The greater; NaN if either is.
pub(crate) fn maximum(x: f64, y: f64) -> f64 {
    if x > y || x.is_nan() { x } else { y }
}

/// The lesser; NaN if either is.
pub(crate) fn minimum(x: f64, y: f64) -> f64 {
    if x < y || x.is_nan() { x } else { y }
}

fn sign(x: f64) -> f64 {
    if x.is_nan() {
        x
    } else if x == 0.0 {
        0.0
    } else {
        x.signum()
    }
}

fn truth(x: bool) -> Num {
    Num::Int(i64::from(x))
}

fn width(dtype: DType) -> i128 {
    i128::try_from(dtype.size() * 8).expect("element types have at most 64 bits")
}

fn shift_left(dtype: DType, x: i128, by: i128) -> i128 {
    if (0..width(dtype)).contains(&by) { x << by } else { 0 }
}

/// Arithmetic for signed types; unsigned values are held without a sign, so that it is logical for them.
fn shift_right(dtype: DType, x: i128, by: i128) -> i128 {
    let by = if (0..width(dtype)).contains(&by) { by } else { 127 };
    x >> by
}

/// A computed value made a value of `dtype`: floats rounded, integers wrapped.
pub(crate) fn finish(dtype: DType, precision: Precision, x: Num) -> Num {
    match x {
        Num::Float(x) => Num::Float(round(dtype, precision, x)),
        Num::Int(x) => Num::Int(wrap(dtype, i128::from(x))),
    }
}

/// A float rounded to `dtype`, unless all floats stay `f64`. NaN becomes the one NaN.
pub(crate) fn round(dtype: DType, precision: Precision, x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    match (precision, dtype) {
        (Precision::Typed, DType::F32) => f64::from(x as f32),
        (Precision::Typed, DType::F16) => f16::from_f32(x as f32).to_f64(),
        (Precision::Typed, DType::BF16) => bf16::from_f32(x as f32).to_f64(),
        (Precision::Typed, DType::F64)
        | (Precision::Typed, DType::I64 | DType::I32 | DType::I16 | DType::I8)
        | (Precision::Typed, DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool)
        | (Precision::Reference, _) => x,
    }
}

/// The low bits of an integer as a value of `dtype`; for bool, whether it is not 0.
pub(crate) fn wrap(dtype: DType, x: i128) -> i64 {
    match dtype {
        DType::I64 | DType::U64 => x as i64,
        DType::I32 => i64::from(x as i32),
        DType::I16 => i64::from(x as i16),
        DType::I8 => i64::from(x as i8),
        DType::U32 => i64::from(x as u32),
        DType::U16 => i64::from(x as u16),
        DType::U8 => i64::from(x as u8),
        DType::Bool => i64::from(x != 0),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => unreachable!("typed: an integer of type {dtype}"),
    }
}

/// The number that an integer or bool of `dtype` is.
fn exact(dtype: DType, x: i64) -> i128 {
    if dtype == DType::U64 { i128::from(x.cast_unsigned()) } else { i128::from(x) }
}

/// A value of `from` converted to `dtype`.
pub(crate) fn cast_num(x: Num, from: DType, dtype: DType, precision: Precision) -> Num {
    match (x, dtype.kind()) {
        (Num::Float(x), DTypeKind::Float) => Num::Float(round(dtype, precision, x)),
        (Num::Float(x), DTypeKind::Bool) => Num::Int(i64::from(x != 0.0)),
        (Num::Float(x), DTypeKind::Signed | DTypeKind::Unsigned) => Num::of(Scalar::float(dtype, x)),
        (Num::Int(x), DTypeKind::Float) => Num::Float(int_to_float(exact(from, x), dtype, precision)),
        (Num::Int(x), DTypeKind::Signed | DTypeKind::Unsigned | DTypeKind::Bool) => Num::Int(wrap(dtype, exact(from, x))),
    }
}

/// Not by way of `f64` where that would round twice.
fn int_to_float(x: i128, dtype: DType, precision: Precision) -> f64 {
    match (precision, dtype) {
        (Precision::Reference, _) | (Precision::Typed, DType::F64) => x as f64,
        (Precision::Typed, _) => round(dtype, precision, f64::from(x as f32)),
    }
}

/// Which comes first in an order: equals are equal, and NaN comes last in both directions.
pub(crate) fn compare(x: Num, y: Num, descending: bool) -> Ordering {
    let directed = |order: Ordering| if descending { order.reverse() } else { order };
    match (x, y) {
        (Num::Float(x), Num::Float(y)) => match x.partial_cmp(&y) {
            Some(order) => directed(order),
            None => x.is_nan().cmp(&y.is_nan()),
        },
        (Num::Int(x), Num::Int(y)) => directed(x.cmp(&y)),
        (Num::Float(_), Num::Int(_)) | (Num::Int(_), Num::Float(_)) => unreachable!("typed: elements of one array"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(function: ScalarFn, dtype: DType, operands: &[i128]) -> i128 {
        let operands: Vec<Scalar> = operands.iter().map(|x| Scalar::from_i128(dtype, *x)).collect();
        apply(function, &operands).as_i128()
    }

    fn float(function: ScalarFn, dtype: DType, operands: &[f64]) -> f64 {
        let operands: Vec<Scalar> = operands.iter().map(|x| Scalar::float(dtype, *x)).collect();
        apply(function, &operands).as_f64()
    }

    #[test]
    fn every_function_has_a_meaning_for_every_type_that_it_takes() {
        for function in ScalarFn::ALL {
            for dtype in DType::ALL {
                let mut operands = vec![Scalar::one(dtype); function.arity()];
                if *function == ScalarFn::Select {
                    operands[0] = Scalar::bool(false);
                }
                let dtypes: Vec<DType> = operands.iter().map(|x| x.dtype()).collect();
                if let Ok(result) = function.infer(&dtypes) {
                    assert_eq!(apply(*function, &operands).dtype(), result, "{function} of {dtype}");
                }
            }
        }
    }

    #[test]
    fn integers_wrap_and_are_total() {
        use DType::{Bool, I8, I16, I32, I64, U8, U16, U32, U64};
        const TOP: i128 = 1 << 63;
        const ALL_ONES: i128 = u64::MAX as i128;
        let rows: [(ScalarFn, DType, &[i128], i128); 49] = [
            (ScalarFn::Add, I32, &[i128::from(i32::MAX), 1], i128::from(i32::MIN)),
            (ScalarFn::Sub, U8, &[3, 5], 254),
            (ScalarFn::Mul, U32, &[1 << 31, 3], 1 << 31),
            (ScalarFn::Mul, I64, &[i128::from(i64::MAX), 2], -2),
            (ScalarFn::Neg, U32, &[1], 0xffff_ffff),
            (ScalarFn::Neg, I64, &[-TOP], -TOP),
            (ScalarFn::Abs, I32, &[i128::from(i32::MIN)], i128::from(i32::MIN)),
            (ScalarFn::Div, I32, &[-7, 2], -3),
            (ScalarFn::Rem, I32, &[-7, 2], -1),
            (ScalarFn::Div, I64, &[-TOP, -1], -TOP),
            (ScalarFn::Rem, I64, &[-TOP, -1], 0),
            (ScalarFn::Div, I32, &[5, 0], 0),
            (ScalarFn::Rem, U8, &[5, 0], 0),
            (ScalarFn::Not, U8, &[1], 254),
            (ScalarFn::Not, Bool, &[1], 0),
            (ScalarFn::Not, I32, &[0], -1),
            (ScalarFn::Xor, Bool, &[1, 1], 0),
            (ScalarFn::Shl, U8, &[1, 7], 128),
            (ScalarFn::Shl, I32, &[1, 31], i128::from(i32::MIN)),
            (ScalarFn::Shl, I32, &[1, 32], 0),
            (ScalarFn::Shl, I32, &[1, -1], 0),
            (ScalarFn::Shr, I32, &[-8, 1], -4),
            (ScalarFn::Shr, I32, &[-8, 99], -1),
            (ScalarFn::Shr, U32, &[0xffff_ffff, 31], 1),
            (ScalarFn::Shr, U32, &[0xffff_ffff, 32], 0),
            (ScalarFn::Max, I64, &[-1, -2], -1),
            (ScalarFn::Add, I8, &[127, 1], -128),
            (ScalarFn::Div, I8, &[-128, -1], -128),
            (ScalarFn::Shl, I8, &[1, 8], 0),
            (ScalarFn::Mul, I16, &[256, 128], -32_768),
            (ScalarFn::Sub, U16, &[0, 1], 65_535),
            (ScalarFn::Not, U16, &[1], 65_534),
            (ScalarFn::Add, U64, &[ALL_ONES, 2], 1),
            (ScalarFn::Sub, U64, &[0, 1], ALL_ONES),
            (ScalarFn::Mul, U64, &[ALL_ONES, ALL_ONES], 1),
            (ScalarFn::Neg, U64, &[1], ALL_ONES),
            (ScalarFn::Abs, U64, &[TOP], TOP),
            (ScalarFn::Sign, U64, &[TOP], 1),
            (ScalarFn::Relu, U64, &[TOP], TOP),
            (ScalarFn::Div, U64, &[ALL_ONES, 10], 1_844_674_407_370_955_161),
            (ScalarFn::Div, U64, &[ALL_ONES, TOP], 1),
            (ScalarFn::Rem, U64, &[ALL_ONES, 10], 5),
            (ScalarFn::Rem, U64, &[TOP, ALL_ONES], TOP),
            (ScalarFn::Max, U64, &[1, TOP], TOP),
            (ScalarFn::Min, U64, &[1, TOP], 1),
            (ScalarFn::Shr, U64, &[ALL_ONES, 63], 1),
            (ScalarFn::Shr, U64, &[ALL_ONES, 64], 0),
            (ScalarFn::Shl, U64, &[1, 63], TOP),
            (ScalarFn::Not, U64, &[0], ALL_ONES),
        ];
        for (function, dtype, operands, expected) in rows {
            assert_eq!(int(function, dtype, operands), expected, "{function} {dtype} {operands:?}");
        }
    }

    #[test]
    fn floats_follow_their_definitions() {
        let rows: [(ScalarFn, &[f64], f64); 17] = [
            (ScalarFn::Sign, &[-3.0], -1.0),
            (ScalarFn::Sign, &[-0.0], 0.0),
            (ScalarFn::Relu, &[-3.0], 0.0),
            (ScalarFn::Relu, &[3.0], 3.0),
            (ScalarFn::Round, &[2.5], 2.0),
            (ScalarFn::Round, &[-1.5], -2.0),
            (ScalarFn::Trunc, &[-1.5], -1.0),
            (ScalarFn::Floor, &[-1.5], -2.0),
            (ScalarFn::Ceil, &[-1.5], -1.0),
            (ScalarFn::Rem, &[-7.5, 2.0], -1.5),
            (ScalarFn::Div, &[1.0, 0.0], f64::INFINITY),
            (ScalarFn::Pow, &[0.0, 0.0], 1.0),
            (ScalarFn::Rsqrt, &[0.25], 2.0),
            (ScalarFn::Sigmoid, &[0.0], 0.5),
            (ScalarFn::Expm1, &[1e-10], 1.000_000_000_05e-10),
            (ScalarFn::Log1p, &[1e-10], 9.999_999_999_5e-11),
            (ScalarFn::Max, &[f64::NEG_INFINITY, -1.0], -1.0),
        ];
        for (function, operands, expected) in rows {
            let found = float(function, DType::F64, operands);
            // Exact but for the last bit of `expm1` and `log1p`.
            let close = found == expected || (found / expected - 1.0).abs() < 3e-16;
            assert!(close, "{function} {operands:?} is {found}, not {expected}");
        }
    }

    #[test]
    fn nan_passes_through() {
        for function in [ScalarFn::Max, ScalarFn::Min] {
            assert!(float(function, DType::F32, &[f64::NAN, 1.0]).is_nan());
            assert!(float(function, DType::F32, &[1.0, f64::NAN]).is_nan());
        }
        assert!(float(ScalarFn::Relu, DType::F32, &[f64::NAN]).is_nan());
        assert!(float(ScalarFn::Sign, DType::F32, &[f64::NAN]).is_nan());
        let nan = Scalar::float(DType::F32, f64::NAN);
        let holds = |function| apply(function, &[nan, nan]) == Scalar::bool(true);
        assert!(holds(ScalarFn::Ne));
        assert!(![ScalarFn::Eq, ScalarFn::Lt, ScalarFn::Le, ScalarFn::Gt, ScalarFn::Ge].into_iter().any(holds));
        assert_eq!(apply(ScalarFn::Select, &[Scalar::bool(true), Scalar::one(DType::F32), nan]), Scalar::one(DType::F32));
        assert_eq!(apply(ScalarFn::Sub, &[Scalar::highest(DType::F64); 2]), Scalar::float(DType::F64, f64::NAN));
    }

    #[test]
    fn floats_round_to_their_type() {
        assert_eq!(float(ScalarFn::Add, DType::F32, &[16_777_216.0, 1.0]), 16_777_216.0);
        assert_eq!(float(ScalarFn::Div, DType::F32, &[1.0, 3.0]), f64::from(1.0f32 / 3.0));
        assert_eq!(float(ScalarFn::Add, DType::BF16, &[256.0, 1.0]), 256.0);
        assert_eq!(float(ScalarFn::Mul, DType::F16, &[256.0, 256.0]), f64::INFINITY);
        assert_eq!(round(DType::BF16, Precision::Reference, 1.001), 1.001);
    }

    #[test]
    fn casts() {
        let rows = [
            (Scalar::float(DType::F32, -1.9), DType::I32, -1.0),
            (Scalar::float(DType::F32, 3e9), DType::I32, f64::from(i32::MAX)),
            (Scalar::float(DType::F64, -5.0), DType::U8, 0.0),
            (Scalar::float(DType::F64, f64::NAN), DType::I64, 0.0),
            (Scalar::float(DType::F64, f64::NAN), DType::Bool, 1.0),
            (Scalar::float(DType::F64, -0.0), DType::Bool, 0.0),
            (Scalar::int(DType::I64, 300), DType::U8, 44.0),
            (Scalar::int(DType::I32, -1), DType::U32, f64::from(u32::MAX)),
            (Scalar::int(DType::U32, i64::from(u32::MAX)), DType::I32, -1.0),
            (Scalar::int(DType::I64, 256), DType::Bool, 1.0),
            (Scalar::int(DType::I64, 16_777_217), DType::F32, 16_777_216.0),
            (Scalar::int(DType::I64, (1 << 60) + (1 << 36) + 1), DType::F32, ((1i64 << 60) + (1 << 37)) as f64),
            (Scalar::float(DType::F32, 65_520.0), DType::F16, f64::INFINITY),
            (Scalar::bool(true), DType::F16, 1.0),
            (Scalar::int(DType::I32, -1), DType::U64, 2f64.powi(64)),
            (Scalar::highest(DType::U64), DType::I32, -1.0),
            (Scalar::highest(DType::U64), DType::F32, 2f64.powi(64)),
            (Scalar::float(DType::F32, 1e30), DType::U64, 2f64.powi(64)),
            (Scalar::float(DType::F64, 2f64.powi(63)), DType::U64, 2f64.powi(63)),
        ];
        for (x, dtype, expected) in rows {
            assert_eq!(cast(x, dtype), Scalar::float(dtype, expected), "{x} to {dtype}");
        }
    }
}
