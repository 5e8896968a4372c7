//! Graph passes: that they keep every program's answer, what each rewrites, and that derivatives are right.

mod clean;
mod common;
mod differences;
mod kernels;
mod kinks;
mod loops;
mod order;
mod preserve;
mod raise;
mod rewrites;
mod tools;
mod vmap;
mod whole;
