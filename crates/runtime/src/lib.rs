//! What backends and callers agree on: a [`Backend`] compiles a [`Program`] into an [`Executable`], which runs entries over
//! inputs, state and a workspace. No code generation is here, and no passes.

mod bind;
mod checkpoint;
mod failure;
mod mapped;
mod name;
mod pointer;
mod resident;
mod working;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use graver_ir::kernel::Program;
use graver_ir::{Array, Diag, Error, Sizes, Target};

pub use bind::{Binding, writes, written_state};
pub use checkpoint::{Checkpoint, write_whole};
pub use failure::{Failed, failure};
pub use mapped::MappedFile;
pub use name::DeviceName;
pub use pointer::lfs_pointer;
pub use resident::{Device, Held, Wrote, readable, resident, writable, written};
pub use working::{Layout, Working, evaluated};

/// A device that compiles and runs programs.
pub trait Backend: fmt::Debug + Send + Sync {
    /// What passes must know of the machine.
    fn describe(&self) -> Target;

    /// Compiles every kernel of a planned program.
    ///
    /// # Errors
    /// If the program holds something that this backend does not support: everything at once.
    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error>;

    /// The same of a program whose buffers have no places yet: `plan` gives it with them. Code does not depend on places, so a backend
    /// may generate it while `plan` runs on another thread.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    fn compile_beside(&self, unplaced: &Program, plan: &(dyn Fn() -> Arc<Program> + Sync)) -> Result<Arc<dyn Executable>, Error> {
        let _ = unplaced;
        self.compile(plan())
    }
}

/// A compiled program. Immutable: many threads may run it at once, each with a workspace of its own.
pub trait Executable: fmt::Debug + Send + Sync {
    /// The program that it came from.
    fn program(&self) -> &Program;

    /// An empty workspace. It grows at the first call of a size to [`Executable::working_bytes`], and is reused. What a backend makes of
    /// weights may be shared: the workspace that asked for that memory counts it.
    fn workspace(&self) -> Workspace;

    /// The bytes that a call of an entry works in for these sizes, beside its inputs, results and state.
    ///
    /// # Errors
    /// If there is no such entry, a symbol has no size, or the sizes are too large for any memory.
    fn working_bytes(&self, entry: usize, sizes: &Sizes) -> Result<Working, Error>;

    /// Runs an entry. Input types must fit the entry's; sizes of symbols are taken from them.
    ///
    /// # Errors
    /// If inputs do not fit (which, both types), or a data-dependent failure occurred (the user's line). The state is then as it was. A device
    /// that fails by itself may leave it undefined ([`Wrote::Part`]), which the error says.
    fn run(&self, call: Invocation<'_>) -> Result<Vec<Array>, Error>;

    /// As [`Executable::run`], with the time of every launch; of none where the backend does not tell.
    ///
    /// # Errors
    /// As [`Executable::run`].
    fn profile(&self, call: Invocation<'_>) -> Result<(Vec<Array>, Profile), Error> {
        Ok((self.run(call)?, Profile::default()))
    }

    /// How long code generation took, a kernel.
    fn compile_times(&self) -> Vec<Duration>;

    /// A stage of a kernel's compilation as text, `None` where the backend has no such stage; of one that could not be made, why.
    fn dump(&self, kernel: usize, stage: Stage) -> Option<String>;
}

/// What an entry runs over.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// Which entry of the program.
    pub entry: usize,
    /// The caller's arguments. They are only read: no plan puts a result in their memory, even where nothing reads them later.
    pub inputs: &'a [&'a Array],
    /// One slot for each of the program's, in order.
    pub state: &'a mut [Slot<'a>],
    /// Where intermediate values live.
    pub workspace: &'a mut Workspace,
}

impl Invocation<'_> {
    /// Brings inputs and state to the host, for who reads them there.
    ///
    /// # Errors
    /// As [`Array::fetch`], where another device has them.
    pub fn fetch(&self) -> Result<(), Error> {
        let state = self.state.iter().map(Slot::array);
        Ok(self.inputs.iter().copied().chain(state).try_for_each(|array| array.fetch().map(drop))?)
    }
}

/// The launches of a call in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// One a launch, again in every iteration of a loop.
    pub launches: Vec<LaunchTime>,
}

/// How long a launch took.
#[derive(Clone, Copy, Debug)]
pub struct LaunchTime {
    /// The kernel, by its number in the program.
    pub kernel: usize,
    /// With the waking of threads.
    pub took: Duration,
}

/// A slot of the state, lent to a call.
#[derive(Debug)]
pub enum Slot<'a> {
    /// It may be read.
    Read(&'a Array),
    /// It may be read and updated in place.
    Write(&'a mut Array),
}

impl Slot<'_> {
    /// The array.
    #[must_use]
    pub fn array(&self) -> &Array {
        match self {
            Self::Read(array) => array,
            Self::Write(array) => array,
        }
    }
}

/// The memory of one concurrent caller of one executable.
pub struct Workspace {
    /// Nobody where there is nothing in it.
    owner: Option<Owner>,
    inner: Box<dyn Space>,
}

/// The executable that a [`Workspace`] is of: no other knows what lies where in it.
#[derive(Clone, Debug)]
pub struct Owner(Arc<str>);

impl Owner {
    /// A new executable of a program.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        Self(program.entries.first().map_or("", |entry| &entry.name).into())
    }
}

/// What a backend puts into a [`Workspace`].
pub trait Space: Any + Send {
    /// Bytes that it has allocated for calls to work in, not those that other workspaces have and share with it. Copies of inputs and results that
    /// a device keeps besides are not among them.
    fn bytes(&self) -> usize;
}

/// A workspace of nothing.
impl Space for () {
    fn bytes(&self) -> usize {
        0
    }
}

impl Workspace {
    /// An executable's own.
    #[must_use]
    pub fn new(owner: &Owner, inner: impl Space) -> Self {
        Self { owner: Some(owner.clone()), inner: Box::new(inner) }
    }

    /// What an executable put into it.
    ///
    /// # Errors
    /// If it is another's: the names of both.
    pub fn space<S: Space>(&mut self, owner: &Owner) -> Result<&mut S, Error> {
        let is_own = self.owner.as_ref().is_some_and(|own| Arc::ptr_eq(&own.0, &owner.0));
        let inner: &mut dyn Any = self.inner.as_mut();
        inner.downcast_mut().filter(|_| is_own).ok_or_else(|| {
            let theirs = self.owner.as_ref().map_or("nothing".to_owned(), |own| format!("the executable of `{}`", own.0));
            let message = format!("the workspace is of {theirs}, and this is another one, of `{}`", owner.0);
            Diag::new(message).help("an executable runs over what its own `workspace` gives").into()
        })
    }

    /// Bytes that it has allocated for calls to work in, beside inputs and results: the most that any so far needed, without what other workspaces of
    /// the executable have allocated and share with it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.bytes()
    }
}

impl Default for Workspace {
    /// One of nothing.
    fn default() -> Self {
        Self { owner: None, inner: Box::new(()) }
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workspace({} bytes)", self.bytes())
    }
}

/// A stage of a kernel's compilation that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The vector IR.
    Vector,
    /// Cranelift's IR.
    Clif,
    /// Machine code.
    Asm,
    /// CUDA C++.
    Cuda,
    /// NVIDIA's portable assembly.
    Ptx,
    /// The machine code of a GPU, disassembled.
    Sass,
}
