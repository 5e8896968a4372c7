//! Windows: what is combined over a few positions about each point, as depthwise convolutions and pooling have it. Of two neighbouring
//! points most of it is the same. Gradients of their weights combine the same elements over all points instead, for each position. What was
//! taken from windows with distances between them goes back by remainders of positions.

mod find;
mod points;
mod reads;
mod residues;
mod visits;
mod weights;

use graver_ir::kernel::Nest;

use self::points::Points;
use self::weights::Weights;
use super::Lowered;
use super::cx::Cx;

/// A nest of windows, and how it is run.
pub(super) enum Windows<'a> {
    /// A result a point.
    Points(Box<Points<'a>>),
    /// A result a tap.
    Weights(Box<Weights<'a>>),
}

impl<'a> Windows<'a> {
    /// A nest whose neighbours share what they combine.
    pub(super) fn find(cx: &Cx<'_>, nest: &'a Nest) -> Option<Self> {
        let weights = Weights::find(cx, nest).map(|weights| Self::Weights(Box::new(weights)));
        weights.or_else(|| Points::find(cx, nest).map(|points| Self::Points(Box::new(points))))
    }

    pub(super) fn lower(&self, cx: Cx<'_>) -> Lowered {
        match self {
            Self::Points(points) => points.lower(cx),
            Self::Weights(weights) => weights.lower(cx),
        }
    }
}
