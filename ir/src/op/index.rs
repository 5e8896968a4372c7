//! Attributes of operations on positions.

use serde::{Deserialize, Serialize};

use crate::dim::Dim;
use crate::dtype::DType;
use crate::scalar::ScalarFn;
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

/// Attributes of [`Op::Gather`](crate::Op::Gather) and [`Op::Scatter`](crate::Op::Scatter).
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

/// What a scatter does with an element that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ScatterKind {
    /// It becomes the update; of several the last.
    Set,
    /// The update is added.
    Add,
    /// It is multiplied by the update.
    Mul,
    /// The greater of both; NaN if either is NaN.
    Max,
    /// The lesser of both; NaN if either is NaN.
    Min,
}

impl ScatterKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Set, Self::Add, Self::Mul, Self::Max, Self::Min];

    /// The operation's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "scatter_set",
            Self::Add => "scatter_add",
            Self::Mul => "scatter_mul",
            Self::Max => "scatter_max",
            Self::Min => "scatter_min",
        }
    }

    /// The function of what is there and of the update, unless that replaces it.
    #[must_use]
    pub const fn function(self) -> Option<ScalarFn> {
        match self {
            Self::Set => None,
            Self::Add => Some(ScalarFn::Add),
            Self::Mul => Some(ScalarFn::Mul),
            Self::Max => Some(ScalarFn::Max),
            Self::Min => Some(ScalarFn::Min),
        }
    }
}

/// Attributes of [`Op::Scatter`](crate::Op::Scatter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scatter {
    /// What happens to an element.
    pub kind: ScatterKind,
    /// Where.
    pub at: GatherAxes,
}

/// Attributes of [`Op::DynamicSlice`](crate::Op::DynamicSlice).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DynamicSlice {
    /// The axes that have a start, strictly increasing: one operand each, in this order.
    pub axes: Vec<usize>,
    /// How many elements are taken along each of them; known to be no more than there are.
    pub sizes: Vec<Dim>,
}

/// Attributes of [`Op::Sort`](crate::Op::Sort).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sort {
    /// The axis along which elements are put in order.
    pub axis: usize,
    /// Whether the greatest is the first. Equal elements keep their order, and NaN comes last, all the same.
    pub descending: bool,
}
