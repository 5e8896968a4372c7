//! Averages of numbers: of an epoch's losses, and of the last while.

/// The mean of all values, each with a weight: a loss, weighted by the rows of its batch.
///
/// ```
/// use graver_data::metrics::Mean;
/// let mut loss = Mean::new();
/// loss.update(1.0, 32.0);
/// loss.update(4.0, 16.0);
/// assert_eq!(loss.compute(), Some(2.0));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mean {
    mean: f64,
    weight: f64,
}

impl Mean {
    /// Nothing counted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value. A weight that is not above 0 counts nothing; a value that is not finite makes the mean so.
    pub fn update(&mut self, value: f64, weight: f64) {
        if weight > 0.0 {
            self.weight += weight;
            // In this form the mean of equal values is that value, and nothing overflows that fits.
            self.mean += (value - self.mean) * (weight / self.weight);
        }
    }

    /// The mean.
    #[must_use]
    pub fn compute(&self) -> Option<f64> {
        (self.weight > 0.0).then_some(self.mean)
    }
}

/// An average in which values fade: each update counts `1 - decay`, what was before `decay`. Corrected for its start, as the
/// moments of Adam are (Kingma and Ba, 2015), so that the first value is the first average.
///
/// ```
/// use graver_data::metrics::RunningMean;
/// let mut loss = RunningMean::new(0.5);
/// loss.update(4.0);
/// assert_eq!(loss.compute(), Some(4.0));
/// loss.update(1.0);
/// assert_eq!(loss.compute(), Some(2.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RunningMean {
    decay: f64,
    sum: f64,
    weight: f64,
}

impl RunningMean {
    /// Nothing counted. `decay` is clamped to 0 (the last value alone) .. 1 (which counts nothing).
    #[must_use]
    pub fn new(decay: f64) -> Self {
        Self { decay: decay.clamp(0.0, 1.0), sum: 0.0, weight: 0.0 }
    }

    /// Counts a value.
    pub fn update(&mut self, value: f64) {
        self.sum = self.decay * self.sum + (1.0 - self.decay) * value;
        self.weight = self.decay * self.weight + (1.0 - self.decay);
    }

    /// The average.
    #[must_use]
    pub fn compute(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}
