//! Losses of distributions: over classes, of two outcomes, against each other.

use graver_trace::{Diag, Tensor};

use super::{Reduction, alike, checked, text};

/// The cross-entropy of the softmax of rows `[.., classes]` with integer labels `[..]`, with options.
///
/// A label out of range, other than the ignored one, is an error of the call.
///
/// ```
/// use graver_nn::loss::{CrossEntropy, Reduction};
/// use graver_trace::{spec, trace};
/// let loss = CrossEntropy::new().label_smoothing(0.1).ignore_index(-100);
/// let traced = trace(|(x, y)| loss.of(x, y), (spec::<f32>(("n", 10)), spec::<i64>(["n"])))?;
/// # drop(traced);
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy {
    smoothing: f64,
    ignored: Option<i64>,
    reduction: Reduction,
}

impl CrossEntropy {
    /// No smoothing, no label ignored, the mean over rows.
    #[must_use]
    pub const fn new() -> Self {
        Self { smoothing: 0.0, ignored: None, reduction: Reduction::Mean }
    }

    /// The share of the target that is spread evenly over all classes: Szegedy et al. (2016), "Rethinking the Inception architecture".
    #[must_use]
    pub const fn label_smoothing(mut self, share: f64) -> Self {
        self.smoothing = share;
        self
    }

    /// Rows of this label have no loss, and do not count in the mean, which is NaN if there are no others. PyTorch's is -100.
    #[must_use]
    pub const fn ignore_index(mut self, label: i64) -> Self {
        self.ignored = Some(label);
        self
    }

    /// What becomes of the losses of rows.
    #[must_use]
    pub const fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The loss of `logits: [.., classes]` and `labels: [..]`.
    #[must_use]
    #[track_caller]
    pub fn of(&self, logits: Tensor, labels: Tensor) -> Tensor {
        let plain = self.smoothing == 0.0 && self.ignored.is_none() && self.reduction == Reduction::Mean;
        if plain {
            logits.cross_entropy(labels)
        } else {
            checked!("cross_entropy", self.check(logits, labels), self.general(logits, labels))
        }
    }

    #[track_caller]
    fn check(&self, logits: Tensor, labels: Tensor) -> Result<(), Diag> {
        if (0.0..=1.0).contains(&self.smoothing) {
            check_labels(logits, labels)
        } else {
            Err(Diag::new(format!("the share of label smoothing must be in 0..=1, got {}", self.smoothing)))
        }
    }

    #[track_caller]
    fn general(&self, logits: Tensor, labels: Tensor) -> Tensor {
        let logp = logits.log_softmax(-1);
        let Some(ignored) = self.ignored else { return self.reduction.of(self.rows(logp, labels)) };
        let kept = labels.ne(ignored);
        // An ignored label may be no class at all: the row of class 0 is looked up and dropped.
        let losses = self.rows(logp, kept.where_(labels, 0));
        self.reduce_kept(kept.where_(losses, 0), kept)
    }

    /// The loss of every row.
    #[track_caller]
    fn rows(&self, logp: Tensor, labels: Tensor) -> Tensor {
        let hard = -pick(logp, labels);
        if self.smoothing == 0.0 { hard } else { hard * (1.0 - self.smoothing) - logp.mean(-1) * self.smoothing }
    }

    #[track_caller]
    fn reduce_kept(&self, losses: Tensor, kept: Tensor) -> Tensor {
        match self.reduction {
            Reduction::Mean => losses.sum(..) / kept.cast(losses.dtype()).sum(..),
            Reduction::Sum | Reduction::None => self.reduction.of(losses),
        }
    }
}

/// The element of each row at its label.
#[track_caller]
fn pick(rows: Tensor, labels: Tensor) -> Tensor {
    rows.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
}

#[track_caller]
fn check_labels(rows: Tensor, labels: Tensor) -> Result<(), Diag> {
    let (shape, labelled) = (rows.shape(), labels.shape());
    let fits = rows.dtype().is_float() && labels.dtype().is_int() && shape.len() == labelled.len() + 1;
    if fits && shape.iter().zip(&labelled).all(|(rows, labels)| rows == labels) {
        return Ok(());
    }
    Err(Diag::new(format!(
        "takes floats [.., classes] and an integer label for each row, got {} and {}",
        text(rows),
        text(labels)
    )))
}

/// The cross-entropy of the softmax of rows `[.., classes]` with rows of probabilities.
#[must_use]
#[track_caller]
pub fn soft_cross_entropy(logits: Tensor, probabilities: Tensor, reduction: Reduction) -> Tensor {
    let check = alike(logits, probabilities);
    checked!("soft_cross_entropy", check, reduction.of(-(logits.log_softmax(-1) * probabilities).sum(-1)))
}

/// Minus the log-probability at the label of each row `[.., classes]`.
#[must_use]
#[track_caller]
pub fn nll(log_probabilities: Tensor, labels: Tensor, reduction: Reduction) -> Tensor {
    checked!("nll", check_labels(log_probabilities, labels), reduction.of(-pick(log_probabilities, labels)))
}

/// The binary cross-entropy of `sigmoid(x)` with targets in `0..=1`: `max(x, 0) - x * target + log(1 + e^-|x|)`, which overflows nowhere.
#[must_use]
#[track_caller]
pub fn bce_with_logits(x: Tensor, target: Tensor, reduction: Reduction) -> Tensor {
    checked!("bce_with_logits", alike(x, target), reduction.of(x.relu() - x * target + (-x.abs()).exp().log1p()))
}

/// The divergence of Kullback and Leibler of a distribution from one given by logarithms: `target * (log(target) - log_q)`,
/// 0 where the target is. [`Reduction::Mean`] is the mean of the sums over the last axis (PyTorch's `batchmean`),
/// which is the divergence; PyTorch's own `mean` is not.
#[must_use]
#[track_caller]
pub fn kl_div(log_q: Tensor, target: Tensor, reduction: Reduction) -> Tensor {
    checked!("kl_div", alike(log_q, target), divergence(log_q, target, reduction))
}

#[track_caller]
fn divergence(log_q: Tensor, target: Tensor, reduction: Reduction) -> Tensor {
    let some = target.gt(0);
    // The logarithm of 0 must not be taken: its derivative would be 0 * inf.
    let losses = some.where_(target * (some.where_(target, 1).log() - log_q), 0);
    match reduction {
        Reduction::Mean => losses.sum(-1).mean(..),
        Reduction::Sum | Reduction::None => reduction.of(losses),
    }
}
