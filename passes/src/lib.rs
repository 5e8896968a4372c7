//! Graph to graph, then graph to kernels.
//!
//! [`PASSES`] is the table, [`pipeline`] the whole compiler on one page, [`runner`] what is done around every pass.
//! No backend is known here: what passes must know of a machine is [`graver_ir::Target`]. No IO: dumps go to an [`Observer`].

mod attend;
mod blocks;
mod bodies;
mod build;
mod cse;
mod dce;
mod fold;
mod fuse;
mod grad;
mod hoist;
mod inline;
mod join;
mod layout;
mod legalize;
mod lower;
mod narrow;
mod pass;
pub mod pipeline;
mod places;
mod plan;
mod prune;
mod raise;
mod repeat;
mod reuse;
pub mod runner;
mod schedule;
mod simplify;
mod symbols;
mod update;
mod vmap;

pub use pass::{Changed, Cx, Observer, PASSES, Pass, PassReport, Silent};
