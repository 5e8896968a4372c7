//! The entry and the blocks inside: buffers for values, a launch for every kernel, and copies where results are not computed in place.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use graver_ir::dim::Dim;
use graver_ir::kernel::{
    Access, Arg, AxisSet, Body, Bounds, Buffer, BufferId, Entry, InstKind, Kernel, KernelBody, KernelId, Launch, Mode, Nest,
    Place, Program, Stage, Step, Store, View,
};
use graver_ir::{FuncId, Function, Loc, Module, NodeId, Op, Role, Sink, StateId, Type, Value};

use rustc_hash::FxHashMap;

use super::COPY;
use super::control::Counters;
use super::point::at as exact;
use super::region::{Source, axis_of};
use crate::blocks::is_region;
use crate::places;

/// The program of a fused module.
pub(super) fn lower(module: &Module) -> Program {
    let program = Program { state: module.state.clone(), ..Program::default() };
    let (_, function) = module.entry().expect("a module that is compiled has an entry");
    let mut lowering = Lowering {
        module,
        program,
        entry: empty_entry(function),
        regions: BTreeMap::new(),
        copies: FxHashMap::default(),
        states: FxHashMap::default(),
        carried: BTreeSet::new(),
        counters: Counters::of(module),
    };
    let mut block = Block::of(function, &Loc::UNKNOWN);
    lowering.params(&mut block);
    lowering.nodes(&mut block);
    lowering.results(&mut block);
    lowering.entry.steps = block.steps;
    let Lowering { mut program, entry, .. } = lowering;
    program.entries.push(entry);
    program.symbols = super::super::symbols::of(&program);
    program
}

fn empty_entry(function: &Function) -> Entry {
    Entry {
        name: function.name.clone(),
        buffers: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        steps: Vec::new(),
        arena: Dim::ZERO,
    }
}

/// A function on its way to steps: the entry, one that control flow applies, or one call of what is kept once.
pub(super) struct Block<'a> {
    pub(super) function: &'a Function,
    /// Where values are. Looked up, never iterated.
    pub(super) values: FxHashMap<Value, View>,
    /// Where values must come to be. Looked up, never iterated.
    pub(super) places: FxHashMap<Value, View>,
    pub(super) steps: Vec<Step>,
    /// The call that it is written out for, if it is kept once.
    pub(super) call: Loc,
}

impl<'a> Block<'a> {
    pub(super) fn of(function: &'a Function, call: &Loc) -> Self {
        Self { function, values: FxHashMap::default(), places: FxHashMap::default(), steps: Vec::new(), call: call.clone() }
    }
}

/// A region's kernels in order of launch, each with the source of every argument, and the lines that they compute.
struct Lowered {
    launches: Vec<(KernelId, Vec<Source>)>,
    locs: Vec<Loc>,
    /// Whether a message names one of the lines.
    may_fail: bool,
}

/// What all blocks of a program share.
pub(super) struct Lowering<'a> {
    pub(super) module: &'a Module,
    pub(super) program: Program,
    pub(super) entry: Entry,
    regions: BTreeMap<FuncId, Rc<Lowered>>,
    /// What copies arrays of a type. Looked up, never iterated.
    copies: FxHashMap<Type, KernelId>,
    states: FxHashMap<StateId, BufferId>,
    /// Buffers whose memory is exchanged.
    pub(super) carried: BTreeSet<BufferId>,
    pub(super) counters: Counters,
}

