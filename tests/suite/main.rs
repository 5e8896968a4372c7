//! End-to-end suites, one binary: what holds of the whole project.

mod arrows;
mod attention;
mod cache;
mod cases;
mod checked;
mod depth;
mod digits;
mod failures;
mod faults;
mod files;
#[path = "../../backends/cpu/tests/levels/mod.rs"]
mod levels;
mod nets;
mod ops;
mod packs;
mod resident;
mod rows;
mod state;
mod tidy;
