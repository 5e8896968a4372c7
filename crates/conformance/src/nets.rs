//! Nets as users write them, training steps with their state among them, in types of every width: within what rounding may do to each
//! element.

use graver_interp::{Precision, eval};
use graver_ir::{Array, DType, Module, Role, Scalar, Sink, StateDecl, StateKind, Target};
use graver_passes::{Cx, Pass, Silent, pipeline, runner};
use graver_runtime::Backend;
use graver_testkit::{Fill, Rng, check_each, concrete, nets};

use crate::rounding::add_bounds;
use crate::{Compiled, report};

/// In which types nets are run.
pub(crate) const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F64];

/// Every net at one size, in every type.
///
/// # Panics
/// If any result or any slot of the state afterwards is something else, or has other bits on one of the backends in `alike`.
pub fn networks(backend: &dyn Backend, alike: &[&dyn Backend]) {
    let all: Vec<(String, Module)> = DTYPES.into_iter().flat_map(nets_of).collect();
    let compiled: Vec<_> = all.iter().map(|(_, module)| Compiled::new(module, backend, alike)).collect();
    let wrong = all.iter().zip(compiled).filter_map(|((name, module), compiled)| {
        let (inputs, state) = (inputs(name, module), state(module));
        let results = compiled.and_then(|compiled| compiled.run(&inputs, &state));
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
        let fill = if ty.dtype.is_float() { Fill::Any } else { Fill::Index(4) };
        fill.array(ty.dtype, &concrete(&ty.shape), &mut rng)
    };
    params.map(input).collect()
}

/// How many of the weights that make one number are not 0.
const KEPT: usize = 3;

/// State of which errors grow no faster than values do, or their bounds would say nothing of the last layers: few weights, halves at most.
/// What a step adds to is small, so that it shows.
fn state(module: &Module) -> Vec<Array> {
    let slot = |decl: &StateDecl| {
        let (shape, mut rng) = (decl.ty.shape.as_const().expect("sizes of state are numbers"), Rng::named(&decl.path));
        let (many, scale) =
            (decl.kind == StateKind::Param && shape.len() > 1, if decl.kind == StateKind::Slot { 64.0 } else { 4.0 });
        let terms = shape.iter().product::<usize>() / shape.last().copied().unwrap_or(1);
        let values = Fill::Any.array(decl.ty.dtype, &shape, &mut rng);
        Array::from_fn(decl.ty.dtype, shape.clone(), |place| {
            let kept = !many || rng.below(terms) < KEPT;
            Scalar::float(decl.ty.dtype, if kept { values.get(place).as_f64() / scale } else { 0.0 })
        })
    };
    module.state.iter().map(slot).collect()
}

/// What a net means: its results and, of each, how far every element may be off.
struct Meaning {
    /// Where each result goes.
    sinks: Vec<Sink>,
    expected: Vec<Array>,
    bounds: Vec<Array>,
}

fn meaning(module: &Module, inputs: &[Array], state: &[Array]) -> Result<Meaning, String> {
    let mut expanded = module.clone();
    let target = Target::generic();
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    // The interpreter knows no derivatives, and the analysis no calls.
    let passes: Vec<Pass> = pipeline::GRAPH.iter().filter(|pass| pass.name != "raise").copied().collect();
    runner::run(&mut expanded, &passes, &mut cx, &mut Silent, None).map_err(|error| error.to_string())?;
    let (entry, function) = expanded.entry().ok_or("a net has an entry")?;
    let sinks: Vec<Sink> = function.results.iter().map(|result| result.sink).collect();
    add_bounds(expanded.function_mut(entry))?;
    let given: Vec<&Array> = inputs.iter().collect();
    let mut expected = eval(&expanded, entry, &given, state, Precision::Reference).map_err(|error| error.to_string())?.outputs;
    let bounds = expected.split_off(sinks.len());
    Ok(Meaning { sinks, expected, bounds })
}

fn check(module: &Module, inputs: &[Array], state: &[Array], results: &[Array]) -> Result<(), String> {
    let Meaning { sinks, expected, bounds } = meaning(module, inputs, state)?;
    let (outputs, after) = results.split_at(results.len() - state.len());
    let mut outputs = outputs.iter();
    for (position, (sink, (expected, bounds))) in sinks.into_iter().zip(expected.iter().zip(&bounds)).enumerate() {
        let got = match sink {
            Sink::Out => outputs.next().ok_or("an output is missing")?,
            Sink::Update(slot) => &after[slot.0 as usize],
        };
        check_each(expected, got, bounds).map_err(|error| format!("result {position}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use graver_interp::Interp;
    use graver_ir::{Array, DType, Scalar};
    use graver_testkit::check_each;

    use super::{DTYPES, Meaning, inputs, meaning, nets_of, networks, state};

    #[test]
    fn what_rounds_as_it_should_is_within_the_bounds() {
        networks(&Interp::default(), &[]);
    }

    /// How many results of the nets in a type there are, and of how many a fault is beyond the bounds.
    fn seen(dtype: DType, fault: impl Fn(&Array, usize) -> f64) -> (usize, usize) {
        let (mut all, mut seen) = (0, 0);
        for (name, module) in nets_of(dtype) {
            let (inputs, state) = (inputs(&name, &module), state(&module));
            let Meaning { expected, bounds, .. } = meaning(&module, &inputs, &state).expect("nets are known");
            for (expected, bounds) in expected.iter().zip(&bounds) {
                let given =
                    |f: &dyn Fn(usize) -> f64| Array::from_fn(dtype, expected.shape(), |place| Scalar::float(dtype, f(place)));
                let right = given(&|place| expected.get(place).as_f64());
                assert_eq!(check_each(expected, &right, bounds), Ok(()), "{name}");
                all += 1;
                seen += usize::from(check_each(expected, &given(&|place| fault(expected, place)), bounds).is_err());
            }
        }
        (all, seen)
    }

    #[test]
    fn a_fault_is_beyond_the_bounds() {
        let larger = |x: &Array, place: usize| x.get(place).as_f64() * 1.001;
        // Of what is one number there is no other.
        let neighbour = |x: &Array, place: usize| x.get((place + 1) % x.numel()).as_f64() + f64::from(u8::from(x.numel() == 1));
        for dtype in DTYPES {
            let [(all, shifted), (_, scaled)] = [seen(dtype, neighbour), seen(dtype, larger)];
            assert_eq!(shifted, all, "{dtype}");
            // A thousandth is less than what one rounding does.
            assert_eq!(scaled, if dtype == DType::BF16 { 0 } else { all }, "{dtype}");
        }
    }
}
