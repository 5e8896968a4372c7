//! Transforms of values: conversion, scale, standardisation.

use graver_ir::{Array, DType, Diag};

use super::{Transform, check_float, from_f64};
use crate::dataset::Dataset;
use crate::item::Fields;
use crate::key::Key;

/// Every element as `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToF32;

impl Transform for ToF32 {
    fn apply(&self, x: Array, _key: Key) -> Result<Array, Diag> {
        Ok(x.cast(DType::F32))
    }
}

/// Every element of a float array times a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale(
    /// The number.
    pub f64,
);

impl Transform for Scale {
    fn apply(&self, x: Array, _key: Key) -> Result<Array, Diag> {
        check_float("scale", &x)?;
        let scaled: Vec<f64> = x.to_f64().into_iter().map(|x| x * self.0).collect();
        Ok(from_f64(x.dtype(), x.shape(), &scaled))
    }
}

/// `(x - mean) / std` of a float array: one mean for all elements, or one for each position of the first axis (channels
/// of an image, columns of a table).
///
/// ```
/// use graver_data::{Dataset, InMemory, Standardise};
/// use graver_ir::Array;
/// let x = Array::from_vec([2, 2], vec![1.0f32, 10.0, 3.0, 30.0])?;
/// let data = InMemory::new(x)?;
/// let standardise = Standardise::fit(&data)?;
/// let first = data.transform(standardise).get(0)?;
/// assert_eq!(first.to_f64(), [-1.0, -1.0]);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Standardise {
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Standardise {
    /// One mean and standard deviation, or one of each for every position of the first axis.
    ///
    /// # Errors
    /// If there are none or not as many of both, or a deviation is not positive, or a number is not finite.
    pub fn new(mean: Vec<f64>, std: Vec<f64>) -> Result<Self, Diag> {
        let finite = mean.iter().chain(&std).all(|x| x.is_finite()) && std.iter().all(|x| *x > 0.0);
        if mean.is_empty() || mean.len() != std.len() || !finite {
            let message = format!("takes as many means as deviations, finite, deviations above 0; got {mean:?} and {std:?}");
            return Err(Diag::new(message).op("standardise"));
        }
        Ok(Self { mean, std })
    }

    /// The mean and standard deviation of the first arrays of a dataset's items, at each position of their first axis (of
    /// all values if they have none). As scikit-learn's `StandardScaler`: divided by the count, and 1 where nothing varies.
    ///
    /// # Errors
    /// If there are no items, an item cannot be read, items differ in shape, or a value is not finite.
    pub fn fit<D>(data: &D) -> Result<Self, Diag>
    where
        D: Dataset + ?Sized,
        D::Item: Fields,
    {
        let mut moments: Vec<Moments> = Vec::new();
        for index in 0..data.len() {
            let mut item = data.get(index)?;
            let fields = item.fields();
            let x = fields.first().ok_or_else(|| Diag::new("items have no array").op("standardise"))?;
            let channels = x.shape().first().copied().unwrap_or(1);
            if index == 0 {
                moments.resize(channels, Moments::default());
            }
            if channels != moments.len() {
                let message = format!("item 0 has {} positions on its first axis, item {index} is {}", moments.len(), x.ty());
                return Err(Diag::new(message).op("standardise"));
            }
            let values = x.to_f64();
            let plane = (values.len() / channels.max(1)).max(1);
            values.chunks(plane).zip(&mut moments).for_each(|(plane, moments)| plane.iter().for_each(|x| moments.push(*x)));
        }
        let deviation = |moments: &Moments| if moments.squares > 0.0 { (moments.squares / moments.count).sqrt() } else { 1.0 };
        Self::new(moments.iter().map(|moments| moments.mean).collect(), moments.iter().map(deviation).collect())
            .map_err(|diag| diag.help("the dataset must have items, and finite values"))
    }

    /// The means.
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The standard deviations.
    #[must_use]
    pub fn std(&self) -> &[f64] {
        &self.std
    }
}

impl Transform for Standardise {
    fn apply(&self, x: Array, _key: Key) -> Result<Array, Diag> {
        check_float("standardise", &x)?;
        let channels = self.mean.len();
        if channels > 1 && x.shape().first() != Some(&channels) {
            let message = format!("takes arrays with a first axis of {channels}, got {}", x.ty());
            return Err(Diag::new(message).op("standardise"));
        }
        let plane = (x.numel() / channels).max(1);
        let standard = |(position, x): (usize, f64)| (x - self.mean[position / plane]) / self.std[position / plane];
        let values: Vec<f64> = x.to_f64().into_iter().enumerate().map(standard).collect();
        Ok(from_f64(x.dtype(), x.shape(), &values))
    }
}

/// Count, mean and sum of squared deviations (Welford, 1962, "Note on a method for calculating corrected sums of squares").
#[derive(Clone, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn push(&mut self, x: f64) {
        self.count += 1.0;
        let before = x - self.mean;
        self.mean += before / self.count;
        self.squares += before * (x - self.mean);
    }
}
