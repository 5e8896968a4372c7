//! Normalisations and running statistics.

use graver_ir::{Scalar, f16};
use graver_nn::{BatchNorm1d, BatchNorm2d, GroupNorm, Init, LayerNorm, RmsNorm};
use graver_trace::{Array, DType, Error, Module, spec, step, trace};

use crate::common::{at, close, error, floats, ramp, run, run_over};

fn init() -> Init {
    Init::seed(0)
}

/// Mean and population variance.
fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
}

fn normal(x: &[f64], eps: f64) -> Vec<f64> {
    let (mean, variance) = moments(x);
    x.iter().map(|x| (x - mean) / (variance + eps).sqrt()).collect()
}

#[test]
fn batch_norm_uses_the_batch_and_follows_it() -> Result<(), Error> {
    let norm = BatchNorm2d::new(2).init(&mut init());
    norm.weight.set_value(floats([2], [2.0, 0.5]))?;
    norm.bias.set_value(floats([2], [1.0, -1.0]))?;
    let traced = step(spec::<f32>(("n", 2, 1, 2)), |x| norm.forward(x)).model("bn", &norm).trace()?;
    let x = ramp(3 * 2 * 2);
    let (y, after) = run_over(&traced, &floats([3, 2, 1, 2], x.clone()), &traced.state())?;
    let channel = |c: usize| (0..3).flat_map(|n| [x[n * 4 + c * 2], x[n * 4 + c * 2 + 1]]).collect::<Vec<f64>>();
    let (first, second) = (normal(&channel(0), 1e-5), normal(&channel(1), 1e-5));
    let expected: Vec<f64> = (0..12)
        .map(|i| {
            let (n, c, s) = (i / 4, i / 2 % 2, i % 2);
            if c == 0 { first[n * 2 + s] * 2.0 + 1.0 } else { second[n * 2 + s] * 0.5 - 1.0 }
        })
        .collect();
    close(&y, &expected, 1e-5);
    let [(mean0, var0), (mean1, var1)] = [moments(&channel(0)), moments(&channel(1))];
    close(&at(&traced, &after, "bn.running_mean"), &[0.1 * mean0, 0.1 * mean1], 1e-6);
    // Six elements a channel: the unbiased variance is 6/5 of the population's.
    let var = |var: f64| 0.9 + 0.1 * var * 6.0 / 5.0;
    close(&at(&traced, &after, "bn.running_var"), &[var(var0), var(var1)], 1e-6);
    assert_eq!(at(&traced, &after, "bn.num_batches_tracked").to_f64(), [1.0]);
    Ok(())
}

#[test]
fn an_empty_batch_leaves_the_running_statistics() -> Result<(), Error> {
    let norm = BatchNorm2d::new(2).init(&mut init());
    let traced = step(spec::<f32>(("n", 2, 1, 2)), |x| norm.forward(x)).model("bn", &norm).trace()?;
    let (y, after) = run_over(&traced, &floats([0, 2, 1, 2], vec![]), &traced.state())?;
    assert_eq!(y.shape(), [0, 2, 1, 2]);
    assert_eq!(at(&traced, &after, "bn.running_mean").to_f64(), [0.0; 2]);
    assert_eq!(at(&traced, &after, "bn.running_var").to_f64(), [1.0; 2]);
    Ok(())
}

/// Squares, sums and counts that are beyond the type, of statistics that are not.
#[test]
fn norms_of_16_bit_floats_are_computed_wide() -> Result<(), Error> {
    let norm = BatchNorm2d::new(1).init(&mut init().dtype(DType::F16));
    let traced = step(spec::<f16>(("n", 1, 300, 300)), |x| norm.forward(x)).model("bn", &norm).trace()?;
    let x =
        Array::from_fn(DType::F16, [1, 1, 300, 300], |at| Scalar::float(DType::F16, if at % 2 == 0 { 2400.0 } else { 2000.0 }));
    let (y, after) = run_over(&traced, &x, &traced.state())?;
    close(&at(&traced, &after, "bn.running_mean"), &[220.0], 0.01);
    close(&at(&traced, &after, "bn.running_var"), &[0.9 + 4000.0], 0.01);
    assert_eq!(y.to_f64()[..2], [1.0, -1.0]);

    let norm = LayerNorm::new(4).init(&mut init().dtype(DType::F16));
    let x = Array::from_fn(DType::F16, [1, 4], |at| Scalar::float(DType::F16, if at % 2 == 0 { 2400.0 } else { 2000.0 }));
    let y = run(|x| norm.forward(x), spec::<f16>(("n", 4)), &x)?;
    close(&y, &[1.0, -1.0, 1.0, -1.0], 1e-3);
    Ok(())
}

