//! Derivatives down to kernels: what the kernel interpreter gives for them is what the graph means.

use std::sync::Arc;

use graver_interp::Interp;
use graver_ir::{Array, Module, Target};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Invocation};
use graver_testkit::{Rng, random_like, reverse, samples, transform_samples};

use crate::tools::run;

/// What the planned program's kernels give.
fn run_kernels(module: Module, inputs: &[Array]) -> Vec<Array> {
    let program = pipeline::compile(module, &Target::generic(), &mut Silent).expect("the derivative exists");
    let executable = Interp::default().compile(Arc::new(program)).expect("the interpreter takes every program");
    let (inputs, mut workspace): (Vec<&Array>, _) = (inputs.iter().collect(), executable.workspace());
    let call = Invocation { entry: 0, inputs: &inputs, state: &mut [], workspace: &mut workspace };
    executable.run(call).expect("the derivative runs")
}

#[test]
fn derivatives_of_samples_mean_the_same_as_kernels() {
    for sample in samples().into_iter().chain(transform_samples()).filter(|sample| sample.differentiable) {
        if sample.name.starts_with("window/prod") {
            continue;
        }
        let outputs = run(&sample.module, &sample.inputs);
        let seeds = random_like(&outputs, &mut Rng::named(&sample.name));
        let (module, inputs) = (reverse(&sample.module), [sample.inputs, seeds].concat());
        for (expected, got) in run(&module, &inputs).iter().zip(run_kernels(module, &inputs)) {
            for (x, y) in expected.to_f64().into_iter().zip(got.to_f64()) {
                assert!((x - y).abs() <= 1e-12 * (1.0 + x.abs()), "{}: {x} by the graph, {y} by kernels", sample.name);
            }
        }
    }
}
