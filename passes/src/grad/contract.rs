//! Derivatives of contractions. Both are linear in each operand; their transposes are contractions again.

use graver_ir::op::{Conv, ConvAxis, DotAxes, Perm};
use graver_ir::{Diag, Dim, Op, Shape, Type, Value};

use super::linear::Step;
use crate::build::Build;

/// What a transpose needs of a two-operand step: which side the tangent is, and the other side.
fn other(step: &Step) -> (Side, Value) {
    match (step.before.first(), step.after.first()) {
        (None, Some(right)) => (Side::Left, *right),
        (Some(left), _) => (Side::Right, *left),
        (None, None) => panic!("G1: a contraction has two operands"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// The axes of one operand of a dot by role, and where the result has them.
struct Roles {
    batch: Vec<usize>,
    contract: Vec<usize>,
    /// Ascending.
    free: Vec<usize>,
    /// The result's axes that are this operand's free ones.
    free_in_result: Vec<usize>,
}

impl Roles {
    fn new(rank: usize, batch: &[usize], contract: &[usize], first_free: usize) -> Self {
        let free: Vec<usize> = (0..rank).filter(|axis| !batch.contains(axis) && !contract.contains(axis)).collect();
        let free_in_result = (first_free..first_free + free.len()).collect();
        Self { batch: batch.to_vec(), contract: contract.to_vec(), free, free_in_result }
    }
}

/// `x' = g y` over the free axes of `y`: with `z[b, m, n] = sum k of x[b, m, k] y[b, k, n]`, `x'[b, m, k] = sum n of g[b, m, n] y[b, k, n]`.
pub(super) fn transpose_dot(b: &mut Build<'_>, axes: &DotAxes, step: &Step, x: &Type, g: Value) -> Result<Value, Diag> {
    let (side, constant) = other(step);
    let constant_rank = b.ty(constant).rank();
    let batch = axes.lhs_batch.len();
    let free_of = |rank: usize| rank - batch - axes.lhs_contract.len();
    let (mine, theirs) = match side {
        Side::Left => (
            Roles::new(x.rank(), &axes.lhs_batch, &axes.lhs_contract, batch),
            Roles::new(constant_rank, &axes.rhs_batch, &axes.rhs_contract, batch + free_of(x.rank())),
        ),
        Side::Right => (
            Roles::new(x.rank(), &axes.rhs_batch, &axes.rhs_contract, batch + free_of(constant_rank)),
            Roles::new(constant_rank, &axes.lhs_batch, &axes.lhs_contract, batch),
        ),
    };
    // The new result's axes are batch, g's free (= mine), and theirs: the contracted, in ascending order of the constant's axes.
    let mut pairs: Vec<(usize, usize)> = theirs.contract.iter().copied().zip(mine.contract.iter().copied()).collect();
    pairs.sort_unstable();
    let contracted: Vec<usize> = pairs.into_iter().map(|(_, mine)| mine).collect();
    let batch_axes: Vec<usize> = (0..batch).collect();
    let cotangent_left = [&mine.batch[..], &mine.free, &contracted].concat();
    let constant_left = [&mine.batch[..], &contracted, &mine.free].concat();
    let (order, dot, args) = if constant_left.is_sorted() && !cotangent_left.is_sorted() {
        let dot = DotAxes {
            lhs_batch: theirs.batch,
            rhs_batch: batch_axes,
            lhs_contract: theirs.free,
            rhs_contract: theirs.free_in_result,
        };
        (constant_left, dot, [constant, g])
    } else {
        let dot = DotAxes {
            lhs_batch: batch_axes,
            rhs_batch: theirs.batch,
            lhs_contract: theirs.free_in_result,
            rhs_contract: theirs.free,
        };
        (cotangent_left, dot, [g, constant])
    };
    let product = b.add(Op::Dot(dot), &args)?;
    permuted(b, product, Perm::new(order).expect("every axis has one role").inverse())
}

fn permuted(b: &mut Build<'_>, x: Value, perm: Perm) -> Result<Value, Diag> {
    if perm.is_identity() { Ok(x) } else { b.add(Op::Permute(perm), &[x]) }
}

/// The cotangent of a convolution's operand or kernel, which is a convolution.
pub(super) fn transpose_conv(b: &mut Build<'_>, conv: &Conv, step: &Step, x: &Type, g: Value) -> Result<Value, Diag> {
    match other(step) {
        (Side::Left, kernel) => conv_data(b, conv, x, kernel, g),
        (Side::Right, data) => conv_kernel(b, conv, x, data, g),
    }
}

/// `size` elements set `by` apart.
fn dilated(size: &Dim, by: i64) -> Dim {
    (size - Dim::ONE) * Dim::from(by) + Dim::ONE
}

/// The operand's cotangent: the result's cotangent, spread by the stride, under the reversed kernel with its feature axes exchanged.
///
/// `y[i]` reads the dilated operand at `p = i * stride - low + k * kernel_dilation`. Hence `p` gets `g[i] kernel[k]` from
/// `i * stride = p + low - k * kernel_dilation`; with `k = K - 1 - k'` that is a convolution with
/// `low' = (K - 1) * kernel_dilation - low`, whose stride is the operand's dilation, and `high'` makes exactly the operand's size.
fn conv_data(b: &mut Build<'_>, conv: &Conv, x: &Type, kernel: Value, g: Value) -> Result<Value, Diag> {
    let (taps, counts) = (b.ty(kernel).shape.clone(), b.ty(g).shape.clone());
    let mut axes = Vec::new();
    for (spatial, axis) in conv.axes.iter().enumerate() {
        let (size, k, count) =
            (&x.shape[conv.input[spatial + 2]], &taps[conv.kernel[spatial + 2]], &counts[conv.output[spatial + 2]]);
        let reach = (k - Dim::ONE) * Dim::from(axis.kernel_dilation);
        let low = &reach - &axis.low;
        let high = dilated(size, axis.input_dilation) + &reach - dilated(count, axis.stride) - &low;
        axes.push(ConvAxis {
            stride: axis.input_dilation,
            low,
            high,
            kernel_dilation: axis.kernel_dilation,
            input_dilation: axis.stride,
        });
    }
    let mut spatial = conv.kernel[2..].to_vec();
    spatial.sort_unstable();
    let reversed = b.add(Op::Reverse(spatial), &[kernel])?;
    let groups = conv.groups.max(conv.batch_groups);
    let exchanged = exchange_groups(b, reversed, conv.kernel[0], conv.kernel[1], groups)?;
    let mut kernel_axes = conv.kernel.clone();
    // A kernel of one group stays where it is: its feature axes only change roles.
    if groups == 1 {
        kernel_axes.swap(0, 1);
    }
    let back =
        Conv { input: conv.output.clone(), kernel: kernel_axes, output: conv.input.clone(), axes, groups, batch_groups: 1 };
    let data = b.add(Op::Conv(back), &[g, exchanged])?;
    features_to_batch(b, data, conv.input[0], conv.input[1], conv.batch_groups)
}

/// Of a kernel with `G * O` output and `C` input features one with `G * C` output and `O` input features, group by group.
fn exchange_groups(b: &mut Build<'_>, kernel: Value, outs: usize, ins: usize, groups: i64) -> Result<Value, Diag> {
    if groups == 1 {
        return Ok(kernel);
    }
    let split = split_axis(b, kernel, outs, groups)?;
    // Axes are now: outs -> groups, outs + 1 -> O, and those behind moved by one.
    let rank = b.ty(split).rank();
    let ins = if ins > outs { ins + 1 } else { ins };
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(outs + 1, ins);
    let perm = Perm::new(perm).expect("an exchange is a permutation");
    let exchanged = b.add(Op::Permute(perm), &[split])?;
    merge_axis(b, exchanged, outs)
}

/// The features' `B` groups become the outermost part of the batch.
fn features_to_batch(b: &mut Build<'_>, x: Value, batch: usize, features: usize, groups: i64) -> Result<Value, Diag> {
    if groups == 1 {
        return Ok(x);
    }
    let split = split_axis(b, x, features, groups)?;
    let batch = if batch > features { batch + 1 } else { batch };
    // The axis of groups goes right before the batch axis.
    let mut order: Vec<usize> = (0..b.ty(split).rank()).filter(|axis| *axis != features).collect();
    let place = order.iter().position(|axis| *axis == batch).expect("the batch axis is there");
    order.insert(place, features);
    let moved = b.add(Op::Permute(Perm::new(order).expect("one axis moves")), &[split])?;
    merge_axis(b, moved, place)
}

/// Axis `axis` as two: `parts`, and what is left.
fn split_axis(b: &mut Build<'_>, x: Value, axis: usize, parts: i64) -> Result<Value, Diag> {
    let mut dims = b.ty(x).shape.0.clone();
    let rest = dims[axis].floor_div(&Dim::from(parts));
    dims.splice(axis..=axis, [Dim::from(parts), rest]);
    b.add(Op::Reshape(Shape(dims)), &[x])
}

/// Axes `axis` and `axis + 1` as one.
fn merge_axis(b: &mut Build<'_>, x: Value, axis: usize) -> Result<Value, Diag> {
    let mut dims = b.ty(x).shape.0.clone();
    let both = &dims[axis] * &dims[axis + 1];
    dims.splice(axis..=axis + 1, [both]);
    b.add(Op::Reshape(Shape(dims)), &[x])
}

/// The kernel's cotangent: batch and features exchanged, the result's cotangent is the kernel of the operand.
///
/// `kernel'[o, c, k] = sum over n, i of g[n, o, i] x[n, c, k * kernel_dilation - low + i * stride]`: a convolution with rows `c`,
/// features `n`, stride `kernel_dilation` and kernel dilation `stride`; groups of features and of the batch exchange roles.
fn conv_kernel(b: &mut Build<'_>, conv: &Conv, kernel: &Type, data: Value, g: Value) -> Result<Value, Diag> {
    let (sizes, counts) = (b.ty(data).shape.clone(), b.ty(g).shape.clone());
    let mut axes = Vec::new();
    for (spatial, axis) in conv.axes.iter().enumerate() {
        let (size, k, count) =
            (&sizes[conv.input[spatial + 2]], &kernel.shape[conv.kernel[spatial + 2]], &counts[conv.output[spatial + 2]]);
        let reach = dilated(k, axis.kernel_dilation) + dilated(count, axis.stride) - Dim::ONE;
        axes.push(ConvAxis {
            stride: axis.kernel_dilation,
            low: axis.low.clone(),
            high: reach - dilated(size, axis.input_dilation) - &axis.low,
            kernel_dilation: axis.stride,
            input_dilation: axis.input_dilation,
        });
    }
    let exchanged = |axes: &[usize]| [&[axes[1], axes[0]], &axes[2..]].concat();
    let back = Conv {
        input: exchanged(&conv.input),
        kernel: exchanged(&conv.output),
        output: exchanged(&conv.kernel),
        axes,
        groups: conv.batch_groups,
        batch_groups: conv.groups,
    };
    b.add(Op::Conv(back), &[data, g])
}
