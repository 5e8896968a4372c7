//! What is known of the graph before regions grow: which nodes every reader computes for itself, and who reads whom, how.

use std::collections::BTreeSet;

use graver_ir::{Args, Dim, Function, Graph, NodeId, Op, Target, Value};

use super::class::{Class, class, is_cheap, live, random_axes, result, space};
use super::reach::reaches;
use super::relation::{Origin, Relation, of_operand, through};
use crate::lower::movement::is_trivial_reshape;

/// The most maps that are computed again for every reader, on every path to them.
const CHEAP_CHAIN: usize = 6;
/// The same where what they are computed from is a quarter of what they give or less: where numbers are decoded.
const DECODING_CHAIN: usize = 16;

/// Which part of a thread's cache a row of sums may take.
const ACROSS_SHARE: usize = 8;

/// A source that a node reads, perhaps through free nodes.
#[derive(Clone, Debug)]
pub(super) struct Read {
    /// The reader.
    pub(super) reader: NodeId,
    /// Which operand of the reader leads there.
    pub(super) slot: usize,
    /// What is read.
    pub(super) source: Value,
    /// Which element of it.
    pub(super) relation: Relation,
}

/// See the file's header.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The entry.
    pub(super) function: &'a Function,
    /// Whether contractions take maps.
    pub(super) target_fuses: bool,
    /// Bytes of a row's sums at most, for what is combined over rows to be in the kernel of the rows.
    pub(super) across_bytes: i64,
    /// Live nodes after their operands.
    pub(super) order: Vec<NodeId>,
    /// The place of each node in `order`.
    pub(super) rank: Vec<usize>,
    /// Whether regions compute the node for themselves.
    pub(super) free: Vec<bool>,
    /// What each node that is not free reads of nodes that are not free.
    pub(super) reads: Vec<Vec<Read>>,
    /// Who reads each node.
    pub(super) readers: Vec<BTreeSet<NodeId>>,
    /// Whether the entry returns a value of the node.
    pub(super) returned: Vec<bool>,
}

impl<'a> Facts<'a> {
    /// Of an entry.
    pub(super) fn of(function: &'a Function, target: &Target) -> Self {
        let (order, bound) = (live(function), function.graph.bound());
        let mut facts = Self {
            function,
            target_fuses: target.fused_epilogues,
            across_bytes: if target.sums_across_rows {
                i64::try_from(target.cache_bytes / ACROSS_SHARE).unwrap_or(i64::MAX)
            } else {
                -1
            },
            rank: vec![usize::MAX; bound],
            free: vec![false; bound],
            reads: vec![Vec::new(); bound],
            readers: vec![BTreeSet::new(); bound],
            returned: vec![false; bound],
            order,
        };
        for (rank, id) in facts.order.iter().enumerate() {
            facts.rank[id.index()] = rank;
        }
        for result in &function.results {
            facts.returned[result.value.node.index()] = true;
        }
        facts.mark_free();
        facts.connect();
        facts
    }

