//! Attention and blocks of transformers against PyTorch's results for weights that both sides know.

use graver_nn::{Activation, Heads, Init, Mask, MultiHeadAttention, Rotary, TransformerDecoderLayer, TransformerEncoderLayer};
use graver_trace::{Array, DType, Error, Module, Tensor, arange, concat, scalar, spec, step, trace, value_and_grad};

use crate::common::{close, error, floats, ints, ramp, run, run_over};

fn init() -> Init {
    Init::seed(0)
}

/// Every parameter a quarter of [`ramp`].
fn filled<M: Module>(model: M) -> M {
    for (_, param) in model.params() {
        let shape = param.value().shape().to_vec();
        let values = ramp(shape.iter().product()).into_iter().map(|x| (x * 0.25) as f32).collect();
        param.set_value(Array::from_vec(shape, values).expect("as many values as places")).expect("floats");
    }
    model
}

fn sequence() -> Array {
    floats([1, 3, 4], ramp(12))
}

fn memory() -> Array {
    floats([1, 4, 4], ramp(16).into_iter().map(|x| x * 0.5))
}

/// `torch.nn.TransformerEncoderLayer(4, 2, 6, activation="gelu", norm_first=..)`, the last key hidden.
#[test]
fn an_encoder_s_block() -> Result<(), Error> {
    let after = [
        -0.066_292, 0.321_124, -0.000_291, 1.020_41, -0.023_702, 0.320_082, -0.022_318, 1.022_77, -0.040_302, 0.353_857,
        -0.002_783, 0.993_507,
    ];
    let before = [
        -1.853_733, 1.467_725, -0.580_488, 2.099_304, -0.538_226, -1.303_559, 0.726_234, -0.670_733, 0.711_774, -0.053_559,
        1.976_234, 0.579_267,
    ];
    for (norm_first, expected) in [(false, after), (true, before)] {
        let options = TransformerEncoderLayer::new(4, 2, 6).activation(Activation::Gelu).norm_first(norm_first);
        let block = filled(options.init(&mut init()));
        let specs = (spec::<f32>(("batch", "time", 4)), spec::<i64>(("batch", "time")));
        let keep = ints([1, 3], [1, 1, 0]);
        let y = run(|(x, keep)| block.forward(x, Mask::none().keep(keep)), specs, (&sequence(), &keep))?;
        close(&y, &expected, 2e-6);
    }
    Ok(())
}

/// `torch.nn.TransformerDecoderLayer(4, 2, 6, norm_first=..)`, causal, the second key of the memory hidden.
#[test]
fn a_decoder_s_block() -> Result<(), Error> {
    let after = [
        -0.045_137, 0.347_155, -0.002_346, 0.999_444, -0.054_76, 0.360_375, 0.006_168, 0.986_171, -0.038_172, 0.383_766,
        0.004_126, 0.963_871,
    ];
    let before = [
        -2.341_556, 1.839_686, -0.691_877, 2.369_261, -1.109_449, -0.865_013, 0.674_242, -0.432_44, 0.124_197, 0.413_79,
        1.951_586, 0.804_331,
    ];
    for (norm_first, expected) in [(false, after), (true, before)] {
        let block = filled(TransformerDecoderLayer::new(4, 2, 6).norm_first(norm_first).init(&mut init()));
        let specs = (spec::<f32>(("batch", "time", 4)), spec::<f32>(("batch", "memory", 4)), spec::<i64>(("batch", "memory")));
        let keep = ints([1, 4], [1, 0, 1, 1]);
        let decode = |(x, memory, keep)| block.forward(x, memory, Mask::causal(), Mask::none().keep(keep));
        close(&run(decode, specs, (&sequence(), &memory(), &keep))?, &expected, 2e-6);
    }
    Ok(())
}

/// `torch.nn.MultiheadAttention(4, 2)` over another sequence.
#[test]
fn attention_over_another_sequence() -> Result<(), Error> {
    let attention = filled(MultiHeadAttention::new(4, 2).init(&mut init()));
    let specs = (spec::<f32>(("batch", "time", 4)), spec::<f32>(("batch", "memory", 4)));
    let y = run(|(x, memory)| attention.forward_over(x, memory, Mask::none()), specs, (&sequence(), &memory()))?;
    let expected = [
        -0.502_421, 0.361_57, 0.110_521, 0.197_789, -0.551_424, 0.386_17, 0.109_36, 0.153_938, -0.581_356, 0.425_336, 0.093_203,
        0.135_071,
    ];
    close(&y, &expected, 2e-6);
    let paths: Vec<String> = attention.params().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]);
    Ok(())
}

