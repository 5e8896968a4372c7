//! Models, in training and in use.

use std::time::Instant;

use graver::prelude::*;
use graver::trace::TensorSpec;

use super::runs::{Called, Runs, Trained};
use crate::models::{Cnn, Mlp, Sequence};
use crate::numbers::Numbers;

pub(super) fn mlp_train(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let mut model = Mlp::new(&mut numbers.init());
    numbers.fill(&mut model)?;
    let args = [numbers.floats(0, &[128, 784])?, numbers.integers(1, &[128], 10)?];
    let spec = [spec::<f32>(("batch", 784)), spec::<i64>(["batch"])];
    train(&model, Sgd::new(0.01), spec, args, device, |model, [x, y]| model.forward(x).cross_entropy(y))
}

pub(super) fn cnn_train(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let mut model = Cnn::new(&mut numbers.init());
    numbers.fill(&mut model)?;
    let args = [numbers.floats(0, &[64, 3, 24, 24])?, numbers.integers(1, &[64], 10)?];
    let spec = [spec::<f32>(("batch", 3, 24, 24)), spec::<i64>(["batch"])];
    train(&model, Sgd::new(0.01).momentum(0.9), spec, args, device, |model, [x, y]| model.forward(x).cross_entropy(y))
}

pub(super) fn cnn_infer(numbers: &mut Numbers, device: &Device, batch: usize) -> Result<Box<dyn Runs>, Error> {
    let mut model = Cnn::new(&mut numbers.init());
    numbers.fill(&mut model)?;
    let args = [numbers.floats(0, &[batch, 3, 24, 24])?];
    infer([spec::<f32>(("batch", 3, 24, 24))], args, device, |[x]| vec![model.forward(x)])
}

pub(super) fn lstm_train(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let mut model = Sequence::new(&mut numbers.init());
    numbers.fill(&mut model)?;
    let args = [numbers.floats(0, &[32, 64, 128])?, numbers.integers(1, &[32], 10)?];
    let spec = [spec::<f32>(("batch", "length", 128)), spec::<i64>(["batch"])];
    train(&model, Adam::new(1e-3), spec, args, device, |model, [x, y]| model.forward(x).cross_entropy(y))
}

/// A step that trains the model.
fn train<const N: usize, M: graver::trace::Module>(
    model: &M,
    optimizer: impl Optimizer,
    spec: [TensorSpec; N],
    args: [Array; N],
    device: &Device,
    loss: impl FnOnce(&M, [Tensor; N]) -> Tensor,
) -> Result<Box<dyn Runs>, Error> {
    let start = Instant::now();
    let step = train_step(model, optimizer, spec, loss).compile(device)?;
    Ok(Box::new(Trained { step, compile: start.elapsed(), args, loss: f64::NAN }))
}

/// A function that keeps its state.
pub(super) fn infer<const N: usize>(
    spec: [TensorSpec; N],
    args: [Array; N],
    device: &Device,
    f: impl FnOnce([Tensor; N]) -> Vec<Tensor>,
) -> Result<Box<dyn Runs>, Error> {
    let start = Instant::now();
    let compiled = compile(f, spec, device)?;
    Ok(Box::new(Called { compiled, compile: start.elapsed(), args, results: Vec::new() }))
}
