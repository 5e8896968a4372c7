//! Takes contractions out of loops: what every iteration computes alike once, before the loop; products and convolutions of a slice of what is
//! scanned with something that stays as one over all slices, before the loop too (the input projections of a recurrent net).
//!
//! Maps and movement between a slice and its product, and after it, go along. What may fail stays, because the loop may have no iteration;
//! so do names, which mean something to derivatives. Changes no value but by the order of sums. Runs before grad: the derivative of one
//! product before the loop is one product after it.

use std::collections::BTreeMap;

use graver_ir::op::{Broadcast, DotAxes, Perm, Prefix, Reduce, Scan, SliceAxis};
use graver_ir::{Diag, Dim, Error, Function, Graph, Module, NodeId, Op, Role, ScalarFn, Shape, Value};

use crate::bodies::{add, outs, param_values, set_params};
use crate::build::Build;
use crate::dce::remove_dead_nodes;
use crate::inline::callees_first;
use crate::lower::name::is_notable_function;
use crate::vmap::conv_of_slices;
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "hoist", about: "Takes contractions out of loops that need nothing carried.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    // Inner loops first: what leaves one may leave the next.
    for id in callees_first(module)? {
        let mut function = std::mem::take(module.function_mut(id));
        let hoisted = in_function(module, &mut function);
        *module.function_mut(id) = function;
        changed = changed.or(hoisted?);
    }
    Ok(changed)
}

fn in_function(module: &mut Module, function: &mut Function) -> Result<Changed, Diag> {
    let mut changed = Changed::No;
    let graph = &function.graph;
    for node in graph.topo_of(|node| matches!(graph.op(node), Op::Scan(_))) {
        let Op::Scan(op) = function.graph.op(node).clone() else { continue };
        let body = module.function(op.body).clone();
        let of = dependences(&body, &op);
        let found = leaving(&body, &of);
        if !found.is_empty() {
            hoist(module, function, (node, &op), (body, &of), &found)?;
            changed = Changed::Yes;
        }
    }
    Ok(changed)
}

/// What a value of a body depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dependence {
    /// On nothing that changes.
    Nothing,
    /// On the slice, in a way that can be computed for all slices at once.
    Slice,
    /// On what is carried, or in another way.
    Iteration,
}

/// By node.
fn dependences(body: &Function, op: &Scan) -> Vec<Dependence> {
    let graph = &body.graph;
    let mut found = vec![Dependence::Nothing; graph.bound()];
    for (place, param) in body.params.iter().enumerate().take(op.carried + op.scanned) {
        found[param.node.index()] = if place < op.carried { Dependence::Iteration } else { Dependence::Slice };
    }
    for node in graph.topo().into_iter().filter(|node| !matches!(graph.op(*node), Op::Param(_))) {
        let of: Vec<Dependence> = graph.args(node).iter().map(|arg| found[arg.node.index()]).collect();
        let most = of.iter().copied().max().unwrap_or(Dependence::Nothing);
        let moves = match (most, kind(graph.op(node))) {
            (Dependence::Nothing, Kind::Stackable | Kind::Product | Kind::Movable) | (Dependence::Slice, Kind::Stackable) => true,
            (Dependence::Slice, Kind::Product) => of[0] != of[1],
            (_, Kind::Stays) | (Dependence::Slice, Kind::Movable) | (Dependence::Iteration, _) => false,
        };
        found[node.index()] = if moves { most } else { Dependence::Iteration };
    }
    found
}

/// How an operation can leave a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As it is, and over all slices at once.
    Stackable,
    /// Over all slices at once where one operand is a slice.
    Product,
    /// As it is.
    Movable,
    /// Not at all: it may fail, is a name, or costs nothing anywhere.
    Stays,
}

