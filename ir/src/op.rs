//! The language: every operation of the graph, by family. A closed enum; attributes are small structs.
//!
//! Operands are the edges into a node, in slot order; attributes are here. `T`, `[..]` and the constraints of each
//! operation are stated once, in `infer/<family>.rs`, which is the typing rule, the shape inference and the verifier.
//! Nothing broadcasts implicitly: [`Op::Broadcast`] does it, and a symbolic size never stretches.

use serde::{Deserialize, Serialize};

pub use crate::control::{If, Scan, While, scan_signature, slice_of, stack_of};

use crate::array::Array;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::module::FuncId;
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

    // ---- index: values that come from positions, and positions that come from values
    /// `() -> y`: a constant array.
    Const(Array),
    /// `() -> i64[]`: a size as a value.
    Size(Dim),
    /// `() -> y`: the position along one axis.
    Iota(Iota),
    /// `(x, index) -> y`: elements of `x` at run-time positions along one axis. A position out of range is an error of the call.
    Gather(GatherAxes),
    /// `(x, index, update) -> y`: `x` with each `update` added at its position, in the order of positions. The transpose of [`Op::Gather`].
    ScatterAdd(GatherAxes),

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

/// Attributes of [`Op::Iota`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Iota {
    /// A number type.
    pub dtype: DType,
    /// The result's shape.
    pub shape: Shape,
    /// The axis that is counted along.
    pub axis: usize,
}

/// Attributes of [`Op::Gather`] and [`Op::ScatterAdd`].
///
/// With `b = batch`: `y.shape = x.shape[..axis] + index.shape[b..] + x.shape[axis + 1..]`, `index.shape[..b] == x.shape[..b]`, `b <= axis`.
/// The `update` of a scatter has the shape that the gather's result would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatherAxes {
    /// The axis of `x` that is indexed.
    pub axis: usize,
    /// The number of leading axes that `x` and `index` share.
    pub batch: usize,
}

/// A permutation of axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Perm(Vec<usize>);

impl Perm {
    /// The permutation that takes axis `axes[i]` to place `i`.
    ///
    /// # Errors
    /// If `axes` is not `0..n` in some order.
    pub fn new(axes: Vec<usize>) -> Result<Self, String> {
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if sorted.iter().copied().eq(0..axes.len()) {
            Ok(Self(axes))
        } else {
            Err(format!("{axes:?} is not a permutation of 0..{}", axes.len()))
        }
    }

    /// The axes.
    #[must_use]
    pub fn axes(&self) -> &[usize] {
        &self.0
    }

    /// The permutation that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut inverse = vec![0; self.0.len()];
        for (place, axis) in self.0.iter().enumerate() {
            inverse[*axis] = place;
        }
        Self(inverse)
    }

    /// This one after `first`: `x.permute(first).permute(self)`.
    #[must_use]
    pub fn after(&self, first: &Self) -> Self {
        Self(self.0.iter().map(|axis| first.0[*axis]).collect())
    }

    /// Whether every axis stays.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.0.iter().copied().eq(0..self.0.len())
    }
}

impl TryFrom<Vec<usize>> for Perm {
    type Error = String;

    fn try_from(axes: Vec<usize>) -> Result<Self, String> {
        Self::new(axes)
    }
}

impl From<Perm> for Vec<usize> {
    fn from(perm: Perm) -> Self {
        perm.0
    }
}

/// Attributes of [`Op::Broadcast`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Broadcast {
    /// The result's shape.
    pub shape: Shape,
    /// Where each axis of the operand goes; strictly increasing; sizes there are equal.
    pub axes: Vec<usize>,
}

/// One axis of [`Op::Slice`]: elements `start, start + step, ..`, `size` of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SliceAxis {
    /// The first position, 0 or more.
    pub start: Dim,
    /// The number of elements taken.
    pub size: Dim,
    /// The distance between elements, 1 or more.
    pub step: i64,
}

/// One axis of [`Op::Pad`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PadAxis {
    /// Padding before, 0 or more.
    pub low: Dim,
    /// Padding after, 0 or more.
    pub high: Dim,
    /// Padding between two elements, 0 or more.
    pub interior: i64,
}

/// How elements are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReduceKind {
    /// The sum; integers wrap. 0 of nothing.
    Sum,
    /// The product; integers wrap. 1 of nothing.
    Prod,
    /// The greatest; NaN if any is NaN; for bool: whether any holds. [`crate::dtype::Scalar::lowest`] of nothing.
    Max,
    /// The least; NaN if any is NaN; for bool: whether all hold. [`crate::dtype::Scalar::highest`] of nothing.
    Min,
}

