//! Learning rates that decay: along a line, a power or a root, at given steps, or after a rise.

use std::f64::consts::PI;

use graver_trace::{Diag, Tensor};

use super::Schedule;
use super::common::{is_size, refused};
use super::schedule::check_rates;

/// A rate that goes in equal steps from a first one to a floor, which it keeps.
#[derive(Clone, Copy, Debug)]
pub struct LinearDecay(PolynomialDecay);

impl LinearDecay {
    /// From this rate to 0 in so many steps.
    #[must_use]
    pub const fn new(rate: f64, steps: u32) -> Self {
        Self(PolynomialDecay::new(rate, steps, 1.0))
    }

    /// To this rate instead of 0. It may be the greater one: the rate then grows.
    #[must_use]
    pub const fn floor(self, floor: f64) -> Self {
        Self(self.0.floor(floor))
    }
}

impl Schedule for LinearDecay {
    fn rate(&self, done: Tensor) -> Tensor {
        self.0.rate(done)
    }

    fn check(&self) -> Vec<Diag> {
        self.0.check()
    }
}

/// A rate that goes from a first one to a floor, which it keeps: what is above the floor is the share of the steps that are left, to a power.
#[derive(Clone, Copy, Debug)]
pub struct PolynomialDecay {
    rate: f64,
    floor: f64,
    steps: u32,
    power: f64,
}

impl PolynomialDecay {
    /// From this rate to 0 in so many steps.
    #[must_use]
    pub const fn new(rate: f64, steps: u32, power: f64) -> Self {
        Self { rate, floor: 0.0, steps, power }
    }

    /// To this rate instead of 0.
    #[must_use]
    pub const fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }
}

impl Schedule for PolynomialDecay {
    #[expect(clippy::float_cmp, reason = "exactly one is what a line has")]
    fn rate(&self, done: Tensor) -> Tensor {
        let left = 1.0 - (done / f64::from(self.steps.max(1))).minimum(1.0);
        let share = if self.power == 1.0 { left } else { left.pow(self.power) };
        share * (self.rate - self.floor) + self.floor
    }

    fn check(&self) -> Vec<Diag> {
        let power = refused("the power of a decay", self.power, is_size(self.power), "a finite number of 0 or more");
        check_rates([self.rate, self.floor]).into_iter().chain(power).collect()
    }
}

/// A rate that is multiplied by a factor after each of some numbers of steps.
#[derive(Clone, Debug)]
pub struct MultiStepDecay {
    rate: f64,
    after: Vec<u32>,
    factor: f64,
}

impl MultiStepDecay {
    /// From this rate, after each of these numbers of steps times the factor.
    #[must_use]
    pub fn new(rate: f64, after: impl IntoIterator<Item = u32>, factor: f64) -> Self {
        Self { rate, after: after.into_iter().collect(), factor }
    }
}

impl Schedule for MultiStepDecay {
    fn rate(&self, done: Tensor) -> Tensor {
        let one = |rate: Tensor, after: &u32| done.lt(f64::from(*after)).where_(rate, rate * self.factor);
        self.after.iter().fold(done.full_like(self.rate), one)
    }

    fn check(&self) -> Vec<Diag> {
        check_rates([self.rate, self.rate * self.factor])
    }
}

/// A rate that falls with the root of the steps: after [`Warmup`](super::Warmup) of as many steps as its unit, the rate of Vaswani et al. (2017),
/// "Attention is all you need".
#[derive(Clone, Copy, Debug)]
pub struct InverseSqrt {
    rate: f64,
    unit: u32,
}

impl InverseSqrt {
    /// From this rate: `rate / sqrt(1 + done / unit)`.
    #[must_use]
    pub const fn new(rate: f64, unit: u32) -> Self {
        Self { rate, unit }
    }
}

impl Schedule for InverseSqrt {
    fn rate(&self, done: Tensor) -> Tensor {
        (done / f64::from(self.unit.max(1)) + 1.0).sqrt().recip() * self.rate
    }

    fn check(&self) -> Vec<Diag> {
        check_rates([self.rate])
    }
}

/// A rate that rises from a first one to a peak and falls to a last one, which it keeps: Smith and Topin (2018), "Super-convergence". The
/// defaults, and what a share of the steps is, are PyTorch's.
#[derive(Clone, Copy, Debug)]
pub struct OneCycle {
    peak: f64,
    steps: u32,
    rise: f64,
    begin: f64,
    end: f64,
    is_linear: bool,
}

impl OneCycle {
    /// To this rate and back in so many steps: 0.3 of them rise, from a 25th of it; the last rate is a 10,000th of the first.
    #[must_use]
    pub const fn new(peak: f64, steps: u32) -> Self {
        Self { peak, steps, rise: 0.3, begin: 25.0, end: 1e4, is_linear: false }
    }

    /// The share of steps that rise.
    #[must_use]
    pub const fn rise(mut self, share: f64) -> Self {
        self.rise = share;
        self
    }

    /// What the peak is divided by to be the first rate, and the first to be the last.
    #[must_use]
    pub const fn divisors(mut self, begin: f64, end: f64) -> Self {
        (self.begin, self.end) = (begin, end);
        self
    }

    /// Along lines, not along half cosines.
    #[must_use]
    pub const fn linear(mut self) -> Self {
        self.is_linear = true;
        self
    }

    fn first(&self) -> f64 {
        self.peak / self.begin
    }

    fn last(&self) -> f64 {
        self.first() / self.end
    }

    /// From one rate to another, at a share of the way.
    fn way(&self, from: f64, to: f64, share: Tensor) -> Tensor {
        let done = if self.is_linear { share } else { (1.0 - (share * PI).cos()) * 0.5 };
        done * (to - from) + from
    }
}

impl Schedule for OneCycle {
    fn rate(&self, done: Tensor) -> Tensor {
        let last = f64::from(self.steps.max(1)) - 1.0;
        let top = (self.rise * f64::from(self.steps) - 1.0).clamp(0.0, last);
        // Steps from one place on, as a share of those up to another.
        let share = |from: f64, to: f64| ((done - from) / (to - from).max(1e-9)).clamp(0.0, 1.0);
        let (up, down) = (self.way(self.first(), self.peak, share(0.0, top)), self.way(self.peak, self.last(), share(top, last)));
        done.gt(top).where_(down, up)
    }

    fn check(&self) -> Vec<Diag> {
        let within = (0.0..=1.0).contains(&self.rise);
        let rise = refused("the share of steps that rise", self.rise, within, "at least 0 and at most 1");
        check_rates([self.peak, self.first(), self.last()]).into_iter().chain(rise).collect()
    }
}
