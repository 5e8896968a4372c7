//! A compiled program with its workspaces, and what can be asked of it.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use graver_check::{Case, Checked, Compiler, Suspect};
use graver_ir::kernel::{Kernel, Program};
use graver_ir::text::print;
use graver_ir::{Array, Error, Module, Sizes, Target};
use graver_passes::{Changed, Observer, PassReport, Silent, pipeline};
use graver_runtime::{Executable, Invocation, Profile, Slot, Stage, Working, Workspace};

use crate::compile::{Device, TracedModule};
use crate::limits::Limits;
use crate::spec::Spec;
use crate::state::StateKey;
use crate::tap::{Exposed, Tap, Taps, expose};
use crate::tree::{Layout, Tree};

/// How long a pass took and whether it changed anything.
#[derive(Clone, Debug)]
pub struct PassTime {
    /// The pass.
    pub pass: &'static str,
    /// Time in the pass itself.
    pub took: Duration,
    /// Whether the program changed.
    pub changed: bool,
    /// Nodes of the program afterwards.
    pub nodes: usize,
}

/// Where compile time went, and what passes remarked.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Running the closure.
    pub trace: Duration,
    /// The passes over the graph, in order.
    pub passes: Vec<PassTime>,
    /// The stages after them, in order.
    pub stages: Vec<(&'static str, Duration)>,
    /// The backend. The last stage, the plan, is part of it: a backend may do both at once.
    pub codegen: Duration,
    /// Each kernel in the backend.
    pub kernels: Vec<Duration>,
    /// Remarks of passes: why two operations were not fused.
    pub remarks: Vec<String>,
}

impl Observer for Report {
    fn after_pass(&mut self, report: &PassReport<'_>) {
        self.passes.push(PassTime {
            pass: report.pass,
            took: report.took,
            changed: report.changed == Changed::Yes,
            nodes: report.module.functions.values().map(|function| function.graph.len()).sum(),
        });
        self.remarks.extend(report.remarks.iter().cloned());
    }

    fn program(&mut self, stage: &'static str, _: &Program, took: Duration) {
        self.stages.push((stage, took));
    }
}

/// Keeps the text after one pass.
struct Capture<'a> {
    pass: &'a str,
    text: Option<String>,
}

impl Observer for Capture<'_> {
    fn after_pass(&mut self, report: &PassReport<'_>) {
        if report.pass == self.pass {
            self.text = Some(print(report.module));
        }
    }

    fn program(&mut self, _: &'static str, _: &Program, _: Duration) {}
}

/// A compiled program: how it is run, and what can be asked of it.
#[derive(Debug)]
pub struct Engine<S, Y> {
    spec: S,
    layout: Layout,
    keys: Vec<StateKey>,
    module: Module,
    limits: Limits,
    target: Target,
    executable: Arc<dyn Executable>,
    /// Those that no call uses now: one for each caller at once.
    workspaces: Mutex<Vec<Workspace>>,
    report: Report,
    device: Device,
    taps: Vec<Tap>,
    /// The program with its taps, once a call has asked for them.
    tapped: OnceLock<Result<Tapped, Error>>,
    result: PhantomData<fn() -> Y>,
}

/// A program whose last results are tapped values.
#[derive(Debug)]
struct Tapped {
    exposed: Exposed,
    executable: Arc<dyn Executable>,
}

impl<S: Spec, Y: Tree> Engine<S, Y> {
    pub(crate) fn new(traced: TracedModule<S, Y>, device: &Device) -> Result<Self, Error> {
        let target = device.backend().describe();
        let mut report = Report { trace: traced.took, ..Report::default() };
        let unplaced = pipeline::unplaced(traced.module.clone(), &target, &mut report)?;
        let (start, planning) = (Instant::now(), OnceLock::new());
        let executable = device.backend().compile_beside(&unplaced, &|| {
            let start = Instant::now();
            let planned = pipeline::planned(unplaced.clone(), &target);
            planning.get_or_init(|| start.elapsed());
            Arc::new(planned)
        })?;
        report.codegen = start.elapsed();
        report.stages.extend(planning.get().map(|took| ("plan", *took)));
        report.kernels = executable.compile_times();
        let TracedModule { module, spec, layout, keys, taps, .. } = traced;
        let (limits, workspaces) = (Limits::of(&module), Mutex::new(Vec::new()));
        Ok(Self {
            spec,
            layout,
            keys,
            module,
            limits,
            target,
            executable,
            workspaces,
            report,
            device: device.clone(),
            taps,
            tapped: OnceLock::new(),
            result: PhantomData,
        })
    }

    pub(crate) fn keys(&self) -> &[StateKey] {
        &self.keys
    }