fn kind(op: &Op) -> Kind {
    match op {
        Op::Map(ScalarFn::Div | ScalarFn::Rem) => Kind::Stays,
        Op::Map(_)
        | Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Reverse(_)
        | Op::Reduce(_)
        | Op::Prefix(_)
        | Op::StopGradient => Kind::Stackable,
        Op::Dot(_) | Op::Conv(_) => Kind::Product,
        Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::ArgReduce(_)
        | Op::Sort(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Philox(_)
        | Op::Param(_) => Kind::Movable,
        Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Alias
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => Kind::Stays,
    }
}

/// The values that leave: those that the iteration's own nodes use, and that a contraction (or, of what does not change at all, something
/// as dear) is computed for. What only moves or spreads such a value stays, so that what is stored for every iteration is the value itself.
fn leaving(body: &Function, of: &[Dependence]) -> Vec<Value> {
    let graph = &body.graph;
    let mut dear = vec![false; graph.bound()];
    let mut found = Vec::new();
    for node in graph.topo() {
        let own = of[node.index()];
        if own == Dependence::Iteration {
            continue;
        }
        let fixed = own == Dependence::Nothing && is_dear(graph.op(node));
        let earlier = graph.args(node).iter().any(|arg| dear[arg.node.index()]);
        dear[node.index()] = fixed || earlier || matches!(graph.op(node), Op::Dot(_) | Op::Conv(_));
        let stays = |user: &graver_ir::Use| of[user.node.index()] == Dependence::Iteration;
        let used = graph.users(node).iter().any(stays) || body.results.iter().any(|result| result.value.node == node);
        if dear[node.index()] && used {
            let spread = Spread { graph, of, dear: &dear };
            spread.sources(node, &mut found);
        }
    }
    found
}

/// Products of so few terms a result are not worth storing where there are more results than operands: an outer product.
const FEW: i64 = 4;

/// Where values grow on their way from contractions to the nodes that use them.
struct Spread<'a> {
    graph: &'a Graph,
    of: &'a [Dependence],
    dear: &'a [bool],
}

impl Spread<'_> {
    /// The values that leave so that an iteration has this one; what is not dear it computes for itself.
    fn sources(&self, node: NodeId, found: &mut Vec<Value>) {
        if !self.dear[node.index()] {
            return;
        }
        let op = self.graph.op(node);
        let moves = matches!(op, Op::Broadcast(_) | Op::Reshape(_) | Op::Permute(_) | Op::Slice(_) | Op::Reverse(_));
        if moves || self.grows(node) {
            self.graph.args(node).iter().for_each(|arg| self.sources(arg.node, found));
        } else if !found.contains(&node.into()) {
            found.push(node.into());
        }
    }

    /// Whether a slice's part of the value is made of fewer elements than it has, at next to no cost.
    fn grows(&self, node: NodeId) -> bool {
        let op = self.graph.op(node);
        let args = self.graph.args(node);
        let bytes = |value: Value| self.graph.ty(value).bytes().nominal();
        if self.of[node.index()] != Dependence::Slice {
            return false;
        }
        if let Op::Broadcast(_) = op {
            return bytes(node.into()) > bytes(args[0]);
        }
        if let Op::Dot(axes) = op {
            let shape = &self.graph.ty(args[0]).shape;
            let terms: Dim = axes.lhs_contract.iter().map(|axis| shape[*axis].clone()).product();
            return args.iter().all(|arg| bytes(node.into()) > bytes(*arg)) && terms.nominal() <= FEW;
        }
        // A slice's own parts: whoever has one of them as large as the result stores no more for the result.
        let slices = args.iter().filter(|arg| self.of[arg.node.index()] == Dependence::Slice);
        matches!(op, Op::Map(_) | Op::Cast(_) | Op::Bitcast(_)) && slices.into_iter().all(|arg| self.grows(arg.node))
    }
}

fn is_dear(op: &Op) -> bool {
    if let Op::Map(function) = op {
        is_notable_function(*function)
    } else {
        matches!(op, Op::Reduce(_) | Op::Prefix(_) | Op::Window(_) | Op::Sort(_))
    }
}

