//! Runs a program operation by operation until one makes a NaN.

use std::collections::BTreeSet;

use graver_interp::{Outcome, Suspect, eval_finite};
use graver_ir::{Array, Error, Module, NodeId, Op, Target};
use graver_passes::{Cx, PASSES, Pass, Silent, runner};

/// Evaluates a traced program, derivatives included, in the interpreter, each operation's result rounded to its type, and ends at the first
/// value that is looked for.
///
/// # Errors
/// The operation that makes it, its line and module path, the element, and what that was made of; or any error of a call.
pub fn finite(module: &Module, inputs: &[&Array], state: &[Array], suspect: Suspect) -> Result<Outcome, Error> {
    let mut module = module.clone();
    run(&mut module, &["inline"])?;
    let own = nodes(&module);
    run(&mut module, &["grad"])?;
    let Some((entry, _)) = module.entry() else { return Err(Error::new("the program is empty")) };
    // What was there before derivatives were written out is the user's; a function that came with them is theirs.
    let derived = |function: &str, node: NodeId| !own.contains(&(function.to_owned(), node));
    eval_finite(&module, entry, (inputs, state), suspect, &derived)
}

fn nodes(module: &Module) -> BTreeSet<(String, NodeId)> {
    let functions = module.functions.values();
    let own = |function: &graver_ir::Function, node: &NodeId| !matches!(function.graph.op(*node), Op::Transform(_));
    functions
        .flat_map(|function| {
            function
                .graph
                .nodes()
                .filter(|node| own(function, node))
                .map(|node| (function.name.clone(), node))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Runs passes of the table, for no machine in particular: nothing is kept for a kernel.
pub(crate) fn run(module: &mut Module, names: &[&str]) -> Result<(), Error> {
    let named = |name: &&str| PASSES.iter().find(|pass| pass.name == *name).copied().expect("a pass of the table");
    let passes: Vec<Pass> = names.iter().map(named).collect();
    let target = Target::generic();
    runner::run(module, &passes, &mut Cx { target: &target, remarks: Vec::new() }, &mut Silent, None).map(|_| ())
}
