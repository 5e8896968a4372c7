//! Graph to kernels: fusion, lowering, schedules and plans.

mod common;
mod layouts;
mod limits;
mod plans;

mod repeated;
mod reuse;
mod samples;
mod structure;
mod texts;
mod updates;

use graver_testkit::nets;
