//! Layers without statistics, each against its formula.

use graver_nn::loss::CrossEntropy;
use graver_nn::{
    Activation, AdamW, AvgPool2d, BatchNorm1d, Conv2d, ConvTranspose2d, Dropout, Embedding, Flatten, GlobalAvgPool2d, Init,
    Linear, MaxPool2d, Optimizer, Sequential, Storage, train_step,
};
use graver_trace::{Array, DType, Error, Module, Pool2d, grad, spec, step, trace};

use crate::common::{close, error, floats, ints, ramp, run, run_over};

fn init() -> Init {
    Init::seed(0)
}

#[test]
fn linear_is_x_w_transposed_plus_b() -> Result<(), Error> {
    let layer = Linear::new(2, 3).init(&mut init());
    layer.weight.set_value(floats([3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))?;
    layer.bias.as_ref().expect("by default").set_value(floats([3], [10.0, 20.0, 30.0]))?;
    let y = run(|x| layer.forward(x), spec::<f32>(("n", 2)), &floats([2, 2], [1.0, 0.0, 1.0, -1.0]))?;
    close(&y, &[11.0, 23.0, 35.0, 9.0, 19.0, 29.0], 0.0);
    let vector = run(|x| layer.forward(x), spec::<f32>([2]), &floats([2], [1.0, 0.0]))?;
    assert_eq!(vector.to_f64(), [11.0, 23.0, 35.0]);
    assert_eq!(Linear::new(2, 3).bias(false).init(&mut init()).params().len(), 1);
    Ok(())
}

#[test]
fn a_layer_beyond_memory_is_an_error_where_it_is_used() {
    let mut init = init();
    let large = Linear::new(1 << 40, 1 << 20).init(&mut init);
    assert_eq!(init.refused(), Some([1 << 20, 1 << 40].as_slice()));
    let found = error(|x| large.forward(x), spec::<f32>(("n", 1usize << 40)));
    assert!(
        found.contains("tests/nn/layers.rs:")
            && found.contains("init: there is no memory for a parameter f32[1048576, 1099511627776]"),
        "{found}"
    );
    // The same of every layer, numbers of elements that no machine counts to among them.
    let most = usize::MAX / 2;
    let table = Embedding::new(most, 8).padding(3).init(&mut init);
    let found = error(|x| table.forward(x), spec::<i64>(["n"]));
    assert!(found.contains("there is no memory for a parameter f32[9223372036854775807, 8]"), "{found}");
    let conv = Conv2d::new(most, 8, 5).init(&mut init);
    let found = error(|x| conv.forward(x), spec::<f32>(("n", 1, 8, 8)));
    assert!(found.contains("there is no memory for a parameter f32[8, 9223372036854775807, 5, 5]"), "{found}");
    let norm = BatchNorm1d::new(most).init(&mut init);
    let found = error(|x| norm.forward(x), spec::<f32>(("n", 8)));
    assert!(found.contains("there is no memory for a parameter f32[9223372036854775807]"), "{found}");
    // Training is refused, too.
    let found = train_step(&large, AdamW::new(0.1), spec::<f32>(("n", 3)), |layer, x| layer.forward(x).sum(..)).trace();
    assert!(found.expect_err("no memory").to_string().contains("there is no memory"));
}

/// Half of the last place of the storage, or of the group's greatest over 127 or 7.
#[test]
fn stored_weights_are_rounded_and_nothing_else() -> Result<(), Error> {
    let weight = [0.1, -0.3, 1.0, 0.7, 127.0, -63.49, 0.0, 0.0];
    let inputs = floats([2, 2], [1.0, -2.0, 0.5, 3.0]);
    type Rounded = fn(f64) -> f64;
    let halves: [(Storage, Rounded); 2] = [
        (Storage::F16, |x| Array::from_vec([1], vec![x as f32]).expect("one").cast(DType::F16).to_f64()[0]),
        (Storage::Bf16, |x| Array::from_vec([1], vec![x as f32]).expect("one").cast(DType::BF16).to_f64()[0]),
    ];
    let mut expected: Vec<(Storage, Vec<f64>)> =
        halves.map(|(storage, round)| (storage, weight.iter().map(|x| round(*x)).collect())).into();
    let scale = f64::from(0.3f32 / 127.0);
    expected.push((Storage::INT8, vec![42.0 * scale, -127.0 * scale, 1.0, 89.0 / 127.0, 127.0, -63.0, 0.0, 0.0]));
    let scale = f64::from(0.3f32 / 7.0);
    let by_row = vec![2.0 * scale, -7.0 * scale, 1.0, 5.0 / 7.0, 127.0, -3.0 * 127.0 / 7.0, 0.0, 0.0];
    expected.push((Storage::Int4 { group: None }, by_row.clone()));
    expected.push((Storage::Int4 { group: Some(2) }, by_row));
    expected.push((Storage::Int8 { group: Some(1) }, weight.to_vec()));
    for (storage, rounded) in expected {
        let layer = Linear::new(2, 4).init(&mut init());
        layer.weight.set_value(floats([4, 2], weight))?;
        layer.bias.as_ref().expect("by default").set_value(floats([4], [1.0, 2.0, 3.0, 4.0]))?;
        let layer = layer.stored(storage);
        let y = run(|x| layer.forward(x), spec::<f32>(("n", 2)), &inputs)?;
        let row = |x: [f64; 2]| {
            (0..4).map(|row| x[0] * rounded[2 * row] + x[1] * rounded[2 * row + 1] + row as f64 + 1.0).collect::<Vec<_>>()
        };
        close(&y, &[row([1.0, -2.0]), row([0.5, 3.0])].concat(), 1e-4);
        assert!(layer.params().iter().all(|(path, param)| path == "bias" || param.is_frozen()), "{storage:?}");

        let table = Embedding::new(4, 2).init(&mut init());
        table.weight.set_value(floats([4, 2], weight))?;
        let table = table.stored(storage);
        let rows = run(|ids| table.forward(ids), spec::<i64>([2]), &ints([2], [2, 0]))?;
        assert_eq!(rows.dtype(), DType::F32);
        close(&rows, &[rounded[4], rounded[5], rounded[0], rounded[1]], 1e-6);
        let scores = run(|x| table.scores(x), spec::<f32>([2]), &floats([2], [1.0, 0.5]))?;
        close(&scores, &(0..4).map(|row| rounded[2 * row] + 0.5 * rounded[2 * row + 1]).collect::<Vec<_>>(), 1e-4);
    }
    Ok(())
}

#[test]
fn a_storage_that_does_not_fit_is_an_error_where_the_layer_is_used() {
    let cases = [
        (96, Storage::INT4, "a weight f32[3, 96] cannot be kept so: groups of 64 elements do not divide rows of 96"),
        (96, Storage::Int8 { group: Some(0) }, "groups of 0 elements do not divide rows of 96"),
        (15, Storage::Int4 { group: None }, "two integers of 4 bits are a byte, and a group has 15 elements"),
        (15, Storage::Int4 { group: Some(5) }, "two integers of 4 bits are a byte, and a group has 5 elements"),
    ];
    for (inputs, storage, why) in cases {
        let layer = Sequential::new().push(Linear::new(inputs, 3).init(&mut init()).stored(storage));
        let traced = step(spec::<f32>(("n", inputs)), |x| layer.forward(x)).model("net", &layer).trace();
        let found = traced.expect_err("it does not fit").to_string();
        assert!(found.contains("(net.0): stored: ") && found.contains(why), "{storage:?}: {found}");
        let table = Embedding::new(3, inputs).init(&mut init()).stored(storage);
        assert!(error(|ids| table.forward(ids), spec::<i64>([2])).contains(why), "{storage:?}");
        assert!(error(|x| table.scores(x), spec::<f32>([inputs])).contains(why), "{storage:?}");
    }
}

#[test]
fn layers_say_what_does_not_fit_at_the_user_s_line() {
    let layer = Sequential::new().push(Activation::Relu).push(Linear::new(2, 3).init(&mut init()));
    let traced = step(spec::<f32>(("n", 5)), |x| layer.forward(x)).model("net", &layer).trace();
    let found = traced.expect_err("5 is not 2").to_string();
    let line = line!() - 2;
    assert!(found.starts_with(&format!("crates/nn/tests/nn/layers.rs:{line}:")), "{found}");
    assert!(
        found.contains("(net.1): matmul: contracting sizes differ, lhs f32[n, 5] axis 1 = 5, rhs f32[2, 3] axis 0 = 2"),
        "{found}"
    );
}

#[test]
fn every_operation_of_a_step_carries_a_line_of_the_user() -> Result<(), Error> {
    let net = Sequential::new().push(Linear::new(2, 3).init(&mut init())).push(BatchNorm1d::new(3).init(&mut init()));
    let inputs = (spec::<f32>(("n", 2)), spec::<i64>(["n"]));
    let traced = train_step(&net, AdamW::new(0.1).clip_norm(1.0), inputs, |net, (x, y)| {
        CrossEntropy::new().label_smoothing(0.1).of(net.forward(x), y)
    })
    .trace()?;
    let graph = &traced.module().entry().expect("an entry").1.graph;
    for id in graph.nodes() {
        let loc = graph.loc(id).to_string();
        assert!(loc.starts_with("crates/nn/tests/nn/layers.rs:"), "{:?} is at {loc}", graph.op(id));
    }
    // Each layer's operations are at the line that called it: that of `forward` above.
    let dots = graph.nodes().filter(|id| matches!(graph.op(*id), graver_ir::Op::Dot(_)));
    for id in dots {
        assert!(graph.loc(id).to_string().ends_with("(0)"), "{}", graph.loc(id));
    }
    Ok(())
}

/// The definition, in plain loops.
fn convolved(
    x: &[f64],
    w: &[f64],
    [n, c, h, wd]: [usize; 4],
    [o, k]: [usize; 2],
    stride: usize,
    pad: usize,
    groups: usize,
) -> Vec<f64> {
    let (oh, ow) = ((h + 2 * pad - k) / stride + 1, (wd + 2 * pad - k) / stride + 1);
    let inner = c / groups;
    let mut y = vec![];
    for place in 0..n * o * oh * ow {
        let (col, row, out, image) = (place % ow, place / ow % oh, place / ow / oh % o, place / ow / oh / o);
        let group = out / (o / groups);
        let mut sum = 0.0;
        for tap in 0..inner * k * k {
            let (j, i, feature) = (tap % k, tap / k % k, tap / k / k);
            let (r, s) = ((row * stride + i).wrapping_sub(pad), (col * stride + j).wrapping_sub(pad));
            if r < h && s < wd {
                sum += x[((image * c + group * inner + feature) * h + r) * wd + s] * w[out * inner * k * k + tap];
            }
        }
        y.push(sum);
    }
    y
}

#[test]
fn convolutions_with_stride_padding_and_groups() -> Result<(), Error> {
    for (stride, pad, groups) in [(1, 0, 1), (2, 1, 1), (1, 1, 2)] {
        let conv = Conv2d::new(4, 6, 3).stride(stride).padding(pad).groups(groups).init(&mut init());
        let (x, bias) = (ramp(2 * 4 * 5 * 6), conv.bias.as_ref().expect("by default").value().to_f64());
        let expected = convolved(&x, &conv.weight.value().to_f64(), [2, 4, 5, 6], [6, 3], stride, pad, groups);
        let plane = expected.len() / 12;
        let expected: Vec<f64> = expected.iter().enumerate().map(|(place, y)| y + bias[place / plane % 6]).collect();
        let y = run(|x| conv.forward(x), spec::<f32>(("n", 4, 5, 6)), &floats([2, 4, 5, 6], x))?;
        close(&y, &expected, 1e-5);
    }
    Ok(())
}

/// What PyTorch gives.
#[test]
fn a_transposed_convolution_has_kernels_by_input() -> Result<(), Error> {
    let conv =
        ConvTranspose2d::new(2, 2, (2, 3)).stride((2, 1)).padding(1).output_padding((1, 0)).dilation((1, 2)).init(&mut init());
    conv.weight.set_value(floats([2, 2, 2, 3], (1..25).map(f64::from)))?;
    conv.bias.as_ref().expect("by default").set_value(floats([2], [0.0, 100.0]))?;
    let x = floats([1, 2, 2, 2], [1.0, 2.0, 3.0, 4.0, 0.0, 1.0, -1.0, 2.0]);
    let y = run(|x| conv.forward(x), spec::<f32>(("n", 2, "h", "w")), &x)?;
    let first = [24.0, 5.0, 27.0, 6.0, 30.0, -8.0, 36.0, -6.0, 48.0, -2.0, 54.0, 0.0];
    let second = [142.0, 111.0, 145.0, 112.0, 166.0, 104.0, 172.0, 106.0, 184.0, 110.0, 190.0, 112.0];
    close(&y, &[first, second].concat(), 0.0);
    Ok(())
}

#[test]
fn dilation_spreads_the_kernel() -> Result<(), Error> {
    let conv = Conv2d::new(1, 1, 2).dilation(2).bias(false).init(&mut init());
    conv.weight.set_value(floats([1, 1, 2, 2], [1.0, 10.0, 100.0, 1000.0]))?;
    let y = run(|x| conv.forward(x), spec::<f32>((1, 1, 3, 3)), &floats([1, 1, 3, 3], (0..9).map(f64::from)))?;
    close(&y, &[8620.0], 0.0);
    Ok(())
}

#[test]
fn pools() -> Result<(), Error> {
    let images = || spec::<f32>((1, 1, 4, 4));
    let x = floats([1, 1, 4, 4], (0..16).map(f64::from));
    close(&run(|x| MaxPool2d::new(2).forward(x), images(), &x)?, &[5.0, 7.0, 13.0, 15.0], 0.0);
    close(&run(|x| AvgPool2d::new(2).forward(x), images(), &x)?, &[2.5, 4.5, 10.5, 12.5], 0.0);
    let padded = run(|x| AvgPool2d::new(Pool2d::new(3).stride(2).padding(1)).forward(x), images(), &x)?;
    // The first window holds 0, 1, 4 and 5 and five zeros, which count.
    close(&padded, &[10.0 / 9.0, 24.0 / 9.0, 51.0 / 9.0, 90.0 / 9.0], 1e-6);
    close(&run(|x| GlobalAvgPool2d.forward(x), images(), &x)?, &[7.5], 0.0);
    let flat = run(|x| Flatten::default().forward(x), spec::<f32>(("n", 2, 2)), &floats([1, 2, 2], [1.0, 2.0, 3.0, 4.0]))?;
    assert_eq!(flat.shape(), [1, 4]);
    Ok(())
}

#[test]
fn activations_have_their_values_and_slopes() -> Result<(), Error> {
    let phi = |x: f64| 0.5 * (1.0 + graver_interp::erf(x / 2f64.sqrt()));
    let softplus = |x: f64| x.exp().ln_1p();
    let value = |activation: Activation, x: f64| match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu { slope } => {
            if x > 0.0 {
                x
            } else {
                f64::from(slope) * x
            }
        }
        Activation::Elu => {
            if x > 0.0 {
                x
            } else {
                x.exp_m1()
            }
        }
        Activation::Gelu => x * phi(x),
        Activation::GeluTanh => x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Softplus => softplus(x),
        Activation::Mish => x * softplus(x).tanh(),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
    };
    let places = [-3.5, -1.0, -0.3, 0.4, 1.7, 3.2];
    for (name, activation) in Activation::ALL {
        let x = floats([6], places);
        let (y, slope) = run(|x| (activation.forward(x), grad(x, |x| activation.forward(x).sum(..))), spec::<f32>([6]), &x)?;
        close(&y, &places.map(|x| value(activation, x)), 2e-6);
        let h = 1e-5;
        let slopes = places.map(|x| (value(activation, x + h) - value(activation, x - h)) / (2.0 * h));
        close(&slope, &slopes, 1e-5);
        assert_eq!(name.parse(), Ok(activation));
    }
    let unknown = "rleu".parse::<Activation>().expect_err("a slip of the pen").to_string();
    assert!(unknown.starts_with("there is no activation `rleu`; known: identity, relu, "), "{unknown}");
    Ok(())
}

