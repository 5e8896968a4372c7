//! Programs to machine code: every kernel lowered and compiled once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use graver_ir::kernel::{Kernel, Program};
use graver_ir::{Dim, Error};

use crate::emit::jit::{Code, Jit, Made};
use crate::how::How;
use crate::lower::{Lowered, Passing, Phase, Prepared, lower};
use crate::packs::lasting;
use crate::pool::Parallel;

/// A kernel's functions, and what running them takes.
#[derive(Debug)]
pub(crate) struct CompiledKernel {
    pub(crate) phases: Vec<CompiledPhase>,
    pub(crate) shared: Dim,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) passing: Option<Passing>,
    pub(crate) took: Duration,
}

/// A function of [`Code`], and what running it takes, as [`crate::lower::Phase`].
#[derive(Debug)]
pub(crate) struct CompiledPhase {
    pub(crate) function: usize,
    /// The symbols whose sizes it reads, by their places in the program's list.
    pub(crate) dims: Vec<usize>,
    pub(crate) extent: Dim,
    pub(crate) scratch: Dim,
    pub(crate) work: Dim,
}

/// A kernel, lowered: every phase's function, as far as it can be made apart from others.
struct Ready {
    lowered: Lowered,
    /// One a phase, and the symbols that it reads.
    made: Vec<(Made, Vec<usize>)>,
    took: Duration,
}

impl Ready {
    fn new(kernel: &Kernel, program: &Program, how: How, lasting: &[bool]) -> Self {
        let start = Instant::now();
        let mut lowered = lower(kernel, &program.symbols, how, lasting);
        let make = |phase: &mut Phase| {
            let func = std::mem::take(&mut phase.func);
            let dims = func.dims().into_iter().collect();
            (Made::of(func, how.isa), dims)
        };
        let made = lowered.phases.iter_mut().map(make).collect();
        Self { lowered, made, took: start.elapsed() }
    }
}

/// Every kernel of the program, in order, and the program with its plan. Threads make them at once, one of them after it has planned; what
/// is made does not depend on that.
pub(crate) fn compile(
    program: &Program,
    plan: &(dyn Fn() -> Arc<Program> + Sync),
    how: How,
    pool: &dyn Parallel,
) -> Result<(Arc<Program>, Vec<CompiledKernel>, Code), Error> {
    let (lasting, planned) = (lasting(program), OnceLock::new());
    let slots: Vec<OnceLock<Ready>> = program.kernels.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    pool.run(pool.threads().min(slots.len()).max(1), &|part| {
        if part == 0 {
            planned.get_or_init(plan);
        }
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = slots.get(number) else { return };
            slot.get_or_init(|| Ready::new(&program.kernels[number], program, how, &lasting[number]));
        }
    });
    let mut jit = Jit::new(how.isa).map_err(|error| Error::new(format!("the cpu backend cannot start: {error}")))?;
    let ready = slots.into_iter().zip(&program.kernels);
    let kernels = ready.map(|(slot, kernel)| {
        one(&mut jit, kernel, slot.into_inner().expect("a pool runs every part, and parts take every kernel"))
    });
    let kernels = kernels.collect::<Result<_, Error>>()?;
    let code = jit.finish().map_err(|error| Error::new(format!("code cannot be made executable: {error}")))?;
    Ok((planned.into_inner().expect("a pool runs every part"), kernels, code))
}

fn one(jit: &mut Jit, kernel: &Kernel, ready: Ready) -> Result<CompiledKernel, Error> {
    let start = Instant::now();
    let mut phases = Vec::new();
    let Lowered { phases: lowered, shared, prepared, passing } = ready.lowered;
    for (phase, (made, dims)) in lowered.into_iter().zip(ready.made) {
        let function = jit.compile(&made).map_err(|error| Error::new(format!("kernel `{}`: {error}", kernel.name)))?;
        phases.push(CompiledPhase { function, dims, extent: phase.extent, scratch: phase.scratch, work: phase.work });
    }
    Ok(CompiledKernel { phases, shared, prepared, passing, took: ready.took + start.elapsed() })
}
