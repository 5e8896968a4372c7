//! CUDA kernels on the CPU, for tests: the text that a GPU would run, compiled by a C++ compiler against `text/shim.h`. A block's
//! threads run one after the other; what is wrong with a kernel (an access outside, a barrier that not all reach) is an error.

mod compiler;
mod cxx;
#[cfg(test)]
mod faults;
mod memory;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ways;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use graver_ir::kernel::{Launch, Place, Program};
use graver_ir::{Array, DType, Diag, Error, Loc, Sizes, Target};
use graver_runtime::{
    Backend, Binding, Executable, Failed, Held, Invocation, Stage, Working, Workspace, Wrote, failure, resident, written,
};

use crate::emit::{Emitted, emit};
use crate::steps::{self, At, Machine};
use compiler::{Compiler, Order as ThreadOrder, Run, Told};
use memory::Piece;

pub use compiler::Order;
pub use cxx::Cxx;
pub use memory::Copies;

/// A GPU of fibers.
///
/// Kernels are compiled when the first of them runs: all that were asked for until then in few invocations of the compiler.
#[derive(Clone, Debug)]
pub struct Shim {
    compiler: Arc<Compiler>,
    order: ThreadOrder,
    most_blocks: usize,
    most_shared: usize,
    copies: Copies,
}

impl Shim {
    /// With compiled kernels kept in a folder, which is made. The compiler is [`Cxx::find`]'s.
    ///
    /// # Errors
    /// There is no C++ compiler, or the folder cannot be written.
    pub fn new(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            compiler: Arc::new(Compiler::new(Cxx::find()?, folder)?),
            order: Order::Ascending,
            most_blocks: MOST_BLOCKS,
            most_shared: MOST_SHARED,
            copies: Copies::default(),
        })
    }

    /// The same, with blocks in this order, and a block's threads between barriers: results must not change.
    #[must_use]
    pub fn with_order(&self, order: Order) -> Self {
        Self { order, ..self.clone() }
    }

    /// The same, with at most so many blocks at once: results must not change.
    #[must_use]
    pub fn with_blocks(&self, most_blocks: usize) -> Self {
        Self { most_blocks: most_blocks.max(1), ..self.clone() }
    }

    /// The same, with at most so many bytes of shared memory for a block that can do with less: results must not change.
    #[must_use]
    pub fn with_shared(&self, most_shared: usize) -> Self {
        Self { most_shared: most_shared.min(MOST_SHARED), ..self.clone() }
    }

    /// What was copied to and from its memory, by this and all that were made of it.
    #[must_use]
    pub fn copies(&self) -> &Copies {
        &self.copies
    }
}

impl Backend for Shim {
    fn describe(&self) -> Target {
        crate::target("shim")
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        let kernels: Vec<Emitted> = program.kernels.iter().map(emit).collect();
        kernels.iter().for_each(|kernel| self.compiler.ask(kernel));
        Ok(Arc::new(ShimExecutable { program, kernels, shim: self.clone() }))
    }
}

/// A program of kernels that are compiled, or will be.
struct ShimExecutable {
    program: Arc<Program>,
    kernels: Vec<Emitted>,
    shim: Shim,
}

/// The memory of a call: where buffers lie, and how long they are.
struct Memory {
    pointers: Vec<*mut u8>,
    lengths: Vec<usize>,
}

/// Blocks of a launch at most: more go round in turns, as on a GPU.
const MOST_BLOCKS: usize = 4096;
/// Bytes of a block's shared memory: an H100's.
const MOST_SHARED: usize = 227 << 10;
/// Blocks of a launch at most where each works in memory of its own.
const MOST_SCRATCH_BLOCKS: usize = 3;

impl ShimExecutable {
    /// The address of every buffer.
    fn resolve(
        &self,
        binding: &Binding,
        inputs: &[&Array],
        outputs: &mut [Array],
        state: &[Held<'_, Piece>],
        arena: *mut u8,
    ) -> Memory {
        let mut pointers = Vec::with_capacity(binding.offsets.len());
        for (buffer, offset) in self.program.entries[binding.entry].buffers.iter().zip(&binding.offsets) {
            pointers.push(match &buffer.place {
                Place::Input(input) => inputs[*input].bytes().as_ptr().cast_mut(),
                Place::Output(output) => outputs[*output].bytes_mut().as_mut_ptr(),
                Place::State(slot) => state[slot.0 as usize].pointer(),
                Place::Const(place) => self.program.consts[*place].bytes().as_ptr().cast_mut(),
                Place::Arena(_) => arena.wrapping_add(*offset),
                Place::Unplaced => unreachable!("a binding is of a planned program"),
            });
        }
        Memory { pointers, lengths: binding.lengths.clone() }
    }
}

/// A call on its way through the steps.
struct Call<'a> {
    executable: &'a ShimExecutable,
    binding: &'a Binding,
    memory: Memory,
    told: Told,
    begun: bool,
}

