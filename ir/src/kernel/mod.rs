//! The kernel IR: all that a backend sees. A kernel says what, as plain data; how is the backend's.
//!
//! A [`Program`] holds kernels, and entries whose steps launch them over buffers. Shapes are closed: [`Nest`] for maps,
//! reductions, windows and rows; [`Contract`] for sums of products; [`Attend`] for attention and its derivatives; [`Scatter`] for
//! stores at run-time positions; [`Sort`] for orders; [`Prefix`] for what is combined with all before it.

mod as_nest;
mod attend;
mod body;
mod contract;
mod lives;
mod nest;
mod prefix;
mod program;
mod scatter;
mod sort;
mod step;
pub mod text;
mod verify;

pub use attend::{Attend, Product, Softmax, Sum};
pub use body::{Access, Body, Bounds, Index, Inst, InstKind, ValueId};
pub use contract::{Contract, Side};
pub use lives::{Life, launch_places, live_bytes, lives};
pub use nest::{AxisSet, Combine, Nest, Reduction, Stage, Store};
pub use prefix::Prefix;
pub use program::{Arg, Buffer, BufferId, Entry, Kernel, KernelBody, KernelId, Mode, Place, Program, Trap, TrapId};
pub use scatter::Scatter;
pub use sort::Sort;
pub use step::{Branch, Carry, Launch, Loop, Step, Trip, View, launches};
pub use verify::verify;
