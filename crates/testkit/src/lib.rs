//! Random programs, samples of every operation, and comparison by error bounds, for tests.
//!
//! Knows the graph IR alone: neither passes nor backends nor the interpreter, all of which test themselves with it.
//! Everything is a function of names and seeds: the same on every machine and in every run.

mod build;
mod close;
mod derived;
mod fill;
pub mod nets;
mod random;
mod rng;
mod samples;

pub use build::{AsDim, Build, Dims};
pub use close::{Bound, check_close, check_each, eps};
pub use derived::{forward, inner, mapped, one_by_one, random_like, reverse};
pub use fill::{Fill, concrete, sizes};
pub use random::{RandomModule, initial_state, random_module, random_program};
pub use rng::Rng;
pub use samples::{Sample, samples, transform_samples};
