//! Sums of products over a batch: what is the same for all instances is read by all of them and never repeated.

use graver_ir::op::{Conv, DotAxes, slice_of};
use graver_ir::{Diag, Dim, Op, Shape, Value, infer};

use super::{Lane, move_axis};
use crate::build::Build;

/// Instances are a batch axis where both sides have them, and a free axis where one side has.
pub(super) fn dot(b: &mut Build<'_>, axes: &DotAxes, args: &[Lane]) -> Result<Value, Diag> {
    let next = |axes: &[usize], mapped: bool| axes.iter().map(|axis| axis + usize::from(mapped)).collect::<Vec<_>>();
    let [lhs, rhs] = [args[0], args[1]];
    let mut moved = DotAxes {
        lhs_batch: next(&axes.lhs_batch, lhs.mapped),
        rhs_batch: next(&axes.rhs_batch, rhs.mapped),
        lhs_contract: next(&axes.lhs_contract, lhs.mapped),
        rhs_contract: next(&axes.rhs_contract, rhs.mapped),
    };
    // Axes of the result: batch, free of the left side, free of the right side.
    let place = match (lhs.mapped, rhs.mapped) {
        (true, true) => {
            moved.lhs_batch.insert(0, 0);
            moved.rhs_batch.insert(0, 0);
            0
        }
        (true, false) => axes.lhs_batch.len(),
        (false, _) => b.ty(lhs.value).rank() - axes.lhs_contract.len(),
    };
    let product = b.add(Op::Dot(moved), &[lhs.value, rhs.value])?;
    move_axis(b, product, place, 0)
}

/// Instances of the operand join its batch, those of the kernel its output features; of both they are groups, for which their
/// number must be known. `None` where it is not.
pub(super) fn conv(b: &mut Build<'_>, conv: &Conv, args: &[Lane], size: &Dim) -> Result<Option<Value>, Diag> {
    let [x, kernel] = [args[0], args[1]];
    let (groups, batch_groups) = (conv.groups, conv.batch_groups);
    let of_instance = |lane: Lane| if lane.mapped { slice_of(b.ty(lane.value)) } else { b.ty(lane.value).clone() };
    let one = infer(&Op::Conv(conv.clone()), &[&of_instance(x), &of_instance(kernel)])?.swap_remove(0).shape;
    let out = |place: usize| (conv.output[place], &one[conv.output[place]]);
    let value = match (x.mapped, kernel.mapped) {
        (true, false) => {
            let joined = join(b, x.value, conv.input[0], batch_groups, size)?;
            let y = b.add(Op::Conv(conv.clone()), &[joined, kernel.value])?;
            split(b, y, out(0), 1, size)?
        }
        (false, _) => {
            // Output features are group by group; instances come inside of a group.
            let parts = groups.max(batch_groups);
            let joined = join(b, kernel.value, conv.kernel[0], parts, size)?;
            let y = b.add(Op::Conv(conv.clone()), &[x.value, joined])?;
            split(b, y, out(1), parts, size)?
        }
        (true, true) => {
            let Some(count) = size.as_const().filter(|count| *count > 0) else { return Ok(None) };
            let kernels = join(b, kernel.value, conv.kernel[0], 1, size)?;
            let (axis, of) = if batch_groups > 1 {
                (conv.input[0], Conv { batch_groups: batch_groups.saturating_mul(count), ..conv.clone() })
            } else {
                (conv.input[1], Conv { groups: groups.saturating_mul(count), ..conv.clone() })
            };
            let joined = join(b, x.value, axis, 1, size)?;
            let y = b.add(Op::Conv(of), &[joined, kernels])?;
            split(b, y, out(1), 1, size)?
        }
    };
    Ok(Some(value))
}

/// The convolutions of all slices, along a new first axis, of one operand with the other one.
pub(crate) fn conv_of_slices(
    b: &mut Build<'_>,
    of: &Conv,
    args: &[Value],
    slices: &[bool],
    size: &Dim,
) -> Result<Option<Value>, Diag> {
    let lanes: Vec<Lane> = args.iter().zip(slices).map(|(value, mapped)| Lane { value: *value, mapped: *mapped }).collect();
    conv(b, of, &lanes, size)
}

/// The sum of the convolutions of slices along a first axis of both: slices are more features to sum over.
pub(crate) fn sum_of_convs(b: &mut Build<'_>, of: &Conv, x: Value, kernel: Value) -> Result<Value, Diag> {
    let size = b.ty(x).shape[0].clone();
    let x = join(b, x, of.input[1], of.groups, &size)?;
    let kernel = join(b, kernel, of.kernel[1], 1, &size)?;
    b.add(Op::Conv(of.clone()), &[x, kernel])
}

/// The axis of instances as a part of axis `axis` of an instance, which has `parts` parts: of each part the instances one after another.
fn join(b: &mut Build<'_>, x: Value, axis: usize, parts: i64, size: &Dim) -> Result<Value, Diag> {
    let mut dims = b.ty(x).shape.0[1..].to_vec();
    let whole = dims[axis].clone();
    let each = whole.floor_div(&Dim::from(parts));
    // [instances, .., parts, each, ..]
    let mut apart = dims.clone();
    apart.splice(axis..=axis, [Dim::from(parts), each]);
    apart.insert(0, size.clone());
    let x = b.add(Op::Reshape(Shape(apart)), &[x])?;
    let x = move_axis(b, x, 0, axis + 1)?;
    dims[axis] = size * &whole;
    b.add(Op::Reshape(Shape(dims)), &[x])
}

/// Undoes [`join`] in a result; `whole` is what an instance has of the axis.
fn split(b: &mut Build<'_>, y: Value, (axis, whole): (usize, &Dim), parts: i64, size: &Dim) -> Result<Value, Diag> {
    let mut dims = b.ty(y).shape.0.clone();
    let each = whole.floor_div(&Dim::from(parts));
    let mut apart = dims.clone();
    apart.splice(axis..=axis, [Dim::from(parts), size.clone(), each]);
    let y = b.add(Op::Reshape(Shape(apart)), &[y])?;
    let y = move_axis(b, y, axis + 1, 0)?;
    dims[axis] = whole.clone();
    dims.insert(0, size.clone());
    b.add(Op::Reshape(Shape(dims)), &[y])
}
