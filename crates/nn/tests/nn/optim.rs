//! Optimisers: their first steps against PyTorch's formulas in `f64`.

use graver_nn::{
    Adam, AdamW, Cosine, InverseSqrt, LinearDecay, MultiStepDecay, OneCycle, Optimizer, PolynomialDecay, Repeat, Schedule, Sgd,
    StepDecay, Then, Update, Warmup, train_step,
};
use graver_trace::{Array, DType, Error, Grads, Module, Param, Tensor, spec, step, value_and_grad};

use crate::common::{at, close, doubles, run, run_over};

/// Three parameters' worth of one: the loss is `sum(0.5 * a * p^2)`, so the derivative is `a * p`.
const A: [f64; 3] = [1.0, -2.0, 0.5];
const START: [f64; 3] = [1.0, 2.0, -3.0];

#[derive(Module)]
struct Toy {
    weight: Param,
    bias: Param,
}

impl Toy {
    fn new() -> Self {
        Self { weight: Param::new(doubles([3], START)), bias: Param::new(doubles([3], START)) }
    }

    fn loss(&self, a: Tensor) -> Tensor {
        (a * self.weight.get().square() * 0.5).sum(..) + (a * self.bias.get().square() * 0.5).sum(..)
    }
}

/// Runs an optimiser and gives the weight and the bias after each step.
fn steps(optimizer: impl Optimizer, count: usize) -> Result<Vec<[Array; 2]>, Error> {
    let toy = Toy::new();
    let traced = train_step(&toy, optimizer, spec::<f64>([3]), |toy, a| toy.loss(a)).trace()?;
    let mut state = traced.state();
    let mut seen = Vec::new();
    for _ in 0..count {
        state = run_over(&traced, &doubles([3], A), &state)?.1;
        seen.push([at(&traced, &state, "weight"), at(&traced, &state, "bias")]);
    }
    Ok(seen)
}

/// The first three steps for one element by a scalar rule `(p, g, t, memory) -> p`.
#[track_caller]
fn check(optimizer: impl Optimizer, rule: impl Fn(f64, f64, i32, &mut [f64; 2]) -> f64) {
    let seen = steps(optimizer, 3).expect("a good step");
    let mut p = START;
    let mut memory = [[0.0; 2]; 3];
    for (t, [weight, _]) in (1..).zip(&seen) {
        for i in 0..3 {
            p[i] = rule(p[i], A[i] * p[i], t, &mut memory[i]);
        }
        close(weight, &p, 1e-12);
    }
}

#[test]
fn sgd() {
    check(Sgd::new(0.1), |p, g, _, _| p - 0.1 * g);
    check(Sgd::new(0.1).weight_decay("*", 0.5), |p, g, _, _| p - 0.1 * (g + 0.5 * p));
    let momentum = |dampening: f64, nesterov: bool| {
        move |p: f64, g: f64, t: i32, memory: &mut [f64; 2]| {
            memory[0] = if t == 1 { g } else { 0.9 * memory[0] + (1.0 - dampening) * g };
            p - 0.1 * if nesterov { g + 0.9 * memory[0] } else { memory[0] }
        }
    };
    check(Sgd::new(0.1).momentum(0.9), momentum(0.0, false));
    check(Sgd::new(0.1).momentum(0.9).dampening(0.4), momentum(0.4, false));
    check(Sgd::new(0.1).momentum(0.9).nesterov(), momentum(0.0, true));
}

/// PyTorch's order of operations.
fn adam(decay: f64, decoupled: f64) -> impl Fn(f64, f64, i32, &mut [f64; 2]) -> f64 {
    move |p, g, t, memory| {
        let (p, g) = (p * (1.0 - 0.1 * decoupled), g + decay * p);
        memory[0] = 0.9 * memory[0] + 0.1 * g;
        memory[1] = 0.999 * memory[1] + (1.0 - 0.999) * g * g;
        let denominator = memory[1].sqrt() / (1.0 - 0.999f64.powi(t)).sqrt() + 1e-8;
        p - 0.1 / (1.0 - 0.9f64.powi(t)) * memory[0] / denominator
    }
}

#[test]
fn adam_and_adamw() {
    check(Adam::new(0.1), adam(0.0, 0.0));
    check(Adam::new(0.1).weight_decay("*", 0.2), adam(0.2, 0.0));
    check(AdamW::new(0.1), adam(0.0, 0.01));
    check(AdamW::new(0.1).weight_decay("weight", 0.3), adam(0.0, 0.3));
    check(AdamW::new(0.1).weight_decay("*", 0.0), adam(0.0, 0.0));
}

