//! Types of position ops: iota, gather, scatter-add, random bits.

use super::{Inferred, check_axes, check_axis, operands};
use crate::dim::Dim;
use crate::dtype::{DType, DTypeKind};
use crate::error::Diag;
use crate::op::{DynamicSlice, GatherAxes, Iota, Philox, Scatter, ScatterKind, Sort};
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
pub(super) fn scatter(scatter: Scatter, args: &[&Type]) -> Inferred {
    let axes = scatter.at;
    let [x, index, update] = operands(args)?;
    let expected = gathered(axes, x, index)?;
    if x.dtype == DType::Bool && scatter.kind != ScatterKind::Set {
        return Err(Diag::new("combines numbers, got bool"));
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

/// One start an axis; what is taken is known to be no more than there is.
pub(super) fn dynamic_slice(slice: &DynamicSlice, args: &[&Type]) -> Inferred {
    let DynamicSlice { axes, sizes } = slice;
    let [x, starts @ ..] = args else { return Err(Diag::new("takes an operand and starts")) };
    check_axes(axes, x)?;
    if axes.len() != sizes.len() {
        return Err(Diag::new(format!("{} sizes for {} axes", sizes.len(), axes.len())));
    }
    check_starts(axes, starts)?;
    let mut result = (*x).clone();
    for (axis, size) in axes.iter().zip(sizes) {
        check_fits(size, x, *axis)?;
        result.shape.0[*axis] = size.clone();
    }
    Ok(vec![result])
}

/// The update is a block of the operand: no larger along the axes, and of its size along the others.
pub(super) fn dynamic_update(axes: &[usize], args: &[&Type]) -> Inferred {
    let [x, update, starts @ ..] = args else { return Err(Diag::new("takes an operand, an update and starts")) };
    check_axes(axes, x)?;
    check_starts(axes, starts)?;
    let alike = |axis: usize| axes.contains(&axis) || x.shape[axis] == update.shape[axis];
    if update.dtype != x.dtype || update.rank() != x.rank() || !(0..x.rank()).all(alike) {
        return Err(Diag::new(format!("the update {update} is no block of {x} along axes {axes:?}")));
    }
    axes.iter().try_for_each(|axis| check_fits(&update.shape[*axis], x, *axis))?;
    Ok(vec![(*x).clone()])
}

fn check_starts(axes: &[usize], starts: &[&Type]) -> Result<(), Diag> {
    let position = Type::scalar(DType::I64);
    if starts.len() == axes.len() && starts.iter().all(|start| **start == position) {
        return Ok(());
    }
    let got: Vec<String> = starts.iter().map(ToString::to_string).collect();
    Err(Diag::new(format!("a start of type {position} for each of the axes {axes:?}, got [{}]", got.join(", "))))
}

fn check_fits(size: &Dim, x: &Type, axis: usize) -> Result<(), Diag> {
    if (&x.shape[axis] - size).is_nonneg() {
        return Ok(());
    }
    Err(Diag::new(format!("a block of {size} along axis {axis} of {x} is not known to fit"))
        .help("declare the range of the size's symbol"))
}

/// A position for every element.
pub(super) fn sort(sort: Sort, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    check_axis(sort.axis, x)?;
    Ok(vec![Type::new(DType::I64, x.shape.clone())])
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
