//! Nets as users write them, in primitives.

use crate::build::Build;
use graver_ir::op::{Conv, ConvAxis, DotAxes, Reduce, ReduceKind, Window, WindowAxis};
use graver_ir::{DType, DType::I64, Dim, Module, Op, ScalarFn, Shape, StateId, StateKind, Value};

/// A net under construction: its parameters and what is known of the batch.
#[derive(Debug)]
pub struct Net {
    /// The function under construction.
    pub b: Build,
    float: DType,
    params: Vec<(StateId, Value)>,
}

impl Net {
    /// Nothing yet; parameters are of this type.
    #[must_use]
    pub fn new(float: DType) -> Self {
        Self { b: Build::new("main"), float, params: Vec::new() }
    }

    /// A parameter.
    pub fn param(&mut self, name: &str, sizes: &[i64]) -> Value {
        let shape = Shape::new(sizes.iter().copied());
        let (id, value) = self.b.state(name, StateKind::Param, self.float, shape);
        let seen = self.b.add(Op::Alias, &[value]);
        self.params.push((id, seen));
        seen
    }

    /// `x` repeated to the shape of `like`, along these axes.
    pub fn spread<const N: usize>(&mut self, x: Value, like: Value, axes: [usize; N]) -> Value {
        let shape = self.b.ty(like).shape.clone();
        self.b.broadcast(x, shape, axes)
    }

    /// A number repeated to the shape of `like`.
    pub fn number(&mut self, value: f64, like: Value) -> Value {
        let x = self.b.scalar(self.float, value);
        self.spread(x, like, [])
    }

    /// `max(x, 0)`
    pub fn relu(&mut self, x: Value) -> Value {
        self.b.map(ScalarFn::Relu, [x])
    }

    /// `x w + b`
    pub fn linear(&mut self, x: Value, name: &str, inputs: i64, outputs: i64) -> Value {
        let weight = self.param(&format!("{name}.weight"), &[inputs, outputs]);
        let bias = self.param(&format!("{name}.bias"), &[outputs]);
        let last = self.b.ty(x).rank() - 1;
        let axes = DotAxes { lhs_contract: vec![last], rhs_contract: vec![0], ..DotAxes::default() };
        let y = self.b.dot(x, weight, axes);
        let bias = self.spread(bias, y, [last]);
        self.b.map(ScalarFn::Add, [y, bias])
    }

    /// A 3 x 3 convolution over `[n, c, h, w]` without padding.
    pub fn conv(&mut self, x: Value, name: &str, inputs: i64, outputs: i64) -> Value {
        let weight = self.param(&format!("{name}.weight"), &[outputs, inputs, 3, 3]);
        let bias = self.param(&format!("{name}.bias"), &[outputs]);
        let axis = ConvAxis { stride: 1, low: Dim::ZERO, high: Dim::ZERO, kernel_dilation: 1, input_dilation: 1 };
        let order = || vec![0, 1, 2, 3];
        let conv =
            Conv { input: order(), kernel: order(), output: order(), axes: vec![axis.clone(), axis], groups: 1, batch_groups: 1 };
        let y = self.b.add(Op::Conv(conv), &[x, weight]);
        let bias = self.spread(bias, y, [1]);
        self.b.map(ScalarFn::Add, [y, bias])
    }

    /// The greatest of every 2 x 2 window.
    pub fn pool(&mut self, x: Value) -> Value {
        let two = WindowAxis { size: 2, stride: 2, ..WindowAxis::IDENTITY };
        let axes = vec![WindowAxis::IDENTITY, WindowAxis::IDENTITY, two.clone(), two];
        self.b.add(Op::Window(Window { kind: ReduceKind::Max, axes }), &[x])
    }

    fn last(&mut self, kind: ReduceKind, x: Value) -> Value {
        let axis = self.b.ty(x).rank() - 1;
        self.b.add(Op::Reduce(Reduce { kind, axes: vec![axis] }), &[x])
    }

