//! A program on a GPU: entries are recorded when they are first called with a set of sizes, and replayed.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use graver_ir::kernel::Program;
use graver_ir::{Array, DType, Diag, Error, Sizes};
use graver_runtime::{Binding, Device, Executable, Invocation, Stage, Working, Workspace, failure, resident, written};

use super::Context;
use super::compile::{Function, Module, compile};
use super::memory::DeviceMemory;
use super::record::{Places, Recorded, most_blocks};
use crate::nvrtc::Nvrtc;

/// Sets of sizes that a workspace remembers, each with inputs and results of its own.
const REMEMBERED: usize = 8;

/// A program compiled for a GPU.
pub(super) struct CudaExecutable {
    pub(super) program: Arc<Program>,
    pub(super) functions: Vec<Function>,
    pub(super) consts: Vec<DeviceMemory>,
    pub(super) context: Arc<Context>,
    nvrtc: Nvrtc,
    /// Unloaded after the last call.
    _modules: Vec<Module>,
}

// SAFETY: handles of the driver may be used from any thread, and nothing here changes.
unsafe impl Send for CudaExecutable {}
// SAFETY: as above.
unsafe impl Sync for CudaExecutable {}

/// What a workspace holds. Its calls come one after the other, so that all work in the same memory.
#[derive(Default)]
struct Space {
    /// The latest first.
    recorded: Vec<Recorded>,
    arena: Option<DeviceMemory>,
    scratch: Option<DeviceMemory>,
}

impl graver_runtime::Space for Space {
    fn bytes(&self) -> usize {
        [&self.arena, &self.scratch].into_iter().flatten().map(DeviceMemory::bytes).sum()
    }
}

/// The address of at least so many bytes: more are allocated where there are fewer, and the old ones let go first.
fn at_least(memory: &mut Option<DeviceMemory>, context: &Arc<Context>, bytes: usize) -> Result<u64, Error> {
    if memory.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
        *memory = None;
    }
    match memory {
        Some(memory) => Ok(memory.pointer),
        None => Ok(memory.insert(DeviceMemory::new(context, bytes)?).pointer),
    }
}

impl CudaExecutable {
    pub(super) fn new(program: Arc<Program>, context: &Arc<Context>, nvrtc: &Nvrtc) -> Result<Self, Error> {
        let (functions, modules) = compile(&program, context, nvrtc)?;
        let consts = program.consts.iter().map(|array| DeviceMemory::of(context, array.bytes())).collect::<Result<_, _>>()?;
        Ok(Self { program, functions, consts, context: Arc::clone(context), nvrtc: nvrtc.clone(), _modules: modules })
    }
}

impl Device for CudaExecutable {
    type Memory = DeviceMemory;

    fn owns(&self, memory: &DeviceMemory) -> bool {
        memory.is_of(&self.context)
    }

    fn upload(&self, bytes: &[u8]) -> Result<DeviceMemory, Error> {
        DeviceMemory::of(&self.context, bytes)
    }

    fn duplicate(&self, memory: &DeviceMemory) -> Result<DeviceMemory, Error> {
        memory.duplicate()
    }
}

impl Executable for CudaExecutable {
    fn program(&self) -> &Program {
        &self.program
    }

    fn workspace(&self) -> Workspace {
        Workspace { inner: Box::new(Space::default()) }
    }

    fn working_bytes(&self, entry: usize, sizes: &Sizes) -> Result<Working, Error> {
        let kernels = self.functions.iter().map(|function| &function.emitted);
        crate::working(&self.program, kernels, entry, sizes, most_blocks(&self.context, true))
    }

    fn run(&self, call: Invocation<'_>) -> Result<Vec<Array>, Error> {
        let inner: &mut dyn Any = call.workspace.inner.as_mut();
        let Some(space) = inner.downcast_mut::<Space>() else {
            return Err(Error::new("the workspace is of another backend"));
        };
        let known = space.recorded.iter().position(|recorded| recorded.binding.fits(&self.program, call.entry, call.inputs));
        let recorded = match known {
            Some(place) => space.recorded.remove(place),
            None => {
                let binding = Binding::new(&self.program, call.entry, call.inputs)?;
                space.recorded.truncate(REMEMBERED - 1);
                Recorded::new(self, binding, call.inputs)?
            }
        };
        space.recorded.insert(0, recorded);
        let Space { recorded, arena, scratch } = space;
        let recorded = &mut recorded[0];
        recorded.binding.check_state(&self.program, call.state)?;
        let zeros = |(dtype, shape): &(DType, Vec<usize>)| Array::zeroed(*dtype, shape.clone());
        let mut outputs: Vec<Array> = recorded.binding.outputs.iter().map(zeros).collect::<Result<_, Diag>>()?;
        let held = resident(self, &recorded.binding, call.state)?;
        let places = Places {
            state: held.iter().map(|memory| memory.pointer).collect(),
            arena: at_least(arena, &self.context, recorded.binding.arena)?,
            scratch: at_least(scratch, &self.context, recorded.scratch)?,
        };
        let status = recorded.run(self, call.inputs, &mut outputs, places)?;
        drop(held);
        if status != u64::MAX {
            return Err(failure(&self.program, crate::trap_of(status)));
        }
        written(&recorded.binding, call.state);
        Ok(outputs)
    }

    fn compile_times(&self) -> Vec<Duration> {
        self.functions.iter().map(|function| function.took).collect()
    }

    fn dump(&self, kernel: usize, stage: Stage) -> Option<String> {
        crate::dump::text(&self.program, kernel, stage, &self.nvrtc, &self.context.architecture).ok()?
    }
}

impl fmt::Debug for CudaExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaExecutable({} kernels)", self.functions.len())
    }
}
