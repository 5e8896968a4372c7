//! Graph passes, pass by pass.

mod clean;
mod common;
