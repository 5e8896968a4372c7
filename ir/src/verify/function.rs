//! Checks one function: I1 to I3, I5, I8 to I13.

use std::collections::BTreeSet;

use super::Findings;
use crate::error::Diag;
use crate::graph::{Graph, NodeId, Value};
use crate::infer::infer;
use crate::module::{Function, Module, Role, Sink, StateId};
use crate::op::{Op, Transform};
use crate::ty::Type;

/// What must hold before anything of the function may be looked up: I1, I2, I3, I5, I8.
pub(super) fn structure(function: &Function, found: &mut Findings) {
    let graph = &function.graph;
    for id in graph.nodes() {
        operands(function, id, found);
    }
    for param in &function.params {
        found.require(graph.contains(param.node), || {
            Diag::new(format!("I1: function `{}` has a parameter that is no node", function.name))
        });
    }
    for (position, result) in function.results.iter().enumerate() {
        found.require(has_value(graph, result.value), || {
            Diag::new(format!("I2: result {position} of function `{}` is no value", function.name))
        });
    }
    found.require(graph.try_topo().is_some(), || Diag::new(format!("I5: function `{}` has a cycle", function.name)));
}

fn operands(function: &Function, id: NodeId, found: &mut Findings) {
    let graph = &function.graph;
    let (slots, name) = (graph.slots(id), &function.name);
    found.require(slots.iter().all(|(_, value)| has_value(graph, *value)), || {
        at(graph, id, format!("I2: an operand in function `{name}` is a result that its node does not have"))
    });
    found.require(slots.iter().enumerate().all(|(place, (slot, _))| place == usize::from(*slot)), || {
        let slots: Vec<u16> = slots.iter().map(|(slot, _)| *slot).collect();
        at(graph, id, format!("I3: operand slots in function `{name}` are {slots:?}"))
    });
    let most = usize::from(u16::MAX);
    found.require(slots.len() <= most && graph.node(id).outs.len() <= most, || {
        at(graph, id, format!("I8: more than {most} operands or results in function `{name}`"))
    });
}

fn has_value(graph: &Graph, value: Value) -> bool {
    graph.contains(value.node) && usize::from(value.out) < graph.node(value.node).outs.len()
}

/// I9, I11, I12, I13.
pub(super) fn check(function: &Function, module: &Module, found: &mut Findings) {
    let listed: BTreeSet<NodeId> = function.params.iter().map(|param| param.node).collect();
    found.require(listed.len() == function.params.len(), || {
        Diag::new(format!("I11: a parameter of function `{}` is listed twice", function.name))
    });
    for id in function.graph.nodes() {
        types(&function.graph, id, found);
        let is_param = matches!(function.graph.op(id), Op::Param(_));
        found.require(is_param == listed.contains(&id), || {
            let what = if is_param { "a parameter is not listed" } else { "what is listed is no parameter" };
            at(&function.graph, id, format!("I11: {what} in function `{}`", function.name))
        });
        if let Op::Transform(transform) = function.graph.op(id) {
            aliases(&function.graph, id, *transform, found);
        }
    }
    state(function, module, found);
}

fn types(graph: &Graph, id: NodeId, found: &mut Findings) {
    let args = graph.args(id);
    let operands: Vec<&Type> = args.iter().map(|arg| graph.ty(*arg)).collect();
    match infer(graph.op(id), &operands) {
        Ok(outs) => found.require(outs == graph.node(id).outs, || {
            at(graph, id, format!("I9: the results are {:?}, inference gives {outs:?}", graph.node(id).outs))
        }),
        Err(diag) => found.require(false, || at(graph, id, format!("I9: {}", diag.message))),
    }
}

fn aliases(graph: &Graph, id: NodeId, transform: Transform, found: &mut Findings) {
    let args = graph.args(id);
    let wrt = match transform {
        Transform::Vjp { wrt, .. } => args.len().saturating_sub(wrt)..args.len(),
        Transform::Jvp { outputs, wrt } => outputs.min(args.len())..outputs.saturating_add(wrt).min(args.len()),
    };
    found.require(args[wrt].iter().all(|arg| matches!(graph.op(arg.node), Op::Alias)), || {
        at(graph, id, "I12: a derivative with respect to what is not an alias".to_owned())
    });
}

fn state(function: &Function, module: &Module, found: &mut Findings) {
    let graph = &function.graph;
    for param in &function.params {
        if let Role::State(slot) = &param.role {
            slot_type(*slot, graph.ty(param.node.into()), "parameter", function, module, found);
        }
    }
    let mut updated = BTreeSet::new();
    for result in &function.results {
        if let Sink::Update(slot) = result.sink {
            slot_type(slot, graph.ty(result.value), "update", function, module, found);
            found.require(updated.insert(slot), || {
                Diag::new(format!("I13: function `{}` updates state {} twice", function.name, slot.0))
            });
        }
    }
}

/// I7 and the types of I13.
fn slot_type(slot: StateId, ty: &Type, what: &str, function: &Function, module: &Module, found: &mut Findings) {
    let name = &function.name;
    let Some(decl) = module.state.get(slot.0 as usize) else {
        return found.require(false, || Diag::new(format!("I7: function `{name}` names state {}, which there is not", slot.0)));
    };
    found.require(decl.ty == *ty, || {
        Diag::new(format!("I13: the {what} of `{}` in function `{name}` is {ty}, the state is {}", decl.path, decl.ty))
    });
}

/// A finding at a node.
pub(super) fn at(graph: &Graph, id: NodeId, message: String) -> Diag {
    Diag::new(message).op(graph.op(id).name()).at(graph.loc(id))
}
