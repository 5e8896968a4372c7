//! How often predictions are right.

use graver_ir::{Array, Diag};

use super::{classes, labels, outranks, ratio, scores};

/// The part of the predictions that are the label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    right: u64,
    all: u64,
}

impl Accuracy {
    /// Nothing counted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a batch.
    ///
    /// # Errors
    /// If predictions and labels do not fit: see the [module](super).
    pub fn update(&mut self, predicted: &Array, expected: &Array) -> Result<(), Diag> {
        let labels = labels("accuracy", expected)?;
        let predicted = classes("accuracy", predicted, expected)?;
        self.right += predicted.iter().zip(&labels).filter(|(x, y)| x == y).count() as u64;
        self.all += labels.len() as u64;
        Ok(())
    }

    /// From 0 to 1.
    #[must_use]
    pub fn compute(&self) -> Option<f64> {
        ratio(self.right, self.all)
    }
}

/// The part of the labels whose score is among the `k` greatest.
///
/// A label ranks behind every class with a greater score, and behind those of an equal one that come before it; NaN is
/// greater than numbers. With `k = 1` this is [`Accuracy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopK {
    k: usize,
    right: u64,
    all: u64,
}

impl TopK {
    /// Nothing counted.
    #[must_use]
    pub const fn new(k: usize) -> Self {
        Self { k, right: 0, all: 0 }
    }

    /// Counts a batch: float scores `[.., classes]` and labels `[..]`.
    ///
    /// # Errors
    /// If they do not fit, or a label is not one of the classes.
    pub fn update(&mut self, predicted: &Array, expected: &Array) -> Result<(), Diag> {
        if !predicted.dtype().is_float() {
            return Err(Diag::new(format!("takes scores of all classes as floats, got {}", predicted.ty())).op("top_k"));
        }
        let labels = labels("top_k", expected)?;
        let (scores, classes) = scores("top_k", predicted, expected)?;
        let mut right = 0;
        for ((place, label), row) in labels.iter().enumerate().zip(scores.chunks_exact(classes)) {
            let class = usize::try_from(*label).ok().filter(|class| *class < classes);
            let outside = || Diag::new(format!("label {place} is {label}, there are scores of {classes} classes")).op("top_k");
            let label = class.ok_or_else(outside)?;
            right += u64::from(rank(row, label) < self.k);
        }
        self.right += right;
        self.all += labels.len() as u64;
        Ok(())
    }

    /// From 0 to 1.
    #[must_use]
    pub fn compute(&self) -> Option<f64> {
        ratio(self.right, self.all)
    }
}

/// How many classes come before this one.
fn rank(scores: &[f64], class: usize) -> usize {
    let before = scores[..class].iter().filter(|other| !outranks(scores[class], **other)).count();
    before + scores[class + 1..].iter().filter(|other| outranks(**other, scores[class])).count()
}
