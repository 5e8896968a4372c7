//! Whole trainings, through the interpreter.

use graver_nn::{Activation, AdamW, BatchNorm1d, Dropout, Init, Linear, Sequential, Sgd, train_step};
use graver_trace::{Error, spec};

use crate::common::{floats, ints, run_over};

#[test]
fn an_mlp_learns_exclusive_or() -> Result<(), Error> {
    let init = &mut Init::seed(1);
    let net = Sequential::new().push(Linear::new(2, 8).init(init)).push(Activation::Tanh).push(Linear::new(8, 2).init(init));
    let inputs = (spec::<f32>(("n", 2)), spec::<i64>(["n"]));
    let traced = train_step(&net, AdamW::new(0.05), inputs, |net, (x, y)| {
        let logits = net.forward(x);
        (logits.cross_entropy(y), logits.argmax(-1))
    })
    .trace()?;
    let (x, y) = (floats([4, 2], [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]), ints([4], [0, 1, 1, 0]));
    let mut state = traced.state();
    let mut last = None;
    for _ in 0..100 {
        let (result, after) = run_over(&traced, (&x, &y), &state)?;
        (last, state) = (Some(result), after);
    }
    let (loss, classes) = last.expect("steps were run");
    assert!(loss.item()? < 0.05, "{loss:?}");
    assert_eq!(classes, y);
    Ok(())
}

#[test]
fn a_net_with_statistics_and_dropout_learns() -> Result<(), Error> {
    let init = &mut Init::seed(2);
    let net = Sequential::new()
        .push(Linear::new(1, 16).init(init))
        .push(BatchNorm1d::new(16).init(init))
        .push(Activation::Relu)
        .push(Dropout::new(0.05))
        .push(Linear::new(16, 1).init(init));
    let inputs = (spec::<f32>(("n", 1)), spec::<f32>(("n", 1)));
    let optimizer = Sgd::new(0.05).momentum(0.9);
    let traced = train_step(&net, optimizer, inputs, |net, (x, y)| net.forward(x).mse(y)).seed(3).trace()?;
    let points: Vec<f64> = (0..16).map(|i| f64::from(i) / 8.0 - 1.0).collect();
    let (x, y) = (floats([16, 1], points.clone()), floats([16, 1], points.iter().map(|x| x.abs())));
    let mut state = traced.state();
    let mut losses = Vec::new();
    for _ in 0..60 {
        let (loss, after) = run_over(&traced, (&x, &y), &state)?;
        losses.push(loss.item()?);
        state = after;
    }
    let late = losses[50..].iter().sum::<f64>() / 10.0;
    assert!(late < 0.2 * losses[0], "{losses:?}");
    Ok(())
}
