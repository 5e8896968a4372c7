//! The language: every operation of the graph, by family. A closed enum; attributes are small structs.
//!
//! Operands are the edges into a node, in slot order; attributes are here. `T`, `[..]` and the constraints of each
//! operation are stated once, in `infer/<family>.rs`, which is the typing rule, the shape inference and the verifier.
//! Nothing broadcasts implicitly: [`Op::Broadcast`] does it, and a symbolic size never stretches.

mod call;
mod contract;
mod control;
mod index;
mod movement;
mod random;
mod reduce;

pub use call::{Attend, AttendPart, Call, Composite, Transform};
pub use contract::{Conv, ConvAxis, DotAxes};
pub use control::{If, Scan, While, scan_signature, slice_of, stack_of};
pub use index::{DynamicSlice, GatherAxes, Iota, Scatter, ScatterKind, Sort};
pub use movement::{Broadcast, PadAxis, Perm, SliceAxis};
pub use random::Philox;
pub use reduce::{ArgReduce, Extreme, Prefix, Reduce, ReduceKind, Window, WindowAxis, WindowPut};

use serde::{Deserialize, Serialize};

use crate::array::Array;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::scalar::ScalarFn;
use crate::ty::{Shape, Type};

/// An operation with its attributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    // ---- map: element by element
    /// `(x, ..) -> y`: the function at every element; operands have one shape.
    Map(ScalarFn),
    /// `(x) -> y`: every element converted; floats to integers truncate and saturate, NaN gives 0; integers to narrower ones keep
    /// their low bits; bool is whether `x != 0`.
    Cast(DType),
    /// `(x) -> y`: the bits of every element as another type of the same size, float and integer of 4 or 8 bytes, or two integers; bool gives 0
    /// and 1.
    Bitcast(DType),

    // ---- index: values that come from positions, and positions that come from values
    /// `() -> y`: a constant array.
    Const(Array),
    /// `() -> i64[]`: a size as a value.
    Size(Dim),
    /// `() -> y`: the position along one axis.
    Iota(Iota),
    /// `(x, index) -> y`: elements of `x` at run-time positions along one axis. A position out of range is an error of the call.
    Gather(GatherAxes),
    /// `(x, index, update) -> y`: `x` with each `update` put at its position or combined with what is there, in the order of positions. A
    /// position out of range is an error of the call. The addition is the transpose of [`Op::Gather`].
    Scatter(Scatter),
    /// `(x, start: i64[] ..) -> y`: a block of `x` that begins at a run-time position along each of the listed axes, and is whole along the
    /// others. A block that leaves `x` is an error of the call.
    DynamicSlice(DynamicSlice),
    /// `(x, update, start: i64[] ..) -> y`: `x` with `update` in the place of the block that begins at a run-time position along each of these
    /// axes, and is whole along the others. A block that leaves `x` is an error of the call. In place where `x` dies.
    DynamicUpdate(Vec<usize>),
    /// `(x) -> i64`: the positions along one axis in the order of their elements. Equal elements keep their order, and NaN comes last.
    Sort(Sort),

    // ---- movement: the same elements elsewhere
    /// `(x) -> y`: the same row-major sequence of elements under another shape.
    Reshape(Shape),
    /// `(x) -> y`: axis `i` of `y` is axis `perm[i]` of `x`.
    Permute(Perm),
    /// `(x) -> y`: axis `i` of `x` becomes axis `axes[i]` of `y`; the other axes repeat.
    Broadcast(Broadcast),
    /// `(x) -> y`: one strided range an axis.
    Slice(Vec<SliceAxis>),
    /// `(x, value) -> y`: `value` around and between the elements.
    Pad(Vec<PadAxis>),
    /// `(x, ..) -> y`: operands after one another along an axis.
    Concat(usize),
    /// `(x) -> y`: these axes backwards.
    Reverse(Vec<usize>),

    // ---- reduce: many elements to one
    /// `(x) -> y`: the elements along `axes` combined; those axes vanish.
    Reduce(Reduce),
    /// `(x) -> i64`: the position along `axis` of the extreme element; the first of equals, and NaN wins; the axis vanishes.
    ArgReduce(ArgReduce),
    /// `(x) -> y`: every element combined with all before it along `axis`, or with all after it.
    Prefix(Prefix),
    /// `(x) -> y`: the elements of every window combined. Padding is never seen by max and min, and is 0 for sum.
    Window(Window),
    /// `(x) -> i32`: the row-major position inside its window of every window's extreme element; ties and NaN as [`Op::ArgReduce`];
    /// -1 where a window holds padding alone.
    WindowArg(Window),
    /// `(x, place) -> y`: of every window the element at `place`, as [`Op::WindowArg`] gives it; 0 where `place` is padding or not in the
    /// window.
    WindowTake(Vec<WindowAxis>),
    /// `(y, place) -> x`: every window's value added to the element at `place`. The transpose of [`Op::WindowTake`].
    WindowPut(WindowPut),

    // ---- contract: sums of products
    /// `(x, y) -> z`: sums of products over the contracted axes; axes of `z`: batch, free of `x`, free of `y`.
    Dot(DotAxes),
    /// `(x, kernel) -> y`: a cross-correlation.
    Conv(Conv),

    // ---- random
    /// `(key: u32[4]) -> u32`: Philox4x32-10 of the row-major position of every element.
    Philox(Philox),

    // ---- control
    /// `() -> x`: an input of the function.
    Param(Type),
    /// `(x) -> x`: the same value as a new name, with respect to which a [`Transform`] differentiates.
    Alias,
    /// `(x) -> x`: the same value, constant to differentiation.
    StopGradient,
    /// `(..) -> ..`: a function of the module applied.
    Call(Call),
    /// `(condition: bool[], operands..) -> ..`: one of two functions of the module applied.
    If(If),
    /// `(carried.., closed..) -> carried..`: a function applied as long as another one says so.
    While(While),
    /// `(carried.., scanned.., closed..) -> (carried.., stacked..)`: a function applied to every slice along the first axis in turn.
    Scan(Scan),
    /// `(..) -> ..`: a derivative, which the grad pass writes out.
    Transform(Transform),
}

