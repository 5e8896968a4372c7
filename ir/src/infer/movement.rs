//! Types of movement ops.

use super::{Inferred, check_axes, check_axis, check_rank, operands};
use crate::dim::Dim;
use crate::error::Diag;
use crate::op::{Broadcast, PadAxis, Perm, SliceAxis};
use crate::ty::{Shape, Type};

/// The number of elements stays.
pub(super) fn reshape(shape: &Shape, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    let (from, to) = (x.shape.numel(), shape.numel());
    if from == to {
        Ok(vec![Type::new(x.dtype, shape.clone())])
    } else {
        Err(Diag::new(format!("{x} has {from} elements, {shape} has {to}")))
    }
}

/// One entry an axis.
pub(super) fn permute(perm: &Perm, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    check_rank("axes", perm.axes().len(), x)?;
    Ok(vec![Type::new(x.dtype, Shape(perm.axes().iter().map(|axis| x.shape[*axis].clone()).collect()))])
}

/// Axes increase, and sizes there are equal: a size of one does not stretch.
pub(super) fn broadcast(broadcast: &Broadcast, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    let result = Type::new(x.dtype, broadcast.shape.clone());
    check_rank("axes", broadcast.axes.len(), x)?;
    check_axes(&broadcast.axes, &result)?;
    for (from, to) in broadcast.axes.iter().enumerate() {
        if x.shape[from] != result.shape[*to] {
            return Err(Diag::new(format!(
                "axis {from} of {x} is {}, axis {to} of {result} is {}",
                x.shape[from], result.shape[*to]
            )));
        }
    }
    Ok(vec![result])
}

/// `0 <= start`, `start + (size - 1) * step < operand's size` where it can be told.
pub(super) fn slice(axes: &[SliceAxis], args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    check_rank("ranges", axes.len(), x)?;
    for (axis, range) in axes.iter().enumerate() {
        let last = &range.start + (&range.size - Dim::ONE) * Dim::from(range.step);
        let outside = (&last - &x.shape[axis]).is_nonneg() && range.size.is_positive();
        if range.step < 1 || range.start.bounds().hi < 0 || outside {
            return Err(Diag::new(format!(
                "axis {axis} of {x}: {} elements from {} by {} do not lie inside",
                range.size, range.start, range.step
            )));
        }
    }
    Ok(vec![Type::new(x.dtype, Shape(axes.iter().map(|range| range.size.clone()).collect()))])
}

/// The value is a scalar of the operand's element type; amounts are not negative.
pub(super) fn pad(axes: &[PadAxis], args: &[&Type]) -> Inferred {
    let [x, value] = operands(args)?;
    check_rank("paddings", axes.len(), x)?;
    if *value != Type::scalar(x.dtype) {
        return Err(Diag::new(format!("the value around {x} must be {}, got {value}", Type::scalar(x.dtype))));
    }
    let mut dims = Vec::new();
    for (axis, pad) in axes.iter().enumerate() {
        if pad.interior < 0 || !pad.low.is_nonneg() || !pad.high.is_nonneg() {
            return Err(Diag::new(format!(
                "axis {axis} of {x}: padding {}, {}, {} may be negative",
                pad.low, pad.high, pad.interior
            ))
            .help("slice to make it smaller"));
        }
        let gaps = if pad.interior == 0 { Dim::ZERO } else { (&x.shape[axis] - Dim::ONE).max_with(&Dim::ZERO) };
        dims.push(&x.shape[axis] + gaps * Dim::from(pad.interior) + &pad.low + &pad.high);
    }
    Ok(vec![Type::new(x.dtype, Shape(dims))])
}

/// Operands agree but for the size of the axis.
pub(super) fn concat(axis: usize, args: &[&Type]) -> Inferred {
    let [first, rest @ ..] = args else { return Err(Diag::new("takes one operand or more")) };
    check_axis(axis, first)?;
    let mut result = (*first).clone();
    for other in rest {
        let alike = other.dtype == first.dtype
            && other.rank() == first.rank()
            && (0..first.rank()).all(|place| place == axis || other.shape[place] == first.shape[place]);
        if !alike {
            return Err(Diag::new(format!("{first} and {other} differ in more than axis {axis}")));
        }
        result.shape.0[axis] = &result.shape.0[axis] + &other.shape[axis];
    }
    Ok(vec![result])
}

/// Axes increase and exist.
pub(super) fn reverse(axes: &[usize], args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    check_axes(axes, x)?;
    Ok(vec![x.clone()])
}
