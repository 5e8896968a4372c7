//! The meaning of kernel programs: a backend that compiles nothing and runs every point in order over one arena.
//!
//! A run never touches the caller's state before it has succeeded. What a strict run finds (reads of what was not written, points
//! that depend on their order, arguments that overlap) is a fault of the compiler, reported as an error at the launch's line.

mod body;
mod contract;
mod expr;
mod launch;
mod memory;
mod nest;
mod points;
mod prefix;
mod scatter;
mod sort;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use graver_ir::kernel::{Buffer, BufferId, Entry, KernelBody, Launch, Place, Program, TrapId};
use graver_ir::{Array, Diag, Error, Loc, Shape, Sizes, StateId, Target, Type, bind};
use graver_runtime::{Backend, Executable, Invocation, Slot, Stage, Working, Workspace};

use launch::Running;
use memory::{Given, Memory};
pub(crate) use memory::{decode, encode};
use steps::Walk;

/// How much a run checks beyond what the program's own checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// That accesses lie in their arguments and buffers.
    Bounds,
    /// Also: nothing is read that its buffer has not written; no two points of a launch store at one place, nor does one store what
    /// another reads; no written argument overlaps another; outputs are written whole; no launch that may fail comes after the
    /// state is written, or writes it.
    #[default]
    Strict,
}

/// The interpreter as a device. Programs are verified, as for every backend: what [`graver_ir::kernel::verify`] refuses may panic here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interp {
    checks: Checks,
}

impl Interp {
    /// An interpreter that checks this much.
    #[must_use]
    pub const fn new(checks: Checks) -> Self {
        Self { checks }
    }
}

impl Backend for Interp {
    fn describe(&self) -> Target {
        Target { name: "interp".to_owned(), ..Target::generic() }
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        Ok(Arc::new(Interpreted { program, checks: self.checks, noise: None }))
    }
}

/// A program to be interpreted.
#[derive(Debug)]
struct Interpreted {
    program: Arc<Program>,
    checks: Checks,
    /// The seed of rounding errors by chance.
    noise: Option<u64>,
}

impl Executable for Interpreted {
    fn program(&self) -> &Program {
        &self.program
    }

    /// Of nothing: every run has memory of its own, so that no run sees another's bytes.
    fn workspace(&self) -> Workspace {
        Workspace::default()
    }

    fn working_bytes(&self, entry: usize, sizes: &Sizes) -> Result<Working, Error> {
        let entry = self.program.entries.get(entry).ok_or_else(|| Error::new(format!("the program has no entry {entry}")))?;
        Working::apart(entry, sizes, &[])
    }

    fn run(&self, call: Invocation<'_>) -> Result<Vec<Array>, Error> {
        self.run_over(call, None)
    }

    fn compile_times(&self) -> Vec<Duration> {
        vec![Duration::ZERO; self.program.kernels.len()]
    }

    fn dump(&self, _: usize, _: Stage) -> Option<String> {
        None
    }
}

/// What one launch did.
#[derive(Debug)]
pub struct Launched<'a> {
    /// The launch.
    pub launch: &'a Launch,
    /// The values of symbols, and of the counters of loops around.
    pub sizes: &'a Sizes,
    /// The whole buffer of each argument, as the launch found it.
    pub before: &'a [Array],
    /// The whole buffer of each argument, as the launch left it.
    pub after: &'a [Array],
}

