//! What lowering a kernel works with: the function being made, the arguments, and where each axis stands.

use graver_ir::kernel::{Arg, Kernel};
use graver_ir::{Dim, Symbol};

use crate::how::How;
use crate::vector::{Builder, GUARD_BYTES, Op, Val};

/// Where an axis stands at this place of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// In no loop.
    Unbound,
    /// At one position.
    One(Val),
    /// At a position a lane, neighbours; this is the first lane's.
    Lane(Val),
}

pub(super) struct Cx<'a> {
    pub(super) b: Builder,
    pub(super) kernel: &'a Kernel,
    pub(super) symbols: &'a [Symbol],
    pub(super) how: How,
    /// 4-byte lanes of a vector.
    pub(super) lanes: usize,
    /// By axis.
    pub(super) at: Vec<At>,
    /// The position of the first lane, where a sweep is one vector from a known one on.
    pub(super) first: Option<Val>,
    /// An axis, and how many positions further along it elements are fetched while those here are read ([`Cx::prefetch`]).
    pub(super) ahead: Option<(usize, i64)>,
    /// Bytes of the scratch memory that is given out.
    pub(super) scratch: Dim,
    /// The argument that is the memory which all threads share, and where what is asked for by [`Cx::shared`] begins in it.
    pub(super) shared: (usize, Dim),
    /// The argument whose elements go past the caches where they are stored side by side.
    pub(super) passing: Option<usize>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(kernel: &'a Kernel, symbols: &'a [Symbol], how: How) -> Self {
        let lanes = how.isa.lanes();
        Self {
            b: Builder::for_lanes(kernel.name.clone(), lanes),
            kernel,
            symbols,
            how,
            lanes,
            at: vec![At::Unbound; graver_ir::kernel::AxisSet::MAX],
            first: None,
            ahead: None,
            scratch: Dim::from(GUARD_BYTES),
            shared: (kernel.args.len(), Dim::ZERO),
            passing: None,
        }
    }

    /// For another function of the same kernel.
    pub(super) fn again(&self, suffix: &str) -> Self {
        let mut cx =
            Self { passing: self.passing, shared: self.shared.clone(), ..Self::new(self.kernel, self.symbols, self.how) };
        cx.b = Builder::for_lanes(format!("{}.{suffix}", self.kernel.name), self.lanes);
        cx
    }

    pub(super) fn arg(&self, arg: usize) -> &'a Arg {
        &self.kernel.args[arg]
    }

    /// The axis that is over lanes here.
    pub(super) fn lane_axis(&self) -> Option<usize> {
        self.at.iter().position(|at| matches!(at, At::Lane(_)))
    }

    /// The address of the memory that all threads share.
    pub(super) fn shared(&mut self) -> Val {
        let (arg, offset) = self.shared.clone();
        let (base, offset) = (self.b.op(Op::Arg(arg)), self.value(&offset));
        self.b.add(base, offset)
    }

    /// Memory of this thread: the address of `bytes`.
    pub(super) fn take_scratch(&mut self, bytes: &Dim) -> Val {
        let offset = self.scratch.clone();
        self.scratch = (&self.scratch + bytes).round_up(64);
        let (base, offset) = (self.b.op(Op::Scratch), self.value(&offset));
        self.b.add(base, offset)
    }
}
