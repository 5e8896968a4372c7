//! The operations' meaning, against numbers known otherwise.

use graver_trace::{
    Array, Attention, ConvOptions, DType, Error, Pool2d, Range, Tensor, arange, concat, constant_array, full, grad, normal, ones,
    scalar, size_value, spec, stack, step, trace, uniform,
};

use crate::common::{close, floats, ints, ramp, run, run_over};

/// One function of a small matrix.
#[track_caller]
fn check(f: impl FnOnce(Tensor) -> Tensor, expected: &[f64]) {
    let x = floats([2, 3], [1.0, -2.0, 3.0, 0.5, 0.0, -1.0]);
    let y = run(f, spec::<f32>(("n", 3)), &x).expect("a good program");
    close(&y, expected, 1e-6);
}

#[test]
fn maps() {
    check(|x| 1.0 - x * 2, &[-1.0, 5.0, -5.0, 0.0, 1.0, 3.0]);
    check(|x| -x.relu() + x.abs(), &[0.0, 2.0, 0.0, 0.0, 0.0, 1.0]);
    check(|x| x.gt(0).where_(x, -5), &[1.0, -5.0, 3.0, 0.5, -5.0, -5.0]);
    check(|x| x.clamp(-1, 1), &[1.0, -1.0, 1.0, 0.5, 0.0, -1.0]);
    check(|x| x.masked_fill(x.lt(0.0) | x.gt(2.0), 9.0), &[1.0, 9.0, 9.0, 0.5, 0.0, 9.0]);
    check(|x| x.cast(DType::I64).cast(DType::F32), &[1.0, -2.0, 3.0, 0.0, 0.0, -1.0]);
    check(|x| x.abs().pow(2.0).maximum(x), &[1.0, 4.0, 9.0, 0.5, 0.0, 1.0]);
    check(|x| x.leaky_relu(0.1), &[1.0, -0.2, 3.0, 0.5, 0.0, -0.1]);
    check(|x| x.softplus() - (x.exp() + 1.0).log(), &[0.0; 6]);
    check(|x| x.silu() - x * x.sigmoid(), &[0.0; 6]);
}

#[test]
fn reductions() {
    check(|x| x.sum(-1), &[2.0, -0.5]);
    check(|x| x.sum(0) / x.dim(0) - x.mean(0), &[0.0; 3]);
    check(|x| x.mean(0), &[0.75, -1.0, 1.0]);
    check(|x| x.max_keepdim(1) + x.min_keepdim([1]), &[1.0, -0.5]);
    check(|x| x.prod(..), &[0.0]);
    check(|x| x.var(1), &[19.0 / 3.0, 7.0 / 12.0]);
    check(|x| x.var_population(1), &[38.0 / 9.0, 7.0 / 18.0]);
    check(|x| x.argmax(1).cast(DType::F32), &[2.0, 0.0]);
    check(|x| x.logsumexp(1) - x.exp().sum(1).log(), &[0.0, 0.0]);
    check(|x| x.gt(0).any(1).cast(DType::F32), &[1.0, 1.0]);
    check(|x| x.lt(3.5).all(0).cast(DType::F32), &[1.0; 3]);
}

#[test]
fn orders() {
    check(|x| x.argsort(1, false).cast(DType::F32), &[1.0, 0.0, 2.0, 2.0, 1.0, 0.0]);
    check(|x| x.sort(1, true).0, &[3.0, 1.0, -2.0, 0.5, 0.0, -1.0]);
    check(|x| x.sort(0, false).0, &[0.5, -2.0, -1.0, 1.0, 0.0, 3.0]);
    check(|x| x.top_k(-1, 2).0, &[3.0, 1.0, 0.5, 0.0]);
    check(|x| x.top_k(-1, 1).1.cast(DType::F32) - x.argmax(1).unsqueeze(1).cast(DType::F32), &[0.0, 0.0]);
    check(|x| x.cumsum(1), &[1.0, -1.0, 2.0, 0.5, 0.5, -0.5]);
    check(|x| x.cumprod(-1), &[1.0, -2.0, -6.0, 0.5, 0.0, 0.0]);
    check(|x| x.unsqueeze(0).cumsum(0).squeeze(0) - x, &[0.0; 6]);
    check(|x| x.cummax(1), &[1.0, 1.0, 3.0, 0.5, 0.5, 0.5]);
    check(|x| x.cummin(-1), &[1.0, -2.0, -2.0, 0.5, 0.0, -1.0]);
    // Zeros are like other numbers; of equals the latest has the gradient, which here is a constant.
    check(|x| grad(x, |x| x.cumprod(1).sum(..)), &[-7.0, 4.0, -2.0, 1.0, 0.0, 0.0]);
    check(|x| grad(x, |x| concat(&[x, x.stop_gradient()], 1).cummax(1).sum(..)), &[2.0, 0.0, 3.0, 3.0, 0.0, 0.0]);
}

