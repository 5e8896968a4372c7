//! Attributes of movement.

use serde::{Deserialize, Serialize};

use crate::dim::Dim;
use crate::ty::Shape;

/// A permutation of axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Perm(Vec<usize>);

impl Perm {
    /// The permutation that takes axis `axes[i]` to place `i`.
    ///
    /// # Errors
    /// If `axes` is not `0..n` in some order.
    pub fn new(axes: Vec<usize>) -> Result<Self, String> {
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if sorted.iter().copied().eq(0..axes.len()) {
            Ok(Self(axes))
        } else {
            Err(format!("{axes:?} is not a permutation of 0..{}", axes.len()))
        }
    }

    /// The axes.
    #[must_use]
    pub fn axes(&self) -> &[usize] {
        &self.0
    }

    /// The permutation that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut inverse = vec![0; self.0.len()];
        for (place, axis) in self.0.iter().enumerate() {
            inverse[*axis] = place;
        }
        Self(inverse)
    }

    /// This one after `first`: `x.permute(first).permute(self)`.
    #[must_use]
    pub fn after(&self, first: &Self) -> Self {
        Self(self.0.iter().map(|axis| first.0[*axis]).collect())
    }

    /// Whether every axis stays.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.0.iter().copied().eq(0..self.0.len())
    }
}

impl TryFrom<Vec<usize>> for Perm {
    type Error = String;

    fn try_from(axes: Vec<usize>) -> Result<Self, String> {
        Self::new(axes)
    }
}

impl From<Perm> for Vec<usize> {
    fn from(perm: Perm) -> Self {
        perm.0
    }
}

/// Attributes of [`Op::Broadcast`](crate::Op::Broadcast).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Broadcast {
    /// The result's shape.
    pub shape: Shape,
    /// Where each axis of the operand goes; strictly increasing; sizes there are equal.
    pub axes: Vec<usize>,
}

/// One axis of [`Op::Slice`](crate::Op::Slice): elements `start, start + step, ..`, `size` of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SliceAxis {
    /// The first position, 0 or more.
    pub start: Dim,
    /// The number of elements taken.
    pub size: Dim,
    /// The distance between elements, 1 or more.
    pub step: i64,
}

/// One axis of [`Op::Pad`](crate::Op::Pad).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PadAxis {
    /// Padding before, 0 or more.
    pub low: Dim,
    /// Padding after, 0 or more.
    pub high: Dim,
    /// Padding between two elements, 0 or more.
    pub interior: i64,
}
