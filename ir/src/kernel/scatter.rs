//! Stores at run-time positions, where points may meet.

use serde::{Deserialize, Serialize};

use super::body::{Body, ValueId};
use super::nest::{AxisSet, Store};
use crate::dim::Dim;
use crate::op::ScatterKind;

/// At every point of the axes, `value` is put in an element of an argument or combined with it; two points may meet in one element.
///
/// What happens to one element happens in row-major order of the points, whatever the number of threads. The argument is
/// read and written: it holds what is combined. Nothing happens at a position outside of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scatter {
    /// The size of each axis.
    pub axes: Vec<Dim>,
    /// Axes along which no two points meet: they may run in any order.
    pub free: AxisSet,
    /// What is computed at every point.
    pub body: Body,
    /// What happens to the element.
    pub kind: ScatterKind,
    /// Where, by values or expressions, and what.
    pub to: Store,
    /// Where `false`, nothing happens; `None`: always.
    pub when: Option<ValueId>,
}
