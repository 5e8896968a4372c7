//! Elements combined with all before them.

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::nest::Store;
use crate::dim::Dim;
use crate::op::ReduceKind;

/// At every point of the other axes, the values that the body computes along `axis`, each combined with all before it, or with all after
/// it.
///
/// The first value stands as it is. Floats are combined by a tree that depends on sizes only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prefix {
    /// The size of each axis.
    pub axes: Vec<Dim>,
    /// The axis along which values are combined.
    pub axis: usize,
    /// Whether the last value is the first to be combined.
    pub reverse: bool,
    /// How.
    pub kind: ReduceKind,
    /// What is computed at every point.
    pub body: Body,
    /// What is combined, and where it goes once it is, of every point somewhere else.
    pub to: Store,
}
