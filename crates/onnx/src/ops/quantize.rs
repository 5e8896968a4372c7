//! Numbers as small integers with a scale and the integer that is zero, and sums of products of such integers.

use graver_ir::op::{Broadcast, ReduceKind};
use graver_ir::{DType, Dim, Op, ScalarFn, Shape, Value};

use super::Values;
use super::contract;
use crate::build::Builder;
use crate::format::{Element, Rounding, Way, covers};
use crate::node::Node;
use crate::problem::{Result, wrong};

/// `round(x / scale) + zero`, saturated; for floats the nearest.
pub(super) fn quantize(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    if let Some(format) = n.b.format(x) {
        return wrong(format!("elements of {} are quantised already", format.name));
    }
    let to = match n.opt(2) {
        Some(zero) => n.b.element(zero),
        None => n.element("output_dtype")?.unwrap_or(Element::Plain(DType::U8)),
    };
    let dtype = if n.b.dtype(x).is_float() { n.b.dtype(x) } else { DType::F64 };
    let compute = n.type_of("precision")?.unwrap_or(dtype);
    let scale = spread(n, 1, compute)?;
    let x = n.b.cast(x, compute)?;
    let y = n.b.div(x, scale)?;
    if to.range().is_none() {
        let rounding = Rounding { saturate: n.flag("saturate", true), way: Way::Nearest };
        return Ok(vec![n.b.converted(y, to, rounding)?]);
    }
    let zero = match n.opt(2) {
        Some(_) => Some(spread(n, 2, DType::F32)?),
        None => None,
    };
    Ok(vec![stored(n.b, y, zero, to)?])
}

/// Rounded, moved by the integer that is zero, and kept within the type.
fn stored(b: &mut Builder, x: Value, zero: Option<Value>, to: Element) -> Result<Value> {
    let Some((least, most)) = to.range() else { return wrong("integers of up to 16 bits are quantised") };
    let y = b.map(ScalarFn::Round, &[x])?;
    let wide = if b.dtype(y) == DType::F64 { DType::F64 } else { DType::F32 };
    let mut y = b.cast(y, wide)?;
    if let Some(zero) = zero {
        let zero = b.cast(zero, wide)?;
        y = b.add(y, zero)?;
    }
    let y = b.with(ScalarFn::Max, y, f64::from(least))?;
    let y = b.with(ScalarFn::Min, y, f64::from(most))?;
    let y = b.cast(y, DType::I32)?;
    b.converted(y, to, Rounding { saturate: true, way: Way::Nearest })
}

/// `(x - zero) * scale`
pub(super) fn dequantize(n: &mut Node<'_>) -> Values {
    let (x, scale) = (n.arg(0)?, n.arg(1)?);
    let integers = n.b.element(x).range().is_some() || !n.b.dtype(x).is_float() && n.b.format(x).is_none();
    let own = n.b.format(scale).map_or_else(|| n.b.dtype(scale), |_| DType::F32);
    let to = n.type_of("output_dtype")?.unwrap_or(own);
    let x = n.b.decoded(x)?;
    let mut x = n.b.cast(x, DType::F32)?;
    if n.opt(2).is_some() && integers {
        let zero = spread(n, 2, DType::F32)?;
        x = n.b.sub(x, zero)?;
    }
    let scale = spread(n, 1, DType::F32)?;
    let y = n.b.mul(x, scale)?;
    Ok(vec![n.b.cast(y, to)?])
}

/// A scale or zero as it stands beside the first operand: one, one a place along the axis, or one a block of places there.
fn spread(n: &mut Node<'_>, place: usize, dtype: DType) -> Result<Value> {
    let given = n.arg(place)?;
    let given = n.b.decoded(given)?;
    let given = n.b.cast(given, dtype)?;
    let (shape, own) = (n.shape(0)?, n.b.shape(given));
    if own.iter().all(|size| size.is(1)) {
        return n.b.reshape(given, []);
    }
    let (axis, block) = (n.axis(n.int("axis", 1), shape.rank())?, n.int("block_size", 0));
    if own.rank() == 1 {
        let trailing: Vec<usize> = (1..shape.rank() - axis).collect();
        return n.b.unsqueeze(given, &trailing);
    }
    let fits = |other: usize| other == axis || own[other] == shape[other];
    if block < 1 || own.rank() != shape.rank() || !(0..own.rank()).all(fits) || !covers(&own[axis], block, &shape[axis]) {
        return wrong(format!("{} in blocks of {block} along axis {axis} of {}", n.b.ty(given), n.b.ty(n.arg(0)?)));
    }
    let mut wide = own.0.clone();
    wide.insert(axis + 1, Dim::from(block));
    let axes = (0..wide.len()).filter(|other| *other != axis + 1).collect();
    let repeated = n.b.emit(Op::Broadcast(Broadcast { shape: Shape(wide), axes }), &[given])?;
    let mut whole = own.0;
    whole[axis] = &whole[axis] * &Dim::from(block);
    let repeated = n.b.reshape(repeated, whole)?;
    n.b.part(repeated, axis, &Dim::ZERO, &shape[axis])
}

