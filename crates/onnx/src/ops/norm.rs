//! Normalisations.

use graver_ir::op::{Composite, ReduceKind, Window, WindowAxis};
use graver_ir::{DType, Dim, Op, ScalarFn, Shape, Value};

use super::Values;
use super::window::{powers, root};
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// A vector over the second axis, as it broadcasts to a tensor of a rank.
fn channels(b: &mut Builder, vector: Value, rank: usize) -> Result<Value> {
    let trailing: Vec<usize> = (1..rank.saturating_sub(1)).collect();
    b.unsqueeze(vector, &trailing)
}

/// The mean and the variance (divided by the count) over axes that stay with size one.
fn moments(b: &mut Builder, x: Value, axes: &[usize]) -> Result<(Value, Value)> {
    let mean = b.mean(x, axes, true)?;
    let centred = b.sub(x, mean)?;
    let squares = b.mul(centred, centred)?;
    Ok((mean, b.mean(squares, axes, true)?))
}

/// `1 / sqrt(variance + eps)`
fn inverse_root(b: &mut Builder, variance: Value, eps: f64) -> Result<Value> {
    let above = b.with(ScalarFn::Add, variance, eps)?;
    b.map(ScalarFn::Rsqrt, &[above])
}

fn normal(b: &mut Builder, x: Value, mean: Value, variance: Value, eps: f64) -> Result<Value> {
    let (centred, scale) = (b.sub(x, mean)?, inverse_root(b, variance, eps)?);
    b.mul(centred, scale)
}

fn affine(b: &mut Builder, x: Value, scale: Value, bias: Value) -> Result<Value> {
    let scaled = b.mul(x, scale)?;
    b.add(scaled, bias)
}

/// Over all axes but the second: by given statistics, or, in training, by the batch's, with updated ones beside. Before version 9 the
/// statistics could be of every place of a sample.
pub(super) fn batch(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let (rank, dtype, eps) = (n.b.rank(x), n.b.dtype(x), n.float("epsilon", 1e-5));
    let by_place = n.version < 9 && !n.flag("spatial", true);
    if rank < 2 {
        return unsupported(format!("batch norm of {} without channels", n.b.ty(x)));
    }
    let trains = n.flag("training_mode", false);
    let x = n.b.widened(x)?;
    let mut vectors = Vec::new();
    for place in 1..5 {
        let vector = n.arg(place)?;
        let vector = n.b.cast(vector, n.b.dtype(x))?;
        if by_place {
            n.b.of_rank(vector, rank - 1, "what belongs to the places of a sample")?;
            vectors.push(vector);
        } else {
            vectors.push(channels(n.b, vector, rank)?);
        }
    }
    let [scale, bias, mean, variance] = [vectors[0], vectors[1], vectors[2], vectors[3]];
    if !trains {
        let y = normal(n.b, x, mean, variance, eps)?;
        let y = affine(n.b, y, scale, bias)?;
        return Ok(vec![n.b.cast(y, dtype)?]);
    }
    let axes: Vec<usize> = (0..rank).filter(|axis| *axis != 1).collect();
    let (batch_mean, batch_variance) = moments(n.b, x, &axes)?;
    let y = normal(n.b, x, batch_mean, batch_variance, eps)?;
    let y = affine(n.b, y, scale, bias)?;
    let y = n.b.cast(y, dtype)?;
    let momentum = n.float("momentum", 0.9);
    let mut updated = |old: Value, new: Value, place: usize| -> Result<Value> {
        let size = n.b.shape(x)[1].clone();
        let (old, new) = (n.b.reshape(old, [size.clone()])?, n.b.reshape(new, [size])?);
        let (old, new) = (n.b.with(ScalarFn::Mul, old, momentum)?, n.b.with(ScalarFn::Mul, new, 1.0 - momentum)?);
        let sum = n.b.add(old, new)?;
        n.b.cast(sum, n.dtype(place)?)
    };
    let (mean, variance) = (updated(mean, batch_mean, 3)?, updated(variance, batch_variance, 4)?);
    Ok(vec![y, mean, variance])
}

