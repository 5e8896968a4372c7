//! Runs entries: pointers are resolved, steps happen in order, and a failure stops before the state is written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use graver_ir::kernel::{Place, Program};
use graver_ir::{Array, DType, Diag, Error, Sizes};
use graver_runtime::{Executable, Failed, Invocation, Owner, Profile, Slot, Stage, Working, Workspace, failure};

use crate::bind::{Bound, BoundPhase};
use crate::codes::Codes;
use crate::compile::CompiledKernel;
use crate::dump;
use crate::emit::jit::Code;
use crate::how::{Denormals, How};
use crate::kept::{Kept, Packed, Shelf};
use crate::memory::Memory;
use crate::mode;
use crate::packs::Packs;
use crate::pool::Parallel;
use crate::room::Room;
use crate::steps::Running;

/// Sets of sizes that a workspace remembers.
const REMEMBERED: usize = 16;
/// Parts of a launch at most.
const MAX_PARTS: usize = 256;
/// Shares of a packing that a thread takes, one after the other, where nobody helps.
const SHARES: i64 = 4;

/// A program compiled for this machine.
pub(crate) struct CpuExecutable {
    program: Arc<Program>,
    owner: Owner,
    kernels: Vec<CompiledKernel>,
    /// By entry, as the shelves.
    packs: Vec<Packs>,
    shelves: Vec<Shelf>,
    codes: Codes,
    pool: Arc<dyn Parallel>,
    how: How,
}

/// What a workspace holds.
#[derive(Default)]
struct Space {
    /// As [`Room`] says.
    memory: Memory,
    /// By entry.
    kept: Vec<Kept>,
    /// Which packings of loops are as they should be.
    fresh: Vec<bool>,
    results: Results,
    bound: Vec<Arc<Bound>>,
    /// The addresses of a call's buffers, and of a launch's arguments.
    buffers: Vec<*mut u8>,
    pointers: Vec<*mut u8>,
    /// Iterations of the loops around a step.
    counters: Vec<i64>,
}

/// Results of the last two calls, whose memory is used again once the caller has dropped them: what is new to a process costs a
/// fault a page. A caller that writes to a result while the workspace lives pays a copy.
#[derive(Default)]
struct Results(Vec<Array>);

impl Results {
    /// Arrays for the results of a call, which writes every element.
    fn arrays(&mut self, types: &[(DType, Vec<usize>)]) -> Result<Vec<Array>, Diag> {
        let mut array = |(dtype, shape): &(DType, Vec<usize>)| {
            let fits = |array: &Array| array.dtype() == *dtype && array.shape() == shape && !array.is_shared();
            let mut array = match self.0.iter().position(fits) {
                Some(place) => self.0.remove(place),
                None => Array::zeroed(*dtype, shape.clone())?,
            };
            // Whoever leaves an element out is found out by tests.
            if cfg!(debug_assertions) {
                array.bytes_mut().fill(if *dtype == DType::Bool { 1 } else { 0xFF });
            }
            Ok(array)
        };
        let arrays = types.iter().map(&mut array).collect();
        // A caller may hold one call's results until it has the next one's.
        self.0.drain(..self.0.len().saturating_sub(types.len()));
        arrays
    }

    fn remember(&mut self, results: &[Array]) {
        self.0.extend(results.iter().cloned());
    }
}

impl graver_runtime::Space for Space {
    fn bytes(&self) -> usize {
        self.memory.bytes() + self.kept.iter().map(Kept::bytes).sum::<usize>()
    }
}

// SAFETY: the pointers are those of a call in progress, and mean nothing between calls.
unsafe impl Send for Space {}

/// Numbers the failures of a call's parts.
type Statuses = [u64; MAX_PARTS];

impl CpuExecutable {
    pub(crate) fn new(
        program: Arc<Program>,
        kernels: Vec<CompiledKernel>,
        code: Code,
        pool: Arc<dyn Parallel>,
        how: How,
    ) -> Self {
        let packs: Vec<Packs> = program.entries.iter().map(|entry| Packs::of(&program, &kernels, entry)).collect();
        let shelves = packs.iter().map(|_| Shelf::default()).collect();
        let codes = Codes::new(Arc::clone(&program), how, code);
        let owner = Owner::of(&program);
        Self { program, owner, kernels, packs, shelves, codes, pool, how }
    }

    fn check_entry(&self, entry: usize) -> Result<(), Error> {
        let entries = self.program.entries.len();
        if entry < entries { Ok(()) } else { Err(Error::new(format!("the program has {entries} entries, not number {entry}"))) }
    }

    fn threads(&self) -> usize {
        self.pool.threads().clamp(1, MAX_PARTS)
    }

