//! Random maps. Each function's reach is written with it: where it is applied, its slope there, and the size of its results.

use graver_ir::{DType, DTypeKind, Op, Rule, ScalarFn};

use super::numbers::Numbers;
use super::{Gen, Known, Recipe};

pub(super) const RECIPES: &[Recipe] = &[unary, bounded, positive, binary, binary, integers, compare, test, select, cast, not];

const fn is_discrete(dtype: DType) -> bool {
    !dtype.is_float()
}

fn map1(g: &mut Gen<'_>, function: ScalarFn, x: &Known, numbers: Numbers) -> Option<()> {
    g.emit(Op::Map(function), &[x.value], numbers).map(drop)
}

fn map2(g: &mut Gen<'_>, function: ScalarFn, x: &Known, y: &Known, numbers: Numbers) -> Option<()> {
    g.emit(Op::Map(function), &[x.value, y.value], numbers).map(drop)
}

/// Functions of numbers that neither grow nor round, and those that jump, for exact values.
fn unary(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.dtype() != DType::Bool)?;
    let steady = [ScalarFn::Neg, ScalarFn::Abs, ScalarFn::Relu];
    let jumping = [ScalarFn::Sign, ScalarFn::Floor, ScalarFn::Ceil, ScalarFn::Trunc, ScalarFn::Round];
    let jumps = x.numbers.is_exact() && g.rng.once_in(2);
    let function = if jumps { *g.rng.pick(&jumping) } else { *g.rng.pick(&steady) };
    function.infer(&[x.dtype()]).ok()?;
    let wraps = Numbers::discrete(x.dtype());
    let numbers = match (is_discrete(x.dtype()), jumps) {
        (true, _) => wraps.capped(if x.dtype().kind() == DTypeKind::Unsigned { f64::INFINITY } else { x.numbers.max }),
        (false, true) => Numbers { max: x.numbers.max.ceil().max(1.0), grain: Some(1.0), ..x.numbers },
        (false, false) => x.numbers,
    };
    map1(g, function, &x, numbers)
}

/// Smooth functions that are defined everywhere.
fn bounded(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.dtype().is_float())?;
    let (dtype, reach) = (x.dtype(), (x.numbers.max + x.numbers.error).exp());
    // Slope and size.
    let bounded = [
        (ScalarFn::Sin, 1.0, 1.0),
        (ScalarFn::Cos, 1.0, 1.0),
        (ScalarFn::Tanh, 1.0, 1.0),
        (ScalarFn::Sigmoid, 0.25, 1.0),
        (ScalarFn::Erf, 1.2, 1.0),
        (ScalarFn::Exp, reach, reach),
        (ScalarFn::Expm1, reach, reach),
    ];
    let (function, slope, max) = *g.rng.pick(&bounded);
    map1(g, function, &x, x.numbers.smooth(dtype, slope, max, 4.0))
}

/// `|x| + 1/2`: where logarithms, roots and quotients are smooth.
fn away_from_zero(g: &mut Gen<'_>, x: &Known) -> Option<Known> {
    let dtype = x.dtype();
    let magnitude = g.emit_hidden(Op::Map(ScalarFn::Abs), &[x.value], x.numbers)?;
    let half = g.splat(dtype, &x.ty.shape, 0.5);
    let numbers = x.numbers.add(Numbers::constant(dtype, 0.5), dtype);
    g.emit_hidden(Op::Map(ScalarFn::Add), &[magnitude.value, half], numbers)
}

/// Functions that are defined for positive arguments.
fn positive(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.dtype().is_float())?;
    let dtype = x.dtype();
    let x = away_from_zero(g, &x)?;
    let (max, numbers) = (x.numbers.max, x.numbers);
    // At 1/2 and above: slope and size.
    let functions = [
        (ScalarFn::Log, 2.0, max.ln().abs().max(0.7)),
        (ScalarFn::Log1p, 1.0, max.ln_1p()),
        (ScalarFn::Sqrt, 0.71, max.sqrt()),
        (ScalarFn::Rsqrt, 1.42, 1.42),
    ];
    if g.rng.once_in(3) {
        let y = g.any(|y| y.ty == x.ty && y.numbers.max <= 2.0 && y.numbers.error < 0.1)?;
        return power(g, &x, &y);
    }
    let (function, slope, size) = *g.rng.pick(&functions);
    map1(g, function, &x, numbers.smooth(dtype, slope, size, 4.0))
}

/// `x^y` for `x >= 1/2`, `|y| <= 2`.
fn power(g: &mut Gen<'_>, x: &Known, y: &Known) -> Option<()> {
    let base = (x.numbers.max + x.numbers.error).max(2.0);
    let size = base.powf(2.1);
    // d/dx is at most |y| x^(y-1); d/dy is x^y ln x.
    let by_base = x.numbers.smooth(x.dtype(), 2.0 * base.powf(1.1).max(9.0), size, 0.0);
    let by_exponent = y.numbers.smooth(x.dtype(), size * base.ln(), size, 16.0);
    let numbers = Numbers { error: by_base.error + by_exponent.error, ..by_exponent };
    map2(g, ScalarFn::Pow, x, y, numbers)
}

type Binary = fn(&mut Gen<'_>, &Known, &Known) -> Option<()>;

/// Arithmetic of two operands, which may be one value.
fn binary(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.dtype() != DType::Bool)?;
    let y = g.alike(&x, |_| true)?;
    let division: Binary = if x.dtype().is_float() { quotient } else { integer_quotient };
    let kinds: [Binary; 4] = [sum, product, extreme, division];
    g.rng.pick(&kinds)(g, &x, &y)
}

