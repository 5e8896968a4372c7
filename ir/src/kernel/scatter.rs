//! Additions at run-time positions.

use serde::{Deserialize, Serialize};

use super::body::{Body, ValueId};
use super::nest::{AxisSet, Store};
use crate::dim::Dim;

/// At every point of the axes, `value` is added to an element of an argument; two points may meet in one element.
///
/// Additions to one element happen in row-major order of the points, whatever the number of threads. The argument is
/// read and written: it holds what is added to. A position outside of it adds nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scatter {
    /// The size of each axis.
    pub axes: Vec<Dim>,
    /// Axes along which no two points meet: they may run in any order.
    pub free: AxisSet,
    /// What is computed at every point.
    pub body: Body,
    /// Where, by values or expressions, and what.
    pub add: Store,
    /// Where `false`, nothing is added; `None`: always.
    pub when: Option<ValueId>,
}
