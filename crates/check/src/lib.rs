//! For programs that go wrong: where the first NaN comes from, and whether what was compiled computes what was written.
//!
//! - [`finite`]: names the first operation that makes a NaN or an infinity.
//! - [`check`]: runs a program in the interpreter and on a device, every kernel too; on a difference it names the pass, the stage or the kernel
//!   that makes it, and gives the smallest program that still shows it, as a [`Case`]: a `.gir` text that is a test.
//!
//! Slow: everything is interpreted, some of it several times. No IO; nothing here runs unless it is asked for.

mod bisect;
mod case;
mod close;
mod finite;
mod kernels;
mod reduce;
mod resize;

pub use bisect::{Checked, Compiler, Finding, Guilty, check};
pub use case::Case;
pub use finite::finite;
pub use graver_interp::Suspect;
