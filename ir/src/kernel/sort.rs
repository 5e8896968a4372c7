//! Elements in order.

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::nest::Store;
use crate::dim::Dim;

/// At every point of the other axes, the positions along `axis` in the order of the values that the body computes there.
///
/// Equal values keep their order, and NaN comes last, whatever the direction: there is one answer. `to.value` is what is compared; at
/// `to.index`, where `axis` stands for a place in the order, the position that comes there is stored, an `i64`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sort {
    /// The size of each axis.
    pub axes: Vec<Dim>,
    /// The axis along which values are compared.
    pub axis: usize,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// What is computed at every point.
    pub body: Body,
    /// What is compared, and where positions go.
    pub to: Store,
}
