//! The meaning of every operation and of every kernel, in plain loops: the oracle that backends are judged by, and the
//! constant folder. Nothing here is fast, parallel or clever.
//!
//! - [`apply`] and [`cast`]: scalar functions and conversions.
//! - [`eval`] and [`eval_op`]: graphs and their operations.
//! - [`eval_finite`]: where the first NaN comes from; [`eval_noisy`]: how far rounding may reach.
//! - [`Interp`]: kernel programs, as a device; [`run_watched`]: launch by launch.

mod dense;
mod finite;
mod graph;
mod kernel;
mod noise;
mod scalar;
mod special;
mod walk;

pub use finite::Suspect;
pub use graph::{Outcome, eval, eval_finite, eval_noisy, eval_op};
pub use kernel::{Checks, Interp, Launched, run_watched};
pub use scalar::{Precision, apply, cast};
pub use special::erf;
