//! Windows: what is combined over a few positions about each point, as depthwise convolutions and pooling have it. Of two neighbouring
//! points most of it is the same.

mod find;
mod points;
mod reads;
mod visits;

use graver_ir::kernel::Nest;

use self::points::Points;
use super::Lowered;
use super::cx::Cx;

/// A nest of windows, and how it is run.
pub(super) enum Windows<'a> {
    /// A result a point.
    Points(Points<'a>),
}

impl<'a> Windows<'a> {
    /// A nest whose neighbours share what they combine.
    pub(super) fn find(cx: &Cx<'_>, nest: &'a Nest) -> Option<Self> {
        Points::find(cx, nest).map(Self::Points)
    }

    pub(super) fn lower(&self, cx: Cx<'_>) -> Lowered {
        match self {
            Self::Points(points) => points.lower(cx),
        }
    }
}