impl ReduceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Sum, Self::Prod, Self::Max, Self::Min];

    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Prod => "prod",
            Self::Max => "max",
            Self::Min => "min",
        }
    }

    /// What an empty reduction gives.
    #[must_use]
    pub fn identity(self, dtype: DType) -> crate::dtype::Scalar {
        use crate::dtype::Scalar;
        match self {
            Self::Sum => Scalar::zero(dtype),
            Self::Prod => Scalar::one(dtype),
            Self::Max => Scalar::lowest(dtype),
            Self::Min => Scalar::highest(dtype),
        }
    }
}

/// Attributes of [`Op::Reduce`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reduce {
    /// How.
    pub kind: ReduceKind,
    /// The axes that vanish, strictly increasing.
    pub axes: Vec<usize>,
}

/// Which extreme is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Extreme {
    /// The greatest.
    Max,
    /// The least.
    Min,
}

impl Extreme {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Max, Self::Min];

    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

/// Attributes of [`Op::ArgReduce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ArgReduce {
    /// Which.
    pub kind: Extreme,
    /// The axis that vanishes.
    pub axis: usize,
}

/// The windows along one axis: window `i` holds positions `i * stride - low + k * dilation`, `k` in `0..size`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WindowAxis {
    /// Elements in a window, 1 or more.
    pub size: i64,
    /// The distance between windows, 1 or more.
    pub stride: i64,
    /// The distance between a window's elements, 1 or more.
    pub dilation: i64,
    /// Padding before, 0 or more.
    pub low: Dim,
    /// Padding after, 0 or more.
    pub high: Dim,
}

impl WindowAxis {
    /// The window of one element: the axis stays as it is.
    pub const IDENTITY: Self = Self { size: 1, stride: 1, dilation: 1, low: Dim::ZERO, high: Dim::ZERO };

    /// The number of windows over an axis of `size` elements.
    #[must_use]
    pub fn count(&self, size: &Dim) -> Dim {
        let reach = (self.size - 1).saturating_mul(self.dilation).saturating_add(1);
        (size + &self.low + &self.high - Dim::from(reach)).floor_div(&Dim::from(self.stride)) + Dim::ONE
    }
}

/// Attributes of [`Op::Window`] and [`Op::WindowArg`] (which takes max and min).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// How.
    pub kind: ReduceKind,
    /// One entry an axis of the operand.
    pub axes: Vec<WindowAxis>,
}

/// Attributes of [`Op::WindowPut`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WindowPut {
    /// One entry an axis.
    pub axes: Vec<WindowAxis>,
    /// The result's shape.
    pub shape: Shape,
}

/// Attributes of [`Op::Dot`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DotAxes {
    /// Batch axes of the left operand, in the result's order.
    pub lhs_batch: Vec<usize>,
    /// Batch axes of the right operand, in the same order.
    pub rhs_batch: Vec<usize>,
    /// Contracted axes of the left operand.
    pub lhs_contract: Vec<usize>,
    /// Contracted axes of the right operand, in the same order.
    pub rhs_contract: Vec<usize>,
}

/// Attributes of [`Op::Conv`].
///
/// `y[n, o, i..] = sum over c, k.. of x[n, g*C/groups + c, i*stride - low + k*kernel_dilation ..] * kernel[o, c, k..]`, where `x` is read with
/// `input_dilation - 1` zeros between its elements and zeros around, and `g = o / (O / groups)`.
/// With `batch_groups = B > 1` the batch axis is split into `B` parts and output feature `o` reads part `o / (O / B)`; `y` has `N / B` rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conv {
    /// Axes of the operand: batch, feature, spatial..
    pub input: Vec<usize>,
    /// Axes of the kernel: output feature, input feature, spatial..
    pub kernel: Vec<usize>,
    /// Axes of the result: batch, feature, spatial..
    pub output: Vec<usize>,
    /// One entry a spatial axis.
    pub axes: Vec<ConvAxis>,
    /// Groups of features.
    pub groups: i64,
    /// Groups of the batch; not together with `groups`.
    pub batch_groups: i64,
}