impl Lowering<'_> {
    pub(super) fn buffer(&mut self, place: Place, ty: &Type, loc: &Loc) -> BufferId {
        self.entry.buffers.push(Buffer { place, dtype: ty.dtype, shape: ty.shape.0.clone(), loc: loc.clone() });
        BufferId(u32::try_from(self.entry.buffers.len() - 1).expect("fewer than 2^32 buffers"))
    }

    /// Inputs in call order, and slots of the state.
    fn params(&mut self, block: &mut Block<'_>) {
        for param in &block.function.params {
            let graph = &block.function.graph;
            let (ty, loc) = (graph.ty(param.node.into()).clone(), graph.loc(param.node).clone());
            let buffer = match &param.role {
                Role::Arg(name) => {
                    let buffer = self.buffer(Place::Input(self.entry.inputs.len()), &ty, &loc);
                    self.entry.inputs.push((buffer, name.clone()));
                    buffer
                }
                Role::State(id) => self.state(*id),
            };
            block.values.insert(param.node.into(), View::whole(buffer));
        }
    }

    /// The buffer of a slot of the state: one, however often it is read.
    fn state(&mut self, id: StateId) -> BufferId {
        if let Some(known) = self.states.get(&id) {
            return *known;
        }
        let buffer = self.buffer(Place::State(id), &self.module.state_decl(id).ty, &Loc::UNKNOWN);
        self.states.insert(id, buffer);
        buffer
    }

    /// Every node of a block in order.
    pub(super) fn nodes(&mut self, block: &mut Block<'_>) {
        for node in block.function.graph.topo() {
            self.node(block, node);
        }
    }

    fn node(&mut self, block: &mut Block<'_>, node: NodeId) {
        let graph = &block.function.graph;
        let op = graph.op(node);
        if let Op::Const(array) = op {
            self.program.consts.push(array.clone());
            let place = Place::Const(self.program.consts.len() - 1);
            let buffer = self.buffer(place, &array.ty(), graph.loc(node));
            block.values.insert(node.into(), View::whole(buffer));
        } else if let Op::Call(call) = op {
            if is_region(op) { self.region(block, node, call.func) } else { self.call(block, node, call) }
        } else if let Op::If(op) = op {
            self.branch(block, node, op);
        } else if let Op::While(op) = op {
            self.repeat(block, node, op);
        } else if let Op::Scan(op) = op {
            self.scan(block, node, op);
        } else {
            let is_param = matches!(op, Op::Param(_));
            assert!(is_param, "L8: after fuse a block holds parameters, arrays, control flow and calls, not {}", op.name());
        }
    }

    /// Where a value comes to be: where it must, or in a buffer of its own.
    pub(super) fn place(&mut self, block: &mut Block<'_>, value: Value, loc: &Loc) -> View {
        let view = match block.places.get(&value) {
            Some(view) => view.clone(),
            None => View::whole(self.buffer(Place::Unplaced, block.function.graph.ty(value), loc)),
        };
        block.values.insert(value, view.clone());
        view
    }

    fn region(&mut self, block: &mut Block<'_>, node: NodeId, func: FuncId) {
        let function = self.module.function(func);
        let lowered = self.lowered(func, &block.call);
        let graph = &block.function.graph;
        let params: Vec<View> = graph.args(node).iter().map(|arg| block.values[arg].clone()).collect();
        let mut results = Vec::new();
        for out in 0..u16::try_from(graph.node(node).outs.len()).expect("I8: a node has fewer than 65536 results") {
            let loc = places::of_call(function.graph.loc(function.results[usize::from(out)].value.node), &block.call);
            results.push(self.place(block, node.out(out), &loc));
        }
        let locs: Vec<Loc> = lowered.locs.iter().map(|loc| places::of_call(loc, &block.call)).collect();
        for (kernel, sources) in &lowered.launches {
            let views = sources.iter().map(|source| match source {
                Source::Param(position) => params[*position].clone(),
                Source::Result(position) => results[*position].clone(),
                Source::Part(position, start) => {
                    let View { buffer, offset } = &results[*position];
                    View { buffer: *buffer, offset: offset + start }
                }
            });
            block.steps.push(Step::Launch(Launch { kernel: *kernel, args: views.collect(), locs: locs.clone() }));
        }
    }

    /// The region's kernels, made once; those whose messages name lines are made for every call of their block.
    fn lowered(&mut self, func: FuncId, call: &Loc) -> Rc<Lowered> {
        let known = self.regions.get(&func).filter(|known| !known.may_fail || *call == Loc::UNKNOWN);
        if let Some(known) = known {
            return Rc::clone(known);
        }
        let function = self.module.function(func);
        let function = if *call == Loc::UNKNOWN { Cow::Borrowed(function) } else { Cow::Owned(of_call(function, call)) };
        let kernels = super::region(&function, &mut self.program.traps);
        let may_fail = kernels.iter().any(|(kernel, _)| kernel.body.may_fail());
        let launches = kernels.into_iter().map(|(kernel, sources)| (self.program.intern(kernel), sources)).collect();
        let lowered = Rc::new(Lowered { launches, locs: locations(self.module.function(func)), may_fail });
        self.regions.insert(func, Rc::clone(&lowered));
        lowered
    }

    /// Outputs first: they may show the state as it was.
    fn results(&mut self, block: &mut Block<'_>) {
        let results = &block.function.results;
        for result in results.iter().filter(|result| result.sink == Sink::Out) {
            let buffer = self.output(block, result.value);
            self.entry.outputs.push(buffer);
        }
        let updates: Vec<(StateId, BufferId)> = results
            .iter()
            .filter_map(|result| match result.sink {
                Sink::Out => None,
                Sink::Update(id) => Some((id, block.values[&result.value].buffer)),
            })
            .collect();
        self.updates(block, updates);
    }

    /// The buffer of an output: the value's own, if it is computed here and is no other output.
    fn output(&mut self, block: &mut Block<'_>, value: Value) -> BufferId {
        let place = Place::Output(self.entry.outputs.len());
        let own = block.values[&value].buffer;
        let buffer = &mut self.entry.buffers[own.0 as usize];
        if buffer.place == Place::Unplaced && !self.carried.contains(&own) {
            buffer.place = place;
            return own;
        }
        let (ty, loc) = (block.function.graph.ty(value).clone(), block.function.graph.loc(value.node).clone());
        let copy = self.buffer(place, &ty, &loc);
        self.copy(block, &View::whole(own), &View::whole(copy));
        copy
    }

    /// New values of the state, all read before any is written.
    fn updates(&mut self, block: &mut Block<'_>, updates: Vec<(StateId, BufferId)>) {
        let mut pending = Vec::new();
        for (id, from) in updates {
            let to = self.state(id);
            if from == to {
                continue;
            }
            let source = self.entry.buffer(from).clone();
            let from = match source.place {
                Place::State(_) => {
                    let aside = self.buffer(Place::Unplaced, &Type::new(source.dtype, source.shape), &source.loc);
                    self.copy(block, &View::whole(from), &View::whole(aside));
                    aside
                }
                Place::Input(_) | Place::Output(_) | Place::Const(_) | Place::Arena(_) | Place::Unplaced => from,
            };
            pending.push((from, to));
        }
        for (from, to) in pending {
            self.copy(block, &View::whole(from), &View::whole(to));
        }
    }

    /// Copies a whole buffer.
    pub(super) fn copy(&mut self, block: &mut Block<'_>, from: &View, to: &View) {
        let buffer = self.entry.buffer(from.buffer).clone();
        self.copy_of(block, &Type::new(buffer.dtype, graver_ir::Shape(buffer.shape)), &buffer.loc, [from, to]);
    }

    /// Copies an array of this type.
    pub(super) fn copy_of(&mut self, block: &mut Block<'_>, ty: &Type, loc: &Loc, views: [&View; 2]) {
        let kernel = self.copies.get(ty).copied().unwrap_or_else(|| {
            let made = self.program.intern(copy(ty));
            self.copies.insert(ty.clone(), made);
            made
        });
        let args = views.map(Clone::clone).to_vec();
        block.steps.push(Step::Launch(Launch { kernel, args, locs: known([loc]) }));
    }
}

