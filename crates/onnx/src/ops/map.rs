//! Operations element by element.

use graver_ir::{Array, DType, DTypeKind, Dim, Op, Scalar, ScalarFn, Value};

use super::Values;
use crate::build::Builder;
use crate::format::{Element, Rounding, Way};
use crate::known::{Known, remainder};
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

pub(super) fn unary(n: &mut Node<'_>, function: ScalarFn) -> Values {
    let x = n.arg(0)?;
    Ok(vec![n.b.map(function, &[x])?])
}

/// Before version 13 of integers too: of these as floats, cut to integers.
pub(super) fn erf(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let dtype = n.b.dtype(x);
    let float = n.b.cast(x, if dtype.is_float() || n.version >= 13 { dtype } else { DType::F64 })?;
    let y = n.b.map(ScalarFn::Erf, &[float])?;
    Ok(vec![n.b.cast(y, dtype)?])
}

/// Two operands, broadcast. Before version 7 the second one stood at an axis of the first.
pub(super) fn binary(n: &mut Node<'_>, function: ScalarFn) -> Values {
    let (x, y) = (n.arg(0)?, n.arg(1)?);
    let y = if n.version < 7 { placed(n, x, y)? } else { y };
    if function == ScalarFn::Div {
        assume_floors(n.b, x, y)?;
    }
    Ok(vec![n.b.map(function, &[x, y])?])
}

/// Division of integers cuts towards zero, which is a floor of sizes that are not negative: they are taken to be as great as that asks.
fn assume_floors(b: &Builder, x: Value, y: Value) -> Result<()> {
    let (Some(Known::Dims(sizes)), Some(divisors)) = (b.known(x), b.known(y).and_then(Known::dims)) else { return Ok(()) };
    if divisors.iter().all(Dim::is_positive) {
        for size in sizes {
            b.assume_at_least(size, 0)?;
        }
    }
    Ok(())
}

fn placed(n: &mut Node<'_>, x: Value, y: Value) -> Result<Value> {
    let (rank, own) = (n.b.rank(x), n.b.rank(y));
    if !n.has("axis") || own >= rank {
        return Ok(y);
    }
    let axis = n.axis(n.int("axis", 0), rank)?;
    if axis + own > rank {
        return wrong(format!("axis {axis} for {} in {}", n.b.ty(y), n.b.ty(x)));
    }
    let trailing: Vec<usize> = (own..rank - axis).collect();
    n.b.unsqueeze(y, &trailing)
}

/// Any number of operands, combined from the left.
pub(super) fn variadic(n: &mut Node<'_>, function: ScalarFn) -> Values {
    let args = n.all()?;
    Ok(vec![args[1..].iter().try_fold(args[0], |result, arg| n.b.map(function, &[result, *arg]))?])
}

pub(super) fn mean(n: &mut Node<'_>) -> Values {
    let args = n.all()?;
    #[expect(clippy::cast_precision_loss, reason = "a node has few operands")]
    let count = args.len() as f64;
    let y = n.b.wide(&args, |b, args| {
        let sum = args[1..].iter().try_fold(args[0], |sum, arg| b.add(sum, *arg))?;
        b.with(ScalarFn::Div, sum, count)
    })?;
    Ok(vec![y])
}

pub(super) fn identity(n: &mut Node<'_>) -> Values {
    Ok(vec![n.arg(0)?])
}

pub(super) fn cast(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let Some(to) = n.element("to")? else { return wrong("it has no `to`") };
    let rounding = rounding(n)?;
    Ok(vec![n.b.converted(x, to, rounding)?])
}

/// The bits as another type of the same size.
pub(super) fn bit_cast(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let Some(to) = n.element("to")? else { return wrong("it has no `to`") };
    let (from, Element::Plain(dtype)) = (n.b.dtype(x), to) else { return unsupported("the bits of what is stored as codes") };
    if from == dtype {
        return Ok(vec![x]);
    }
    if from.size() == 2 && from.is_float() != dtype.is_float() {
        return unsupported(format!("the bits of {} as {dtype}: 16-bit floats are computed in wider ones", n.b.ty(x)));
    }
    Ok(vec![n.b.emit(Op::Bitcast(dtype), &[x])?])
}

