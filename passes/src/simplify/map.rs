//! Rewrites of maps and conversions. "Exact" means that every bit is kept, up to the payload of a NaN.

use graver_ir::op::Broadcast;
use graver_ir::{DType, DTypeKind, Op, Scalar, ScalarFn, Value};

use super::{Rewrite, Site, splat};
use crate::build::Build;

pub(super) const MAPS: &[Rewrite] = &[
    times_one,
    over_one,
    divided_by_power_of_two,
    plus_nothing,
    minus_nothing,
    times_zero,
    to_the_first,
    involution,
    idempotent,
    rounded_twice,
    same_operands,
    minus_itself,
    compared_with_itself,
    truth_value,
    absolute_of_negated,
    select_of_constant,
    select_of_equals,
    select_of_negation,
    of_repetitions,
];

pub(super) const CASTS: &[Rewrite] = &[cast_to_itself, cast_of_lossless_cast, cast_of_repetition];

fn function(site: &Site<'_>) -> Option<ScalarFn> {
    if let Op::Map(function) = site.op { Some(function) } else { None }
}

/// The operand of a map of this function.
fn operand_of(b: &Build<'_>, value: Value, function: ScalarFn) -> Option<Value> {
    (*b.graph.op(value.node) == Op::Map(function)).then(|| b.graph.args(value.node)[0])
}

/// `(x, y)` of a two-operand map of this function; where it commutes, in both orders.
fn pairs(site: &Site<'_>, function: ScalarFn) -> Vec<(Value, Value)> {
    match site.args.as_slice() {
        [x, y] if site.op == Op::Map(function) && function.commutes() => vec![(*x, *y), (*y, *x)],
        [x, y] if site.op == Op::Map(function) => vec![(*x, *y)],
        _ => Vec::new(),
    }
}

/// The first operand, where the second is a constant that `admits`.
fn with_constant(b: &Build<'_>, site: &Site<'_>, function: ScalarFn, admits: impl Fn(Scalar) -> bool) -> Option<Value> {
    pairs(site, function).into_iter().find(|(_, y)| splat(b.graph, *y).is_some_and(&admits)).map(|(x, _)| x)
}

/// `x * 1 = x`. Exact, NaN included.
fn times_one(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    with_constant(b, site, ScalarFn::Mul, Scalar::is_one)
}

/// `x / 1 = x`. Exact, NaN included.
fn over_one(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    with_constant(b, site, ScalarFn::Div, Scalar::is_one)
}

/// `x / 2^k = x * 2^-k` where `2^-k` is a normal number of a type that computes in itself. Exact: both round the same real number.
fn divided_by_power_of_two(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let [x, y] = site.args[..] else { return None };
    let divisor = splat(b.graph, y).filter(|_| site.op == Op::Map(ScalarFn::Div))?;
    let exponent = power_of_two(divisor)?;
    // Both 2^k and 2^-k are normal numbers.
    let normal = match site.ty.dtype {
        DType::F64 => exponent.abs() <= 1022,
        DType::F32 => exponent.abs() <= 126,
        DType::F16 | DType::BF16 | DType::Bool => false,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => false,
    };
    normal.then(|| {
        let factor = b.full(&site.ty.shape, Scalar::float(site.ty.dtype, divisor.as_f64().recip()));
        b.mul(x, factor)
    })
}

/// `k` of a float `2^k` or `-2^k`.
fn power_of_two(x: Scalar) -> Option<i64> {
    let bits = x.as_f64().to_bits();
    let (exponent, fraction) = (i64::try_from(bits >> 52 & 0x7ff).ok()?, bits & ((1 << 52) - 1));
    (x.dtype().is_float() && fraction == 0 && exponent != 0 && exponent != 0x7ff).then_some(exponent - 1023)
}

/// `x + 0 = x` for integers, `x + (-0.0) = x` for floats. Exact; `-0.0 + 0.0` is `0.0`, so `x + 0.0` stays.
fn plus_nothing(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    with_constant(b, site, ScalarFn::Add, |y| if y.dtype().is_float() { is_negative_zero(y) } else { y.is_zero() })
}