    /// A value a row, repeated along rows.
    fn along_rows(&mut self, row: Value, like: Value) -> Value {
        let shape = self.b.ty(like).shape.clone();
        let axes = (0..shape.rank() - 1).collect();
        self.b.add(Op::Broadcast(graver_ir::op::Broadcast { shape, axes }), &[row])
    }

    fn shifted(&mut self, x: Value) -> Value {
        let top = self.last(ReduceKind::Max, x);
        let top = self.along_rows(top, x);
        let top = self.b.add(Op::StopGradient, &[top]);
        self.b.map(ScalarFn::Sub, [x, top])
    }

    /// Over the last axis.
    pub fn softmax(&mut self, x: Value) -> Value {
        let shifted = self.shifted(x);
        let exp = self.b.map(ScalarFn::Exp, [shifted]);
        let sum = self.last(ReduceKind::Sum, exp);
        let sum = self.along_rows(sum, x);
        self.b.map(ScalarFn::Div, [exp, sum])
    }

    /// Over the last axis.
    pub fn log_softmax(&mut self, x: Value) -> Value {
        let shifted = self.shifted(x);
        let exp = self.b.map(ScalarFn::Exp, [shifted]);
        let sum = self.last(ReduceKind::Sum, exp);
        let log = self.b.map(ScalarFn::Log, [sum]);
        let log = self.along_rows(log, x);
        self.b.map(ScalarFn::Sub, [shifted, log])
    }

    /// The mean over rows of minus the logarithm of the softmax at the label.
    pub fn cross_entropy(&mut self, logits: Value, labels: Value) -> Value {
        let log = self.log_softmax(logits);
        let picked = self.b.gather(log, labels, 1, 1);
        let sum = self.b.reduce(ReduceKind::Sum, picked, [0]);
        let count = self.b.size(self.b.ty(labels).shape[0].clone());
        let count = self.b.cast(self.float, count);
        let mean = self.b.map(ScalarFn::Div, [sum, count]);
        self.b.map(ScalarFn::Neg, [mean])
    }

    /// Over the last axis, with scale and shift.
    pub fn layer_norm(&mut self, x: Value, features: i64) -> Value {
        let (scale, shift) = (self.param("norm.weight", &[features]), self.param("norm.bias", &[features]));
        let count = self.b.scalar(self.float, f64::from(u32::try_from(features).expect("small")));
        let mean = self.mean(x, count);
        let mean = self.along_rows(mean, x);
        let centred = self.b.map(ScalarFn::Sub, [x, mean]);
        let square = self.b.map(ScalarFn::Mul, [centred, centred]);
        let variance = self.mean(square, count);
        let epsilon = self.number(1e-5, variance);
        let variance = self.b.map(ScalarFn::Add, [variance, epsilon]);
        let inverse = self.b.map(ScalarFn::Rsqrt, [variance]);
        let inverse = self.along_rows(inverse, x);
        let normed = self.b.map(ScalarFn::Mul, [centred, inverse]);
        let last = self.b.ty(x).rank() - 1;
        let (scale, shift) = (self.spread(scale, x, [last]), self.spread(shift, x, [last]));
        let scaled = self.b.map(ScalarFn::Mul, [normed, scale]);
        self.b.map(ScalarFn::Add, [scaled, shift])
    }

    fn mean(&mut self, x: Value, count: Value) -> Value {
        let sum = self.last(ReduceKind::Sum, x);
        let count = self.spread(count, sum, []);
        self.b.map(ScalarFn::Div, [sum, count])
    }

