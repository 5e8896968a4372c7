//! What is done around every pass: verify, time, observe, stop, and check its answer.
//!
//! A pass that breaks an invariant or lies about [`Changed`] is a bug of ours: the runner panics with the pass's name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use graver_ir::{Error, Function, Module};

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
/// If a pass leaves a module that does not verify, or says that it changed nothing and did, or the reverse.
pub fn run(
    module: &mut Module,
    passes: &[Pass],
    cx: &mut Cx<'_>,
    observer: &mut dyn Observer,
    stop_after: Option<&str>,
) -> Result<Ended, Error> {
    let mut before = fingerprint(module);
    for (position, pass) in passes.iter().enumerate() {
        let remarked = cx.remarks.len();
        let start = Instant::now();
        let changed = (pass.run)(module, cx)?;
        let took = start.elapsed();
        check_verifies(pass, module);
        before = check_answer(pass, changed, before, fingerprint(module));
        let remarks = &cx.remarks[remarked..];
        observer.after_pass(&PassReport { pass: pass.name, position, took, changed, module, remarks });
        if stop_after == Some(pass.name) {
            return Ok(Ended::Stopped);
        }
    }
    Ok(Ended::Complete)
}

/// Panics if the module that a pass left breaks an invariant.
fn check_verifies(pass: &Pass, module: &Module) {
    if let Err(error) = verify(module) {
        panic!("pass `{}` broke an invariant: {error}", pass.name);
    }
}

fn check_answer(pass: &Pass, changed: Changed, before: Option<u64>, after: Option<u64>) -> Option<u64> {
    let truth = if before == after { Changed::No } else { Changed::Yes };
    assert!(before.is_none() || changed == truth, "pass `{}` says changed: {changed:?}, the hash says {truth:?}", pass.name);
    after
}

/// The one place where a module is verified between passes.
fn verify(module: &Module) -> Result<(), Error> {
    let cyclic = |function: &Function| function.graph.try_topo().is_none();
    match module.functions.values().find(|function| cyclic(function)) {
        Some(function) => Err(Error::new(format!("I5: the graph of `{}` has a cycle", function.name))),
        None => Ok(()),
    }
}

/// A hash of everything that a pass may change, in builds that check it.
fn fingerprint(module: &Module) -> Option<u64> {
    cfg!(debug_assertions).then(|| {
        let mut hasher = DefaultHasher::new();
        for (id, function) in &module.functions {
            (id, &function.name).hash(&mut hasher);
            hash_function(function, &mut hasher);
        }
        hasher.finish()
    })
}

fn hash_function(function: &Function, hasher: &mut DefaultHasher) {
    for node in function.graph.topo() {
        let body = function.graph.node(node);
        (node, &body.op, &body.outs, function.graph.args(node)).hash(hasher);
    }
    for result in &function.results {
        result.value.hash(hasher);
    }
}
