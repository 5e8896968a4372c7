//! What optimisers share: a learning rate, and weight decay and rates by path.

use std::fmt;
use std::rc::Rc;

use graver_trace::{Diag, Tensor};

use super::{Rules, Schedule, Update};

/// The learning rate, and numbers by path.
#[derive(Clone)]
pub(super) struct Common {
    rate: Rc<dyn Schedule>,
    scale: Rules,
    decay: Rules,
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").field("scale", &self.scale).field("decay", &self.decay).finish_non_exhaustive()
    }
}

impl Common {
    pub(super) fn new(rate: impl Schedule + 'static) -> Self {
        Self { rate: Rc::new(rate), scale: Rules::new(1.0), decay: Rules::new(0.0) }
    }

    pub(super) fn decay_all(mut self, decay: f64) -> Self {
        self.decay = Rules::new(decay);
        self
    }

    /// The first rule takes the place of a default for all.
    pub(super) fn decay(mut self, pattern: &str, decay: f64) -> Self {
        if self.decay.patterns().next().is_none() {
            self.decay = Rules::new(0.0);
        }
        self.decay = self.decay.with(pattern, decay);
        self
    }

    pub(super) fn scale(mut self, pattern: &str, scale: f64) -> Self {
        self.scale = self.scale.with(pattern, scale);
        self
    }

    /// The learning rate of a parameter in this step.
    #[track_caller]
    pub(super) fn rate_of(&self, p: &Update<'_>) -> Tensor {
        let rate = || p.once("rate", || self.rate.rate(p.done()));
        match self.scale.at(p.path) {
            1.0 => rate(),
            scale => p.once(&format!("rate * {scale}"), || rate() * scale),
        }
    }

    /// The value without what decoupled decay takes away.
    #[track_caller]
    pub(super) fn decayed(&self, p: &Update<'_>) -> Tensor {
        match self.decay.at(p.path) {
            0.0 => p.value,
            decay => {
                let scale = self.scale.at(p.path);
                p.value * p.once(&format!("1 - rate * {scale} * {decay}"), || 1.0 - self.rate_of(p) * decay)
            }
        }
    }

    /// The derivative with the decay's part in it: an L2 penalty.
    #[track_caller]
    pub(super) fn penalised(&self, p: &Update<'_>) -> Tensor {
        match self.decay.at(p.path) {
            0.0 => p.grad,
            decay => p.grad + p.value * decay,
        }
    }

    /// What the rules say of a path.
    pub(super) fn kind(&self, path: &str) -> String {
        format!("rate * {}, decay {}", self.scale.at(path), self.decay.at(path))
    }

    /// What is wrong with the numbers.
    pub(super) fn check(&self) -> Vec<Diag> {
        let positive =
            |what: &'static str| move |value: f64| refused(what, value, is_size(value), "a finite number of 0 or more");
        let scales = self.scale.values().filter_map(positive("a factor on the learning rate"));
        let decays = self.decay.values().filter_map(positive("a weight decay"));
        self.rate.check().into_iter().chain(scales).chain(decays).collect()
    }

    pub(super) fn patterns(&self) -> Vec<String> {
        self.scale.patterns().chain(self.decay.patterns()).map(str::to_owned).collect()
    }
}

/// What is said of a number that is not as it must be.
pub(super) fn refused(what: &str, value: f64, is_right: bool, must: &str) -> Option<Diag> {
    (!is_right).then(|| Diag::new(format!("{what} is {value}, and must be {must}")))
}

/// Whether it is finite and not negative.
pub(super) fn is_size(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// The methods that every optimiser with a [`Common`] has.
macro_rules! common_methods {
    ($name:ident) => {
        impl $name {
            /// Weight decay for the parameters whose paths match a [pattern](super::Rules); the last pattern that matches
            /// decides, and parameters that none matches have none.
            #[must_use]
            pub fn weight_decay(mut self, pattern: &str, decay: f64) -> Self {
                self.common = self.common.decay(pattern, decay);
                self
            }

            /// A factor on the learning rate of the parameters whose paths match a [pattern](super::Rules).
            #[must_use]
            pub fn rate_scale(mut self, pattern: &str, factor: f64) -> Self {
                self.common = self.common.scale(pattern, factor);
                self
            }
        }
    };
}

pub(super) use common_methods;
