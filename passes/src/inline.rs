//! Puts the bodies of called functions in the place of calls.
//!
//! A call with a derivative of its own stays as long as the module holds a derivative to be written out. Attention that the target
//! has a kernel for stays for ever, and so do a block that is kept once and a region that the fuse pass outlined. Changes no value; places become chains, `callee's line, called from caller's line`.

use std::collections::BTreeMap;

use graver_ir::op::{Call, Composite};
use graver_ir::{Diag, Error, FuncId, Function, Graph, Loc, Module, NodeId, Op, Value};

use crate::attend;
use crate::blocks::block_of;
use crate::dce::callees;
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "inline", about: "Puts the bodies of called functions in the place of calls.", run };

fn run(module: &mut Module, cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let derives = module.functions.values().any(has_transform);
    let keep = Keep { derives, attends: attend::may_stay(module, cx.target), across: cx.target.attends_across };
    let mut changed = Changed::No;
    let order = callees_first(module)?;
    check_size(module, &order, keep)?;
    for id in order {
        let mut function = std::mem::take(module.function_mut(id));
        changed = changed.or(inline_calls(&mut function, module, keep));
        if !derives {
            changed = changed.or(forget_derivatives(&mut function));
        }
        *module.function_mut(id) = function;
    }
    Ok(changed)
}

/// Which calls stay.
#[derive(Clone, Copy)]
struct Keep {
    /// The module holds a derivative to be written out.
    derives: bool,
    /// Attention is a kernel.
    attends: bool,
    /// All of its derivatives are one.
    across: bool,
}

impl Keep {
    /// What a call applies, if that is to be put in its place.
    fn inlined(self, graph: &Graph, node: NodeId) -> Option<&Call> {
        let Op::Call(call) = graph.op(node) else { return None };
        let stays = match call.tag {
            Some(Composite::Block | Composite::Region) => true,
            Some(Composite::Checkpoint) => self.derives,
            // What it means is its body: a derivative of its own is only a better one.
            Some(Composite::Attend(_)) => self.attends && attend::has_kernel(graph, node, self.across),
            Some(
                Composite::Softmax
                | Composite::LogSoftmax
                | Composite::Gelu
                | Composite::GeluTanh
                | Composite::LayerNorm
                | Composite::RmsNorm
                | Composite::BatchNorm
                | Composite::CrossEntropy
                | Composite::Attention
                | Composite::Custom
                | Composite::CustomForward,
            )
            | None => self.derives && call.vjp.is_some(),
        };
        (!stays).then_some(call)
    }
}

/// Once all derivatives are written out, two calls are equal whether or not one of them has brought its own.
fn forget_derivatives(function: &mut Function) -> Changed {
    let graph = &function.graph;
    let brings = |node: &NodeId| matches!(graph.op(*node), Op::Call(call) if call.vjp.is_some());
    let calls: Vec<NodeId> = graph.nodes().filter(brings).collect();
    for node in &calls {
        let Op::Call(call) = function.graph.op(*node).clone() else { continue };
        let (args, loc) = (function.graph.args(*node), function.graph.loc(*node).clone());
        let plain = Op::Call(Call { vjp: None, ..call.clone() });
        let new = function.graph.add(plain, &args, loc).expect("the same operands give the same results");
        for out in (0u16..).take(call.results.len()) {
            function.replace(node.out(out), new.out(out));
        }
        function.graph.remove(*node);
    }
    if calls.is_empty() { Changed::No } else { Changed::Yes }
}

/// The most operations that a program may have when calls are written out: a thousand layers of a large model have a tenth.
const MOST_OPERATIONS: usize = 1_000_000;

/// Refuses functions that call one another so often that what they stand for fits into no memory.
fn check_size(module: &Module, order: &[FuncId], keep: Keep) -> Result<(), Diag> {
    let mut sizes: BTreeMap<FuncId, usize> = BTreeMap::new();
    for id in order {
        let graph = &module.function(*id).graph;
        // Blocks too: every call of one is as many launches.
        let block = |node| block_of(graph.op(node)).or_else(|| Some(keep.inlined(graph, node)?.func));
        let size = graph.nodes().map(|node| block(node).map_or(1, |func| sizes[&func])).fold(0, usize::saturating_add);
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
fn inline_calls(function: &mut Function, module: &Module, keep: Keep) -> Changed {
    let graph = &function.graph;
    let inlined = |node| keep.inlined(graph, node).map(|call| (node, call.func, call.tag));
    let order = graph.topo_of(|node| keep.inlined(graph, node).is_some());
    let calls: Vec<(NodeId, FuncId, Option<Composite>)> = order.into_iter().filter_map(inlined).collect();
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