/// The scale and the zero that bytes need for these numbers and for zero.
pub(super) fn dynamic(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let axes: Vec<usize> = (0..n.b.rank(x)).collect();
    let (top, low) = (n.b.reduce(ReduceKind::Max, x, &axes, false)?, n.b.reduce(ReduceKind::Min, x, &axes, false)?);
    let (top, low) = (n.b.with(ScalarFn::Max, top, 0.0)?, n.b.with(ScalarFn::Min, low, 0.0)?);
    let span = n.b.sub(top, low)?;
    let scale = n.b.with(ScalarFn::Div, span, 255.0)?;
    let (none, one) = (n.b.with(ScalarFn::Eq, span, 0.0)?, n.b.number(n.b.dtype(x), 1.0)?);
    let scale = n.b.select(none, one, scale)?;
    let below = n.b.map(ScalarFn::Neg, &[low])?;
    let zero = n.b.div(below, scale)?;
    let zero = stored(n.b, zero, None, Element::Plain(DType::U8))?;
    let y = n.b.div(x, scale)?;
    Ok(vec![stored(n.b, y, Some(zero), Element::Plain(DType::U8))?, scale, zero])
}

/// `x - zero` as integers of 32 bits.
fn centred(b: &mut Builder, x: Value, zero: Option<Value>) -> Result<Value> {
    let x = b.decoded(x)?;
    let x = b.cast(x, DType::I32)?;
    let Some(zero) = zero else { return Ok(x) };
    let zero = b.cast(zero, DType::I32)?;
    b.sub(x, zero)
}

/// What belongs to the rows of a matrix, as a column; what belongs to its columns is a row already.
fn of_rows(b: &mut Builder, x: Value) -> Result<Value> {
    if b.rank(x) == 1 { b.unsqueeze(x, &[1]) } else { Ok(x) }
}

pub(super) fn matmul_integer(n: &mut Node<'_>) -> Values {
    let (x, y) = (n.arg(0)?, n.arg(1)?);
    let zero = match n.opt(2) {
        Some(zero) => Some(of_rows(n.b, zero)?),
        None => None,
    };
    let (x, y) = (centred(n.b, x, zero)?, centred(n.b, y, n.opt(3))?);
    Ok(vec![n.b.matmul(x, y)?])
}

pub(super) fn matmul(n: &mut Node<'_>) -> Values {
    let (x, y) = (n.arg(0)?, n.arg(3)?);
    let (scale, zero) = (n.arg(1)?, n.arg(2)?);
    let (scale, zero) = (of_rows(n.b, scale)?, of_rows(n.b, zero)?);
    let (x, y) = (centred(n.b, x, Some(zero))?, centred(n.b, y, Some(n.arg(5)?))?);
    let sum = n.b.matmul(x, y)?;
    let scale = n.b.mul(scale, n.arg(4)?)?;
    Ok(vec![requantized(n, sum, scale)?])
}

/// Sums as the type of the result, whose scale and zero are the operands 6 and 7.
fn requantized(n: &mut Node<'_>, sum: Value, scale: Value) -> Result<Value> {
    let (own, zero) = (n.arg(6)?, n.arg(7)?);
    let scale = n.b.div(scale, own)?;
    let (sum, scale) = (n.b.cast(sum, DType::F64)?, n.b.cast(scale, DType::F64)?);
    let y = n.b.mul(sum, scale)?;
    let to = n.b.element(zero);
    stored(n.b, y, Some(zero), to)
}

/// What belongs to the output's features, beside the kernel or beside the output.
fn of_features(b: &mut Builder, x: Value, first: usize, rank: usize) -> Result<Value> {
    if b.rank(x) != 1 {
        return Ok(x);
    }
    let trailing: Vec<usize> = (1..rank - first).collect();
    b.unsqueeze(x, &trailing)
}

pub(super) fn conv_integer(n: &mut Node<'_>) -> Values {
    let (x, kernel) = (n.arg(0)?, n.arg(1)?);
    Ok(vec![convolved(n, x, n.opt(2), kernel, n.opt(3))?])
}

fn convolved(n: &mut Node<'_>, x: Value, zero: Option<Value>, kernel: Value, kernel_zero: Option<Value>) -> Result<Value> {
    let rank = n.b.rank(kernel);
    let kernel_zero = match kernel_zero {
        Some(zero) => Some(of_features(n.b, zero, 0, rank)?),
        None => None,
    };
    let zero = match zero {
        Some(zero) => Some(n.b.reshape(zero, [])?),
        None => None,
    };
    let (x, kernel) = (centred(n.b, x, zero)?, centred(n.b, kernel, kernel_zero)?);
    contract::convolved(n, x, kernel)
}

pub(super) fn conv(n: &mut Node<'_>) -> Values {
    let (x, kernel) = (n.arg(0)?, n.arg(3)?);
    let (zero, kernel_zero) = (n.arg(2)?, n.arg(5)?);
    let sum = convolved(n, x, Some(zero), kernel, Some(kernel_zero))?;
    let sum = contract::biased(n.b, sum, n.opt(8))?;
    let rank = n.b.rank(sum);
    let (own, of_kernel) = (n.arg(1)?, n.arg(4)?);
    let of_kernel = of_features(n.b, of_kernel, 1, rank)?;
    let scale = n.b.mul(own, of_kernel)?;
    Ok(vec![requantized(n, sum, scale)?])
}
