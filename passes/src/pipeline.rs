//! The whole compiler on one page.

use std::time::Instant;

use graver_ir::kernel::{self, Program};
use graver_ir::{Error, Module, Target};

use crate::{Cx, Observer, Pass, layout, lower, plan, reuse, runner, schedule};
use crate::{cse, dce, fold, fuse, grad, hoist, inline, join, legalize, raise, repeat, simplify, vmap};

/// From a traced module to one without derivatives, and without calls but those of what is repeated, simplified.
pub const GRAPH: &[Pass] = &[
    repeat::PASS,   // before everything else, which then costs a block once, however often it is called
    inline::PASS,   // grad differentiates bodies, not calls
    simplify::PASS, // less to differentiate
    cse::PASS,      // equal work is differentiated once
    vmap::PASS,     // before loops are looked at: a map is none
    hoist::PASS,    // one product before a loop has one product as its derivative
    grad::PASS,
    dce::PASS,      // what a derivative has made anew has no part in pairs
    join::PASS,     // a gradient is used where it is made, not kept for the update
    raise::PASS,    // what has a kernel by its name is found before others take it apart
    inline::PASS,   // calls that brought their own derivative, and what has no kernel
    simplify::PASS, // names and stops have no meaning any more
    fold::PASS,
    simplify::PASS, // folded constants are ones and zeros
    legalize::PASS, // others know u64 as it is; before cse: equal steps of it are one
    cse::PASS,      // a derivative repeats parts of what it differentiates
    dce::PASS,
];

/// From graph to regions, each of which becomes one kernel.
pub const REGIONS: &[Pass] = &[
    layout::PASS, // whole chains of activations, before regions cut them
    dce::PASS,    // a dead user would keep a value in memory
    fuse::PASS,
];

/// Every pass of the compiler, in order.
#[must_use]
pub fn passes() -> Vec<Pass> {
    GRAPH.iter().chain(REGIONS).copied().collect()
}

/// Compiles a traced module to a planned program.
///
/// # Errors
/// What is wrong with the user's program: derivatives that do not exist, sizes that cannot be.
pub fn compile(mut module: Module, target: &Target, observer: &mut dyn Observer) -> Result<Program, Error> {
    optimize(&mut module, target, observer)?;
    Ok(kernels(&module, target, observer))
}

/// Compiles a traced module to a program that is whole but for its plan ([`planned`]): a backend may generate code meanwhile.
///
/// # Errors
/// As [`compile`].
pub fn unplaced(mut module: Module, target: &Target, observer: &mut dyn Observer) -> Result<Program, Error> {
    optimize(&mut module, target, observer)?;
    let [stages @ .., _] = &STAGES;
    Ok(run_stages(stages, &module, target, observer))
}

/// The program with its buffers in their places.
///
/// # Panics
/// If it breaks an invariant.
#[must_use]
pub fn planned(mut unplaced: Program, target: &Target) -> Program {
    plan::run(&mut unplaced, target);
    verify("plan", &unplaced);
    unplaced
}

fn optimize(module: &mut Module, target: &Target, observer: &mut dyn Observer) -> Result<(), Error> {
    let mut cx = Cx { target, remarks: Vec::new() };
    runner::run(module, &passes(), &mut cx, observer, None).map(|_| ())
}

/// A step behind the passes: from a fused module, or from what the step before has made of it, to a program of kernels.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// The name, which `dump` takes.
    pub name: &'static str,
    /// What it does. The first is given an empty program.
    pub run: fn(Program, &Module, &Target) -> Program,
}

/// Regions to kernels, kernels in order, buffers in the arena: what follows the passes.
pub const STAGES: [Stage; 4] = [
    Stage { name: "lower", run: |_, module, _| lower::run(module) },
    // Before plan: lifetimes follow from the order.
    Stage { name: "schedule", run: |program, _, _| changed(program, schedule::run) },
    // Before plan: what is one buffer gets one place.
    Stage { name: "reuse", run: |program, _, _| changed(program, reuse::run) },
    Stage { name: "plan", run: |program, _, target| changed(program, |program| plan::run(program, target)) },
];

fn changed(mut program: Program, change: impl FnOnce(&mut Program)) -> Program {
    change(&mut program);
    program
}

/// A fused module as a planned program.
pub fn kernels(module: &Module, target: &Target, observer: &mut dyn Observer) -> Program {
    kernels_by(&STAGES, module, target, observer)
}

/// The same by other stages: a test plants a fault in one.
///
/// # Panics
/// If a stage breaks an invariant.
pub fn kernels_by(stages: &[Stage], module: &Module, target: &Target, observer: &mut dyn Observer) -> Program {
    let program = run_stages(stages, module, target, observer);
    if let (false, Some(last)) = (runner::CHECKS_EACH, stages.last()) {
        verify(last.name, &program);
    }
    program
}

fn run_stages(stages: &[Stage], module: &Module, target: &Target, observer: &mut dyn Observer) -> Program {
    let mut program = Program::default();
    for stage in stages {
        let start = Instant::now();
        program = (stage.run)(program, module, target);
        let took = start.elapsed();
        if runner::CHECKS_EACH {
            verify(stage.name, &program);
        }
        observer.program(stage.name, &program, took);
    }
    program
}

fn verify(stage: &str, program: &Program) {
    if let Err(error) = kernel::verify(program) {
        panic!("stage `{stage}` broke an invariant: {error}");
    }
}