/// One spatial axis of [`Op::Conv`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvAxis {
    /// The distance between results, 1 or more.
    pub stride: i64,
    /// Padding before (of the dilated operand); negative cuts.
    pub low: Dim,
    /// Padding after (of the dilated operand); negative cuts.
    pub high: Dim,
    /// The distance between the kernel's elements, 1 or more.
    pub kernel_dilation: i64,
    /// The distance between the operand's elements, 1 or more.
    pub input_dilation: i64,
}

/// Attributes of [`Op::Philox`].
///
/// The operand is `[key 0, key 1, step low, step high]`. Element `i` is word `i mod 4` of Philox4x32-10 (Salmon et al., 2011, "Parallel random
/// numbers: as easy as 1, 2, 3") with that key and the counter `[i / 4, stream, step low, step high]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Philox {
    /// The result's shape; fewer than 2^34 elements.
    pub shape: Shape,
    /// Tells apart the random ops of one program.
    pub stream: u32,
}

/// Functions whose bodies mean something that a lowering may know better than its primitives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Composite {
    /// `(x) -> y`: softmax over the last axis.
    Softmax,
    /// `(x) -> y`: the logarithm of the softmax over the last axis.
    LogSoftmax,
    /// `(x) -> y`: `x * Phi(x)`.
    Gelu,
    /// `(x, weight, bias) -> y`: layer norm over the last axis.
    LayerNorm,
    /// `(x, weight, bias) -> (y, mean, variance)`: batch norm over all axes but the second.
    BatchNorm,
    /// `(logits, labels) -> loss`: the mean over rows of the cross-entropy with integer labels.
    CrossEntropy,
    /// `(q, k, v) -> y` or `(q, k, v, bias) -> y`: scaled dot-product attention.
    Attention,
    /// A region that the fuse pass outlined: it becomes one kernel.
    Region,
}

impl Composite {
    /// Every tag.
    pub const ALL: [Self; 8] = [
        Self::Softmax,
        Self::LogSoftmax,
        Self::Gelu,
        Self::LayerNorm,
        Self::BatchNorm,
        Self::CrossEntropy,
        Self::Attention,
        Self::Region,
    ];

    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::LogSoftmax => "log_softmax",
            Self::Gelu => "gelu",
            Self::LayerNorm => "layer_norm",
            Self::BatchNorm => "batch_norm",
            Self::CrossEntropy => "cross_entropy",
            Self::Attention => "attention",
            Self::Region => "region",
        }
    }
}

/// Attributes of [`Op::Call`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    /// The callee.
    pub func: FuncId,
    /// What the body means, if it is more than its primitives.
    pub tag: Option<Composite>,
    /// `(operands.., cotangents..) -> cotangents of operands`: a derivative that replaces the body's own. It takes a cotangent of
    /// every float result, and gives one of every float operand, in order.
    pub vjp: Option<FuncId>,
    /// The callee's result types.
    pub results: Vec<Type>,
}

/// A derivative recorded in the graph: how many operands are what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transform {
    /// `(y.. , cotangents of y.. , x..) -> cotangents of x`: reverse mode. Zero where no `y` depends on an `x`.
    Vjp {
        /// How many `y`.
        outputs: usize,
        /// How many `x`; each is an [`Op::Alias`].
        wrt: usize,
    },
    /// `(y.. , x.. , tangents of x..) -> tangents of y`: forward mode.
    Jvp {
        /// How many `y`.
        outputs: usize,
        /// How many `x`; each is an [`Op::Alias`].
        wrt: usize,
    },
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
            Self::Const(_) => "const",
            Self::Size(_) => "size",
            Self::Iota(_) => "iota",
            Self::Gather(_) => "gather",
            Self::ScatterAdd(_) => "scatter_add",
            Self::Reshape(_) => "reshape",
            Self::Permute(_) => "permute",
            Self::Broadcast(_) => "broadcast",
            Self::Slice(_) => "slice",
            Self::Pad(_) => "pad",
            Self::Concat(_) => "concat",
            Self::Reverse(_) => "reverse",
            Self::Reduce(_) => "reduce",
            Self::ArgReduce(_) => "arg_reduce",
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

    /// The family.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Map(_) | Self::Cast(_) => Family::Map,
            Self::Const(_) | Self::Size(_) | Self::Iota(_) | Self::Gather(_) | Self::ScatterAdd(_) => Family::Index,
            Self::Reshape(_)
            | Self::Permute(_)
            | Self::Broadcast(_)
            | Self::Slice(_)
            | Self::Pad(_)
            | Self::Concat(_)
            | Self::Reverse(_) => Family::Movement,
            Self::Reduce(_)
            | Self::ArgReduce(_)
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