#[test]
fn rules_tell_parameters_apart() -> Result<(), Error> {
    let seen = steps(Sgd::new(0.1).weight_decay("weight", 0.5).rate_scale("b*", 0.0), 1)?;
    close(&seen[0][0], &std::array::from_fn::<f64, 3, _>(|i| START[i] - 0.1 * (A[i] * START[i] + 0.5 * START[i])), 1e-12);
    assert_eq!(seen[0][1].to_f64(), START);
    Ok(())
}

#[test]
fn a_rule_that_matches_nothing_is_an_error() {
    let found = steps(Sgd::new(0.1).weight_decay("*.weigth", 0.5).clip_norm(1.0), 1).expect_err("a slip of the pen").to_string();
    assert!(
        found.contains("optimizer: the pattern `*.weigth` matches no parameter of the model; its parameters: weight, bias"),
        "{found}"
    );
}

#[test]
fn numbers_that_no_rule_can_use_are_errors() {
    fn told(optimizer: impl Optimizer) -> String {
        steps(optimizer, 1).err().map_or_else(|| "no error".to_owned(), |error| error.to_string())
    }
    let size = "and must be a finite number of 0 or more";
    for (found, said) in [
        (told(Sgd::new(f64::NAN)), format!("a learning rate is NaN, {size}")),
        (told(Sgd::new(-0.1)), format!("a learning rate is -0.1, {size}")),
        (told(Sgd::new(Warmup::new(3, Cosine::new(0.1, 5).floor(f64::INFINITY)))), format!("a learning rate is inf, {size}")),
        (told(Sgd::new(StepDecay::new(0.1, 5, -1.0))), format!("a learning rate is -0.1, {size}")),
        (told(Sgd::new(Then::new(3, LinearDecay::new(-1.0, 5), 0.1))), format!("a learning rate is -1, {size}")),
        (told(Sgd::new(PolynomialDecay::new(0.1, 5, -2.0))), format!("the power of a decay is -2, {size}")),
        (
            told(Sgd::new(OneCycle::new(0.1, 5).rise(1.5))),
            "the share of steps that rise is 1.5, and must be at least 0 and at most 1".to_owned(),
        ),
        (told(Sgd::new(0.1).momentum(-0.9)), format!("the momentum is -0.9, {size}")),
        (told(Sgd::new(0.1).momentum(0.9).dampening(f64::NAN)), "the dampening is NaN, and must be finite".to_owned()),
        (told(Sgd::new(0.1).weight_decay("*", -1.0)), format!("a weight decay is -1, {size}")),
        (told(Sgd::new(0.1).rate_scale("*", f64::NAN)), format!("a factor on the learning rate is NaN, {size}")),
        (told(Adam::new(0.1).betas(1.0, 0.9)), "the first beta is 1, and must be at least 0 and below 1".to_owned()),
        (told(AdamW::new(0.1).betas(0.9, -0.5)), "the second beta is -0.5, and must be at least 0 and below 1".to_owned()),
        (told(Adam::new(0.1).eps(-1.0)), format!("`eps` is -1, {size}")),
        (told(AdamW::new(0.1).clip_norm(0.0)), "the greatest that clipping leaves is 0, and must be above 0".to_owned()),
        (told(AdamW::new(0.1).clip_value(f64::NAN)), "the greatest that clipping leaves is NaN, and must be above 0".to_owned()),
    ] {
        assert!(found.ends_with(&format!("optimizer: {said}")) && found.contains("tests/nn/optim.rs:"), "{said}: {found}");
    }
    // All at once, and what is at the edge.
    assert_eq!(told(Adam::new(-1.0).betas(2.0, 2.0).clip_norm(-1.0)).lines().count(), 4);
    for found in
        [told(Sgd::new(0.0)), told(Adam::new(0.1).betas(0.0, 0.0).eps(0.0)), told(Sgd::new(0.1).clip_norm(f64::INFINITY))]
    {
        assert_eq!(found, "no error");
    }
}

#[test]
fn clipping_by_norm_and_value() -> Result<(), Error> {
    let grads: [f64; 3] = std::array::from_fn(|i| A[i] * START[i]);
    let norm = (2.0 * grads.iter().map(|g| g * g).sum::<f64>()).sqrt();
    let clipped = |factor: f64| std::array::from_fn::<f64, 3, _>(|i| START[i] - grads[i] * factor);
    close(&steps(Sgd::new(1.0).clip_norm(2.0), 1)?[0][0], &clipped(2.0 / (norm + 1e-6)), 1e-12);
    close(&steps(Sgd::new(1.0).clip_norm(1e9), 1)?[0][0], &clipped(1.0), 1e-12);
    let cut = std::array::from_fn::<f64, 3, _>(|i| START[i] - grads[i].clamp(-1.25, 1.25));
    close(&steps(Sgd::new(1.0).clip_value(1.25), 1)?[0][0], &cut, 1e-12);
    Ok(())
}

