//! Cuts the entry and the functions of control flow into regions, each of which becomes one kernel, and outlines every region as a function that is called
//! once. Fusion is therefore in the graph: it can be printed, verified and interpreted like anything else. Runs last of
//! the graph passes; calls and derivatives are gone by then. Decides by kinds of ops and by bytes, never by sizes of symbols.

mod class;
mod facts;
mod group;
mod grow;
mod outline;
mod partition;
mod reach;
mod relation;
mod rules;

use graver_ir::{Error, Module};

use crate::blocks::blocks;
use crate::{Changed, Cx, Pass};

/// See the file's header.
pub(crate) const PASS: Pass = Pass { name: "fuse", about: "Cuts functions into regions, one kernel each.", run };

fn run(module: &mut Module, cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    for id in blocks(module) {
        let function = module.function(id);
        if !outline::is_outlined(function) {
            let partition = partition::of(function, cx);
            outline::outline(module, id, &partition);
            changed = Changed::Yes;
        }
    }
    Ok(changed)
}
