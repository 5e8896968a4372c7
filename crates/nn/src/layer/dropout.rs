//! Dropout.

use graver_trace::{Module, Tensor, Walk};

use super::Layer;

/// In training each element is 0 with a probability, else divided by the rest of it; in evaluation nothing happens.
///
/// Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting", inverted. Masks are Philox
/// bits of the state's key: other ones in each step, the same on every backend, recomputed rather than kept.
///
/// ```
/// let dropout = graver_nn::Dropout::new(0.1);
/// assert_eq!(dropout.probability(), 0.1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    probability: f64,
}

impl Dropout {
    /// Elements vanish with this probability; one outside of `0..=1` is an error of tracing.
    #[must_use]
    pub const fn new(probability: f64) -> Self {
        Self { probability }
    }

    /// With which probability an element vanishes.
    #[must_use]
    pub const fn probability(self) -> f64 {
        self.probability
    }

    /// The layer applied to any floats.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        x.dropout(self.probability)
    }
}

impl Layer for Dropout {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}

impl Module for Dropout {
    fn visit(&self, _: &mut Walk<'_>) {}
}
