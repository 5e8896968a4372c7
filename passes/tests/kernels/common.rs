//! What the tests share: a program run both ways.

use std::sync::Arc;

use graver_interp::{Interp, Precision};
use graver_ir::kernel::Program;
use graver_ir::{Array, Error, Module, Sink, Target};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Invocation, Slot};
use graver_testkit::{Bound, check_close};

/// The planned program of a module, for a machine that takes anything.
pub(crate) fn compiled(module: &Module) -> Program {
    pipeline::compile(module.clone(), &Target::generic(), &mut Silent).expect("the program is right")
}

/// What the program's kernels give: outputs, then the state.
pub(crate) fn run(program: &Program, inputs: &[Array], state: &[Array]) -> Result<(Vec<Array>, Vec<Array>), Error> {
    let executable = Interp::default().compile(Arc::new(program.clone()))?;
    let mut state = state.to_vec();
    let mut slots: Vec<Slot<'_>> = state.iter_mut().map(Slot::Write).collect();
    let inputs: Vec<&Array> = inputs.iter().collect();
    let mut workspace = executable.workspace();
    let call = Invocation { entry: 0, inputs: &inputs, state: &mut slots, workspace: &mut workspace };
    let outputs = executable.run(call)?;
    Ok((outputs, state))
}

/// Compares kernels with the graph over `f64`: results within bounds, and failures alike.
pub(crate) fn check(name: &str, module: &Module, inputs: &[Array], state: &[Array], bounds: &[Bound]) {
    let program = compiled(module);
    let (entry, function) = module.entry().expect("there is an entry");
    let given: Vec<&Array> = inputs.iter().collect();
    let expected = graver_interp::eval(module, entry, &given, state, Precision::Reference);
    let got = run(&program, inputs, state);
    let (expected, (outputs, after)) = match (expected, got) {
        (Ok(expected), Ok(got)) => (expected, got),
        (Err(_), Err(_)) => return,
        (expected, got) => panic!("{name}: the graph gives {:?}, kernels {:?}\n{program:#?}", expected.err(), got.err()),
    };
    let (mut outs, mut updates) = (expected.outputs.iter().zip(&outputs), expected.updates.iter());
    for (position, (result, bound)) in function.results.iter().zip(bounds).enumerate() {
        let (expected, got) = match result.sink {
            Sink::Out => outs.next().expect("one output a result"),
            Sink::Update(_) => updates.next().map(|(id, array)| (array, &after[id.0 as usize])).expect("one update a result"),
        };
        if let Err(error) = check_close(expected, got, *bound) {
            panic!("{name}: result {position}: {error}\n{program:#?}");
        }
    }
}
