//! Kernels to functions of a GPU, by way of machine code, which threads make and disks keep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{CUfunction, CUmodule, CUresult};
use graver_ir::kernel::Program;
use graver_ir::{Diag, Error};

use super::Context;
use super::cache::Key;
use super::driver::{self, DriverError};
use super::fault::driver_error;
use crate::emit::{Emitted, Phase, distinct, emit, unit};
use crate::nvrtc::{Nvrtc, is_whole};
use crate::parallel;

/// Kernels in one compilation. What stands before them costs as much as one small kernel, and a program of few has work for several
/// threads; the number is the same on every machine, so that what one of them keeps another finds.
const BATCH: usize = 8;

/// A kernel, loaded.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) emitted: Emitted,
    /// One a phase.
    pub(super) handles: Vec<CUfunction>,
    pub(super) took: Duration,
}

/// Machine code on the GPU.
#[derive(Debug)]
pub(super) struct Module {
    handle: CUmodule,
    context: Arc<Context>,
}

// SAFETY: handles of the driver may be used from any thread, and this one does not change.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    pub(super) fn handle(&self) -> CUmodule {
        self.handle
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        self.context.leave();
        // SAFETY: it was loaded once, and its functions are gone with the executable, and so are graphs of them.
        let _ = unsafe { driver::unload_module(self.handle) };
    }
}

/// Every kernel of a program, in order.
pub(super) fn compile(program: &Program, context: &Arc<Context>, nvrtc: &Nvrtc) -> Result<(Vec<Function>, Vec<Module>), Error> {
    context.enter()?;
    let emitted: Vec<Emitted> = program.kernels.iter().map(emit).collect();
    let all = distinct(&emitted);
    let batches: Vec<&[&Emitted]> = all.chunks(BATCH).collect();
    let codes = parallel::all(batches.len(), |number| Code::new(batches[number], context, nvrtc))?;
    let (mut loaded, mut modules) = (BTreeMap::new(), Vec::new());
    for (batch, code) in batches.iter().zip(&codes) {
        let start = Instant::now();
        let module = code.loaded(context, nvrtc)?;
        let took = (code.took + start.elapsed()) / u32::try_from(batch.len()).unwrap_or(1);
        for kernel in *batch {
            let handles = kernel.phases.iter().map(|phase| handle(phase, &module, context)).collect::<Result<Vec<_>, Error>>()?;
            loaded.insert(kernel.name.as_str(), (handles, took));
        }
        modules.push(module);
    }
    if codes.iter().any(|code| !code.was_kept) {
        context.cache.trim();
    }
    let function = |kernel: &Emitted| {
        let (handles, took) = loaded.get_mut(kernel.name.as_str()).expect("every text is in a batch");
        // The time is the first one's: the others take none.
        Function { emitted: kernel.clone(), handles: handles.clone(), took: std::mem::take(took) }
    };
    Ok((emitted.iter().map(function).collect(), modules))
}

/// Machine code of a batch.
struct Code {
    text: String,
    key: Key,
    cubin: Vec<u8>,
    /// Whether it was compiled before.
    was_kept: bool,
    took: Duration,
}

impl Code {
    /// From the disk if the same text was compiled before, or else by NVRTC.
    fn new(batch: &[&Emitted], context: &Context, nvrtc: &Nvrtc) -> Result<Self, Error> {
        let start = Instant::now();
        let text = unit(batch);
        let key = Key::new(format!("{:?} {:?} {} {text}", nvrtc.version(), nvrtc.options(), context.architecture));
        let kept = context.cache.get(&key);
        let was_kept = kept.is_some();
        let cubin = match kept {
            Some(cubin) => cubin,
            None => made(&text, &key, context, nvrtc)?,
        };
        Ok(Self { text, key, cubin, was_kept, took: start.elapsed() })
    }

    /// On the GPU: compiled again where the driver does not take what was kept for what it is.
    fn loaded(&self, context: &Arc<Context>, nvrtc: &Nvrtc) -> Result<Module, Error> {
        match try_load(&self.cubin, context) {
            Err(refused) if refused.for_what_it_is && self.was_kept => {
                load(&made(&self.text, &self.key, context, nvrtc)?, context)
            }
            outcome => outcome.map_err(|refused| refused.error),
        }
    }
}

/// Machine code by NVRTC, which is kept.
fn made(text: &str, key: &Key, context: &Context, nvrtc: &Nvrtc) -> Result<Vec<u8>, Error> {
    let cubin = nvrtc.compile(text, &context.architecture)?.cubin;
    if is_whole(&cubin) {
        context.cache.put(key, &cubin);
    }
    Ok(cubin)
}

/// A phase's function in its module.
fn handle(phase: &Phase, module: &Module, context: &Context) -> Result<CUfunction, Error> {
    // SAFETY: the module is loaded.
    let handle = context.making_room(|| unsafe { driver::function(module.handle, &phase.name) });
    let handle = handle.map_err(|error| driver_error(&format!("kernel {} is not in its module", phase.name), &error))?;
    grant(phase, handle, context)?;
    Ok(handle)
}

/// Lets launches of a function give it more shared memory than is usual, where it makes use of that.
fn grant(phase: &Phase, handle: CUfunction, context: &Context) -> Result<(), Diag> {
    if phase.dynamic.is(0) {
        return Ok(());
    }
    let most = i32::try_from(phase.granted(context.shared)).unwrap_or(i32::MAX);
    // SAFETY: the function is of a module that is loaded.
    let set = unsafe { driver::grant(handle, most) };
    set.map_err(|error| driver_error(&format!("kernel {} is not granted {most} bytes of shared memory", phase.name), &error))
}

pub(super) fn load(cubin: &[u8], context: &Arc<Context>) -> Result<Module, Error> {
    try_load(cubin, context).map_err(|refused| refused.error)
}

/// Why machine code was not loaded.
struct Refused {
    error: Error,
    /// Whether other code for the same kernels may be taken.
    for_what_it_is: bool,
}

/// What the driver says of code that it does not take for what it is.
const OF_CODE: [CUresult; 5] = [
    CUresult::CUDA_ERROR_INVALID_IMAGE,
    CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU,
    CUresult::CUDA_ERROR_INVALID_SOURCE,
    CUresult::CUDA_ERROR_INVALID_PTX,
    CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
];

fn try_load(cubin: &[u8], context: &Arc<Context>) -> Result<Module, Refused> {
    if !is_whole(cubin) {
        let bytes = cubin.len();
        let message = format!("kernels cannot be loaded on the GPU: of their machine code there are {bytes} bytes, not all");
        return Err(Refused { error: Error::new(message), for_what_it_is: true });
    }
    // SAFETY: the image is an ELF file, whole.
    let handle = context.making_room(|| unsafe { driver::load_module(cubin) });
    let refused = |error: DriverError| Refused {
        for_what_it_is: OF_CODE.iter().any(|of_code| error.is(*of_code)),
        error: driver_error("kernels cannot be loaded on the GPU", &error).into(),
    };
    Ok(Module { handle: handle.map_err(refused)?, context: Arc::clone(context) })
}
