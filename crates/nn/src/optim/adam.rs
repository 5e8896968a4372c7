//! Adam, and Adam with decoupled weight decay.

use graver_trace::{Diag, Tensor};

use super::common::{Common, common_methods, is_size, refused};
use super::{Optimizer, Schedule, Update};

/// The moments' part of both.
#[derive(Clone, Copy, Debug)]
struct Moments {
    betas: [f64; 2],
    eps: f64,
}

impl Moments {
    const DEFAULT: Self = Self { betas: [0.9, 0.999], eps: 1e-8 };

    fn check(self) -> Vec<Diag> {
        let [first, second] = self.betas;
        let beta = |what: &str, beta: f64| refused(what, beta, (0.0..1.0).contains(&beta), "at least 0 and below 1");
        let eps = refused("`eps`", self.eps, is_size(self.eps), "a finite number of 0 or more");
        [beta("the first beta", first), beta("the second beta", second), eps].into_iter().flatten().collect()
    }

    /// `rate * m' / (sqrt(v') + eps)`, with the bias of both moments corrected in PyTorch's order of operations.
    #[track_caller]
    fn change(self, p: &Update<'_>, grad: Tensor, rate: Tensor) -> Tensor {
        let [beta1, beta2] = self.betas;
        let (m, v) = (p.slot("exp_avg"), p.slot("exp_avg_sq"));
        m.set(m.get() * beta1 + grad * (1.0 - beta1));
        v.set(v.get() * beta2 + grad.square() * (1.0 - beta2));
        let root = v.get().sqrt() / p.once("root of the second bias", || bias(p.t, beta2).sqrt());
        m.get() / (root + self.eps) * (rate / p.once("first bias", || bias(p.t, beta1)))
    }
}

/// `1 - beta^t`. By `expm1`, since `1 - 0.999` has lost half of an `f32`'s digits.
#[track_caller]
fn bias(t: Tensor, beta: f64) -> Tensor {
    -(t * beta.ln()).expm1()
}

macro_rules! adams {
    ($($name:ident $decay:literal $doc:literal;)*) => {$(
        #[doc = $doc]
        ///
        /// Slots: `exp_avg`, `exp_avg_sq`.
        ///
        /// ```
        #[doc = concat!("use graver_nn::", stringify!($name), ";")]
        #[doc = concat!("let adam = ", stringify!($name), "::new(1e-3).betas(0.9, 0.95).eps(1e-8).weight_decay(\"*.weight\", 0.1);")]
        /// # drop(adam);
        /// ```
        #[derive(Clone, Debug)]
        pub struct $name {
            common: Common,
            moments: Moments,
        }

        impl $name {
            /// With PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8,
            #[doc = concat!("and a weight decay of ", stringify!($decay), " for all parameters until the first [rule](Self::weight_decay).")]
            #[must_use]
            pub fn new(rate: impl Schedule + 'static) -> Self {
                Self { common: Common::new(rate).decay_all($decay), moments: Moments::DEFAULT }
            }

            /// The shares of the first and the second moment that are kept.
            #[must_use]
            pub const fn betas(mut self, first: f64, second: f64) -> Self {
                self.moments.betas = [first, second];
                self
            }

            /// What is added to the root of the second moment.
            #[must_use]
            pub const fn eps(mut self, eps: f64) -> Self {
                self.moments.eps = eps;
                self
            }
        }

        common_methods!($name);
    )*};
}

adams! {
    Adam 0.0 "Kingma and Ba (2015), \"Adam: a method for stochastic optimization\". Weight decay is a part of the derivative.";
    AdamW 0.01 "Loshchilov and Hutter (2019), \"Decoupled weight decay regularization\": Adam whose weight decay is `p *= 1 - rate * decay`.";
}

impl Optimizer for Adam {
    fn step(&self, p: &Update<'_>) -> Tensor {
        p.value - self.moments.change(p, self.common.penalised(p), self.common.rate_of(p))
    }

    fn kind(&self, path: &str) -> Option<String> {
        Some(self.common.kind(path))
    }

    fn patterns(&self) -> Vec<String> {
        self.common.patterns()
    }

    fn check(&self) -> Vec<Diag> {
        self.common.check().into_iter().chain(self.moments.check()).collect()
    }
}

impl Optimizer for AdamW {
    fn step(&self, p: &Update<'_>) -> Tensor {
        self.common.decayed(p) - self.moments.change(p, p.grad, self.common.rate_of(p))
    }

    fn kind(&self, path: &str) -> Option<String> {
        Some(self.common.kind(path))
    }

    fn patterns(&self) -> Vec<String> {
        self.common.patterns()
    }

    fn check(&self) -> Vec<Diag> {
        self.common.check().into_iter().chain(self.moments.check()).collect()
    }
}