#[test]
fn embeddings_look_up_and_their_padding_learns_nothing() -> Result<(), Error> {
    let table = Embedding::new(4, 2).padding(1).init(&mut init());
    assert_eq!(table.weight.value().to_f64()[2..4], [0.0, 0.0]);
    table.weight.set_value(floats([4, 2], (0..8).map(f64::from)))?;
    let ids = ints([2, 2], [3, 1, 0, 3]);
    let rows = run(|ids| table.forward(ids), spec::<i64>(("n", 2)), &ids)?;
    assert_eq!((rows.shape(), rows.to_f64()), ([2, 2, 2].as_slice(), vec![6.0, 7.0, 2.0, 3.0, 0.0, 1.0, 6.0, 7.0]));
    let traced = trace(|ids| grad(&table, |table| table.forward(ids).sum(..)), spec::<i64>(("n", 2)))?;
    let (grads, _) = run_over(&traced, &ids, &traced.state())?;
    assert_eq!(grads[0].1.to_f64(), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 2.0]);
    let outside = run(|ids| table.forward(ids), spec::<i64>(("n", 2)), &ints([1, 2], [0, 4]));
    assert!(outside.is_err(), "an id out of range is an error of the call");
    Ok(())
}

fn dropped(probability: f64, state: &[Array]) -> Result<(Vec<f64>, Vec<Array>), Error> {
    let layer = Dropout::new(probability);
    let traced = step(spec::<f32>(["n"]), |x| layer.forward(x)).seed(9).trace()?;
    let state = if state.is_empty() { traced.state() } else { state.to_vec() };
    let (y, after) = run_over(&traced, &floats([10_000], vec![1.0; 10_000]), &state)?;
    Ok((y.to_f64(), after))
}