    fn bound(&self, space: &mut Space, entry: usize, inputs: &[&Array]) -> Result<Arc<Bound>, Error> {
        if let Some(bound) = space.bound.iter().find(|bound| bound.binding.fits(&self.program, entry, inputs)) {
            return Ok(Arc::clone(bound));
        }
        let bound = Bound::new(&self.program, &self.kernels, &self.packs[entry], &self.codes, entry, inputs, self.threads())?;
        let bound = Arc::new(bound);
        space.bound.truncate(REMEMBERED - 1);
        space.bound.insert(0, Arc::clone(&bound));
        Ok(bound)
    }

    /// The address of every buffer.
    fn resolve(
        &self,
        bound: &Bound,
        arena: *mut u8,
        inputs: &[&Array],
        outputs: &mut [Array],
        state: &mut [Slot<'_>],
        pointers: &mut Vec<*mut u8>,
    ) -> Result<(), Error> {
        // Of an empty array elements may be read that do not exist: where the arena begins, there is something to read.
        let or_guard = |pointer: *mut u8, bytes: usize| if bytes == 0 { arena } else { pointer };
        let binding = &bound.binding;
        pointers.clear();
        for (buffer, offset) in self.program.entries[binding.entry].buffers.iter().zip(&binding.offsets) {
            pointers.push(match &buffer.place {
                Place::Input(input) => or_guard(inputs[*input].bytes().as_ptr().cast_mut(), inputs[*input].bytes().len()),
                Place::Output(output) => {
                    let bytes = outputs[*output].bytes_mut();
                    or_guard(bytes.as_mut_ptr(), bytes.len())
                }
                Place::State(slot) => match &mut state[slot.0 as usize] {
                    Slot::Read(array) => or_guard(array.bytes().as_ptr().cast_mut(), array.bytes().len()),
                    // What is only read stays shared, and is known to be the same at the next call.
                    Slot::Write(array) if !binding.writes(slot.0 as usize) => {
                        or_guard(array.bytes().as_ptr().cast_mut(), array.bytes().len())
                    }
                    Slot::Write(array) => {
                        let bytes = array.bytes_mut();
                        or_guard(bytes.as_mut_ptr(), bytes.len())
                    }
                },
                Place::Const(place) => {
                    let bytes = self.program.consts[*place].bytes();
                    or_guard(bytes.as_ptr().cast_mut(), bytes.len())
                }
                // SAFETY: the plan places every buffer inside of the arena, whose size was evaluated with the offsets.
                Place::Arena(_) => unsafe { arena.add(*offset) },
                Place::Unplaced => return Err(Error::new("the program was not planned: a buffer has no place")),
            });
        }
        Ok(())
    }

    /// The memory that a call works in, where its own begins: allocated at once, and only where it is more than any call before had.
    fn working(&self, bound: &Bound, space: &mut Space, state: &[Slot<'_>]) -> Result<*mut u8, Error> {
        let (room, entry) = (&bound.room, bound.binding.entry);
        let bytes = room.working.total();
        let none = || Error::new(format!("no memory for the {bytes} bytes that a call of these sizes works in"));
        let packs = &self.packs[entry];
        if !space.kept[entry].find(&self.shelves[entry], &packs.for_calls, room.shared.1, state) {
            return Err(none());
        }
        space.fresh.clear();
        space.fresh.resize(packs.for_loops.len(), false);
        space.memory.at_least(room.own).ok_or_else(none)
    }

    /// Runs a function over its parallel points; gives the first failure's number in the order of points, or 0.
    pub(crate) fn phase(&self, phase: &BoundPhase, args: &[*mut u8], dims: &[i64], scratch: (*mut u8, usize)) -> u64 {
        if phase.extent <= 0 {
            return 0;
        }
        let mut statuses: Statuses = [0; MAX_PARTS];
        let denormals = self.how.denormals;
        let job = Job { phase, args, dims, scratch, statuses: statuses.as_mut_ptr(), denormals };
        self.parts(phase, &|part| job.part(part));
        statuses.into_iter().find(|status| *status != 0).unwrap_or(0)
    }

    /// Packs what nobody packs yet, and waits for those who pack the rest. A packing checks nothing.
    pub(crate) fn pack(&self, phase: &BoundPhase, packed: &Packed, args: &[*mut u8], dims: &[i64], scratch: (*mut u8, usize)) {
        let mut statuses: Statuses = [0; MAX_PARTS];
        let denormals = self.how.denormals;
        let job = Job { phase, args, dims, scratch, statuses: statuses.as_mut_ptr(), denormals };
        let at_once = (phase.extent / (phase.parts * SHARES)).max(1);
        self.parts(phase, &|part| packed.fill(phase.extent, at_once, |begin, end| job.points(part, begin, end)));
        packed.wait(phase.extent);
    }

    fn parts(&self, phase: &BoundPhase, task: &(dyn Fn(usize) + Sync)) {
        if phase.parts == 1 {
            task(0);
        } else {
            self.pool.run(usize::try_from(phase.parts).unwrap_or(1), task);
        }
    }
}

/// One phase of a launch, shared by the threads that run it.
struct Job<'a> {
    phase: &'a BoundPhase,
    args: &'a [*mut u8],
    dims: &'a [i64],
    /// That of the first thread, and how far it is to the next one's.
    scratch: (*mut u8, usize),
    statuses: *mut u64,
    denormals: Denormals,
}

// SAFETY: parts write different elements (the kernel IR's rule), different scratch and different statuses.
unsafe impl Sync for Job<'_> {}

impl Job<'_> {
    fn part(&self, part: usize) {
        let (count, index) = (i128::from(self.phase.parts), i128::try_from(part).unwrap_or(0));
        let bound = |index: i128| i64::try_from(i128::from(self.phase.extent) * index / count).unwrap_or(i64::MAX);
        self.points(part, bound(index), bound(index + 1));
    }

