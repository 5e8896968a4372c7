//! Types of contractions.

use super::{Inferred, operands};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Diag;
use crate::op::{Conv, ConvAxis, DotAxes};
use crate::ty::{Shape, Type};

fn check_numbers(x: &Type, y: &Type) -> Result<(), Diag> {
    if x.dtype != y.dtype {
        return Err(Diag::new(format!("element types differ: {x} and {y}")).help("cast one of them"));
    }
    if x.dtype == DType::Bool { Err(Diag::new("multiplies numbers, got bool")) } else { Ok(()) }
}

/// Paired axes have equal sizes; no axis is named twice.
pub(super) fn dot(axes: &DotAxes, args: &[&Type]) -> Inferred {
    let [x, y] = operands(args)?;
    check_numbers(x, y)?;
    let pairs = [(&axes.lhs_batch, &axes.rhs_batch, "batch"), (&axes.lhs_contract, &axes.rhs_contract, "contracting")];
    for (left, right, role) in pairs {
        if left.len() != right.len() {
            return Err(Diag::new(format!("{} {role} axes on the left, {} on the right", left.len(), right.len())));
        }
        for (l, r) in left.iter().zip(right) {
            let (Some(left), Some(right)) = (x.shape.get(*l), y.shape.get(*r)) else {
                return Err(Diag::new(format!("{role} axes {l} and {r} of {x} and {y}: no such axis")));
            };
            if left != right {
                return Err(Diag::new(format!("{role} sizes differ, lhs {x} axis {l} = {left}, rhs {y} axis {r} = {right}")));
            }
        }
    }
    let left_free = free_axes(x, &axes.lhs_batch, &axes.lhs_contract)?;
    let right_free = free_axes(y, &axes.rhs_batch, &axes.rhs_contract)?;
    let batch = axes.lhs_batch.iter().map(|axis| &x.shape[*axis]);
    let free = left_free.iter().map(|axis| &x.shape[*axis]).chain(right_free.iter().map(|axis| &y.shape[*axis]));
    Ok(vec![Type::new(x.dtype, Shape(batch.chain(free).cloned().collect()))])
}

/// The axes that are neither batch nor contracted.
fn free_axes(ty: &Type, batch: &[usize], contract: &[usize]) -> Result<Vec<usize>, Diag> {
    let mut taken = vec![false; ty.rank()];
    for axis in batch.iter().chain(contract) {
        if std::mem::replace(&mut taken[*axis], true) {
            return Err(Diag::new(format!("axis {axis} of {ty} is named twice")));
        }
    }
    Ok((0..ty.rank()).filter(|axis| !taken[*axis]).collect())
}

/// Axis lists are permutations; features agree with groups.
pub(super) fn conv(conv: &Conv, args: &[&Type]) -> Inferred {
    let [x, kernel] = operands(args)?;
    check_numbers(x, kernel)?;
    let rank = conv.axes.len() + 2;
    for (what, axes, ty) in
        [("operand", &conv.input, Some(x)), ("kernel", &conv.kernel, Some(kernel)), ("result", &conv.output, None)]
    {
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..rank) || ty.is_some_and(|ty| ty.rank() != rank) {
            let ty = ty.map_or(String::new(), |ty| format!(" of {ty}"));
            return Err(Diag::new(format!(
                "the {what}'s axes {axes:?}{ty} are not batch, feature and {} spatial ones",
                rank - 2
            )));
        }
    }
    let (groups, batch_groups) = (Dim::from(conv.groups), Dim::from(conv.batch_groups));
    let (batch, features) = (&x.shape[conv.input[0]], &x.shape[conv.input[1]]);
    let (out_features, in_features) = (&kernel.shape[conv.kernel[0]], &kernel.shape[conv.kernel[1]]);
    if conv.groups < 1 || conv.batch_groups < 1 || (conv.groups > 1 && conv.batch_groups > 1) {
        return Err(Diag::new(format!("{} groups and {} batch groups", conv.groups, conv.batch_groups)));
    }
    if in_features * &groups != *features {
        return Err(Diag::new(format!(
            "{x} has {features} features, the kernel {kernel} takes {in_features} in each of {groups} groups"
        )));
    }
    let parts = [
        ("features", out_features, conv.groups),
        ("features", out_features, conv.batch_groups),
        ("rows", batch, conv.batch_groups),
    ];
    for (what, size, parts) in parts {
        if parts > 1 && size.known_multiple() % parts != 0 {
            return Err(Diag::new(format!("{size} {what} are not known to split into {parts} groups")));
        }
    }
    let mut dims = vec![Dim::ZERO; rank];
    dims[conv.output[0]] = batch.floor_div(&batch_groups);
    dims[conv.output[1]] = out_features.clone();
    for (spatial, axis) in conv.axes.iter().enumerate() {
        let (size, taps) = (&x.shape[conv.input[spatial + 2]], &kernel.shape[conv.kernel[spatial + 2]]);
        if axis.stride < 1 || axis.kernel_dilation < 1 || axis.input_dilation < 1 {
            return Err(Diag::new(format!("strides and dilations must be 1 or more: {axis:?}")));
        }
        let count = conv_count(axis, size, taps);
        if count.bounds().hi < 0 {
            return Err(Diag::new(format!(
                "spatial axis {spatial}: {size} elements with padding {}, {} are fewer than the kernel's {taps}",
                axis.low, axis.high
            )));
        }
        dims[conv.output[spatial + 2]] = count;
    }
    Ok(vec![Type::new(x.dtype, Shape(dims))])
}

/// The number of results along a spatial axis.
fn conv_count(axis: &ConvAxis, size: &Dim, taps: &Dim) -> Dim {
    let dilated = |size: &Dim, by: i64| (size - Dim::ONE) * Dim::from(by) + Dim::ONE;
    let reach = dilated(taps, axis.kernel_dilation);
    let span = dilated(size, axis.input_dilation) + &axis.low + &axis.high;
    (span - reach).floor_div(&Dim::from(axis.stride)) + Dim::ONE
}
