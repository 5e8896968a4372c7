//! Losses against their formulas in `f64`, and their derivatives against central differences.

use graver_nn::loss::{CrossEntropy, Reduction, bce_with_logits, huber, kl_div, l1, mse, nll, smooth_l1, soft_cross_entropy};
use graver_trace::{Array, Error, Tensor, grad, spec};

use crate::common::{close, doubles, error, ints, run};

const LOGITS: [f64; 9] = [1.0, -2.0, 0.5, 0.0, 3.0, -1.0, 2.0, 0.25, -0.75];

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|x| x.exp()).sum();
    row.iter().map(|x| x - sum.ln()).collect()
}

fn class_loss(loss: CrossEntropy, labels: [i64; 3]) -> Result<Array, Error> {
    let spec = (spec::<f64>(("n", 3)), spec::<i64>(["n"]));
    run(|(x, y)| loss.of(x, y), spec, (&doubles([3, 3], LOGITS), &ints([3], labels)))
}

/// Minus the log-probability of each row's label, and of the mean class.
fn rows(labels: [usize; 3]) -> ([f64; 3], [f64; 3]) {
    let logp: Vec<Vec<f64>> = LOGITS.chunks(3).map(log_softmax).collect();
    (std::array::from_fn(|i| -logp[i][labels[i]]), std::array::from_fn(|i| -logp[i].iter().sum::<f64>() / 3.0))
}

#[test]
fn cross_entropy_with_every_option() -> Result<(), Error> {
    let ([a, b, c], [p, q, r]) = rows([0, 2, 1]);
    let labels = [0, 2, 1];
    close(&class_loss(CrossEntropy::new(), labels)?, &[(a + b + c) / 3.0], 1e-12);
    close(&class_loss(CrossEntropy::new().reduction(Reduction::Sum), labels)?, &[a + b + c], 1e-12);
    close(&class_loss(CrossEntropy::new().reduction(Reduction::None), labels)?, &[a, b, c], 1e-12);
    let smoothed = [a, b, c].iter().zip([p, q, r]).map(|(hard, even)| 0.9 * hard + 0.1 * even).sum::<f64>() / 3.0;
    close(&class_loss(CrossEntropy::new().label_smoothing(0.1), labels)?, &[smoothed], 1e-12);
    let ignoring = CrossEntropy::new().ignore_index(-100);
    close(&class_loss(ignoring, [0, -100, 1])?, &[(a + c) / 2.0], 1e-12);
    close(&class_loss(ignoring.reduction(Reduction::None), [0, -100, 1])?, &[a, 0.0, c], 1e-12);
    close(&class_loss(ignoring.label_smoothing(0.1), [0, -100, -100])?, &[0.9 * a + 0.1 * p], 1e-12);
    assert!(class_loss(ignoring, [-100; 3])?.item()?.is_nan(), "the mean of no rows");
    assert!(class_loss(CrossEntropy::new(), [0, 3, 1]).is_err(), "a label out of range is an error of the call");
    Ok(())
}

#[test]
fn class_losses_say_what_does_not_fit() {
    let specs = || (spec::<f32>(("n", 3)), spec::<i64>(("n", 1)));
    let found = error(|(x, y)| CrossEntropy::new().label_smoothing(0.1).of(x, y), specs());
    let expected = "cross_entropy: takes floats [.., classes] and an integer label for each row, got f32[n, 3] and i64[n, 1]";
    assert!(found.contains(expected) && found.starts_with("crates/nn/tests/nn/losses.rs:"), "{found}");
    let found = error(|(x, y)| CrossEntropy::new().label_smoothing(1.5).of(x, y), specs());
    assert!(found.contains("the share of label smoothing must be in 0..=1, got 1.5"), "{found}");
    let found = error(|(x, y)| mse(x, y, Reduction::Mean), (spec::<f32>(("n", 3)), spec::<f32>(("n", 1))));
    assert!(found.contains("mse: the target of f32[n, 3] must be alike, got f32[n, 1]"), "{found}");
    let found = error(|(x, y)| huber(x, y, 0.0, Reduction::Mean), (spec::<f32>([3]), spec::<f32>([3])));
    assert!(found.contains("huber: delta must be above 0, got 0"), "{found}");
}

