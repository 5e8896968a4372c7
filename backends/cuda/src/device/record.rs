//! An entry for one set of sizes, recorded as a graph: inputs from pinned memory to the GPU, launches, results back. The state is
//! where its arrays are, and what a call works in is the workspace's; in other places it is recorded anew. Replaying is one call of
//! the driver. Where values decide what happens there is no graph.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use graver_ir::kernel::{Launch, Place, launches};
use graver_ir::{Array, Error};
use graver_runtime::Binding;

use super::exec::CudaExecutable;
use super::memory::{DeviceMemory, HostMemory};
use super::{Context, driver_error};
use crate::steps::{self, At, Machine};

/// Blocks for each multiprocessor at most; more go round in turns.
const BLOCKS: usize = 32;
/// The same where each works in memory of its own.
const SCRATCH_BLOCKS: usize = 4;
/// Launches of a graph at most; longer loops are launched one by one.
const MOST_RECORDED: usize = 4096;

/// An array on both sides.
#[derive(Debug)]
struct Mirror {
    host: HostMemory,
    device: DeviceMemory,
}

impl Mirror {
    fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        Ok(Self { host: HostMemory::new(context, bytes)?, device: DeviceMemory::new(context, bytes)? })
    }
}

/// Where a call finds what is not its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// By slot of the state.
    pub(super) state: Vec<sys::CUdeviceptr>,
    pub(super) arena: sys::CUdeviceptr,
    pub(super) scratch: sys::CUdeviceptr,
}

/// A recorded entry and the memory of its own that it is recorded over.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) binding: Binding,
    /// Bytes that its launches work in besides the arena.
    pub(super) scratch: usize,
    inputs: Vec<Mirror>,
    outputs: Vec<Mirror>,
    /// Of the last call, and of the graph.
    places: Places,
    status: Mirror,
    stream: sys::CUstream,
    /// Null where values decide what happens, so that a call is launched step by step, and before the first call.
    graph: sys::CUgraphExec,
    records: bool,
    context: Arc<Context>,
}

// SAFETY: handles of the driver may be used from any thread, one at a time.
unsafe impl Send for Recorded {}

impl Recorded {
    pub(super) fn new(executable: &CudaExecutable, binding: Binding, inputs: &[&Array]) -> Result<Self, Error> {
        let context = &executable.context;
        context.enter()?;
        let program = executable.program.as_ref();
        let entry = &program.entries[binding.entry];
        let length = |id: &graver_ir::kernel::BufferId| binding.lengths[id.0 as usize];
        let mut scratch = 0;
        for launch in launches(&entry.steps) {
            scratch = scratch.max(Grids::of(executable, launch, &binding)?.scratch);
        }
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        let records = !steps::decides(&entry.steps) && steps::count(&entry.steps, &binding)? <= MOST_RECORDED;
        Ok(Self {
            inputs: inputs.iter().map(|input| Mirror::new(context, input.bytes().len())).collect::<Result<_, _>>()?,
            outputs: entry.outputs.iter().map(|id| Mirror::new(context, length(id))).collect::<Result<_, _>>()?,
            places: Places::default(),
            status: Mirror::new(context, 8)?,
            scratch,
            stream: stream.map_err(|error| driver_error("the GPU gives no stream", &error))?,
            graph: std::ptr::null_mut(),
            records,
            context: Arc::clone(context),
            binding,
        })
    }

