//! What passes must know of a machine, as plain data: a backend describes itself, passes decide by it.

use serde::{Deserialize, Serialize};

/// A machine as the passes see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The backend's name: `cpu`, `interp`.
    pub name: String,
    /// Elements of `f32` in one vector.
    pub lanes: usize,
    /// Threads that run one step.
    pub threads: usize,
    /// Bytes of the cache that one thread has for itself.
    pub cache_bytes: usize,
    /// The alignment of buffers in the arena, in bytes; a power of two.
    pub alignment: usize,
    /// Whether contractions prefer the feature axis innermost (channels last).
    pub channels_last: bool,
    /// Whether a contraction's epilogue may hold maps.
    pub fused_epilogues: bool,
    /// Whether attention is a kernel, without the matrix of scores in memory.
    pub attends: bool,
    /// Whether all derivatives of attention are one kernel, with sums over rows ([`Attend::across`](crate::kernel::Attend::across)).
    pub attends_across: bool,
    /// Whether a kernel may combine elements of each row and then, of what rows compute, elements of all rows.
    pub sums_across_rows: bool,
}

impl Target {
    /// A machine that takes anything: what tests of passes use.
    #[must_use]
    pub fn generic() -> Self {
        Self {
            name: "generic".to_owned(),
            lanes: 8,
            threads: 2,
            cache_bytes: 1 << 20,
            alignment: 64,
            channels_last: true,
            fused_epilogues: true,
            attends: true,
            attends_across: true,
            sums_across_rows: true,
        }
    }
}
