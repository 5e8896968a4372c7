//! What the tests share: arrays, and the interpreter as the device.

use graver_interp::{Precision, eval};
use graver_ir::Target;
use graver_passes::{Cx, Silent, pipeline, runner};
use graver_trace::{Array, Error, Spec, TracedModule, Tree, trace};

/// A float array.
pub(crate) fn floats<const N: usize>(shape: [usize; N], values: impl IntoIterator<Item = f64>) -> Array {
    array(shape, values.into_iter().map(|x| x as f32).collect())
}

/// A double array.
pub(crate) fn doubles<const N: usize>(shape: [usize; N], values: impl IntoIterator<Item = f64>) -> Array {
    array(shape, values.into_iter().collect())
}

/// An integer array.
pub(crate) fn ints<const N: usize>(shape: [usize; N], values: impl IntoIterator<Item = i64>) -> Array {
    array(shape, values.into_iter().collect())
}

fn array<E: graver_trace::Element, const N: usize>(shape: [usize; N], values: Vec<E>) -> Array {
    Array::from_vec(shape.to_vec(), values).expect("as many values as places")
}

/// Small numbers of both signs, no two of neighbours equal.
pub(crate) fn ramp(count: usize) -> Vec<f64> {
    (0..count).map(|place| ((place * 37 + 11) % 64) as f64 / 16.0 - 2.0).collect()
}

/// Evaluates a traced program over a state; results, and the state afterwards.
pub(crate) fn run_over<S: Spec, Y: Tree>(
    traced: &TracedModule<S, Y>,
    args: S::Args<'_>,
    state: &[Array],
) -> Result<(Y::Arrays, Vec<Array>), Error> {
    let mut module = traced.module().clone();
    let target = Target::generic();
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    runner::run(&mut module, pipeline::GRAPH, &mut cx, &mut Silent, None)?;
    let (entry, _) = module.entry().expect("a traced module has an entry");
    let outcome = eval(&module, entry, &traced.arguments(args)?, state, Precision::Typed)?;
    let mut after = state.to_vec();
    for (slot, value) in outcome.updates {
        after[slot.0 as usize] = value;
    }
    Ok((traced.results(outcome.outputs), after))
}

/// Traces a function in evaluation mode and evaluates it over the models' own parameters.
pub(crate) fn run<S: Spec, Y: Tree>(f: impl FnOnce(S::Traced) -> Y, spec: S, args: S::Args<'_>) -> Result<Y::Arrays, Error> {
    let traced = trace(f, spec)?;
    run_over(&traced, args, &traced.state()).map(|(results, _)| results)
}

/// What a trace of one function says is wrong.
pub(crate) fn error<S: Spec, Y: Tree>(f: impl FnOnce(S::Traced) -> Y, spec: S) -> String {
    trace(f, spec).err().map_or_else(|| "no error".to_owned(), |error| error.to_string())
}

/// The value of a slot by its path.
pub(crate) fn at<S: Spec, Y: Tree>(traced: &TracedModule<S, Y>, state: &[Array], path: &str) -> Array {
    let place = traced.module().state.iter().position(|decl| decl.path == path);
    state[place.unwrap_or_else(|| panic!("no slot `{path}` in {:?}", traced.module().state))].clone()
}

/// Whether both are equal within a relative error (absolute below 1).
#[track_caller]
pub(crate) fn close(got: &Array, expected: &[f64], bound: f64) {
    let got = got.to_f64();
    assert_eq!(got.len(), expected.len(), "{got:?} and {expected:?}");
    for (x, y) in got.iter().zip(expected) {
        assert!((x - y).abs() <= bound * y.abs().max(1.0), "{got:?} is not {expected:?}");
    }
}
