//! Every family against transformers' own results for small random models, which `../reference/make.py` made.

mod causal;
mod chat;
mod common;
mod compiled;
mod files;
mod generate;
mod generator;
mod image;
mod page;
mod pictures;
mod pipeline;
mod text;
