//! Programs: kernels, and entries: buffers with the steps that happen over them.

use serde::{Deserialize, Serialize};

use super::attend::Attend;
use super::body::Body;
use super::contract::Contract;
use super::nest::{Nest, Store};
use super::prefix::Prefix;
use super::scatter::Scatter;
use super::sort::Sort;
use super::step::Step;
use crate::array::Array;
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::location::Loc;
use crate::module::{StateDecl, StateId};

/// A kernel of a [`Program`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KernelId(pub u32);

/// A buffer of an [`Entry`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// A trap of a [`Program`], by position. The status word holds its position plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrapId(pub u32);

/// What a backend compiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Every symbol that occurs, by name; a kernel finds their values in this order.
    pub symbols: Vec<Symbol>,
    /// The state.
    pub state: Vec<StateDecl>,
    /// Constant arrays.
    pub consts: Vec<Array>,
    /// Kernels, no two equal.
    pub kernels: Vec<Kernel>,
    /// What data-dependent failures say.
    pub traps: Vec<Trap>,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// What a data-dependent failure says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// The user's line.
    pub loc: Loc,
    /// What went wrong: `gather: a position is out of range for axis 0 of f32[10, 4]`.
    pub message: String,
}

/// A kernel: its arguments and what it computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kernel {
    /// A name for people: `conv_relu`. Takes part in equality, so equal kernels are named alike.
    pub name: String,
    /// The arguments.
    pub args: Vec<Arg>,
    /// What it computes.
    pub body: KernelBody,
}

/// An argument of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Arg {
    /// The element type in memory.
    pub dtype: DType,
    /// The sizes.
    pub shape: Vec<Dim>,
    /// The distance of neighbours along each axis, in elements.
    pub strides: Vec<Dim>,
    /// Whether it is read, written, or both at the same element.
    pub mode: Mode,
}

/// How a kernel uses an argument. No two arguments of a launch overlap unless both are only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Read.
    Read,
    /// Written.
    Write,
    /// Read and written: every point writes only an element that no other point reads, after reading it. A point is a position of
    /// the axes: a stage of a nest may read what a later stage writes at the same point.
    Update,
}

/// The shape of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KernelBody {
    /// A loop nest.
    Nest(Nest),
    /// A contraction.
    Contract(Contract),
    /// Stores at run-time positions.
    Scatter(Scatter),
    /// Elements in order.
    Sort(Sort),
    /// Elements combined with all before them.
    Prefix(Prefix),
    /// Attention, or a derivative of it.
    Attend(Attend),
}

impl KernelBody {
    /// The size of each axis.
    #[must_use]
    pub fn axes(&self) -> &[Dim] {
        match self {
            Self::Nest(nest) => &nest.axes,
            Self::Contract(contract) => &contract.axes,
            Self::Scatter(scatter) => &scatter.axes,
            Self::Sort(sort) => &sort.axes,
            Self::Prefix(prefix) => &prefix.axes,
            Self::Attend(attend) => &attend.axes,
        }
    }

    /// Every scalar body.
    #[must_use]
    pub fn bodies(&self) -> Vec<&Body> {
        match self {
            Self::Nest(nest) => nest.stages.iter().map(|stage| &stage.body).collect(),
            Self::Contract(contract) => vec![&contract.a.body, &contract.b.body, &contract.epilogue],
            Self::Scatter(scatter) => vec![&scatter.body],
            Self::Sort(sort) => vec![&sort.body],
            Self::Prefix(prefix) => vec![&prefix.body],
            Self::Attend(attend) => attend.bodies().collect(),
        }
    }

    /// Everything that is stored.
    #[must_use]
    pub fn stores(&self) -> Vec<&Store> {
        match self {
            Self::Nest(nest) => nest.stages.iter().flat_map(|stage| &stage.stores).collect(),
            Self::Contract(contract) => contract.stores.iter().collect(),
            Self::Scatter(scatter) => vec![&scatter.to],
            Self::Sort(sort) => vec![&sort.to],
            Self::Prefix(prefix) => vec![&prefix.to],
            Self::Attend(attend) => attend.stores().collect(),
        }
    }

    /// Whether running it may set the status word.
    #[must_use]
    pub fn may_fail(&self) -> bool {
        self.bodies().iter().any(|body| body.has_checks())
    }
}

/// A function that a caller may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// The caller's arguments in order, with their names in messages.
    pub inputs: Vec<(BufferId, String)>,
    /// The results in order.
    pub outputs: Vec<BufferId>,
    /// What happens, in order. Steps that write state come after every step that may set the status word.
    pub steps: Vec<Step>,
    /// Bytes of the arena: the end of the last buffer in it.
    pub arena: Dim,
}

/// Memory of an entry: a dense row-major array (of its stored axes).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// Where it lies.
    pub place: Place,
    /// The element type.
    pub dtype: DType,
    /// The sizes.
    pub shape: Vec<Dim>,
    /// The user's line that made its value.
    pub loc: Loc,
}

impl Buffer {
    /// The bytes that it occupies.
    #[must_use]
    pub fn bytes(&self) -> Dim {
        self.shape.iter().chain([&Dim::from(self.dtype.size())]).product()
    }

    /// The bytes for usual sizes: [`Dim::nominal`] of [`Buffer::bytes`].
    #[must_use]
    pub fn usual_bytes(&self) -> i64 {
        let size = i64::try_from(self.dtype.size()).expect("elements are a few bytes");
        self.shape.iter().fold(size, |bytes, dim| bytes.saturating_mul(dim.nominal()))
    }
}

/// Where a buffer lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// An input of the caller.
    Input(usize),
    /// An output that the caller gets.
    Output(usize),
    /// A slot of the state: read as it was, written in place.
    State(StateId),
    /// A constant of the program.
    Const(usize),
    /// In the arena at this offset in bytes.
    Arena(Dim),
    /// Not planned yet.
    Unplaced,
}

impl Arg {
    /// A dense row-major argument.
    #[must_use]
    pub fn dense(dtype: DType, shape: Vec<Dim>, mode: Mode) -> Self {
        let strides = crate::ty::Shape(shape.clone()).strides();
        Self { dtype, shape, strides, mode }
    }
}

impl Program {
    /// The kernel.
    ///
    /// # Panics
    /// If there is none of this id.
    #[must_use]
    pub fn kernel(&self, id: KernelId) -> &Kernel {
        self.kernels.get(id.0 as usize).expect("K3: a launch names a kernel of its program")
    }

    /// The id of a kernel equal to this one, which is added if there is none.
    pub fn intern(&mut self, kernel: Kernel) -> KernelId {
        let place = self.kernels.iter().position(|other| *other == kernel).unwrap_or_else(|| {
            self.kernels.push(kernel);
            self.kernels.len() - 1
        });
        KernelId(u32::try_from(place).expect("fewer than 2^32 kernels"))
    }
}

impl Entry {
    /// The buffer.
    ///
    /// # Panics
    /// If there is none of this id.
    #[must_use]
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        self.buffers.get(id.0 as usize).expect("K4: a view names a buffer of its entry")
    }
}
