//! Puts the bodies of called functions in the place of calls.
//!
//! A call with a derivative of its own stays as long as the module holds a derivative to be written out. A region that the
//! fuse pass outlined stays for ever. Changes no value; places become chains, `callee's line, called from caller's line`.

use std::collections::BTreeMap;

use graver_ir::op::{Call, Composite};
use graver_ir::{Diag, Error, FuncId, Function, Graph, Loc, Module, NodeId, Op, Value};

use crate::dce::callees;
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "inline", about: "Puts the bodies of called functions in the place of calls.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let keep_custom = module.functions.values().any(has_transform);
    let mut changed = Changed::No;
    let order = callees_first(module)?;
    check_size(module, &order, keep_custom)?;
    for id in order {
        let mut function = std::mem::take(module.function_mut(id));
        changed = changed.or(inline_calls(&mut function, module, keep_custom));
        *module.function_mut(id) = function;
    }
    Ok(changed)
}

/// The most operations that a program may have when calls are written out: a thousand layers of a large model have a tenth.
const MOST_OPERATIONS: usize = 1_000_000;

/// Refuses functions that call one another so often that what they stand for fits into no memory.
fn check_size(module: &Module, order: &[FuncId], keep_custom: bool) -> Result<(), Diag> {
    let mut sizes: BTreeMap<FuncId, usize> = BTreeMap::new();
    for id in order {
        let graph = &module.function(*id).graph;
        let inlined = |node| as_call(graph.op(node)).filter(|call| is_inlined(call, keep_custom));
        let size = graph.nodes().map(|node| inlined(node).map_or(1, |call| sizes[&call.func])).fold(0, usize::saturating_add);
        sizes.insert(*id, size);
    }
    let total = sizes.values().copied().fold(0, usize::saturating_add);
    if total <= MOST_OPERATIONS {
        return Ok(());
    }
    let largest = sizes.iter().max_by_key(|(_, size)| **size).map_or("", |(id, _)| module.function(*id).name.as_str());
    let message = format!(
        "with its calls written out, the program has more than {MOST_OPERATIONS} operations, most of them in `{largest}`"
    );
    Err(Diag::new(message).op("call").help("repeat with scan or while what is now called again and again"))
}

/// Whether a derivative waits to be written out.
pub(crate) fn has_transform(function: &Function) -> bool {
    function.graph.nodes().any(|node| matches!(function.graph.op(node), Op::Transform(_)))
}

/// The bodies of callees are inlined already, so one sweep is enough.
fn inline_calls(function: &mut Function, module: &Module, keep_custom: bool) -> Changed {
    let calls: Vec<(NodeId, FuncId, Option<Composite>)> = function
        .graph
        .topo()
        .into_iter()
        .filter_map(|node| Some((node, as_call(function.graph.op(node))?)))
        .filter(|(_, call)| is_inlined(call, keep_custom))
        .map(|(node, call)| (node, call.func, call.tag))
        .collect();
    for (node, callee, tag) in &calls {
        let (args, mut loc) = (function.graph.args(*node), function.graph.loc(*node).clone());
        if let Some(tag) = tag {
            // What the user called, where messages and dumps would name primitives alone.
            loc = loc.within(tag.name());
        }
        let results = splice(&mut function.graph, module.function(*callee), &args, &loc);
        for (out, result) in (0u16..).zip(results) {
            function.replace(node.out(out), result);
        }
        function.graph.remove(*node);
    }
    if calls.is_empty() { Changed::No } else { Changed::Yes }
}

fn as_call(op: &Op) -> Option<&Call> {
    if let Op::Call(call) = op { Some(call) } else { None }
}

fn is_inlined(call: &Call, keep_custom: bool) -> bool {
    call.tag != Some(Composite::Region) && !(keep_custom && call.vjp.is_some())
}

/// Copies a function's body into a graph, its parameters being `args`, and gives its results.
pub(crate) fn splice(graph: &mut Graph, callee: &Function, args: &[Value], loc: &Loc) -> Vec<Value> {
    assert_eq!(callee.params.len(), args.len(), "I14: a call has one operand a parameter of `{}`", callee.name);
    let mut copies: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let mut values: BTreeMap<Value, Value> = BTreeMap::new();
    values.extend(callee.params.iter().zip(args).map(|(param, arg)| (param.node.out(0), *arg)));
    for node in callee.graph.topo() {
        let body = callee.graph.node(node);
        if matches!(body.op, Op::Param(_)) {
            continue;
        }
        let operands: Vec<Value> = callee.graph.args(node).into_iter().map(|arg| translated(arg, &copies, &values)).collect();
        let copy = graph
            .add(body.op.clone(), &operands, body.loc.called_from(loc))
            .expect("I14: a call's operands have the types of the callee's parameters");
        copies.insert(node, copy);
    }
    callee.results.iter().map(|result| translated(result.value, &copies, &values)).collect()
}

fn translated(value: Value, copies: &BTreeMap<NodeId, NodeId>, params: &BTreeMap<Value, Value>) -> Value {
    match copies.get(&value.node) {
        Some(copy) => copy.out(value.out),
        None => params[&value],
    }
}

/// Every function after the functions that it names.
///
/// # Errors
/// If there is a circle.
pub(crate) fn callees_first(module: &Module) -> Result<Vec<FuncId>, Error> {
    let mut order = Order { module, state: BTreeMap::new(), done: Vec::new() };
    module.functions.keys().try_for_each(|id| order.visit(*id))?;
    Ok(order.done)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Open,
    Done,
}

struct Order<'a> {
    module: &'a Module,
    state: BTreeMap<FuncId, Visit>,
    done: Vec<FuncId>,
}

impl Order<'_> {
    /// Depth first without recursion: a chain of calls may be longer than the stack.
    fn visit(&mut self, root: FuncId) -> Result<(), Diag> {
        let mut stack = vec![root];
        while let Some(id) = stack.last().copied() {
            match self.state.get(&id) {
                Some(Visit::Done) => drop(stack.pop()),
                Some(Visit::Open) => {
                    stack.pop();
                    self.state.insert(id, Visit::Done);
                    self.done.push(id);
                }
                None => {
                    self.state.insert(id, Visit::Open);
                    let next = self.next(id)?;
                    stack.extend(next);
                }
            }
        }
        Ok(())
    }

    fn next(&self, id: FuncId) -> Result<Vec<FuncId>, Diag> {
        let function = self.module.function(id);
        let mut next = callees(function);
        next.sort_unstable();
        next.dedup();
        if let Some(open) = next.iter().find(|callee| self.state.get(callee) == Some(&Visit::Open)) {
            let callee = &self.module.function(*open).name;
            return Err(Diag::new(format!("`{}` and `{callee}` call each other in a circle", function.name)).op("call"));
        }
        next.retain(|callee| !self.state.contains_key(callee));
        Ok(next)
    }
}