/// Makes what leaves operands of the scan.
fn hoist(
    module: &mut Module,
    function: &mut Function,
    (node, op): (NodeId, &Scan),
    (mut body, of): (Function, &[Dependence]),
    found: &[Value],
) -> Result<(), Diag> {
    let (args, loc) = (function.graph.args(node), function.graph.loc(node).clone());
    let (own, inside) = (param_values(&body), body.graph.clone());
    let mut outside = Outside { inside: &inside, of, op, values: BTreeMap::new() };
    outside.values.extend(own.iter().copied().zip(args.iter().copied()).skip(op.carried));
    let mut added: [Vec<(Value, Value)>; 2] = Default::default();
    for value in found {
        let operand = outside.value(&mut function.graph, *value)?;
        let (ty, at) = (inside.ty(*value).clone(), inside.loc(value.node).clone());
        let param: Value = body.add_param(ty, Role::Arg("hoisted".to_owned()), at).into();
        body.replace(*value, param);
        added[usize::from(of[value.node.index()] == Dependence::Nothing)].push((operand, param));
    }
    let [scanned, closed] = added;
    let first = op.carried + op.scanned;
    let split = |pairs: &[(Value, Value)]| pairs.iter().copied().unzip::<Value, Value, Vec<Value>, Vec<Value>>();
    let ((slices, slice_params), (values, params)) = (split(&scanned), split(&closed));
    let operands = [&args[..first], &slices, &args[first..], &values].concat();
    set_params(&mut body, &[&own[..first], &slice_params, &own[first..], &params].concat());
    let _ = remove_dead_nodes(&mut body);
    let name = body.name.clone();
    let new = Op::Scan(Scan { body: add(module, body, &name, "h"), scanned: op.scanned + slices.len(), ..op.clone() });
    let new = function.graph.add(new, &operands, loc)?;
    for (old, new) in outs(node, 0..op.results.len()).into_iter().zip(outs(new, 0..op.results.len())) {
        function.replace(old, new);
    }
    function.graph.remove(node);
    Ok(())
}

/// Values of a body before its loop: as they are, or for all slices at once along a new first axis.
struct Outside<'a> {
    inside: &'a Graph,
    of: &'a [Dependence],
    op: &'a Scan,
    values: BTreeMap<Value, Value>,
}

