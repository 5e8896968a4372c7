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
    /// `(x) -> y`: `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `(x, weight, bias) -> y`: layer norm over the last axis.
    LayerNorm,
    /// `(x, weight) -> y`: root mean square norm over the last axis.
    RmsNorm,
    /// `(x, weight, bias) -> (y, mean, variance)`: batch norm over all axes but the second.
    BatchNorm,
    /// `(logits, labels) -> loss`: the mean over rows of the cross-entropy with integer labels.
    CrossEntropy,
    /// `(q, k, v) -> y`: scaled dot-product attention.
    Attention,
    /// Attention, or a derivative of it, that a backend may know.
    Attend(Attend),
    /// A function whose derivative the user wrote: the one that the call brings is the only one that it has.
    Custom,
    /// As [`Composite::Custom`], of a rule for forward mode: the derivative that the call brings is the transpose of the rule, linear in cotangents,
    /// and forward mode is the transpose of that.
    CustomForward,
    /// Operations that a derivative computes again, instead of keeping what they compute.
    Checkpoint,
    /// Operations that the module repeats, kept as one function: its values have memory of their own.
    Block,
    /// A region that the fuse pass outlined: it becomes one kernel.
    Region,
}

impl Composite {
    /// Every tag.
    pub const ALL: [Self; 22] = [
        Self::Softmax,
        Self::LogSoftmax,
        Self::Gelu,
        Self::GeluTanh,
        Self::LayerNorm,
        Self::RmsNorm,
        Self::BatchNorm,
        Self::CrossEntropy,
        Self::Attention,
        Self::Attend(Attend { part: AttendPart::Forward, causal: false }),
        Self::Attend(Attend { part: AttendPart::Forward, causal: true }),
        Self::Attend(Attend { part: AttendPart::Backward, causal: false }),
        Self::Attend(Attend { part: AttendPart::Backward, causal: true }),
        Self::Attend(Attend { part: AttendPart::Queries, causal: false }),
        Self::Attend(Attend { part: AttendPart::Queries, causal: true }),
        Self::Attend(Attend { part: AttendPart::Keys, causal: false }),
        Self::Attend(Attend { part: AttendPart::Keys, causal: true }),
        Self::Custom,
        Self::CustomForward,
        Self::Checkpoint,
        Self::Block,
        Self::Region,
    ];

    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::LogSoftmax => "log_softmax",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::LayerNorm => "layer_norm",
            Self::RmsNorm => "rms_norm",
            Self::BatchNorm => "batch_norm",
            Self::CrossEntropy => "cross_entropy",
            Self::Attention => "attention",
            Self::Attend(attend) => attend.name(),
            Self::Custom => "custom",
            Self::CustomForward => "custom_forward",
            Self::Checkpoint => "checkpoint",
            Self::Block => "block",
            Self::Region => "region",
        }
    }

    /// Whether it is a function whose derivative the user wrote.
    #[must_use]
    pub const fn is_custom(self) -> bool {
        matches!(self, Self::Custom | Self::CustomForward)
    }
}

/// Attention of queries `q [.., h, l, d]` over keys `k [.., g, s, d]` and values `v [.., g, s, e]`, where `h / g` heads in a row share
/// those of one: shares are `softmax(q k^T + bias)`, of keys that count. A bias, where there is one, is an operand that stretches to `[.., h, l, s]`.
///
/// In 16-bit floats, what is a value a row is `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attend {
    /// What is computed.
    pub part: AttendPart,
    /// Whether only keys count that are not later than the query; the last of both are at the same time.
    pub causal: bool,
}

/// Attention, and its derivatives under a cotangent `g` of `y`, with `delta = sum over e of g * y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AttendPart {
    /// `(q, k, v, bias?) -> (y, log_sum)`: the shares of values, and the logarithm of the sum of `exp(score)`, `[.., h, l]`.
    Forward,
    /// `(q, k, v, bias?, g, log_sum, delta) -> (dq, dk, dv)`: both of the others at once, which a target may know or not.
    Backward,
    /// `(q, k, v, bias?, g, log_sum, delta) -> dq`
    Queries,
    /// `(q, k, v, bias?, g, log_sum, delta) -> (dk, dv)`
    Keys,
}

impl Attend {
    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.part, self.causal) {
            (AttendPart::Forward, false) => "attend",
            (AttendPart::Forward, true) => "attend_causal",
            (AttendPart::Backward, false) => "attend_backward",
            (AttendPart::Backward, true) => "attend_causal_backward",
            (AttendPart::Queries, false) => "attend_queries",
            (AttendPart::Queries, true) => "attend_causal_queries",
            (AttendPart::Keys, false) => "attend_keys",
            (AttendPart::Keys, true) => "attend_causal_keys",
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
    /// every float result, and gives one of every float operand, in order. That of a function [of the user's own](Composite::is_custom) takes the results between the
    /// two, and may give cotangents of the first float operands only: with respect to the others there is no derivative.
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
