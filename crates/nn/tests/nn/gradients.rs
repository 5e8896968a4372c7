//! Derivatives through layers against central differences, in `f64`.

use graver_nn::loss::{CrossEntropy, Reduction};
use graver_nn::{
    Activation, BatchNorm2d, Conv2d, ConvTranspose2d, Embedding, GroupNorm, Init, LayerNorm, Linear, Mask, MultiHeadAttention,
    RmsNorm, Rotary, Sequential, TransformerDecoderLayer, TransformerEncoderLayer, Upsample,
};
use graver_trace::{Array, DType, Interpolation, Module, Tensor, TensorSpec, spec, step, value_and_grad};

use crate::common::{doubles, ints, ramp, run_over};

/// Differentiates `loss` with respect to every parameter of the model, and compares each element.
fn check<M: Module>(model: &M, spec: TensorSpec, x: &Array, loss: impl Fn(&M, Tensor) -> Tensor) {
    let traced = step(spec, |x| value_and_grad(model, |m| loss(m, x))).model("", model).trace().expect("a good model");
    let run = |state: &[Array]| run_over(&traced, x, state).expect("a good call").0;
    let state = traced.state();
    let (_, grads) = run(&state);
    for (path, grad) in grads {
        let place = traced.module().state.iter().position(|decl| decl.path == path).expect("it was read");
        let moved = |element: usize, by: f64| {
            let mut state = state.clone();
            state[place].as_mut_slice::<f64>().expect("doubles")[element] += by;
            run(&state).0.item().expect("a scalar")
        };
        let h = 1e-5;
        for (element, found) in grad.to_f64().into_iter().enumerate() {
            let expected = (moved(element, h) - moved(element, -h)) / (2.0 * h);
            assert!((found - expected).abs() < 1e-7 * expected.abs().max(1.0), "{path}[{element}]: {found} is not {expected}");
        }
    }
}

fn init() -> Init {
    Init::seed(4).dtype(DType::F64)
}

/// A loss that sees every element differently.
fn weighed(y: Tensor) -> Tensor {
    let numel = y.shape().into_iter().fold(graver_trace::Size::from(1), |n, size| n * size);
    (y.flatten(0) * (graver_trace::arange(numel, DType::F64) * 0.37).sin()).sum(..)
}

#[test]
fn dense_layers() {
    let init = &mut init();
    let net = Sequential::new()
        .push(Linear::new(3, 4).init(init))
        .push(LayerNorm::new(4).init(init))
        .push(Activation::Gelu)
        .push(Linear::new(4, 4).bias(false).init(init))
        .push(RmsNorm::new(4).init(init));
    check(&net, spec::<f64>((2, 3)), &doubles([2, 3], ramp(6)), |net, x| weighed(net.forward(x)));
}

#[test]
fn image_layers() {
    let init = &mut init();
    let net = Sequential::new()
        .push(Conv2d::new(2, 4, 3).stride(2).padding(1).groups(2).init(init))
        .push(BatchNorm2d::new(4).init(init))
        .push(Activation::Silu)
        .push(Conv2d::new(4, 2, 2).dilation(2).init(init))
        .push(GroupNorm::new(1, 2).init(init))
        .then(|x| x.tanh().max_pool2d(1));
    check(&net, spec::<f64>((2, 2, 5, 5)), &doubles([2, 2, 5, 5], ramp(100)), |net, x| weighed(net.forward(x)));
}

#[test]
fn layers_that_make_images_larger() {
    let init = &mut init();
    let net = Sequential::new()
        .push(ConvTranspose2d::new(2, 4, 3).stride(2).padding(1).output_padding(1).groups(2).init(init))
        .push(Activation::Silu)
        .push(Upsample::new((1, 2)).by(Interpolation::Bilinear))
        .push(Conv2d::new(4, 2, 2).init(init))
        .push(Upsample::new(2));
    check(&net, spec::<f64>((1, 2, 2, 3)), &doubles([1, 2, 2, 3], ramp(12)), |net, x| weighed(net.forward(x)));
}

#[test]
fn attention_of_shared_heads_and_positions() {
    let attention = MultiHeadAttention::new(4, 2).kv_heads(1).rotary(Rotary::new(2, 10.0)).init(&mut init());
    check(&attention, spec::<f64>((1, 3, 4)), &doubles([1, 3, 4], ramp(12)), |attention, x| {
        weighed(attention.forward(x, Mask::causal()))
    });
}

#[test]
fn blocks_of_transformers() {
    let init = &mut init();
    let model = (
        TransformerEncoderLayer::new(2, 2, 2).dropout(0.0).activation(Activation::Gelu).init(init),
        TransformerDecoderLayer::new(2, 1, 2).dropout(0.0).activation(Activation::Tanh).norm_first(true).init(init),
    );
    check(&model, spec::<f64>((1, 3, 2)), &doubles([1, 3, 2], ramp(6)), |(encoder, decoder), x| {
        let memory = encoder.forward(x, Mask::none());
        weighed(decoder.forward(x * 0.5, memory, Mask::causal(), Mask::none()))
    });
}

#[test]
fn tied_embeddings() {
    let table = Embedding::new(4, 3).init(&mut init());
    let model = (Linear { weight: table.weight.tie(), bias: None, scale: None }, table);
    let labels = ints([4], [0, 3, 1, 3]);
    check(&model, spec::<i64>([4]), &labels, |(head, table), ids| {
        CrossEntropy::new().label_smoothing(0.2).reduction(Reduction::Sum).of(head.forward(table.forward(ids).tanh()), ids)
    });
}
