//! Attributes of reductions, over axes and over windows.

use serde::{Deserialize, Serialize};

use crate::dim::Dim;
use crate::dtype::DType;
use crate::ty::Shape;

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReduceKind {
    /// The sum; integers wrap. 0 of nothing.
    Sum,
    /// The product; integers wrap. 1 of nothing.
    Prod,
    /// The greatest; NaN if any is NaN; for bool: whether any holds. [`crate::dtype::Scalar::lowest`] of nothing.
    Max,
    /// The least; NaN if any is NaN; for bool: whether all hold. [`crate::dtype::Scalar::highest`] of nothing.
    Min,
}

impl ReduceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Sum, Self::Prod, Self::Max, Self::Min];

    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Prod => "prod",
            Self::Max => "max",
            Self::Min => "min",
        }
    }

    /// What an empty reduction gives.
    #[must_use]
    pub fn identity(self, dtype: DType) -> crate::dtype::Scalar {
        use crate::dtype::Scalar;
        match self {
            Self::Sum => Scalar::zero(dtype),
            Self::Prod => Scalar::one(dtype),
            Self::Max => Scalar::lowest(dtype),
            Self::Min => Scalar::highest(dtype),
        }
    }
}

/// Attributes of [`Op::Reduce`](crate::Op::Reduce).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reduce {
    /// How.
    pub kind: ReduceKind,
    /// The axes that vanish, strictly increasing.
    pub axes: Vec<usize>,
}

/// Which extreme is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Extreme {
    /// The greatest.
    Max,
    /// The least.
    Min,
}

impl Extreme {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Max, Self::Min];

    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

/// Attributes of [`Op::ArgReduce`](crate::Op::ArgReduce).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ArgReduce {
    /// Which.
    pub kind: Extreme,
    /// The axis that vanishes.
    pub axis: usize,
}

/// Attributes of [`Op::Prefix`](crate::Op::Prefix).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prefix {
    /// How.
    pub kind: ReduceKind,
    /// The axis along which elements are combined.
    pub axis: usize,
    /// Whether from the last element on: each is combined with all after it.
    pub reverse: bool,
}

/// The windows along one axis: window `i` holds positions `i * stride - low + k * dilation`, `k` in `0..size`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WindowAxis {
    /// Elements in a window, 1 or more.
    pub size: i64,
    /// The distance between windows, 1 or more.
    pub stride: i64,
    /// The distance between a window's elements, 1 or more.
    pub dilation: i64,
    /// Padding before, 0 or more.
    pub low: Dim,
    /// Padding after, 0 or more.
    pub high: Dim,
}

impl WindowAxis {
    /// The window of one element: the axis stays as it is.
    pub const IDENTITY: Self = Self { size: 1, stride: 1, dilation: 1, low: Dim::ZERO, high: Dim::ZERO };

    /// The number of windows over an axis of `size` elements.
    #[must_use]
    pub fn count(&self, size: &Dim) -> Dim {
        let reach = (self.size - 1).saturating_mul(self.dilation).saturating_add(1);
        (size + &self.low + &self.high - Dim::from(reach)).floor_div(&Dim::from(self.stride)) + Dim::ONE
    }
}

/// Attributes of [`Op::Window`](crate::Op::Window) and [`Op::WindowArg`](crate::Op::WindowArg) (which takes max and min).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// How.
    pub kind: ReduceKind,
    /// One entry an axis of the operand.
    pub axes: Vec<WindowAxis>,
}

/// Attributes of [`Op::WindowPut`](crate::Op::WindowPut).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WindowPut {
    /// One entry an axis.
    pub axes: Vec<WindowAxis>,
    /// The result's shape.
    pub shape: Shape,
}
