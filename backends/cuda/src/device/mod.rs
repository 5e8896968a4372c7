//! A GPU: found when it is asked for, through libraries that are opened then. Kernels are compiled by NVRTC to machine code,
//! which is kept on disk by its text; an entry at a set of sizes that comes again is one graph, recorded once and replayed.

mod cache;
mod ceilings;
mod compile;
mod driver;
mod exec;
mod fault;
mod memory;
mod pool;
mod record;
mod space;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::sys::{CUcontext, CUdevice, CUdevice_attribute as Attribute, CUresult, CUstream};
use graver_ir::kernel::Program;
use graver_ir::{Diag, Error, Target};
use graver_runtime::{Backend, Executable};

use crate::nvrtc::Nvrtc;
use cache::Cache;
use driver::DriverError;
use fault::{FirstFault, driver_error};
use pool::Pool;

pub use ceilings::Ceilings;
pub use driver::DRIVER_FUNCTIONS;

/// A GPU of this machine.
#[derive(Clone, Debug)]
pub struct Cuda {
    context: Arc<Context>,
    nvrtc: Nvrtc,
}

impl Cuda {
    /// The GPU of this number.
    ///
    /// # Errors
    /// There is no driver, no such GPU, or no NVRTC whose machine code the driver loads: what was looked for, and where. `GRAVER_CUBIN_MIB` is
    /// set to what is no number.
    pub fn new(ordinal: usize) -> Result<Self, Error> {
        let context = Context::of(ordinal)?;
        let version = driver::version().map_err(|error| driver_error("the CUDA driver does not tell its version", &error))?;
        Ok(Self { context, nvrtc: Nvrtc::find_for(version)? })
    }

    /// Its name: `NVIDIA H100 80GB HBM3`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.context.name
    }

    /// Measures how fast it copies, and how fast kernels of nothing else multiply and add: a second or two. With a `shrink` beyond 1, that it can be measured, by that much less work.
    ///
    /// # Errors
    /// It has no 2 GiB left, or the driver fails.
    pub fn ceilings(&self, shrink: u32) -> Result<Ceilings, Error> {
        Ceilings::measure(&self.context, &self.nvrtc, shrink)
    }
}

impl Backend for Cuda {
    fn describe(&self) -> Target {
        crate::target("cuda")
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        Ok(Arc::new(exec::CudaExecutable::new(program, &self.context, &self.nvrtc)?))
    }
}

/// What everybody shares who uses a GPU, whichever [`Cuda`] it was asked for by.
#[derive(Debug)]
struct Context {
    primary: Primary,
    /// Arrays are copied there, and waited for. Whoever waits for the context instead ends what another thread records.
    copies: CUstream,
    name: String,
    /// What NVRTC is asked for.
    architecture: String,
    /// Multiprocessors.
    processors: usize,
    /// Bytes of shared memory that a block may have.
    shared: usize,
    pool: Pool,
    /// Of compiled kernels.
    cache: Cache,
    fault: Arc<FirstFault>,
    /// Every launch is waited for, and nothing is recorded.
    blocking: bool,
}

// SAFETY: the driver may be called from any thread; the context is made current before each call.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// That of a GPU, which is there while somebody uses it.
    fn of(ordinal: usize) -> Result<Arc<Self>, Error> {
        static ALL: Mutex<BTreeMap<usize, Weak<Context>>> = Mutex::new(BTreeMap::new());
        driver::open()?;
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = all.get(&ordinal).and_then(Weak::upgrade) {
            context.fault.check()?;
            return Ok(context);
        }
        let context = Arc::new(Self::new(ordinal)?);
        all.insert(ordinal, Arc::downgrade(&context));
        Ok(context)
    }

    fn new(ordinal: usize) -> Result<Self, Error> {
        let cache = Cache::new()?;
        driver::init().map_err(|error| driver_error("the CUDA driver does not start", &error))?;
        let count = driver::device_count().map_err(|error| driver_error("GPUs cannot be counted", &error))?;
        let number = i32::try_from(ordinal).ok().filter(|number| *number < count);
        let number = number.ok_or_else(|| Error::new(format!("there is no GPU {ordinal}: the CUDA driver sees {count}")))?;
        let failed = |error: DriverError| driver_error(&format!("GPU {ordinal} cannot be used"), &error);
        let device = driver::device(number).map_err(failed)?;
        let fault = FirstFault::of(device);
        fault.check()?;
        let name = driver::device_name(device).map_err(failed)?;
        let attribute = |attribute| driver::device_attribute(device, attribute).map_err(failed);
        let (major, minor) = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let (processors, shared) = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        );
        if major < 8 {
            return Err(Error::new(format!("GPU {ordinal}, {name}, is of compute capability {major}.{minor}; 8.0 is the least")));
        }
        let primary = Primary::retain(device).map_err(failed)?;
        primary.make_current().map_err(failed)?;
        let copies = driver::create_stream().map_err(failed)?;
        let suffix = if (major, minor) == (9, 0) { "a" } else { "" };
        let architecture = format!("sm_{major}{minor}{suffix}");
        Ok(Self {
            primary,
            copies,
            name,
            architecture,
            processors: usize::try_from(processors).unwrap_or(1),
            shared: usize::try_from(shared).unwrap_or(0),
            pool: Pool::default(),
            cache,
            fault,
            blocking: fault::launches_are_waited_for(),
        })
    }

    /// Makes it this thread's.
    fn enter(&self) -> Result<(), Diag> {
        self.fault.check()?;
        self.primary.make_current().map_err(|error| driver_error("the GPU cannot be used", &error))
    }

    /// What the driver gives; where it has no memory for that, once more after what lies idle was given back. The context is this thread's,
    /// which records nothing.
    fn making_room<T>(&self, mut ask: impl FnMut() -> Result<T, DriverError>) -> Result<T, DriverError> {
        ask().or_else(|error| {
            if !error.is(CUresult::CUDA_ERROR_OUT_OF_MEMORY) {
                return Err(error);
            }
            self.pool.empty();
            ask()
        })
    }

    /// Makes it this thread's to let go of something. Nothing can be done about a driver that fails then: it is asked all the same, and
    /// what it says is not heard.
    fn leave(&self) {
        let _ = self.primary.make_current();
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.leave();
        self.pool.empty();
        // SAFETY: it was made once; it is idle, since copies are waited for.
        let _ = unsafe { driver::destroy_stream(self.copies) };
    }
}

/// A GPU's primary context, retained while this lives.
#[derive(Debug)]
struct Primary {
    device: CUdevice,
    context: CUcontext,
}

impl Primary {
    fn retain(device: CUdevice) -> Result<Self, DriverError> {
        Ok(Self { device, context: driver::retain(device)? })
    }

    fn make_current(&self) -> Result<(), DriverError> {
        // SAFETY: the context is retained while this lives.
        unsafe { driver::set_current(self.context) }
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        // SAFETY: it was retained once. Nothing can be done about a driver that is gone.
        let _ = unsafe { driver::release(self.device) };
    }
}
