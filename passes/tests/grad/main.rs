//! Derivatives against central differences, first and second order; kinks; refusals.

mod differences;
mod kinks;
mod order;
mod tools;
