//! GPUs by their driver, without one: everything between `graver::cuda(0)` and the library of NVIDIA's driver, over a library that
//! only pretends (`fake.rs`). What a real GPU adds is time, and its own reading of the kernels.

mod calls;
mod commands;
mod devices;
mod errors;
mod fake;
mod faults;
mod kept;
mod memory;
mod models;
mod planted;

use fake::{Cache, with_driver};
