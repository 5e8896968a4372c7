//! Images of another size, as a layer without parameters.

use graver_trace::{Interpolation, Module, Pair, Tensor, Walk};

use super::Layer;

/// Images `[.., h, w]` so many times as high and as wide.
///
/// ```
/// use graver_nn::{Sequential, Upsample};
/// use graver_trace::Interpolation;
/// let net = Sequential::new().push(Upsample::new(2)).push(Upsample::new((1, 3)).by(Interpolation::Bilinear));
/// assert_eq!(net.len(), 2);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Upsample {
    times: [i64; 2],
    how: Interpolation,
}

impl Upsample {
    /// By these factors; elements are the nearest.
    #[must_use]
    pub fn new(times: impl Into<Pair>) -> Self {
        Self { times: times.into().get(), how: Interpolation::Nearest }
    }

    /// How elements between elements are made.
    #[must_use]
    pub const fn by(mut self, how: Interpolation) -> Self {
        self.how = how;
        self
    }

    /// The layer applied to `[.., h, w]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        let [rows, columns] = self.times;
        x.interpolate((x.dim(-2) * rows, x.dim(-1) * columns), self.how)
    }
}

impl Layer for Upsample {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}

impl Module for Upsample {
    fn visit(&self, _: &mut Walk<'_>) {}
}