/// The rates of the first steps.
fn rates<const N: usize>(schedule: impl Schedule) -> Result<[f64; N], Error> {
    let rate = |done: usize| {
        let rate = run(|t| schedule.rate(t), spec::<f64>(()), &doubles([], [done as f64]))?;
        rate.item().map_err(Error::from)
    };
    let mut found = [0.0; N];
    for (done, place) in found.iter_mut().enumerate() {
        *place = rate(done)?;
    }
    Ok(found)
}

#[track_caller]
fn near<const N: usize>(found: [f64; N], expected: [f64; N]) {
    assert!(found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-12), "{found:?} is not {expected:?}");
}

#[test]
fn schedules() -> Result<(), Error> {
    near(rates(0.5)?, [0.5; 3]);
    let half = std::f64::consts::FRAC_1_SQRT_2;
    near(rates(Cosine::new(2.0, 4))?, [2.0, 1.0 + half, 1.0, 1.0 - half, 0.0, 0.0]);
    near(rates(Cosine::new(2.0, 2).floor(1.0))?, [2.0, 1.5, 1.0, 1.0]);
    near(rates(StepDecay::new(1.0, 2, 0.1))?, [1.0, 1.0, 0.1, 0.1, 0.01]);
    near(rates(Warmup::new(4, 0.8))?, [0.2, 0.4, 0.6, 0.8, 0.8]);
    near(rates(Warmup::new(2, Cosine::new(1.0, 2)))?, [0.5, 1.0, 1.0, 0.5, 0.0]);
    near(rates(|done: Tensor| 1.0 / (done + 1.0))?, [1.0, 0.5, 1.0 / 3.0]);
    near(rates(Cosine::new(1.0, 0))?, [1.0, 0.0]);
    let seen = steps(Sgd::new(StepDecay::new(1.0, 1, 0.5)), 2)?;
    let after = |p: f64, a: f64| (p - a * p) - 0.5 * a * (p - a * p);
    close(&seen[1][0], &std::array::from_fn::<f64, 3, _>(|i| after(START[i], A[i])), 1e-12);
    Ok(())
}

/// What PyTorch 2.15's schedulers give, and the formulas of transformers' `get_scheduler`.
#[test]
fn schedules_are_those_of_pytorch() -> Result<(), Error> {
    near(rates(Then::new(3, 0.8 * 0.25, 0.8))?, [0.2, 0.2, 0.2, 0.8, 0.8, 0.8]);
    near(rates(LinearDecay::new(0.5, 4).floor(0.1))?, [0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1]);
    near(rates(LinearDecay::new(0.1, 3).floor(0.4))?, [0.1, 0.2, 0.3, 0.4, 0.4]);
    near(rates(PolynomialDecay::new(0.8, 4, 2.0))?, [0.8, 0.45, 0.2, 0.05, 0.0, 0.0]);
    near(rates(StepDecay::new(0.5, 1, 0.9))?, [0.5, 0.45, 0.405, 0.3645, 0.32805, 0.295245]);
    near(rates(MultiStepDecay::new(0.5, [2, 5], 0.1))?, [0.5, 0.5, 0.05, 0.05, 0.05, 0.005, 0.005]);
    near(rates(Repeat::new(3, Cosine::new(0.5, 3).floor(0.1)))?, [0.5, 0.4, 0.2, 0.5, 0.4, 0.2, 0.5, 0.4]);
    near(rates(Then::new(3, 0.5, StepDecay::new(0.5, 1, 0.5)))?, [0.5, 0.5, 0.5, 0.5, 0.25, 0.125, 0.0625]);
    let cycle = [0.02, 0.26, 0.5, 0.475242316, 0.405872827, 0.305631011, 0.194370989, 0.094129173, 0.024759684, 2e-6, 2e-6];
    let found = rates::<11>(OneCycle::new(0.5, 10))?;
    assert!(found.iter().zip(cycle).all(|(x, y)| (x - y).abs() < 1e-8), "{found:?} is not {cycle:?}");
    let lines = OneCycle::new(0.5, 10).linear().rise(0.4).divisors(5.0, 10.0);
    let third = 0.4 / 3.0;
    let found = [0.1, 0.1 + third, 0.5 - third, 0.5, 0.5 - 0.49 / 6.0, 0.5 - 0.49 / 3.0];
    near(rates(lines)?, found);
    near(
        rates(Warmup::new(3, LinearDecay::new(1.0, 5)).from_zero())?,
        [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0],
    );
    let half = std::f64::consts::FRAC_1_SQRT_2;
    near(rates(Warmup::new(2, Cosine::new(1.0, 4)).from_zero())?, [0.0, 0.5, 1.0, 0.5 + half / 2.0, 0.5, 0.5 - half / 2.0, 0.0]);
    let root = |share: f64| share.sqrt().recip();
    let expected = [0.0, 0.25, 0.5, 0.75, 1.0, root(1.25), root(1.5), root(1.75), half, root(2.25)];
    near(rates(Warmup::new(4, InverseSqrt::new(1.0, 4)).from_zero())?, expected);
    near(rates(Warmup::new(0, LinearDecay::new(1.0, 2)).from_zero())?, [1.0, 0.5, 0.0]);
    near(rates(OneCycle::new(0.5, 1))?, [0.02, 2e-6, 2e-6]);
    Ok(())
}

