//! Models, in training and in use.

use std::time::Instant;

use graver::prelude::*;
use graver::trace::{TensorSpec, symbol};

use super::runs::{Called, Runs, Specs, Trained};
use crate::models::{Bert, Cnn, Gpt2, Mlp, ResNet18, Sequence};
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
    let args = vec![numbers.floats(0, &[batch, 3, 24, 24])?];
    infer([spec::<f32>(("batch", 3, 24, 24))], args, device, |[x]| vec![model.forward(x)])
}

pub(super) fn lstm_train(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let mut model = Sequence::new(&mut numbers.init());
    numbers.fill(&mut model)?;
    let args = [numbers.floats(0, &[32, 64, 128])?, numbers.integers(1, &[32], 10)?];
    let spec = [spec::<f32>(("batch", "length", 128)), spec::<i64>(["batch"])];
    train(&model, Adam::new(1e-3), spec, args, device, |model, [x, y]| model.forward(x).cross_entropy(y))
}

pub(super) fn resnet18_infer(numbers: &mut Numbers, device: &Device, batch: usize) -> Result<Box<dyn Runs>, Error> {
    let mut model = ResNet18::new(1000, false, &mut numbers.init());
    numbers.fill(&mut model)?;
    let args = vec![numbers.floats(0, &[batch, 3, 224, 224])?];
    infer([spec::<f32>(("batch", 3, 224, 224))], args, device, |[x]| vec![model.forward(x)])
}

pub(super) fn resnet18_train(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let mut model = ResNet18::new(10, true, &mut numbers.init());
    numbers.fill(&mut model)?;
    let args = [numbers.floats(0, &[32, 3, 32, 32])?, numbers.integers(1, &[32], 10)?];
    let spec = [spec::<f32>(("batch", 3, 32, 32)), spec::<i64>(["batch"])];
    train(&model, Sgd::new(0.01).momentum(0.9), spec, args, device, |model, [x, y]| model.forward(x).cross_entropy(y))
}

pub(super) fn bert_infer(numbers: &mut Numbers, device: &Device, batch: usize) -> Result<Box<dyn Runs>, Error> {
    let mut model = Bert::new(&mut numbers.init());
    numbers.fill(&mut model)?;
    let args = vec![numbers.integers(0, &[batch, 128], 30522)?];
    let spec = [spec::<i64>(("batch", symbol("length", 1..=Bert::LONGEST)))];
    infer(spec, args, device, |[tokens]| vec![model.forward(tokens)])
}

pub(super) fn gpt2_train(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let mut model = Gpt2::new(&mut numbers.init());
    numbers.fill(&mut model)?;
    let args = [numbers.integers(0, &[4, 129], 50257)?];
    let spec = [spec::<i64>(("batch", symbol("tokens", 2..=Gpt2::LONGEST + 1)))];
    train(&model, AdamW::new(1e-4), spec, args, device, |model, [tokens]| model.loss(tokens))
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
pub(super) fn infer<S: Specs + 'static>(
    spec: S,
    args: Vec<Array>,
    device: &Device,
    f: impl FnOnce(S::Traced) -> Vec<Tensor>,
) -> Result<Box<dyn Runs>, Error> {
    let start = Instant::now();
    let compiled = compile(f, spec, device)?;
    Ok(Box::new(Called { compiled, compile: start.elapsed(), args, results: Vec::new() }))
}
