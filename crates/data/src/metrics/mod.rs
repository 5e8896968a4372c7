//! Metrics, fed batch by batch: `update` takes what a model gave and what was right, `compute` gives the value of all so far.
//!
//! They hold counts and sums, not samples, and an `update` that fails changes nothing. Before anything was counted there is no value: `None`.
//!
//! **Predictions** of classes are integers of the labels' shape, or float scores (logits or probabilities) with one more axis,
//! the last, over the classes; the class of the greatest score is predicted, the first of equals, and NaN counts as greatest,
//! as [`graver_ir::Op::ArgReduce`] has it. **Labels** are integers from 0.
//!
//! ```
//! use graver_data::metrics::{Accuracy, Average, ConfusionMatrix};
//! use graver_ir::Array;
//! let logits = Array::from_vec([3, 2], vec![0.1f32, 0.9, 2.0, -1.0, 0.3, 0.7])?;
//! let labels = Array::from_vec([3], vec![1i64, 0, 0])?;
//! let mut accuracy = Accuracy::new();
//! accuracy.update(&logits, &labels)?;
//! assert_eq!(accuracy.compute(), Some(2.0 / 3.0));
//! let mut matrix = ConfusionMatrix::new(2)?;
//! matrix.update(&logits, &labels)?;
//! assert_eq!(matrix.f1(Average::Macro), Some(2.0 / 3.0));
//! # Ok::<(), graver_ir::Diag>(())
//! ```

mod accuracy;
mod confusion;
mod mean;
mod regression;

use graver_ir::{Array, Diag};

pub use accuracy::{Accuracy, TopK};
pub use confusion::{Average, ConfusionMatrix};
pub use mean::{Mean, RunningMean};
pub use regression::Regression;

/// Labels as numbers.
fn labels(op: &str, labels: &Array) -> Result<Vec<i64>, Diag> {
    if !labels.dtype().is_int() {
        return Err(Diag::new(format!("labels are integers, got {}", labels.ty())).op(op));
    }
    labels.fetch()?;
    Ok((0..labels.numel()).map(|position| labels.get(position).as_i64()).collect())
}

/// Scores `[.., classes]` as rows of one length, as many as there are labels.
fn scores(op: &str, predicted: &Array, labels: &Array) -> Result<(Vec<f64>, usize), Diag> {
    match predicted.shape() {
        [before @ .., classes] if before == labels.shape() && *classes > 0 => Ok((predicted.fetch()?.to_f64(), *classes)),
        _ => Err(differ(op, predicted, labels)),
    }
}

/// The predicted class of every label.
fn classes(op: &str, predicted: &Array, labels: &Array) -> Result<Vec<i64>, Diag> {
    if predicted.dtype().is_float() {
        let (scores, classes) = scores(op, predicted, labels)?;
        return Ok(scores.chunks_exact(classes).map(greatest).collect());
    }
    if predicted.shape() != labels.shape() {
        return Err(differ(op, predicted, labels));
    }
    self::labels(op, predicted)
}

/// The place of the greatest score.
fn greatest(scores: &[f64]) -> i64 {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate().skip(1) {
        if outranks(*score, scores[best]) {
            best = place;
        }
    }
    i64::try_from(best).expect("fewer than 2^63 classes")
}

/// Whether a later score is greater than one before it; NaN is greatest, the first of them.
fn outranks(score: f64, other: f64) -> bool {
    score > other || score.is_nan() && !other.is_nan()
}

fn differ(op: &str, predicted: &Array, labels: &Array) -> Diag {
    Diag::new(format!("predictions {} do not fit labels {}", predicted.ty(), labels.ty()))
        .op(op)
        .help("integers of the labels' shape, or floats with one more axis, the last, over the classes")
}

/// The quotient, if there is something to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact")]
fn ratio(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}