/// The rule that the documentation shows.
struct Own;

impl Optimizer for Own {
    fn step(&self, p: &Update<'_>) -> Tensor {
        let m = p.slot("m");
        m.set(m.get() + p.grad.sign());
        p.value - m.get() * if p.path == "weight" { 1.0 } else { 2.0 }
    }
}

#[test]
fn a_rule_of_ones_own() -> Result<(), Error> {
    let seen = steps(Own, 2)?;
    close(&seen[0][0], &[0.0, 3.0, -2.0], 0.0);
    close(&seen[0][1], &[-1.0, 4.0, -1.0], 0.0);
    Ok(())
}

#[test]
fn half_precision_parameters_keep_wide_moments() -> Result<(), Error> {
    let weight = Param::new(doubles([3], START).cast(DType::BF16));
    let traced = train_step(&weight, Adam::new(0.1), (), |w, ()| w.get().square().sum(..)).trace()?;
    let (_, state) = run_over(&traced, (), &traced.state())?;
    let slot = traced.module().state.iter().find(|slot| slot.path.ends_with("exp_avg")).expect("Adam has it");
    assert_eq!(slot.ty.dtype, DType::F32);
    let after = state[0].clone();
    assert_eq!(after.dtype(), DType::BF16);
    close(&after, &[0.9, 1.9, -2.9], 1.0 / 128.0);
    Ok(())
}

#[test]
fn frozen_and_tied_parameters() -> Result<(), Error> {
    let toy = Toy::new();
    toy.bias.freeze();
    let model = (toy.weight.tie(), toy);
    let traced =
        train_step(&model, Sgd::new(0.5).momentum(0.9), spec::<f64>([3]), |m, a| m.1.loss(a) + m.0.get().sum(..)).trace()?;
    let slots = traced.module().state.iter().filter(|slot| slot.path.ends_with("momentum")).count();
    assert_eq!(slots, 1, "one for the tied weight, none for the frozen bias");
    let (_, after) = run_over(&traced, &doubles([3], A), &traced.state())?;
    close(&at(&traced, &after, "0"), &std::array::from_fn::<f64, 3, _>(|i| START[i] - 0.5 * (A[i] * START[i] + 1.0)), 1e-12);
    assert_eq!(at(&traced, &after, "1.bias").to_f64(), START);
    Ok(())
}

/// Two models, two optimisers, in one step.
fn two(names: [&str; 2]) -> Result<usize, Error> {
    let (gen_, disc) = (Toy::new(), Toy::new());
    let optimizer = Adam::new(0.1);
    let traced = step(spec::<f64>([3]), |a| {
        let grads = |toy: &Toy| -> Grads { value_and_grad(toy, |toy| toy.loss(a)).1 };
        optimizer.update(names[0], grads(&gen_));
        optimizer.update(names[1], grads(&disc));
        a
    })
    .model("gen", &gen_)
    .model("disc", &disc)
    .trace()?;
    Ok(traced.module().state.iter().filter(|slot| slot.path.ends_with("step")).count())
}

#[test]
fn two_optimisers_count_their_steps_apart() {
    assert_eq!(two(["gen", "disc"]), Ok(2));
    let found = two(["gen", "gen"]).expect_err("one name for both").to_string();
    assert!(found.contains("update: two optimisers in one step count their steps under the name `gen`"), "{found}");
}
