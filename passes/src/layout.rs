//! Stores activations between convolutions with features innermost, where the target's contractions prefer that.
//!
//! A convolution that feeds others is made to give its result channels-last; the permutation that restores the user's order is
//! not computed but carried along: through maps, windows, padding and reductions, whose attributes change with it, until a
//! convolution absorbs it in its axis lists or something needs the user's order. Parameters keep their layout: only how they
//! are read changes. Never changes a value. Runs before fuse, which makes what permutations remain into indices.

use std::collections::BTreeMap;

use graver_ir::op::{Conv, Perm, Prefix, Reduce, Window, WindowAxis, WindowPut};
use graver_ir::{Error, Function, Graph, Loc, Module, NodeId, Op, Param, Shape, Value};

use crate::blocks::blocks;
use crate::lower::index::splat;
use crate::{Changed, Cx, Pass};

/// See the file's header.
pub(crate) const PASS: Pass = Pass { name: "layout", about: "Keeps activations between convolutions channels-last.", run };

fn run(module: &mut Module, cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    if !cx.target.channels_last {
        return Ok(changed);
    }
    for id in blocks(module) {
        let function = module.function(id);
        let wanted = wanted(&function.graph);
        if wanted.contains(&true) {
            let function = Rebuild::of(function, &wanted).finish();
            *module.function_mut(id) = function;
            changed = Changed::Yes;
        }
    }
    Ok(changed)
}

/// The convolutions whose results other convolutions or windows read, perhaps through maps, in another order than channels-last.
fn wanted(graph: &Graph) -> Vec<bool> {
    let (mut spatial, mut wanted) = (vec![false; graph.bound()], vec![false; graph.bound()]);
    if !graph.nodes().any(|id| matches!(graph.op(id), Op::Conv(_))) {
        return wanted;
    }
    for id in graph.topo().into_iter().rev() {
        let read = graph
            .users(id)
            .iter()
            .any(|user| is_spatial(graph.op(user.node)) || (carries(graph.op(user.node)) && spatial[user.node.index()]));
        spatial[id.index()] = read;
        wanted[id.index()] = read && matches!(graph.op(id), Op::Conv(conv) if !conv.axes.is_empty() && !is_channels_last(conv));
    }
    wanted
}

fn is_channels_last(conv: &Conv) -> bool {
    conv.output[0] == 0 && conv.output[1] + 1 == conv.output.len()
}

fn is_spatial(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Window(_) | Op::WindowArg(_) | Op::WindowTake(_) | Op::WindowPut(_))
}

fn carries(op: &Op) -> bool {
    matches!(op, Op::Map(_) | Op::Cast(_) | Op::Bitcast(_) | Op::Pad(_) | Op::Alias | Op::StopGradient)
}

/// A value of the old graph: `value` permuted by `perm`.
#[derive(Clone, Debug)]
struct Stored {
    value: Value,
    perm: Perm,
}

/// The function with other orders of axes in memory.
struct Rebuild<'a> {
    old: &'a Function,
    wanted: &'a [bool],
    new: Function,
    values: BTreeMap<Value, Stored>,
    restored: BTreeMap<Value, Value>,
}

impl<'a> Rebuild<'a> {
    fn of(old: &'a Function, wanted: &'a [bool]) -> Self {
        let mut rebuild =
            Self { old, wanted, new: Function::new(old.name.clone()), values: BTreeMap::new(), restored: BTreeMap::new() };
        for param in &old.params {
            let node = rebuild.add(old.graph.op(param.node).clone(), &[], old.graph.loc(param.node));
            rebuild.new.params.push(Param { node: node.node, role: param.role.clone() });
            rebuild.keep(param.node, node);
        }
        for id in old.graph.topo() {
            if !matches!(old.graph.op(id), Op::Param(_)) {
                rebuild.node(id);
            }
        }
        rebuild
    }

    fn finish(mut self) -> Function {
        for result in &self.old.results {
            let value = self.plain(result.value);
            self.new.add_result(value, result.sink);
        }
        self.new
    }

    fn add(&mut self, op: Op, args: &[Value], loc: &Loc) -> Value {
        self.new.graph.add(op, args, loc.clone()).expect("the same op over permuted axes is as well typed as before").into()
    }

