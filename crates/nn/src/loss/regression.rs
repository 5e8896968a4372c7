//! Losses of numbers against numbers.

use graver_trace::{Diag, Tensor};

use super::{Reduction, alike, checked};

/// `(x - target)^2`.
#[must_use]
#[track_caller]
pub fn mse(x: Tensor, target: Tensor, reduction: Reduction) -> Tensor {
    checked!("mse", alike(x, target), reduction.of((x - target).square()))
}

/// `|x - target|`. The derivative at 0 is 0.
#[must_use]
#[track_caller]
pub fn l1(x: Tensor, target: Tensor, reduction: Reduction) -> Tensor {
    checked!("l1", alike(x, target), reduction.of((x - target).abs()))
}

/// Half the square below `delta`, beyond it the line that continues it: Huber (1964), "Robust estimation of a location parameter".
#[must_use]
#[track_caller]
pub fn huber(x: Tensor, target: Tensor, delta: f64, reduction: Reduction) -> Tensor {
    let check = positive("delta", delta).and_then(|()| alike(x, target));
    checked!("huber", check, reduction.of(robust(x - target, delta)))
}

/// [`huber`] divided by `beta`: PyTorch's `smooth_l1_loss`.
#[must_use]
#[track_caller]
pub fn smooth_l1(x: Tensor, target: Tensor, beta: f64, reduction: Reduction) -> Tensor {
    let check = positive("beta", beta).and_then(|()| alike(x, target));
    checked!("smooth_l1", check, reduction.of(robust(x - target, beta) / beta))
}

fn positive(what: &str, value: f64) -> Result<(), Diag> {
    if value > 0.0 { Ok(()) } else { Err(Diag::new(format!("{what} must be above 0, got {value}"))) }
}

/// With `z = min(|e|, delta)`: `z * (|e| - z / 2)`, which needs no branch and has the right derivative everywhere.
#[track_caller]
fn robust(error: Tensor, delta: f64) -> Tensor {
    let size = error.abs();
    let near = size.minimum(delta);
    near * (size - near * 0.5)
}
