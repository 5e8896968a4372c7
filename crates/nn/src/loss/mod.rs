//! Losses with their options: what a training step makes small. The plain ones are methods of [`graver_trace::Tensor`] as well.
//!
//! PyTorch's numbers; classes are the last axis. Shapes must agree: broadcasting in a loss hides a mistake.

mod class;
mod regression;

use graver_trace::{Diag, Size, Tensor};

pub use class::{CrossEntropy, bce_with_logits, kl_div, nll, soft_cross_entropy};
pub use regression::{huber, l1, mse, smooth_l1};

/// What becomes of the losses of single elements or rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// One number: their mean.
    #[default]
    Mean,
    /// One number: their sum.
    Sum,
    /// They stay.
    None,
}

impl Reduction {
    /// The losses reduced.
    #[must_use]
    #[track_caller]
    pub fn of(self, losses: Tensor) -> Tensor {
        match self {
            Self::Mean => losses.mean(..),
            Self::Sum => losses.sum(..),
            Self::None => losses,
        }
    }
}

/// A loss, or what is wrong with its operands under its name. No closure: those would lose the caller's line.
macro_rules! checked {
    ($name:literal, $check:expr, $loss:expr) => {
        match $check {
            Ok(()) => $loss,
            Err(diag) => graver_trace::fail(graver_trace::Diag::op(diag, $name)),
        }
    };
}

use checked;

/// Both of one shape and element type.
#[track_caller]
fn alike(x: Tensor, target: Tensor) -> Result<(), Diag> {
    if x.dtype() == target.dtype() && x.shape() == target.shape() {
        return Ok(());
    }
    Err(Diag::new(format!("the target of {} must be alike, got {}", text(x), text(target))))
}

/// A tensor's type in a message.
#[track_caller]
fn text(x: Tensor) -> String {
    let sizes: Vec<String> = x.shape().iter().map(Size::to_string).collect();
    format!("{}[{}]", x.dtype(), sizes.join(", "))
}