pub(super) fn cast_like(n: &mut Node<'_>) -> Values {
    let (x, to) = (n.arg(0)?, n.b.element(n.arg(1)?));
    let rounding = rounding(n)?;
    Ok(vec![n.b.converted(x, to, rounding)?])
}

fn rounding(n: &Node<'_>) -> Result<Rounding> {
    let way = match n.text("round_mode", "up").as_str() {
        "up" => Way::Up,
        "down" => Way::Down,
        "nearest" => Way::Nearest,
        other => return wrong(format!("the rounding `{other}`")),
    };
    Ok(Rounding { saturate: n.flag("saturate", true), way })
}

/// A power whose exponent is an integer has no fraction: integers wrap as products of them do. Integers to the power of floats are raised as floats of 64
/// bits.
pub(super) fn pow(n: &mut Node<'_>) -> Values {
    let (x, y) = (n.arg(0)?, n.arg(1)?);
    let y = if n.version < 7 { placed(n, x, y)? } else { y };
    let dtype = n.b.dtype(x);
    if !dtype.is_float() && !n.b.dtype(y).is_float() {
        return Ok(vec![integer_power(n.b, x, y)?]);
    }
    let compute = if dtype.is_float() { dtype } else { DType::F64 };
    let (x, y) = (n.b.cast(x, compute)?, n.b.cast(y, compute)?);
    let power = n.b.map(ScalarFn::Pow, &[x, y])?;
    Ok(vec![n.b.cast(power, dtype)?])
}

fn integer(b: &mut Builder, dtype: DType, value: i64) -> Result<Value> {
    b.constant(Array::full([], Scalar::int(dtype, value)))
}

/// `x^y` of integers, modulo two to the bits of `x`. Below zero, `y` gives the reciprocal, cut to an integer.
fn integer_power(b: &mut Builder, x: Value, y: Value) -> Result<Value> {
    if let Some(power) = known_exponent(b, y) {
        return known_power(b, x, power);
    }
    let (of, power) = (b.dtype(x), b.dtype(y));
    let [x, y] = b.together(&[x, y])?[..] else { return wrong("takes two operands") };
    let bits = 8 * of.size();
    let (one, unit, zero) = (integer(b, of, 1)?, integer(b, power, 1)?, integer(b, power, 0)?);
    let (mut raised, mut square, mut left) = (one, x, y);
    // Odd numbers to the power of two to the bits are 1: bits of `y` above those of `x` change nothing for them.
    for place in 0..bits.min(8 * power.size()) {
        if place > 0 {
            square = b.mul(square, square)?;
            left = b.map(ScalarFn::Shr, &[left, unit])?;
        }
        let bit = b.map(ScalarFn::And, &[left, unit])?;
        let (taken, product) = (b.map(ScalarFn::Ne, &[bit, zero])?, b.mul(raised, square)?);
        raised = b.select(taken, product, raised)?;
    }
    let (last, zero_of) = (b.map(ScalarFn::And, &[x, one])?, integer(b, of, 0)?);
    if power.size() > of.size() {
        // Of even ones, nothing is left by then.
        let (even, most) = (b.map(ScalarFn::Eq, &[last, zero_of])?, integer(b, power, i64::try_from(bits).unwrap_or(i64::MAX))?);
        let many = b.map(ScalarFn::Ge, &[y, most])?;
        let gone = b.map(ScalarFn::And, &[even, many])?;
        raised = b.select(gone, zero_of, raised)?;
    }
    if power.kind() == DTypeKind::Unsigned {
        return Ok(raised);
    }
    let below = b.map(ScalarFn::Lt, &[y, zero])?;
    let reciprocal = reciprocal_power(b, x, y)?;
    b.select(below, reciprocal, raised)
}

