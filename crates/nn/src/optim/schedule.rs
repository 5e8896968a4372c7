//! Learning rates as functions of the number of steps done: they are computed inside of the step, so nothing is set from outside. What rates
//! decay by is in [`super::decay`].

use std::f64::consts::PI;

use graver_trace::{Diag, Tensor};

use super::common::{is_size, refused};

/// A learning rate: a number, a closure over the number of steps done (a float scalar, 0 in the first step), or a schedule below.
///
/// ```
/// use graver_nn::{AdamW, Cosine, Warmup};
/// use graver_trace::Tensor;
/// let constant = AdamW::new(1e-3);
/// let halving = AdamW::new(|done: Tensor| 1e-3 / (1.0 + done / 1000.0));
/// let usual = AdamW::new(Warmup::new(500, Cosine::new(1e-3, 10_000)));
/// # drop((constant, halving, usual));
/// ```
///
/// PyTorch's schedulers and those of transformers' `get_scheduler`, by what they are here, for a rate `r`, `n` steps in all and `w` of warmup:
///
/// | there | here |
/// |---|---|
/// | `constant_with_warmup` | `Warmup::new(w, r).from_zero()` |
/// | `linear` | `Warmup::new(w, LinearDecay::new(r, n - w)).from_zero()` |
/// | `cosine` | `Warmup::new(w, Cosine::new(r, n - w)).from_zero()` |
/// | `cosine_with_restarts`, of 2 cycles | `Warmup::new(w, Repeat::new((n - w) / 2, Cosine::new(r, (n - w) / 2))).from_zero()` |
/// | `polynomial` | `Warmup::new(w, PolynomialDecay::new(r, n - w, power).floor(1e-7)).from_zero()` |
/// | `inverse_sqrt` | `Warmup::new(w, InverseSqrt::new(r, w)).from_zero()` |
/// | `ConstantLR(factor, n)` | `Then::new(n, r * factor, r)` |
/// | `LinearLR(start, end, n)` | `LinearDecay::new(r * start, n).floor(r * end)` |
/// | `PolynomialLR(n, power)` | `PolynomialDecay::new(r, n, power)` |
/// | `CosineAnnealingLR(n, floor)` | `Cosine::new(r, n).floor(floor)` |
/// | `CosineAnnealingWarmRestarts(n)` | `Repeat::new(n, Cosine::new(r, n))` |
/// | `ExponentialLR(gamma)` | `StepDecay::new(r, 1, gamma)` |
/// | `StepLR(n, gamma)` | `StepDecay::new(r, n, gamma)` |
/// | `MultiStepLR([30, 80], gamma)` | `MultiStepDecay::new(r, [30, 80], gamma)` |
/// | `OneCycleLR(r, n)` | `OneCycle::new(r, n)` |
/// | `SequentialLR([a, b], [n])` | `Then::new(n, a, b)` |
pub trait Schedule {
    /// The rate after so many steps, both float scalars of one type.
    fn rate(&self, done: Tensor) -> Tensor;

    /// What is wrong with the numbers that it is made of: a program that it is a part of does not compile.
    fn check(&self) -> Vec<Diag> {
        Vec::new()
    }
}

/// What is said of rates that are negative, infinite or no numbers.
pub(super) fn check_rates<const N: usize>(rates: [f64; N]) -> Vec<Diag> {
    let check = |rate| refused("a learning rate", rate, is_size(rate), "a finite number of 0 or more");
    rates.into_iter().filter_map(check).collect()
}

impl Schedule for f64 {
    fn rate(&self, done: Tensor) -> Tensor {
        done.full_like(*self)
    }

    fn check(&self) -> Vec<Diag> {
        check_rates([*self])
    }
}

impl<F: Fn(Tensor) -> Tensor> Schedule for F {
    fn rate(&self, done: Tensor) -> Tensor {
        self(done)
    }
}

/// Half a cosine from a peak to a floor, which it keeps: Loshchilov and Hutter (2017), "SGDR", without restarts.
#[derive(Clone, Copy, Debug)]
pub struct Cosine {
    peak: f64,
    floor: f64,
    steps: u32,
}

impl Cosine {
    /// From this rate to 0 in so many steps.
    #[must_use]
    pub const fn new(peak: f64, steps: u32) -> Self {
        Self { peak, floor: 0.0, steps }
    }

