//! The graph: nodes in single static assignment, whose edges are the truth of use and definition.
//!
//! The only file that names petgraph. A [`Graph`] is a function's body.
//! Order of iteration is deterministic everywhere: it depends on the order of insertion and removal alone.

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::{EdgeRef, IntoEdgeReferences};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::error::Diag;
use crate::infer;
use crate::location::Loc;
use crate::op::Op;
use crate::ty::Type;

/// A node of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(u32);

impl NodeId {
    /// Its position in dense tables of [`Graph::bound`] entries.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    fn of(index: NodeIndex) -> Self {
        Self(u32::try_from(index.index()).expect("petgraph's default index is u32"))
    }

    fn raw(self) -> NodeIndex {
        NodeIndex::new(self.0 as usize)
    }

    /// Its output `out` as a value.
    #[must_use]
    pub const fn out(self, out: u16) -> Value {
        Value { node: self, out }
    }
}

/// One result of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub out: u16,
}

impl From<NodeId> for Value {
    fn from(node: NodeId) -> Self {
        node.out(0)
    }
}

/// The operands of a node in slot order: few, so that asking for them seldom allocates.
pub type Args = SmallVec<[Value; 4]>;

/// One operand of a node: who uses, and in which place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The user.
    pub node: NodeId,
    /// Its operand slot.
    pub slot: u16,
}

/// An operation in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// The types of its results.
    pub outs: Vec<Type>,
    /// The user's line.
    pub loc: Loc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edge {
    out: u16,
    slot: u16,
}