    /// Runs the function over some of its points, with what is this part's.
    fn points(&self, part: usize, begin: i64, end: i64) {
        // SAFETY: arguments, sizes and scratch are as the kernel was compiled for: types were checked, offsets and memory
        // evaluated from the same sizes; `part` is below `parts`, of which there are no more than statuses and scratch.
        unsafe {
            let (status, scratch) = (self.statuses.add(part), self.scratch.0.add(part * self.scratch.1));
            let (args, dims) = (self.args.as_ptr(), self.dims.as_ptr());
            mode::call(self.phase.function, self.denormals, (args, dims, begin, end, scratch, status));
        }
    }
}

impl Executable for CpuExecutable {
    fn program(&self) -> &Program {
        &self.program
    }

    fn workspace(&self) -> Workspace {
        let kept = self.packs.iter().map(|_| Kept::default()).collect();
        Workspace::new(&self.owner, Space { kept, ..Space::default() })
    }

    fn working_bytes(&self, entry: usize, sizes: &Sizes) -> Result<Working, Error> {
        self.check_entry(entry)?;
        Ok(Room::new(&self.program.entries[entry], &self.kernels, &self.packs[entry], sizes, self.threads())?.working)
    }

    fn run(&self, call: Invocation<'_>) -> Result<Vec<Array>, Error> {
        self.call(call, None)
    }

    fn profile(&self, call: Invocation<'_>) -> Result<(Vec<Array>, Profile), Error> {
        let mut profile = Profile::default();
        let results = self.call(call, Some(&mut profile))?;
        Ok((results, profile))
    }

    fn compile_times(&self) -> Vec<Duration> {
        self.kernels.iter().map(|kernel| kernel.took).collect()
    }

    fn dump(&self, kernel: usize, stage: Stage) -> Option<String> {
        dump::text(&self.program, kernel, stage, self.how)
    }
}

impl CpuExecutable {
    fn call(&self, call: Invocation<'_>, profile: Option<&mut Profile>) -> Result<Vec<Array>, Error> {
        call.fetch()?;
        let space = call.workspace.space::<Space>(&self.owner)?;
        self.check_entry(call.entry)?;
        let bound = self.bound(space, call.entry, call.inputs)?;
        bound.binding.check_state(&self.program, call.state)?;
        let mut outputs = space.results.arrays(&bound.binding.outputs)?;
        let start = self.working(&bound, space, call.state)?;
        // SAFETY: the arena lies in the memory, as bound.
        let arena = unsafe { start.add(bound.room.arena) };
        self.resolve(&bound, arena, call.inputs, &mut outputs, call.state, &mut space.buffers)?;
        space.counters.clear();
        let (packs, state) = (&self.packs[call.entry].for_calls, &*call.state);
        // Weights are read, packed and released, one after the other: where they are a file's, memory never holds all of both.
        let packed = |pack: usize| packs[pack].slots.iter().for_each(|slot| state[*slot].array().release());
        let mut running = Running {
            executable: self,
            bound: &bound,
            buffers: &mut space.buffers,
            start,
            block: space.kept[call.entry].block(),
            fresh: &mut space.fresh,
            packed: &packed,
            args: &mut space.pointers,
            counters: &mut space.counters,
            profile,
        };
        match running.all(&bound.steps) {
            Ok(()) => {
                space.results.remember(&outputs);
                Ok(outputs)
            }
            // Traps are numbered from 1 in a status word.
            Err(status) => {
                let sizes = &bound.binding.sizes;
                let call = Failed { program: &self.program, entry: call.entry, sizes, inputs: call.inputs };
                Err(failure(call, usize::try_from(status - 1).unwrap_or(usize::MAX)).into())
            }
        }
    }
}

impl fmt::Debug for CpuExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuExecutable({} kernels, denormals {})", self.kernels.len(), self.how.denormals)
    }
}
