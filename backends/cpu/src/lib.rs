//! Kernels to vector IR to machine code for CPUs.
//!
//! [`Cpu`] is the backend. A kernel is lowered to a width-agnostic vector IR (`lower`, `vector`), which an emitter turns into
//! machine code (`emit`); `exec` runs entries over a workspace, `pool` is where threads come from. Passes are not seen here:
//! what they must know of the machine is [`Cpu::describe`]'s answer.

mod bind;
mod codes;
mod compile;
mod dump;
mod emit;
mod exec;
mod expand;
mod helpers;
mod how;
mod isa;
mod kept;
mod lower;
mod memory;
mod mode;
mod packs;
mod pool;
mod room;
mod steps;
mod vector;

use std::sync::Arc;

use graver_ir::kernel::Program;
use graver_ir::{Error, Target};
use graver_runtime::{Backend, Executable};

use how::How;

pub use how::{Convolutions, Denormals, Dots};
pub use isa::Isa;
pub use pool::{Parallel, Pool};

/// The CPU of this machine.
///
/// Results are bit-identical from run to run and for any number of threads. Where several checks of one launch fail, the one
/// that is reported is the first in the order in which the kernel visits its points, which is the same in every run.
///
/// ```
/// use graver_cpu::Cpu;
/// use graver_runtime::Backend;
/// assert_eq!(Cpu::new(2).describe().threads, 2);
/// ```
#[derive(Clone, Debug)]
pub struct Cpu {
    pool: Arc<dyn Parallel>,
    how: How,
}

/// The most threads of a pool.
const MAX_THREADS: usize = 1024;

impl Cpu {
    /// With a pool of `threads`, the caller's among them; 0 means as many as the machine runs at once, and more than 1024 mean 1024.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let available = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_threads(Arc::new(Pool::new(if threads == 0 { available() } else { threads.min(MAX_THREADS) })))
    }

    /// With threads that the caller lends.
    #[must_use]
    pub fn with_threads(pool: Arc<dyn Parallel>) -> Self {
        let (threads, isa) = (pool.threads().max(1), Isa::detect());
        let (dots, convolutions, denormals) = (Dots::detect(isa), Convolutions::default(), Denormals::default());
        Self { pool, how: How { isa, dots, convolutions, denormals, threads } }
    }

    /// With code of an instruction-set level, and with its instructions alone; without this, of the highest that the machine runs.
    ///
    /// # Errors
    /// If this machine does not run it.
    pub fn with_isa(self, isa: Isa) -> Result<Self, Error> {
        if isa.is_available() {
            return Ok(Self { how: How { isa, dots: Dots::Plain, ..self.how }, ..self });
        }
        Err(Error::new(format!("this machine does not run code of level {isa}; the highest that it runs is {}", Isa::detect())))
    }

    /// The instruction-set level of the code that it makes.
    #[must_use]
    pub const fn isa(&self) -> Isa {
        self.how.isa
    }

    /// With these instructions for products of narrow elements; without this, and without [`Cpu::with_isa`], with the machine's fastest.
    ///
    /// # Errors
    /// If this machine does not run them, or the level of the code is too low for them.
    pub fn with_dots(self, dots: Dots) -> Result<Self, Error> {
        if dots.is_available(self.how.isa) {
            return Ok(Self { how: How { dots, ..self.how }, ..self });
        }
        let isa = self.how.isa;
        Err(Error::new(format!("this machine does not run {dots} instructions for products in code of level {isa}")))
    }

    /// The instructions for products of narrow elements in the code that it makes.
    #[must_use]
    pub const fn dots(&self) -> Dots {
        self.how.dots
    }

    /// With convolutions computed in this way; without this, as sums of products.
    #[must_use]
    pub fn with_convolutions(self, convolutions: Convolutions) -> Self {
        Self { how: How { convolutions, ..self.how }, ..self }
    }

    /// How code that it makes computes convolutions.
    #[must_use]
    pub const fn convolutions(&self) -> Convolutions {
        self.how.convolutions
    }

    /// With denormals kept or flushed to zeros; without this, kept.
    ///
    /// # Errors
    /// If processors of this architecture cannot flush them.
    pub fn with_denormals(self, denormals: Denormals) -> Result<Self, Error> {
        if denormals.is_available() {
            return Ok(Self { how: How { denormals, ..self.how }, ..self });
        }
        Err(Error::new(format!("denormals cannot be {denormals} on {}; they are kept there", std::env::consts::ARCH)))
    }

    /// What becomes of denormals in code that it makes.
    #[must_use]
    pub const fn denormals(&self) -> Denormals {
        self.how.denormals
    }
}

impl Backend for Cpu {
    fn describe(&self) -> Target {
        Target {
            name: "cpu".to_owned(),
            lanes: self.how.isa.lanes(),
            threads: self.pool.threads(),
            cache_bytes: 1 << 20,
            alignment: memory::ALIGNMENT,
            channels_last: true,
            fused_epilogues: true,
            attends: true,
            attends_across: true,
            sums_across_rows: true,
        }
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        self.compile_beside(&program, &|| Arc::clone(&program))
    }

    fn compile_beside(&self, unplaced: &Program, plan: &(dyn Fn() -> Arc<Program> + Sync)) -> Result<Arc<dyn Executable>, Error> {
        let (program, kernels, code) = compile::compile(unplaced, plan, self.how, self.pool.as_ref())?;
        Ok(Arc::new(exec::CpuExecutable::new(program, kernels, code, Arc::clone(&self.pool), self.how)))
    }
}