    /// SGD with momentum on every parameter: `v = 0.9 v + g`, `w = w - 0.01 v`.
    pub fn descend(&mut self, loss: Value) {
        let seed = self.b.scalar(self.float, 1.0);
        let params = self.params.clone();
        let values: Vec<Value> = params.iter().map(|(_, value)| *value).collect();
        let gradients = self.b.vjp(&[loss], &[seed], &values);
        for ((id, weight), gradient) in params.into_iter().zip(gradients) {
            let shape = self.b.ty(weight).shape.clone();
            let (slot, old) = self.b.state(&format!("velocity.{}", id.0), StateKind::Slot, self.float, shape);
            let (momentum, rate) = (self.number(0.9, weight), self.number(0.01, weight));
            let kept = self.b.map(ScalarFn::Mul, [momentum, old]);
            let velocity = self.b.map(ScalarFn::Add, [kept, gradient]);
            let step = self.b.map(ScalarFn::Mul, [rate, velocity]);
            let next = self.b.map(ScalarFn::Sub, [weight, step]);
            self.b.update(slot, velocity);
            self.b.update(id, next);
        }
    }

    /// The module with these results.
    #[must_use]
    pub fn finish<const N: usize>(self, results: [Value; N]) -> Module {
        self.b.finish(results)
    }
}

/// conv, relu, pool, conv, relu, pool, linear, relu, linear, cross-entropy, SGD with momentum, over `[batch, 1, 16, 16]`.
pub fn cnn_step(float: DType) -> Module {
    let mut net = Net::new(float);
    let (x, labels) = (net.b.arg("x", float, ("n", 1, 16, 16)), net.b.arg("labels", I64, ["n"]));
    let x = net.conv(x, "conv1", 1, 4);
    let x = net.relu(x);
    let x = net.pool(x);
    let x = net.conv(x, "conv2", 4, 6);
    let x = net.relu(x);
    let x = net.pool(x);
    let x = net.b.reshape(x, ("n", 24));
    let x = net.linear(x, "fc1", 24, 16);
    let x = net.relu(x);
    let x = net.linear(x, "fc2", 16, 10);
    let loss = net.cross_entropy(x, labels);
    net.descend(loss);
    net.finish([loss])
}

/// linear, relu, linear.
pub fn mlp(float: DType) -> Module {
    let mut net = Net::new(float);
    let x = net.b.arg("x", float, ("n", 24));
    let x = net.linear(x, "fc1", 24, 16);
    let x = net.relu(x);
    let y = net.linear(x, "fc2", 16, 10);
    net.finish([y])
}

/// Eight layers of linear and relu, cross-entropy, SGD with momentum.
pub fn deep_mlp_step(float: DType) -> Module {
    let mut net = Net::new(float);
    let (mut x, labels) = (net.b.arg("x", float, ("n", 32)), net.b.arg("labels", I64, ["n"]));
    for layer in 0..8 {
        x = net.linear(x, &format!("layers.{layer}"), 32, 32);
        x = net.relu(x);
    }
    let loss = net.cross_entropy(x, labels);
    net.descend(loss);
    net.finish([loss])
}

/// Attention of two heads over `[n, 8, 16]`, layer norm, residual.
pub fn transformer_block(float: DType) -> Module {
    let mut net = Net::new(float);
    let x = net.b.arg("x", float, ("n", 8, 16));
    let normed = net.layer_norm(x, 16);
    let heads: Vec<Value> = ["q", "k", "v"]
        .into_iter()
        .map(|name| {
            let y = net.linear(normed, name, 16, 16);
            let y = net.b.reshape(y, ("n", 8, 2, 8));
            net.b.permute(y, [0, 2, 1, 3])
        })
        .collect();
    let over = |lhs: usize, rhs: usize| DotAxes {
        lhs_batch: vec![0, 1],
        rhs_batch: vec![0, 1],
        lhs_contract: vec![lhs],
        rhs_contract: vec![rhs],
    };
    let scores = net.b.dot(heads[0], heads[1], over(3, 3));
    let weights = net.softmax(scores);
    let mixed = net.b.dot(weights, heads[2], over(3, 2));
    let mixed = net.b.permute(mixed, [0, 2, 1, 3]);
    let mixed = net.b.reshape(mixed, ("n", 8, 16));
    let out = net.linear(mixed, "out", 16, 16);
    let y = net.b.map(ScalarFn::Add, [x, out]);
    net.finish([y])
}
