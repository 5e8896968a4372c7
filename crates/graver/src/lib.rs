//! The one crate that a user names; the page below is the README.

#![doc = include_str!("../../../README.md")]

pub mod inspect;
pub mod prelude;

pub use graver_check as check;
pub use graver_data as data;
pub use graver_ir as ir;
pub use graver_nn as nn;
pub use graver_passes as passes;
pub use graver_runtime as runtime;
pub use graver_trace as trace;

pub use graver_cpu::{Convolutions, Cpu, Denormals, Dots, Isa};
pub use graver_derive::{FacadeModule as Module, FacadeTree as Tree};
pub use graver_trace::{Array, DType, Device, Error};

use std::num::NonZeroUsize;
use std::sync::Arc;

/// The CPU with all threads of the machine.
#[must_use]
pub fn cpu() -> Device {
    cpu_with_threads(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// The CPU with this many threads, at least one. Results are the same for any number, bit for bit.
#[must_use]
pub fn cpu_with_threads(threads: usize) -> Device {
    Device::new(Arc::new(graver_cpu::Cpu::new(threads.max(1))))
}

/// The CPU as described: its threads, the instruction-set level of its code, how convolutions are computed, what becomes of denormals.
///
/// ```
/// use graver::{Convolutions, Cpu};
/// let device = graver::cpu_with(Cpu::new(2).with_convolutions(Convolutions::Winograd2));
/// ```
#[must_use]
pub fn cpu_with(cpu: Cpu) -> Device {
    Device::new(Arc::new(cpu))
}

/// The CPU with this many threads, at least one, and code of an instruction-set level instead of the highest that the machine
/// runs. Results are the same bits for a level, not between levels.
///
/// # Errors
/// If the machine does not run the level.
pub fn cpu_with_isa(threads: usize, isa: Isa) -> Result<Device, Error> {
    Ok(Device::new(Arc::new(graver_cpu::Cpu::new(threads.max(1)).with_isa(isa)?)))
}

/// The GPU of this number, through NVIDIA's driver and NVRTC, which are looked for now: nothing has to be installed to build or
/// run a program that does not call this.
///
/// # Errors
/// There is no driver, no such GPU, or no NVRTC: what was looked for, and where.
pub fn cuda(ordinal: usize) -> Result<Device, Error> {
    Ok(Device::new(Arc::new(graver_cuda::Cuda::new(ordinal)?)))
}

/// The interpreter of kernels: slow, plain, and what compiled code is judged by.
#[must_use]
pub fn interpreter() -> Device {
    Device::new(Arc::new(graver_interp::Interp::default()))
}

/// The guide's programs, which are compiled and run.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../docs/guide/first-steps.md")]
    struct FirstSteps;
    #[doc = include_str!("../../../docs/guide/functions.md")]
    struct Functions;
    #[doc = include_str!("../../../docs/guide/loops.md")]
    struct Loops;
    #[doc = include_str!("../../../docs/guide/generation.md")]
    struct Generation;
    #[doc = include_str!("../../../docs/guide/training.md")]
    struct Training;
    #[doc = include_str!("../../../docs/guide/looking-inside.md")]
    struct LookingInside;
}
