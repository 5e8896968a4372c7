//! What a workspace holds on a GPU: a stream, the memory that its calls work in one after the other, and what was recorded.

use std::sync::Arc;

use cudarc::driver::sys::CUstream;
use graver_ir::{Array, Error};
use graver_runtime::{Binding, Device, Wrote};

use super::Context;
use super::driver::{self, DriverError};
use super::exec::CudaExecutable;
use super::fault::driver_error;
use super::memory::{DeviceMemory, Mirror, at_least};
use super::pool::Piece;
use super::record::{Bound, Places, Source};

/// Sets of sizes that a workspace remembers.
const REMEMBERED: usize = 8;
/// Bytes of a result up to which it is copied to memory of its own after the call. Larger ones are written there; then a call whose
/// caller keeps earlier results finds other places, and is recorded later or not at all.
const HANDED_OVER: usize = 1 << 16;

/// Made at the first call.
#[derive(Default)]
pub(super) struct Space {
    parts: Option<Parts>,
}

impl graver_runtime::Space for Space {
    /// What `working_bytes` foretells: not the copies of inputs and of small results, which are kept on the GPU as well.
    fn bytes(&self) -> usize {
        let parts = self.parts.iter().flat_map(|parts| [&parts.arena, &parts.scratch]);
        parts.flatten().map(DeviceMemory::bytes).sum()
    }
}

impl Space {
    pub(super) fn parts(&mut self, context: &Arc<Context>) -> Result<&mut Parts, Error> {
        let parts = match self.parts.take() {
            Some(parts) => parts,
            None => Parts::new(context)?,
        };
        Ok(self.parts.insert(parts))
    }
}

pub(super) struct Parts {
    /// The latest first.
    bound: Vec<Bound>,
    /// By input: where it goes if it is not on the GPU already.
    inputs: Vec<Option<Mirror>>,
    /// By result: where it comes from if it is small.
    results: Vec<Option<DeviceMemory>>,
    arena: Option<DeviceMemory>,
    scratch: Option<DeviceMemory>,
    status: Mirror,
    stream: Stream,
}