    /// Replays it over these places. State is written only where nothing failed; gives the status word.
    pub(super) fn run(
        &mut self,
        executable: &CudaExecutable,
        inputs: &[&Array],
        outputs: &mut [Array],
        places: Places,
    ) -> Result<u64, Error> {
        self.context.enter()?;
        if self.places != places || (self.records && self.graph.is_null()) {
            self.places = places;
            self.forget();
            if self.records {
                self.graph = self.record(executable)?;
            }
        }
        for (mirror, input) in self.inputs.iter_mut().zip(inputs) {
            mirror.host.bytes_mut().copy_from_slice(input.bytes());
        }
        let failed = |error: DriverError| driver_error("a call on the GPU failed", &error);
        if self.graph.is_null() {
            self.enqueue(executable)?;
        } else {
            // SAFETY: the graph and its stream live, and so does all memory that it names.
            unsafe { result::graph::launch(self.graph, self.stream) }.map_err(failed)?;
        }
        // SAFETY: the stream lives.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed)?;
        let status = u64::from_ne_bytes(self.status.host.bytes()[..8].try_into().expect("a status word is 8 bytes"));
        if status == u64::MAX {
            for (mirror, output) in self.outputs.iter().zip(outputs) {
                output.bytes_mut().copy_from_slice(mirror.host.bytes());
            }
        }
        Ok(status)
    }

    fn record(&mut self, executable: &CudaExecutable) -> Result<sys::CUgraphExec, Error> {
        let failed = |error: DriverError| driver_error("a call cannot be recorded for the GPU", &error);
        // SAFETY: the stream is this entry's own; what is captured names memory that lives as long as the graph.
        unsafe {
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            result::stream::begin_capture(self.stream, mode).map_err(failed)?;
            // A capture that was begun is ended whatever happens.
            let captured = self.enqueue(executable);
            let graph = result::stream::end_capture(self.stream).map_err(failed);
            let graph = captured.and(graph)?;
            let instance = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            result::graph::destroy(graph).map_err(failed)?;
            instance.map_err(failed)
        }
    }

    /// All of a call in the order of the stream.
    fn enqueue(&mut self, executable: &CudaExecutable) -> Result<(), Error> {
        let copy = |error: DriverError| driver_error("a copy cannot be made on the GPU", &error);
        for mirror in self.inputs.iter().filter(|mirror| !mirror.host.bytes().is_empty()) {
            // SAFETY: both sides have the length, and live as long as the graph.
            unsafe { result::memcpy_htod_async(mirror.device.pointer, mirror.host.bytes(), self.stream) }.map_err(copy)?;
        }
        // SAFETY: the status word is 8 bytes on the GPU.
        unsafe { result::memset_d8_async(self.status.device.pointer, 0xff, 8, self.stream) }.map_err(copy)?;
        steps::run(&executable.program, &self.binding, &mut Queue { executable, recorded: self })?;
        let stream = self.stream;
        for mirror in self.outputs.iter_mut().chain([&mut self.status]) {
            if !mirror.host.bytes().is_empty() {
                // SAFETY: as above.
                unsafe { result::memcpy_dtoh_async(mirror.host.bytes_mut(), mirror.device.pointer, stream) }.map_err(copy)?;
            }
        }
        Ok(())
    }

    /// The address of the memory that was planned for a buffer.
    fn address(&self, executable: &CudaExecutable, buffer: usize) -> sys::CUdeviceptr {
        match &executable.program.entries[self.binding.entry].buffers[buffer].place {
            Place::Input(input) => self.inputs[*input].device.pointer,
            Place::Output(output) => self.outputs[*output].device.pointer,
            Place::State(slot) => self.places.state[slot.0 as usize],
            Place::Const(place) => executable.consts[*place].pointer,
            Place::Arena(_) => self.places.arena + u64::try_from(self.binding.offsets[buffer]).expect("64 bits"),
            Place::Unplaced => unreachable!("a binding is of a planned program"),
        }
    }
}

/// The stream of an entry, in a capture or not.
struct Queue<'a> {
    executable: &'a CudaExecutable,
    recorded: &'a Recorded,
}

impl Queue<'_> {
    fn address(&self, at: At) -> sys::CUdeviceptr {
        self.recorded.address(self.executable, at.memory) + u64::try_from(at.offset).expect("64 bits")
    }
}

