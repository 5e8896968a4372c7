//! Checks the sizes of a module: I10, I17.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use crate::dim::{Dim, Symbol};
use crate::error::Diag;
use crate::module::Module;
use crate::op::{ConvAxis, Op, PadAxis, SliceAxis, WindowAxis};
use crate::ty::Type;

pub(super) fn check(module: &Module, found: &mut Findings) {
    let mut known: BTreeMap<String, Symbol> = BTreeMap::new();
    // Most sizes are those of other values too, and have been looked at.
    let mut sizes: BTreeSet<&Dim> = BTreeSet::new();
    for function in module.functions.values() {
        for id in function.graph.nodes() {
            let node = function.graph.node(id);
            let types = node.outs.iter().flat_map(|ty| ty.shape.iter());
            for dim in dims(&node.op).into_iter().chain(types).filter(|dim| dim.as_const().is_none() && sizes.insert(dim)) {
                size(dim, &mut known, &mut |holds, message| {
                    found.require(holds, || Diag::new(message()).op(node.op.name()).at(&node.loc));
                });
            }
        }
    }
}

/// Every symbol of a module by name; one of two declarations is there twice.
pub(crate) fn symbols_of(module: &Module) -> Vec<Symbol> {
    let mut found = BTreeSet::new();
    for function in module.functions.values() {
        for id in function.graph.nodes() {
            let node = function.graph.node(id);
            let types = node.outs.iter().flat_map(|ty| ty.shape.iter());
            for dim in dims(&node.op).into_iter().chain(types).filter(|dim| dim.as_const().is_none()) {
                found.extend(dim.symbols());
            }
        }
    }
    found.into_iter().collect()
}

/// A violation unless the condition holds.
type Require<'a> = &'a mut dyn FnMut(bool, &dyn Fn() -> String);

fn size(dim: &Dim, known: &mut BTreeMap<String, Symbol>, require: Require<'_>) {
    if !dim.is_small() {
        return require(false, &|| "I10: a size of too many terms".to_owned());
    }
    require(dim.axes().is_empty(), &|| format!("I10: the size {dim} depends on a loop axis"));
    for symbol in dim.symbols() {
        let first = known.entry(symbol.name().to_owned()).or_insert_with(|| symbol.clone());
        require(*first == symbol, &|| {
            format!("I17: the symbol `{}` is declared as {:?} and as {:?}", symbol.name(), first.decl(), symbol.decl())
        });
    }
}

/// Every size among the attributes.
fn dims(op: &Op) -> Vec<&Dim> {
    match op {
        Op::Size(dim) => vec![dim],
        Op::Iota(iota) => iota.shape.iter().collect(),
        Op::DynamicSlice(slice) => slice.sizes.iter().collect(),
        Op::Reshape(shape) => shape.iter().collect(),
        Op::Broadcast(broadcast) => broadcast.shape.iter().collect(),
        Op::Philox(philox) => philox.shape.iter().collect(),
        Op::Slice(axes) => axes.iter().flat_map(|SliceAxis { start, size, step: _ }| [start, size]).collect(),
        Op::Pad(axes) => axes.iter().flat_map(|PadAxis { low, high, interior: _ }| [low, high]).collect(),
        Op::Window(window) | Op::WindowArg(window) => windows(&window.axes).collect(),
        Op::WindowTake(axes) => windows(axes).collect(),
        Op::WindowPut(put) => windows(&put.axes).chain(put.shape.iter()).collect(),
        Op::Conv(conv) => conv.axes.iter().flat_map(|ConvAxis { low, high, .. }| [low, high]).collect(),
        Op::Param(ty) => sizes(std::slice::from_ref(ty)),
        Op::Call(call) => sizes(&call.results),
        Op::If(op) => sizes(&op.results),
        Op::While(op) => op.most.iter().collect(),
        Op::Scan(op) => sizes(&op.results).into_iter().chain([&op.trip]).collect(),
        Op::Map(_)
        | Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Const(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Permute(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        | Op::Dot(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Transform(_) => Vec::new(),
    }
}

fn windows(axes: &[WindowAxis]) -> impl Iterator<Item = &Dim> {
    axes.iter().flat_map(|WindowAxis { low, high, .. }| [low, high])
}

fn sizes(types: &[Type]) -> Vec<&Dim> {
    types.iter().flat_map(|ty| ty.shape.iter()).collect()
}
