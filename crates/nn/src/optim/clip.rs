//! Derivatives made smaller before an optimiser sees them.

use graver_trace::{Diag, Grads, Tensor};

use super::common::refused;
use super::{Optimizer, Update};

/// An optimiser whose derivatives are scaled down together where their common norm exceeds a limit: `g * min(1, max / (norm + 1e-6))`,
/// as PyTorch's `clip_grad_norm_`. Pascanu, Mikolov and Bengio (2013), "On the difficulty of training recurrent neural networks".
#[derive(Clone, Copy, Debug)]
pub struct ClipNorm<O> {
    optimizer: O,
    max: f64,
}

/// An optimiser whose derivatives are cut off, element by element, at `-max` and `max`.
#[derive(Clone, Copy, Debug)]
pub struct ClipValue<O> {
    optimizer: O,
    max: f64,
}

macro_rules! clips {
    ($($name:ident $clip:ident;)*) => {$(
        impl<O: Optimizer> $name<O> {
            pub(super) const fn new(optimizer: O, max: f64) -> Self {
                Self { optimizer, max }
            }
        }

        impl<O: Optimizer> Optimizer for $name<O> {
            fn step(&self, p: &Update<'_>) -> Tensor {
                self.optimizer.step(p)
            }

            fn prepare(&self, grads: Grads) -> Grads {
                // The inner one first: what is written first is done first.
                $clip(self.optimizer.prepare(grads), self.max)
            }

            fn kind(&self, path: &str) -> Option<String> {
                self.optimizer.kind(path)
            }

            fn patterns(&self) -> Vec<String> {
                self.optimizer.patterns()
            }

            fn check(&self) -> Vec<Diag> {
                let own = refused("the greatest that clipping leaves", self.max, self.max > 0.0, "above 0");
                self.optimizer.check().into_iter().chain(own).collect()
            }
        }
    )*};
}

clips! {
    ClipNorm by_norm;
    ClipValue by_value;
}

fn by_norm(grads: Grads, max: f64) -> Grads {
    let norm = grads.norm();
    let factor = (norm.full_like(max) / (norm + 1e-6)).minimum(1.0);
    grads.map(|_, grad| grad * factor)
}

fn by_value(grads: Grads, max: f64) -> Grads {
    grads.map(|_, grad| grad.clamp(-max, max))
}
