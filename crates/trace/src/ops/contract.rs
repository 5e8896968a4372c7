//! Sums of products: matrix products and convolutions.

use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{Diag, Dim, Op, Shape, Type};

use super::map::{same_dtype, stretch};
use super::movement::{permute_to, reshape_to};
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

/// Strides, padding, dilation and groups of the convolution that goes the other way, and how much longer its results are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvTransposeOptions {
    conv: ConvOptions,
    output_padding: [i64; 2],
}

impl ConvTransposeOptions {
    /// Stride 1, no padding, no dilation, one group.
    #[must_use]
    pub const fn new() -> Self {
        Self { conv: ConvOptions::new(), output_padding: [0; 2] }
    }

    /// The distance between what neighbours become.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.conv = self.conv.stride(stride);
        self
    }

    /// Elements of the result that are left out on each side.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.conv = self.conv.padding(padding);
        self
    }

    /// Elements more at the end of each axis: fewer than the stride or the dilation.
    #[must_use]
    pub fn output_padding(mut self, padding: impl Into<Pair>) -> Self {
        self.output_padding = padding.into().0;
        self
    }

    /// The distance between the kernel's elements.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.conv = self.conv.dilation(dilation);
        self
    }

    /// Groups of features that see only each other.
    #[must_use]
    pub const fn groups(mut self, groups: i64) -> Self {
        self.conv = self.conv.groups(groups);
        self
    }

    /// As a convolution of an operand whose elements lie a stride apart, by the kernel backwards.
    fn axes(self, kernel: &[Dim]) -> Traced<Vec<ConvAxis>> {
        let ConvOptions { stride, padding, dilation, groups: _ } = self.conv;
        let axis = |axis: usize| {
            let most = stride[axis].max(dilation[axis]);
            let extra = self.output_padding[axis];
            if stride[axis] < 1 || dilation[axis] < 1 || padding[axis] < 0 || !(0..most).contains(&extra) {
                let (stride, dilation, padding) = (stride[axis], dilation[axis], padding[axis]);
                return wrong(format!(
                    "stride {stride}, dilation {dilation}, padding {padding} and output padding {extra}; the last is below the stride or the dilation"
                ));
            }
            let low = (&kernel[axis] - Dim::ONE) * Dim::from(dilation[axis]) - Dim::from(padding[axis]);
            let high = &low + Dim::from(extra);
            Ok(ConvAxis { stride: 1, low, high, kernel_dilation: dilation[axis], input_dilation: stride[axis] })
        };
        (0..2).map(axis).collect()
    }
}

#[track_caller]
fn conv_transpose2d(x: Tensor, kernel: Tensor, options: ConvTransposeOptions) -> Traced {
    let (ty, kernel_ty, groups) = (x.ty()?, kernel.ty()?, options.conv.groups);
    same_dtype(&ty, &kernel_ty)?;
    if ty.rank() != 4 || kernel_ty.rank() != 4 {
        return wrong(format!("takes images [n, c, h, w] and a kernel [c, o / groups, kh, kw], got {ty} and {kernel_ty}"));
    }
    let axes = options.axes(&kernel_ty.shape[2..])?;
    let order: Vec<usize> = (0..4).collect();
    let op = Conv { input: order.clone(), kernel: order.clone(), output: order, axes, groups, batch_groups: 1 };
    emit(Op::Conv(op), &[x, turned(kernel, &kernel_ty, groups)?])
}

/// `[c, o / groups, kh, kw]` as `[o, c / groups, kh, kw]`, its last axes backwards.
#[track_caller]
fn turned(kernel: Tensor, ty: &Type, groups: i64) -> Traced {
    let [inputs, outputs, height, width] = &ty.shape[..] else { return wrong(format!("a kernel has four axes, got {ty}")) };
    let (parts, inner) = (Dim::from(groups), inputs.exact_div(&Dim::from(groups.max(1))));
    let Some(inner) = inner.filter(|_| groups > 0) else {
        return wrong(format!("{inputs} features do not split into {groups} groups"));
    };
    let split = Shape([&parts, &inner, outputs, height, width].map(Dim::clone).to_vec());
    let swapped = permute_to(reshape_to(kernel, split)?, vec![0, 2, 1, 3, 4])?;
    let joined = reshape_to(swapped, Shape(vec![outputs * &parts, inner, height.clone(), width.clone()]))?;
    emit(Op::Reverse(vec![2, 3]), &[joined])
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

    /// Every element of images `[n, c, h, w]` spread by a kernel of `[c, o / groups, kh, kw]`: `[n, o, h', w']`, where
    /// `h' = (h - 1) * stride - 2 * padding + dilation * (kh - 1) + output_padding + 1`. The derivative of [`Tensor::conv2d`] with
    /// respect to its images, as a function of its own (Zeiler et al., 2010, "Deconvolutional networks").
    ///
    /// ```
    /// use graver_trace::{ConvTransposeOptions, spec, trace};
    /// let (images, kernel) = (spec::<f32>(("n", 4, 7, 7)), spec::<f32>([4, 2, 3, 3]));
    /// let twice = ConvTransposeOptions::new().stride(2).padding(1).output_padding(1);
    /// let traced = trace(|(x, kernel)| x.conv_transpose2d(kernel, twice), (images, kernel))?;
    /// let (_, main) = traced.module().entry().expect("a traced module has an entry");
    /// assert_eq!(main.result_types()[0].to_string(), "f32[n, 2, 14, 14]");
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn conv_transpose2d(self, kernel: impl Operand, conv: ConvTransposeOptions) -> Self {
        let kernel = kernel.beside(self);
        done("conv_transpose2d", conv_transpose2d(self, kernel, conv))
    }
}
