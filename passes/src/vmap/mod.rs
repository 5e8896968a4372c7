//! Takes the iterations of maps at once: a scan that is marked so ([`graver_ir::op::Scan::at_once`]) becomes its body over a batch.
//!
//! One rule an operation. A value of the body is either *mapped*, one for each instance along a new first axis, or the same for all;
//! what depends on nothing mapped is computed once. Most rules are a table: the same operation with its axes moved by one. Operations
//! that sum products keep what is the same for all as it is; where an operation has no batched form, a scan over instances applies it
//! to one after another. Inner maps first; a body that holds a derivative waits until grad has written it out.
//!
//! Invariants: V1, nothing is carried by what is taken at once; V2, bodies hold neither derivatives nor maps by then. Never evaluates what
//! an instance did not ask for if that may fail.

mod contract;
mod control;
mod index;
mod moved;

use std::collections::BTreeMap;

use graver_ir::op::{Broadcast, Scan, stack_of};
use graver_ir::{Diag, Dim, Error, FuncId, Function, Graph, Loc, Module, NodeId, Op, Role, Shape, Type, Value};

pub(crate) use contract::{conv_of_slices, sum_of_convs};

use crate::bodies::{add, outs, param_values, set_results};
use crate::build::Build;
use crate::inline::{callees_first, has_transform};
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass = Pass { name: "vmap", about: "Takes the iterations of maps at once, as one batch.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    for id in callees_first(module)? {
        let mut function = std::mem::take(module.function_mut(id));
        let batched = in_function(module, &mut function);
        *module.function_mut(id) = function;
        changed = changed.or(batched?);
    }
    Ok(changed)
}

/// Takes at once every map of the function whose body holds no derivative.
pub(crate) fn in_function(module: &mut Module, function: &mut Function) -> Result<Changed, Diag> {
    let mut changed = Changed::No;
    let graph = &function.graph;
    for node in graph.topo_of(|node| matches!(graph.op(node), Op::Scan(_))) {
        let Op::Scan(op) = function.graph.op(node).clone() else { continue };
        if op.at_once && !holds_transform(module, op.body) {
            at_once(module, function, node, &op)?;
            changed = Changed::Yes;
        }
    }
    Ok(changed)
}

/// Whether a function, or one that it applies, holds a derivative.
fn holds_transform(module: &Module, func: FuncId) -> bool {
    let function = module.function(func);
    has_transform(function) || crate::dce::callees(function).into_iter().any(|func| holds_transform(module, func))
}

fn at_once(module: &mut Module, function: &mut Function, node: NodeId, op: &Scan) -> Result<(), Diag> {
    assert_eq!(op.carried, 0, "V1: a map carries nothing");
    let (args, loc) = (function.graph.args(node), function.graph.loc(node).clone());
    let lanes: Vec<Lane> =
        args.iter().enumerate().map(|(place, value)| Lane { value: *value, mapped: place < op.scanned }).collect();
    let mut batch = Batch { module, size: op.trip.clone(), known: BTreeMap::new() };
    let body = batch.module.function(op.body).clone();
    let results = batch.body(&mut function.graph, &body, &lanes, Some(&loc))?;
    for (out, lane) in outs(node, 0..op.results.len()).into_iter().zip(results) {
        let value = lane.whole(&mut Build::at(&mut function.graph, &loc), &op.trip)?;
        function.replace(out, value);
    }
    function.graph.remove(node);
    Ok(())
}

/// A value of the body where it is batched.
#[derive(Clone, Copy, Debug)]
struct Lane {
    value: Value,
    /// Whether there is one for each instance, along the first axis.
    mapped: bool,
}

impl Lane {
    fn mapped(value: Value) -> Self {
        Self { value, mapped: true }
    }

    /// One for each instance, whether or not they differ.
    fn whole(self, b: &mut Build<'_>, size: &Dim) -> Result<Value, Diag> {
        if self.mapped {
            return Ok(self.value);
        }
        let ty = b.ty(self.value).clone();
        let axes = (1..=ty.rank()).collect();
        b.add(Op::Broadcast(Broadcast { shape: stack_of(size, &ty).shape, axes }), &[self.value])
    }
}

/// Which function, for which parameters mapped, with which results asked for as mapped.
type Key = (FuncId, Vec<bool>, Vec<bool>);