impl Parts {
    fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let stream = Stream::new(context)?;
        let (bound, inputs, results) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { bound, inputs, results, arena: None, scratch: None, status: Mirror::new(context, 8)?, stream })
    }

    /// The entry for these inputs' sizes, which [`Parts::run`] runs next.
    pub(super) fn bind(&mut self, executable: &CudaExecutable, entry: usize, inputs: &[&Array]) -> Result<Arc<Binding>, Error> {
        let known = self.bound.iter().position(|bound| bound.binding.fits(&executable.program, entry, inputs));
        let bound = match known {
            Some(place) => self.bound.remove(place),
            None => {
                let bound = Bound::new(executable, Binding::new(&executable.program, entry, inputs)?)?;
                self.bound.truncate(REMEMBERED - 1);
                bound
            }
        };
        self.bound.insert(0, bound);
        Ok(Arc::clone(&self.bound[0].binding))
    }

    /// Where what was bound is to run, over the state at these places, and memory for its results.
    pub(super) fn places(
        &mut self,
        executable: &CudaExecutable,
        inputs: &[&Array],
        state: Vec<Piece>,
    ) -> Result<(Places, Vec<DeviceMemory>), Error> {
        let context = &executable.context;
        let lengths = self.bound[0].results(executable);
        let results = lengths.into_iter().map(|bytes| DeviceMemory::new(context, bytes)).collect::<Result<Vec<_>, _>>()?;
        let sources = self.sources(executable, inputs)?;
        self.results.resize_with(self.results.len().max(results.len()), || None);
        let place = |(own, result): (&mut Option<DeviceMemory>, &DeviceMemory)| match result.bytes() <= HANDED_OVER {
            true => at_least(own, context, result.bytes()).map(|memory| memory.piece),
            false => Ok(result.piece),
        };
        let bound = &self.bound[0];
        let places = Places {
            inputs: sources,
            results: self.results.iter_mut().zip(&results).map(place).collect::<Result<_, _>>()?,
            state,
            arena: at_least(&mut self.arena, context, bound.binding.arena)?.piece,
            scratch: at_least(&mut self.scratch, context, bound.scratch)?.piece,
            status: self.status.device.piece,
        };
        Ok((places, results))
    }

    /// Runs what was bound at its places: the results, or the status word of a failure; and says what that did to the state. After a driver's
    /// error what was launched before it has been done, as far as a wait says so.
    pub(super) fn run(
        &mut self,
        executable: &CudaExecutable,
        (places, results): (Places, Vec<DeviceMemory>),
        wrote: &mut Wrote,
    ) -> Result<Result<Vec<DeviceMemory>, u64>, Error> {
        let begun = self.bound[0].launch(executable, &self.stream, places, wrote).and_then(|places| {
            let failed = |error| driver_error("a result cannot be copied on the GPU", &error);
            for (result, from) in results.iter().zip(&places.results).filter(|(result, from)| result.piece != **from) {
                if result.bytes() > 0 {
                    // SAFETY: both have so many bytes, and live until the stream was waited for.
                    let copied = unsafe {
                        driver::enqueue_copy_within(result.piece.pointer, from.pointer, result.bytes(), self.stream.handle)
                    };
                    copied.map_err(failed)?;
                }
            }
            // SAFETY: the status word is 8 bytes on both sides.
            let copied =
                unsafe { driver::enqueue_copy_out(self.status.host.bytes_mut(), places.status.pointer, self.stream.handle) };
            Ok(copied.map_err(failed)?)
        });
        // Also after an error: what was begun works in memory that may be let go of now.
        let waited = self.stream.wait();
        if let Err(error) = waited {
            // What a fault stops is told of a later call of the driver's, too.
            let told = self.bound[0].failed(executable, &error);
            if *wrote != Wrote::Nothing {
                // After a fault all is lost, and says so itself.
                *wrote = if executable.context.fault.check().is_err() { Wrote::All } else { Wrote::Part };
            }
            return Err(told.into());
        }
        begun?;
        let status = u64::from_ne_bytes(self.status.host.bytes()[..8].try_into().expect("a status word is 8 bytes"));
        if status == u64::MAX {
            return Ok(Ok(results));
        }
        *wrote = Wrote::Nothing;
        Ok(Err(status))
    }

    /// Where the inputs are on the GPU, or come from pinned memory.
    fn sources(&mut self, executable: &CudaExecutable, inputs: &[&Array]) -> Result<Vec<Source>, Error> {
        self.inputs.resize_with(self.inputs.len().max(inputs.len()), || None);
        let source = |(mirror, input): (&mut Option<Mirror>, &&Array)| {
            if let Some(memory) = input.remote::<DeviceMemory>().filter(|memory| executable.owns(memory)) {
                return Ok(Source::there(memory.piece));
            }
            let bytes = input.fetch()?.bytes();
            let mirror = Mirror::at_least(mirror, &executable.context, bytes.len())?;
            mirror.host.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            Ok(Source::pinned(mirror, bytes.len()))
        };
        self.inputs.iter_mut().zip(inputs).map(source).collect()
    }
}

/// Work in order.
pub(super) struct Stream {
    pub(super) handle: CUstream,
    context: Arc<Context>,
}

// SAFETY: handles of the driver may be used from any thread, one at a time.
unsafe impl Send for Stream {}

impl Stream {
    pub(super) fn new(context: &Arc<Context>) -> Result<Self, Error> {
        context.enter()?;
        let handle = context.making_room(driver::create_stream);
        let handle = handle.map_err(|error| driver_error("the GPU gives no stream", &error))?;
        Ok(Self { handle, context: Arc::clone(context) })
    }

    /// Until all of it is done.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the stream lives.
        unsafe { driver::wait(self.handle) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.context.leave();
        // SAFETY: it was made once; it is idle, since calls wait for it.
        let _ = unsafe { driver::destroy_stream(self.handle) };
    }
}
