//! Mistakes of the grad pass: in what it makes of every differentiable sample, held against central differences in `f64`.

use std::collections::BTreeSet;

use graver_interp::{Precision, eval};
use graver_ir::op::ReduceKind;
use graver_ir::{Array, DType, Function, Module, NodeId, Op, Role, Scalar, ScalarFn, verify};
use graver_testkit::{Build, Rng, Sample, inner, random_like, reverse, samples, transform_samples};

use super::graph::rewritten;
use super::{Fault, Verdict, all_are_caught};
use crate::cases::{apply, named};

const FAULTS: &[Fault<Module>] = &[
    Fault { name: "a factor is dropped", plant: |m| linear(m, |op| *op == Op::Map(ScalarFn::Mul), Op::Alias) },
    Fault { name: "a cotangent is negated", plant: negated },
    Fault { name: "a cotangent is not negated", plant: |m| linear(m, |op| *op == Op::Map(ScalarFn::Neg), Op::Alias) },
    Fault { name: "a sum of cotangents is its first term", plant: |m| linear(m, |op| *op == Op::Map(ScalarFn::Add), Op::Alias) },
    Fault { name: "what windows put is dropped", plant: |m| zeroed(m, |op| matches!(op, Op::WindowPut(_))) },
    Fault { name: "what is padded is dropped", plant: |m| zeroed(m, |op| matches!(op, Op::Pad(_))) },
    Fault { name: "what is added at positions is dropped", plant: |m| linear(m, |op| matches!(op, Op::Scatter(_)), Op::Alias) },
    Fault { name: "a repeated value's cotangents are not summed but maximised", plant: sum_is_max },
    Fault { name: "what is before is dropped", plant: |m| linear(m, |op| matches!(op, Op::Prefix(_)), Op::Alias) },
    Fault { name: "a reversed axis stays reversed", plant: |m| linear(m, |op| matches!(op, Op::Reverse(_)), Op::Alias) },
];

#[test]
fn faults_in_derivatives_are_caught() {
    let all = samples().into_iter().chain(transform_samples()).filter(|sample| sample.differentiable);
    let differentiated: Vec<Differentiated> = all.filter_map(|sample| Differentiated::new(&sample)).collect();
    assert!(differentiated.len() > 100, "only {} samples have differences", differentiated.len());
    for healthy in &differentiated {
        let verdict = judge(healthy, healthy.pulled.clone());
        assert!(matches!(verdict, Verdict::Missed), "{}: a healthy derivative is not as differences say", healthy.name);
    }
    all_are_caught(FAULTS, &differentiated, |healthy| &healthy.pulled, judge);
}

/// A sample's derivative, and what it must agree with.
struct Differentiated {
    name: String,
    /// `(inputs.., cotangents..) -> cotangents of inputs`, written out.
    pulled: Module,
    inputs: Vec<Array>,
    /// A direction of the float inputs.
    tangents: Vec<Array>,
    /// The slope in that direction, by differences, times the cotangents.
    expected: f64,
    /// How large the slopes are.
    scale: f64,
}

impl Differentiated {
    /// `None` where results are infinite, or the operation has no derivative.
    fn new(sample: &Sample) -> Option<Self> {
        let name = sample.name.clone();
        let mut rng = Rng::named(&name);
        let floats: Vec<Array> = sample.inputs.iter().filter(|input| input.dtype().is_float()).cloned().collect();
        let tangents = random_like(&floats, &mut rng);
        let slopes = central_difference(&written_out(&sample.module), &sample.inputs, &tangents);
        let is_finite = slopes.iter().all(|slope| slope.to_f64().iter().all(|x| x.is_finite()));
        // Products over windows are the one smooth operation without a rule.
        if !is_finite || name.starts_with("window/prod") {
            return None;
        }
        let cotangents = random_like(&slopes, &mut rng);
        let (expected, scale) = (inner(&cotangents, &slopes), inner(&slopes, &slopes).sqrt());
        let inputs = [&sample.inputs[..], &cotangents].concat();
        Some(Self { name, pulled: written_out(&reverse(&sample.module)), inputs, tangents, expected, scale })
    }
}

fn written_out(module: &Module) -> Module {
    let mut module = module.clone();
    apply(&mut module, &["inline", "cse", "grad", "inline", "cse", "dce"].map(named));
    module
}

fn run(module: &Module, inputs: &[Array]) -> Result<Vec<Array>, graver_ir::Error> {
    let (entry, _) = module.entry().expect("a sample has an entry");
    Ok(eval(module, entry, &inputs.iter().collect::<Vec<_>>(), &[], Precision::Typed)?.outputs)
}

/// `(f(x + h v) - f(x - h v)) / 2h`
fn central_difference(module: &Module, inputs: &[Array], tangents: &[Array]) -> Vec<Array> {
    const STEP: f64 = 1e-5;
    let [above, below] = [STEP, -STEP].map(|step| run(module, &moved(inputs, tangents, step)).expect("the sample runs"));
    let slope = |x: f64, y: f64| (x - y) / (2.0 * STEP);
    above.iter().zip(&below).map(|(above, below)| zipped(above, below, slope)).collect()
}

