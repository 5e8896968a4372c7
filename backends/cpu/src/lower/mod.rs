//! From kernels to vector IR: which loops there are, which axis goes over lanes, what is tiled, packed and done in parallel.

mod body;
mod columns;
mod contract;
mod cx;
mod index;
mod loops;
mod memo;
mod nest;
mod over_rows;
mod prefix;
mod reduce;
mod scatter;
mod sort;
mod tiles;
mod windows;

use graver_ir::kernel::{Kernel, KernelBody};
use graver_ir::{Dim, Symbol};

use crate::how::How;
use crate::vector::Func;
use cx::Cx;

/// A kernel as functions that run one after the other, each over parallel points.
#[derive(Clone, Debug)]
pub(crate) struct Lowered {
    pub(crate) phases: Vec<Phase>,
    /// Bytes of memory that all threads share, from phase to phase: one more argument.
    pub(crate) shared: Dim,
    /// What the first phase does that need not be done again.
    pub(crate) prepared: Option<Prepared>,
    /// An argument that may be stored past the caches, by phases of their own ([`lower_passing`]).
    pub(crate) passing: Option<Passing>,
}

/// An argument that a kernel only writes, along its axis over lanes.
#[derive(Clone, Debug)]
pub(crate) struct Passing {
    pub(crate) arg: usize,
    pub(crate) bytes: Dim,
    /// Distances in bytes between what is stored side by side, which must be whole vectors, as must be its address.
    pub(crate) apart: Vec<Dim>,
}

impl Lowered {
    /// Phases of which nothing else is to be told.
    fn new(phases: Vec<Phase>, shared: Dim) -> Self {
        Self { phases, shared, prepared: None, passing: None }
    }
}

/// A first phase that fills the shared memory from some arguments alone, and is all that writes there.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// The arguments.
    pub(crate) args: Vec<usize>,
    /// Whether it is the same for all sizes.
    pub(crate) fixed: bool,
}

/// A function over parallel points, and what running it takes.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) func: Func,
    /// How many parallel points there are. What a point is never depends on the number of threads.
    pub(crate) extent: Dim,
    /// Bytes of memory that each thread has for itself.
    pub(crate) scratch: Dim,
    /// Scalar operations of all points together, roughly.
    pub(crate) work: Dim,
}

/// The kernel; `lasting` arguments are those of which what is packed may be kept.
pub(crate) fn lower(kernel: &Kernel, symbols: &[Symbol], how: How, lasting: &[bool]) -> Lowered {
    let cx = Cx::new(kernel, symbols, how);
    lower_by(cx, kernel, lasting)
}

/// The same, of which an argument is stored past the caches, as its [`Passing`] allows.
pub(crate) fn lower_passing(kernel: &Kernel, symbols: &[Symbol], how: How, arg: usize) -> Lowered {
    let cx = Cx { passing: Some(arg), ..Cx::new(kernel, symbols, how) };
    lower_by(cx, kernel, &vec![false; kernel.args.len()])
}

fn lower_by(cx: Cx<'_>, kernel: &Kernel, lasting: &[bool]) -> Lowered {
    match &kernel.body {
        KernelBody::Nest(nest) => nest::lower(cx, nest),
        KernelBody::Contract(contract) => contract::lower(cx, contract, lasting),
        KernelBody::Scatter(scatter) => scatter::lower(cx, scatter),
        KernelBody::Sort(sort) => sort::lower(cx, sort),
        KernelBody::Prefix(prefix) => prefix::lower(cx, prefix),
        KernelBody::Attend(attend) => contract::attend::lower(cx, attend),
    }
}