impl Machine for Call<'_> {
    fn launch(&mut self, number: u32, launch: &Launch, args: &[At]) -> Result<(), Error> {
        let (executable, binding) = (self.executable, self.binding);
        let kernel = &executable.kernels[launch.kernel.0 as usize];
        let mut pointers: Vec<*mut u8> = args.iter().map(|at| self.memory.pointer(*at)).collect();
        let mut lengths: Vec<usize> = args.iter().map(|at| self.memory.lengths[at.memory].saturating_sub(at.offset)).collect();
        let most = executable.shim.most_blocks;
        let blocks = |in_scratch| if in_scratch { most.min(MOST_SCRATCH_BLOCKS) } else { most };
        let (grids, bytes) = kernel.spread(&binding.sizes, executable.shim.most_shared, blocks)?;
        // Poisoned: nothing may be read that was not written.
        let mut scratch = vec![[u64::MAX; 2]; bytes.div_ceil(16)];
        pointers.push(scratch.as_mut_ptr().cast());
        lengths.push(bytes);
        let sizes = steps::sizes_of(&kernel.symbols, binding)?;
        let order = executable.shim.order;
        let run = Run { pointers: &pointers, lengths: &lengths, sizes: &sizes, grids: &grids, launch: number, order };
        if steps::writes_state(&executable.program.entries[binding.entry], kernel, args) {
            self.begun = true;
        }
        // SAFETY: pointers and lengths are those of live buffers, as the kernel's arguments are declared.
        let message = unsafe { executable.shim.compiler.run(kernel, &run, &mut self.told) }?;
        match message {
            None => Ok(()),
            Some(message) => {
                let loc = launch.locs.first().unwrap_or(&Loc::UNKNOWN);
                Err(Diag::new(message).op(format!("kernel {}", kernel.name)).at(loc).into())
            }
        }
    }

    fn holds(&mut self, at: At) -> Result<Option<bool>, Error> {
        assert!(at.offset < self.memory.lengths[at.memory], "K25: a condition lies inside of its buffer");
        // SAFETY: the byte is inside of its buffer, which is live.
        let byte = unsafe { self.memory.pointer(at).read() };
        Ok((self.told.status == u64::MAX).then_some(byte != 0))
    }

    fn has_begun_to_write(&self) -> bool {
        self.begun
    }
}

impl Memory {
    fn pointer(&self, at: At) -> *mut u8 {
        self.pointers[at.memory].wrapping_add(at.offset)
    }
}

impl Executable for ShimExecutable {
    fn program(&self) -> &Program {
        &self.program
    }

    fn workspace(&self) -> Workspace {
        Workspace::default()
    }

    fn working_bytes(&self, entry: usize, sizes: &Sizes) -> Result<Working, Error> {
        crate::working(&self.program, self.kernels.iter(), entry, sizes, MOST_SCRATCH_BLOCKS)
    }

    fn run(&self, call: Invocation<'_>) -> Result<Vec<Array>, Error> {
        let binding = Binding::new(&self.program, call.entry, call.inputs)?;
        binding.check_state(&self.program, call.state)?;
        call.inputs.iter().try_for_each(|input| input.fetch().map(drop))?;
        let zeros = |(dtype, shape): &(DType, Vec<usize>)| Array::zeroed(*dtype, shape.clone());
        let mut outputs: Vec<Array> = binding.outputs.iter().map(zeros).collect::<Result<_, Diag>>()?;
        // Poisoned, and aligned as the plan has it.
        let mut arena = vec![[u64::MAX; 32]; binding.arena.div_ceil(256) + 1];
        let base = arena.as_mut_ptr().cast::<u8>();
        let base = base.wrapping_add(base.align_offset(crate::ALIGNMENT));
        let state = resident(self, &binding, call.state)?;
        let memory = self.resolve(&binding, call.inputs, &mut outputs, &state, base);
        let mut running = Call { executable: self, binding: &binding, memory, told: Told::NOTHING, begun: false };
        let mut wrote = Wrote::Nothing;
        // A failure does not end the launches: as on a GPU, what follows must leave the state alone by itself.
        let done = steps::run(&self.program, &binding, &mut running, &mut wrote);
        let Told { status, read } = running.told;
        self.shim.copies.count_read(read);
        if done.is_ok() && status != u64::MAX {
            wrote = Wrote::Nothing;
        }
        drop(state);
        written(&self.program, &binding, call.state, wrote);
        done.map_err(|error| wrote.told(error))?;
        if status != u64::MAX {
            let call = Failed { program: &self.program, entry: call.entry, sizes: &binding.sizes, inputs: call.inputs };
            return Err(failure(call, crate::trap_of(status)).into());
        }
        Ok(outputs)
    }

    fn compile_times(&self) -> Vec<Duration> {
        vec![Duration::ZERO; self.kernels.len()]
    }

    fn dump(&self, kernel: usize, stage: Stage) -> Option<String> {
        match stage {
            Stage::Cuda => self.kernels.get(kernel).map(|kernel| kernel.text.clone()),
            Stage::Vector | Stage::Clif | Stage::Asm | Stage::Ptx | Stage::Sass => None,
        }
    }
}

impl fmt::Debug for ShimExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShimExecutable({} kernels)", self.kernels.len())
    }
}