/// What every head of keys gives is what as many equal heads give.
#[test]
fn heads_of_keys_serve_several() -> Result<(), Error> {
    let shared = filled(MultiHeadAttention::new(8, 4).kv_heads(2).rotary(Rotary::new(2, 100.0)).init(&mut init()));
    let whole = MultiHeadAttention::new(8, 4).rotary(Rotary::new(2, 100.0)).init(&mut init());
    let rows = |x: &Array, width: usize| {
        let x = x.to_f64();
        // Rows 0..8 are the queries'; then two heads of two rows for keys, and for values, each twice.
        let order = (0..8).chain([8, 9, 8, 9, 10, 11, 10, 11]).chain([12, 13, 12, 13, 14, 15, 14, 15]);
        order.flat_map(|row: usize| x[row * width..(row + 1) * width].to_vec()).collect::<Vec<f64>>()
    };
    whole.in_proj_weight.set_value(floats([24, 8], rows(&shared.in_proj_weight.value(), 8)))?;
    let bias = |attention: &MultiHeadAttention| attention.in_proj_bias.as_ref().expect("by default").tie();
    bias(&whole).set_value(floats([24], rows(&bias(&shared).value(), 1)))?;
    for ((_, from), (_, to)) in shared.out_proj.params().into_iter().zip(whole.out_proj.params()) {
        to.set_value(from.value())?;
    }
    let y = |attention: &MultiHeadAttention| {
        run(|x| attention.forward(x, Mask::causal()), spec::<f32>(("n", "t", 8)), &floats([2, 5, 8], ramp(80)))
    };
    close(&y(&shared)?, &y(&whole)?.to_f64(), 1e-6);
    Ok(())
}

/// `apply_rotary_pos_emb` of transformers' LLaMA.
#[test]
fn positions_turn_pairs() -> Result<(), Error> {
    let rotary = Rotary::new(4, 10_000.0);
    let turned = |x: Tensor| rotary.forward(x, arange(x.dim(-2), DType::I64));
    let expected =
        [-1.3125, 1.0, -0.6875, 1.625, -0.507_096, -1.738_663, 0.251_328, -1.142_443, -2.142_276, -0.502_4, 0.325_525, 0.114_976];
    close(&run(turned, spec::<f32>((1, "t", 4)), &sequence())?, &expected, 2e-6);
    // What is beyond both halves stays.
    let part = Rotary::new(2, 10_000.0);
    let y = run(|x| part.forward(x, arange(x.dim(-2), DType::I64)), spec::<f32>((1, "t", 4)), &sequence())?.to_f64();
    assert!(y.chunks(4).zip(ramp(12).chunks(4)).all(|(y, x)| y[2..] == x[2..]));
    Ok(())
}

#[test]
fn a_query_that_sees_nothing_gets_no_nan() -> Result<(), Error> {
    let attention = filled(MultiHeadAttention::new(4, 2).init(&mut init()));
    let y = run(
        |x| attention.forward(x, Mask::none().keep(scalar(0i64).expand((x.dim(0), x.dim(1))))),
        spec::<f32>(("n", "t", 4)),
        &sequence(),
    )?;
    assert!(y.to_f64().iter().all(|x| x.is_finite()), "{y:?}");
    Ok(())
}

