//! An entry for one set of sizes. What is met for the first time, sizes or places, is put on the stream launch by launch; what comes
//! again is recorded as a graph, and replayed by one call of the driver. Where values decide what happens there is no graph, nor where
//! the driver makes none.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{CUdeviceptr, CUgraphExec};
use graver_ir::kernel::{Launch, Place, launches};
use graver_ir::{Diag, Error, Loc};
use graver_runtime::{Binding, Wrote};

use super::Context;
use super::compile::Module;
use super::driver::{self, DriverError};
use super::exec::CudaExecutable;
use super::fault::{driver_error, is_fault};
use super::memory::Mirror;
use super::pool::Piece;
use super::space::Stream;
use crate::emit::Grid;
use crate::steps::{self, At, Machine};

/// Blocks for each multiprocessor at most; more go round in turns.
const BLOCKS: usize = 32;
/// The same where each works in memory of its own.
const SCRATCH_BLOCKS: usize = 4;
/// Launches of a graph at most; longer loops are launched one by one.
const MOST_RECORDED: usize = 4096;
/// Places that a set of sizes remembers: callers that hold an earlier result, or change between states, find a few in turns.
const REMEMBERED: usize = 4;

/// Kernels that an error names at most.
const MOST_TOLD: usize = 8;

/// Where a call finds what is not its own: a graph is of one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) inputs: Vec<Source>,
    pub(super) results: Vec<Piece>,
    /// By slot of the state.
    pub(super) state: Vec<Piece>,
    pub(super) arena: Piece,
    pub(super) scratch: Piece,
    pub(super) status: Piece,
}

/// Where an input is, and where it comes from if it is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    device: Piece,
    /// Pinned memory, and how many bytes of it.
    host: Option<(Piece, usize)>,
}

impl Source {
    pub(super) fn there(device: Piece) -> Self {
        Self { device, host: None }
    }

    /// From so many bytes of pinned memory, which is there while the workspace's mirror is.
    pub(super) fn pinned(mirror: &Mirror, bytes: usize) -> Self {
        Self { device: mirror.device.piece, host: Some((mirror.host.piece(), bytes)).filter(|_| bytes > 0) }
    }
}

/// An entry for one set of sizes.
pub(super) struct Bound {
    pub(super) binding: Arc<Binding>,
    /// Bytes that its launches work in besides the arena.
    pub(super) scratch: usize,
    /// Whether what comes again is recorded: not any more once the driver has refused a graph.
    records: bool,
    /// The latest first.
    seen: Vec<Seen>,
}

/// Places that were met, and what was recorded when they came again.
struct Seen {
    places: Places,
    graph: Option<Graph>,
}

impl Bound {
    pub(super) fn new(executable: &CudaExecutable, binding: Binding) -> Result<Self, Error> {
        let entry = &executable.program.entries[binding.entry];
        let mut scratch = 0;
        for launch in launches(&entry.steps) {
            scratch = scratch.max(Grids::of(executable, launch, &binding)?.scratch);
        }
        let records = !executable.context.blocking
            && !steps::decides(&entry.steps)
            && steps::count(&entry.steps, &binding)? <= MOST_RECORDED;
        Ok(Self { binding: Arc::new(binding), scratch, records, seen: Vec::new() })
    }

    /// Bytes of each result.
    pub(super) fn results(&self, executable: &CudaExecutable) -> Vec<usize> {
        let outputs = &executable.program.entries[self.binding.entry].outputs;
        outputs.iter().map(|id| self.binding.lengths[id.0 as usize]).collect()
    }

