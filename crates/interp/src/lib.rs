//! The meaning of every operation and of every kernel, in plain loops: the oracle that backends are judged by, and the
//! constant folder. Nothing here is fast, parallel or clever.
//!
//! - [`apply`] and [`cast`]: scalar functions and conversions.
//! - [`eval`] and [`eval_op`]: graphs and their operations.
//! - [`Interp`]: kernel programs, as a device.

mod dense;
mod graph;
mod kernel;
mod scalar;
mod special;
mod walk;

pub use graph::{Outcome, eval, eval_op};
pub use kernel::{Checks, Interp};
pub use scalar::{Precision, apply, cast};
pub use special::erf;