impl Machine for Queue<'_> {
    fn launch(&mut self, number: u32, launch: &Launch, args: &[At]) -> Result<(), Error> {
        let (recorded, kernel) = (self.recorded, &self.executable.functions[launch.kernel.0 as usize]);
        let grids = Grids::of(self.executable, launch, &recorded.binding)?;
        let mut pointers: Vec<sys::CUdeviceptr> = args.iter().map(|at| self.address(*at)).collect();
        let symbols = kernel.emitted.symbols.iter();
        let mut sizes: Vec<i64> = symbols.map(|symbol| recorded.binding.sizes.get(symbol.name()).copied().unwrap_or(0)).collect();
        let (mut fixed, mut number) = ([recorded.places.scratch, recorded.status.device.pointer], number);
        // In the order of the functions' parameters: arguments, sizes, scratch, status, the launch's number.
        let mut parameters: Vec<*mut c_void> = pointers.iter_mut().map(|pointer| (&raw mut *pointer).cast()).collect();
        parameters.extend(sizes.iter_mut().map(|size| (&raw mut *size).cast::<c_void>()));
        parameters.extend(fixed.iter_mut().map(|pointer| (&raw mut *pointer).cast::<c_void>()));
        parameters.push((&raw mut number).cast());
        for ((phase, handle), blocks) in kernel.emitted.phases.iter().zip(&kernel.handles).zip(grids.blocks) {
            if blocks == 0 {
                continue;
            }
            let grid = (u32::try_from(blocks).unwrap_or(u32::MAX), 1, 1);
            // SAFETY: the parameters are those that the function declares, over memory that lives as long as the graph.
            let launched =
                unsafe { result::launch_kernel(*handle, grid, (phase.threads, 1, 1), 0, recorded.stream, &mut parameters) };
            launched.map_err(|error| driver_error(&format!("kernel {} cannot be launched", phase.name), &error))?;
        }
        Ok(())
    }

    fn holds(&mut self, at: At) -> Result<Option<bool>, Error> {
        let failed = |error: DriverError| driver_error("a condition cannot be read from the GPU", &error);
        let (mut status, mut byte) = ([0u8; 8], [0u8; 1]);
        // SAFETY: the stream is idle after the wait; the status word is 8 bytes, the condition one inside of its buffer.
        unsafe {
            result::stream::synchronize(self.recorded.stream).map_err(failed)?;
            result::memcpy_dtoh_sync(&mut status, self.recorded.status.device.pointer).map_err(failed)?;
            result::memcpy_dtoh_sync(&mut byte, self.address(at)).map_err(failed)?;
        }
        Ok((status == [0xff; 8]).then_some(byte[0] != 0))
    }
}

/// How a launch is spread.
struct Grids {
    /// Blocks of each phase.
    blocks: Vec<usize>,
    /// Bytes that it works in.
    scratch: usize,
}

impl Grids {
    fn of(executable: &CudaExecutable, launch: &Launch, binding: &Binding) -> Result<Self, Error> {
        let kernel = &executable.functions[launch.kernel.0 as usize].emitted;
        let most = |in_scratch| most_blocks(&executable.context, in_scratch);
        let (blocks, scratch) = kernel.spread(&binding.sizes, most)?;
        Ok(Self { blocks, scratch })
    }
}

/// Blocks of any launch at most.
pub(super) fn most_blocks(context: &Context, in_scratch: bool) -> usize {
    context.processors * if in_scratch { SCRATCH_BLOCKS } else { BLOCKS }
}

impl Recorded {
    /// Lets go of what was recorded. The context is this thread's, and the stream is idle, since calls wait for it.
    fn forget(&mut self) {
        if !self.graph.is_null() {
            // SAFETY: it was made once, and is not used again. Nothing can be done about a driver that is gone.
            let _ = unsafe { result::graph::exec_destroy(self.graph) };
            self.graph = std::ptr::null_mut();
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // Nothing can be done about a driver that is gone.
        if self.context.enter().is_ok() {
            self.forget();
            // SAFETY: it was made once; it is idle, since calls wait for it.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
    }
}
