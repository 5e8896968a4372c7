//! Graph to kernels: fusion, lowering, schedules and plans.

mod common;
mod layouts;
mod limits;
mod nets;
mod plans;
mod reuse;
mod samples;
mod structure;
mod texts;
