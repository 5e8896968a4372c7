//! Derivatives of blocks that are kept once, and of checkpoints: one function that also gives what its derivative needs, and one that is the
//! derivative, called wherever the block is. They are made once for all calls of a derivative that ask for the same.
//!
//! Operands are there when the derivative is computed; other values are residuals as those of a scan's iteration are
//! ([`super::residual`]). A checkpoint keeps none: its derivative, a block that passes do not look into from outside, computes them again.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::op::{Call, Composite};
use graver_ir::{Diag, FuncId, Graph, Module, NodeId, Op, Value};

use super::loops::{Replaced, active_results, given, needed_operands, numbered, pushed, some};
use super::residual::{Residuals, Times};
use super::reverse;
use crate::blocks::{checkpoint_of, whole_of};
use crate::bodies::{add, add_params, marked, outs, param_values, set_params, set_results};
use crate::dce::remove_dead_nodes;

/// Which function, with respect to which parameters, of which results.
type Key = (FuncId, Vec<bool>, Vec<bool>);

/// The derivatives of blocks that are known. Looked up, never iterated.
#[derive(Default)]
pub(super) struct Known {
    pulled: BTreeMap<Key, Pulled>,
    pushed: BTreeMap<Key, FuncId>,
}

/// Reverse mode of a block.
#[derive(Clone)]
struct Pulled {
    /// The block, which gives residuals after its results or among them.
    saving: FuncId,
    backward: FuncId,
    /// What the backward function takes.
    operands: Vec<Operand>,
}

/// An operand of a backward function.
#[derive(Clone, Copy)]
enum Operand {
    /// This operand of the block.
    Arg(usize),
    /// The cotangent of this result.
    Cotangent(usize),
    /// This result of the saving function.
    Saved(usize),
}

/// The cotangents of the operands that are wanted; the call that gives residuals takes the place of the node.
pub(super) fn pull(
    module: &mut Module,
    known: &mut Known,
    (graph, node): (&mut Graph, NodeId),
    cotangents: &[Option<Value>],
    wanted: &[bool],
) -> Result<Replaced, Diag> {
    let (args, loc) = (graph.args(node), graph.loc(node).clone());
    let func = callee(graph, node);
    let active = active_results(module.function(func), wanted);
    let seeded: Vec<bool> = cotangents.iter().zip(active).map(|(cotangent, active)| cotangent.is_some() && active).collect();
    let own = outs(node, 0..cotangents.len());
    if !seeded.contains(&true) {
        return Ok(Replaced { values: own, derivatives: Vec::new() });
    }
    let key = (func, wanted.to_vec(), seeded);
    let pulled = match known.pulled.get(&key) {
        Some(pulled) => pulled.clone(),
        None => differentiate(module, &key, checkpoint_of(graph.op(node)).is_some())?,
    };
    known.pulled.insert(key, pulled.clone());
    let by = if pulled.saving == func { node } else { graph.add(call(module, pulled.saving), &args, loc.clone())? };
    let operand = |operand: &Operand| match operand {
        Operand::Arg(place) => args[*place],
        Operand::Cotangent(place) => cotangents[*place].expect("G6: a result that is differentiated has a cotangent"),
        Operand::Saved(place) => outs(by, *place..place + 1)[0],
    };
    let operands: Vec<Value> = pulled.operands.iter().map(operand).collect();
    let backward = graph.add(call(module, pulled.backward), &operands, loc)?;
    Ok(Replaced { values: outs(by, 0..own.len()), derivatives: numbered(wanted, 0, backward) })
}

fn callee(graph: &Graph, node: NodeId) -> FuncId {
    whole_of(graph.op(node)).expect("G4: the node calls a block")
}

fn call(module: &Module, func: FuncId) -> Op {
    Op::Call(Call { func, tag: Some(Composite::Block), vjp: None, results: module.function(func).result_types() })
}

/// Differentiates the block where it stands, and cuts what is computed before cotangents are known from what is computed after. Where it is
/// to be computed again nothing is kept.
fn differentiate(module: &mut Module, (func, wanted, seeded): &Key, again: bool) -> Result<Pulled, Diag> {
    let mut function = module.function(*func).clone();
    let (name, params) = (function.name.clone(), param_values(&function));
    let y: Vec<Value> = function.results.iter().map(|result| result.value).collect();
    let y = marked(&y, seeded);
    let seeds = add_params(&mut function, &y, "cotangent");
    let dx = reverse::expand(module, &mut function, &y, &seeds, &marked(&params, wanted))?;
    let times = Times::of(&function.graph, (&params, 0), &BTreeSet::new(), &seeds);
    let saved = if again { BTreeSet::new() } else { Residuals::choose(&function.graph, &times, &dx, BTreeSet::new()).saved };

    let mut results: Vec<Value> = function.results.iter().map(|result| result.value).collect();
    let count = results.len();
    let fresh: Vec<Value> = saved.iter().copied().filter(|value| !results.contains(value)).collect();
    results.extend(fresh);
    let place_of = |value: &Value| results.iter().position(|result| result == value).expect("a residual is a result");
    let places: Vec<usize> = saved.iter().map(place_of).collect();

    let mut forward = function.clone();
    set_results(&mut forward, &results);
    set_params(&mut forward, &params);
    let _ = remove_dead_nodes(&mut forward);

    let mut backward = function;
    set_results(&mut backward, &dx);
    let saved: Vec<Value> = saved.into_iter().collect();
    for (value, param) in saved.iter().zip(add_params(&mut backward, &saved, "saved")) {
        backward.replace(*value, param);
    }
    let _ = remove_dead_nodes(&mut backward);
    let cotangents = (0..count).filter(|place| seeded[*place]).map(Operand::Cotangent);
    let all: Vec<Operand> =
        (0..params.len()).map(Operand::Arg).chain(cotangents).chain(places.into_iter().map(Operand::Saved)).collect();
    let operands = needed_operands(std::slice::from_mut(&mut backward), &all);

    let saving = if results.len() == count { *func } else { add(module, forward, &name, "saving") };
    Ok(Pulled { saving, backward: add(module, backward, &name, "vjp"), operands })
}

/// The tangents of a node's results, by number, given those of its operands.
pub(super) fn push(
    module: &mut Module,
    known: &mut Known,
    (graph, node): (&mut Graph, NodeId),
    tangents: &[Option<Value>],
) -> Result<Replaced, Diag> {
    let (args, loc) = (graph.args(node), graph.loc(node).clone());
    let (func, params) = (callee(graph, node), some(tangents));
    let results = active_results(module.function(func), &params);
    let key = (func, params.clone(), results.clone());
    let with_tangents = match known.pushed.get(&key) {
        Some(func) => *func,
        None => {
            let mut pushed = pushed(module, func, &params, &results)?;
            set_results(&mut pushed.function, &[pushed.results.0, pushed.results.1].concat());
            let name = pushed.function.name.clone();
            add(module, pushed.function, &name, "jvp")
        }
    };
    known.pushed.insert(key, with_tangents);
    let extra = given(graph, &args, tangents, &params, &loc);
    let by = graph.add(call(module, with_tangents), &[&args[..], &extra].concat(), loc)?;
    Ok(Replaced { values: outs(by, 0..results.len()), derivatives: numbered(&results, results.len(), by) })
}
