//! Kernels to functions of a GPU, by way of machine code that is kept on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::sys::{CUfunction, CUmodule};
use graver_ir::kernel::Program;
use graver_ir::{Diag, Error};

use super::Context;
use super::driver;
use super::fault::driver_error;
use crate::emit::{Emitted, Phase, emit, hash, unit};
use crate::nvrtc::{Nvrtc, OPTIONS};
use crate::text::device_prelude;

/// Kernels in one compilation.
const BATCH: usize = 64;

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
    let (mut functions, mut modules) = (Vec::new(), Vec::new());
    for batch in emitted.chunks(BATCH) {
        let start = Instant::now();
        let text = device_prelude() + &unit(batch);
        let module = loaded(&text, context, nvrtc)?;
        let took = start.elapsed() / u32::try_from(batch.len()).unwrap_or(1);
        let handle = |phase: &Phase| {
            // SAFETY: the module is loaded.
            let handle = unsafe { driver::function(module.handle, &phase.name) };
            let handle = handle.map_err(|error| driver_error(&format!("kernel {} is not in its module", phase.name), &error))?;
            grant(phase, handle, context)?;
            Ok(handle)
        };
        for kernel in batch {
            let handles = kernel.phases.iter().map(handle).collect::<Result<_, Error>>()?;
            functions.push(Function { emitted: kernel.clone(), handles, took });
        }
        modules.push(module);
    }
    Ok((functions, modules))
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
    if !is_whole(cubin) {
        let bytes = cubin.len();
        return Err(Error::new(format!(
            "kernels cannot be loaded on the GPU: of their machine code there are {bytes} bytes, not all"
        )));
    }
    // SAFETY: the image is an ELF file, whole.
    let handle = unsafe { driver::load_module(cubin) };
    let handle = handle.map_err(|error| driver_error("kernels cannot be loaded on the GPU", &error))?;
    Ok(Module { handle, context: Arc::clone(context) })
}

/// From the disk if the same text was compiled before, and what lies there is whole.
fn loaded(text: &str, context: &Arc<Context>, nvrtc: &Nvrtc) -> Result<Module, Error> {
    let key = format!("{:?} {OPTIONS:?} {} {text}", nvrtc.version(), context.architecture);
    let path = cache_folder().map(|folder| folder.join(format!("{:016x}_{}.cubin", hash(&key), text.len())));
    let kept = path.as_ref().and_then(|path| std::fs::read(path).ok());
    if let Some(module) = kept.and_then(|cubin| load(&cubin, context).ok()) {
        return Ok(module);
    }
    let cubin = nvrtc.compile(text, &context.architecture)?.cubin;
    if let Some(path) = path {
        // A cache that cannot be written costs time, not results.
        let _ = std::fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| crate::write_whole(&path, &cubin));
    }
    load(&cubin, context)
}

/// Whether all of an ELF file is there, which the driver does not ask: it ends with its table of sections, or later.
fn is_whole(cubin: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| {
        let mut digits = cubin.get(at..at + bytes)?.iter().rev();
        digits.try_fold(0usize, |number, byte| number.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    // `e_shoff`, `e_shentsize` and `e_shnum` of a 64-bit header.
    let (Some(offset), Some(size), Some(count)) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2)) else { return false };
    cubin.starts_with(b"\x7fELF") && offset.checked_add(size * count).is_some_and(|end| end <= cubin.len())
}

fn cache_folder() -> Option<PathBuf> {
    crate::nvrtc::cache().map(|cache| cache.join("cubin"))
}
