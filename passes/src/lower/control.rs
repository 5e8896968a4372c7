//! Control flow to steps around the steps of the functions that it applies, and calls of blocks to steps.
//!
//! The functions' results are computed where they must be: what is stacked in its slice, what is carried in the second of two
//! buffers that exchange their memory, what both lists of a branch give in one buffer. A copy is left where a result is a
//! parameter; where several results are one value, the kernel that makes it stores it at each place. The start of what is carried is copied too, because iterations overwrite it; reuse
//! takes the copy away where nobody else needs the start.

use std::collections::BTreeSet;

use graver_ir::dim::Dim;
use graver_ir::kernel::{Branch, BufferId, Carry, Kernel, KernelBody, Loop, Mode, Place, Step, Store, Trip, View};
use graver_ir::op::{Call, If, Scan, While, slice_of};
use graver_ir::{FuncId, Function, Loc, Module, NodeId, Op, Type, Value};

use super::entry::{Block, Lowering};
use crate::places;

/// Names for counters that no symbol has.
pub(super) struct Counters {
    taken: BTreeSet<String>,
}

impl Counters {
    pub(super) fn of(module: &Module) -> Self {
        let nodes = |function: &Function| function.graph.nodes().collect::<Vec<_>>();
        let mut taken = BTreeSet::new();
        for function in module.functions.values() {
            for node in nodes(function) {
                let sizes =
                    function.graph.node(node).outs.iter().flat_map(|ty| ty.shape.iter()).filter(|size| size.as_const().is_none());
                taken.extend(sizes.flat_map(Dim::symbols).map(|symbol| symbol.name().to_owned()));
            }
        }
        Self { taken }
    }

    fn next(&mut self) -> String {
        let mut numbered = (0..).map(|count| format!("step{count}"));
        let free = numbered.find(|name| !self.taken.contains(name)).expect("one of infinitely many is free");
        self.taken.insert(free.clone());
        free
    }
}

