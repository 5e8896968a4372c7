//! Graph to kernels: fusion, lowering, schedules and plans.

mod common;
mod samples;
mod texts;
