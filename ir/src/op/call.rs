//! Calls of functions, what their bodies mean, and derivatives recorded in the graph.

use serde::{Deserialize, Serialize};

use crate::module::FuncId;
use crate::ty::Type;

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

/// Attributes of [`Op::Call`](crate::Op::Call).
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
        /// How many `x`; each is an [`Op::Alias`](crate::Op::Alias).
        wrt: usize,
    },
    /// `(y.. , x.. , tangents of x..) -> tangents of y`: forward mode.
    Jvp {
        /// How many `y`.
        outputs: usize,
        /// How many `x`; each is an [`Op::Alias`](crate::Op::Alias).
        wrt: usize,
    },
}