/// `x^y` of integers where `y` is below zero: only 1 and -1 are not cut to 0.
fn reciprocal_power(b: &mut Builder, x: Value, y: Value) -> Result<Value> {
    let (of, power) = (b.dtype(x), b.dtype(y));
    let (one, zero) = (integer(b, of, 1)?, integer(b, of, 0)?);
    let is_one = b.map(ScalarFn::Eq, &[x, one])?;
    let of_one = b.select(is_one, x, zero)?;
    if of.kind() == DTypeKind::Unsigned {
        return Ok(of_one);
    }
    let (minus, unit, none) = (integer(b, of, -1)?, integer(b, power, 1)?, integer(b, power, 0)?);
    let bit = b.map(ScalarFn::And, &[y, unit])?;
    let (odd, is_minus) = (b.map(ScalarFn::Ne, &[bit, none])?, b.map(ScalarFn::Eq, &[x, minus])?);
    let of_minus = b.select(odd, minus, one)?;
    b.select(is_minus, of_minus, of_one)
}

/// The exponent, if it is a known scalar of 0 or more.
fn known_exponent(b: &Builder, y: Value) -> Option<u64> {
    let Known::Array(array) = b.known(y)? else { return None };
    // A vector's shape is the result's, too.
    let scalar = array.shape().is_empty().then(|| array.get(0))?;
    u64::try_from(scalar.as_i64()).ok()
}

/// By squares.
fn known_power(b: &mut Builder, x: Value, mut power: u64) -> Result<Value> {
    if power == 0 {
        let one = integer(b, b.dtype(x), 1)?;
        return b.fill(one, &b.shape(x));
    }
    let (mut square, mut raised) = (x, None);
    loop {
        if power % 2 == 1 {
            raised = Some(match raised {
                None => square,
                Some(raised) => b.mul(raised, square)?,
            });
        }
        power /= 2;
        match raised {
            Some(raised) if power == 0 => return Ok(raised),
            Some(_) | None => square = b.mul(square, square)?,
        }
    }
}

/// The remainder with the divisor's sign, or, as C's `fmod`, with the dividend's.
pub(super) fn modulo(n: &mut Node<'_>) -> Values {
    let (x, y) = (n.arg(0)?, n.arg(1)?);
    let truncates = n.flag("fmod", false);
    if let Some(rest) = modulo_of_sizes(n.b, x, y, truncates)? {
        return Ok(vec![rest]);
    }
    let rest = n.b.map(ScalarFn::Rem, &[x, y])?;
    if truncates || n.b.dtype(x).kind() == DTypeKind::Unsigned {
        return Ok(vec![rest]);
    }
    let (below, divisor_below) = (n.b.with(ScalarFn::Lt, rest, 0.0)?, n.b.with(ScalarFn::Lt, y, 0.0)?);
    let differ = n.b.map(ScalarFn::Ne, &[below, divisor_below])?;
    let some = n.b.with(ScalarFn::Ne, rest, 0.0)?;
    let wraps = n.b.map(ScalarFn::And, &[differ, some])?;
    let wrapped = n.b.add(rest, y)?;
    Ok(vec![n.b.select(wraps, wrapped, rest)?])
}