impl Outside<'_> {
    /// Operands first, without recursion: bodies may be deep.
    fn value(&mut self, graph: &mut Graph, root: Value) -> Result<Value, Diag> {
        let mut open = vec![root];
        while let Some(value) = open.last().copied() {
            let mut missing = self.inside.args(value.node);
            missing.retain(|arg| !self.values.contains_key(arg));
            if self.values.contains_key(&value) {
                open.pop();
            } else if missing.is_empty() {
                let new = self.node(graph, value.node)?;
                self.values.insert(value, new);
            } else {
                open.extend(missing);
            }
        }
        Ok(self.values[&root])
    }

    fn node(&self, graph: &mut Graph, node: NodeId) -> Result<Value, Diag> {
        let (op, args) = (self.inside.op(node), self.inside.args(node));
        let own: Vec<Value> = args.iter().map(|arg| self.values[arg]).collect();
        let slices: Vec<bool> = args.iter().map(|arg| self.of[arg.node.index()] == Dependence::Slice).collect();
        let mut b = Build::at(graph, self.inside.loc(node));
        if self.of[node.index()] == Dependence::Nothing {
            b.add(op.clone(), &own)
        } else {
            self.stacked(&mut b, op, &own, &slices)
        }
    }

    /// The operation over all slices of those operands that are slices.
    fn stacked(&self, b: &mut Build<'_>, op: &Op, args: &[Value], slices: &[bool]) -> Result<Value, Diag> {
        let shape = |shape: &Shape| Shape(std::iter::once(&self.op.trip).chain(shape.iter()).cloned().collect());
        let first = |axes: &[usize]| std::iter::once(0).chain(next(axes)).collect::<Vec<_>>();
        let new = match op {
            Op::Map(_) => {
                let spread: Result<Vec<Value>, Diag> =
                    args.iter().zip(slices).map(|(arg, slice)| if *slice { Ok(*arg) } else { self.repeated(b, *arg) }).collect();
                return b.add(op.clone(), &spread?);
            }
            Op::Dot(axes) => return product(b, axes, args, slices[0]),
            Op::Conv(of) => {
                let all = conv_of_slices(b, of, args, slices, &self.op.trip)?;
                return Ok(all.expect("H2: one operand alone is a slice"));
            }
            Op::Reshape(to) => Op::Reshape(shape(to)),
            Op::Permute(perm) => Op::Permute(Perm::new(first(perm.axes())).map_err(Diag::new)?),
            Op::Broadcast(to) => Op::Broadcast(Broadcast { shape: shape(&to.shape), axes: first(&to.axes) }),
            Op::Slice(axes) => {
                let whole = SliceAxis { start: Dim::ZERO, size: self.op.trip.clone(), step: 1 };
                Op::Slice(std::iter::once(whole).chain(axes.iter().cloned()).collect())
            }
            Op::Reverse(axes) => Op::Reverse(next(axes)),
            Op::Reduce(reduce) => Op::Reduce(Reduce { kind: reduce.kind, axes: next(&reduce.axes) }),
            Op::Prefix(prefix) => Op::Prefix(Prefix { axis: prefix.axis + 1, ..*prefix }),
            Op::Cast(_) | Op::Bitcast(_) | Op::StopGradient => op.clone(),
            Op::Const(_)
            | Op::Size(_)
            | Op::Iota(_)
            | Op::Gather(_)
            | Op::Scatter(_)
            | Op::DynamicSlice(_)
            | Op::DynamicUpdate(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::ArgReduce(_)
            | Op::Sort(_)
            | Op::Window(_)
            | Op::WindowArg(_)
            | Op::WindowTake(_)
            | Op::WindowPut(_)
            | Op::Philox(_)
            | Op::Param(_)
            | Op::Alias
            | Op::Call(_)
            | Op::If(_)
            | Op::While(_)
            | Op::Scan(_)
            | Op::Transform(_) => panic!("H1: `{}` is not taken over all slices at once", op.name()),
        };
        b.add(new, args)
    }

    /// What is no slice, once for every slice.
    fn repeated(&self, b: &mut Build<'_>, arg: Value) -> Result<Value, Diag> {
        let ty = b.ty(arg).clone();
        let shape = Shape(std::iter::once(&self.op.trip).chain(ty.shape.iter()).cloned().collect());
        b.add(Op::Broadcast(Broadcast { shape, axes: (1..=ty.rank()).collect() }), &[arg])
    }
}

fn next(axes: &[usize]) -> Vec<usize> {
    axes.iter().map(|axis| axis + 1).collect()
}

/// The slices' axis is one more free axis of its operand; in the result it comes first.
fn product(b: &mut Build<'_>, axes: &DotAxes, args: &[Value], left: bool) -> Result<Value, Diag> {
    let new = if left {
        DotAxes { lhs_batch: next(&axes.lhs_batch), lhs_contract: next(&axes.lhs_contract), ..axes.clone() }
    } else {
        DotAxes { rhs_batch: next(&axes.rhs_batch), rhs_contract: next(&axes.rhs_contract), ..axes.clone() }
    };
    let y = b.add(Op::Dot(new), args)?;
    let free = b.ty(args[0]).rank() - axes.lhs_batch.len() - axes.lhs_contract.len();
    let place = if left { axes.lhs_batch.len() } else { axes.lhs_batch.len() + free };
    if place == 0 {
        return Ok(y);
    }
    let order = std::iter::once(place).chain((0..b.ty(y).rank()).filter(|axis| *axis != place)).collect();
    b.add(Op::Permute(Perm::new(order).map_err(Diag::new)?), &[y])
}