/// A loss of pairs against its formula for one element, and its derivative against central differences of the formula.
fn check(
    loss: impl Fn(Tensor, Tensor, Reduction) -> Tensor + Copy,
    x: [f64; 4],
    target: [f64; 4],
    formula: impl Fn(f64, f64) -> f64,
) {
    let pair = || (spec::<f64>([4]), spec::<f64>([4]));
    let (a, b) = (doubles([4], x), doubles([4], target));
    let each = run(|(x, y)| loss(x, y, Reduction::None), pair(), (&a, &b)).expect("alike");
    let expected: [f64; 4] = std::array::from_fn(|i| formula(x[i], target[i]));
    close(&each, &expected, 1e-12);
    let (mean, slope) =
        run(|(x, y)| (loss(x, y, Reduction::Mean), grad(x, |x| loss(x, y, Reduction::Sum))), pair(), (&a, &b)).expect("alike");
    close(&mean, &[expected.iter().sum::<f64>() / 4.0], 1e-12);
    let h = 1e-6;
    let slopes: [f64; 4] = std::array::from_fn(|i| (formula(x[i] + h, target[i]) - formula(x[i] - h, target[i])) / (2.0 * h));
    close(&slope, &slopes, 1e-8);
}

#[test]
fn losses_of_numbers() {
    let (x, y) = ([0.5, -3.0, 2.25, 1.0], [0.0, 0.5, 2.0, -4.0]);
    check(mse, x, y, |x, y| (x - y).powi(2));
    check(l1, x, y, |x, y| (x - y).abs());
    let huber_of = |delta: f64| {
        move |x: f64, y: f64| {
            let e = (x - y).abs();
            if e <= delta { 0.5 * e * e } else { delta * (e - 0.5 * delta) }
        }
    };
    check(|x, y, reduction| huber(x, y, 1.5, reduction), x, y, huber_of(1.5));
    check(|x, y, reduction| smooth_l1(x, y, 2.0, reduction), x, y, move |x, y| huber_of(2.0)(x, y) / 2.0);
}

#[test]
fn losses_of_two_outcomes() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let formula = |x: f64, y: f64| -(y * sigmoid(x).ln() + (1.0 - y) * (1.0 - sigmoid(x)).ln());
    check(bce_with_logits, [0.5, -3.0, 2.25, 1.0], [0.0, 1.0, 0.25, 1.0], formula);
}

#[test]
fn binary_cross_entropy_does_not_overflow() -> Result<(), Error> {
    let (x, y) = (doubles([2], [1000.0, -1000.0]), doubles([2], [0.0, 0.0]));
    let loss = run(|(x, y)| bce_with_logits(x, y, Reduction::None), (spec::<f64>([2]), spec::<f64>([2])), (&x, &y))?;
    close(&loss, &[1000.0, 0.0], 0.0);
    Ok(())
}

#[test]
fn losses_of_distributions() -> Result<(), Error> {
    let target = [0.2, 0.3, 0.5, 1.0, 0.0, 0.0];
    let logq: Vec<f64> = LOGITS[..6].chunks(3).flat_map(log_softmax).collect();
    let pair = || (spec::<f64>((2, 3)), spec::<f64>((2, 3)));
    let (q, p, x) = (doubles([2, 3], logq.clone()), doubles([2, 3], target), doubles([2, 3], LOGITS[..6].to_vec()));
    let terms: Vec<f64> = target.iter().zip(&logq).map(|(p, q)| if *p > 0.0 { p * (p.ln() - q) } else { 0.0 }).collect();
    close(&run(|(q, p)| kl_div(q, p, Reduction::None), pair(), (&q, &p))?, &terms, 1e-12);
    close(&run(|(q, p)| kl_div(q, p, Reduction::Mean), pair(), (&q, &p))?, &[terms.iter().sum::<f64>() / 2.0], 1e-12);
    let slope = run(|(q, p)| grad((q, p), |(q, p)| kl_div(q, p, Reduction::Sum)), pair(), (&q, &p))?;
    close(&slope.0, &target.map(|p| -p), 1e-12);
    assert!(slope.1.to_f64().iter().all(|x| x.is_finite()), "the derivative at a target of 0 is finite");
    let soft = -(0..2).map(|row| (0..3).map(|i| target[row * 3 + i] * logq[row * 3 + i]).sum::<f64>()).sum::<f64>() / 2.0;
    close(&run(|(x, p)| soft_cross_entropy(x, p, Reduction::Mean), pair(), (&x, &p))?, &[soft], 1e-12);
    let hard = run(|(q, y)| nll(q, y, Reduction::Sum), (spec::<f64>((2, 3)), spec::<i64>([2])), (&q, &ints([2], [2, 0])))?;
    close(&hard, &[-logq[2] - logq[3]], 1e-12);
    Ok(())
}
