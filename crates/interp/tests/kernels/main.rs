//! Kernel programs built by hand: what they mean, and which faults of a compiler a strict run finds.

mod contract;
mod faults;
mod nest;
mod plan;
mod scatter;

use std::sync::Arc;

use graver_interp::{Checks, Interp};
use graver_ir::kernel::{
    Access, Arg, Body, Bounds, Buffer, BufferId, Entry, Index, InstKind, Kernel, KernelBody, KernelId, Launch, Mode, Place,
    Program, Step, Store, ValueId, View, verify,
};
use graver_ir::{Array, DType, Dim, Element, Loc, Scalar, ScalarFn, StateDecl, Symbol};
use graver_runtime::{Backend, Invocation, Slot};

/// An array; panics if the sizes and the number of elements disagree.
pub(crate) fn array<E: Element>(shape: &[usize], elements: &[E]) -> Array {
    Array::from_vec(shape, elements.to_vec()).expect("a test's array has as many elements as its sizes say")
}

/// A symbol as a size.
pub(crate) fn sym(name: &str) -> Dim {
    Dim::sym(&Symbol::new(name))
}

/// The variables of a kernel's axes.
pub(crate) fn vars(axes: &[Dim]) -> Vec<Dim> {
    (0..).zip(axes).map(|(id, size)| Dim::axis(id, size)).collect()
}

/// A load at these positions.
pub(crate) fn load(body: &mut Body, arg: usize, dtype: DType, at: &[Dim], bounds: Bounds) -> ValueId {
    let index = at.iter().cloned().map(Index::At).collect();
    body.push(InstKind::Load(Access { arg, index, bounds }), dtype)
}

/// A function of values.
pub(crate) fn map(body: &mut Body, function: ScalarFn, dtype: DType, operands: &[ValueId]) -> ValueId {
    body.push(InstKind::Map(function, operands.to_vec()), dtype)
}

/// A constant.
pub(crate) fn constant(body: &mut Body, scalar: Scalar) -> ValueId {
    body.push(InstKind::Const(scalar), scalar.dtype())
}

/// A store at these positions.
pub(crate) fn store(arg: usize, at: &[Dim], value: ValueId) -> Store {
    Store { arg, index: at.iter().cloned().map(Index::At).collect(), value }
}

/// A program of one entry in the making.
#[derive(Default)]
pub(crate) struct Build {
    pub(crate) program: Program,
    pub(crate) buffers: Vec<Buffer>,
    inputs: Vec<(BufferId, String)>,
    outputs: Vec<BufferId>,
    steps: Vec<Step>,
    pub(crate) arena: i64,
    pub(crate) checks: Checks,
}

impl Build {
    pub(crate) fn buffer(&mut self, place: Place, dtype: DType, shape: &[Dim]) -> BufferId {
        self.buffers.push(Buffer { place, dtype, shape: shape.to_vec(), loc: Loc::UNKNOWN });
        BufferId(u32::try_from(self.buffers.len() - 1).expect("few buffers"))
    }

    pub(crate) fn input(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> BufferId {
        let id = self.buffer(Place::Input(self.inputs.len()), dtype, shape);
        self.inputs.push((id, name.to_owned()));
        id
    }

    pub(crate) fn output(&mut self, dtype: DType, shape: &[Dim]) -> BufferId {
        let id = self.buffer(Place::Output(self.outputs.len()), dtype, shape);
        self.outputs.push(id);
        id
    }

    pub(crate) fn arena(&mut self, offset: i64, dtype: DType, shape: &[Dim]) -> BufferId {
        self.buffer(Place::Arena(Dim::from(offset)), dtype, shape)
    }

    pub(crate) fn state(&mut self, decl: StateDecl) -> BufferId {
        let id = graver_ir::StateId(u32::try_from(self.program.state.len()).expect("few slots"));
        self.program.state.push(decl.clone());
        self.buffer(Place::State(id), decl.ty.dtype, &decl.ty.shape)
    }

    /// A launch over whole buffers, as dense arguments in these modes.
    pub(crate) fn launch(&mut self, name: &str, args: &[(BufferId, Mode)], body: KernelBody) {
        let dense = |(id, mode): &(BufferId, Mode)| {
            let buffer = &self.buffers[id.0 as usize];
            (Arg::dense(buffer.dtype, buffer.shape.clone(), *mode), View { buffer: *id, offset: Dim::ZERO })
        };
        let views = args.iter().map(dense).collect();
        self.launch_views(name, views, body);
    }

    /// A launch over views.
    pub(crate) fn launch_views(&mut self, name: &str, views: Vec<(Arg, View)>, body: KernelBody) {
        let (args, views) = views.into_iter().unzip();
        let kernel: KernelId = self.program.intern(Kernel { name: name.to_owned(), args, body });
        self.steps.push(Step::Launch(Launch { kernel, args: views, locs: Vec::new() }));
    }

    /// The results and the state after them.
    pub(crate) fn run(&self, inputs: &[&Array], state: &[Array]) -> Result<(Vec<Array>, Vec<Array>), String> {
        let mut state = state.to_vec();
        let result = self.run_slots(inputs, &mut state.iter_mut().map(Slot::Write).collect::<Vec<_>>());
        result.map(|outputs| (outputs, state))
    }

    fn program(&self) -> Program {
        let entry = Entry {
            name: "main".to_owned(),
            buffers: self.buffers.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            steps: self.steps.clone(),
            arena: Dim::from(self.arena),
        };
        let mut symbols: Vec<Symbol> = self.buffers.iter().flat_map(|buffer| &buffer.shape).flat_map(Dim::symbols).collect();
        symbols.sort();
        symbols.dedup();
        Program { entries: vec![entry], symbols, ..self.program.clone() }
    }

    pub(crate) fn run_slots(&self, inputs: &[&Array], state: &mut [Slot<'_>]) -> Result<Vec<Array>, String> {
        let program = Arc::new(self.program());
        let compiled = Interp::new(self.checks).compile(program).map_err(|error| error.to_string())?;
        let mut workspace = compiled.workspace();
        // The lifetimes of a call's slots and of its workspace are one.
        let mut slots: Vec<Slot<'_>> = state.iter_mut().map(reborrow).collect();
        let call = Invocation { entry: 0, inputs, state: &mut slots, workspace: &mut workspace };
        compiled.run(call).map_err(|error| error.to_string())
    }

    /// Checks that a program without state is sound, and its results.
    #[track_caller]
    pub(crate) fn check(&self, inputs: &[&Array], expected: &[Array]) {
        verify(&self.program()).unwrap_or_else(|error| panic!("{error}"));
        let (outputs, _) = self.run(inputs, &[]).unwrap_or_else(|message| panic!("{message}"));
        assert_eq!(outputs, expected);
    }

    /// Checks that a program without state fails with this message.
    #[track_caller]
    pub(crate) fn check_error(&self, inputs: &[&Array], expected: &str) {
        assert_eq!(self.run(inputs, &[]).expect_err("the run fails"), expected);
    }
}

fn reborrow<'b>(slot: &'b mut Slot<'_>) -> Slot<'b> {
    match slot {
        Slot::Read(array) => Slot::Read(array),
        Slot::Write(array) => Slot::Write(array),
    }
}