/// The kernel that copies a dense array.
pub(super) fn copy(ty: &Type) -> Kernel {
    let numel: Dim = ty.shape.iter().product();
    let index = exact([axis_of(0, &numel)]);
    let over = if numel.is(1) { AxisSet::EMPTY } else { AxisSet::first(1) };
    let axes = if numel.is(1) { Vec::new() } else { vec![numel.clone()] };
    let mut body = Body::default();
    let load = InstKind::Load(Access { arg: 0, index: index.clone(), bounds: Bounds::Proven });
    let value = body.push(load, ty.dtype);
    let stores = vec![Store { arg: 1, index, value }];
    let stage = Stage { over, keep: over, body, reductions: Vec::new(), stores };
    let arg = |mode| Arg::dense(ty.dtype, vec![numel.clone()], mode);
    Kernel {
        name: COPY.to_owned(),
        args: vec![arg(Mode::Read), arg(Mode::Write)],
        body: KernelBody::Nest(Nest { axes, stages: vec![stage] }),
    }
}

/// The function with the lines of one call.
fn of_call(function: &Function, call: &Loc) -> Function {
    let mut function = function.clone();
    for node in function.graph.topo() {
        let loc = places::of_call(function.graph.loc(node), call);
        function.graph.set_loc(node, loc);
    }
    function
}

/// The user's lines that a region computes, each once, in order. A parameter's line is another region's.
fn locations(function: &Function) -> Vec<Loc> {
    let graph = &function.graph;
    let order = graph.topo();
    known(order.iter().filter(|node| !matches!(graph.op(**node), Op::Param(_))).map(|node| graph.loc(*node)))
}

/// The places that are known, each once, in order.
fn known<'a>(places: impl IntoIterator<Item = &'a Loc>) -> Vec<Loc> {
    let mut locs: Vec<Loc> = Vec::new();
    for loc in places {
        if loc.place().is_some() && !locs.contains(loc) {
            locs.push(loc.clone());
        }
    }
    locs
}