    /// What the user is told when waiting for it fails: what was launched, each kernel once.
    pub(super) fn failed(&self, executable: &CudaExecutable, error: &DriverError) -> Diag {
        let entry = &executable.program.entries[self.binding.entry];
        let mut kernels: Vec<String> = Vec::new();
        for launch in launches(&entry.steps) {
            let (name, loc) = of_launch(executable, launch);
            let kernel = if loc.place().is_some() { format!("{name} ({loc})") } else { name.to_owned() };
            if !kernels.contains(&kernel) {
                kernels.push(kernel);
            }
        }
        let more = kernels.len().saturating_sub(MOST_TOLD);
        kernels.truncate(MOST_TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let which = if kernels.len() == 1 { "its kernel" } else { "one of its kernels," };
        let kernels = format!("{which} {}{more}", kernels.join(", "));
        executable.context.fault.of_entry(&entry.name, &kernels, error)
    }

    /// Puts the call on a stream over these places, which it gives back, and says what of it writes to the state if no check fails.
    pub(super) fn launch(
        &mut self,
        executable: &CudaExecutable,
        stream: &Stream,
        places: Places,
        wrote: &mut Wrote,
    ) -> Result<&Places, Error> {
        executable.context.enter()?;
        let known = self.seen.iter().position(|seen| seen.places == places);
        let mut seen = match known {
            Some(place) => self.seen.remove(place),
            None => Seen { places, graph: None },
        };
        let queue =
            |recording| Queue { executable, binding: &self.binding, places: &seen.places, stream, recording, begun: false };
        if known.is_some() && self.records && seen.graph.is_none() {
            seen.graph = Graph::record(&mut queue(true))?;
            self.records = seen.graph.is_some();
        }
        match &seen.graph {
            Some(graph) => *wrote = graph.replay(stream).inspect_err(|_| self.records = false)?,
            None => queue(false).all(wrote)?,
        }
        self.seen.truncate(REMEMBERED - 1);
        self.seen.insert(0, seen);
        Ok(&self.seen[0].places)
    }
}

/// Work that was recorded.
struct Graph {
    handle: CUgraphExec,
    /// What a replay does to the state if no check fails.
    wrote: Wrote,
    context: Arc<Context>,
    /// Of the kernels in it. A workspace may outlive its executable, and a module with a graph over it is not unloaded.
    _modules: Arc<Vec<Module>>,
}

// SAFETY: handles of the driver may be used from any thread, one at a time.
unsafe impl Send for Graph {}

impl Graph {
    /// `None` where the driver makes none, which ends nothing: what a launch is refused for is told of where it is put on the stream itself. The
    /// executable keeps why.
    fn record(queue: &mut Queue<'_>) -> Result<Option<Self>, Error> {
        let (modules, context) = (Arc::clone(&queue.executable.modules), Arc::clone(&queue.executable.context));
        let mut wrote = Wrote::Nothing;
        let why = match Self::instance(queue, &mut wrote) {
            Ok(Ok(handle)) => return Ok(Some(Self { handle, wrote, context, _modules: modules })),
            Ok(Err(refused)) => refused,
            Err(error) => {
                let told = driver_error("a call cannot be recorded for the GPU", &error);
                if is_fault(error) {
                    return Err(told.into());
                }
                told.into()
            }
        };
        queue.executable.unrecorded.get_or_init(|| why.to_string());
        Ok(None)
    }

    /// What can be launched, or what was refused that was to be recorded.
    fn instance(queue: &mut Queue<'_>, wrote: &mut Wrote) -> Result<Result<CUgraphExec, Error>, DriverError> {
        let stream = queue.stream.handle;
        // SAFETY: the stream is this workspace's own; what is captured names memory that is there whenever the graph is replayed,
        // since it is replayed over these places only.
        unsafe {
            driver::begin_capture(stream)?;
            // A capture that was begun is ended whatever happens.
            let captured = queue.all(wrote);
            let graph = driver::end_capture(stream);
            if let Err(refused) = captured {
                // Then there may be a draft or none.
                let _ = graph.map(|graph| driver::destroy_graph(graph));
                return Ok(Err(refused));
            }
            let graph = graph?;
            // A graph takes memory.
            let instance = queue.executable.context.making_room(|| driver::instantiate(graph));
            // What was recorded is good whether or not its draft goes.
            let _ = driver::destroy_graph(graph);
            instance.map(Ok)
        }
    }

    fn replay(&self, stream: &Stream) -> Result<Wrote, Diag> {
        // SAFETY: the graph and the stream live, and so does all memory that it names.
        let launched = self.context.making_room(|| unsafe { driver::launch_graph(self.handle, stream.handle) });
        launched.map_err(|error| driver_error("a call on the GPU failed", &error))?;
        Ok(self.wrote)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.context.leave();
        // SAFETY: it was made once; its stream is idle, since calls wait for it.
        let _ = unsafe { driver::destroy_instance(self.handle) };
    }
}

/// A call on its way to a stream, in a capture or not.
struct Queue<'a> {
    executable: &'a CudaExecutable,
    binding: &'a Binding,
    places: &'a Places,
    stream: &'a Stream,
    /// Memory is not given back meanwhile: that would end the capture.
    recording: bool,
    /// A launch was put on the stream that may write to the state.
    begun: bool,
}

impl Queue<'_> {
    /// All of it in the order of the stream.
    fn all(&mut self, wrote: &mut Wrote) -> Result<(), Error> {
        let copy = |error: DriverError| driver_error("a copy cannot be made on the GPU", &error);
        let stream = self.stream.handle;
        for source in &self.places.inputs {
            let Some((host, length)) = source.host else { continue };
            let address = usize::try_from(host.pointer).expect("it was an address");
            // SAFETY: the workspace's pinned memory has the length, and is not touched until the stream was waited for.
            let pinned = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(address), length) };
            // SAFETY: both sides have the length.
            unsafe { driver::enqueue_copy_in(source.device.pointer, pinned, stream) }.map_err(copy)?;
        }
        // SAFETY: the status word is 8 bytes on the GPU.
        unsafe { driver::enqueue_set(self.places.status.pointer, 0xff, 8, stream) }.map_err(copy)?;
        steps::run(&self.executable.program, self.binding, self, wrote)
    }

    /// The address of the memory that was planned for a buffer.
    fn address(&self, at: At) -> CUdeviceptr {
        let places = self.places;
        let begin = match &self.executable.program.entries[self.binding.entry].buffers[at.memory].place {
            Place::Input(input) => places.inputs[*input].device.pointer,
            Place::Output(output) => places.results[*output].pointer,
            Place::State(slot) => places.state[slot.0 as usize].pointer,
            Place::Const(place) => self.executable.consts[*place].piece.pointer,
            Place::Arena(_) => places.arena.pointer + u64::try_from(self.binding.offsets[at.memory]).expect("64 bits"),
            Place::Unplaced => unreachable!("a binding is of a planned program"),
        };
        begin + u64::try_from(at.offset).expect("64 bits")
    }
}

