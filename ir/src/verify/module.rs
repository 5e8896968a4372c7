//! Checks what functions have to do with one another and with the state: I6, I14 to I16, I18, I19; I20 to I22 are in [`control`].

use std::collections::{BTreeMap, BTreeSet};

use super::function::at;
use super::{Findings, control};
use crate::dtype::DType;
use crate::error::Diag;
use crate::graph::NodeId;
use crate::module::{FuncId, Function, Module, Role, Sink, StateKind};
use crate::op::{Call, Op};
use crate::ty::{Shape, Type};

pub(super) fn check(module: &Module, found: &mut Findings) {
    let names = module.functions.values().map(|function| function.name.as_str());
    unique(names, "functions are called", found);
    unique(module.state.iter().map(|decl| decl.path.as_str()), "slots of state have the path", found);
    for decl in &module.state {
        found.require(decl.ty.shape.is_valid() && decl.ty.shape.as_const().is_some(), || {
            Diag::new(format!("I19: state `{}` has the type {}, whose sizes are not numbers", decl.path, decl.ty))
        });
        let key = Type::new(DType::U32, Shape::new([4]));
        found.require(decl.kind != StateKind::Rng || decl.ty == key, || {
            Diag::new(format!("I19: the random key `{}` must be {key}, not {}", decl.path, decl.ty))
        });
    }
    let mut callees = BTreeMap::new();
    for (id, function) in &module.functions {
        callees.insert(*id, calls(module, function, found));
    }
    acyclic(module, &callees, found);
}

fn unique<'a>(names: impl Iterator<Item = &'a str>, what: &str, found: &mut Findings) {
    let mut seen = BTreeSet::new();
    for name in names {
        found.require(seen.insert(name), || Diag::new(format!("I18: two {what} `{name}`")));
    }
}

/// Checks everything that names functions; the callees that exist.
fn calls(module: &Module, function: &Function, found: &mut Findings) -> BTreeSet<FuncId> {
    let mut callees = BTreeSet::new();
    for id in function.graph.nodes() {
        let op = function.graph.op(id);
        for callee in op.functions() {
            found.require(module.functions.contains_key(&callee), || {
                at(&function.graph, id, format!("I6: there is no function {}", callee.0))
            });
            if module.functions.contains_key(&callee) {
                callees.insert(callee);
                stateless(module.function(callee), found);
            }
        }
        if let Op::Call(call) = op {
            signature(module, function, (id, call), found);
        } else {
            control::signature(module, function, id, found);
        }
    }
    callees
}

fn stateless(callee: &Function, found: &mut Findings) {
    let reads = callee.params.iter().any(|param| matches!(param.role, Role::State(_)));
    let writes = callee.results.iter().any(|result| matches!(result.sink, Sink::Update(_)));
    found.require(!reads && !writes, || Diag::new(format!("I15: function `{}` is called and touches the state", callee.name)));
}

fn signature(module: &Module, caller: &Function, (id, call): (NodeId, &Call), found: &mut Findings) {
    let operands: Vec<&Type> = caller.graph.args(id).into_iter().map(|arg| caller.graph.ty(arg)).collect();
    if let Some(callee) = module.functions.get(&call.func) {
        let (params, results) = (params(callee), callee.result_types());
        found.require(params == operands, || {
            at(&caller.graph, id, format!("I14: `{}` takes {params:?}, the call has {operands:?}", callee.name))
        });
        found.require(results == call.results, || {
            at(&caller.graph, id, format!("I14: `{}` gives {results:?}, the call has {:?}", callee.name, call.results))
        });
    }
    if let Some(vjp) = call.vjp.and_then(|vjp| module.functions.get(&vjp)) {
        found.require(params(vjp).starts_with(&operands), || {
            at(&caller.graph, id, format!("I14: the derivative `{}` does not take the operands {operands:?} first", vjp.name))
        });
    }
}

pub(super) fn params(function: &Function) -> Vec<&Type> {
    function.params.iter().map(|param| function.graph.ty(param.node.into())).collect()
}

/// Takes away functions that call nothing that is left; who stays calls itself.
fn acyclic(module: &Module, callees: &BTreeMap<FuncId, BTreeSet<FuncId>>, found: &mut Findings) {
    let mut callers: BTreeMap<FuncId, Vec<FuncId>> = BTreeMap::new();
    let mut missing: BTreeMap<FuncId, usize> = BTreeMap::new();
    for (caller, of) in callees {
        missing.insert(*caller, of.len());
        for callee in of {
            callers.entry(*callee).or_default().push(*caller);
        }
    }
    let mut ready: Vec<FuncId> = missing.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    while let Some(done) = ready.pop() {
        missing.remove(&done);
        for caller in callers.get(&done).into_iter().flatten() {
            if let Some(count) = missing.get_mut(caller) {
                *count -= 1;
                if *count == 0 {
                    ready.push(*caller);
                }
            }
        }
    }
    for id in missing.keys() {
        let name = &module.function(*id).name;
        found.require(false, || Diag::new(format!("I16: function `{name}` calls itself, or one that does")));
    }
}
