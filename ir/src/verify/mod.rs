//! Checks a module against the invariants that every pass may assume and must keep. Changes nothing, never panics.
//!
//! Of a graph:
//! - I1  A node id names a live node of its graph.
//! - I2  A value names a result that its node has.
//! - I3  A node's operand slots are `0..n`, each once.
//! - I4  A value is replaced only by one of its type (checked where it happens, by [`crate::Graph::replace_uses`]).
//! - I5  No node depends on itself.
//! - I8  A node has fewer than 65536 operands and results.
//! - I9  The types of a node's results are those that [`crate::infer`] gives for its operation and operands.
//! - I10 Every size is small ([`crate::dim::MAX_NODES`]), free of loop axes, and possible.
//!
//! Of a function:
//! - I11 Every `param` node is in the list of parameters once, and nothing else is.
//! - I12 What a derivative is taken with respect to is an `alias`.
//! - I13 A slot of the state is read and updated in its own type, and updated at most once.
//!
//! Of a module:
//! - I6  A function id names a function of its module.
//! - I7  A state id names a slot of its module.
//! - I14 A call has the operands and the results of its callee; its derivative takes the operands first.
//! - I15 Only a function that nobody calls touches the state.
//! - I16 No function calls itself, through others or not.
//! - I17 One name of a symbol has one declaration.
//! - I18 Names of functions are unique, and so are paths of state.
//! - I19 State has numbers for sizes, and the random key is `u32[4]`.
//! - I20 Both functions of an `if` take its operands after the condition, and give its results.
//! - I21 The functions of a `while` take its operands; the one gives a bool, the other what is carried.
//! - I22 The body of a `scan` takes what is carried, slices of what is scanned and what is closed over; it gives what is carried and slices
//!   of what is stacked.

mod control;
mod function;
mod module;
mod symbols;
#[cfg(test)]
mod tests;

pub(crate) use symbols::symbols_of;

use crate::error::{Diag, Error};
use crate::module::Module;

/// Checks every invariant.
///
/// # Errors
/// What is violated, where, by the invariant's number: a hundred findings at most.
pub fn verify(module: &Module) -> Result<(), Error> {
    let mut found = Findings::default();
    for function in module.functions.values() {
        function::structure(function, &mut found);
    }
    // What follows looks values up, which is safe only in sound graphs.
    if found.is_empty() {
        module::check(module, &mut found);
        for function in module.functions.values() {
            function::check(function, module, &mut found);
        }
        symbols::check(module, &mut found);
    }
    found.result()
}

/// Checks sizes alone, I10 and I17: what a user's program can break that is built by operations, each of which was found right.
///
/// # Errors
/// What is violated, where, by the invariant's number: a hundred findings at most.
pub fn verify_sizes(module: &Module) -> Result<(), Error> {
    let mut found = Findings::default();
    symbols::check(module, &mut found);
    found.result()
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings {
    diags: Vec<Diag>,
}

impl Findings {
    const MOST: usize = 100;

    /// Notes a violation unless `holds`.
    pub(crate) fn require(&mut self, holds: bool, violation: impl FnOnce() -> Diag) {
        if !holds && self.diags.len() < Self::MOST {
            self.diags.push(violation());
        }
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.diags.is_empty()
    }

    /// All of it.
    pub(crate) fn result(self) -> Result<(), Error> {
        Error::from_diags(self.diags).map_or(Ok(()), Err)
    }
}
