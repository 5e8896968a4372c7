//! Copies side by side: which agree in how they are wired, what they read from outside, and what they give.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::{Args, Function, Loc, NodeId, Op, Place, Role, Value};

use super::find::{FEWEST, Run};
use crate::bodies::set_results;

/// A block, and what takes part in it.
pub(super) struct Cut {
    /// The copies that agree.
    pub(super) copies: Vec<Copy>,
    /// By place in a copy: whether it is computed inside. Numbers that differ are not.
    own: Vec<bool>,
    /// The results that somebody outside of the copies uses, by place in the copy.
    pub(super) gives: Vec<(usize, u16)>,
    wires: Vec<Vec<Wire>>,
}

/// One copy.
pub(super) struct Copy {
    pub(super) nodes: Vec<NodeId>,
    /// What it reads from outside, in order of first use.
    pub(super) reads: Vec<Value>,
    /// The place of the first operation, as far as its module path is the copy's own.
    pub(super) loc: Loc,
}

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// This result of this operation of the copy.
    Own(usize, u16),
    /// This value from outside.
    Read(usize),
}

impl Cut {
    /// The copies of a run that agree with its middle one; `None` if they are too few.
    pub(super) fn of(function: &Function, sequence: &[NodeId], run: Run) -> Option<Self> {
        let nodes = |copy: usize| sequence[run.start + copy * run.period..][..run.period].to_vec();
        let all: Vec<Vec<NodeId>> = (0..run.count).map(nodes).collect();
        let own = own(function, &all, run.period);
        let homes = homes(function, &all, &own);
        let wires = |copy: usize| wires(function, &all[copy], &own, (&homes, copy));
        let wired: Vec<(Vec<Vec<Wire>>, Vec<Value>)> = (0..run.count).map(wires).collect();
        let model = run.count / 2;
        let same_types = |x: &[Value], y: &[Value]| x.iter().zip(y).all(|(x, y)| function.graph.ty(*x) == function.graph.ty(*y));
        let agrees = |copy: &usize| {
            let (own, wanted) = (&wired[*copy], &wired[model]);
            own.0 == wanted.0 && own.1.len() == wanted.1.len() && same_types(&own.1, &wanted.1)
        };
        let kept: Vec<usize> = (0..run.count).filter(agrees).collect();
        if kept.len() < FEWEST {
            return None;
        }
        let results: BTreeSet<Value> = function.results.iter().map(|result| result.value).collect();
        let given = |copy: &usize| gives(function, &results, &all[*copy], &own, (&homes, *copy));
        let gives: BTreeSet<(usize, u16)> = kept.iter().flat_map(given).collect();
        let first = own.iter().position(|own| *own)?;
        let other = if kept[0] == model { kept[1] } else { kept[0] };
        let copy = |copy: &usize| {
            let beside = all[if *copy == model { other } else { model }][first];
            let loc = up_to_difference(function.graph.loc(all[*copy][first]), function.graph.loc(beside));
            Copy { nodes: all[*copy].clone(), reads: wired[*copy].1.clone(), loc }
        };
        let copies = kept.iter().map(copy).collect();
        Some(Self { copies, own, gives: gives.into_iter().collect(), wires: wired[model].0.clone() })
    }

    /// Whether it takes what a derivative gives.
    pub(super) fn reads_derivatives(&self, function: &Function) -> bool {
        self.copies[0].reads.iter().any(|read| matches!(function.graph.op(read.node), Op::Transform(_)))
    }

    /// The places of a copy that are computed inside, operands before users.
    pub(super) fn inside(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.own.len()).filter(|place| self.own[*place])
    }

    /// The block.
    pub(super) fn body(&self, function: &Function) -> Function {
        let (old, mut body) = (&function.graph, Function::new(""));
        let (first, second) = (&self.copies[0], &self.copies[1]);
        let mut params: Vec<Value> = Vec::new();
        for (place, read) in first.reads.iter().enumerate() {
            let (ty, loc) = (old.ty(*read).clone(), old.loc(read.node).clone());
            params.push(body.add_param(ty, Role::Arg(format!("x{place}")), loc).into());
        }
        let mut new: BTreeMap<usize, NodeId> = BTreeMap::new();
        for place in self.inside() {
            let wire = |wire: &Wire| match wire {
                Wire::Own(place, out) => new[place].out(*out),
                Wire::Read(read) => params[*read],
            };
            let args: Vec<Value> = self.wires[place].iter().map(wire).collect();
            let node = old.node(first.nodes[place]);
            let loc = node.loc.common(old.loc(second.nodes[place])).unwrap_or_else(|| node.loc.clone());
            new.insert(place, body.graph.add(node.op.clone(), &args, loc).expect("R1: it was well typed before"));
        }
        let results: Vec<Value> = self.gives.iter().map(|(place, out)| new[place].out(*out)).collect();
        set_results(&mut body, &results);
        body
    }
}

