//! Attributes of random bits.

use serde::{Deserialize, Serialize};

use crate::ty::Shape;

/// Attributes of [`Op::Philox`](crate::Op::Philox).
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
