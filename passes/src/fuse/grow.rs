//! Regions grow along the graph: every node in its turn joins the regions of what it reads, where the rules allow and no
//! path leads out of the merged region and back.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::NodeId;

use super::facts::{Facts, Read};
use super::group::{Group, Kind};
use super::rules::{Refusal, Refusals, apart, horizontal, vertical};

/// The most nodes of a region.
const LARGEST: usize = 96;

/// The most regions that a path is looked for in. A value that so many follow from before its last reader is one of the forward
/// pass that the backward pass reads again: there is a path.
const FARTHEST: usize = 256;

/// Regions so far.
pub(super) struct Regions<'a> {
    facts: &'a Facts<'a>,
    /// The region of each node that is in one, by its first node.
    of: Vec<Option<NodeId>>,
    /// By first node.
    groups: Vec<Option<Group>>,
    refused: Refusals,
}

/// Grows regions until nothing more fits.
pub(super) fn grow<'a>(facts: &'a Facts<'a>) -> Regions<'a> {
    let bound = facts.graph().bound();
    let mut regions = Regions { facts, of: vec![None; bound], groups: vec![None; bound], refused: Refusals::new() };
    for id in facts.computed() {
        regions.of[id.index()] = Some(id);
        regions.groups[id.index()] = Some(Group::of(facts, id));
        regions.join_producers(id);
        regions.join_siblings(id);
    }
    regions
}

impl Regions<'_> {
    /// The region of a node.
    pub(super) fn region(&self, id: NodeId) -> Option<NodeId> {
        self.of[id.index()]
    }

    fn own(&self, id: NodeId) -> NodeId {
        self.of[id.index()].expect("F4: a node that is built is in a region")
    }

    fn group(&self, region: NodeId) -> &Group {
        self.groups[region.index()].as_ref().expect("F6: a region has its first node's name")
    }

    /// Why the two regions are two.
    pub(super) fn refusal(&self, producer: NodeId, consumer: NodeId) -> Option<Refusal> {
        self.refused.get(&(producer, consumer)).copied()
    }

    /// Contractions first, for an epilogue saves the most; then the nearest.
    fn join_producers(&mut self, id: NodeId) {
        loop {
            let own = self.own(id);
            let mut producers: Vec<NodeId> = self.producers(own).into_iter().collect();
            producers.sort_by_key(|region| {
                let group = self.group(*region);
                (group.kind != Kind::Contract, std::cmp::Reverse(group.last(self.facts)))
            });
            let (mut refused, mut join) = (BTreeMap::new(), None);
            for producer in producers {
                match self.try_vertical(producer, own) {
                    Ok(merged) => {
                        join = Some((producer, merged));
                        break;
                    }
                    Err(refusal) => drop(refused.insert(producer, refusal)),
                }
            }
            match join {
                Some((producer, merged)) => self.merge(producer, own, merged),
                None => return self.note_refusals(own, &refused),
            }
        }
    }

    fn note_refusals(&mut self, own: NodeId, refused: &BTreeMap<NodeId, Refusal>) {
        let refusal = |read: &Read| {
            let refusal = refused.get(&self.region(read.source.node)?)?;
            Some(((read.source.node, read.reader), *refusal))
        };
        let noted: Vec<((NodeId, NodeId), Refusal)> = self.reads_outside(own).into_iter().filter_map(refusal).collect();
        self.refused.extend(noted);
    }

    /// Reductions of what another region reduces already.
    fn join_siblings(&mut self, id: NodeId) {
        let own = self.own(id);
        if !matches!(self.group(own).kind, Kind::Column | Kind::Window) && self.group(own).across.is_empty() {
            return;
        }
        let sources: BTreeSet<NodeId> = self.reads_outside(own).into_iter().map(|read| read.source.node).collect();
        let readers = sources.iter().flat_map(|source| self.facts.readers[source.index()].iter());
        let others: BTreeSet<NodeId> = readers.filter_map(|reader| self.region(*reader)).filter(|other| *other != own).collect();
        for other in others {
            let fits = horizontal(self.facts, self.group(other), self.group(own)).filter(|group| group.nodes.len() <= LARGEST);
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
        let (p, c) = (self.group(producer), self.group(consumer));
        if p.nodes.len() + c.nodes.len() > LARGEST {
            return Err(Refusal::TooLarge);
        }
        apart(p, c).map_or(Ok(()), Err)?;
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
        self.group(producer)
            .nodes
            .iter()
            .all(|id| !self.facts.returned[id.index()] && self.facts.readers[id.index()].iter().all(inside))
    }

    fn reads_outside(&self, region: NodeId) -> Vec<&Read> {
        let reads = self.group(region).nodes.iter().flat_map(|id| &self.facts.reads[id.index()]);
        reads.filter(|read| self.region(read.source.node) != Some(region)).collect()
    }

    fn reads_between(&self, producer: NodeId, consumer: NodeId) -> Vec<Read> {
        let reads = self.reads_outside(consumer).into_iter();
        reads.filter(|read| self.region(read.source.node) == Some(producer)).cloned().collect()
    }

    fn producers(&self, region: NodeId) -> BTreeSet<NodeId> {
        self.reads_outside(region).into_iter().filter_map(|read| self.region(read.source.node)).collect()
    }

    /// Whether a path leads from one region to another: through a third, or also directly. Where so many regions follow the first
    /// one that it is not known, it is said to.
    fn leads(&self, from: NodeId, to: NodeId, directly: bool) -> bool {
        let limit = self.group(to).last(self.facts);
        let (mut seen, mut count) = (vec![false; self.of.len()], 0);
        let mut open = vec![from];
        while let Some(region) = open.pop() {
            if count > FARTHEST {
                return true;
            }
            count += 1;
            for reader in self.group(region).nodes.iter().flat_map(|id| &self.facts.readers[id.index()]) {
                let next = self.region(*reader);
                if next == Some(to) && (directly || region != from) {
                    return true;
                }
                // A region that starts after the end of `to` does not lead there; neither does one that is not built yet.
                if let Some(next) = next
                    && next != to
                    && self.facts.rank[self.group(next).nodes[0].index()] <= limit
                    && !std::mem::replace(&mut seen[next.index()], true)
                {
                    open.push(next);
                }
            }
        }
        false
    }

    fn merge(&mut self, first: NodeId, second: NodeId, mut merged: Group) {
        merged.nodes.sort_by_key(|id| self.facts.rank[id.index()]);
        (self.groups[first.index()], self.groups[second.index()]) = (None, None);
        let name = merged.nodes[0];
        for id in &merged.nodes {
            self.of[id.index()] = Some(name);
        }
        self.groups[name.index()] = Some(merged);
    }
}
