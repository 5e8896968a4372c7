//! Models, their state, and steps that update it.

use graver_trace::{
    Array, Buffer, Error, Grads, Module, Param, Tensor, Tree, named_slot, params_of, slot, spec, step, trace, training,
    value_and_grad, with_params,
};

use crate::common::{at, close, constant, floats, ints, run_over, slots};

#[derive(Module)]
struct Linear {
    weight: Param,
    bias: Option<Param>,
    #[module(skip)]
    features: usize,
}

impl Linear {
    fn new(inputs: usize, outputs: usize, start: f32) -> Self {
        let weight = floats([outputs, inputs], (0..inputs * outputs).map(|i| start + 0.1 * i as f32));
        Self { weight: Param::new(weight), bias: Some(Param::new(floats([outputs], vec![0.0; outputs]))), features: outputs }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        self.scope(|| {
            let y = x.matmul(self.weight.get().t());
            self.bias.as_ref().map_or(y, |bias| y + bias)
        })
    }
}

#[derive(Module)]
struct Norm {
    #[module(name = "running_mean")]
    mean: Buffer,
}

impl Norm {
    fn forward(&self, x: Tensor) -> Tensor {
        if training() {
            self.mean.set(self.mean.get() * 0.9 + x.mean(0) * 0.1);
        }
        x - self.mean.get()
    }
}

#[derive(Module)]
struct Mlp<A: 'static, M> {
    layers: Vec<M>,
    norm: Norm,
    head: Box<Linear>,
    #[module(skip)]
    #[expect(dead_code, reason = "shows that a skipped field needs no bound")]
    activation: A,
}

type Net = Mlp<fn(f32) -> f32, Linear>;

impl Net {
    fn new() -> Self {
        let layers = vec![Linear::new(2, 3, -0.2), Linear::new(3, 3, -0.4)];
        let norm = Norm { mean: Buffer::new(floats([3], [0.0; 3])) };
        Self { layers, norm, head: Box::new(Linear::new(3, 2, -0.1)), activation: f32::abs }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x).relu());
        self.head.forward(self.norm.forward(x))
    }
}

fn data() -> (Array, Array) {
    (floats([4, 2], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, -1.0, 0.5]), ints([4], [0, 1, 1, 0]))
}

fn specs() -> (graver_trace::TensorSpec, graver_trace::TensorSpec) {
    (spec::<f32>(("batch", 2)), spec::<i64>(["batch"]))
}

/// Gradient descent with momentum, as an optimiser writes it.
fn descend(grads: &Grads) {
    let steps = named_slot("t", || Array::scalar(0i64));
    steps.set(steps.get() + 1);
    for (_, param, grad) in grads.iter() {
        let momentum = slot(param, "m", || Array::full(param.value().shape(), graver_ir::Scalar::zero(param.value().dtype())));
        momentum.set(momentum.get() * 0.5 + grad);
        param.set(param.get() - momentum.get() * 0.3);
    }
}

#[test]
fn paths_are_those_of_fields() {
    let net = Net::new();
    let paths: Vec<String> = net.leaves().into_iter().map(|(path, _)| path).collect();
    let expected =
        ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias", "norm.running_mean", "head.weight", "head.bias"];
    assert_eq!(paths, expected);
    assert_eq!(net.count(), 6 + 3 + 9 + 3 + 6 + 2);
    assert_eq!(net.head.features, 2);
}

#[test]
fn a_training_step_learns_and_keeps_its_state_apart() -> Result<(), Error> {
    let net = Net::new();
    let traced = step(specs(), |(x, y)| {
        let (loss, grads) = value_and_grad(&net, |net| net.forward(x).cross_entropy(y));
        descend(&grads);
        loss
    })
    .model("", &net)
    .trace()?;
    let (x, y) = data();
    assert_eq!(slots(traced.keys()), 6);
    let mut state = traced.state();
    let mut losses = Vec::new();
    for _ in 0..60 {
        let (loss, after) = run_over(&traced, (&x, &y), &state)?;
        losses.push(loss.item()?);
        state = after;
    }
    assert!(losses[59] < 0.5 * losses[0], "{losses:?}");
    assert_eq!(at(&traced, &state, "optim.t").to_f64(), [60.0]);
    assert_ne!(at(&traced, &state, "norm.running_mean").to_f64(), [0.0; 3]);
    assert_ne!(at(&traced, &state, "optim.layers.1.bias.m").to_f64(), [0.0; 3]);
    // The model itself changes only when it is written to.
    assert_eq!(net.head.bias.as_ref().expect("a bias").value().to_f64(), [0.0, 0.0]);
    let scoped = traced.module().entry().expect("an entry").1.graph.clone();
    assert!(scoped.nodes().any(|id| scoped.loc(id).to_string().ends_with("(layers.1)")));
    Ok(())
}

