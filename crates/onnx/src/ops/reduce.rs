//! Reductions, extremes' positions, softmax and its kin, cumulative operations.

use graver_ir::op::{ArgReduce, Composite, Extreme, Prefix, ReduceKind};
use graver_ir::{DType, Dim, Op, ScalarFn, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, wrong};

/// What a reduction does around its sum, product or extreme.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Plain(ReduceKind),
    Mean,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

pub(super) fn reduce(n: &mut Node<'_>, kind: Kind) -> Values {
    let x = n.arg(0)?;
    let (rank, keep) = (n.b.rank(x), n.flag("keepdims", true));
    let axes = n.axes_of(1, rank)?.filter(|axes| !axes.is_empty());
    let axes = match axes {
        Some(axes) => axes,
        None if n.flag("noop_with_empty_axes", false) => Vec::new(),
        None => (0..rank).collect(),
    };
    Ok(vec![apply(n.b, kind, x, &axes, keep)?])
}

fn apply(b: &mut Builder, kind: Kind, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
    b.wide(&[x], |b, args| computed(b, kind, args[0], axes, keep))
}

fn computed(b: &mut Builder, kind: Kind, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
    match kind {
        Kind::Plain(kind) => b.reduce(kind, x, axes, keep),
        Kind::Mean => b.mean(x, axes, keep),
        Kind::L1 => {
            let sizes = b.map(ScalarFn::Abs, &[x])?;
            b.reduce(ReduceKind::Sum, sizes, axes, keep)
        }
        Kind::SumSquare => {
            let squares = b.mul(x, x)?;
            b.reduce(ReduceKind::Sum, squares, axes, keep)
        }
        Kind::L2 => {
            let sum = computed(b, Kind::SumSquare, x, axes, keep)?;
            in_floats(b, sum, ScalarFn::Sqrt)
        }
        Kind::LogSum => {
            let sum = b.reduce(ReduceKind::Sum, x, axes, keep)?;
            in_floats(b, sum, ScalarFn::Log)
        }
        Kind::LogSumExp => log_sum_exp(b, x, axes, keep),
    }
}

/// A function of floats applied to any numbers.
fn in_floats(b: &mut Builder, x: Value, function: ScalarFn) -> Result<Value> {
    let dtype = b.dtype(x);
    let float = b.cast(x, if dtype.is_float() { dtype } else { DType::F64 })?;
    let y = b.map(function, &[float])?;
    b.cast(y, dtype)
}

/// Shifted by the greatest element, where that is finite.
fn log_sum_exp(b: &mut Builder, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
    let dtype = b.dtype(x);
    let x = b.cast(x, if dtype.is_float() { dtype } else { DType::F64 })?;
    let top = b.reduce(ReduceKind::Max, x, axes, true)?;
    let (finite, zero) = (b.map(ScalarFn::IsFinite, &[top])?, b.number(b.dtype(x), 0.0)?);
    let top = b.select(finite, top, zero)?;
    let shifted = b.sub(x, top)?;
    let exp = b.map(ScalarFn::Exp, &[shifted])?;
    let sum = b.reduce(ReduceKind::Sum, exp, axes, true)?;
    let log = b.map(ScalarFn::Log, &[sum])?;
    let kept = b.add(log, top)?;
    let shape = if keep { b.shape(kept) } else { b.shape(kept).without(axes) };
    let y = b.reshape(kept, shape.0)?;
    b.cast(y, dtype)
}

pub(super) fn arg(n: &mut Node<'_>, kind: Extreme) -> Values {
    let x = n.arg(0)?;
    let axis = n.axis(n.int("axis", 0), n.b.rank(x))?;
    let mut position = if n.flag("select_last_index", false) {
        let reversed = n.b.emit(Op::Reverse(vec![axis]), &[x])?;
        let from_end = n.b.emit(Op::ArgReduce(ArgReduce { kind, axis }), &[reversed])?;
        let last = n.b.shape(x)[axis].clone() - Dim::ONE;
        let last = n.b.size(&last, DType::I64)?;
        n.b.sub(last, from_end)?
    } else {
        n.b.emit(Op::ArgReduce(ArgReduce { kind, axis }), &[x])?
    };
    if n.flag("keepdims", true) {
        position = n.b.unsqueeze(position, &[axis])?;
    }
    Ok(vec![position])
}

/// A function of rows.
#[derive(Clone, Copy)]
pub(crate) enum Rows {
    Softmax,
    LogSoftmax,
    Hardmax,
}

