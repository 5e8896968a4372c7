//! The entry: buffers for its values, a launch for every kernel, and copies where results are not computed in place.

use std::collections::BTreeMap;

use graver_ir::dim::Dim;
use graver_ir::kernel::{
    Access, Arg, AxisSet, Body, Bounds, Buffer, BufferId, Entry, InstKind, Kernel, KernelBody, Launch, Mode, Nest, Place,
    Program, Stage, Step, Store, View,
};
use graver_ir::{FuncId, Function, Loc, Module, NodeId, Op, Role, Sink, StateId, Type, Value};

use super::Kernels;
use super::point::at as exact;
use super::region::{Source, axis_of};

/// The program of a fused module.
pub(super) fn lower(module: &Module) -> Program {
    let program = Program { state: module.state.clone(), ..Program::default() };
    let (_, function) = module.entry().expect("a module that is compiled has an entry");
    let mut lowering = EntryLowering {
        module,
        function,
        program,
        entry: empty_entry(function),
        values: BTreeMap::new(),
        regions: BTreeMap::new(),
    };
    lowering.params();
    for node in function.graph.topo() {
        lowering.node(node);
    }
    lowering.results();
    let EntryLowering { mut program, entry, .. } = lowering;
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

struct EntryLowering<'a> {
    module: &'a Module,
    function: &'a Function,
    program: Program,
    entry: Entry,
    values: BTreeMap<Value, BufferId>,
    regions: BTreeMap<FuncId, Kernels>,
}

