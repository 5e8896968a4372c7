//! Copies side by side: which agree in how they are wired, what they read from outside, and what they give.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::{Args, DType, Function, Graph, Loc, NodeId, Op, Place, Role, Value};

use super::find::{FEWEST, Run};
use crate::bodies::set_results;
use crate::places;

/// A block, and what takes part in it.
pub(super) struct Cut {
    /// The copies that agree.
    pub(super) copies: Vec<Copy>,
    /// By place in a copy: whether it is computed inside. Numbers that differ are not.
    own: Vec<bool>,
    /// The results that somebody outside of the copies uses, by place in the copy.
    pub(super) gives: Vec<(usize, u16)>,
    wires: Vec<Vec<Wire>>,
    /// The copy among them that the others were compared with.
    model: usize,
}

/// One copy.
pub(super) struct Copy {
    pub(super) nodes: Vec<NodeId>,
    /// What it reads from outside, in order of first use.
    pub(super) reads: Vec<Value>,
    /// The place of the first operation, as far as its module path is the copy's own; of nodes of a model file, with the copy's number.
    pub(super) loc: Loc,
    /// Which it is, counted from the one that the others were compared with.
    number: i64,
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
        let kept = regular(function, &all, &own, &kept, model);
        if kept.len() < FEWEST {
            return None;
        }
        let results: BTreeSet<Value> = function.results.iter().map(|result| result.value).collect();
        let given = |copy: &usize| gives(function, &results, &all[*copy], &own, (&homes, *copy));
        let gives: BTreeSet<(usize, u16)> = kept.iter().flat_map(given).collect();
        let is_node = |place: &usize| own[*place] && places::is_of_nodes(function.graph.loc(all[model][*place]));
        let node = (0..run.period).find(is_node);
        let reads: Vec<&[Value]> = kept.iter().map(|copy| wired[*copy].1.as_slice()).collect();
        if node.is_some() && may_read_mask(function, &reads) {
            return None;
        }
        let first = own.iter().position(|own| *own)?;
        let other = if kept[0] == model { kept[1] } else { kept[0] };
        let copy = |copy: &usize| {
            let beside = all[if *copy == model { other } else { model }][first];
            let number = distance(*copy, model);
            let loc = match node {
                Some(place) => places::of_copy(function.graph.loc(all[*copy][place]), number),
                None => up_to_difference(function.graph.loc(all[*copy][first]), function.graph.loc(beside)),
            };
            Copy { nodes: all[*copy].clone(), reads: wired[*copy].1.clone(), loc, number }
        };
        let copies = kept.iter().map(copy).collect();
        let wires = wired[model].0.clone();
        let model = kept.iter().position(|copy| *copy == model)?;
        Some(Self { copies, own, gives: gives.into_iter().collect(), wires, model })
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
            let common = if places::is_of_nodes(&node.loc) {
                self.series(old, place)
            } else {
                node.loc.common(old.loc(second.nodes[place]))
            };
            let loc = common.unwrap_or_else(|| node.loc.clone());
            new.insert(place, body.graph.add(node.op.clone(), &args, loc).expect("R1: it was well typed before"));
        }
        let results: Vec<Value> = self.gives.iter().map(|(place, out)| new[place].out(*out)).collect();
        set_results(&mut body, &results);
        body
    }

    /// Where a node of a model file is in each copy.
    fn series(&self, graph: &Graph, place: usize) -> Option<Loc> {
        let loc = |copy: &Copy| (copy.number, graph.loc(copy.nodes[place]));
        let (before, after) = self.copies.split_at(self.model);
        // The model copy first: distances are from there.
        let copies: Vec<(i64, &Loc)> = after.iter().chain(before).map(loc).collect();
        places::series(&copies)
    }
}

/// Whether copies read what may say which keys are later than a query: a table of conditions, one that all copies share, or a constant that is no
/// weight.
fn may_read_mask(function: &Function, reads: &[&[Value]]) -> bool {
    let graph = &function.graph;
    let may = |(place, read): (usize, &Value)| {
        let ty = graph.ty(*read);
        let is_table = ty.rank() >= 2 && ty.shape.0[ty.rank() - 2..].iter().all(|size| !size.is(1));
        let is_shared = reads.iter().all(|reads| reads[place] == *read);
        let is_constant = ty.rank() > 2 && matches!(graph.op(read.node), Op::Const(_));
        is_table && (ty.dtype == DType::Bool || is_shared || is_constant)
    };
    reads[0].iter().enumerate().any(may)
}

fn distance(copy: usize, model: usize) -> i64 {
    let [copy, model] = [copy, model].map(|copy| i64::try_from(copy).expect("fewer than 2^63 copies"));
    copy - model
}

/// Of the copies that are wired alike, those whose lines go on by the steps that lie between the model copy and a neighbour: the one with which
/// more do. Lines differ in nodes of model files alone.
fn regular(function: &Function, all: &[Vec<NodeId>], own: &[bool], kept: &[usize], model: usize) -> Vec<usize> {
    let loc = |copy: usize, place: usize| (distance(copy, model), function.graph.loc(all[copy][place]));
    let numbered: Vec<usize> = (0..own.len()).filter(|place| own[*place] && places::is_of_nodes(loc(model, *place).1)).collect();
    if numbered.is_empty() {
        return kept.to_vec();
    }
    let goes_on = |neighbour: usize, copy: usize| {
        let at = |place: &usize| [model, neighbour, copy].map(|copy| loc(copy, *place));
        copy == model || numbered.iter().all(|place| places::is_series(&at(place)))
    };
    let with = |neighbour: &usize| kept.iter().copied().filter(|copy| goes_on(*neighbour, *copy)).collect::<Vec<usize>>();
    let after = kept.iter().find(|copy| **copy > model).map(with).unwrap_or_default();
    let before = kept.iter().rfind(|copy| **copy < model).map(with).unwrap_or_default();
    if before.len() > after.len() { before } else { after }
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
