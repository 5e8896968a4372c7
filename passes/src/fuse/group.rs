//! Regions while they grow.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::{Dim, NodeId, Op};

use super::class::{Class, class, kept_prefix, operand_space, result, space};
use super::facts::Facts;

/// What a region is, which decides what may join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Maps over one space.
    Map,
    /// A movement that must be in memory: an index of the producer's store, or a map.
    Move,
    /// Reductions that all keep the first axes of one space, and maps over that space or over the kept axes; on some targets reductions over
    /// these axes too ([`Group::across`]).
    Row,
    /// Reductions over one space that keep other axes than the first, or too few; maps over the kept axes.
    Column,
    /// Reductions over windows, and maps over the space of windows.
    Window,
    /// A contraction, and maps over its result.
    Contract,
    /// Stores at run-time positions.
    Scatter,
    /// Elements in order.
    Sort,
    /// Elements combined with all before them, and maps that they alone are of.
    Prefix,
    /// Attention, or a derivative of it.
    Attend,
    /// Functions applied.
    Control,
}

/// A region.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// What it is.
    pub(super) kind: Kind,
    /// Its nodes after their operands.
    pub(super) nodes: Vec<NodeId>,
    /// The space of its maps, and of what its reductions read.
    pub(super) full: Vec<Dim>,
    /// How many axes its reductions keep.
    pub(super) kept: usize,
    /// Movement at its end: nothing is computed from it in this region.
    pub(super) tail: bool,
    /// Of a contraction's maps: which axis of the node's space each axis of the sum is.
    pub(super) places: BTreeMap<NodeId, Vec<usize>>,
    /// Of a region of rows: reductions over all rows, which keep the axes that rows reduce, and maps of their results.
    pub(super) across: BTreeSet<NodeId>,
}

/// Reductions to so few elements keep no thread busy, unless all of it is small.
const SMALL: i64 = 2048;

impl Group {
    /// A node alone.
    pub(super) fn of(facts: &Facts<'_>, id: NodeId) -> Self {
        let graph = facts.graph();
        let full = operand_space(graph, id);
        let control = class(graph, id) == Class::Control;
        let kept = if control { 0 } else { space(&result(graph, id).shape).len() };
        let kind = match class(graph, id) {
            Class::Given | Class::Source | Class::Map => Kind::Map,
            Class::Move => Kind::Move,
            Class::Reduce => reduce_kind(facts, id, &full),
            Class::Window => Kind::Window,
            Class::Contract => Kind::Contract,
            Class::Scatter => Kind::Scatter,
            Class::Sort => Kind::Sort,
            Class::Prefix => Kind::Prefix,
            Class::Attend => Kind::Attend,
            Class::Control => Kind::Control,
        };
        let places = if kind == Kind::Contract { BTreeMap::from([(id, (0..full.len()).collect())]) } else { BTreeMap::new() };
        Self { kind, nodes: vec![id], full, kept, tail: kind == Kind::Move, places, across: BTreeSet::new() }
    }

    /// Whether a node's elements are those of the whole space, not of the kept axes.
    pub(super) fn is_full(&self, facts: &Facts<'_>, id: NodeId) -> bool {
        space(&result(facts.graph(), id).shape).len() == self.full.len()
    }

    /// The contraction, in a region that has one.
    pub(super) fn contraction(&self, facts: &Facts<'_>) -> Option<NodeId> {
        self.nodes.iter().copied().find(|id| matches!(facts.graph().op(*id), Op::Dot(_) | Op::Conv(_)))
    }

    /// The place of its last node.
    pub(super) fn last(&self, facts: &Facts<'_>) -> usize {
        self.nodes.iter().map(|id| facts.rank[id.index()]).max().unwrap_or(0)
    }
}

fn reduce_kind(facts: &Facts<'_>, id: NodeId, full: &[Dim]) -> Kind {
    let numel: Dim = full.iter().product();
    let is_small = numel.as_const().is_some_and(|numel| numel <= SMALL);
    match kept_prefix(facts.graph(), id) {
        Some(kept) if kept > 0 || is_small => Kind::Row,
        Some(_) | None => Kind::Column,
    }
}