impl Machine for Queue<'_> {
    fn launch(&mut self, number: u32, launch: &Launch, args: &[At]) -> Result<(), Error> {
        let kernel = &self.executable.functions[launch.kernel.0 as usize];
        let grids = Grids::of(self.executable, launch, self.binding)?;
        let writes_state = steps::writes_state(&self.executable.program.entries[self.binding.entry], &kernel.emitted, args);
        let mut pointers: Vec<CUdeviceptr> = args.iter().map(|at| self.address(*at)).collect();
        let mut sizes = steps::sizes_of(&kernel.emitted.symbols, self.binding)?;
        let (mut fixed, mut number) = ([self.places.scratch, self.places.status].map(|piece| piece.pointer), number);
        // In the order of the functions' parameters: arguments, sizes, scratch, status, the launch's number.
        let mut parameters: Vec<*mut c_void> = pointers.iter_mut().map(|pointer| (&raw mut *pointer).cast()).collect();
        parameters.extend(sizes.iter_mut().map(|size| (&raw mut *size).cast::<c_void>()));
        parameters.extend(fixed.iter_mut().map(|pointer| (&raw mut *pointer).cast::<c_void>()));
        parameters.push((&raw mut number).cast());
        for ((phase, handle), Grid { blocks, dynamic }) in kernel.emitted.phases.iter().zip(&kernel.handles).zip(grids.grids) {
            if blocks == 0 {
                continue;
            }
            let dynamic = u32::try_from(dynamic).expect("no more than a block has");
            let grid = (u32::try_from(blocks).unwrap_or(u32::MAX), phase.threads, dynamic);
            // SAFETY: the parameters are those that the function declares, over memory that lives until the stream was waited for.
            let mut launch_it = || unsafe { driver::launch(*handle, grid, self.stream.handle, &mut parameters) };
            let launched = if self.recording { launch_it() } else { self.executable.context.making_room(launch_it) };
            let (name, loc) = of_launch(self.executable, launch);
            launched.map_err(|error| driver_error(&format!("kernel {name} cannot be launched"), &error).at(loc))?;
            if writes_state {
                self.begun = true;
            }
            if self.executable.context.blocking {
                self.stream.wait().map_err(|error| self.executable.context.fault.of_kernel(name, loc, &error))?;
            }
        }
        Ok(())
    }

    fn holds(&mut self, at: At) -> Result<Option<bool>, Error> {
        let failed = |error: DriverError| driver_error("a condition cannot be read from the GPU", &error);
        let (mut status, mut byte) = ([0u8; 8], [0u8; 1]);
        self.stream.wait().map_err(failed)?;
        // SAFETY: the stream is idle; the status word is 8 bytes, the condition one inside of its buffer.
        unsafe {
            driver::copy_out(&mut status, self.places.status.pointer).map_err(failed)?;
            driver::copy_out(&mut byte, self.address(at)).map_err(failed)?;
        }
        Ok((status == [0xff; 8]).then_some(byte[0] != 0))
    }

    fn has_begun_to_write(&self) -> bool {
        self.begun
    }
}

/// A launch for people: its kernel's name and the user's line.
fn of_launch<'a>(executable: &'a CudaExecutable, launch: &'a Launch) -> (&'a str, &'a Loc) {
    (&executable.program.kernel(launch.kernel).name, launch.locs.first().unwrap_or(&Loc::UNKNOWN))
}

/// How a launch is spread.
struct Grids {
    /// Of each phase.
    grids: Vec<Grid>,
    /// Bytes that it works in.
    scratch: usize,
}

impl Grids {
    fn of(executable: &CudaExecutable, launch: &Launch, binding: &Binding) -> Result<Self, Error> {
        let kernel = &executable.functions[launch.kernel.0 as usize].emitted;
        let most = |in_scratch| most_blocks(&executable.context, in_scratch);
        let (grids, scratch) = kernel.spread(&binding.sizes, executable.context.shared, most)?;
        Ok(Self { grids, scratch })
    }
}

/// Blocks of any launch at most.
pub(super) fn most_blocks(context: &Context, in_scratch: bool) -> usize {
    context.processors * if in_scratch { SCRATCH_BLOCKS } else { BLOCKS }
}
