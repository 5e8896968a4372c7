//! Every differentiable sample: both modes against central differences in `f64`, and again for the derivative itself.

use std::collections::BTreeSet;

use graver_ir::{Array, Module, Scalar};
use graver_testkit::{Rng, Sample, forward, inner, random_like, reverse, samples, transform_samples};

use crate::tools::{expanded, run, run_expanded};

/// Moves every float input by `step` times its tangent.
fn moved(inputs: &[Array], tangents: &[Array], step: f64) -> Vec<Array> {
    let mut tangents = tangents.iter();
    let mut next = |x: &Array| {
        if !x.dtype().is_float() {
            return x.clone();
        }
        let dx = tangents.next().expect("a tangent a float input");
        Array::from_fn(x.dtype(), x.shape(), |place| {
            Scalar::float(x.dtype(), x.get(place).as_f64() + step * dx.get(place).as_f64())
        })
    };
    inputs.iter().map(&mut next).collect()
}

/// `(f(x + h v) - f(x - h v)) / 2h`
fn central_difference(module: &Module, inputs: &[Array], tangents: &[Array]) -> Vec<Array> {
    const STEP: f64 = 1e-5;
    let module = expanded(module).expect("the sample has derivatives");
    let [above, below] = [STEP, -STEP].map(|step| run_expanded(&module, &moved(inputs, tangents, step)));
    let slope = |(above, below): (&Array, &Array)| {
        Array::from_fn(above.dtype(), above.shape(), |place| {
            Scalar::float(above.dtype(), (above.get(place).as_f64() - below.get(place).as_f64()) / (2.0 * STEP))
        })
    };
    above.iter().zip(&below).map(slope).collect()
}

fn check_close(what: &str, expected: f64, got: f64, scale: f64) {
    assert!((expected - got).abs() <= 1e-6 * (1.0 + scale), "{what}: differences say {expected}, the derivative says {got}");
}

/// Checks forward mode element by element, and reverse mode by `<g, J v> = <J' g, v>`. Gives the cotangents used.
fn check(name: &str, module: &Module, inputs: &[Array]) -> Vec<Array> {
    let mut rng = Rng::named(name);
    let floats: Vec<Array> = inputs.iter().filter(|input| input.dtype().is_float()).cloned().collect();
    let tangents = random_like(&floats, &mut rng);
    let slopes = central_difference(module, inputs, &tangents);
    let pushed = run(&forward(module), &[inputs, &tangents].concat());
    for (expected, got) in slopes.iter().zip(&pushed) {
        for (expected, got) in expected.to_f64().into_iter().zip(got.to_f64()) {
            check_close(&format!("{name}, forward"), expected, got, expected.abs());
        }
    }
    let cotangents = random_like(&slopes, &mut rng);
    let pulled = run(&reverse(module), &[inputs, &cotangents].concat());
    let (expected, got) = (inner(&cotangents, &slopes), inner(&pulled, &tangents));
    check_close(&format!("{name}, reverse"), expected, got, inner(&slopes, &slopes).sqrt());
    cotangents
}

/// Whether the values are finite: infinities, the extremes of nothing, have no differences.
fn is_finite(sample: &Sample) -> bool {
    run(&sample.module, &sample.inputs).iter().all(|output| output.to_f64().iter().all(|x| x.is_finite()))
}

#[test]
fn every_differentiable_sample_agrees_with_central_differences_twice() {
    let mut covered = BTreeSet::new();
    for sample in samples().into_iter().chain(transform_samples()).filter(|sample| sample.differentiable) {
        if !is_finite(&sample) {
            continue;
        }
        let cotangents = check(&sample.name, &sample.module, &sample.inputs);
        let again = [&sample.inputs[..], &cotangents].concat();
        check(&format!("{}, again", sample.name), &reverse(&sample.module), &again);
        for function in sample.module.functions.values() {
            covered.extend(function.graph.nodes().map(|node| function.graph.op(node).name()));
        }
    }
    insta::assert_snapshot!(Vec::from_iter(covered).join(" "));
}