#[test]
fn places() {
    let at = || constant_array(&ints([3], [0, 2, 0]));
    check(|x| x.index_copy(1, at(), x).sum(0), &[2.0, -2.0, -2.0]);
    check(|x| x.index_max(1, at(), x), &[3.0, -2.0, 3.0, 0.5, 0.0, 0.0]);
    check(|x| x.index_min(1, at(), x), &[1.0, -2.0, -2.0, -1.0, 0.0, -1.0]);
    check(|x| x.index_mul(1, at(), x), &[3.0, -2.0, -6.0, -0.25, 0.0, 0.0]);
    check(|x| x.narrow_at(1, scalar(1i32), 2), &[-2.0, 3.0, 0.0, -1.0]);
    check(|x| x.replace_at(1, size_value(1), x.narrow(1, 0, 2)), &[1.0, 1.0, -2.0, 0.5, 0.5, 0.0]);
    check(|x| x.narrow_at(-1, scalar(2i64), 1).squeeze(..), &[3.0, -1.0]);
}

#[test]
fn movement() {
    check(|x| x.t().reshape((3, -1)).select(0, 1), &[-2.0, 0.0]);
    check(|x| x.reshape((x.dim(0) * 3,)).unsqueeze(0).squeeze(..), &[1.0, -2.0, 3.0, 0.5, 0.0, -1.0]);
    check(|x| x.slice(1, 1..).select(1, -1), &[3.0, -1.0]);
    check(|x| x.slice(1, Range::from(..).step(2)), &[1.0, 3.0, 0.5, -1.0]);
    check(|x| x.narrow(1, 1, 2).flip(1), &[3.0, -2.0, -1.0, 0.0]);
    check(|x| x.pad(1, 1, 0, 7.0).select(0, 0), &[7.0, 1.0, -2.0, 3.0]);
    check(|x| concat(&[x, x.slice(1, ..1)], 1).sum(1), &[3.0, 0.0]);
    check(|x| stack(&[x, -x], -1).sum(-1), &[0.0; 6]);
    check(|x| x.unsqueeze(1).broadcast_to((x.dim(0), 4, 3)).sum([0, 2]), &[1.5; 4]);
    check(|x| x.chunk(3, 1)[1], &[-2.0, 0.0]);
    check(|x| x.flatten(0) + 1, &[2.0, -1.0, 4.0, 1.5, 1.0, 0.0]);
    check(|x| x.permute([1, 0]).select(0, 2), &[3.0, -1.0]);
}

#[test]
fn positions() {
    check(|x| x.index_select(1, arange(2, DType::I64)), &[1.0, -2.0, 0.5, 0.0]);
    check(|x| x.gather(1, x.argmax(1).unsqueeze(1)), &[3.0, 0.5]);
    check(|x| x.t().gather(0, x.argmin(1).unsqueeze(0)), &[-2.0, -1.0]);
    check(|x| x.argmax(1).one_hot(3, DType::F32) * x, &[0.0, 0.0, 3.0, 0.5, 0.0, 0.0]);
    check(|x| x.tril(0), &[1.0, 0.0, 0.0, 0.5, 0.0, 0.0]);
    check(|x| x.triu(1), &[0.0, -2.0, 3.0, 0.0, 0.0, -1.0]);
    check(|x| size_value(x.dim(0) + 3).cast(DType::F32) + x.sum(..), &[6.5]);
    check(|x| full(("n", 3), 2.0f32) + ones([3], DType::F32) + scalar(1.0f32) + x.zeros_like(), &[4.0; 6]);
    check(|x| x.index_add(1, arange(1, DType::I64), x.slice(1, ..1)), &[2.0, -2.0, 3.0, 1.0, 0.0, -1.0]);
}

