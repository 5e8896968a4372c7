//! Types of reductions and windows.

use super::{Inferred, check_axes, check_axis, check_rank, operands};
use crate::dtype::DType;
use crate::error::Diag;
use crate::op::{ArgReduce, Prefix, Reduce, ReduceKind, Window, WindowAxis, WindowPut};
use crate::ty::{Shape, Type};

/// Sums and products of numbers, extremes of anything.
fn check_kind(kind: ReduceKind, x: &Type) -> Result<(), Diag> {
    match kind {
        ReduceKind::Sum | ReduceKind::Prod if x.dtype == DType::Bool => {
            Err(Diag::new(format!("{} takes numbers, got {x}", kind.name())).help("cast to i64"))
        }
        ReduceKind::Sum | ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min => Ok(()),
    }
}

/// Axes increase and exist.
pub(super) fn reduce(reduce: &Reduce, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    check_kind(reduce.kind, x)?;
    check_axes(&reduce.axes, x)?;
    Ok(vec![Type::new(x.dtype, x.shape.without(&reduce.axes))])
}

/// The axis exists, and is not known to be empty.
pub(super) fn arg_reduce(arg: ArgReduce, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    check_axis(arg.axis, x)?;
    if x.shape[arg.axis].is(0) {
        return Err(Diag::new(format!("axis {} of {x} is empty: there is no extreme", arg.axis)));
    }
    Ok(vec![Type::new(DType::I64, x.shape.without(&[arg.axis]))])
}

/// The axis exists.
pub(super) fn prefix(prefix: Prefix, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    check_kind(prefix.kind, x)?;
    check_axis(prefix.axis, x)?;
    Ok(vec![x.clone()])
}

/// The shape of the windows over `x`.
fn windows(axes: &[WindowAxis], x: &Type) -> Result<Shape, Diag> {
    check_rank("windows", axes.len(), x)?;
    for (axis, window) in axes.iter().enumerate() {
        if window.size < 1 || window.stride < 1 || window.dilation < 1 || !window.low.is_nonneg() || !window.high.is_nonneg() {
            return Err(Diag::new(format!(
                "axis {axis} of {x}: size, stride and dilation must be 1 or more, padding 0 or more: {window:?}"
            )));
        }
        if window.count(&x.shape[axis]).bounds().hi < 0 {
            return Err(Diag::new(format!("axis {axis} of {x} is shorter than the window {window:?}")));
        }
    }
    Ok(Shape(axes.iter().zip(x.shape.iter()).map(|(window, size)| window.count(size)).collect()))
}

/// One window an axis.
pub(super) fn window(window: &Window, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    check_kind(window.kind, x)?;
    Ok(vec![Type::new(x.dtype, windows(&window.axes, x)?)])
}

/// Max or min.
pub(super) fn window_arg(window: &Window, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    match window.kind {
        ReduceKind::Max | ReduceKind::Min => Ok(vec![Type::new(DType::I32, windows(&window.axes, x)?)]),
        ReduceKind::Sum | ReduceKind::Prod => Err(Diag::new(format!("{} has no place", window.kind.name()))),
    }
}

/// The places are `i32`, one a window.
pub(super) fn window_take(axes: &[WindowAxis], args: &[&Type]) -> Inferred {
    let [x, place] = operands(args)?;
    let result = Type::new(x.dtype, windows(axes, x)?);
    check_places(&result, place)?;
    Ok(vec![result])
}

/// One value and one place a window of the result.
pub(super) fn window_put(put: &WindowPut, args: &[&Type]) -> Inferred {
    let [y, place] = operands(args)?;
    let result = Type::new(y.dtype, put.shape.clone());
    let expected = Type::new(y.dtype, windows(&put.axes, &result)?);
    if *y != expected {
        return Err(Diag::new(format!("{result} has windows {expected}, got {y}")));
    }
    if y.dtype == DType::Bool {
        return Err(Diag::new("adds numbers, got bool"));
    }
    check_places(y, place)?;
    Ok(vec![result])
}

fn check_places(windows: &Type, place: &Type) -> Result<(), Diag> {
    let expected = windows.with_dtype(DType::I32);
    if *place == expected { Ok(()) } else { Err(Diag::new(format!("the places must be {expected}, got {place}"))) }
}
