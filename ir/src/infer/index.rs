//! Types of position ops: iota, gather, scatter-add, random bits.

use super::{Inferred, check_axis, operands};
use crate::dtype::{DType, DTypeKind};
use crate::error::Diag;
use crate::op::{GatherAxes, Iota, Philox};
use crate::ty::{Shape, Type};

/// The axis is one of the shape's; the element type is a number.
pub(super) fn iota(iota: &Iota, args: &[&Type]) -> Inferred {
    let [] = operands(args)?;
    let ty = Type::new(iota.dtype, iota.shape.clone());
    check_axis(iota.axis, &ty)?;
    if iota.dtype == DType::Bool { Err(Diag::new("counts in numbers, not in bool")) } else { Ok(vec![ty]) }
}

/// The index is an integer tensor that shares the leading `batch` axes.
pub(super) fn gather(axes: GatherAxes, args: &[&Type]) -> Inferred {
    let [x, index] = operands(args)?;
    gathered(axes, x, index).map(|ty| vec![ty])
}

/// As gather, and the update is what gather would give.
pub(super) fn scatter_add(axes: GatherAxes, args: &[&Type]) -> Inferred {
    let [x, index, update] = operands(args)?;
    let expected = gathered(axes, x, index)?;
    if x.dtype == DType::Bool {
        return Err(Diag::new("adds numbers, got bool"));
    }
    if *update == expected {
        Ok(vec![x.clone()])
    } else {
        Err(Diag::new(format!("the update of {x} at {index} along axis {} must be {expected}, got {update}", axes.axis)))
    }
}

fn gathered(axes: GatherAxes, x: &Type, index: &Type) -> Result<Type, Diag> {
    let GatherAxes { axis, batch } = axes;
    check_axis(axis, x)?;
    if !matches!(index.dtype.kind(), DTypeKind::Signed | DTypeKind::Unsigned) {
        return Err(Diag::new(format!("positions must be integers, got {index}")));
    }
    if batch > axis || batch > index.rank() {
        return Err(Diag::new(format!("{batch} shared axes with axis {axis} of {x} and index {index}")));
    }
    if x.shape[..batch] != index.shape[..batch] {
        return Err(Diag::new(format!("the first {batch} sizes of {x} and of the index {index} differ")));
    }
    let dims = x.shape[..axis].iter().chain(&index.shape[batch..]).chain(&x.shape[axis + 1..]).cloned();
    Ok(Type::new(x.dtype, Shape(dims.collect())))
}

/// The key is `u32[4]`.
pub(super) fn philox(philox: &Philox, args: &[&Type]) -> Inferred {
    let [key] = operands(args)?;
    let expected = Type::new(DType::U32, Shape::new([4]));
    if *key == expected {
        Ok(vec![Type::new(DType::U32, philox.shape.clone())])
    } else {
        Err(Diag::new(format!("the key must be {expected}, got {key}")))
    }
}