fn is_negative_zero(x: Scalar) -> bool {
    x.is_zero() && x.as_f64().is_sign_negative()
}

/// `x - 0 = x`, for floats of positive zero. Exact: `-0.0 - 0.0` is `-0.0`.
fn minus_nothing(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    with_constant(b, site, ScalarFn::Sub, |y| y.is_zero() && !(y.dtype().is_float() && is_negative_zero(y)))
}

/// `x * 0 = 0` for integers.
fn times_zero(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let zero = |y: Scalar| y.is_zero() && y.dtype().is_int();
    with_constant(b, site, ScalarFn::Mul, zero).map(|_| b.zeros(&site.ty))
}

/// `x^1 = x`. Exact, NaN included.
fn to_the_first(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    with_constant(b, site, ScalarFn::Pow, Scalar::is_one)
}

/// `--x = x`, `not not x = x`. Exact.
fn involution(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let function = function(site).filter(|function| matches!(function, ScalarFn::Neg | ScalarFn::Not))?;
    operand_of(b, site.args[0], function)
}

/// `f(f(x)) = f(x)` for `relu`, `abs` and `sign`. Exact.
fn idempotent(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let function = function(site).filter(|function| matches!(function, ScalarFn::Relu | ScalarFn::Abs | ScalarFn::Sign))?;
    operand_of(b, site.args[0], function).map(|_| site.args[0])
}

/// `round(floor(x)) = floor(x)`, and so for any two of `floor`, `ceil`, `trunc`, `round`. Exact: whole numbers stay.
fn rounded_twice(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    const ROUNDINGS: [ScalarFn; 4] = [ScalarFn::Floor, ScalarFn::Ceil, ScalarFn::Trunc, ScalarFn::Round];
    function(site).filter(|function| ROUNDINGS.contains(function))?;
    ROUNDINGS.iter().find_map(|inner| operand_of(b, site.args[0], *inner)).map(|_| site.args[0])
}

/// `max(x, x) = x`, and so `min`, `and`, `or`. Exact.
fn same_operands(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let of = [ScalarFn::Max, ScalarFn::Min, ScalarFn::And, ScalarFn::Or];
    of.iter().flat_map(|function| pairs(site, *function)).find(|(x, y)| x == y).map(|(x, _)| x)
}

/// `x - x = 0`, `x xor x = 0`, for integers and bool: of floats, infinity and NaN give NaN.
fn minus_itself(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let of = [ScalarFn::Sub, ScalarFn::Xor];
    let same = of.iter().flat_map(|function| pairs(site, *function)).any(|(x, y)| x == y);
    (same && !site.ty.dtype.is_float()).then(|| b.zeros(&site.ty))
}

/// `x == x` and its like are known, for integers and bool: NaN is not equal to itself.
fn compared_with_itself(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let function = function(site)?;
    let holds = matches!(function, ScalarFn::Eq | ScalarFn::Le | ScalarFn::Ge);
    let fails = matches!(function, ScalarFn::Ne | ScalarFn::Lt | ScalarFn::Gt);
    let known = (holds || fails) && site.args[0] == site.args[1] && !b.ty(site.args[0]).dtype.is_float();
    known.then(|| b.full(&site.ty.shape, Scalar::bool(holds)))
}

/// `x and true = x`, `x and false = false`, `x or false = x`, `x or true = true`, for bool.
fn truth_value(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    if site.ty.dtype.kind() != DTypeKind::Bool {
        return None;
    }
    let constants = |function| pairs(site, function).into_iter().filter_map(|(x, y)| Some((x, y, splat(b.graph, y)?)));
    let and = constants(ScalarFn::And).map(|(x, y, known)| if known.is_one() { x } else { y }).next();
    and.or_else(|| constants(ScalarFn::Or).map(|(x, y, known)| if known.is_one() { y } else { x }).next())
}

/// `|-x| = |x|` for floats: the least integer has no opposite, but wraps alike; left alone.
fn absolute_of_negated(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let float = site.op == Op::Map(ScalarFn::Abs) && site.ty.dtype.is_float();
    let x = operand_of(b, site.args[0], ScalarFn::Neg).filter(|_| float)?;
    Some(b.map(ScalarFn::Abs, &[x]))
}

