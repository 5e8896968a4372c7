//! Checks a program against what backends may assume. Changes nothing, never panics.
//!
//! Of a body:
//! - K1  A value names an instruction of its body; an instruction uses only earlier ones.
//! - K5  Every instruction has the type that its kind and operands say; arithmetic is in compute types, and no
//!   `cast` and no store is between a float and `u64`.
//! - K6  Equal instructions are one.
//! - K7  A load reads an argument that is not only written, by one index an axis; run-time positions are `i64`.
//! - K8  No proven access and no store is refuted: at no corner of its loops does it leave its argument.
//! - K9  Expressions use only axes that are visited where they stand, with the axes' sizes.
//!
//! Of a kernel:
//! - K2  A kernel has at most 32 axes, and sets of axes name only those.
//! - K10 A stage keeps axes that it visits: all of them without reductions; with reductions it stores nothing.
//! - K11 `reduced` names a reduction of an earlier stage of the nest, whose kept axes are visited here.
//! - K12 A reduction combines a value in its own type; a position is `i64`.
//! - K13 A store writes an argument that is not only read, by one index an axis, at the axes visited.
//! - K14 In a contraction every axis has exactly one role, sides use their own, and give the type of the sum.
//! - K15 A scatter's target is the only argument that it updates; its condition is a bool; it does not
//!   compare in `u64`.
//! - K28 A sort compares along an axis that it has, in a compute type; its positions, `i64`, are all that it writes, at
//!   places that are not computed.
//! - K29 In an attention every axis has exactly one role; sides, weights and expressions use their own, and give the type of the sums, a
//!   float's; nothing reports failures, and a softmax has one score.
//! - K30 A prefix combines along an axis that it has, as a reduction may; what is combined is all that it writes, at places that
//!   are not computed.
//! - K16 Arguments have one stride an axis, and possible sizes.
//!
//! Of an entry:
//! - K3  A launch names a kernel of its program, and has one view an argument, of its type.
//! - K4  A view names a buffer of its entry, and lies inside where that can be told.
//! - K17 Where an argument is written, no other argument of the launch is known to overlap it.
//! - K18 A buffer's place is there: inputs and outputs name their buffer, state and constants have its type.
//! - K19 A buffer in the arena is aligned to its elements and known to lie inside, as far as can be told.
//! - K20 A step reads only what was given or written before, and does not write inputs and constants.
//! - K21 Steps that write state come after every step that may set the status word, in loops too.
//! - K25 A condition is one bool, written before.
//! - K26 A loop's counter has the range of its trip and a name of its own; only offsets inside have it, without powers.
//! - K27 What a loop carries are two computed buffers of one type that no other loop carries: `now` is written before the loop, and an
//!   iteration writes `next` before it reads it.
//!
//! Of a program:
//! - K22 Kernels are distinct; names of entries are unique; a check names a trap of the program.
//! - K23 Every symbol is in the list, as declared there; the list is sorted by name.
//! - K24 Paths of state are unique, and its sizes are numbers.
//!
//! What can be told goes by intervals over the declared ranges: an access that is neither proved nor refuted passes.
//! Verifying therefore does not make a stranger's program safe to run; it finds the mistakes of ours.

mod attend;
mod body;
mod control;
mod entry;
mod kernel;
mod program;

use super::Program;
use crate::error::{Diag, Error};
use crate::verify::Findings;

/// Checks every invariant.
///
/// # Errors
/// What is violated, where, by the invariant's number: a hundred findings at most.
pub fn verify(program: &Program) -> Result<(), Error> {
    let mut found = Findings::default();
    program::check(program, &mut found);
    for (id, of) in program.kernels.iter().enumerate() {
        kernel::check(program, id, of, &mut found);
    }
    // Entries compute with the sizes of kernels, which must be simple for that.
    if found.is_empty() {
        for of in &program.entries {
            entry::check(program, of, &mut found);
        }
    }
    found.result()
}

/// Notes what is wrong at a place, if anything: `K4: rest` becomes `K4: place: rest`.
fn note(found: &mut Findings, place: impl FnOnce() -> String, wrong: Option<String>) {
    if let Some(wrong) = wrong {
        let (number, rest) = wrong.split_once(": ").expect("a finding begins with the number of its invariant");
        found.require(false, || Diag::new(format!("{number}: {}: {rest}", place())));
    }
}
