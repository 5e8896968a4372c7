//! The network that tells digits apart, and the step that trains it.

use graver::prelude::*;
use graver::trace::{TensorSpec, spec_of};

/// Two convolutions with pooling, two linear layers.
#[derive(Module)]
pub(crate) struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl Cnn {
    /// With values.
    pub(crate) fn new(init: &mut Init) -> Self {
        Self {
            conv1: Conv2d::new(1, 32, 3).padding(1).init(init),
            conv2: Conv2d::new(32, 64, 3).padding(1).init(init),
            fc1: Linear::new(64 * 6 * 6, 128).init(init),
            fc2: Linear::new(128, 10).init(init),
        }
    }

    /// Scores of ten digits for images `[batch, 1, 24, 24]`.
    pub(crate) fn forward(&self, x: Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu().max_pool2d(2);
        let x = self.conv2.forward(x).relu().max_pool2d(2);
        let x = self.fc1.forward(x.flatten(1)).relu();
        self.fc2.forward(x)
    }

    /// A step over images `[batch, 1, 24, 24]` of the parameters' type and their digits `i64[batch]`, which gives the loss.
    pub(crate) fn training(&self, lr: f64, device: &Device) -> Result<Step<(TensorSpec, TensorSpec), Tensor>, Error> {
        let inputs = (spec_of(self.conv1.weight.value().dtype(), ("batch", 1, 24, 24)), spec::<i64>(["batch"]));
        train_step(self, Sgd::new(lr).momentum(0.9), inputs, |m, (x, y)| m.forward(x).cross_entropy(y)).compile(device)
    }
}
