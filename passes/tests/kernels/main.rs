//! Graph to kernels: fusion, lowering, schedules and plans.

mod common;
mod layouts;
mod limits;
mod nets;
mod plans;
mod samples;
mod structure;
mod texts;
