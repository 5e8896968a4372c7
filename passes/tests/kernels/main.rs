//! Graph to kernels: fusion, lowering, schedules and plans.

mod common;
mod nets;
mod samples;
mod structure;
mod texts;
