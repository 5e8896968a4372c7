//! Contractions: sums of products over any axes, with any access on either side and an epilogue.

use serde::{Deserialize, Serialize};

use super::body::{Body, ValueId};
use super::nest::{AxisSet, Store};
use crate::dim::Dim;
use crate::dtype::DType;

/// `acc[batch, m, n] = sum over k of a[batch, m, k] * b[batch, n, k]`, then the epilogue at every point of `batch, m, n`.
///
/// Matrix products, convolutions and their gradients: the sides' bodies say where elements come from (a padded window is an
/// access with a fill). Each axis has exactly one role; `k` may be empty or of size 0, which gives 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contract {
    /// The size of each axis.
    pub axes: Vec<Dim>,
    /// Axes of both sides and of the result.
    pub batch: AxisSet,
    /// Axes of `a` and of the result.
    pub m: AxisSet,
    /// Axes of `b` and of the result.
    pub n: AxisSet,
    /// Axes of both sides that are summed over.
    pub k: AxisSet,
    /// The left side, over `batch, m, k`.
    pub a: Side,
    /// The right side, over `batch, n, k`.
    pub b: Side,
    /// What products are summed in: `f32` for 16-bit floats, else the sides' type.
    pub acc: DType,
    /// What happens to the sum; [`super::InstKind::Acc`] is it.
    pub epilogue: Body,
    /// What is stored at every point of `batch, m, n`.
    pub stores: Vec<Store>,
}

/// One side of a contraction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Side {
    /// How an element comes to be; a single load in the plain case.
    pub body: Body,
    /// The element, in `acc`'s type.
    pub value: ValueId,
}