    /// The graph.
    pub(super) fn graph(&self) -> &'a Graph {
        &self.function.graph
    }

    /// The nodes that regions are made of.
    pub(super) fn computed(&self) -> Vec<NodeId> {
        let computed = |id: &NodeId| !self.free[id.index()] && class(self.graph(), *id) != Class::Given;
        self.order.iter().copied().filter(computed).collect()
    }

    fn mark_free(&mut self) {
        for id in self.order.clone() {
            self.free[id.index()] = !self.returned[id.index()] && self.is_free(id);
        }
        // Users first: what must be in memory for them is not free, whatever it is.
        for id in self.order.clone().into_iter().rev() {
            for arg in self.must_be_stored(id) {
                self.free[arg.node.index()] = false;
            }
        }
    }

    fn is_free(&self, id: NodeId) -> bool {
        match class(self.graph(), id) {
            Class::Source | Class::Move => true,
            Class::Map => is_cheap(self.graph(), id) && self.is_cheap_chain(id),
            Class::Given
            | Class::Reduce
            | Class::Window
            | Class::Contract
            | Class::Scatter
            | Class::Sort
            | Class::Prefix
            | Class::Attend
            | Class::Control => false,
        }
    }

    /// Whether reading what a chain of maps starts from costs no more than reading its result: all of it is given.
    fn is_cheap_chain(&self, id: NodeId) -> bool {
        let (mut sources, mut maps) = (BTreeSet::new(), 0);
        let given = self.chain(id.into(), &mut sources, &mut maps);
        let wide = sources.iter().filter(|value| !space(&self.graph().ty(**value).shape).is_empty());
        let (bytes, result): (Dim, Dim) =
            (wide.map(|value| self.graph().ty(*value).bytes()).sum(), result(self.graph(), id).bytes());
        let decodes = (&result - &bytes * Dim::from(4)).is_nonneg();
        given && maps <= if decodes { DECODING_CHAIN } else { CHEAP_CHAIN } && (result - bytes).is_nonneg()
    }

    fn chain(&self, value: Value, sources: &mut BTreeSet<Value>, maps: &mut usize) -> bool {
        if is_in_memory(self.graph(), value.node) {
            sources.insert(value);
            return true;
        }
        *maps += usize::from(class(self.graph(), value.node) == Class::Map);
        let inner = |arg: Value| self.free[arg.node.index()] || is_in_memory(self.graph(), arg.node);
        let mut args = self.graph().args(value.node).into_iter();
        *maps <= DECODING_CHAIN && args.all(|arg| inner(arg) && self.chain(arg, sources, maps))
    }

    /// Operands that lowering or the machine needs as arrays: those of control flow, what is read at run-time positions where no index arithmetic leads further, and what
    /// a reshape splits or merges after other movement, which as a view of memory costs nothing.
    fn must_be_stored(&self, id: NodeId) -> Args {
        let graph = self.graph();
        let args = graph.args(id);
        let is_free = |value: &Value| self.free[value.node.index()];
        if class(graph, id) == Class::Control {
            return args;
        }
        if let Some(random) = random_axes(graph, id) {
            let stored = !reaches(graph, args[0], &random, &|node| !self.free[node.index()]);
            return args.into_iter().take(1).filter(|_| stored).collect();
        }
        if matches!(graph.op(id), Op::Reshape(_)) && !is_trivial_reshape(graph, id) {
            let moved =
                |value: &Value| matches!(graph.op(value.node), Op::Permute(_) | Op::Slice(_) | Op::Reverse(_) | Op::Pad(_));
            return args.into_iter().filter(is_free).filter(moved).collect();
        }
        Args::new()
    }

    fn connect(&mut self) {
        for id in self.computed() {
            let (args, mut reads) = (self.graph().args(id), Vec::new());
            let is_control = class(self.graph(), id) == Class::Control;
            for (slot, arg) in args.iter().enumerate() {
                // Control flow takes arrays: nobody asks which element it reads.
                let relation = if is_control { Relation::new() } else { of_operand(self.graph(), id, &args, slot) };
                self.follow(*arg, relation, &mut |source, relation| {
                    reads.push(Read { reader: id, slot, source, relation });
                });
            }
            for read in &reads {
                self.readers[read.source.node.index()].insert(id);
            }
            self.reads[id.index()] = reads;
        }
    }

    /// The sources of a value through free nodes.
    fn follow(&self, value: Value, relation: Relation, found: &mut dyn FnMut(Value, Relation)) {
        if !self.free[value.node.index()] {
            return found(value, relation);
        }
        let inner =
            if class(self.graph(), value.node) == Class::Move { through(self.graph(), value.node, &relation) } else { relation };
        for (slot, arg) in self.graph().args(value.node).into_iter().enumerate() {
            let rank = space(&self.graph().ty(arg).shape).len();
            let inner = if matches!(self.graph().op(value.node), Op::Philox(_)) {
                // Every word of the key is read at every point.
                vec![Origin::Random; rank]
            } else if rank == 0 || (slot == 1 && inner.len() != rank) {
                // The second operand of a padding is read at no index.
                Vec::new()
            } else {
                inner.clone()
            };
            self.follow(arg, inner, found);
        }
    }

    /// Bytes for comparison.
    pub(super) fn bytes(&self, value: Value) -> i64 {
        self.graph().ty(value).bytes().nominal()
    }
}

/// Whether a node's results are arrays in any case.
fn is_in_memory(graph: &Graph, id: NodeId) -> bool {
    matches!(class(graph, id), Class::Given | Class::Control)
}
