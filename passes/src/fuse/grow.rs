//! Regions grow along the graph: every node in its turn joins the regions of what it reads, where the rules allow and no
//! path leads out of the merged region and back.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::NodeId;

use super::facts::{Facts, Read};
use super::group::{Group, Kind};
use super::rules::{Refusal, Refusals, horizontal, vertical};

/// The most nodes of a region.
const LARGEST: usize = 96;

/// Regions so far.
pub(super) struct Regions<'a> {
    facts: &'a Facts<'a>,
    /// The region of each node that is in one, by its first node.
    of: BTreeMap<NodeId, NodeId>,
    groups: BTreeMap<NodeId, Group>,
    refused: Refusals,
}

/// Grows regions until nothing more fits.
pub(super) fn grow<'a>(facts: &'a Facts<'a>) -> Regions<'a> {
    let mut regions = Regions { facts, of: BTreeMap::new(), groups: BTreeMap::new(), refused: Refusals::new() };
    for id in facts.computed() {
        regions.of.insert(id, id);
        regions.groups.insert(id, Group::of(facts, id));
        regions.join_producers(id);
        regions.join_siblings(id);
    }
    regions
}

impl Regions<'_> {
    /// The region of a node.
    pub(super) fn region(&self, id: NodeId) -> Option<NodeId> {
        self.of.get(&id).copied()
    }

    /// Why the two regions are two.
    pub(super) fn refusal(&self, producer: NodeId, consumer: NodeId) -> Option<Refusal> {
        self.refused.get(&(producer, consumer)).copied()
    }

    /// Contractions first, for an epilogue saves the most; then the nearest.
    fn join_producers(&mut self, id: NodeId) {
        loop {
            let own = self.of[&id];
            let mut producers: Vec<NodeId> = self.producers(own).into_iter().collect();
            producers.sort_by_key(|region| {
                let group = &self.groups[region];
                (group.kind != Kind::Contract, std::cmp::Reverse(group.last(self.facts)))
            });
            let mut joins = producers.into_iter().filter_map(|producer| {
                let merged = self.try_vertical(producer, own);
                Some((producer, merged.ok()?))
            });
            match joins.next() {
                Some((producer, merged)) => self.merge(producer, own, merged),
                None => break,
            }
        }
        self.note_refusals(id);
    }

    fn note_refusals(&mut self, id: NodeId) {
        let own = self.of[&id];
        for producer in self.producers(own) {
            if let Err(refusal) = self.try_vertical(producer, own) {
                for read in self.reads_between(producer, own) {
                    self.refused.insert((read.source.node, read.reader), refusal);
                }
            }
        }
    }

    /// Reductions of what another region reduces already.
    fn join_siblings(&mut self, id: NodeId) {
        let own = self.of[&id];
        if !matches!(self.groups[&own].kind, Kind::Column | Kind::Window) {
            return;
        }
        let sources: BTreeSet<NodeId> = self.reads_outside(own).into_iter().map(|read| read.source.node).collect();
        let readers = sources.iter().flat_map(|source| self.facts.readers[source.index()].iter());
        let others: BTreeSet<NodeId> = readers.filter_map(|reader| self.region(*reader)).filter(|other| *other != own).collect();
        for other in others {
            let fits = horizontal(&self.groups[&other], &self.groups[&own]).filter(|group| group.nodes.len() <= LARGEST);
            if let Some(merged) = fits
                && !self.leads(other, own, true)
                && !self.leads(own, other, true)
            {
                self.merge(other, own, merged);
                return;
            }
        }
    }

    fn try_vertical(&self, producer: NodeId, consumer: NodeId) -> Result<Group, Refusal> {
        let (p, c) = (&self.groups[&producer], &self.groups[&consumer]);
        if p.nodes.len() + c.nodes.len() > LARGEST {
            return Err(Refusal::TooLarge);
        }
        let reads = self.reads_between(producer, consumer);
        let merged = vertical(self.facts, p, c, &reads, self.is_private(producer, consumer))?;
        if self.leads(producer, consumer, false) { Err(Refusal::Between) } else { Ok(merged) }
    }

    /// Whether nobody but the consumer reads the producer.
    fn is_private(&self, producer: NodeId, consumer: NodeId) -> bool {
        let inside = |reader: &NodeId| {
            let region = self.region(*reader);
            region == Some(producer) || region == Some(consumer)
        };
        self.groups[&producer]
            .nodes
            .iter()
            .all(|id| !self.facts.returned[id.index()] && self.facts.readers[id.index()].iter().all(inside))
    }

    fn reads_outside(&self, region: NodeId) -> Vec<&Read> {
        let reads = self.groups[&region].nodes.iter().flat_map(|id| &self.facts.reads[id.index()]);
        reads.filter(|read| self.region(read.source.node) != Some(region)).collect()
    }

    fn reads_between(&self, producer: NodeId, consumer: NodeId) -> Vec<Read> {
        let reads = self.reads_outside(consumer).into_iter();
        reads.filter(|read| self.region(read.source.node) == Some(producer)).cloned().collect()
    }

    fn producers(&self, region: NodeId) -> BTreeSet<NodeId> {
        self.reads_outside(region).into_iter().filter_map(|read| self.region(read.source.node)).collect()
    }

    /// Whether a path leads from one region to another: through a third, or also directly.
    fn leads(&self, from: NodeId, to: NodeId, directly: bool) -> bool {
        let limit = self.groups[&to].last(self.facts);
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(region) = open.pop() {
            for reader in self.groups[&region].nodes.iter().flat_map(|id| &self.facts.readers[id.index()]) {
                let next = self.region(*reader);
                if next == Some(to) && (directly || region != from) {
                    return true;
                }
                // A region that starts after the end of `to` does not lead there; neither does one that is not built yet.
                if let Some(next) = next
                    && next != to
                    && self.facts.rank[self.groups[&next].nodes[0].index()] <= limit
                    && seen.insert(next)
                {
                    open.push(next);
                }
            }
        }
        false
    }

    fn merge(&mut self, first: NodeId, second: NodeId, mut merged: Group) {
        merged.nodes.sort_by_key(|id| self.facts.rank[id.index()]);
        self.groups.remove(&first);
        self.groups.remove(&second);
        let name = merged.nodes[0];
        for id in &merged.nodes {
            self.of.insert(*id, name);
        }
        self.groups.insert(name, merged);
    }
}