/// A batch under construction.
struct Batch<'a> {
    module: &'a mut Module,
    /// How many instances.
    size: Dim,
    /// Functions that are batched already. Looked up, never iterated.
    known: BTreeMap<Key, (FuncId, Vec<bool>)>,
}

impl Batch<'_> {
    /// A function's operations over a batch, in a graph where its parameters have these values.
    fn body(&mut self, graph: &mut Graph, callee: &Function, args: &[Lane], caller: Option<&Loc>) -> Result<Vec<Lane>, Diag> {
        let mut lanes: BTreeMap<Value, Lane> = param_values(callee).into_iter().zip(args.iter().copied()).collect();
        for node in callee.graph.topo() {
            let body = callee.graph.node(node);
            if matches!(body.op, Op::Param(_)) {
                continue;
            }
            let loc = caller.map_or_else(|| body.loc.clone(), |caller| body.loc.called_from(caller));
            let operands: Vec<Lane> = callee.graph.args(node).iter().map(|arg| lanes[arg]).collect();
            let results = self.node(graph, &loc, &body.op, &operands).map_err(|diag| diag.op(body.op.name()).at(&loc))?;
            lanes.extend(outs(node, 0..results.len()).into_iter().zip(results));
        }
        Ok(callee.results.iter().map(|result| lanes[&result.value]).collect())
    }

    fn node(&mut self, graph: &mut Graph, loc: &Loc, op: &Op, args: &[Lane]) -> Result<Vec<Lane>, Diag> {
        if args.iter().any(|arg| arg.mapped) {
            return self.rule(&mut Build::at(graph, loc), op, args);
        }
        let values: Vec<Value> = args.iter().map(|arg| arg.value).collect();
        let node = graph.add(op.clone(), &values, loc.clone())?;
        let count = graph.node(node).outs.len();
        Ok(outs(node, 0..count).into_iter().map(|value| Lane { value, mapped: false }).collect())
    }

    /// The table: every operation's rule, where an operand is mapped.
    fn rule(&mut self, b: &mut Build<'_>, op: &Op, args: &[Lane]) -> Result<Vec<Lane>, Diag> {
        let one = |value: Result<Value, Diag>| Ok(vec![Lane::mapped(value?)]);
        match op {
            Op::Map(_)
            | Op::Cast(_)
            | Op::Bitcast(_)
            | Op::Sort(_)
            | Op::Reshape(_)
            | Op::Permute(_)
            | Op::Broadcast(_)
            | Op::Slice(_)
            | Op::Concat(_)
            | Op::Reverse(_)
            | Op::Reduce(_)
            | Op::ArgReduce(_)
            | Op::Prefix(_)
            | Op::Window(_)
            | Op::WindowArg(_)
            | Op::WindowTake(_)
            | Op::WindowPut(_)
            | Op::Alias
            | Op::StopGradient => {
                let operands = self.whole(b, args)?;
                one(b.add(moved::op(op, &self.size), &operands))
            }
            Op::Pad(axes) => one(moved::pad(b, axes, args, &self.size)),
            Op::Gather(axes) => one(index::gather(b, *axes, args, &self.size)),
            Op::Scatter(of) => one(index::scatter(b, *of, args, &self.size)),
            Op::DynamicSlice(slice) => one(index::dynamic_slice(b, slice, args, &self.size)),
            Op::DynamicUpdate(axes) => one(index::dynamic_update(b, axes, args, &self.size)),
            Op::Dot(axes) => one(contract::dot(b, axes, args)),
            Op::Conv(conv) => match contract::conv(b, conv, args, &self.size)? {
                Some(value) => one(Ok(value)),
                None => self.each(b, op, args),
            },
            Op::Philox(_) => self.each(b, op, args),
            Op::Call(call) => control::call(self, b, call, args),
            Op::If(branch) => control::branch(self, b, branch, args),
            Op::While(of) => control::repeat(self, b, of, args),
            Op::Scan(of) => control::scan(self, b, of, args),
            Op::Const(_) | Op::Size(_) | Op::Iota(_) | Op::Param(_) => panic!("V2: `{}` has no operand to be mapped", op.name()),
            Op::Transform(_) => panic!("V2: derivatives are written out first"),
        }
    }

    /// Every operand with an element for each instance.
    fn whole(&self, b: &mut Build<'_>, args: &[Lane]) -> Result<Vec<Value>, Diag> {
        args.iter().map(|arg| arg.whole(b, &self.size)).collect()
    }

    /// The operation applied to one instance after another: what has no batched form.
    fn each(&mut self, b: &mut Build<'_>, op: &Op, args: &[Lane]) -> Result<Vec<Lane>, Diag> {
        let mut body = Function::new("");
        let params: Vec<Value> = args
            .iter()
            .map(|arg| {
                let ty = b.ty(arg.value);
                let ty = if arg.mapped { graver_ir::op::slice_of(ty) } else { ty.clone() };
                body.add_param(ty, Role::Arg("x".to_owned()), b.loc.clone()).into()
            })
            .collect();
        let node = body.graph.add(op.clone(), &params, b.loc.clone())?;
        let count = body.graph.node(node).outs.len();
        set_results(&mut body, &outs(node, 0..count));
        let results: Vec<Type> = body.result_types().iter().map(|ty| stack_of(&self.size, ty)).collect();
        // What is mapped comes first.
        let order: Vec<usize> = [true, false]
            .into_iter()
            .flat_map(|mapped| (0..args.len()).filter(move |place| args[*place].mapped == mapped))
            .collect();
        body.params = order.iter().map(|place| body.params[*place].clone()).collect();
        let scanned = args.iter().filter(|arg| arg.mapped).count();
        let body = add(self.module, body, op.name(), "each");
        let scan = Scan { body, trip: self.size.clone(), carried: 0, scanned, reverse: false, at_once: false, results };
        let operands: Vec<Value> = order.iter().map(|place| args[*place].value).collect();
        let node = b.graph.add(Op::Scan(scan), &operands, b.loc.clone())?;
        Ok(outs(node, 0..count).into_iter().map(Lane::mapped).collect())
    }

    /// The function over a batch, and which of its results are mapped: those that depend on what is, and those that are asked for.
    fn function(&mut self, func: FuncId, params: &[bool], wanted: &[bool]) -> Result<(FuncId, Vec<bool>), Diag> {
        let key = (func, params.to_vec(), wanted.to_vec());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let (function, mapped) = self.batched(func, params, wanted)?;
        let name = self.module.function(func).name.clone();
        let known = (add(self.module, function, &name, "vmap"), mapped);
        self.known.insert(key, known.clone());
        Ok(known)
    }

    /// [`Batch::function`] that is not yet one of the module.
    fn batched(&mut self, func: FuncId, params: &[bool], wanted: &[bool]) -> Result<(Function, Vec<bool>), Diag> {
        let callee = self.module.function(func).clone();
        let mut function = Function::new("");
        let lanes = self.params(&mut function, &callee, params);
        let mut results = self.body(&mut function.graph, &callee, &lanes, None)?;
        for (lane, result) in results.iter_mut().zip(wanted) {
            if *result {
                let loc = function.graph.loc(lane.value.node).clone();
                *lane = Lane::mapped(lane.whole(&mut Build::at(&mut function.graph, &loc), &self.size)?);
            }
        }
        set_results(&mut function, &results.iter().map(|lane| lane.value).collect::<Vec<_>>());
        Ok((function, results.iter().map(|lane| lane.mapped).collect()))
    }

    /// A callee's parameters, those that are mapped with an axis of instances.
    fn params(&self, function: &mut Function, callee: &Function, mapped: &[bool]) -> Vec<Lane> {
        let mut lanes = Vec::new();
        for (param, mapped) in callee.params.iter().zip(mapped) {
            let ty = callee.graph.ty(param.node.into());
            let ty = if *mapped { stack_of(&self.size, ty) } else { ty.clone() };
            let loc = callee.graph.loc(param.node).clone();
            lanes.push(Lane { value: function.add_param(ty, param.role.clone(), loc).into(), mapped: *mapped });
        }
        lanes
    }
}

/// The shape of all instances' values.
fn stacked(size: &Dim, shape: &[Dim]) -> Shape {
    Shape(std::iter::once(size).chain(shape).cloned().collect())
}

/// The value with one axis moved to another place; the others keep their order.
fn move_axis(b: &mut Build<'_>, x: Value, from: usize, to: usize) -> Result<Value, Diag> {
    if from == to {
        return Ok(x);
    }
    let mut order: Vec<usize> = (0..b.ty(x).rank()).filter(|axis| *axis != from).collect();
    order.insert(to, from);
    b.add(Op::Permute(graver_ir::op::Perm::new(order).expect("one axis moves")), &[x])
}