#[test]
fn batch_norm_evaluates_with_running_statistics() -> Result<(), Error> {
    let norm = BatchNorm1d::new(2).eps(0.25).init(&mut init());
    norm.running_mean.set_value(floats([2], [1.0, -1.0]))?;
    norm.running_var.set_value(floats([2], [3.75, 0.0]))?;
    let y = run(|x| norm.forward(x), spec::<f32>(("n", 2)), &floats([2, 2], [1.0, 0.0, 5.0, -2.0]))?;
    close(&y, &[0.0, 2.0, 2.0, -2.0], 1e-6);
    let found = error(|x| norm.forward(x), spec::<f32>(("n", 3)));
    assert!(found.contains("batch_norm: the mean of f32[n, 3] must be f32[3], got f32[2]"), "{found}");
    let found = error(|x| norm.forward(x), spec::<f32>(("n", 2, 4, 4)));
    assert!(found.contains("BatchNorm1d: takes a rank of [2, 3], got 4"), "{found}");
    Ok(())
}

#[test]
fn batch_norm_of_single_elements_stays_finite() -> Result<(), Error> {
    let norm = BatchNorm1d::new(2).momentum(0.5).init(&mut init());
    let traced = step(spec::<f32>(("n", 2)), |x| norm.forward(x)).model("", &norm).trace()?;
    let (_, after) = run_over(&traced, &floats([1, 2], [4.0, 2.0]), &traced.state())?;
    close(&at(&traced, &after, "running_mean"), &[2.0, 1.0], 1e-6);
    close(&at(&traced, &after, "running_var"), &[0.5, 0.5], 1e-6);
    Ok(())
}

#[test]
fn batch_norm_has_pytorch_s_names() {
    let paths: Vec<String> = BatchNorm2d::new(3).init(&mut init()).leaves().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]);
}

#[test]
fn layer_norm_over_one_and_two_axes() -> Result<(), Error> {
    let x = ramp(2 * 3 * 4);
    let rows = |width: usize| x.chunks(width).flat_map(|row| normal(row, 1e-5)).collect::<Vec<f64>>();
    let input = || floats([2, 3, 4], x.clone());
    let one = LayerNorm::new(4).init(&mut init());
    close(&run(|x| one.forward(x), spec::<f32>(("n", 3, 4)), &input())?, &rows(4), 1e-5);
    let two = LayerNorm::new([3, 4]).bias(false).init(&mut init());
    let weight = ramp(12);
    two.weight.set_value(floats([3, 4], weight.clone()))?;
    let expected: Vec<f64> = rows(12).iter().enumerate().map(|(place, y)| y * weight[place % 12]).collect();
    close(&run(|x| two.forward(x), spec::<f32>(("n", 3, 4)), &input())?, &expected, 1e-5);
    let found = error(|x| two.forward(x), spec::<f32>(("n", 4, 3)));
    assert!(found.contains("layer_norm: the last axes must be those of the weight f32[3, 4], got f32[n, 4, 3]"), "{found}");
    Ok(())
}

#[test]
fn rms_norm_and_group_norm() -> Result<(), Error> {
    let x = ramp(2 * 4 * 3);
    let rms = RmsNorm::new(3).eps(1e-5).init(&mut init());
    let expected: Vec<f64> = x
        .chunks(3)
        .flat_map(|row| {
            let scale = (row.iter().map(|x| x * x).sum::<f64>() / 3.0 + 1e-5).sqrt();
            row.iter().map(move |x| x / scale)
        })
        .collect();
    close(&run(|x| rms.forward(x), spec::<f32>(("n", 4, 3)), &floats([2, 4, 3], x.clone()))?, &expected, 1e-5);
    let group = GroupNorm::new(2, 4).init(&mut init());
    group.weight.set_value(floats([4], [1.0, 2.0, 3.0, 4.0]))?;
    let expected: Vec<f64> =
        x.chunks(6).flat_map(|group| normal(group, 1e-5)).enumerate().map(|(i, y)| y * (i / 3 % 4 + 1) as f64).collect();
    close(&run(|x| group.forward(x), spec::<f32>(("n", 4, 3)), &floats([2, 4, 3], x))?, &expected, 1e-5);
    let found = error(|x| group.forward(x), spec::<f32>(("n", 8, 3)));
    assert!(found.contains("group_norm: the input must be [n, 4, ..], got f32[n, 8, 3]"), "{found}");
    Ok(())
}

#[test]
fn evaluation_of_a_norm_updates_nothing() -> Result<(), Error> {
    let norm = BatchNorm1d::new(2).init(&mut init());
    let traced = trace(|x| norm.forward(x), spec::<f32>(("n", 2)))?;
    assert_eq!(traced.module().entry().expect("an entry").1.results.len(), 1);
    Ok(())
}
