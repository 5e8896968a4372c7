//! Writing out and running derivatives of whole modules.

use graver_interp::{Precision, eval};
use graver_ir::{Array, Error, FuncId, Module, Target};
use graver_passes::{Cx, PASSES, Pass, Silent, runner};

pub(crate) const ENTRY: FuncId = FuncId(0);

/// The module with its derivatives written out.
pub(crate) fn expanded(module: &Module) -> Result<Module, Error> {
    let mut module = module.clone();
    let named = |name: &str| *PASSES.iter().find(|pass| pass.name == name).expect("the pass exists");
    let passes: Vec<Pass> = ["inline", "cse", "grad", "inline", "cse", "dce"].map(named).to_vec();
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    runner::run(&mut module, &passes, &mut cx, &mut Silent, None)?;
    Ok(module)
}

/// The outputs of a module, its derivatives written out before.
pub(crate) fn run(module: &Module, inputs: &[Array]) -> Vec<Array> {
    let module = expanded(module).expect("the test's program has derivatives");
    run_expanded(&module, inputs)
}

/// The outputs of a module without derivatives.
pub(crate) fn run_expanded(module: &Module, inputs: &[Array]) -> Vec<Array> {
    let inputs: Vec<&Array> = inputs.iter().collect();
    eval(module, ENTRY, &inputs, &[], Precision::Typed).expect("the test's program runs").outputs
}