    /// To this rate instead of 0.
    #[must_use]
    pub const fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }
}

impl Schedule for Cosine {
    fn rate(&self, done: Tensor) -> Tensor {
        let share = (done / f64::from(self.steps.max(1))).minimum(1.0);
        ((share * PI).cos() + 1.0) * (0.5 * (self.peak - self.floor)) + self.floor
    }

    fn check(&self) -> Vec<Diag> {
        check_rates([self.peak, self.floor])
    }
}

/// A rate that is multiplied by a factor every so many steps.
#[derive(Clone, Copy, Debug)]
pub struct StepDecay {
    rate: f64,
    every: u32,
    factor: f64,
}

impl StepDecay {
    /// From this rate, every so many steps times the factor.
    #[must_use]
    pub const fn new(rate: f64, every: u32, factor: f64) -> Self {
        Self { rate, every, factor }
    }
}

impl Schedule for StepDecay {
    fn rate(&self, done: Tensor) -> Tensor {
        let times = (done / f64::from(self.every.max(1))).floor();
        done.full_like(self.factor).pow(times) * self.rate
    }

    fn check(&self) -> Vec<Diag> {
        check_rates([self.rate, self.rate * self.factor])
    }
}

/// A rate that grows from almost 0 in equal steps to another schedule's first rate, and then follows it from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Warmup<S> {
    steps: u32,
    first: f64,
    then: S,
}

impl<S: Schedule> Warmup<S> {
    /// So many steps of growth: the first has a share of `1 / steps`, the last the whole.
    #[must_use]
    pub const fn new(steps: u32, then: S) -> Self {
        Self { steps, first: 1.0, then }
    }

    /// As transformers: the first step has a share of 0, the last one of `1 - 1 / steps`.
    #[must_use]
    pub const fn from_zero(mut self) -> Self {
        self.first = 0.0;
        self
    }
}

impl<S: Schedule> Schedule for Warmup<S> {
    fn rate(&self, done: Tensor) -> Tensor {
        if self.steps == 0 {
            return self.then.rate(done);
        }
        let steps = f64::from(self.steps);
        let share = ((done + self.first) / steps).minimum(1.0);
        self.then.rate((done - steps).maximum(0.0)) * share
    }

    fn check(&self) -> Vec<Diag> {
        self.then.check()
    }
}

/// A schedule for so many steps, and then another from its beginning.
///
/// ```
/// use graver_nn::{Cosine, Sgd, Then, Warmup};
/// // Warmed up, stable, decayed.
/// let rate = Warmup::new(100, Then::new(800, 1e-3, Cosine::new(1e-3, 100)));
/// # drop(Sgd::new(rate));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Then<A, B> {
    steps: u32,
    first: A,
    then: B,
}

impl<A: Schedule, B: Schedule> Then<A, B> {
    /// So many steps of the first one.
    #[must_use]
    pub const fn new(steps: u32, first: A, then: B) -> Self {
        Self { steps, first, then }
    }
}

impl<A: Schedule, B: Schedule> Schedule for Then<A, B> {
    fn rate(&self, done: Tensor) -> Tensor {
        let steps = f64::from(self.steps);
        let then = self.then.rate((done - steps).maximum(0.0));
        done.lt(steps).where_(self.first.rate(done), then)
    }

    fn check(&self) -> Vec<Diag> {
        self.first.check().into_iter().chain(self.then.check()).collect()
    }
}

/// A schedule that begins again after every so many steps.
#[derive(Clone, Copy, Debug)]
pub struct Repeat<S> {
    steps: u32,
    each: S,
}

impl<S: Schedule> Repeat<S> {
    /// From its beginning, every so many steps.
    #[must_use]
    pub const fn new(steps: u32, each: S) -> Self {
        Self { steps, each }
    }
}

impl<S: Schedule> Schedule for Repeat<S> {
    fn rate(&self, done: Tensor) -> Tensor {
        let steps = f64::from(self.steps.max(1));
        // The quotient of whole numbers is rounded to no other whole number.
        self.each.rate(done - (done / steps).floor() * steps)
    }

    fn check(&self) -> Vec<Diag> {
        self.each.check()
    }
}
