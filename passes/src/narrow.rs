//! Takes out of control flow and of blocks what nobody needs: results, what is carried for nothing, operands that bodies do not use.
//!
//! A part of dce. A block stays one function: it loses what none of its calls needs. A scan of no slices goes whole. A carried value is needed if its result is, or if a result that is needed depends on it. Changes no value.

use std::collections::BTreeMap;

use graver_ir::op::{Call, Composite, If, Scan, While};
use graver_ir::{Args, FuncId, Function, Module, NodeId, Op, Value};

use crate::Changed;
use crate::blocks::block_of;
use crate::bodies::{add, marked, outs, param_values, set_params, set_results};
use crate::build::Build;
use crate::dce::remove_dead_nodes;

/// Narrows every operation of the function that applies others.
pub(crate) fn run(module: &mut Module, function: &mut Function) -> Changed {
    let mut changed = Changed::No;
    // Reversed: what a later loop gives up, an earlier one need not compute.
    let graph = &function.graph;
    for node in graph.topo_of(|node| matches!(graph.op(node), Op::If(_) | Op::While(_) | Op::Scan(_))).into_iter().rev() {
        let op = function.graph.op(node);
        let (op, used) = (op.clone(), used_results(function, node));
        if let Op::Scan(op) = &op
            && op.trip.is(0)
        {
            without_iterations(function, node, op);
            changed = Changed::Yes;
            continue;
        }
        let narrowed = if let Op::If(op) = &op {
            branch(module, op, &used)
        } else if let Op::While(op) = &op {
            repeat(module, op, used)
        } else if let Op::Scan(op) = &op {
            scan(module, op, used)
        } else {
            None
        };
        if let Some(narrowed) = narrowed {
            replace(function, &[node], &narrowed);
            changed = Changed::Yes;
        }
    }
    changed
}

/// Narrows a block and all calls of it, whose callers are narrowed already.
pub(crate) fn block(module: &mut Module, func: FuncId) -> Changed {
    let calls = calls_of(module, func);
    let mut used = vec![false; module.function(func).results.len()];
    for (caller, node) in &calls {
        used = either(&used, &used_results(module.function(*caller), *node));
    }
    merge_params(module, func, &calls);
    let params = needed_params(module.function(func), &used);
    if calls.is_empty() || (all(&used) && all(&params)) {
        return Changed::No;
    }
    restrict(module.function_mut(func), &params, &used);
    let results = module.function(func).result_types();
    let op = Op::Call(Call { func, tag: Some(Composite::Block), vjp: None, results });
    let narrowed = Narrowed { op, operands: params, results: used };
    let mut callers: BTreeMap<FuncId, Vec<NodeId>> = BTreeMap::new();
    calls.into_iter().for_each(|(caller, node)| callers.entry(caller).or_default().push(node));
    for (caller, nodes) in callers {
        replace(module.function_mut(caller), &nodes, &narrowed);
    }
    Changed::Yes
}

/// Lets one parameter stand for others that are the same value in every call.
fn merge_params(module: &mut Module, func: FuncId, calls: &[(FuncId, NodeId)]) {
    let args: Vec<Args> = calls.iter().map(|(caller, node)| module.function(*caller).graph.args(*node)).collect();
    let function = module.function_mut(func);
    let mut first: BTreeMap<Vec<Value>, Value> = BTreeMap::new();
    for (place, param) in param_values(function).into_iter().enumerate() {
        let given = args.iter().map(|args| args[place]).collect();
        let known = *first.entry(given).or_insert(param);
        if known != param && !calls.is_empty() {
            function.replace(param, known);
        }
    }
}

/// Every call of a block, by caller.
fn calls_of(module: &Module, func: FuncId) -> Vec<(FuncId, NodeId)> {
    let of = |(id, function): (&FuncId, &Function)| {
        let calls = function.graph.nodes().filter(|node| block_of(function.graph.op(*node)) == Some(func));
        calls.map(|node| (*id, node)).collect::<Vec<_>>()
    };
    module.functions.iter().flat_map(of).collect()
}

/// An operation with fewer operands and results, and which of the old ones those are.
struct Narrowed {
    op: Op,
    operands: Vec<bool>,
    results: Vec<bool>,
}

fn used_results(function: &Function, node: NodeId) -> Vec<bool> {
    let mut used = function.graph.used_outs(node);
    let given = function.results.iter().filter(|result| result.value.node == node);
    given.for_each(|result| used[usize::from(result.value.out)] = true);
    used
}

