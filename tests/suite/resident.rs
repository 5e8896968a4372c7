//! State stays on a device from call to call: what is copied there, and what comes back, when somebody reads it.

use std::path::Path;
use std::sync::Arc;

use graver::prelude::*;
use graver::trace::{Device, TensorSpec};
use graver_cuda::Shim;
use graver_ir::Array;

#[derive(Module)]
struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    fn new() -> Self {
        let mut init = Init::seed(0);
        Self { first: Linear::new(4, 8).init(&mut init), second: Linear::new(8, 3).init(&mut init) }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        self.second.forward(self.first.forward(x).relu())
    }
}

type Training = Step<(TensorSpec, TensorSpec), Tensor>;

fn shim() -> Shim {
    Shim::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim")).expect("a C++ compiler")
}

fn training(model: &Mlp, device: &Device) -> Training {
    let inputs = (spec::<f32>(("n", 4)), spec::<i64>(["n"]));
    let step = train_step(model, Sgd::new(0.1).momentum(0.9), inputs, |m, (x, y)| m.forward(x).cross_entropy(y));
    step.compile(device).expect("the network is well typed")
}

fn batch(labels: [i64; 2]) -> (Array, Array) {
    let x = Array::from_vec([2, 4], vec![0.5f32, -1.0, 2.0, 0.0, 1.0, 1.5, -0.5, 0.25]);
    (x.expect("sizes agree"), Array::from_vec([2], labels.to_vec()).expect("sizes agree"))
}

fn run(step: &mut Training) -> f64 {
    let (x, y) = batch([0, 2]);
    step.run((&x, &y)).expect("labels are in range").item().expect("a loss is a scalar")
}

fn values(step: &Training) -> Vec<Vec<f64>> {
    step.state().entries().map(|entry| entry.value.to_f64()).collect()
}

#[test]
fn steps_copy_the_state_in_once_and_out_when_it_is_read() {
    let (shim, model) = (shim(), Mlp::new());
    let copies = shim.copies().clone();
    let device = Device::new(Arc::new(shim));
    let (mut step, mut cpu) = (training(&model, &device), training(&model, &cpu_with_threads(1)));
    let slots = step.state().entries().count();
    assert_eq!(slots, 9, "four parameters, their moments, and the number of steps");
    for _ in 0..4 {
        let (got, expected) = (run(&mut step), run(&mut cpu));
        assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
    }
    assert_eq!((copies.to(), copies.within(), copies.back()), (slots, 0, 0));

    // Another function over the living state copies nothing.
    let eval = compile(|x| model.forward(x), spec::<f32>(("n", 4)), &device).expect("the network is well typed");
    let (x, _) = batch([0, 2]);
    (0..2).for_each(|_| drop(eval.call_with(step.state(), &x).expect("it fits")));
    assert_eq!((copies.to(), copies.within(), copies.back()), (slots, 0, 0));

    // Reading copies once, as long as nothing is written.
    let (got, expected) = (values(&step), values(&cpu));
    assert_eq!(values(&step), got);
    assert_eq!(copies.back(), slots);
    let close = |(x, y): (&f64, &f64)| (x - y).abs() < 1e-5;
    assert!(got.iter().flatten().zip(expected.iter().flatten()).all(close), "{got:?}, not {expected:?}");

    // The model's own parameters are other arrays, which functions over them copy once.
    (0..2).for_each(|_| drop(eval.call(&x).expect("it fits")));
    assert_eq!(copies.to(), slots + 4);
}

#[test]
fn what_users_write_and_what_they_keep_is_respected() {
    let (shim, model) = (shim(), Mlp::new());
    let copies = shim.copies().clone();
    let mut step = training(&model, &Device::new(Arc::new(shim)));
    run(&mut step);
    let slots = copies.to();

    let zeros = Array::full([3], graver_ir::Scalar::zero(DType::F32));
    step.state_mut().set("second.bias", zeros.clone()).expect("there is one");
    run(&mut step);
    assert_eq!(copies.to(), slots + 1, "what was set is copied, and nothing else");
    assert_eq!(zeros.to_f64(), [0.0; 3], "the user's array is the user's");

    let kept = step.state().clone();
    let before: Vec<Vec<f64>> = kept.entries().map(|entry| entry.value.to_f64()).collect();
    run(&mut step);
    assert_eq!(copies.within(), slots, "the state that somebody keeps is moved away from");
    assert_eq!(kept.entries().map(|entry| entry.value.to_f64()).collect::<Vec<_>>(), before);
    assert_ne!(values(&step), before);
}

#[test]
fn a_failed_call_leaves_the_state_where_and_as_it_was() {
    let (shim, model) = (shim(), Mlp::new());
    let copies = shim.copies().clone();
    let mut step = training(&model, &Device::new(Arc::new(shim)));
    run(&mut step);
    let (before, to) = (values(&step), copies.to());
    let (x, y) = batch([0, 7]);
    let error = step.run((&x, &y)).expect_err("there is no class 7").to_string();
    assert!(error.contains("resident.rs"), "{error}");
    assert_eq!(values(&step), before);
    run(&mut step);
    assert_ne!(values(&step), before);
    assert_eq!(copies.to(), to);
}