impl Lowering<'_> {
    /// The steps of a function over these parameters, its results at these places.
    fn block(&mut self, func: FuncId, params: &[View], places: &[View], (loc, call): (&Loc, &Loc)) -> Vec<Step> {
        let function = self.module.function(func);
        let mut block = Block::of(function, call);
        block.values.extend(function.params.iter().map(|param| Value::from(param.node)).zip(params.iter().cloned()));
        for (result, place) in function.results.iter().zip(places) {
            if is_computed(function, result.value) {
                block.places.entry(result.value).or_insert_with(|| place.clone());
            }
        }
        self.nodes(&mut block);
        for (result, place) in function.results.iter().zip(places) {
            let from = block.values[&result.value].clone();
            if from != *place && !self.store_too(&mut block, &from, place) {
                self.copy_of(&mut block, function.graph.ty(result.value), loc, [&from, place]);
            }
        }
        block.steps
    }

    /// Lets the launch that stores a value store it at another place too, where that is one launch of the block.
    fn store_too(&mut self, block: &mut Block<'_>, from: &View, to: &View) -> bool {
        let last = block.steps.iter_mut().rfind(|step| self.writes(step, from.buffer));
        let Some(Step::Launch(launch)) = last else { return false };
        let Some(arg) = launch.args.iter().position(|view| view == from) else { return false };
        let Some(kernel) = storing_twice(self.program.kernel(launch.kernel), arg) else { return false };
        launch.kernel = self.program.intern(kernel);
        launch.args.push(to.clone());
        true
    }

    fn writes(&self, step: &Step, buffer: BufferId) -> bool {
        let carries = |of: &Loop| of.carry.iter().any(|carry| [carry.now, carry.next].contains(&buffer));
        match step {
            Step::Launch(launch) => {
                let args = self.program.kernel(launch.kernel).args.iter().zip(&launch.args);
                args.into_iter().any(|(arg, view)| view.buffer == buffer && arg.mode != Mode::Read)
            }
            Step::Loop(of) if carries(of) => true,
            Step::If(_) | Step::Loop(_) => step.inner().into_iter().flatten().any(|inner| self.writes(inner, buffer)),
        }
    }

    fn args(block: &Block<'_>, node: NodeId) -> Vec<View> {
        block.function.graph.args(node).iter().map(|arg| block.values[arg].clone()).collect()
    }

    /// The steps of what is kept once, for one call of it.
    pub(super) fn call(&mut self, block: &mut Block<'_>, node: NodeId, op: &Call) {
        let (args, loc) = (Self::args(block, node), places::of_call(block.function.graph.loc(node), &block.call));
        let outs = (0u16..).take(op.results.len());
        let places: Vec<View> = outs.map(|out| self.place(block, node.out(out), &loc)).collect();
        let steps = self.block(op.func, &args, &places, (&loc, &loc));
        block.steps.extend(steps);
    }

    /// Both functions leave their results at the same places.
    pub(super) fn branch(&mut self, block: &mut Block<'_>, node: NodeId, op: &If) {
        let (args, loc) = (Self::args(block, node), block.function.graph.loc(node).clone());
        let (cond, operands) = args.split_first().expect("I9: an `if` has a condition");
        let outs = (0u16..).take(op.results.len());
        let places: Vec<View> = outs.map(|out| self.place(block, node.out(out), &loc)).collect();
        let then = self.block(op.then, operands, &places, (&loc, &block.call));
        let otherwise = self.block(op.otherwise, operands, &places, (&loc, &block.call));
        block.steps.push(Step::If(Branch { cond: cond.clone(), then, otherwise }));
    }

    pub(super) fn repeat(&mut self, block: &mut Block<'_>, node: NodeId, op: &While) {
        let (args, loc) = (Self::args(block, node), block.function.graph.loc(node).clone());
        let body = self.module.function(op.body);
        let carried = self.carried(block, node, (body, op.carried), &args);
        let params: Vec<View> = carried.iter().map(|own| own.now.clone()).chain(args[op.carried..].iter().cloned()).collect();
        let holds = View::whole(self.buffer(Place::Unplaced, &Type::scalar(graver_ir::DType::Bool), &loc));
        let test = self.block(op.cond, &params, std::slice::from_ref(&holds), (&loc, &block.call));
        let trip = Trip::While { test, holds, most: op.most.clone() };
        let counter = trip.counter(self.counters.next());
        let places: Vec<View> = carried.iter().map(|own| own.next.clone()).collect();
        let inner = self.block(op.body, &params, &places, (&loc, &block.call));
        let carry = carried.iter().filter_map(|own| own.pair).collect();
        block.steps.push(Step::Loop(Loop { trip, counter, carry, body: inner }));
        self.leave(block, node, &carried);
    }

    pub(super) fn scan(&mut self, block: &mut Block<'_>, node: NodeId, op: &Scan) {
        let (args, loc) = (Self::args(block, node), block.function.graph.loc(node).clone());
        let trip = Trip::Times(op.trip.clone());
        let counter = trip.counter(self.counters.next());
        let step = if op.trip.is(1) { Dim::ZERO } else { Dim::sym(&counter) };
        let place = if op.reverse { &op.trip - Dim::ONE - step } else { step };
        let slice = |view: &View, stack: &Type| {
            let numel: Dim = slice_of(stack).shape.iter().product();
            View { buffer: view.buffer, offset: &view.offset + &place * &numel }
        };
        let body = self.module.function(op.body);
        let carried = self.carried(block, node, (body, op.carried), &args);
        let mut params: Vec<View> = carried.iter().map(|own| own.now.clone()).collect();
        let scanned = op.carried..op.carried + op.scanned;
        for (view, arg) in args[scanned.clone()].iter().zip(&block.function.graph.args(node)[scanned.clone()]) {
            params.push(slice(view, block.function.graph.ty(*arg)));
        }
        params.extend(args[scanned.end..].iter().cloned());
        let mut places: Vec<View> = carried.iter().map(|own| own.next.clone()).collect();
        for (out, ty) in (0u16..).zip(&op.results).skip(op.carried) {
            places.push(slice(&self.place(block, node.out(out), &loc), ty));
        }
        let inner = self.block(op.body, &params, &places, (&loc, &block.call));
        let carry = carried.iter().filter_map(|own| own.pair).collect();
        block.steps.push(Step::Loop(Loop { trip, counter, carry, body: inner }));
        self.leave(block, node, &carried);
    }

    /// Buffers for what is carried, holding its start. What the body gives back as it got it needs none.
    fn carried(&mut self, block: &mut Block<'_>, node: NodeId, (body, count): (&Function, usize), args: &[View]) -> Vec<Carried> {
        let loc = block.function.graph.loc(node).clone();
        let mut carried = Vec::new();
        for (place, start) in args[..count].iter().enumerate() {
            let ty = body.graph.ty(body.params[place].node.into()).clone();
            if body.results[place].value == body.params[place].node.into() {
                carried.push(Carried { now: start.clone(), next: start.clone(), pair: None });
                continue;
            }
            let [now, next] = [(); 2].map(|()| self.buffer(Place::Unplaced, &ty, &loc));
            self.carried.extend([now, next]);
            self.copy_of(block, &ty, &loc, [start, &View::whole(now)]);
            carried.push(Carried { now: View::whole(now), next: View::whole(next), pair: Some(Carry { now, next }) });
        }
        carried
    }

    /// The results of a loop: where they are, or must be.
    fn leave(&mut self, block: &mut Block<'_>, node: NodeId, carried: &[Carried]) {
        for (out, own) in (0u16..).zip(carried) {
            let value = node.out(out);
            match block.places.get(&value).cloned() {
                Some(place) => {
                    let (ty, loc) = (block.function.graph.ty(value).clone(), block.function.graph.loc(node).clone());
                    self.copy_of(block, &ty, &loc, [&own.now, &place]);
                    block.values.insert(value, place);
                }
                None => drop(block.values.insert(value, own.now.clone())),
            }
        }
    }
}

/// The kernel with one more argument, which gets what it stores in this one.
fn storing_twice(kernel: &Kernel, arg: usize) -> Option<Kernel> {
    let mut twice = kernel.clone();
    let again = kernel.args.len();
    let repeat = |stores: &mut Vec<Store>| {
        let own: Vec<Store> = stores.iter().filter(|store| store.arg == arg).cloned().collect();
        stores.extend(own.into_iter().map(|store| Store { arg: again, ..store }));
    };
    match &mut twice.body {
        KernelBody::Nest(nest) => nest.stages.iter_mut().for_each(|stage| repeat(&mut stage.stores)),
        KernelBody::Contract(contract) => repeat(&mut contract.stores),
        KernelBody::Scatter(_) | KernelBody::Sort(_) | KernelBody::Prefix(_) | KernelBody::Attend(_) => return None,
    }
    twice.args.push(kernel.args[arg].clone());
    (kernel.args[arg].mode == Mode::Write).then_some(twice)
}

/// What a loop carries: where an iteration finds it, and where it leaves it.
struct Carried {
    now: View,
    next: View,
    pair: Option<Carry>,
}

/// Whether a value comes to be in its function, so that its place can be chosen.
fn is_computed(function: &Function, value: Value) -> bool {
    !matches!(function.graph.op(value.node), Op::Param(_) | Op::Const(_))
}
