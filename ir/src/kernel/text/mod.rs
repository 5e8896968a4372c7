//! The text of kernel programs. `parse(&print(&p)) == Ok(p)`, locations included.
//!
//! ```text
//! program 1
//!
//! sym batch: 0..=4294967296
//!
//! kernel k0 "row_sum" (
//!   read p0: f32[batch, 8],
//!   write p1: f32[batch],
//! ) nest [batch, 8] {
//!   stage over [0, 1] keep [0] {
//!     %0: f32 = load p0[a0, a1]
//!     reduce sum(%0): f32
//!   }
//!   stage over [0] keep [0] {
//!     %0: f32 = reduced(0, 0)
//!     store p1[a0] = %0
//!   }
//! }
//!
//! entry @main arena 0 {
//!   buffer b0: f32[batch, 8] = input 0
//!   buffer b1: f32[batch] = output 0
//!   input b0 "x"
//!   output b1
//!   launch k0(b0, b1)
//! }
//! ```
//!
//! `a0` is a loop axis, `p0` an argument, `%0` a value of its body, `t0` a trap, `c0` a constant, `b0` a buffer. Strides
//! that are row-major are not written. Printing is total; reading trusts nothing and verifies.

mod parse;
mod print;
mod value;

pub use parse::parse;
pub use print::{print, print_kernel};

/// The version in the first line. A text of another version is refused.
pub const VERSION: u32 = 1;
