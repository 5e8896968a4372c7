//! The text of modules: `.gir`. `parse(&print(&m)) == Ok(m)`, locations included.
//!
//! ```text
//! graver 1
//!
//! sym batch: 0..=4294967296
//!
//! state "fc.weight": f32[10, 784] param
//!
//! func @main(
//!   %0: f32[batch, 784] = arg "images",
//!   %1: f32[10, 784] = state "fc.weight",
//! ) {
//!   %2 = dot(%0, %1) {lhs_contract = [1], rhs_contract = [1]} : f32[batch, 10] loc("src/main.rs":4:5 "fc")
//!   return %2
//! }
//! ```
//!
//! Printing is total: a module that breaks invariants prints too, and then may not parse. Reading trusts nothing: every
//! type is inferred again and compared, the module is verified, and neither time nor memory exceeds what the text's
//! length pays for. Nodes are printed in the order of [`crate::Graph::topo`], so that reading keeps the order.

mod attrs;
pub(crate) mod constant;
pub(crate) mod lex;
pub(crate) mod parse;
pub(crate) mod print;
pub(crate) mod value;

pub use parse::parse;
pub use print::{print, print_without_locs};

/// The file of places in a text that was read without one: see [`Error::in_file`](crate::Error::in_file).
pub const UNNAMED: &str = "<text>";

/// The version in the first line. A text of another version is refused.
pub const VERSION: u32 = 1;