/// Each channel of each row by itself.
pub(super) fn instance(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let rank = n.b.rank(x);
    if rank < 3 {
        return wrong(format!("takes [n, c, ..], got {}", n.b.ty(x)));
    }
    let (axes, eps): (Vec<usize>, f64) = ((2..rank).collect(), n.float("epsilon", 1e-5));
    let args = [x, n.arg(1)?, n.arg(2)?];
    let y = n.b.wide(&args, |b, args| {
        let (mean, variance) = moments(b, args[0], &axes)?;
        let y = normal(b, args[0], mean, variance, eps)?;
        let (scale, bias) = (channels(b, args[1], rank)?, channels(b, args[2], rank)?);
        affine(b, y, scale, bias)
    })?;
    Ok(vec![y])
}

/// Groups of channels; before version 21 scale and bias belonged to groups.
pub(super) fn group(n: &mut Node<'_>) -> Values {
    let (x, scale, bias) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
    let (shape, dtype, groups) = (n.b.shape(x), n.b.dtype(x), n.int("num_groups", 1).max(1));
    if shape.rank() < 2 {
        return wrong(format!("takes [n, c, ..], got {}", n.b.ty(x)));
    }
    let compute = if n.int("stash_type", 1) == 1 && dtype != DType::F64 { DType::F32 } else { dtype };
    let row: Dim = shape[1..].iter().product();
    let grouped = [shape[0].clone(), Dim::from(groups), row.floor_div(&Dim::from(groups))];
    let rows = n.b.reshape(x, grouped.clone())?;
    let rows = n.b.cast(rows, compute)?;
    let (mean, variance) = moments(n.b, rows, &[2])?;
    let y = normal(n.b, rows, mean, variance, n.float("epsilon", 1e-5))?;
    let y = n.b.cast(y, dtype)?;
    if n.version < 21 {
        let (scale, bias) = (n.b.unsqueeze(scale, &[1])?, n.b.unsqueeze(bias, &[1])?);
        let y = affine(n.b, y, scale, bias)?;
        return Ok(vec![n.b.reshape(y, shape.0)?]);
    }
    let y = n.b.reshape(y, shape.0.clone())?;
    let (scale, bias) = (channels(n.b, scale, shape.rank())?, channels(n.b, bias, shape.rank())?);
    Ok(vec![affine(n.b, y, scale, bias)?])
}

/// Rows over the axes from one on.
pub(super) fn layer(n: &mut Node<'_>) -> Values {
    let (x, scale) = (n.arg(0)?, n.arg(1)?);
    let (shape, dtype, eps) = (n.b.shape(x), n.b.dtype(x), n.float("epsilon", 1e-5));
    let axis = n.axis(n.int("axis", -1), shape.rank())?;
    let row = Shape(shape[axis..].to_vec());
    let bias = match n.opt(2) {
        Some(bias) => bias,
        None => {
            let zero = n.b.number(dtype, 0.0)?;
            n.b.fill(zero, &row)?
        }
    };
    let whole = [scale, bias].iter().all(|vector| n.b.shape(*vector) == row && n.b.dtype(*vector) == dtype);
    if whole && !n.gives(1) && !n.gives(2) {
        let flat = [&shape[..axis], &[row.numel()]].concat();
        let rows = n.b.reshape(x, flat)?;
        let (scale, bias) = (n.b.reshape(scale, [row.numel()])?, n.b.reshape(bias, [row.numel()])?);
        let y = rows_normal(n.b, rows, scale, bias, eps)?;
        return Ok(vec![n.b.reshape(y, shape.0)?]);
    }
    let compute = if n.int("stash_type", 1) == 1 && dtype != DType::F64 { DType::F32 } else { dtype };
    let wide = n.b.cast(x, compute)?;
    let axes: Vec<usize> = (axis..shape.rank()).collect();
    let (mean, variance) = moments(n.b, wide, &axes)?;
    let inverse = inverse_root(n.b, variance, eps)?;
    let centred = n.b.sub(wide, mean)?;
    let y = n.b.mul(centred, inverse)?;
    let y = n.b.cast(y, dtype)?;
    Ok(vec![affine(n.b, y, scale, bias)?, mean, inverse])
}

/// The composite: over the last axis.
pub(crate) fn rows_normal(b: &mut Builder, x: Value, scale: Value, bias: Value, eps: f64) -> Result<Value> {
    b.composite(Composite::LayerNorm, &format!("eps{eps:e}"), &[x, scale, bias], |b, args| {
        b.wide(args, |b, args| {
            let axis = b.rank(args[0]) - 1;
            let (mean, variance) = moments(b, args[0], &[axis])?;
            let y = normal(b, args[0], mean, variance, eps)?;
            affine(b, y, args[1], args[2])
        })
    })
}