impl EntryLowering<'_> {
    fn buffer(&mut self, place: Place, ty: &Type, loc: &Loc) -> BufferId {
        self.entry.buffers.push(Buffer { place, dtype: ty.dtype, shape: ty.shape.0.clone(), loc: loc.clone() });
        BufferId(u32::try_from(self.entry.buffers.len() - 1).expect("fewer than 2^32 buffers"))
    }

    /// Inputs in call order, and slots of the state.
    fn params(&mut self) {
        for param in &self.function.params {
            let (ty, loc) = (self.function.graph.ty(param.node.into()).clone(), self.function.graph.loc(param.node).clone());
            let buffer = match &param.role {
                Role::Arg(name) => {
                    let buffer = self.buffer(Place::Input(self.entry.inputs.len()), &ty, &loc);
                    self.entry.inputs.push((buffer, name.clone()));
                    buffer
                }
                Role::State(id) => self.state(*id),
            };
            self.values.insert(param.node.into(), buffer);
        }
    }

    /// The buffer of a slot of the state: one, however often it is read.
    fn state(&mut self, id: StateId) -> BufferId {
        let there = self.entry.buffers.iter().position(|buffer| buffer.place == Place::State(id));
        match there {
            Some(place) => BufferId(u32::try_from(place).expect("fewer than 2^32 buffers")),
            None => self.buffer(Place::State(id), &self.module.state_decl(id).ty.clone(), &Loc::UNKNOWN),
        }
    }

    fn node(&mut self, node: NodeId) {
        let graph = &self.function.graph;
        if let Op::Const(array) = graph.op(node) {
            self.program.consts.push(array.clone());
            let place = Place::Const(self.program.consts.len() - 1);
            let buffer = self.buffer(place, &array.ty(), graph.loc(node));
            self.values.insert(node.into(), buffer);
        } else if let Op::Call(call) = graph.op(node) {
            self.region(node, call.func);
        } else {
            let op = graph.op(node);
            assert!(matches!(op, Op::Param(_)), "L8: after fuse an entry holds parameters, arrays and calls, not {}", op.name());
        }
    }

    fn region(&mut self, node: NodeId, func: FuncId) {
        let function = self.module.function(func);
        if !self.regions.contains_key(&func) {
            let kernels = super::region(function, &mut self.program.traps);
            self.regions.insert(func, kernels);
        }
        let graph = &self.function.graph;
        let params: Vec<BufferId> = graph.args(node).iter().map(|arg| self.values[arg]).collect();
        let mut results = Vec::new();
        for (out, ty) in (0u16..).zip(graph.node(node).outs.clone()) {
            let loc = function.graph.loc(function.results[usize::from(out)].value.node).clone();
            let buffer = self.buffer(Place::Unplaced, &ty, &loc);
            self.values.insert(node.out(out), buffer);
            results.push(buffer);
        }
        let locs = locations(function);
        for (kernel, sources) in &self.regions[&func] {
            let buffers = sources.iter().map(|source| match source {
                Source::Param(position) => params[*position],
                Source::Result(position) => results[*position],
            });
            let args = buffers.map(|buffer| View { buffer, offset: Dim::ZERO }).collect();
            let kernel = self.program.intern(kernel.clone());
            self.entry.steps.push(Step::Launch(Launch { kernel, args, locs: locs.clone() }));
        }
    }

    /// Outputs first: they may show the state as it was.
    fn results(&mut self) {
        let results = &self.function.results;
        for result in results.iter().filter(|result| result.sink == Sink::Out) {
            let buffer = self.output(result.value);
            self.entry.outputs.push(buffer);
        }
        let updates: Vec<(StateId, BufferId)> = results
            .iter()
            .filter_map(|result| match result.sink {
                Sink::Out => None,
                Sink::Update(id) => Some((id, self.values[&result.value])),
            })
            .collect();
        self.updates(updates);
    }

    /// The buffer of an output: the value's own, if it is computed here and is no other output.
    fn output(&mut self, value: Value) -> BufferId {
        let place = Place::Output(self.entry.outputs.len());
        let own = self.values[&value];
        let buffer = &mut self.entry.buffers[own.0 as usize];
        if buffer.place == Place::Unplaced {
            buffer.place = place;
            return own;
        }
        let (ty, loc) = (self.function.graph.ty(value).clone(), self.function.graph.loc(value.node).clone());
        let copy = self.buffer(place, &ty, &loc);
        self.copy(own, copy);
        copy
    }

    /// New values of the state, all read before any is written.
    fn updates(&mut self, updates: Vec<(StateId, BufferId)>) {
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
                    self.copy(from, aside);
                    aside
                }
                Place::Input(_) | Place::Output(_) | Place::Const(_) | Place::Arena(_) | Place::Unplaced => from,
            };
            pending.push((from, to));
        }
        for (from, to) in pending {
            self.copy(from, to);
        }
    }

    fn copy(&mut self, from: BufferId, to: BufferId) {
        let buffer = self.entry.buffer(from).clone();
        let kernel = self.program.intern(copy(&buffer));
        let args = [from, to].map(|buffer| View { buffer, offset: Dim::ZERO }).to_vec();
        self.entry.steps.push(Step::Launch(Launch { kernel, args, locs: known([&buffer.loc]) }));
    }
}

/// The kernel that copies a dense array.
fn copy(buffer: &Buffer) -> Kernel {
    let numel: Dim = buffer.shape.iter().product();
    let index = exact([axis_of(0, &numel)]);
    let over = if numel.is(1) { AxisSet::EMPTY } else { AxisSet::first(1) };
    let axes = if numel.is(1) { Vec::new() } else { vec![numel.clone()] };
    let mut body = Body::default();
    let load = InstKind::Load(Access { arg: 0, index: index.clone(), bounds: Bounds::Proven });
    let value = body.push(load, buffer.dtype);
    let stores = vec![Store { arg: 1, index, value }];
    let stage = Stage { over, keep: over, body, reductions: Vec::new(), stores };
    let arg = |mode| Arg::dense(buffer.dtype, vec![numel.clone()], mode);
    Kernel {
        name: "copy".to_owned(),
        args: vec![arg(Mode::Read), arg(Mode::Write)],
        body: KernelBody::Nest(Nest { axes, stages: vec![stage] }),
    }
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