/// What is computed inside: everything but numbers that are not the same in every copy, and what is the same in every copy without
/// being a number, such as an optimiser's rate: that is computed once, outside.
fn own(function: &Function, copies: &[Vec<NodeId>], period: usize) -> Vec<bool> {
    let graph = &function.graph;
    let first: BTreeMap<NodeId, usize> = copies[0].iter().enumerate().map(|(place, node)| (*node, place)).collect();
    let (mut own, mut same) = (vec![true; period], vec![false; period]);
    for place in 0..period {
        let op = graph.op(copies[0][place]);
        let everywhere = |slot: usize, of: &dyn Fn(&[NodeId]) -> Value| {
            copies.iter().all(|copy| graph.args(copy[place]).get(slot) == Some(&of(copy)))
        };
        if matches!(op, Op::Const(_)) {
            own[place] = copies.iter().all(|copy| graph.op(copy[place]) == op);
        } else if !expands(op) {
            let (mut known, mut outer) = (true, false);
            for (slot, arg) in graph.args(copies[0][place]).into_iter().enumerate() {
                let inside = first.get(&arg.node).copied();
                let is_number = inside.is_some_and(|place| own[place] && matches!(graph.op(arg.node), Op::Const(_)));
                let is_same = inside.is_none_or(|place| same[place]);
                let alike = everywhere(slot, &|copy| inside.map_or(arg, |place| copy[place].out(arg.out)));
                known &= alike && (is_number || is_same);
                outer |= is_same;
            }
            same[place] = known && outer;
            own[place] = !same[place];
        }
    }
    own
}

/// What is cheaper made anew than read.
fn expands(op: &Op) -> bool {
    matches!(op, Op::Broadcast(_) | Op::Reshape(_) | Op::Permute(_) | Op::Slice(_) | Op::Iota(_) | Op::Size(_) | Op::Philox(_))
}

/// By node: the copy that computes it, and its place there.
type Homes = Vec<Option<(usize, usize)>>;

fn homes(function: &Function, copies: &[Vec<NodeId>], own: &[bool]) -> Homes {
    let mut homes = vec![None; function.graph.bound()];
    for (copy, nodes) in copies.iter().enumerate() {
        for (place, node) in nodes.iter().enumerate().filter(|(place, _)| own[*place]) {
            homes[node.index()] = Some((copy, place));
        }
    }
    homes
}

/// The wires of a copy, and what it reads from outside.
fn wires(function: &Function, nodes: &[NodeId], own: &[bool], (homes, copy): (&Homes, usize)) -> (Vec<Vec<Wire>>, Vec<Value>) {
    let (mut reads, mut known): (Vec<Value>, BTreeMap<Value, usize>) = (Vec::new(), BTreeMap::new());
    let mut wire = |arg: Value| match homes[arg.node.index()] {
        Some((home, place)) if home == copy => Wire::Own(place, arg.out),
        Some(_) | None => {
            let next = reads.len();
            let number = *known.entry(arg).or_insert(next);
            reads.extend((number == next).then_some(arg));
            Wire::Read(number)
        }
    };
    let of = |(place, node): (usize, &NodeId)| {
        let args = if own[place] { function.graph.args(*node) } else { Args::new() };
        args.into_iter().map(&mut wire).collect()
    };
    let wires = nodes.iter().enumerate().map(of).collect();
    (wires, reads)
}

/// The results that others use.
fn gives(
    function: &Function,
    results: &BTreeSet<Value>,
    nodes: &[NodeId],
    own: &[bool],
    (homes, copy): (&Homes, usize),
) -> Vec<(usize, u16)> {
    let is_outside = |node: NodeId| homes[node.index()].is_none_or(|(home, _)| home != copy);
    let mut found = Vec::new();
    // Numbers are made anew inside; others go on using what was there.
    let is_number = |node: NodeId| matches!(function.graph.op(node), Op::Const(_));
    for (place, node) in nodes.iter().enumerate().filter(|(place, node)| own[*place] && !is_number(**node)) {
        let users = function.graph.users(*node).into_iter().filter(|user| is_outside(user.node));
        let used = users.flat_map(|user| function.graph.args(user.node)).filter(|arg| arg.node == *node);
        found.extend(used.map(|arg| (place, arg.out)));
        let outs = 0..u16::try_from(function.graph.node(*node).outs.len()).expect("I8: a node has fewer than 65536 results");
        found.extend(outs.filter(|out| results.contains(&node.out(*out))).map(|out| (place, out)));
    }
    found
}

/// A place with its module path up to the first part that another one has not.
fn up_to_difference(loc: &Loc, other: &Loc) -> Loc {
    let (Some(place), Some(other)) = (loc.place(), other.place()) else { return loc.clone() };
    let (own, other): (Vec<&str>, Vec<&str>) = (place.scope.split('.').collect(), other.scope.split('.').collect());
    let same = own.iter().zip(&other).take_while(|(own, other)| own == other).count();
    let scope = own[..(same + 1).min(own.len())].join(".");
    Loc::new(Place { scope, ..place.clone() })
}