#[test]
fn evaluation_reads_buffers_and_sets_none() -> Result<(), Error> {
    let net = Net::new();
    let traced = trace(|x| net.forward(x), specs().0)?;
    let (_, main) = traced.module().entry().expect("an entry");
    assert_eq!(main.results.len(), 1);
    assert_eq!(traced.module().state.len(), 7);
    Ok(())
}

#[test]
fn tied_and_frozen_parameters() -> Result<(), Error> {
    let shared = Param::new(floats([2], [1.0, 2.0]));
    let net = (shared.tie(), Param::new(floats([2], [3.0, 4.0])), shared);
    net.1.freeze();
    let traced = step((), |()| value_and_grad(&net, |net| (net.0.get() * &net.1 + net.2.get() * 2.0).sum(..)).1)
        .model("", &net)
        .trace()?;
    let (grads, _) = run_over(&traced, (), &traced.state())?;
    assert_eq!(grads.len(), 1);
    assert_eq!(grads[0].0, "0");
    close(&grads[0].1, &[5.0, 6.0], 1e-6);
    Ok(())
}

#[test]
fn everything_frozen_is_told() {
    let net = (Param::new(floats([2], [1.0, 2.0])),);
    net.freeze();
    let traced = step((), |()| value_and_grad(&net, |net| net.0.get().sum(..)).0).trace();
    let found = traced.expect_err("nothing to train").to_string();
    assert!(found.contains("grad: there is nothing to differentiate with respect to"), "{found}");
}

#[test]
fn two_models_in_one_step() -> Result<(), Error> {
    let (generator, critic) = (Linear::new(2, 2, 0.1), Linear::new(2, 1, 0.2));
    let traced = step(spec::<f32>(("n", 2)), |z| {
        let (critic_loss, dc) = value_and_grad(&critic, |c| c.forward(generator.forward(z).stop_gradient()).mean(..));
        let (loss, dg) = value_and_grad(&generator, |g| -critic.forward(g.forward(z)).mean(..));
        descend(&dc);
        descend(&dg);
        (loss, critic_loss, dg.norm())
    })
    .model("gen", &generator)
    .model("disc", &critic)
    .trace()?;
    let paths: Vec<&str> = traced.module().state.iter().map(|decl| decl.path.as_str()).collect();
    assert!(paths.contains(&"gen.weight") && paths.contains(&"disc.bias") && paths.contains(&"optim.gen.weight.m"), "{paths:?}");
    let ((loss, critic_loss, norm), _) = run_over(&traced, &data().0, &traced.state())?;
    close(&loss, &[-critic_loss.item()?], 1e-6);
    assert!(norm.item()? > 0.0);
    Ok(())
}

#[test]
fn fast_weights() -> Result<(), Error> {
    let net = Linear::new(2, 1, 1.0);
    let traced = step(specs().0, |x| {
        let doubled = params_of(&net).map(|_, weight| weight * 2.0);
        with_params(&net, &doubled, |net| net.forward(x)) - net.forward(x) * 2.0
    })
    .trace()?;
    let (difference, _) = run_over(&traced, &data().0, &traced.state())?;
    close(&difference, &[0.0; 4], 1e-6);
    Ok(())
}

#[derive(Tree)]
struct Batch<T = Tensor> {
    x: T,
    parts: (Vec<T>, Option<T>),
}

#[test]
fn derived_structs_go_in_and_out() -> Result<(), Error> {
    let pair = || spec::<f32>([2]);
    let spec = Batch { x: pair(), parts: (vec![pair(), pair()], None) };
    let traced = trace(
        |batch: Batch| {
            let sum = batch.parts.0.iter().fold(batch.x, |sum, part| sum + part);
            Batch { x: sum, parts: (vec![batch.x], Some(constant(&floats([1], [7.0])))) }
        },
        spec,
    )?;
    let names: Vec<String> =
        traced.module().entry().expect("an entry").1.params.iter().map(|param| format!("{:?}", param.role)).collect();
    assert_eq!(names, [r#"Arg("x")"#, r#"Arg("parts.0.0")"#, r#"Arg("parts.0.1")"#]);
    let (a, b) = (floats([2], [1.0, 2.0]), floats([2], [10.0, 20.0]));
    let (out, _) = run_over(&traced, Batch { x: &a, parts: (vec![&b, &b], None) }, &[])?;
    assert_eq!(out.x.to_f64(), [21.0, 42.0]);
    assert_eq!(out.parts.0[0], a);
    assert_eq!(out.parts.1.expect("a constant").to_f64(), [7.0]);
    Ok(())
}

#[test]
fn threads_trace_one_model() {
    let net = Net::new();
    let count =
        || trace(|x| net.forward(x), specs().0).expect("a good program").module().entry().expect("an entry").1.graph.len();
    let (here, there) = std::thread::scope(|threads| {
        let there = threads.spawn(count);
        (count(), there.join().expect("no panic"))
    });
    assert_eq!(here, there);
}