#[test]
fn the_parts_of_a_mask_hold_together() -> Result<(), Error> {
    let attention = filled(MultiHeadAttention::new(4, 2).init(&mut init()));
    let specs = (spec::<f32>(("n", "t", 4)), spec::<i64>(("n", "t")));
    let keep = ints([1, 3], [1, 0, 1]);
    let parts = run(
        |(x, keep)| {
            let bias = arange(x.dim(1), DType::F32) * 0.5;
            attention.forward(x, Mask::causal().keep(keep).bias(bias.expand((1, 1, x.dim(1), x.dim(1)))))
        },
        specs,
        (&sequence(), &keep),
    )?;
    let never = f64::NEG_INFINITY;
    let whole = floats([3, 3], [0.0, never, never, 0.0, never, never, 0.0, never, 1.0]);
    let specs = (spec::<f32>(("n", 3, 4)), spec::<f32>((3, 3)));
    let bias = run(
        |(x, bias): (Tensor, Tensor)| attention.forward(x, Mask::none().bias(bias.unsqueeze(0).unsqueeze(0))),
        specs,
        (&sequence(), &whole),
    )?;
    close(&parts, &bias.to_f64(), 1e-6);
    Ok(())
}

#[test]
fn attention_is_the_composite() {
    let block = TransformerEncoderLayer::new(4, 2, 6).init(&mut init());
    let traced = trace(|x| block.forward(block.forward(x, Mask::causal()), Mask::causal()), spec::<f32>(("n", "t", 4)));
    let traced = traced.expect("a good model");
    let is_attention = |name: &str| name.strip_prefix("attend_causal.").is_some();
    let attentions = traced.module().functions.values().filter(|function| is_attention(&function.name)).count();
    assert_eq!(attentions, 1, "both blocks call one function");
}

/// A query looks past a quarter of the keys, others in each head and in each step, and the more at those that are left; so does its
/// derivative. Heads that share keys have their own.
#[test]
fn keys_are_dropped_in_training() -> Result<(), Error> {
    let heads = Heads::new(4).keys(2).dropout(0.25);
    let specs = || (spec::<f32>((2, "queries", 4)), spec::<f32>((2, "keys", 2)), spec::<f32>((2, "keys", 40)));
    // Queries look at all keys alike, and each value is one key: what comes out is the shares.
    let (q, k) = (floats([2, 30, 4], ramp(240)), floats([2, 20, 2], vec![0.0; 80]));
    let one = |key: usize| (0..40).map(move |place| f64::from(u8::from(place % 20 == key)));
    let v = floats([2, 20, 40], (0..40).flat_map(|row| one(row % 20)));
    let attend = |(q, k, v): (Tensor, Tensor, Tensor)| heads.attend(q, k, v, Mask::none());
    let traced = step(specs(), attend).seed(9).trace()?;
    let (y, after) = run_over(&traced, (&q, &k, &v), &traced.state())?;
    assert!(y.to_f64().iter().all(|x| *x == 0.0 || (x - 0.05 / 0.75).abs() < 1e-6));
    let zeros = y.to_f64().iter().filter(|x| **x == 0.0).count();
    // Six standard deviations of a binomial count: 6 * sqrt(4800 * 0.25 * 0.75) = 180.
    assert!(zeros.abs_diff(1200) < 180, "{zeros} zeros");
    let rows: Vec<Vec<f64>> = y.to_f64().chunks(20).map(<[f64]>::to_vec).collect();
    assert!(rows.windows(2).all(|pair| pair[0] != pair[1]), "heads and queries drop other keys");
    assert_ne!(run_over(&traced, (&q, &k, &v), &after)?.0, y, "the next step drops others");
    let whole = run(attend, specs(), (&q, &k, &v))?;
    assert!(whole.to_f64().iter().all(|x| (x - 0.05).abs() < 1e-6), "nothing is dropped in evaluation");
    // What is linear in the values is the sum of their gradients' products with them.
    let by_values =
        |(q, k, v): (Tensor, Tensor, Tensor)| value_and_grad(v, |v| (attend((q, k, v)) * concat(&[q; 20], -1)).sum(..));
    let traced = step(specs(), by_values).seed(9).trace()?;
    let ((loss, grad), _) = run_over(&traced, (&q, &k, &v), &traced.state())?;
    let sum: f64 = grad.to_f64().iter().zip(v.to_f64()).map(|(x, y)| x * y).sum();
    assert!((loss.item()? - sum).abs() < 1e-3 * sum.abs(), "{loss:?} is not {sum}");
    let wrong = error(|(q, k, v)| Heads::new(4).keys(2).dropout(1.5).attend(q, k, v, Mask::none()), specs());
    assert!(wrong.contains("attention: the probability must be in 0..=1, got 1.5"), "{wrong}");
    Ok(())
}