/// Every float input moved by `step` times its tangent.
fn moved(inputs: &[Array], tangents: &[Array], step: f64) -> Vec<Array> {
    let mut tangents = tangents.iter();
    let mut next = |x: &Array| match x.dtype().is_float() {
        true => zipped(x, tangents.next().expect("a tangent a float input"), |x, dx| x + step * dx),
        false => x.clone(),
    };
    inputs.iter().map(&mut next).collect()
}

fn zipped(x: &Array, y: &Array, function: impl Fn(f64, f64) -> f64) -> Array {
    Array::from_fn(x.dtype(), x.shape(), |place| Scalar::float(x.dtype(), function(x.get(place).as_f64(), y.get(place).as_f64())))
}

/// Reverse mode by `<J' g, v> = <g, J v>`, as the net of derivatives judges it.
fn judge(of: &Differentiated, pulled: Module) -> Verdict {
    if let Err(error) = verify(&pulled) {
        return Verdict::Refused(error.to_string());
    }
    match run(&pulled, &of.inputs) {
        Err(error) => Verdict::Failed(format!("{}: {error}", of.name)),
        Ok(pulled) => {
            let got = inner(&pulled, &of.tangents);
            let close = (got - of.expected).abs() <= 1e-6 * (1.0 + of.scale);
            let wrong = || Verdict::Wrong(format!("{}: differences say {}, got {got}", of.name, of.expected));
            if close { Verdict::Missed } else { wrong() }
        }
    }
}

/// The nodes that depend on a cotangent: what the grad pass made.
fn made(function: &Function) -> BTreeSet<NodeId> {
    let is_seed = |role: &Role| matches!(role, Role::Arg(name) if name == "seed");
    let seeds = function.params.iter().filter(|param| is_seed(&param.role)).map(|param| param.node);
    let mut found: BTreeSet<NodeId> = seeds.collect();
    for id in function.graph.topo() {
        if function.graph.args(id).iter().any(|arg| found.contains(&arg.node)) {
            found.insert(id);
        }
    }
    found
}

/// Puts `op` of the cotangent alone in the place of the first operation of a kind.
fn linear(module: &mut Module, is: fn(&Op) -> bool, op: Op) -> bool {
    rewritten(module, |function, id| {
        let made = made(function);
        let fits = is(function.graph.op(id)) && made.contains(&id);
        let cotangent = function.graph.args(id).into_iter().find(|arg| made.contains(&arg.node));
        let first = function.graph.args(id).first().copied();
        let kept = if matches!(function.graph.op(id), Op::Scatter(_)) { first } else { cotangent };
        if fits { Some((op.clone(), vec![kept?])) } else { None }
    })
}

fn negated(module: &mut Module) -> bool {
    rewritten(module, |function, id| {
        let result = function.results.iter().any(|result| result.value == id.into());
        let from = Op::Map(ScalarFn::Neg);
        let used = made(function).contains(&id) && result && *function.graph.op(id) != from;
        used.then(|| (from, vec![id.into()]))
    })
}

/// Nothing in the place of the first operation of a kind: the value times zero.
fn zeroed(module: &mut Module, is: fn(&Op) -> bool) -> bool {
    rewritten(module, |function, id| {
        let fits = is(function.graph.op(id)) && made(function).contains(&id);
        fits.then(|| (Op::Map(ScalarFn::Sub), vec![id.into(), id.into()]))
    })
}

fn sum_is_max(module: &mut Module) -> bool {
    rewritten(module, |function, id| {
        let Op::Reduce(reduce) = function.graph.op(id) else { return None };
        let mut reduce = reduce.clone();
        let fits = reduce.kind == ReduceKind::Sum && made(function).contains(&id);
        reduce.kind = ReduceKind::Max;
        fits.then(|| (Op::Reduce(reduce), function.graph.args(id).to_vec()))
    })
}

/// Differences know nothing of stops: here the derivative of `x * stop(x)`, which is `stop(x)`, is told by hand.
#[test]
fn a_leaking_stop_is_caught() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F64, [3]);
    let g = b.arg("g", DType::F64, [3]);
    let x = b.add(Op::Alias, &[x]);
    let stopped = b.add(Op::StopGradient, &[x]);
    let y = b.map(ScalarFn::Mul, [x, stopped]);
    let slope = b.vjp(&[y], &[g], &[x])[0];
    let healthy = b.finish([slope]);
    let inputs = [[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]].map(|x| Array::from_vec([3], x.to_vec()).expect("three elements"));
    let slopes = |module: &Module| run(&written_out(module), &inputs).expect("it runs")[0].to_f64();
    assert_eq!(slopes(&healthy), [0.5, -8.0, -3.0]);
    let mut leaking = healthy;
    assert!(super::graph::dropped(&mut leaking, |op| *op == Op::StopGradient));
    assert_eq!(slopes(&leaking), [1.0, -16.0, -6.0], "the fault was planted");
}
