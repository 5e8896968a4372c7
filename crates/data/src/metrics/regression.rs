//! How near predicted numbers are.

use graver_ir::{Array, Diag};

/// Mean squared error, mean absolute error and the coefficient of determination over all elements.
///
/// ```
/// use graver_data::metrics::Regression;
/// use graver_ir::Array;
/// let mut metric = Regression::new();
/// metric.update(&Array::from_vec([4], vec![2.5f32, 0.0, 2.0, 8.0])?, &Array::from_vec([4], vec![3.0f32, -0.5, 2.0, 7.0])?)?;
/// assert_eq!((metric.mse(), metric.mae()), (Some(0.375), Some(0.5)));
/// assert!((metric.r2().unwrap() - 0.948_608).abs() < 1e-6);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Regression {
    count: f64,
    squared: f64,
    absolute: f64,
    mean: f64,
    /// The sum of squared deviations of the targets from their mean.
    spread: f64,
}

impl Regression {
    /// Nothing counted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a batch: numbers of one shape.
    ///
    /// # Errors
    /// If shapes differ, or one holds no numbers; as [`Array::fetch`].
    pub fn update(&mut self, predicted: &Array, expected: &Array) -> Result<(), Diag> {
        let numbers = [predicted, expected].iter().all(|array| array.dtype().is_float() || array.dtype().is_int());
        if predicted.shape() != expected.shape() || !numbers {
            let message = format!("takes numbers of one shape, got {} and {}", predicted.ty(), expected.ty());
            return Err(Diag::new(message).op("regression").help("reshape one: [n, 1] and [n] differ"));
        }
        predicted.fetch()?.to_f64().into_iter().zip(expected.fetch()?.to_f64()).for_each(|(x, y)| self.push(x, y));
        Ok(())
    }

    fn push(&mut self, predicted: f64, expected: f64) {
        let error = predicted - expected;
        self.count += 1.0;
        self.squared += error * error;
        self.absolute += error.abs();
        // Welford, 1962, "Note on a method for calculating corrected sums of squares".
        let before = expected - self.mean;
        self.mean += before / self.count;
        self.spread += before * (expected - self.mean);
    }

    /// The mean squared error.
    #[must_use]
    pub fn mse(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.squared / self.count)
    }

    /// The mean absolute error.
    #[must_use]
    pub fn mae(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.absolute / self.count)
    }

    /// The coefficient of determination: 1 less the squared error over that of the targets' mean. Needs two elements. Of
    /// targets that are all equal 1 if nothing is wrong and 0 else, as scikit-learn's `r2_score`.
    #[must_use]
    pub fn r2(&self) -> Option<f64> {
        let value = match (self.spread == 0.0, self.squared == 0.0) {
            (true, true) => 1.0,
            (true, false) => 0.0,
            (false, _) => 1.0 - self.squared / self.spread,
        };
        (self.count >= 2.0).then_some(value)
    }
}
