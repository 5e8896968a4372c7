//! What is done around every pass: verify, time, observe, stop, and check its answer.
//!
//! A pass that breaks an invariant or lies about [`Changed`] is a bug of ours: the runner panics with the pass's name. Builds with debug
//! assertions look after every pass; others verify what the last one left, which takes a fifth off the compilation of 48 blocks.

use std::time::Instant;

use graver_ir::{Error, Module, structural_hash};

use crate::{Changed, Cx, Observer, Pass, PassReport};

/// Whether a pipeline ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every pass ran.
    Complete,
    /// It was told to stop after a pass, and did.
    Stopped,
}

/// Runs the passes in order; stops after the one of this name, if any.
///
/// # Errors
/// What a pass found wrong with the user's program.
///
/// # Panics
/// If a pass leaves a module that does not verify, or says that it changed nothing and did, or the reverse: see the header for when.
pub fn run(
    module: &mut Module,
    passes: &[Pass],
    cx: &mut Cx<'_>,
    observer: &mut dyn Observer,
    stop_after: Option<&str>,
) -> Result<Ended, Error> {
    let (mut before, mut unverified) = (hash_if_checked(module), Changed::No);
    for (position, pass) in passes.iter().enumerate() {
        let remarked = cx.remarks.len();
        let start = Instant::now();
        let changed = (pass.run)(module, cx)?;
        let took = start.elapsed();
        before = check_answer(pass, changed, before, hash_if_checked(module));
        unverified = unverified.or(changed);
        let is_last = position + 1 == passes.len() || stop_after == Some(pass.name);
        if unverified == Changed::Yes && (CHECKS_EACH || is_last) {
            check_verifies(pass, module);
            unverified = Changed::No;
        }
        let remarks = &cx.remarks[remarked..];
        observer.after_pass(&PassReport { pass: pass.name, position, took, changed, module, remarks });
        if stop_after == Some(pass.name) {
            return Ok(Ended::Stopped);
        }
    }
    Ok(Ended::Complete)
}

/// Whether every pass and stage is looked after, not the last one alone.
pub(crate) const CHECKS_EACH: bool = cfg!(debug_assertions);

/// Panics if the module that a pass left breaks an invariant.
fn check_verifies(pass: &Pass, module: &Module) {
    if let Err(error) = graver_ir::verify(module) {
        let before = if CHECKS_EACH { "" } else { " or one before it" };
        panic!("pass `{}`{before} broke an invariant: {error}", pass.name);
    }
}

fn check_answer(pass: &Pass, changed: Changed, before: Option<u64>, after: Option<u64>) -> Option<u64> {
    let truth = if before == after { Changed::No } else { Changed::Yes };
    assert!(before.is_none() || changed == truth, "pass `{}` says changed: {changed:?}, the hash says {truth:?}", pass.name);
    after
}

/// The hash that answers are checked against, in builds that check.
fn hash_if_checked(module: &Module) -> Option<u64> {
    CHECKS_EACH.then(|| structural_hash(module))
}
