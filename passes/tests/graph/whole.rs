//! Whole training steps through the whole list of graph passes: exact dumps, read and blessed.

use graver_ir::op::{DotAxes, ReduceKind, Window, WindowAxis};
use graver_ir::text::print_without_locs;
use graver_ir::{DType, Dim, Module, Op, ScalarFn, Target, Value};
use graver_passes::{Cx, Silent, pipeline, runner};
use graver_testkit::Build;

fn compiled(mut module: Module) -> String {
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    runner::run(&mut module, pipeline::GRAPH, &mut cx, &mut Silent, None).expect("the program is right");
    print_without_locs(&module)
}

fn named(b: &mut Build, name: &str, dims: &[i64]) -> Value {
    let x = b.arg(name, DType::F32, dims.to_vec());
    b.add(Op::Alias, &[x])
}

/// `x w^T + b`
fn linear(b: &mut Build, x: Value, weight: Value, bias: Value) -> Value {
    let axes = DotAxes { lhs_contract: vec![1], rhs_contract: vec![1], ..DotAxes::default() };
    let product = b.dot(x, weight, axes);
    let shape = b.ty(product).shape.clone();
    let bias = b.broadcast(bias, shape, [1]);
    b.map(ScalarFn::Add, [product, bias])
}

/// The mean over rows of `log(sum(exp(x))) - x[label]`.
fn cross_entropy(b: &mut Build, x: Value, labels: Value) -> Value {
    let shape = b.ty(x).shape.clone();
    let rows = shape[0].clone();
    let greatest = b.reduce(ReduceKind::Max, x, [1]);
    let greatest = b.add(Op::StopGradient, &[greatest]);
    let spread = b.broadcast(greatest, shape, [0]);
    let shifted = b.map(ScalarFn::Sub, [x, spread]);
    let weights = b.map(ScalarFn::Exp, [shifted]);
    let sum = b.reduce(ReduceKind::Sum, weights, [1]);
    let log = b.map(ScalarFn::Log, [sum]);
    let column = b.reshape(labels, (rows.clone(), 1));
    let picked = b.gather(shifted, column, 1, 1);
    let picked = b.reshape(picked, (rows.clone(),));
    let losses = b.map(ScalarFn::Sub, [log, picked]);
    let total = b.reduce(ReduceKind::Sum, losses, [0]);
    let count = b.size(rows);
    let count = b.cast(DType::F32, count);
    b.map(ScalarFn::Div, [total, count])
}

#[test]
fn a_perceptron_and_its_gradients() {
    let mut b = Build::new("step");
    let x = b.arg("x", DType::F32, ("batch", 8));
    let labels = b.arg("labels", DType::I64, ["batch"]);
    let params = [("w1", vec![6, 8]), ("b1", vec![6]), ("w2", vec![4, 6]), ("b2", vec![4])];
    let [w1, b1, w2, b2] = params.map(|(name, dims)| named(&mut b, name, &dims));
    let hidden = linear(&mut b, x, w1, b1);
    let hidden = b.map(ScalarFn::Relu, [hidden]);
    let logits = linear(&mut b, hidden, w2, b2);
    let loss = cross_entropy(&mut b, logits, labels);
    let one = b.scalar(DType::F32, 1.0);
    let grads = b.vjp(&[loss], &[one], &[w1, b1, w2, b2]);
    insta::assert_snapshot!(compiled(b.finish_all(&[&[loss], &grads[..]].concat())));
}

#[test]
fn a_pooled_square_and_its_gradient() {
    let mut b = Build::new("step");
    let x = named(&mut b, "x", &[2, 8]);
    let pool = WindowAxis { size: 2, stride: 2, dilation: 1, low: Dim::ZERO, high: Dim::ZERO };
    let pooled = b.add(Op::Window(Window { kind: ReduceKind::Max, axes: vec![WindowAxis::IDENTITY, pool] }), &[x]);
    let squares = b.map(ScalarFn::Mul, [pooled, pooled]);
    let loss = b.reduce(ReduceKind::Sum, squares, [0, 1]);
    let one = b.scalar(DType::F32, 1.0);
    let [slope] = b.vjp(&[loss], &[one], &[x])[..] else { panic!("one result") };
    insta::assert_snapshot!(compiled(b.finish([loss, slope])));
}
