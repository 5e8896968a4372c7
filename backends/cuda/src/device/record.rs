//! An entry for one set of sizes, recorded as a graph: inputs and state from pinned memory to the GPU, launches, results and
//! state back. Replaying it is one call of the driver. Where values decide what happens there is no graph.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use graver_ir::kernel::{Launch, Place, launches};
use graver_ir::{Array, Error};
use graver_runtime::{Binding, Slot, written_state};

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

/// A recorded entry and the memory that it is recorded over.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) binding: Binding,
    inputs: Vec<Mirror>,
    outputs: Vec<Mirror>,
    /// By slot: those that the entry touches.
    state: Vec<Option<Mirror>>,
    written: Vec<usize>,
    status: Mirror,
    arena: DeviceMemory,
    scratch: DeviceMemory,
    stream: sys::CUstream,
    /// Null where values decide what happens: then a call is launched step by step.
    graph: sys::CUgraphExec,
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
        let mut state: Vec<Option<Mirror>> = program.state.iter().map(|_| None).collect();
        for (buffer, bytes) in entry.buffers.iter().zip(&binding.lengths) {
            if let Place::State(slot) = buffer.place {
                state[slot.0 as usize] = Some(Mirror::new(context, *bytes)?);
            }
        }
        let mut scratch = 0;
        for launch in launches(&entry.steps) {
            let (blocks, each) = blocks(executable, launch, &binding)?;
            scratch = scratch.max(blocks.saturating_mul(each));
        }
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        let mut recorded = Self {
            inputs: inputs.iter().map(|input| Mirror::new(context, input.bytes().len())).collect::<Result<_, _>>()?,
            outputs: entry.outputs.iter().map(|id| Mirror::new(context, length(id))).collect::<Result<_, _>>()?,
            state,
            written: written_state(program, binding.entry),
            status: Mirror::new(context, 8)?,
            arena: DeviceMemory::new(context, binding.arena)?,
            scratch: DeviceMemory::new(context, scratch)?,
            stream: stream.map_err(|error| driver_error("the GPU gives no stream", &error))?,
            graph: std::ptr::null_mut(),
            context: Arc::clone(context),
            binding,
        };
        if !steps::decides(&entry.steps) && steps::count(&entry.steps, &recorded.binding)? <= MOST_RECORDED {
            recorded.graph = recorded.record(executable)?;
        }
        Ok(recorded)
    }

    /// Bytes that it has on the GPU.
    pub(super) fn bytes(&self) -> usize {
        let mirrors = self.inputs.iter().chain(&self.outputs).chain(self.state.iter().flatten());
        self.binding.arena + mirrors.map(|mirror| mirror.host.bytes().len()).sum::<usize>()
    }

    /// Replays it. State is written only where nothing failed; gives the status word.
    pub(super) fn run(
        &mut self,
        executable: &CudaExecutable,
        inputs: &[&Array],
        outputs: &mut [Array],
        state: &mut [Slot<'_>],
    ) -> Result<u64, Error> {
        self.context.enter()?;
        for (mirror, input) in self.inputs.iter_mut().zip(inputs) {
            mirror.host.bytes_mut().copy_from_slice(input.bytes());
        }
        for (mirror, slot) in self.state.iter_mut().zip(state.iter()) {
            if let Some(mirror) = mirror {
                mirror.host.bytes_mut().copy_from_slice(slot.array().bytes());
            }
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
            for slot in &self.written {
                if let (Some(mirror), Slot::Write(array)) = (&self.state[*slot], &mut state[*slot]) {
                    array.bytes_mut().copy_from_slice(mirror.host.bytes());
                }
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
        let state = self.state.iter().flatten();
        for mirror in self.inputs.iter().chain(state).filter(|mirror| !mirror.host.bytes().is_empty()) {
            // SAFETY: both sides have the length, and live as long as the graph.
            unsafe { result::memcpy_htod_async(mirror.device.pointer, mirror.host.bytes(), self.stream) }.map_err(copy)?;
        }
        // SAFETY: the status word is 8 bytes on the GPU.
        unsafe { result::memset_d8_async(self.status.device.pointer, 0xff, 8, self.stream) }.map_err(copy)?;
        steps::run(&executable.program, &self.binding, &mut Queue { executable, recorded: self })?;
        let (stream, written) = (self.stream, &self.written);
        let state = self.state.iter_mut().enumerate().filter(|(slot, _)| written.contains(slot));
        let state = state.filter_map(|(_, mirror)| mirror.as_mut());
        for mirror in self.outputs.iter_mut().chain(state).chain([&mut self.status]) {
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
            Place::State(slot) => {
                self.state[slot.0 as usize].as_ref().expect("every slot that the entry names has memory").device.pointer
            }
            Place::Const(place) => executable.consts[*place].pointer,
            Place::Arena(_) => self.arena.pointer + u64::try_from(self.binding.offsets[buffer]).expect("64 bits"),
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
        let (blocks, _) = blocks(self.executable, launch, &recorded.binding)?;
        if blocks == 0 {
            return Ok(());
        }
        let mut pointers: Vec<sys::CUdeviceptr> = args.iter().map(|at| self.address(*at)).collect();
        let symbols = kernel.emitted.symbols.iter();
        let mut sizes: Vec<i64> = symbols.map(|symbol| recorded.binding.sizes.get(symbol.name()).copied().unwrap_or(0)).collect();
        let (mut fixed, mut number) = ([recorded.scratch.pointer, recorded.status.device.pointer], number);
        // In the order of the function's parameters: arguments, sizes, scratch, status, the launch's number.
        let mut parameters: Vec<*mut c_void> = pointers.iter_mut().map(|pointer| (&raw mut *pointer).cast()).collect();
        parameters.extend(sizes.iter_mut().map(|size| (&raw mut *size).cast::<c_void>()));
        parameters.extend(fixed.iter_mut().map(|pointer| (&raw mut *pointer).cast::<c_void>()));
        parameters.push((&raw mut number).cast());
        let grid = (u32::try_from(blocks).unwrap_or(u32::MAX), 1, 1);
        let block = (kernel.emitted.threads, 1, 1);
        // SAFETY: the parameters are those that the function declares, over memory that lives as long as the graph.
        let launched = unsafe { result::launch_kernel(kernel.handle, grid, block, 0, recorded.stream, &mut parameters) };
        launched.map_err(|error| driver_error(&format!("kernel {} cannot be launched", kernel.emitted.name), &error))
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

/// Blocks of a launch, and the bytes that each works in.
fn blocks(executable: &CudaExecutable, launch: &Launch, binding: &Binding) -> Result<(usize, usize), Error> {
    let kernel = &executable.functions[launch.kernel.0 as usize].emitted;
    let (wanted, each) = (binding.size(&kernel.blocks)?, binding.size(&kernel.scratch)?);
    Ok((wanted.min(most_blocks(&executable.context, each > 0)), each))
}

/// Blocks of any launch at most.
pub(super) fn most_blocks(context: &Context, in_scratch: bool) -> usize {
    context.processors * if in_scratch { SCRATCH_BLOCKS } else { BLOCKS }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // Nothing can be done about a driver that is gone.
        if self.context.enter().is_ok() {
            // SAFETY: each was made once; the stream is idle, since calls wait for it.
            unsafe {
                if !self.graph.is_null() {
                    let _ = result::graph::exec_destroy(self.graph);
                }
                let _ = result::stream::destroy(self.stream);
            }
        }
    }
}