/// What is left of known sizes, as sizes: the start of what is rolled along a symbolic axis. An axis that divides is taken to have an element, and to be as long
/// as it takes for nothing to be negative.
fn modulo_of_sizes(b: &mut Builder, x: Value, y: Value, truncates: bool) -> Result<Option<Value>> {
    let (dtype, shape) = (b.dtype(x), b.shape(x));
    if !matches!(dtype, DType::I32 | DType::I64) || shape != b.shape(y) {
        return Ok(None);
    }
    let sizes = |x: Value| b.known(x).and_then(Known::dims);
    let (Some(of), Some(by)) = (sizes(x), sizes(y)) else { return Ok(None) };
    if of.iter().chain(&by).all(|size| size.as_const().is_some()) {
        return Ok(None);
    }
    let mut rests = Vec::new();
    for (x, y) in of.iter().zip(&by) {
        // To have one divisor more changes nothing.
        let x = if !truncates && x.as_const().is_some_and(|x| x < 0) { x + y } else { x.clone() };
        // The remainder with the divisor's sign is what a floor leaves, whatever the sign of what is divided.
        let followed = b.assume_at_least(y, 1)? && (negated(&x) && !truncates || b.assume_at_least(&x, 0)?);
        if !followed {
            return Ok(None);
        }
        rests.push(remainder(&x, y));
    }
    if !rests.iter().all(Dim::is_small) {
        return Ok(None);
    }
    let rests = b.sizes(&rests)?;
    let rests = b.reshape(rests, shape.0)?;
    Ok(Some(b.cast(rests, dtype)?))
}

/// Whether a size is seen to be below zero, as where it is asked how much it lacks to a multiple.
fn negated(x: &Dim) -> bool {
    (-x.clone()).is_nonneg()
}

pub(super) fn bit_shift(n: &mut Node<'_>) -> Values {
    let function = match n.text("direction", "").as_str() {
        "LEFT" => ScalarFn::Shl,
        "RIGHT" => ScalarFn::Shr,
        other => return wrong(format!("the direction `{other}`")),
    };
    binary(n, function)
}

/// Bounds are attributes before version 11, operands from there.
pub(super) fn clip(n: &mut Node<'_>) -> Values {
    let mut x = n.arg(0)?;
    let bound = |n: &mut Node<'_>, name: &str, place: usize| -> Result<Option<Value>> {
        let dtype = n.b.dtype(x);
        if n.has(name) {
            let value = n.float(name, 0.0);
            return n.b.number(dtype, value).map(Some);
        }
        Ok(n.opt(place))
    };
    let (low, high) = (bound(n, "min", 1)?, bound(n, "max", 2)?);
    if let Some(low) = low {
        x = n.b.map(ScalarFn::Max, &[x, low])?;
    }
    if let Some(high) = high {
        x = n.b.map(ScalarFn::Min, &[x, high])?;
    }
    Ok(vec![x])
}

pub(super) fn select(n: &mut Node<'_>) -> Values {
    let (condition, x, y) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
    Ok(vec![n.b.select(condition, x, y)?])
}

pub(super) fn is_nan(n: &mut Node<'_>) -> Values {
    let x = n.b.decoded(n.arg(0)?)?;
    Ok(vec![n.b.map(ScalarFn::IsNan, &[x])?])
}

pub(super) fn is_inf(n: &mut Node<'_>) -> Values {
    let x = n.b.decoded(n.arg(0)?)?;
    let (up, down) = (n.b.with(ScalarFn::Eq, x, f64::INFINITY)?, n.b.with(ScalarFn::Eq, x, f64::NEG_INFINITY)?);
    Ok(vec![match (n.flag("detect_positive", true), n.flag("detect_negative", true)) {
        (true, true) => n.b.map(ScalarFn::Or, &[up, down])?,
        (true, false) => up,
        (false, true) => down,
        (false, false) => n.b.map(ScalarFn::Xor, &[up, up])?,
    }])
}

/// Inference: the operand, and a mask of true, which had the operand's type before version 10.
pub(super) fn dropout(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let trains = n.opt(2).is_some() && n.integers(2, "the training mode")? != [0];
    let ratio = if n.opt(1).is_some() { n.floats_of(1, "the ratio")?.first().copied() } else { None };
    if trains && ratio != Some(0.0) {
        return unsupported("dropout that trains");
    }
    let yes = n.b.constant(Array::full([], Scalar::bool(true)))?;
    let shape = n.b.shape(x);
    let mask = n.b.fill(yes, &shape)?;
    Ok(vec![x, if n.version < 10 { n.b.cast(mask, n.b.dtype(x))? } else { mask }])
}
