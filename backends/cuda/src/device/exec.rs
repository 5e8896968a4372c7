//! A program on a GPU. Results stay there until somebody reads them, and inputs that are there are not copied again.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use graver_ir::kernel::Program;
use graver_ir::{Array, DType, Error, Sizes};
use graver_runtime::{
    Device, Executable, Failed, Invocation, Owner, Stage, Working, Workspace, Wrote, failure, resident, written,
};

use super::Context;
use super::compile::{Function, Module, compile};
use super::memory::DeviceMemory;
use super::record::most_blocks;
use super::space::Space;
use crate::nvrtc::Nvrtc;

/// A program compiled for a GPU.
pub(super) struct CudaExecutable {
    pub(super) program: Arc<Program>,
    owner: Owner,
    pub(super) functions: Vec<Function>,
    pub(super) consts: Vec<DeviceMemory>,
    pub(super) context: Arc<Context>,
    nvrtc: Nvrtc,
    /// Unloaded after the last call, and after the last graph.
    pub(super) modules: Arc<Vec<Module>>,
    /// Why a call was not recorded, the first time: nobody is told of that otherwise.
    pub(super) unrecorded: OnceLock<String>,
}

// SAFETY: handles of the driver may be used from any thread, and they do not change.
unsafe impl Send for CudaExecutable {}
// SAFETY: as above.
unsafe impl Sync for CudaExecutable {}

impl CudaExecutable {
    pub(super) fn new(program: Arc<Program>, context: &Arc<Context>, nvrtc: &Nvrtc) -> Result<Self, Error> {
        let (functions, modules) = compile(&program, context, nvrtc)?;
        let consts = program.consts.iter().map(|array| DeviceMemory::of(context, array.bytes())).collect::<Result<_, _>>()?;
        let owner = Owner::of(&program);
        let (context, modules) = (Arc::clone(context), Arc::new(modules));
        Ok(Self { program, owner, functions, consts, context, nvrtc: nvrtc.clone(), modules, unrecorded: OnceLock::new() })
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
        Workspace::new(&self.owner, Space::default())
    }

    fn working_bytes(&self, entry: usize, sizes: &Sizes) -> Result<Working, Error> {
        let kernels = self.functions.iter().map(|function| &function.emitted);
        crate::working(&self.program, kernels, entry, sizes, most_blocks(&self.context, true))
    }

    fn run(&self, call: Invocation<'_>) -> Result<Vec<Array>, Error> {
        let space = call.workspace.space::<Space>(&self.owner)?;
        let parts = space.parts(&self.context)?;
        let binding = parts.bind(self, call.entry, call.inputs)?;
        binding.check_state(&self.program, call.state)?;
        let held = resident(self, &binding, call.state)?;
        let places = parts.places(self, call.inputs, held.iter().map(|memory| memory.piece).collect())?;
        let mut wrote = Wrote::Nothing;
        let outcome = parts.run(self, places, &mut wrote);
        drop(held);
        written(&self.program, &binding, call.state, wrote);
        let failed = Failed { program: &self.program, entry: call.entry, sizes: &binding.sizes, inputs: call.inputs };
        let results = outcome.map_err(|error| wrote.told(error))?.map_err(|status| failure(failed, crate::trap_of(status)))?;
        let array = |((dtype, shape), memory): (&(DType, Vec<usize>), DeviceMemory)| {
            Array::from_remote(*dtype, shape.clone(), Box::new(memory))
        };
        Ok(binding.outputs.iter().zip(results).map(array).collect())
    }

    fn compile_times(&self) -> Vec<Duration> {
        self.functions.iter().map(|function| function.took).collect()
    }

    fn dump(&self, kernel: usize, stage: Stage) -> Option<String> {
        let text = crate::dump::text(&self.program, kernel, stage, &self.nvrtc, &self.context.architecture);
        // The stage is one of this backend's: what NVRTC or the disassembler says stands where its text would.
        text.unwrap_or_else(|error| Some(format!("{error}\n")))
    }
}

impl fmt::Debug for CudaExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaExecutable({} kernels", self.functions.len())?;
        match self.unrecorded.get() {
            Some(why) => write!(f, "; launched one by one: {why})"),
            None => f.write_str(")"),
        }
    }
}
