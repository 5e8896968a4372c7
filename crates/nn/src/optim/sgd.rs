//! Stochastic gradient descent.

use graver_trace::{Diag, Tensor};

use super::common::{Common, common_methods, is_size, refused};
use super::{Optimizer, Schedule, Update};

/// Stochastic gradient descent with momentum, as PyTorch's `SGD`: `b = momentum * b + (1 - dampening) * g` (the first step:
/// `b = g`), `p -= rate * b`. Slot: `momentum`.
///
/// ```
/// use graver_nn::Sgd;
/// let sgd = Sgd::new(0.1).momentum(0.9).nesterov().weight_decay("*.weight", 5e-4);
/// # drop(sgd);
/// ```
#[derive(Clone, Debug)]
pub struct Sgd {
    common: Common,
    momentum: f64,
    dampening: f64,
    nesterov: bool,
}

impl Sgd {
    /// Without momentum and weight decay.
    #[must_use]
    pub fn new(rate: impl Schedule + 'static) -> Self {
        Self { common: Common::new(rate), momentum: 0.0, dampening: 0.0, nesterov: false }
    }

    /// The share of the last direction that is kept.
    #[must_use]
    pub const fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// The share of the derivative that momentum does not take.
    #[must_use]
    pub const fn dampening(mut self, dampening: f64) -> Self {
        self.dampening = dampening;
        self
    }

    /// Looks ahead: `p -= rate * (g + momentum * b)`. Sutskever et al. (2013), "On the importance of initialization and momentum".
    #[must_use]
    pub const fn nesterov(mut self) -> Self {
        self.nesterov = true;
        self
    }

    /// The direction of a step.
    #[track_caller]
    fn direction(&self, p: &Update<'_>) -> Tensor {
        let grad = self.common.penalised(p);
        if self.momentum == 0.0 {
            return grad;
        }
        let cell = p.slot("momentum");
        let next = cell.get() * self.momentum + self.damped(p, grad);
        cell.set(next);
        if self.nesterov { grad + next * self.momentum } else { next }
    }

    /// The derivative's part in the momentum; the first step takes it whole.
    #[track_caller]
    fn damped(&self, p: &Update<'_>, grad: Tensor) -> Tensor {
        if self.dampening == 0.0 {
            return grad;
        }
        let one = p.t.full_like(1.0);
        grad * p.t.eq(1.0).where_(one, 1.0 - self.dampening)
    }
}

impl Optimizer for Sgd {
    fn step(&self, p: &Update<'_>) -> Tensor {
        p.value - self.direction(p) * self.common.rate_of(p)
    }

    fn kind(&self, path: &str) -> Option<String> {
        Some(self.common.kind(path))
    }

    fn patterns(&self) -> Vec<String> {
        self.common.patterns()
    }

    fn check(&self) -> Vec<Diag> {
        let own = [
            refused("the momentum", self.momentum, is_size(self.momentum), "a finite number of 0 or more"),
            refused("the dampening", self.dampening, self.dampening.is_finite(), "finite"),
        ];
        self.common.check().into_iter().chain(own.into_iter().flatten()).collect()
    }
}

common_methods!(Sgd);