    /// The node's result is as it was.
    fn keep(&mut self, id: NodeId, value: Value) {
        let rank = self.new.graph.ty(value).rank();
        self.store(id, value, identity(rank));
    }

    fn store(&mut self, id: NodeId, value: Value, perm: Perm) {
        self.values.insert(id.into(), Stored { value, perm });
    }

    /// The value in the user's order.
    fn plain(&mut self, value: Value) -> Value {
        let stored = self.values[&value].clone();
        if stored.perm.is_identity() {
            return stored.value;
        }
        if let Some(restored) = self.restored.get(&value) {
            return *restored;
        }
        let loc = self.old.graph.loc(value.node).clone();
        let restored = self.add(Op::Permute(stored.perm), &[stored.value], &loc);
        self.restored.insert(value, restored);
        restored
    }

    /// The value in the order of which `perm` gives the user's.
    fn ordered(&mut self, value: Value, perm: &Perm) -> Value {
        let stored = self.values[&value].clone();
        if stored.perm == *perm {
            return stored.value;
        }
        let change = perm.inverse().after(&stored.perm);
        let loc = self.old.graph.loc(value.node).clone();
        self.add(Op::Permute(change), &[stored.value], &loc)
    }

    fn node(&mut self, id: NodeId) {
        let old = &self.old.graph;
        let args = old.args(id);
        let op = old.op(id);
        if let Op::Conv(conv) = op {
            self.conv(id, conv, &args);
        } else if let Op::Permute(perm) = op {
            let stored = self.values[&args[0]].clone();
            self.store(id, stored.value, perm.after(&stored.perm));
        } else if let Op::Reduce(reduce) = op {
            self.reduce(id, reduce, args[0]);
        } else if let Some((op, perm)) = self.carried(id, &args).and_then(|perm| Some((permuted(op, &perm)?, perm))) {
            self.carry(id, op, &args, perm);
        } else {
            self.in_order(id, &args);
        }
    }

    /// The op over the user's order.
    fn in_order(&mut self, id: NodeId, args: &[Value]) {
        let node = self.old.graph.node(id);
        let args: Vec<Value> = args.iter().map(|arg| self.plain(*arg)).collect();
        let new = self.add(node.op.clone(), &args, &node.loc);
        for (out, ty) in (0u16..).zip(&node.outs) {
            self.values.insert(id.out(out), Stored { value: new.node.out(out), perm: identity(ty.rank()) });
        }
    }

    fn carry(&mut self, id: NodeId, op: Op, args: &[Value], perm: Perm) {
        let rank = perm.axes().len();
        let order = |rebuild: &mut Self, arg: &Value| {
            // The value of a padding has no axes to order.
            if rebuild.old.graph.ty(*arg).rank() == rank { rebuild.ordered(*arg, &perm) } else { rebuild.plain(*arg) }
        };
        let args: Vec<Value> = args.iter().map(|arg| order(self, arg)).collect();
        let value = self.add(op, &args, &self.old.graph.loc(id).clone());
        self.store(id, value, perm);
    }

    /// The permutation that most bytes of the operands have, if it is not the identity. Constants cost nothing in any order.
    fn carried(&self, id: NodeId, args: &[Value]) -> Option<Perm> {
        let graph = &self.old.graph;
        let rank = graph.ty(Value::from(id)).rank();
        let mut bytes: BTreeMap<&[usize], i64> = BTreeMap::new();
        for arg in args.iter().filter(|arg| graph.ty(**arg).rank() == rank && !is_free(graph, **arg)) {
            *bytes.entry(self.values[arg].perm.axes()).or_insert(0) += graph.ty(*arg).bytes().nominal();
        }
        let permuted = bytes.iter().filter(|(axes, _)| !axes.iter().copied().eq(0..rank));
        let (axes, most) = permuted.max_by_key(|(_, bytes)| **bytes)?;
        let plain: Vec<usize> = (0..rank).collect();
        let stays = bytes.get(plain.as_slice()).is_some_and(|bytes| bytes > most);
        (!stays).then(|| Perm::new(axes.to_vec()).expect("it was one"))
    }

