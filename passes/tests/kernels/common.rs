//! What the tests share: a program run both ways.

use std::sync::Arc;

use graver_interp::{Interp, Precision};
use graver_ir::kernel::Program;
use graver_ir::{Array, Error, Module, Role, Sink, Target};
use graver_passes::{Cx, Silent, pipeline, runner};
use graver_runtime::{Backend, Invocation, Slot};
use graver_testkit::{Bound, Fill, Rng, check_close, concrete, initial_state};

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

/// Compares a program over `f64`, which may hold derivatives, with the graph over inputs of its own making.
pub(crate) fn check_meaning(name: &str, module: &Module) {
    let mut expanded = module.clone();
    let target = Target::generic();
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    runner::run(&mut expanded, pipeline::GRAPH, &mut cx, &mut Silent, None).expect("the program is right");
    let (_, function) = module.entry().expect("there is an entry");
    let mut rng = Rng::named(name);
    let mut inputs = Vec::new();
    for param in function.params.iter().filter(|param| matches!(param.role, Role::Arg(_))) {
        let ty = function.graph.ty(param.node.into());
        let fill = if ty.dtype.is_float() { Fill::Quarters } else { Fill::Index(4) };
        inputs.push(fill.array(ty.dtype, &concrete(&ty.shape), &mut rng));
    }
    // Sums in another order, over a few thousand terms of magnitude 1: far below what a wrong index gives.
    let bound = Bound { relative: 1e-9, absolute: 1e-9 };
    let bounds = vec![bound; function.results.len()];
    check(name, &expanded, &inputs, &initial_state(module), &bounds);
}
