//! Pooling over images, as layers without parameters.

use graver_trace::{Module, Pool2d, Tensor, Walk};

use super::Layer;

/// The greatest of every window over the last two axes. Equal ones: the first gets the gradient, as in PyTorch.
///
/// ```
/// use graver_nn::{MaxPool2d, Sequential};
/// use graver_trace::Pool2d;
/// let net = Sequential::new().push(MaxPool2d::new(2)).push(MaxPool2d::new(Pool2d::new(3).stride(2).padding(1)));
/// assert_eq!(net.len(), 2);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d(Pool2d);

/// The mean of every window over the last two axes, padding counted as zeros.
#[derive(Clone, Copy, Debug)]
pub struct AvgPool2d(Pool2d);

/// The mean over the last two axes: `[n, c, h, w]` to `[n, c]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalAvgPool2d;

macro_rules! pools {
    ($($name:ident $method:ident)*) => {$(
        impl $name {
            /// Windows of this side without overlap, or a [`Pool2d`].
            #[must_use]
            pub fn new(pool: impl Into<Pool2d>) -> Self {
                Self(pool.into())
            }

            /// The layer applied to `[.., h, w]`.
            #[must_use]
            #[track_caller]
            pub fn forward(&self, x: Tensor) -> Tensor {
                x.$method(self.0)
            }
        }

        impl Layer for $name {
            #[track_caller]
            fn forward(&self, x: Tensor) -> Tensor {
                self.forward(x)
            }
        }

        impl Module for $name {
            fn visit(&self, _: &mut Walk<'_>) {}
        }
    )*};
}

pools! {
    MaxPool2d max_pool2d
    AvgPool2d avg_pool2d
}

impl GlobalAvgPool2d {
    /// The layer applied to `[n, c, h, w]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        x.mean([-2, -1])
    }
}

impl Layer for GlobalAvgPool2d {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}

impl Module for GlobalAvgPool2d {
    fn visit(&self, _: &mut Walk<'_>) {}
}