/// A family of operations: the same file name in every folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Element by element.
    Map,
    /// Positions as values, values as positions.
    Index,
    /// The same elements elsewhere.
    Movement,
    /// Many elements to one.
    Reduce,
    /// Sums of products.
    Contract,
    /// Random bits.
    Random,
    /// Functions and derivatives.
    Control,
}

impl Op {
    /// The name in texts. A map's is its function's.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Map(function) => function.name(),
            Self::Cast(_) => "cast",
            Self::Bitcast(_) => "bitcast",
            Self::Const(_) => "const",
            Self::Size(_) => "size",
            Self::Iota(_) => "iota",
            Self::Gather(_) => "gather",
            Self::Scatter(scatter) => scatter.kind.name(),
            Self::DynamicSlice(_) => "dynamic_slice",
            Self::DynamicUpdate(_) => "dynamic_update",
            Self::Sort(_) => "sort",
            Self::Reshape(_) => "reshape",
            Self::Permute(_) => "permute",
            Self::Broadcast(_) => "broadcast",
            Self::Slice(_) => "slice",
            Self::Pad(_) => "pad",
            Self::Concat(_) => "concat",
            Self::Reverse(_) => "reverse",
            Self::Reduce(_) => "reduce",
            Self::ArgReduce(_) => "arg_reduce",
            Self::Prefix(_) => "prefix",
            Self::Window(_) => "window",
            Self::WindowArg(_) => "window_arg",
            Self::WindowTake(_) => "window_take",
            Self::WindowPut(_) => "window_put",
            Self::Dot(_) => "dot",
            Self::Conv(_) => "conv",
            Self::Philox(_) => "philox",
            Self::Param(_) => "param",
            Self::Alias => "alias",
            Self::StopGradient => "stop_gradient",
            Self::Call(_) => "call",
            Self::If(_) => "if",
            Self::While(_) => "while",
            Self::Scan(_) => "scan",
            Self::Transform(Transform::Vjp { .. }) => "vjp",
            Self::Transform(Transform::Jvp { .. }) => "jvp",
        }
    }

    /// Whether the result depends on which of two elements is the greater, and on nothing else of their order.
    #[must_use]
    pub const fn compares(&self) -> bool {
        use ScalarFn::{Ge, Gt, Le, Lt, Max, Min};
        match self {
            Self::Map(function) => matches!(function, Max | Min | Lt | Le | Gt | Ge),
            Self::Reduce(reduce) => matches!(reduce.kind, ReduceKind::Max | ReduceKind::Min),
            Self::Prefix(prefix) => matches!(prefix.kind, ReduceKind::Max | ReduceKind::Min),
            Self::Window(window) => matches!(window.kind, ReduceKind::Max | ReduceKind::Min),
            Self::Scatter(scatter) => matches!(scatter.kind, ScatterKind::Max | ScatterKind::Min),
            Self::ArgReduce(_) | Self::WindowArg(_) | Self::Sort(_) => true,
            Self::Cast(_)
            | Self::Bitcast(_)
            | Self::Const(_)
            | Self::Size(_)
            | Self::Iota(_)
            | Self::Gather(_)
            | Self::DynamicSlice(_)
            | Self::DynamicUpdate(_)
            | Self::Reshape(_)
            | Self::Permute(_)
            | Self::Broadcast(_)
            | Self::Slice(_)
            | Self::Pad(_)
            | Self::Concat(_)
            | Self::Reverse(_)
            | Self::WindowTake(_)
            | Self::WindowPut(_)
            | Self::Dot(_)
            | Self::Conv(_)
            | Self::Philox(_)
            | Self::Param(_)
            | Self::Alias
            | Self::StopGradient
            | Self::Call(_)
            | Self::If(_)
            | Self::While(_)
            | Self::Scan(_)
            | Self::Transform(_) => false,
        }
    }

    /// Whether the operand in a slot has elements that are compared, which the positions of a scatter are not.
    #[must_use]
    pub const fn is_compared(&self, slot: usize) -> bool {
        self.compares() && !(matches!(self, Self::Scatter(_)) && slot == 1)
    }

    /// The family.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Map(_) | Self::Cast(_) | Self::Bitcast(_) => Family::Map,
            Self::Const(_)
            | Self::Size(_)
            | Self::Iota(_)
            | Self::Gather(_)
            | Self::Scatter(_)
            | Self::DynamicSlice(_)
            | Self::DynamicUpdate(_)
            | Self::Sort(_) => Family::Index,
            Self::Reshape(_)
            | Self::Permute(_)
            | Self::Broadcast(_)
            | Self::Slice(_)
            | Self::Pad(_)
            | Self::Concat(_)
            | Self::Reverse(_) => Family::Movement,
            Self::Reduce(_)
            | Self::ArgReduce(_)
            | Self::Prefix(_)
            | Self::Window(_)
            | Self::WindowArg(_)
            | Self::WindowTake(_)
            | Self::WindowPut(_) => Family::Reduce,
            Self::Dot(_) | Self::Conv(_) => Family::Contract,
            Self::Philox(_) => Family::Random,
            Self::Param(_)
            | Self::Alias
            | Self::StopGradient
            | Self::Call(_)
            | Self::If(_)
            | Self::While(_)
            | Self::Scan(_)
            | Self::Transform(_) => Family::Control,
        }
    }
}