#[test]
fn dropout_drops_its_share_and_keeps_the_mean() -> Result<(), Error> {
    let (y, after) = dropped(0.3, &[])?;
    let zeros = y.iter().filter(|x| **x == 0.0).count();
    // Six standard deviations of a binomial count: 6 * sqrt(10000 * 0.3 * 0.7) = 275.
    assert!(zeros.abs_diff(3000) < 275, "{zeros} zeros");
    assert!(y.iter().all(|x| *x == 0.0 || (x - 1.0 / 0.7).abs() < 1e-6));
    assert_eq!(dropped(0.3, &[])?.0, y, "the same seed drops the same");
    assert_ne!(dropped(0.3, &after)?.0, y, "the next step drops others");
    assert_eq!(dropped(0.0, &[])?.0, vec![1.0; 10_000]);
    assert_eq!(dropped(1.0, &[])?.0, vec![0.0; 10_000]);
    Ok(())
}

#[test]
fn dropout_does_nothing_in_evaluation_and_refuses_nonsense() -> Result<(), Error> {
    let layer = Dropout::new(0.5);
    let y = run(|x| layer.forward(x), spec::<f32>(["n"]), &floats([3], [1.0, 2.0, 3.0]))?;
    assert_eq!(y.to_f64(), [1.0, 2.0, 3.0]);
    let found = error(|x| Dropout::new(1.5).forward(x), spec::<f32>(["n"]));
    assert!(found.contains("dropout: the probability must be in 0..=1, got 1.5"), "{found}");
    Ok(())
}

#[test]
fn layers_take_the_stream_s_element_type() -> Result<(), Error> {
    let mut init = init().dtype(DType::F64);
    let layer = Linear::new(2, 2).init(&mut init);
    assert_eq!(layer.weight.value().dtype(), DType::F64);
    let found = error(|x| layer.forward(x), spec::<f32>(("n", 2)));
    assert!(found.contains("element types differ: f32[n, 2] and f64[2, 2]"), "{found}");
    Ok(())
}

#[test]
fn zero_sizes_and_empty_batches() -> Result<(), Error> {
    let net = Sequential::new().push(Linear::new(3, 2).init(&mut init())).push(Activation::Gelu).then(|x| x * 2.0);
    let y = run(|x| net.forward(x), spec::<f32>(("n", 3)), &floats([0, 3], []))?;
    assert_eq!(y.shape(), [0, 2]);
    let none = Linear::new(0, 2).init(&mut init());
    let y = run(|x| none.forward(x), spec::<f32>(("n", 0)), &floats([1, 0], []))?;
    assert_eq!(y.to_f64(), none.bias.as_ref().expect("by default").value().to_f64());
    Ok(())
}
