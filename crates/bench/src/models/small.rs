//! A perceptron, a small convolutional network, a recurrent one.

use graver::prelude::*;

/// Images of 784 pixels to ten classes, two hidden layers of 512.
#[derive(Module)]
pub(crate) struct Mlp {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

impl Mlp {
    pub(crate) fn new(init: &mut Init) -> Self {
        let mut layer = |inputs, outputs| Linear::new(inputs, outputs).init(init);
        Self { fc1: layer(784, 512), fc2: layer(512, 512), fc3: layer(512, 10) }
    }

    pub(crate) fn forward(&self, x: Tensor) -> Tensor {
        let x = self.fc1.forward(x).relu();
        self.fc3.forward(self.fc2.forward(x).relu())
    }
}

/// Colour images of 24x24 to ten classes: two convolutions with pooling, two linear layers.
#[derive(Module)]
pub(crate) struct Cnn {
    c1: Conv2d,
    c2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl Cnn {
    pub(crate) fn new(init: &mut Init) -> Self {
        Self {
            c1: Conv2d::new(3, 32, 3).padding(1).init(init),
            c2: Conv2d::new(32, 64, 3).padding(1).init(init),
            fc1: Linear::new(64 * 36, 128).init(init),
            fc2: Linear::new(128, 10).init(init),
        }
    }

    pub(crate) fn forward(&self, x: Tensor) -> Tensor {
        let x = self.c1.forward(x).relu().max_pool2d(2);
        let x = self.c2.forward(x).relu().max_pool2d(2);
        self.fc2.forward(self.fc1.forward(x.flatten(1)).relu())
    }
}

/// Sequences of 128 features to ten classes, by the last hidden value of an LSTM of 256.
#[derive(Module)]
pub(crate) struct Sequence {
    rnn: Lstm,
    fc: Linear,
}

impl Sequence {
    pub(crate) fn new(init: &mut Init) -> Self {
        Self { rnn: Lstm::new(128, 256).batch_first(true).init(init), fc: Linear::new(256, 10).init(init) }
    }

    pub(crate) fn forward(&self, x: Tensor) -> Tensor {
        let (_, (hidden, _)) = self.rnn.forward(x);
        self.fc.forward(hidden.select(0, 0))
    }
}