    /// Axis lists absorb the order of operands; where it is wanted, the result is channels-last.
    fn conv(&mut self, id: NodeId, conv: &Conv, args: &[Value]) {
        let absorb = |axes: &[usize], stored: &Stored| axes.iter().map(|axis| stored.perm.axes()[*axis]).collect();
        let stored: Vec<Stored> = args.iter().map(|arg| self.values[arg].clone()).collect();
        let rank = conv.output.len();
        let mut new = Conv { input: absorb(&conv.input, &stored[0]), kernel: absorb(&conv.kernel, &stored[1]), ..conv.clone() };
        let mut perm = identity(rank);
        if self.wanted[id.index()] {
            new.output = std::iter::once(0).chain([rank - 1]).chain(1..rank - 1).collect();
            let place = |axis: usize| new.output[conv.output.iter().position(|own| *own == axis).expect("every axis has a role")];
            perm = Perm::new((0..rank).map(place).collect()).expect("both lists are permutations");
        }
        let loc = self.old.graph.loc(id).clone();
        let value = self.add(Op::Conv(new), &[stored[0].value, stored[1].value], &loc);
        self.store(id, value, perm);
    }

    /// The same axes, wherever they are; what is kept keeps its order in memory.
    fn reduce(&mut self, id: NodeId, reduce: &Reduce, x: Value) {
        let stored = self.values[&x].clone();
        let mut axes: Vec<usize> = reduce.axes.iter().map(|axis| stored.perm.axes()[*axis]).collect();
        axes.sort_unstable();
        let kept: Vec<usize> = (0..stored.perm.axes().len()).filter(|axis| !axes.contains(axis)).collect();
        let place = |axis: &usize| kept.iter().position(|own| own == axis).expect("it is kept");
        let order = stored.perm.axes().iter().filter(|axis| kept.contains(axis)).map(place).collect();
        let loc = self.old.graph.loc(id).clone();
        let value = self.add(Op::Reduce(Reduce { kind: reduce.kind, axes }), &[stored.value], &loc);
        self.store(id, value, Perm::new(order).expect("kept axes in some order"));
    }
}

fn identity(rank: usize) -> Perm {
    Perm::new((0..rank).collect()).expect("the identity is a permutation")
}

fn is_free(graph: &Graph, value: Value) -> bool {
    let op = graph.op(value.node);
    matches!(op, Op::Broadcast(_) | Op::Iota(_)) || matches!(op, Op::Const(array) if splat(array).is_some())
}

/// The op on operands in another order, of which `perm` gives the user's; `None` if it cannot be carried through.
fn permuted(op: &Op, perm: &Perm) -> Option<Op> {
    let windows = |axes: &[WindowAxis]| keeps_windows(axes, perm).then(|| reordered(axes, perm));
    match op {
        Op::Map(_) | Op::Cast(_) | Op::Bitcast(_) | Op::Alias | Op::StopGradient => Some(op.clone()),
        Op::Pad(axes) => Some(Op::Pad(reordered(axes, perm))),
        Op::Slice(axes) => Some(Op::Slice(reordered(axes, perm))),
        Op::Prefix(prefix) => Some(Op::Prefix(Prefix { axis: perm.axes()[prefix.axis], ..*prefix })),
        Op::Window(window) => Some(Op::Window(Window { kind: window.kind, axes: reordered(&window.axes, perm) })),
        Op::WindowArg(window) => Some(Op::WindowArg(Window { kind: window.kind, axes: windows(&window.axes)? })),
        Op::WindowTake(axes) => Some(Op::WindowTake(windows(axes)?)),
        Op::WindowPut(put) => {
            Some(Op::WindowPut(WindowPut { axes: windows(&put.axes)?, shape: Shape(reordered(&put.shape, perm)) }))
        }
        Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Philox(_)
        | Op::Param(_)
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => None,
    }
}

/// One entry an axis, in memory's order.
fn reordered<T: Clone>(entries: &[T], perm: &Perm) -> Vec<T> {
    perm.inverse().axes().iter().map(|axis| entries[*axis].clone()).collect()
}

/// Whether a position inside a window is the same number in both orders: its wide axes keep theirs.
fn keeps_windows(axes: &[WindowAxis], perm: &Perm) -> bool {
    let places = perm.axes().iter().zip(axes).filter(|(_, axis)| axis.size > 1).map(|(place, _)| *place);
    places.is_sorted()
}