fn sum(g: &mut Gen<'_>, x: &Known, y: &Known) -> Option<()> {
    let function = *g.rng.pick(&[ScalarFn::Add, ScalarFn::Sub]);
    let numbers = x.numbers.add(y.numbers, x.dtype());
    // A difference of unsigned integers wraps.
    let wraps = function == ScalarFn::Sub && x.dtype().kind() == DTypeKind::Unsigned;
    map2(g, function, x, y, if wraps { Numbers::discrete(x.dtype()) } else { numbers })
}

fn product(g: &mut Gen<'_>, x: &Known, y: &Known) -> Option<()> {
    map2(g, ScalarFn::Mul, x, y, x.numbers.mul(y.numbers, x.dtype()))
}

fn extreme(g: &mut Gen<'_>, x: &Known, y: &Known) -> Option<()> {
    let function = *g.rng.pick(&[ScalarFn::Max, ScalarFn::Min]);
    map2(g, function, x, y, x.numbers.either(y.numbers))
}

fn quotient(g: &mut Gen<'_>, x: &Known, y: &Known) -> Option<()> {
    let (y, dtype) = (away_from_zero(g, y)?, x.dtype());
    if g.rng.once_in(2) {
        // Jumps where the quotient is whole; exact where both are.
        let exact = x.numbers.is_exact() && y.numbers.is_exact();
        let numbers = x.numbers.either(y.numbers).capped(x.numbers.max);
        return if exact { map2(g, ScalarFn::Rem, x, &y, numbers) } else { None };
    }
    let size = 2.0 * x.numbers.max;
    let error = 1.5 * (2.0 * x.numbers.error + 4.0 * x.numbers.max * y.numbers.error);
    let numbers = Numbers { max: size, error, grain: None };
    map2(g, ScalarFn::Div, x, &y, numbers.add(Numbers { max: 0.0, error: 0.0, grain: None }, dtype))
}

/// By `y & 7 | 1`, which is neither 0 nor -1.
fn integer_quotient(g: &mut Gen<'_>, x: &Known, y: &Known) -> Option<()> {
    let function = *g.rng.pick(&[ScalarFn::Div, ScalarFn::Rem]);
    let (seven, one) = (g.splat(x.dtype(), &x.ty.shape, 7.0), g.splat(x.dtype(), &x.ty.shape, 1.0));
    let low = g.emit_hidden(Op::Map(ScalarFn::And), &[y.value, seven], Numbers::discrete(x.dtype()).capped(7.0))?;
    let odd = g.emit_hidden(Op::Map(ScalarFn::Or), &[low.value, one], low.numbers)?;
    map2(g, function, x, &odd, x.numbers)
}

/// Bits of integers and truth values.
fn integers(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| is_discrete(x.dtype()))?;
    let y = g.alike(&x, |_| true)?;
    let function = *g.rng.pick(&[ScalarFn::And, ScalarFn::Or, ScalarFn::Xor, ScalarFn::Shl, ScalarFn::Shr]);
    function.infer(&[x.dtype(); 2]).ok()?;
    let numbers = Numbers::discrete(x.dtype());
    if function.rule() == Rule::Bits {
        return map2(g, function, &x, &y, numbers);
    }
    // Some distances reach past the width; none is negative.
    let mask = g.splat(x.dtype(), &x.ty.shape, 127.0);
    let distance = g.emit_hidden(Op::Map(ScalarFn::And), &[y.value, mask], numbers)?;
    map2(g, function, &x, &distance, numbers)
}

fn not(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| is_discrete(x.dtype()))?;
    map1(g, ScalarFn::Not, &x, Numbers::discrete(x.dtype()))
}

fn compare(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.numbers.is_exact())?;
    let y = g.alike(&x, |y| y.numbers.is_exact())?;
    let functions = [ScalarFn::Eq, ScalarFn::Ne, ScalarFn::Lt, ScalarFn::Le, ScalarFn::Gt, ScalarFn::Ge];
    let function = *g.rng.pick(&functions);
    map2(g, function, &x, &y, Numbers::discrete(DType::Bool))
}

fn test(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.dtype().is_float())?;
    let function = *g.rng.pick(&[ScalarFn::IsNan, ScalarFn::IsFinite]);
    map1(g, function, &x, Numbers::discrete(DType::Bool))
}

fn select(g: &mut Gen<'_>) -> Option<()> {
    let condition = g.any(|x| x.dtype() == DType::Bool)?;
    let x = g.any(|x| x.ty.shape == condition.ty.shape)?;
    let y = g.alike(&x, |_| true)?;
    g.emit(Op::Map(ScalarFn::Select), &[condition.value, x.value, y.value], x.numbers.either(y.numbers)).map(drop)
}

fn cast(g: &mut Gen<'_>) -> Option<()> {
    let to = *g.rng.pick(&DType::ALL);
    let x = g.any(|x| to.is_float() && x.numbers.max <= 1000.0 || x.numbers.is_exact())?;
    let numbers = match (to.is_float(), x.dtype().is_float()) {
        (true, _) => x.numbers.cast(to),
        // Truncates, saturates.
        (false, true) => Numbers::discrete(to).capped(x.numbers.max.max(1.0)),
        (false, false) => Numbers::discrete(to),
    };
    g.emit(Op::Cast(to), &[x.value], numbers).map(drop)
}
