//! Batch normalisation with running statistics.

use graver_trace::{Array, Buffer, Diag, Module, Param, Size, Tensor, enter, fail, size_value, training};

use super::Layer;
use crate::init::{Fill, Init};

macro_rules! batch_norms {
    ($($name:ident $ranks:tt $doc:literal;)*) => {$(
        #[doc = $doc]
        ///
        /// Ioffe and Szegedy (2015), "Batch normalization". In training the batch's mean and variance are used, and the running
        /// ones move towards them (by the unbiased variance, as in PyTorch); in evaluation the running ones are used.
        ///
        /// Parameters: `weight: [features]`, `bias: [features]`; buffers: `running_mean: [features]`,
        /// `running_var: [features]`, `num_batches_tracked: i64[]`.
        ///
        /// ```
        #[doc = concat!("use graver_nn::{", stringify!($name), ", Init};")]
        #[doc = concat!("let norm = ", stringify!($name), "::new(16).momentum(0.01).init(&mut Init::seed(0));")]
        /// assert_eq!(norm.running_var.value().to_f64(), [1.0; 16]);
        /// ```
        #[derive(Debug, Module)]
        pub struct $name {
            /// `[features]`
            pub weight: Param,
            /// `[features]`
            pub bias: Param,
            /// `[features]`
            pub running_mean: Buffer,
            /// `[features]`
            pub running_var: Buffer,
            /// How many batches the running statistics have seen.
            pub num_batches_tracked: Buffer,
            #[module(skip)]
            momentum: f64,
            #[module(skip)]
            eps: f64,
        }

        impl $name {
            /// Over so many features, the second axis.
            pub const fn new(features: usize) -> BatchNormOptions<Self> {
                BatchNormOptions { features, momentum: 0.1, eps: 1e-5, layer: std::marker::PhantomData }
            }

            /// The layer applied.
            #[must_use]
            #[track_caller]
            pub fn forward(&self, x: Tensor) -> Tensor {
                let _scope = enter(self, crate::SOURCES);
                if !$ranks.contains(&x.rank()) {
                    return fail(Diag::new(format!("takes a rank of {:?}, got {}", $ranks, x.rank())).op(stringify!($name)));
                }
                if !training() {
                    return x.batch_norm_with(&self.running_mean, &self.running_var, &self.weight, &self.bias, self.eps);
                }
                let (y, mean, variance) = x.batch_norm(&self.weight, &self.bias, self.eps);
                let count = count(x);
                follow(&self.running_mean, mean, &count, self.momentum);
                follow(&self.running_var, unbiased(variance, &count), &count, self.momentum);
                self.num_batches_tracked.set(self.num_batches_tracked.get() + 1);
                y
            }
        }

        impl BatchNormOptions<$name> {
            /// The layer with weights 1, biases 0, and running statistics of mean 0 and variance 1.
            pub fn init(self, init: &mut Init) -> $name {
                let [weight, bias] = [1.0, 0.0].map(|value| init.param(Fill::Constant(value), [self.features]));
                let [running_mean, running_var] =
                    [0.0, 1.0].map(|value| Buffer::new(init.array(Fill::Constant(value), [self.features])));
                $name {
                    weight,
                    bias,
                    running_mean,
                    running_var,
                    num_batches_tracked: Buffer::new(Array::scalar(0i64)),
                    momentum: self.momentum,
                    eps: self.eps,
                }
            }
        }

        impl Layer for $name {
            #[track_caller]
            fn forward(&self, x: Tensor) -> Tensor {
                self.forward(x)
            }
        }
    )*};
}

batch_norms! {
    BatchNorm1d [2, 3] "Features `[n, features]` or `[n, features, length]` brought to mean 0 and variance 1 over all other axes.";
    BatchNorm2d [4] "Features of images `[n, features, h, w]` brought to mean 0 and variance 1 over all other axes.";
}

/// What a batch normalisation is before it has values.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BatchNormOptions<L> {
    features: usize,
    momentum: f64,
    eps: f64,
    layer: std::marker::PhantomData<fn() -> L>,
}

impl<L> BatchNormOptions<L> {
    /// The share of the newest batch in the running statistics: 0.1 by default.
    pub const fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// What is added to variances: 1e-5 by default.
    pub const fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }
}

/// The elements of one feature.
fn count(x: Tensor) -> Size {
    let others = x.shape().into_iter().enumerate().filter(|(axis, _)| *axis != 1);
    others.fold(Size::from(1), |count, (_, size)| count * size)
}

/// The variance with one taken off the count of elements, which stays 1 for a single one.
#[track_caller]
fn unbiased(variance: Tensor, count: &Size) -> Tensor {
    let dtype = variance.dtype();
    // As a wider float: the count itself may be beyond the 16-bit ones.
    let [count, less] = [*count, (*count - 1).max(1)].map(|size| size_value(size).cast(dtype.compute()));
    variance * (count / less).cast(dtype)
}

/// The running statistic moved towards the batch's; as it was where the batch is empty and has none.
#[track_caller]
fn follow(running: &Buffer, batch: Tensor, count: &Size, momentum: f64) {
    let before = running.get();
    let after = before * (1.0 - momentum) + batch * momentum;
    running.set(size_value(*count).eq(0).where_(before, after));
}
