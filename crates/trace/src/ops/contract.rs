//! Sums of products: matrix products and convolutions.

use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{Diag, Dim, Op, Shape, Type};

use super::map::{same_dtype, stretch};
use super::movement::reshape_to;
use super::reduce::Pair;
use crate::context::{Traced, done, emit, wrong};
use crate::tensor::{Operand, Tensor};

/// `[m, k] x [k, n]` over leading axes that broadcast; vectors have the missing axis added and taken away again.
#[track_caller]
pub(crate) fn matmul(x: Tensor, y: Tensor) -> Traced {
    let (lhs, rhs) = (x.ty()?, y.ty()?);
    same_dtype(&lhs, &rhs)?;
    if lhs.rank() == 0 || rhs.rank() == 0 {
        return wrong(format!("takes matrices or vectors, got {lhs} and {rhs}"));
    }
    let (k_left, k_right) = (lhs.rank() - 1, rhs.rank().saturating_sub(2));
    if lhs.shape[k_left] != rhs.shape[k_right] {
        return Err(sizes_differ(&lhs, k_left, &rhs, k_right));
    }
    if rhs.rank() <= 2 {
        // A matrix on the right: the left's leading axes are free axes of one product.
        return emit(Op::Dot(axes([&[], &[]], k_left, k_right)), &[x, y]);
    }
    if lhs.rank() == 1 {
        let row = matmul(reshape_to(x, Shape(vec![Dim::ONE, lhs.shape[0].clone()]))?, y)?;
        let ty = row.ty()?;
        return reshape_to(row, ty.shape.without(&[ty.rank() - 2]));
    }
    batched(x, &lhs, y, &rhs)
}

fn sizes_differ(lhs: &Type, left: usize, rhs: &Type, right: usize) -> crate::context::Failed {
    let (l, r) = (&lhs.shape[left], &rhs.shape[right]);
    let diag = Diag::new(format!("contracting sizes differ, lhs {lhs} axis {left} = {l}, rhs {rhs} axis {right} = {r}"));
    let other = rhs.rank().checked_sub(1).filter(|last| *last != right && rhs.shape[*last] == *l);
    diag.help(if other.is_some() { "transpose the right side: `.t()`?" } else { "" }).into()
}

/// Leading axes that broadcast become batch axes.
#[track_caller]
fn batched(x: Tensor, lhs: &Type, y: Tensor, rhs: &Type) -> Traced {
    let (x_lead, x_matrix) = lhs.shape.split_at(lhs.rank() - 2);
    let (y_lead, y_matrix) = rhs.shape.split_at(rhs.rank() - 2);
    let lead = common_lead(lhs, x_lead, rhs, y_lead)?;
    let join = |matrix: &[Dim]| Shape(lead.iter().chain(matrix).cloned().collect());
    let (x, y) = (stretch(x, &join(x_matrix))?, stretch(y, &join(y_matrix))?);
    let batch: Vec<usize> = (0..lead.len()).collect();
    emit(Op::Dot(axes([&batch, &batch], lead.len() + 1, lead.len())), &[x, y])
}

fn axes(batch: [&[usize]; 2], left: usize, right: usize) -> DotAxes {
    let [lhs, rhs] = batch;
    DotAxes { lhs_batch: lhs.to_vec(), rhs_batch: rhs.to_vec(), lhs_contract: vec![left], rhs_contract: vec![right] }
}

fn common_lead(lhs: &Type, x: &[Dim], rhs: &Type, y: &[Dim]) -> Traced<Vec<Dim>> {
    let rank = x.len().max(y.len());
    let size = |lead: &[Dim], axis: usize| (axis + lead.len()).checked_sub(rank).map_or(Dim::ONE, |axis| lead[axis].clone());
    let mut lead = Vec::new();
    for axis in 0..rank {
        let (left, right) = (size(x, axis), size(y, axis));
        if left == right || right.is(1) {
            lead.push(left);
        } else if left.is(1) {
            lead.push(right);
        } else {
            return wrong(format!("leading sizes of {lhs} and {rhs} do not broadcast: {left} and {right}"));
        }
    }
    Ok(lead)
}

/// Strides, padding, dilation and groups of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    stride: [i64; 2],
    padding: [i64; 2],
    dilation: [i64; 2],
    groups: i64,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ConvOptions {
    /// Stride 1, no padding, no dilation, one group.
    #[must_use]
    pub const fn new() -> Self {
        Self { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1 }
    }

    /// The distance between results.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = stride.into().0;
        self
    }

    /// Zeros on each side.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.padding = padding.into().0;
        self
    }

    /// The distance between the kernel's elements.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    /// Groups of features that see only each other.
    #[must_use]
    pub const fn groups(mut self, groups: i64) -> Self {
        self.groups = groups;
        self
    }

    fn axes(self) -> Vec<ConvAxis> {
        let axis = |axis: usize| ConvAxis {
            stride: self.stride[axis],
            low: Dim::from(self.padding[axis]),
            high: Dim::from(self.padding[axis]),
            kernel_dilation: self.dilation[axis],
            input_dilation: 1,
        };
        (0..2).map(axis).collect()
    }
}

#[track_caller]
fn conv2d(x: Tensor, kernel: Tensor, conv: ConvOptions) -> Traced {
    let (ty, kernel_ty) = (x.ty()?, kernel.ty()?);
    same_dtype(&ty, &kernel_ty)?;
    if ty.rank() != 4 || kernel_ty.rank() != 4 {
        return wrong(format!("takes images [n, c, h, w] and a kernel [o, c / groups, kh, kw], got {ty} and {kernel_ty}"));
    }
    let order: Vec<usize> = (0..4).collect();
    let op = Conv {
        input: order.clone(),
        kernel: order.clone(),
        output: order,
        axes: conv.axes(),
        groups: conv.groups,
        batch_groups: 1,
    };
    emit(Op::Conv(op), &[x, kernel])
}

impl Tensor {
    /// The matrix product over the last two axes; leading axes broadcast; vectors as in NumPy.
    ///
    /// `[.., m, k]` and `[.., k, n]` give `[.., m, n]`.
    #[must_use]
    #[track_caller]
    pub fn matmul(self, other: impl Operand) -> Self {
        let other = other.beside(self);
        done("matmul", matmul(self, other))
    }

    /// The cross-correlation of images `[n, c, h, w]` with kernels `[o, c / groups, kh, kw]`: `[n, o, h', w']`.
    #[must_use]
    #[track_caller]
    pub fn conv2d(self, kernel: impl Operand, conv: ConvOptions) -> Self {
        let kernel = kernel.beside(self);
        done("conv2d", conv2d(self, kernel, conv))
    }
}