    /// The slots of the state, with their paths.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (&StateKey, &str)> + Clone {
        self.keys.iter().zip(self.program().state.iter().map(|decl| decl.path.as_str()))
    }

    pub(crate) fn run(&self, state: Vec<Slot<'_>>, args: S::Args<'_>) -> Result<Y::Arrays, Error> {
        self.invoke(state, args, |call| self.executable.run(call))
    }

    /// As [`Engine::run`], with the time of every launch.
    pub(crate) fn profile(&self, state: Vec<Slot<'_>>, args: S::Args<'_>) -> Result<(Y::Arrays, Profile), Error> {
        let mut profile = Profile::default();
        let results = self.invoke(state, args, |call| {
            let (results, times) = self.executable.profile(call)?;
            profile = times;
            Ok(results)
        })?;
        Ok((results, profile))
    }

    /// As [`Engine::run`], with tapped values: by another program, which is compiled when it is first asked for.
    pub(crate) fn run_tapped(&self, state: Vec<Slot<'_>>, args: S::Args<'_>) -> Result<(Y::Arrays, Taps), Error> {
        let tapped = self.tapped.get_or_init(|| self.tap()).as_ref().map_err(Clone::clone)?;
        let mut inputs = Vec::new();
        self.spec.arrays(args, &mut inputs)?;
        self.limits.check(&inputs)?;
        let mut workspace = tapped.executable.workspace();
        // Bound again, so that the slots' lifetime shrinks to the call's.
        let mut state: Vec<Slot<'_>> = state;
        let call = Invocation { entry: 0, inputs: &inputs, state: &mut state, workspace: &mut workspace };
        let mut results = tapped.executable.run(call)?.into_iter();
        let own = Y::arrays(&self.layout, &mut results);
        Ok((own, tapped.exposed.taps(results)))
    }

    /// See [`crate::Compiled::check_finite`].
    pub(crate) fn check_finite(&self, state: &[Array], args: S::Args<'_>, suspect: Suspect) -> Result<(), Error> {
        let mut inputs = Vec::new();
        self.spec.arrays(args, &mut inputs)?;
        self.limits.check(&inputs)?;
        graver_check::finite(&self.module, &inputs, state, suspect).map(|_| ())
    }

    /// See [`crate::Compiled::check`].
    pub(crate) fn check(&self, state: Vec<Array>, args: S::Args<'_>) -> Result<Checked, Error> {
        let mut inputs = Vec::new();
        self.spec.arrays(args, &mut inputs)?;
        self.limits.check(&inputs)?;
        let inputs = inputs.into_iter().cloned().collect();
        let case = Case { module: self.module.clone(), inputs, state, pass: None };
        graver_check::check(&case, &Compiler::new(self.device.backend()))
    }

    fn tap(&self) -> Result<Tapped, Error> {
        let exposed = expose(&self.module, &self.taps);
        let program = pipeline::compile(exposed.module.clone(), &self.target, &mut Silent)?;
        Ok(Tapped { exposed, executable: self.device.backend().compile(Arc::new(program))? })
    }

    fn invoke(
        &self,
        state: Vec<Slot<'_>>,
        args: S::Args<'_>,
        invoke: impl FnOnce(Invocation<'_>) -> Result<Vec<Array>, Error>,
    ) -> Result<Y::Arrays, Error> {
        let mut inputs = Vec::new();
        self.spec.arrays(args, &mut inputs)?;
        self.limits.check(&inputs)?;
        let idle = self.idle().pop();
        let mut workspace = idle.unwrap_or_else(|| self.executable.workspace());
        // Bound again, so that the slots' lifetime shrinks to the call's.
        let mut state: Vec<Slot<'_>> = state;
        let results = invoke(Invocation { entry: 0, inputs: &inputs, state: &mut state, workspace: &mut workspace });
        self.idle().push(workspace);
        Ok(Y::arrays(&self.layout, &mut results?.into_iter()))
    }
}

impl<S, Y> Engine<S, Y> {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Workspace>> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The traced program, before any pass.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The names of values that [`Tensor::tap`](crate::Tensor::tap) named, in their order.
    pub fn tap_names(&self) -> impl Iterator<Item = &str> {
        self.taps.iter().map(Tap::name)
    }

    /// The traced program as text.
    #[must_use]
    pub fn module_text(&self) -> String {
        print(&self.module)
    }

    /// The program as text after the last run of the pass of this name, by running the passes again; `None` if there is no such pass.
    #[must_use]
    pub fn dump(&self, pass: &str) -> Option<String> {
        let mut capture = Capture { pass, text: None };
        // The same passes over the same program succeeded before.
        let again = pipeline::compile(self.module.clone(), &self.target, &mut capture);
        again.ok().and(capture.text)
    }

    /// The compiled program.
    #[must_use]
    pub fn program(&self) -> &Program {
        self.executable.program()
    }

    /// The kernels, no two equal.
    #[must_use]
    pub fn kernels(&self) -> &[Kernel] {
        &self.program().kernels
    }

    /// Bytes that a call of these sizes works in, beside its inputs, results and state: just what it allocates, once.
    ///
    /// # Errors
    /// If a symbol has no size.
    pub fn peak_bytes(&self, sizes: &Sizes) -> Result<usize, Error> {
        self.working_bytes(sizes).map(Working::total)
    }

    /// [`Engine::peak_bytes`] by what they are for.
    ///
    /// # Errors
    /// If a symbol has no size.
    pub fn working_bytes(&self, sizes: &Sizes) -> Result<Working, Error> {
        self.executable.working_bytes(0, sizes)
    }

    /// Bytes that calls so far have allocated to work in; those in progress are not counted. One caller's are
    /// [`Engine::peak_bytes`] of the largest sizes that it called with.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.idle().iter().map(Workspace::bytes).sum()
    }

    /// Where compile time went.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// A stage of a kernel's code as text, if the backend has such a stage.
    #[must_use]
    pub fn kernel_text(&self, kernel: usize, stage: Stage) -> Option<String> {
        self.executable.dump(kernel, stage)
    }

    /// The machine that passes compiled for.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}
