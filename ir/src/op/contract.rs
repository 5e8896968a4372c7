//! Attributes of sums of products.

use serde::{Deserialize, Serialize};

use crate::dim::Dim;

/// Attributes of [`Op::Dot`](crate::Op::Dot).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DotAxes {
    /// Batch axes of the left operand, in the result's order.
    pub lhs_batch: Vec<usize>,
    /// Batch axes of the right operand, in the same order.
    pub rhs_batch: Vec<usize>,
    /// Contracted axes of the left operand.
    pub lhs_contract: Vec<usize>,
    /// Contracted axes of the right operand, in the same order.
    pub rhs_contract: Vec<usize>,
}

/// Attributes of [`Op::Conv`](crate::Op::Conv).
///
/// `y[n, o, i..] = sum over c, k.. of x[n, g*C/groups + c, i*stride - low + k*kernel_dilation ..] * kernel[o, c, k..]`, where `x` is read with
/// `input_dilation - 1` zeros between its elements and zeros around, and `g = o / (O / groups)`.
/// With `batch_groups = B > 1` the batch axis is split into `B` parts and output feature `o` reads part `o / (O / B)`; `y` has `N / B` rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conv {
    /// Axes of the operand: batch, feature, spatial..
    pub input: Vec<usize>,
    /// Axes of the kernel: output feature, input feature, spatial..
    pub kernel: Vec<usize>,
    /// Axes of the result: batch, feature, spatial..
    pub output: Vec<usize>,
    /// One entry a spatial axis.
    pub axes: Vec<ConvAxis>,
    /// Groups of features.
    pub groups: i64,
    /// Groups of the batch; not together with `groups`.
    pub batch_groups: i64,
}

/// One spatial axis of [`Op::Conv`](crate::Op::Conv).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvAxis {
    /// The distance between results, 1 or more.
    pub stride: i64,
    /// Padding before (of the dilated operand); negative cuts.
    pub low: Dim,
    /// Padding after (of the dilated operand); negative cuts.
    pub high: Dim,
    /// The distance between the kernel's elements, 1 or more.
    pub kernel_dilation: i64,
    /// The distance between the operand's elements, 1 or more.
    pub input_dilation: i64,
}
