//! End-to-end suites, one binary: what holds of the whole project.

mod arrows;
mod cases;
mod digits;
mod faults;
mod files;
mod nets;
mod ops;
mod tidy;
