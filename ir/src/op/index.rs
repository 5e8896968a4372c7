//! Attributes of operations on positions.

use serde::{Deserialize, Serialize};

use crate::dim::Dim;
use crate::dtype::DType;
use crate::ty::Shape;

/// Attributes of [`Op::Iota`](crate::Op::Iota).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Iota {
    /// A number type.
    pub dtype: DType,
    /// The result's shape.
    pub shape: Shape,
    /// The axis that is counted along.
    pub axis: usize,
}

/// Attributes of [`Op::Gather`](crate::Op::Gather) and [`Op::ScatterAdd`](crate::Op::ScatterAdd).
///
/// With `b = batch`: `y.shape = x.shape[..axis] + index.shape[b..] + x.shape[axis + 1..]`, `index.shape[..b] == x.shape[..b]`, `b <= axis`.
/// The `update` of a scatter has the shape that the gather's result would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatherAxes {
    /// The axis of `x` that is indexed.
    pub axis: usize,
    /// The number of leading axes that `x` and `index` share.
    pub batch: usize,
}

/// Attributes of [`Op::DynamicSlice`](crate::Op::DynamicSlice).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DynamicSlice {
    /// The axes that have a start, strictly increasing: one operand each, in this order.
    pub axes: Vec<usize>,
    /// How many elements are taken along each of them; known to be no more than there are.
    pub sizes: Vec<Dim>,
}