/// Puts what is left in the place of nodes of one operation.
fn replace(function: &mut Function, nodes: &[NodeId], narrowed: &Narrowed) {
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    for node in nodes {
        let (args, loc) = (function.graph.args(*node), function.graph.loc(*node).clone());
        let new = function.graph.add(narrowed.op.clone(), &marked(&args, &narrowed.operands), loc);
        let new = new.expect("N1: what is left of control flow is well typed");
        let old = marked(&outs(*node, 0..narrowed.results.len()), &narrowed.results);
        pairs.extend(old.iter().copied().zip(outs(new, 0..old.len())));
    }
    // What one node gives, the next may take: nobody uses the old ones once all are replaced.
    function.replace_all(&pairs);
    function.graph.remove_all(&nodes.iter().rev().copied().collect::<Vec<_>>());
}

/// A scan of no slices is what it starts from, and stacks of nothing.
fn without_iterations(function: &mut Function, node: NodeId, op: &Scan) {
    let (args, loc) = (function.graph.args(node), function.graph.loc(node).clone());
    for (place, out) in outs(node, 0..op.results.len()).into_iter().enumerate() {
        let value = match args.get(place).filter(|_| place < op.carried) {
            Some(start) => *start,
            None => Build::at(&mut function.graph, &loc).zeros(&op.results[place]),
        };
        function.replace(out, value);
    }
    function.graph.remove(node);
}

/// Which parameters some of the results need.
fn needed_params(function: &Function, results: &[bool]) -> Vec<bool> {
    let graph = &function.graph;
    let mut needed = vec![false; graph.bound()];
    let wanted = function.results.iter().zip(results).filter(|(_, wanted)| **wanted);
    let mut open: Vec<NodeId> = wanted.map(|(result, _)| result.value.node).collect();
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut needed[node.index()], true) {
            open.extend(graph.args(node).iter().map(|arg| arg.node));
        }
    }
    function.params.iter().map(|param| needed[param.node.index()]).collect()
}

fn either(x: &[bool], y: &[bool]) -> Vec<bool> {
    x.iter().zip(y).map(|(x, y)| *x || *y).collect()
}

fn all(marks: &[bool]) -> bool {
    marks.iter().all(|mark| *mark)
}

fn count(marks: &[bool]) -> usize {
    marks.iter().filter(|mark| **mark).count()
}

/// The function with these parameters and results, as another one of the module.
fn part(module: &mut Module, func: FuncId, params: &[bool], results: &[bool]) -> FuncId {
    let mut function = module.function(func).clone();
    restrict(&mut function, params, results);
    let name = function.name.clone();
    add(module, function, &name, "n")
}

/// Leaves these parameters and results.
fn restrict(function: &mut Function, params: &[bool], results: &[bool]) {
    let given: Vec<Value> = function.results.iter().map(|result| result.value).collect();
    set_results(function, &marked(&given, results));
    let order = marked(&param_values(function), params);
    set_params(function, &order);
    let _ = remove_dead_nodes(function);
}

fn branch(module: &mut Module, op: &If, used: &[bool]) -> Option<Narrowed> {
    let [then, otherwise] = [op.then, op.otherwise].map(|arm| needed_params(module.function(arm), used));
    let params = either(&then, &otherwise);
    if all(used) && all(&params) {
        return None;
    }
    let [then, otherwise] = [op.then, op.otherwise].map(|arm| part(module, arm, &params, used));
    let op = Op::If(If { then, otherwise, results: marked(&op.results, used) });
    let operands = std::iter::once(true).chain(params).collect();
    Some(Narrowed { op, operands, results: used.to_vec() })
}

fn repeat(module: &mut Module, op: &While, used: Vec<bool>) -> Option<Narrowed> {
    let tested = needed_params(module.function(op.cond), &[true]);
    let mut carried = either(&used, &tested[..op.carried]);
    let params = loop {
        let params = either(&needed_params(module.function(op.body), &carried), &tested);
        let wider = either(&carried, &params[..op.carried]);
        if wider == carried {
            break params;
        }
        carried = wider;
    };
    let operands = [&carried[..], &params[op.carried..]].concat();
    if all(&operands) {
        return None;
    }
    let (cond, body) = (part(module, op.cond, &operands, &[true]), part(module, op.body, &operands, &carried));
    let op = Op::While(While { cond, body, carried: count(&carried), most: op.most.clone() });
    Some(Narrowed { op, operands, results: carried })
}

fn scan(module: &mut Module, op: &Scan, used: Vec<bool>) -> Option<Narrowed> {
    let mut results = used;
    let params = loop {
        let params = needed_params(module.function(op.body), &results);
        let wider = either(&results[..op.carried], &params[..op.carried]);
        if wider == results[..op.carried] {
            break params;
        }
        results[..op.carried].copy_from_slice(&wider);
    };
    let operands = [&results[..op.carried], &params[op.carried..]].concat();
    if all(&operands) && all(&results) {
        return None;
    }
    let body = part(module, op.body, &operands, &results);
    let (carried, scanned) = (count(&operands[..op.carried]), count(&operands[op.carried..op.carried + op.scanned]));
    let op = Op::Scan(Scan { body, carried, scanned, results: marked(&op.results, &results), ..op.clone() });
    Some(Narrowed { op, operands, results })
}
