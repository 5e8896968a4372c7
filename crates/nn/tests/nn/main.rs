//! Layers, losses and optimisers, judged by what the interpreter makes of the traced programs.
//!
//! Expected numbers are PyTorch's formulas worked out by hand or in `f64` beside the test.

mod attention;
mod cache;
mod common;
mod files;
mod gradients;
mod layers;
mod losses;
mod norms;
mod optim;
mod recurrent;
mod training;
