//! Machine code in memory: compiled functions, alive as long as someone holds them.

use std::fmt;

use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, FuncRef, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module, ModuleError};

use super::cranelift::{Environment, PARAMS, emit};
use super::x64;
use crate::helpers;
use crate::isa::Isa;
use crate::vector::{self, Func, Helper};

/// A kernel's function: arguments, sizes, begin, end, scratch, status. One convention on all systems, so that code that we
/// encode ourselves knows which registers are its own.
#[cfg(target_arch = "x86_64")]
pub(crate) type Entry = unsafe extern "sysv64" fn(*const *mut u8, *const i64, i64, i64, *mut u8, *mut u64);
/// As on x86-64; elsewhere the convention of C is the only one.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) type Entry = unsafe extern "C" fn(*const *mut u8, *const i64, i64, i64, *mut u8, *mut u64);

/// Address space, not memory: pages are committed as code is written.
const RESERVED: usize = 256 << 20;

/// Of code that we encode ourselves: loops and constants lie as they were laid out.
const CODE_ALIGNMENT: u64 = 64;

/// Compiles functions one by one; [`Jit::finish`] makes them executable at once.
pub(crate) struct Jit {
    module: JITModule,
    isa: Isa,
    fma: bool,
    context: Context,
    builder: FunctionBuilderContext,
    compiled: Vec<FuncId>,
}

/// A function, and as much of its compilation as needs no [`Jit`]: all of it where we encode the code ourselves. The same on every thread.
pub(crate) enum Made {
    Code(x64::Encoded),
    Func(Func),
}

impl Made {
    pub(crate) fn of(func: Func, isa: Isa) -> Self {
        if cfg!(debug_assertions) {
            let verdict = vector::verify(&func, isa.lanes());
            assert!(verdict.is_ok(), "vector IR keeps its invariants: {verdict:?} in\n{func}");
        }
        match isa.wide() {
            Some(wide) => Self::Code(x64::emit(&func, wide, helpers::address)),
            None => Self::Func(func),
        }
    }
}

/// Executable functions, in the order of their compilation. Their memory is freed with this.
pub(crate) struct Code {
    module: Option<JITModule>,
    entries: Vec<Entry>,
}

// SAFETY: after `finish` the module is only used to free the memory, and entries are immutable code.
unsafe impl Send for Code {}
// SAFETY: as above; shared access reads function addresses only.
unsafe impl Sync for Code {}

impl Jit {
    /// A compiler for this machine.
    ///
    /// # Errors
    /// If there is no address space, or Cranelift does not know the machine.
    pub(crate) fn new(isa: Isa) -> Result<Self, String> {
        let verify = if cfg!(debug_assertions) { "true" } else { "false" };
        // Loops come optimised; Cranelift's own optimiser hoists loads until they spill.
        let flags = [("opt_level", "none"), ("enable_verifier", verify), ("unwind_info", "false")];
        let names = cranelift_module::default_libcall_names();
        let mut builder = JITBuilder::with_flags(&flags, names).map_err(|error| error.to_string())?;
        let memory = ArenaMemoryProvider::new_with_size(RESERVED).map_err(|error| error.to_string())?;
        builder.memory_provider(Box::new(memory));
        for helper in helpers::ALL {
            builder.symbol(helpers::name(*helper), helpers::address(*helper));
        }
        let module = JITModule::new(builder);
        let flags = module.isa().isa_flags();
        let fma = flags.iter().any(|flag| flag.name == "has_fma" && flag.as_bool() == Some(true));
        let context = module.make_context();
        Ok(Self { module, isa, fma, context, builder: FunctionBuilderContext::new(), compiled: Vec::new() })
    }

    /// Compiles a function; its position is the number of those before.
    ///
    /// # Errors
    /// What Cranelift says; never because of a user's program.
    pub(crate) fn compile(&mut self, made: &Made) -> Result<usize, String> {
        let id = self.module.declare_anonymous_function(&signature()).map_err(|error| error.to_string())?;
        match made {
            Made::Code(code) => self.module.define_function_bytes(id, CODE_ALIGNMENT, &code.bytes, &[]).map_err(describe)?,
            Made::Func(func) => {
                self.translate(func);
                self.module.define_function(id, &mut self.context).map_err(describe)?;
                self.module.clear_context(&mut self.context);
            }
        }
        self.compiled.push(id);
        Ok(self.compiled.len() - 1)
    }

    /// The function as Cranelift's IR.
    ///
    /// # Errors
    /// Never; as [`Jit::asm`].
    pub(crate) fn clif(&mut self, func: &Func) -> Result<String, String> {
        self.translate(func);
        let text = self.context.func.display().to_string();
        self.module.clear_context(&mut self.context);
        Ok(text)
    }

    /// The function as machine code.
    ///
    /// # Errors
    /// As [`Jit::compile`].
    pub(crate) fn asm(&mut self, func: &Func) -> Result<String, String> {
        if let Some(wide) = self.isa.wide() {
            return Ok(x64::emit(func, wide, helpers::address).listing());
        }
        self.translate(func);
        self.context.set_disasm(true);
        let isa = self.module.isa();
        let code = self.context.compile(isa, &mut Default::default()).map_err(|error| format!("{:?}", error.inner))?;
        let text = code.vcode.clone().unwrap_or_default();
        self.module.clear_context(&mut self.context);
        Ok(text)
    }

    fn translate(&mut self, func: &Func) {
        self.context.func = Function::with_name_signature(UserFuncName::user(0, 0), signature());
        let config = self.module.target_config();
        let module = &mut self.module;
        let mut helper = |helper: Helper, func: &mut Function| declare_helper(module, helper, func);
        let builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        emit(func, builder, Environment { fma: self.fma, config, helper: &mut helper });
    }

    /// Makes everything executable.
    ///
    /// # Errors
    /// If memory cannot be protected.
    pub(crate) fn finish(mut self) -> Result<Code, String> {
        self.module.finalize_definitions().map_err(|error| error.to_string())?;
        let entry = |id: FuncId| {
            let address = self.module.get_finalized_function(id);
            // SAFETY: the function was declared with `signature`, which is `Entry`'s.
            unsafe { std::mem::transmute::<*const u8, Entry>(address) }
        };
        let entries = self.compiled.iter().map(|id| entry(*id)).collect();
        Ok(Code { module: Some(self.module), entries })
    }
}

impl Code {
    pub(crate) fn entry(&self, function: usize) -> Entry {
        self.entries[function]
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: whoever calls an entry holds this, so nobody calls one any more.
            unsafe { module.free_memory() };
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} functions)", self.entries.len())
    }
}

fn describe(error: ModuleError) -> String {
    // The display of a compilation error leaves out what is wrong.
    if let ModuleError::Compilation(error) = error { format!("{error:?}") } else { error.to_string() }
}

fn signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend(PARAMS.map(AbiParam::new));
    signature
}

fn declare_helper(module: &mut JITModule, helper: Helper, func: &mut Function) -> FuncRef {
    // Helpers are plain functions of this machine.
    let mut signature = Signature::new(module.target_config().default_call_conv);
    let ty = if helpers::is_double(helper) { types::F64 } else { types::F32 };
    signature.params.extend(std::iter::repeat_n(AbiParam::new(ty), helpers::arity(helper)));
    signature.returns.push(AbiParam::new(ty));
    let id = module
        .declare_function(helpers::name(helper), Linkage::Import, &signature)
        .expect("a helper is declared with one signature");
    module.declare_func_in_func(id, func)
}