#[test]
fn products() {
    check(|x| x.matmul(x.t()), &[14.0, -2.5, -2.5, 1.25]);
    check(|x| x.select(0, 0).matmul(x.t()), &[14.0, -2.5]);
    check(|x| x.matmul(x.select(0, 1)), &[-2.5, 1.25]);
    check(|x| x.unsqueeze(1).matmul(x.unsqueeze(-1)).reshape([-1]), &[14.0, 1.25]);
    // Leading axes broadcast: [1, n, 3] with [2, 3, n].
    check(|x| x.unsqueeze(0).matmul(stack(&[x.t(), -x.t()], 0)).sum([1, 2]), &[10.25, -10.25]);
    // A vector with a stack of matrices.
    check(|x| x.select(0, 1).matmul(stack(&[x.t(), x.t()], 0)).select(0, 1), &[-2.5, 1.25]);
}

#[test]
fn images() -> Result<(), Error> {
    let x = ramp([1, 2, 4, 4]);
    let shape = || spec::<f32>(("n", 2, 4, 4));
    let pooled = run(|x| x.max_pool2d(2), shape(), &x)?;
    assert_eq!(pooled.shape(), [1, 2, 2, 2]);
    let values = x.to_f64();
    let first = [values[0], values[1], values[4], values[5]];
    assert_eq!(pooled.to_f64()[0], first.into_iter().fold(f64::MIN, f64::max));
    let mean = run(|x| x.avg_pool2d(Pool2d::new(2).stride(1)), shape(), &x)?;
    assert_eq!(mean.shape(), [1, 2, 3, 3]);
    assert!((mean.to_f64()[0] - first.iter().sum::<f64>() / 4.0).abs() < 1e-6);
    // A depthwise kernel that takes the left neighbour, with padding.
    let kernel = floats([2, 1, 1, 3], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let options = ConvOptions::new().padding((0, 1)).groups(2);
    let moved = run(|(x, kernel)| x.conv2d(kernel, options), (shape(), spec::<f32>([2, 1, 1, 3])), (&x, &kernel))?;
    assert_eq!(moved.shape(), [1, 2, 4, 4]);
    assert_eq!(moved.to_f64()[..5], [0.0, values[0], values[1], values[2], 0.0]);
    Ok(())
}

#[test]
fn softmaxes() {
    let soft = |x: Tensor| x.exp() / x.exp().sum_keepdim(1);
    check(|x| x.softmax(1) - soft(x), &[0.0; 6]);
    check(|x| x.softmax(0) - soft(x.t()).t(), &[0.0; 6]);
    check(|x| x.log_softmax(-1) - soft(x).log(), &[0.0; 6]);
    check(|x| (x * 1000.0).softmax(1), &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
}

#[test]
fn norms() {
    let normal = |x: Tensor| (x - x.mean_keepdim(1)) / (x.var_population(1).unsqueeze(1) + 1e-5).sqrt();
    let affine = |x: Tensor| (ones([3], DType::F32) * 2, x.select(0, 1));
    check(
        |x| {
            let (w, b) = affine(x);
            x.layer_norm(w, b, 1e-5) - (normal(x) * w + b)
        },
        &[0.0; 6],
    );
    check(
        |x| x.rms_norm(affine(x).0, 0.0) / x.square().mean_keepdim(1).rsqrt() - x * 2.0 + x.is_nan().cast(DType::F32),
        &[0.0; 6],
    );
    check(
        |x| {
            let (w, b) = affine(x);
            let (y, mean, variance) = x.batch_norm(w, b, 1e-5);
            y - x.batch_norm_with(mean, variance, w, b, 1e-5) + mean - x.mean(0) + variance - x.var_population(0)
        },
        &[0.0; 6],
    );
}

#[test]
fn activations() {
    let x = floats([3], [-1.0, 0.5, 2.0]);
    let exact = run(|x| x.gelu(), spec::<f32>([3]), &x).expect("a good program");
    close(&exact, &[-0.158_655_254, 0.345_731_23, 1.954_499_74], 1e-6);
    let approximate = run(|x| x.gelu_tanh(), spec::<f32>([3]), &x).expect("a good program");
    close(&approximate, &[-0.158_808, 0.345_714, 1.954_597_7], 1e-5);
    let elu = run(|x| x.elu(), spec::<f32>([3]), &x).expect("a good program");
    close(&elu, &[-0.632_120_56, 0.5, 2.0], 1e-6);
}

#[test]
fn losses() -> Result<(), Error> {
    let x = floats([2, 3], [1.0, -2.0, 3.0, 0.5, 0.0, -1.0]);
    let labels = ints([2], [2, 1]);
    let specs = || (spec::<f32>(("n", 3)), spec::<i64>(["n"]));
    let loss = run(|(x, y)| x.cross_entropy(y), specs(), (&x, &labels))?;
    let row = |row: [f64; 3], label: usize| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[label];
    let expected = f64::midpoint(row([1.0, -2.0, 3.0], 2), row([0.5, 0.0, -1.0], 1));
    close(&loss, &[expected], 1e-6);
    let nll = run(|(x, y)| x.log_softmax(1).nll(y), specs(), (&x, &labels))?;
    close(&nll, &[expected], 1e-6);
    let outside = run(|(x, y)| x.cross_entropy(y), specs(), (&x, &ints([2], [2, 3]))).expect_err("3 is no class").to_string();
    assert!(outside.contains("crates/trace/tests/trace/ops.rs") && !outside.contains("src/ops"), "{outside}");
    check(|x| x.mse(x + 2.0), &[4.0]);
    check(|x| x.bce_with_logits(x.gt(0).cast(DType::F32)) - (x.abs() * -1.0).exp().log1p().mean(..), &[-(2f64.ln()) * 0.0]);
    Ok(())
}

#[test]
fn attention_masks_the_future() -> Result<(), Error> {
    let (q, k, v) = (ramp([1, 3, 4]), ramp([1, 3, 4]), ramp([1, 3, 4]));
    let specs = || (spec::<f32>(("b", "l", 4)), spec::<f32>(("b", "l", 4)), spec::<f32>(("b", "l", 4)));
    let causal = run(|(q, k, v)| q.attention(k, v, Attention::new().causal()), specs(), (&q, &k, &v))?;
    // The first query sees the first value only.
    close(&causal, &causal.to_f64(), 0.0);
    assert_eq!(causal.to_f64()[..4], v.to_f64()[..4]);
    let by_bias = run(
        |(q, k, v)| {
            let seen = ones((q.dim(1), q.dim(1)), DType::F32).tril(0);
            q.attention_with_bias(k, v, seen.log(), Attention::new())
        },
        specs(),
        (&q, &k, &v),
    )?;
    close(&by_bias, &causal.to_f64(), 1e-6);
    Ok(())
}

#[test]
fn attention_shares_keys_among_heads() -> Result<(), Error> {
    let (q, k, v) = (ramp([2, 4, 3, 2]), ramp([2, 2, 5, 2]), ramp([2, 2, 5, 3]));
    let specs = || (spec::<f32>(("b", 4, "l", 2)), spec::<f32>(("b", 2, "s", 2)), spec::<f32>(("b", 2, "s", 3)));
    let bias = |q: Tensor, k: Tensor| (arange(k.dim(2), DType::F32) * 0.1).expand((q.dim(2), k.dim(2)));
    for options in [Attention::new(), Attention::new().causal()] {
        let shared = run(|(q, k, v)| q.attention_with_bias(k, v, bias(q, k), options), specs(), (&q, &k, &v))?;
        let repeated = run(
            |(q, k, v)| {
                let repeat =
                    |x: Tensor| x.unsqueeze(2).expand((x.dim(0), 2, 2, x.dim(2), x.dim(3))).reshape((-1, 4, x.dim(2), x.dim(3)));
                q.attention_with_bias(repeat(k), repeat(v), bias(q, k), options)
            },
            specs(),
            (&q, &k, &v),
        )?;
        assert_eq!(shared.shape(), [2, 4, 3, 3]);
        close(&shared, &repeated.to_f64(), 1e-6);
    }
    let odd = run(|(q, k)| q.attention(k, k, Attention::new()), (spec::<f32>((3, "l", 2)), spec::<f32>((2, "l", 2))), (&q, &k));
    let odd = odd.expect_err("3 heads are no multiple of 2").to_string();
    assert!(odd.contains("may serve several of the queries', got f32[3, l, 2], f32[2, l, 2] and f32[2, l, 2]"), "{odd}");
    Ok(())
}

#[test]
fn every_attention_is_one_composite() {
    let specs = (spec::<f32>(("b", 4, "l", 2)), spec::<f32>(("b", 2, "l", 2)));
    let traced = trace(
        |(q, k)| {
            let plain = q.attention(k, k, Attention::new().scale(1.0));
            let biased = q.attention_with_bias(k, k, q.matmul(q.t()), Attention::new().scale(1.0).causal());
            plain + biased + q.attention(k, k, Attention::new().scale(1.0))
        },
        specs,
    )
    .expect("a good program");
    let names: Vec<&str> = traced.module().functions.values().map(|function| function.name.as_str()).collect();
    let of = |name: &str, first: usize| -> Vec<String> {
        let parts = ["_derivative", "", "_backward", "_queries", "_keys"];
        parts.iter().enumerate().map(|(place, part)| format!("{name}{part}.{}", first + place)).collect()
    };
    let expected = [vec!["main".to_owned()], of("attend", 1), of("attend_causal", 6)].concat();
    assert_eq!(names, expected);
}

#[test]
fn a_composite_is_built_once_for_its_types() {
    let traced =
        trace(|x| x.softmax(1) + x.gelu().softmax(1) + x.t().softmax(0).t(), spec::<f32>(("n", 3))).expect("a good program");
    let names: Vec<&str> = traced.module().functions.values().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["main", "softmax.1", "gelu.2"]);
}

#[test]
fn no_line_of_this_crate_is_shown() {
    let traced = step(spec::<f32>(("n", 4)), |x: Tensor| {
        let mixed = x.softmax(1).gelu().var(..) + x.logsumexp(1).mean(0) + x.one_hot_of_argmax() + x.dropout(0.5).sum(..);
        let random = normal([2], DType::F32).sum(..) + uniform([2], DType::F32).sum(..);
        mixed
            + random
            + x.tril(0).elu().silu().softplus().leaky_relu(0.1).recip().sum(..)
            + x.chunk(2, 1)[0].std(..)
            + x.matmul(x.t()).gelu_tanh().rms_norm(arange(x.dim(0), DType::F32), 1e-5).sum(..)
            + x.attention_with_bias(x, x, x.matmul(x.t()), Attention::new()).clamp(0, 1).mse(x)
    })
    .trace::<Tensor>()
    .expect("a good program");
    let (_, main) = traced.module().entry().expect("an entry");
    for id in main.graph.nodes() {
        let loc = main.graph.loc(id).to_string();
        let own = loc.starts_with("crates/trace/tests/") || loc == "unknown place";
        assert!(own, "{} at {loc}", main.graph.op(id).name());
        // Only what follows from the whole step has no line.
        assert!(loc != "unknown place" || traced.module().state.len() == 1, "{}", main.graph.op(id).name());
    }
}

trait OneHot {
    fn one_hot_of_argmax(self) -> Tensor;
}

impl OneHot for Tensor {
    #[track_caller]
    fn one_hot_of_argmax(self) -> Tensor {
        self.argmax(1).one_hot(4, DType::F32).sum(..)
    }
}

#[test]
fn random_numbers_differ_by_operation_and_by_step() -> Result<(), Error> {
    let traced = step((), |()| (uniform([1000], DType::F32), uniform([1000], DType::F32), normal([1000], DType::F32))).trace()?;
    let ((first, second, normal), after) = run_over(&traced, (), &traced.state())?;
    let mean = |x: &Array| x.to_f64().iter().sum::<f64>() / 1000.0;
    assert!(first.to_f64().iter().all(|x| (0.0..1.0).contains(x)));
    assert!((mean(&first) - 0.5).abs() < 0.05 && mean(&normal).abs() < 0.15);
    let variance = normal.to_f64().iter().map(|x| x * x).sum::<f64>() / 1000.0;
    assert!((variance - 1.0).abs() < 0.15, "{variance}");
    assert_ne!(first, second);
    let ((next, ..), last) = run_over(&traced, (), &after)?;
    assert_ne!(first, next);
    assert_eq!(last[0].to_f64(), [0.0, 0.0, 2.0, 0.0]);
    // The low word of the step carries into the high one.
    let full = Array::from_vec([4], vec![1u32, 2, u32::MAX, 5])?;
    let (_, carried) = run_over(&traced, (), &[full])?;
    assert_eq!(carried[0].to_f64(), [1.0, 2.0, 0.0, 6.0]);
    Ok(())
}

#[test]
fn dropout_drops_in_training_only() -> Result<(), Error> {
    let x = floats([1000], vec![1.0; 1000]);
    let same = run(|x| x.dropout(0.25), spec::<f32>(["n"]), &x)?;
    assert_eq!(same, x);
    let traced = step(spec::<f32>(["n"]), |x| x.dropout(0.25)).trace()?;
    let (dropped, _) = run_over(&traced, &x, &traced.state())?;
    let kept = dropped.to_f64().iter().filter(|x| **x != 0.0).count();
    assert!((700..800).contains(&kept), "{kept}");
    assert!(dropped.to_f64().iter().all(|x| *x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
    Ok(())
}
