//! Nets as users write them, training steps with their state among them, in `f64`: what a wrong index gives is far beyond what
//! sums in another order give.

use graver_interp::{Precision, eval};
use graver_ir::{Array, DType, Module, Role, Sink, Target};
use graver_passes::{Cx, Silent, pipeline, runner};
use graver_runtime::Backend;
use graver_testkit::{Bound, Fill, Rng, check_close, concrete, initial_state, nets};

use crate::{compile, report, run};

/// Of results of magnitude 1 that are sums of a few thousand terms.
const BOUND: Bound = Bound { relative: 1e-9, absolute: 1e-9 };

/// Every net at one size.
///
/// # Panics
/// If any result or any slot of the state afterwards is something else.
pub fn networks(backend: &dyn Backend) {
    let all = nets_of(DType::F64);
    let compiled: Vec<_> = all.iter().map(|(_, module)| compile(backend, module)).collect();
    let wrong = all.iter().zip(compiled).filter_map(|((name, module), executable)| {
        let (inputs, state) = (inputs(name, module), initial_state(module));
        let results = executable.and_then(|executable| run(executable.as_ref(), &inputs, &state));
        results.and_then(|results| check(module, &inputs, &state, &results)).err().map(|error| format!("{name}: {error}"))
    });
    report("nets", &wrong.collect::<Vec<_>>());
}

/// The nets in one element type, by name.
pub(crate) fn nets_of(dtype: DType) -> [(String, Module); 4] {
    let named = |name: &str, module| (format!("{name}/{dtype}"), module);
    [
        named("cnn_step", nets::cnn_step(dtype)),
        named("mlp", nets::mlp(dtype)),
        named("deep_mlp_step", nets::deep_mlp_step(dtype)),
        named("transformer_block", nets::transformer_block(dtype)),
    ]
}

fn inputs(name: &str, module: &Module) -> Vec<Array> {
    let (_, function) = module.entry().expect("a net has an entry");
    let mut rng = Rng::named(name);
    let params = function.params.iter().filter(|param| matches!(param.role, Role::Arg(_)));
    let input = |param: &graver_ir::Param| {
        let ty = function.graph.ty(param.node.into());
        let fill = if ty.dtype.is_float() { Fill::Quarters } else { Fill::Index(4) };
        fill.array(ty.dtype, &concrete(&ty.shape), &mut rng)
    };
    params.map(input).collect()
}

fn check(module: &Module, inputs: &[Array], state: &[Array], results: &[Array]) -> Result<(), String> {
    let mut expanded = module.clone();
    let target = Target::generic();
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    // The interpreter knows no derivatives.
    runner::run(&mut expanded, pipeline::GRAPH, &mut cx, &mut Silent, None).map_err(|error| error.to_string())?;
    let (entry, function) = expanded.entry().ok_or("a net has an entry")?;
    let given: Vec<&Array> = inputs.iter().collect();
    let expected = eval(&expanded, entry, &given, state, Precision::Reference).map_err(|error| error.to_string())?;
    let (outputs, after) = results.split_at(results.len() - state.len());
    let (mut outs, mut updates) = (expected.outputs.iter().zip(outputs), expected.updates.iter());
    for (position, result) in function.results.iter().enumerate() {
        let (expected, got) = match result.sink {
            Sink::Out => outs.next().ok_or("an output is missing")?,
            Sink::Update(_) => updates.next().map(|(id, array)| (array, &after[id.0 as usize])).ok_or("an update is missing")?,
        };
        check_close(expected, got, BOUND).map_err(|error| format!("result {position}: {error}"))?;
    }
    Ok(())
}
