//! Loop nests: maps, reductions, windows, rows; norms and softmax, forward and backward.
//!
//! A nest has axes and stages. A stage visits every point of the axes in `over`, in no given order, evaluates its body
//! there, combines the values of its reductions over the axes that are not in `keep`, and stores. Later stages read the
//! reductions of earlier ones at the kept axes. Axes that every stage keeps are outer loops: points that differ there
//! have nothing to do with one another.
//!
//! Meaning of a nest: stages in order, each over all its points. A backend may fuse their loops, which is why they are together.

use serde::{Deserialize, Serialize};

use super::body::{Body, Index, ValueId};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{Extreme, ReduceKind};

/// A set of axes of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AxisSet(u32);

impl AxisSet {
    /// No axis.
    pub const EMPTY: Self = Self(0);
    /// The most axes that a kernel has.
    pub const MAX: usize = 32;

    /// The axes `0..count`.
    #[must_use]
    pub fn first(count: usize) -> Self {
        (0..count).collect()
    }

    /// With an axis.
    #[must_use]
    pub const fn with(self, axis: usize) -> Self {
        assert!(axis < Self::MAX, "K2: a kernel has at most 32 axes");
        Self(self.0 | 1 << axis)
    }

    /// Whether an axis is in it.
    #[must_use]
    pub const fn contains(self, axis: usize) -> bool {
        axis < Self::MAX && self.0 >> axis & 1 == 1
    }

    /// Whether every axis of `other` is in it.
    #[must_use]
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// In either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// In both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// In this and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The axes, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX).filter(move |axis| self.contains(*axis))
    }
}

impl FromIterator<usize> for AxisSet {
    fn from_iter<I: IntoIterator<Item = usize>>(axes: I) -> Self {
        axes.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// A loop nest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nest {
    /// The size of each axis; `Dim::axis(i, &axes[i])` is its variable.
    pub axes: Vec<Dim>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// One sweep over some axes of a nest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stage {
    /// The axes that it visits.
    pub over: AxisSet,
    /// The axes that its reductions keep, a subset of `over`; equal to it where there are no reductions.
    pub keep: AxisSet,
    /// What is computed at every point.
    pub body: Body,
    /// What is combined over `over - keep`.
    pub reductions: Vec<Reduction>,
    /// What is stored at every point of `over`; empty where there are reductions.
    pub stores: Vec<Store>,
}

/// A value of a body combined over axes, in `dtype`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reduction {
    /// How.
    pub combine: Combine,
    /// What.
    pub value: ValueId,
    /// The type of the result: the value's compute type, or `i64` for a position.
    pub dtype: DType,
}

/// How values are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Combine {
    /// By a monoid; nothing gives its identity.
    Reduce(ReduceKind),
    /// The row-major position over the reduced axes (ascending by axis) of the extreme; the first of equals, and NaN wins.
    Arg(Extreme),
}

/// A value of a body stored in an argument. Different points store at different places.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Store {
    /// Which argument.
    pub arg: usize,
    /// One position an axis of the argument, inside it.
    pub index: Vec<Index>,
    /// What; converted to the argument's type.
    pub value: ValueId,
}