/// Along one axis; before version 13, over all axes from one on.
pub(super) fn rows(n: &mut Node<'_>, rows: Rows) -> Values {
    let x = n.arg(0)?;
    let shape = n.b.shape(x);
    if n.version >= 13 {
        let axis = n.axis(n.int("axis", -1), shape.rank())?;
        return Ok(vec![along(n.b, x, axis, rows)?]);
    }
    let axis = n.int("axis", 1);
    let axis = if usize::try_from(axis) == Ok(shape.rank()) { shape.rank() } else { n.axis(axis, shape.rank())? };
    if axis + 1 == shape.rank() {
        return Ok(vec![along(n.b, x, axis, rows)?]);
    }
    let (lead, row) = shape.split_at(axis);
    let matrix = n.b.reshape(x, [lead.iter().product::<Dim>(), row.iter().product()])?;
    let y = along(n.b, matrix, 1, rows)?;
    Ok(vec![n.b.reshape(y, shape.0)?])
}

pub(crate) fn along(b: &mut Builder, x: Value, axis: usize, rows: Rows) -> Result<Value> {
    let last = b.rank(x) - 1;
    let x = b.swap(x, axis, last)?;
    let y = match rows {
        Rows::Softmax => softmax(b, x)?,
        Rows::LogSoftmax => log_softmax(b, x)?,
        Rows::Hardmax => hardmax(b, x)?,
    };
    b.swap(y, axis, last)
}

/// `x - max(x)` along the last axis.
fn shifted(b: &mut Builder, x: Value) -> Result<Value> {
    let top = b.reduce(ReduceKind::Max, x, &[b.rank(x) - 1], true)?;
    let top = b.emit(Op::StopGradient, &[top])?;
    b.sub(x, top)
}

/// Over the last axis.
pub(crate) fn softmax(b: &mut Builder, x: Value) -> Result<Value> {
    b.composite(Composite::Softmax, "", &[x], |b, args| {
        b.wide(args, |b, args| {
            let shifted = shifted(b, args[0])?;
            let exp = b.map(ScalarFn::Exp, &[shifted])?;
            let sum = b.reduce(ReduceKind::Sum, exp, &[b.rank(exp) - 1], true)?;
            b.div(exp, sum)
        })
    })
}

/// Over the last axis.
pub(crate) fn log_softmax(b: &mut Builder, x: Value) -> Result<Value> {
    b.composite(Composite::LogSoftmax, "", &[x], |b, args| {
        b.wide(args, |b, args| {
            let shifted = shifted(b, args[0])?;
            let exp = b.map(ScalarFn::Exp, &[shifted])?;
            let sum = b.reduce(ReduceKind::Sum, exp, &[b.rank(exp) - 1], true)?;
            let log = b.map(ScalarFn::Log, &[sum])?;
            b.sub(shifted, log)
        })
    })
}

fn hardmax(b: &mut Builder, x: Value) -> Result<Value> {
    let (shape, axis) = (b.shape(x), b.rank(x) - 1);
    let top = b.emit(Op::ArgReduce(ArgReduce { kind: Extreme::Max, axis }), &[x])?;
    let top = b.unsqueeze(top, &[axis])?;
    let place = b.iota(DType::I64, &shape, axis)?;
    let first = b.map(ScalarFn::Eq, &[place, top])?;
    b.cast(first, b.dtype(x))
}

/// Sums or products of everything up to each element.
pub(super) fn cumulative(n: &mut Node<'_>, kind: ReduceKind) -> Values {
    let x = n.arg(0)?;
    let axes = n.integers(1, "the axis")?;
    let [axis] = axes.as_slice() else { return wrong("the axis is one number") };
    let axis = n.axis(*axis, n.b.rank(x))?;
    let (exclusive, reverse) = (n.flag("exclusive", false), n.flag("reverse", false));
    let x = if exclusive { moved(n.b, kind, x, axis, reverse)? } else { x };
    Ok(vec![n.b.emit(Op::Prefix(Prefix { kind, axis, reverse }), &[x])?])
}

/// The elements one place later, or earlier, and in the first place what an empty reduction gives.
fn moved(b: &mut Builder, kind: ReduceKind, x: Value, axis: usize, earlier: bool) -> Result<Value> {
    let size = b.shape(x)[axis].clone();
    let identity = b.constant(graver_ir::Array::full([], kind.identity(b.dtype(x))))?;
    let [low, high] = if earlier { [Dim::ZERO, Dim::ONE] } else { [Dim::ONE, Dim::ZERO] };
    let longer = b.pad(x, axis, &low, &high, identity)?;
    b.part(longer, axis, &high, &size)
}