/// Who sees every launch.
type Watcher<'a> = &'a mut dyn FnMut(&Launched<'_>) -> Result<(), Diag>;

/// Interprets an entry and shows every launch. With a seed, loads and rounded results are moved by up to two units in the last place, by
/// chance, as [`crate::eval_noisy`] does.
///
/// # Errors
/// As [`Executable::run`] of [`Interp`], and what `watch` says.
pub fn run_watched(
    program: &Arc<Program>,
    call: Invocation<'_>,
    noise: Option<u64>,
    watch: Watcher<'_>,
) -> Result<Vec<Array>, Error> {
    let of = Interpreted { program: Arc::clone(program), checks: Checks::Bounds, noise };
    of.run_over(call, Some(watch))
}

impl Interpreted {
    fn run_over(&self, call: Invocation<'_>, watch: Option<Watcher<'_>>) -> Result<Vec<Array>, Error> {
        let entry = self.program.entries.get(call.entry);
        let entry = entry.ok_or_else(|| Error::new(format!("the program has no entry {}", call.entry)))?;
        let sizes = bind_inputs(entry, call.inputs)?;
        check_state(&self.program, call.state)?;
        call.fetch()?;
        let state: Vec<&Array> = call.state.iter().map(Slot::array).collect();
        let given = Given { consts: &self.program.consts, inputs: call.inputs, state: &state };
        let mut memory = Memory::new(&given, entry, &sizes)?;
        let (entry_id, inputs) = (call.entry, call.inputs);
        let mut walk =
            Walk { of: self, entry: entry_id, inputs, memory: &mut memory, sizes, progress: Progress::Checking, watch };
        walk.all(&entry.steps)?;
        let outputs = self.outputs(entry, &memory)?;
        commit(&self.program, call.state, &memory)?;
        Ok(outputs)
    }

    /// Runs a launch; the check that failed, if one did. A fault is told with the kernel's name and the user's first line.
    fn launch(
        &self,
        launch: &Launch,
        memory: &mut Memory,
        sizes: &Sizes,
        progress: &mut Progress,
    ) -> Result<Option<TrapId>, Diag> {
        let kernel = self.program.kernel(launch.kernel);
        let fault = |diag: Diag| diag.op(format!("kernel {}", kernel.name)).at(launch.locs.first().unwrap_or(&Loc::UNKNOWN));
        let mut running = Running::new(kernel, launch, memory, sizes, self.checks, self.noise).map_err(fault)?;
        if self.checks == Checks::Strict {
            progress.advance(running.writes_state(), kernel.body.may_fail()).map_err(fault)?;
        }
        let outcome = match &kernel.body {
            KernelBody::Nest(nest) => nest::run(nest, &mut running),
            KernelBody::Contract(contract) => contract::run(contract, &mut running),
            KernelBody::Scatter(scatter) => scatter::run(scatter, &mut running),
            KernelBody::Sort(sort) => sort::run(sort, &mut running),
            KernelBody::Prefix(prefix) => prefix::run(prefix, &mut running),
            KernelBody::Attend(attend) => nest::run(&attend.as_nest(), &mut running),
        };
        match running.trapped {
            Some(trap) => Ok(Some(trap)),
            None => outcome.map(|_| None).map_err(fault),
        }
    }

    fn outputs(&self, entry: &Entry, memory: &Memory) -> Result<Vec<Array>, Diag> {
        let output = |id: &BufferId| {
            let buffer = id.0 as usize;
            if self.checks == Checks::Strict {
                let placed = memory.placed(buffer);
                memory.check_written(placed.region, placed.start, placed.len, buffer)?;
            }
            memory.array(buffer)
        };
        entry.outputs.iter().map(|id| output(id).map_err(|diag| diag.at(&entry.buffer(*id).loc))).collect()
    }
}

/// How far a run has come: once the state is written, nothing may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Checking,
    Writing,
}

impl Progress {
    fn advance(&mut self, writes_state: bool, may_fail: bool) -> Result<(), Diag> {
        if writes_state {
            *self = Self::Writing;
        }
        if may_fail && *self == Self::Writing {
            return Err(Diag::new("may fail when the state is written already"));
        }
        Ok(())
    }
}

fn bind_inputs(entry: &Entry, inputs: &[&Array]) -> Result<Sizes, Error> {
    let ty = |buffer: &Buffer| Type::new(buffer.dtype, Shape(buffer.shape.clone()));
    let types: Vec<Type> = entry.inputs.iter().map(|(id, _)| ty(entry.buffer(*id))).collect();
    let params: Vec<(&str, &Type)> = entry.inputs.iter().map(|(_, name)| name.as_str()).zip(&types).collect();
    bind(&params, inputs)
}

fn check_state(program: &Program, state: &[Slot<'_>]) -> Result<(), Error> {
    if program.state.len() != state.len() {
        return Err(Error::new(format!("the state has {} slots, got {}", program.state.len(), state.len())));
    }
    let wrong = program.state.iter().zip(state).filter(|(decl, slot)| slot.array().ty() != decl.ty);
    let diags =
        wrong.map(|(decl, slot)| Diag::new(format!("the state `{}` must be {}, got {}", decl.path, decl.ty, slot.array().ty())));
    Error::from_diags(diags.collect()).map_or(Ok(()), Err)
}

/// Writes the state that the run has written: all of it or, if a written slot was lent for reading, none.
fn commit(program: &Program, state: &mut [Slot<'_>], memory: &Memory) -> Result<(), Error> {
    let mut updates = Vec::new();
    for (position, slot) in state.iter().enumerate() {
        let id = StateId(u32::try_from(position).expect("fewer than 2^32 slots of state"));
        let Some(bytes) = memory.updated(&Place::State(id)) else { continue };
        let decl = program.state.get(position).expect("slots were counted");
        if matches!(slot, Slot::Read(_)) {
            return Err(Error::new(format!("the state `{}` is written, but lent for reading", decl.path)));
        }
        updates.push((position, Array::from_bytes(decl.ty.dtype, slot.array().shape(), bytes)?));
    }
    for (position, updated) in updates {
        if let Some(Slot::Write(array)) = state.get_mut(position) {
            **array = updated;
        }
    }
    Ok(())
}