/// A directed acyclic graph of operations.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    dag: StableDiGraph<Node, Edge>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation; its type is inferred, which checks it.
    ///
    /// # Errors
    /// If the operands do not satisfy the operation's constraints: what, both sides, and at `loc`.
    ///
    /// # Panics
    /// If an operand is not of this graph.
    pub fn add(&mut self, op: Op, args: &[Value], loc: Loc) -> Result<NodeId, Diag> {
        let operands: Vec<&Type> = args.iter().map(|arg| self.ty(*arg)).collect();
        let outs = infer::infer(&op, &operands).map_err(|diag| diag.op(op.name()).at(&loc))?;
        let node = self.dag.add_node(Node { op, outs, loc });
        for (slot, arg) in args.iter().enumerate() {
            let slot = u16::try_from(slot).expect("I8: a node has fewer than 65536 operands");
            self.dag.add_edge(arg.node.raw(), node, Edge { out: arg.out, slot });
        }
        Ok(NodeId::of(node))
    }

    /// The node.
    ///
    /// # Panics
    /// If it is not of this graph.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        self.dag.node_weight(id.raw()).expect("I1: a node id names a live node of its graph")
    }

    /// The operation of a node.
    #[must_use]
    pub fn op(&self, id: NodeId) -> &Op {
        &self.node(id).op
    }

    /// The user's line of a node.
    #[must_use]
    pub fn loc(&self, id: NodeId) -> &Loc {
        &self.node(id).loc
    }

    /// Gives a node another place.
    pub fn set_loc(&mut self, id: NodeId, loc: Loc) {
        if let Some(node) = self.dag.node_weight_mut(id.raw()) {
            node.loc = loc;
        }
    }

    /// Whether the node exists.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.dag.contains_node(id.raw())
    }

    /// The type of a value.
    ///
    /// # Panics
    /// If it is not of this graph.
    #[must_use]
    pub fn ty(&self, value: Value) -> &Type {
        self.node(value.node).outs.get(usize::from(value.out)).expect("I2: a value names a result that its node has")
    }

    /// The operands in slot order.
    #[must_use]
    pub fn args(&self, id: NodeId) -> Args {
        let mut edges = self.dag.edges_directed(id.raw(), Direction::Incoming);
        let Some(last) = edges.next() else { return Args::new() };
        let of = |edge: &petgraph::stable_graph::EdgeReference<'_, Edge>| NodeId::of(edge.source()).out(edge.weight().out);
        // Edges come the last first, so that most often this is all the room that is needed.
        let mut args = Args::from_elem(of(&last), usize::from(last.weight().slot) + 1);
        for edge in edges {
            let slot = usize::from(edge.weight().slot);
            if slot >= args.len() {
                args.resize(slot + 1, of(&edge));
            }
            args[slot] = of(&edge);
        }
        args
    }

    /// The operand edges as they are, in slot order: what a verifier must see, because slots may be wrong.
    pub(crate) fn slots(&self, id: NodeId) -> Vec<(u16, Value)> {
        let edges = self.dag.edges_directed(id.raw(), Direction::Incoming);
        let mut slots: Vec<(u16, Value)> =
            edges.map(|edge| (edge.weight().slot, NodeId::of(edge.source()).out(edge.weight().out))).collect();
        slots.sort_unstable();
        slots
    }

    /// Who uses any result of the node, in ascending order. One entry an operand slot.
    #[must_use]
    pub fn users(&self, id: NodeId) -> Vec<Use> {
        let mut uses: Vec<Use> = self
            .dag
            .edges_directed(id.raw(), Direction::Outgoing)
            .map(|edge| Use { node: NodeId::of(edge.target()), slot: edge.weight().slot })
            .collect();
        uses.sort_unstable();
        uses
    }

    /// Who uses this value, in ascending order.
    #[must_use]
    pub fn uses(&self, value: Value) -> Vec<Use> {
        let mut uses: Vec<Use> = self
            .dag
            .edges_directed(value.node.raw(), Direction::Outgoing)
            .filter(|edge| edge.weight().out == value.out)
            .map(|edge| Use { node: NodeId::of(edge.target()), slot: edge.weight().slot })
            .collect();
        uses.sort_unstable();
        uses
    }

    /// Which results of the node some node uses.
    #[must_use]
    pub fn used_outs(&self, id: NodeId) -> Vec<bool> {
        let mut used = vec![false; self.node(id).outs.len()];
        self.dag.edges_directed(id.raw(), Direction::Outgoing).for_each(|edge| used[usize::from(edge.weight().out)] = true);
        used
    }

    /// Whether any node uses any result of the node. Takes no longer for more users.
    #[must_use]
    pub fn has_users(&self, id: NodeId) -> bool {
        self.dag.edges_directed(id.raw(), Direction::Outgoing).next().is_some()
    }

    /// Whether exactly one operand slot holds the value. Takes no longer for more users of it.
    #[must_use]
    pub fn has_one_use(&self, value: Value) -> bool {
        let edges = self.dag.edges_directed(value.node.raw(), Direction::Outgoing);
        edges.filter(|edge| edge.weight().out == value.out).take(2).count() == 1
    }

    /// Makes every user of `old` use `new`. The function's results are not users: see [`crate::Function::replace`].
    ///
    /// # Panics
    /// If the types differ, which would change a program's meaning.
    pub fn replace_uses(&mut self, old: Value, new: Value) {
        assert_eq!(self.ty(old), self.ty(new), "I4: a value is replaced by one of its type");
        let edges = self.dag.edges_directed(old.node.raw(), Direction::Outgoing).filter(|edge| edge.weight().out == old.out);
        let mut users: Vec<_> = edges.map(|edge| (edge.target(), edge.weight().slot, edge.id())).collect();
        users.sort_unstable();
        for (user, slot, edge) in users {
            self.dag.remove_edge(edge);
            self.dag.add_edge(new.node.raw(), user, Edge { out: new.out, slot });
        }
    }

    /// As [`Graph::replace_uses`], of many values, each once and none of them by another of them: the users of a node are looked through
    /// once, however many of its results are replaced.
    ///
    /// # Panics
    /// As [`Graph::replace_uses`].
    pub fn replace_all_uses(&mut self, pairs: &[(Value, Value)]) {
        let mut pairs = pairs.to_vec();
        pairs.sort_unstable();
        for own in pairs.chunk_by(|(x, _), (y, _)| x.node == y.node) {
            let types = own.iter().all(|(old, new)| self.ty(*old) == self.ty(*new));
            assert!(types, "I4: a value is replaced by one of its type");
            let new = |out: u16| own.binary_search_by_key(&out, |(old, _)| old.out).ok().map(|place| own[place].1);
            let edges = self.dag.edges_directed(own[0].0.node.raw(), Direction::Outgoing);
            let used = edges.filter_map(|edge| Some((edge.id(), edge.target(), edge.weight().slot, new(edge.weight().out)?)));
            // In the order in which they come, each is the first when it is looked for.
            for (edge, user, slot, new) in used.collect::<Vec<_>>() {
                self.dag.remove_edge(edge);
                self.dag.add_edge(new.node.raw(), user, Edge { out: new.out, slot });
            }
        }
    }

    /// Makes one operand `new`, which must have the type of the old one and not depend on the user.
    ///
    /// # Panics
    /// If the node has no such operand.
    pub fn set_arg(&mut self, user: Use, new: Value) {
        let edge = self
            .dag
            .edges_directed(user.node.raw(), Direction::Incoming)
            .find(|edge| edge.weight().slot == user.slot)
            .map(|edge| edge.id())
            .expect("I3: operand slots are 0..n, each once");
        self.dag.remove_edge(edge);
        self.dag.add_edge(new.node.raw(), user.node.raw(), Edge { out: new.out, slot: user.slot });
    }

    /// Removes a node without users.
    ///
    /// # Panics
    /// If it has users.
    pub fn remove(&mut self, id: NodeId) {
        assert!(!self.has_users(id), "I1: a node with users is not removed");
        self.dag.remove_node(id.raw());
    }

    /// Removes nodes that none uses but nodes before them in the list. Takes no longer where others use what they use.
    ///
    /// # Panics
    /// If one has other users.
    pub fn remove_all(&mut self, nodes: &[NodeId]) {
        // An edge is looked for among all of its source's: of many nodes it is less work to make the edges that stay anew.
        if nodes.len() * ONE_IN < self.len() {
            return nodes.iter().for_each(|node| self.remove(*node));
        }
        let mut place = vec![usize::MAX; self.bound()];
        nodes.iter().enumerate().for_each(|(at, node)| place[node.index()] = at);
        let edges = self.dag.edge_references().map(|edge| (edge.source(), edge.target(), *edge.weight()));
        let edges: Vec<(NodeIndex, NodeIndex, Edge)> = edges.collect();
        let goes = |node: NodeIndex| place[node.index()];
        let kept = |(from, to, _): &&(NodeIndex, NodeIndex, Edge)| {
            let stays = goes(*from) == usize::MAX;
            assert!(stays || goes(*to) < goes(*from), "I1: a node with users is not removed");
            stays && goes(*to) == usize::MAX
        };
        let kept: Vec<&(NodeIndex, NodeIndex, Edge)> = edges.iter().filter(kept).collect();
        self.dag.clear_edges();
        nodes.iter().for_each(|node| drop(self.dag.remove_node(node.raw())));
        for (from, to, edge) in kept {
            self.dag.add_edge(*from, *to, *edge);
        }
    }

    /// The number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the greatest node index: the length of a dense table over nodes.
    #[must_use]
    pub fn bound(&self) -> usize {
        use petgraph::visit::NodeIndexable;
        self.dag.node_bound()
    }

    /// Every node, ascending by id.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.dag.node_indices().map(NodeId::of)
    }

    /// Every node after its operands, or `None` if there is a cycle. Among the possible orders, the one of least ids.
    #[must_use]
    pub fn try_topo(&self) -> Option<Vec<NodeId>> {
        // Most graphs are in order, which is then the one that is looked for below.
        let ascends = |id: &NodeId| self.dag.neighbors_directed(id.raw(), Direction::Incoming).all(|from| from < id.raw());
        if self.nodes().all(|id| ascends(&id)) {
            return Some(self.nodes().collect());
        }
        let mut missing = vec![0usize; self.bound()];
        for id in self.nodes() {
            missing[id.index()] = self.dag.edges_directed(id.raw(), Direction::Incoming).count();
        }
        // Ready, and less than all that follow.
        let mut passed = std::collections::BinaryHeap::new();
        let mut order = Vec::with_capacity(self.len());
        let mut rest = self.nodes();
        let mut at = rest.next();
        loop {
            let id = match (passed.pop(), at) {
                (Some(std::cmp::Reverse(id)), _) => id,
                (None, Some(id)) => {
                    at = rest.next();
                    // Comes when what it waits for has come.
                    if missing[id.index()] > 0 {
                        continue;
                    }
                    id
                }
                (None, None) => break,
            };
            order.push(id);
            for edge in self.dag.edges_directed(id.raw(), Direction::Outgoing) {
                let user = NodeId::of(edge.target());
                missing[user.index()] -= 1;
                // Others are met further on.
                if missing[user.index()] == 0 && at.is_none_or(|at| user < at) {
                    passed.push(std::cmp::Reverse(user));
                }
            }
        }
        (order.len() == self.len()).then_some(order)
    }

    /// Every node after its operands.
    ///
    /// # Panics
    /// If there is a cycle.
    #[must_use]
    pub fn topo(&self) -> Vec<NodeId> {
        self.try_topo().expect("I5: a graph has no cycle")
    }

    /// Those nodes that are wanted, each after its operands. Most often there are none, and then no order is looked for.
    ///
    /// # Panics
    /// If there is a cycle.
    #[must_use]
    pub fn topo_of(&self, wanted: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        if !self.nodes().any(&wanted) {
            return Vec::new();
        }
        self.topo().into_iter().filter(|id| wanted(*id)).collect()
    }
}

/// One node in so many is many of them.
const ONE_IN: usize = 8;

#[cfg(test)]
impl Graph {
    /// The node for breaking invariants.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.dag.node_weight_mut(id.raw()).expect("I1: a node id names a live node of its graph")
    }

    /// Adds an operand edge without any check.
    pub(crate) fn add_raw_edge(&mut self, from: Value, to: NodeId, slot: u16) {
        self.dag.add_edge(from.node.raw(), to.raw(), Edge { out: from.out, slot });
    }
}

#[cfg(test)]
mod tests;