fn is_select(site: &Site<'_>) -> bool {
    site.op == Op::Map(ScalarFn::Select)
}

/// `select(true, x, y) = x`, `select(false, x, y) = y`. Exact.
fn select_of_constant(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let condition = splat(b.graph, site.args[0]).filter(|_| is_select(site))?;
    Some(if condition.is_one() { site.args[1] } else { site.args[2] })
}

/// `select(c, x, x) = x`. Exact.
fn select_of_equals(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    (is_select(site) && site.args[1] == site.args[2]).then(|| site.args[1])
}

/// `select(not c, x, y) = select(c, y, x)`. Exact.
fn select_of_negation(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let condition = operand_of(b, site.args[0], ScalarFn::Not).filter(|_| is_select(site))?;
    Some(b.map(ScalarFn::Select, &[condition, site.args[2], site.args[1]]))
}

/// `f(broadcast x, broadcast y) = broadcast f(x, y)` where all are repeated alike. Exact: the same numbers, computed once. Not
/// for integer divisions: repeated no times they do not fail.
fn of_repetitions(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let function = function(site)?;
    if matches!(function, ScalarFn::Div | ScalarFn::Rem) && site.ty.dtype.is_int() {
        return None;
    }
    let (broadcast, _) = repetition(b, site.args[0])?;
    let mut inner = Vec::new();
    for arg in &site.args {
        let (other, x) = repetition(b, *arg)?;
        (other == broadcast).then(|| inner.push(x))?;
    }
    let once = b.map(function, &inner);
    b.add(Op::Broadcast(broadcast), &[once]).ok()
}

/// What is repeated, and how.
fn repetition(b: &Build<'_>, value: Value) -> Option<(Broadcast, Value)> {
    let Op::Broadcast(broadcast) = b.graph.op(value.node) else { return None };
    Some((broadcast.clone(), b.graph.args(value.node)[0]))
}

/// `cast x = x` to its own type.
fn cast_to_itself(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    (*b.ty(site.args[0]) == site.ty).then_some(site.args[0])
}

/// `cast(cast(x)) = cast(x)` where the inner one keeps every value. Exact: conversions depend on the value alone.
fn cast_of_lossless_cast(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Cast(middle) = *b.graph.op(site.args[0].node) else { return None };
    let x = b.graph.args(site.args[0].node)[0];
    keeps_every_value(b.ty(x).dtype, middle).then_some(())?;
    b.add(Op::Cast(site.ty.dtype), &[x]).ok()
}

/// Whether every value of one type is a value of the other.
fn keeps_every_value(from: DType, to: DType) -> bool {
    use DType as D;
    let holders: &[DType] = match from {
        D::F64 => &[D::F64],
        D::F32 => &[D::F64, D::F32],
        D::F16 => &[D::F64, D::F32, D::F16],
        D::BF16 => &[D::F64, D::F32, D::BF16],
        D::I64 => &[D::I64],
        D::I32 => &[D::I64, D::I32, D::F64],
        D::I16 => &[D::I64, D::I32, D::I16, D::F64, D::F32],
        D::I8 => &[D::I64, D::I32, D::I16, D::I8, D::F64, D::F32, D::F16, D::BF16],
        D::U64 => &[D::U64],
        D::U32 => &[D::I64, D::U64, D::U32, D::F64],
        D::U16 => &[D::I64, D::I32, D::U64, D::U32, D::U16, D::F64, D::F32],
        D::U8 => &[D::I64, D::I32, D::I16, D::U64, D::U32, D::U16, D::U8, D::F64, D::F32, D::F16, D::BF16],
        D::Bool => return true,
    };
    holders.contains(&to)
}

/// `cast(broadcast x) = broadcast(cast x)`. Exact: the same numbers, converted once.
fn cast_of_repetition(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let (broadcast, x) = repetition(b, site.args[0])?;
    let once = b.add(Op::Cast(site.ty.dtype), &[x]).ok()?;
    b.add(Op::Broadcast(broadcast), &[once]).ok()
}
