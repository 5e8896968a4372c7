//! What a pass is, and the table of all.

use std::time::Duration;

use crate::{cse, dce, fold, fuse, grad, hoist, inline, join, layout, legalize, raise, repeat, simplify, vmap};
use graver_ir::{Error, Module, Target};

/// A pass over the graph IR.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The name: of the file, in dumps and on the command line.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// The work. It may assume a verified module and leaves one.
    pub run: fn(&mut Module, &mut Cx<'_>) -> Result<Changed, Error>,
}

/// Whether a pass changed the module. The runner checks the answer against a structural hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It did.
    Yes,
    /// The module is as it was.
    No,
}

impl Changed {
    /// Whether either did.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Yes { Self::Yes } else { other }
    }
}

/// What a pass may know and say besides the module.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The machine.
    pub target: &'a Target,
    /// Remarks for the user, such as why two ops were not fused: one line each.
    pub remarks: Vec<String>,
}

/// Who watches a compilation.
pub trait Observer {
    /// After every pass, the module verified.
    fn after_pass(&mut self, report: &PassReport<'_>);
    /// After lowering and planning.
    fn program(&mut self, stage: &'static str, program: &graver_ir::kernel::Program, took: Duration);
}

/// What the runner saw of one pass.
#[derive(Debug)]
pub struct PassReport<'a> {
    /// The pass.
    pub pass: &'static str,
    /// Its position in the pipeline.
    pub position: usize,
    /// Time in the pass itself.
    pub took: Duration,
    /// Whether it changed anything.
    pub changed: Changed,
    /// The module after it.
    pub module: &'a Module,
    /// What it remarked.
    pub remarks: &'a [String],
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn after_pass(&mut self, _: &PassReport<'_>) {}
    fn program(&mut self, _: &'static str, _: &graver_ir::kernel::Program, _: Duration) {}
}

/// Every pass, once.
pub const PASSES: &[Pass] = &[
    repeat::PASS,
    inline::PASS,
    vmap::PASS,
    hoist::PASS,
    grad::PASS,
    join::PASS,
    raise::PASS,
    simplify::PASS,
    fold::PASS,
    legalize::PASS,
    cse::PASS,
    dce::PASS,
    layout::PASS,
    fuse::PASS,
];
