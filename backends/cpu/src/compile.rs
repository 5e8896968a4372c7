//! Programs to machine code: every kernel lowered and compiled once.

use std::time::{Duration, Instant};

use graver_ir::kernel::{Kernel, Program};
use graver_ir::{Dim, Error};

use crate::emit::jit::{Code, Jit};
use crate::isa::Isa;
use crate::lower::{Prepared, lower};
use crate::packs::lasting;

/// A kernel's functions, and what running them takes.
#[derive(Debug)]
pub(crate) struct CompiledKernel {
    pub(crate) phases: Vec<CompiledPhase>,
    pub(crate) shared: Dim,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) took: Duration,
}

/// A function of [`Code`], and what running it takes, as [`crate::lower::Phase`].
#[derive(Debug)]
pub(crate) struct CompiledPhase {
    pub(crate) function: usize,
    pub(crate) extent: Dim,
    pub(crate) scratch: Dim,
    pub(crate) work: Dim,
}

/// Every kernel of the program, in order.
pub(crate) fn compile(program: &Program, isa: Isa) -> Result<(Vec<CompiledKernel>, Code), Error> {
    let mut jit = Jit::new(isa).map_err(|error| Error::new(format!("the cpu backend cannot start: {error}")))?;
    let kernels = program
        .kernels
        .iter()
        .zip(lasting(program))
        .map(|(kernel, lasting)| one(&mut jit, program, kernel, &lasting))
        .collect::<Result<_, Error>>()?;
    let code = jit.finish().map_err(|error| Error::new(format!("code cannot be made executable: {error}")))?;
    Ok((kernels, code))
}

fn one(jit: &mut Jit, program: &Program, kernel: &Kernel, lasting: &[bool]) -> Result<CompiledKernel, Error> {
    let start = Instant::now();
    let lowered = lower(kernel, &program.symbols, jit.isa().lanes(), lasting);
    let mut phases = Vec::new();
    for phase in lowered.phases {
        let function = jit.compile(&phase.func).map_err(|error| Error::new(format!("kernel `{}`: {error}", kernel.name)))?;
        phases.push(CompiledPhase { function, extent: phase.extent, scratch: phase.scratch, work: phase.work });
    }
    Ok(CompiledKernel { phases, shared: lowered.shared, prepared: lowered.prepared, took: start.elapsed() })
}
