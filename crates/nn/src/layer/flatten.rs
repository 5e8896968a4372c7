//! Many axes to one, as a layer.

use graver_trace::{Module, Tensor, Walk};

use super::Layer;

/// An axis and all after it as one; by default all but the batch.
///
/// ```
/// use graver_nn::{Flatten, GlobalAvgPool2d, Sequential};
/// let head = Sequential::new().push(GlobalAvgPool2d).push(Flatten::default());
/// # assert_eq!(head.len(), 2);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Flatten {
    first: usize,
}

impl Default for Flatten {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Flatten {
    /// This axis and all after it.
    #[must_use]
    pub const fn new(first: usize) -> Self {
        Self { first }
    }

    /// The layer applied.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        x.flatten(self.first)
    }
}

impl Layer for Flatten {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}

impl Module for Flatten {
    fn visit(&self, _: &mut Walk<'_>) {}
}
