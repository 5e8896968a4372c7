//! Tracing, judged by what the interpreter makes of the traced program.

mod common;
mod control;
mod custom;
mod device;
mod errors;
mod grad;
mod images;
mod models;
mod ops;
mod random;
mod scatter;
mod state;
mod taps;
mod transforms;