pub(super) fn rms(n: &mut Node<'_>) -> Values {
    let (x, scale) = (n.arg(0)?, n.arg(1)?);
    let (rank, dtype) = (n.b.rank(x), n.b.dtype(x));
    let axis = n.axis(n.int("axis", -1), rank)?;
    let compute = if n.int("stash_type", 1) == 1 && dtype != DType::F64 { DType::F32 } else { dtype };
    let wide = n.b.cast(x, compute)?;
    let squares = n.b.mul(wide, wide)?;
    let mean = n.b.mean(squares, &(axis..rank).collect::<Vec<_>>(), true)?;
    let inverse = inverse_root(n.b, mean, n.float("epsilon", 1e-5))?;
    let y = n.b.mul(wide, inverse)?;
    let y = n.b.cast(y, dtype)?;
    Ok(vec![n.b.mul(y, scale)?])
}

/// Rows divided by their norms; a row of zeros stays.
pub(super) fn lp(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let axis = n.axis(n.int("axis", -1), n.b.rank(x))?;
    #[expect(clippy::cast_precision_loss, reason = "an exponent is small")]
    let order = n.int("p", 2) as f64;
    let y = n.b.wide(&[x], |b, args| {
        let powers = powers(b, args[0], order)?;
        let sum = b.reduce(ReduceKind::Sum, powers, &[axis], true)?;
        let norm = root(b, sum, order)?;
        let empty = b.with(ScalarFn::Eq, norm, 0.0)?;
        let one = b.number(b.dtype(norm), 1.0)?;
        let norm = b.select(empty, one, norm)?;
        b.div(args[0], norm)
    })?;
    Ok(vec![y])
}

pub(super) fn mean_variance(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let rank = n.b.rank(x);
    let axes = n.axes(&n.ints("axes").unwrap_or_else(|| vec![0, 2, 3]), rank)?;
    let y = n.b.wide(&[x], |b, args| {
        let (mean, variance) = moments(b, args[0], &axes)?;
        let centred = b.sub(args[0], mean)?;
        let deviation = b.map(ScalarFn::Sqrt, &[variance])?;
        let deviation = b.with(ScalarFn::Add, deviation, 1e-9)?;
        b.div(centred, deviation)
    })?;
    Ok(vec![y])
}

/// The widest window of channels whose number is a symbol: each channel is the work of its whole window.
const MAX_CHANNELS: i64 = 1 << 12;

/// Krizhevsky et al. (2012), "ImageNet classification with deep convolutional neural networks": local response normalisation.
pub(super) fn local_response(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let (rank, size) = (n.b.rank(x), n.int("size", 1));
    if rank < 2 || size < 1 {
        return wrong(format!("windows of {size} channels of {}", n.b.ty(x)));
    }
    #[expect(clippy::cast_precision_loss, reason = "a share is rounded")]
    let share = n.float("alpha", 1e-4) / size as f64;
    let (bias, beta) = (n.float("bias", 1.0), n.float("beta", 0.75));
    // From no channel more than the others are seen: a wider window adds nothing.
    let most = match n.b.along(x, 1)?.as_const() {
        Some(channels) => channels.saturating_sub(1).max(0),
        None if size > MAX_CHANNELS => return unsupported(format!("windows of {size} of a number of channels that is a symbol")),
        None => size,
    };
    let (low, high) = (((size - 1) / 2).min(most), (size - 1 - (size - 1) / 2).min(most));
    let y = n.b.wide(&[x], |b, args| {
        let squares = b.mul(args[0], args[0])?;
        let mut axes = vec![WindowAxis::IDENTITY; rank];
        axes[1] = WindowAxis { size: low + high + 1, low: Dim::from(low), high: Dim::from(high), ..WindowAxis::IDENTITY };
        let sum = b.emit(Op::Window(Window { kind: ReduceKind::Sum, axes }), &[squares])?;
        let sum = b.with(ScalarFn::Mul, sum, share)?;
        let base = b.with(ScalarFn::Add, sum, bias)?;
        let divisor = b.with(ScalarFn::Pow, base, beta)?;
        b.div(args[0], divisor)
    })?;
    Ok(vec![y])
}
