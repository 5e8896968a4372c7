//! The network that makes images small and large again, the step that trains it, and what shows it.

use graver::prelude::*;
use graver::trace::TensorSpec;

/// What an image is made of.
pub(crate) const PIXELS: usize = 64;
/// What is left of it between.
const CODE: usize = 8;

/// Two networks of two layers each.
#[derive(Module)]
pub(crate) struct Autoencoder {
    encoder: Sequential,
    decoder: Sequential,
}

impl Autoencoder {
    /// With values.
    pub(crate) fn new(init: &mut Init) -> Self {
        let mut net = |sizes: [usize; 3]| {
            let [first, hidden, last] = sizes;
            Sequential::new()
                .push(Linear::new(first, hidden).init(init))
                .push(Activation::Gelu)
                .push(Linear::new(hidden, last).init(init))
        };
        Self { encoder: net([PIXELS, 64, CODE]), decoder: net([CODE, 64, PIXELS]) }
    }

    /// Images of the same shape.
    pub(crate) fn forward(&self, images: Tensor) -> Tensor {
        self.decoder.forward(self.encoder.forward(images.flatten(1))).sigmoid().reshape(images.shape())
    }

    /// A step over images, which gives the mean squared error.
    pub(crate) fn training(&self, device: &Device) -> Result<Step<TensorSpec, Tensor>, Error> {
        train_step(self, AdamW::new(3e-3), images(), |m, x| m.forward(x).mse(x)).compile(device)
    }

    /// What becomes of images, and the mean squared error.
    pub(crate) fn restoring(&self, device: &Device) -> Result<Compiled<TensorSpec, (Tensor, Tensor)>, Error> {
        let restored = |x| {
            let y = self.forward(x);
            (y, y.mse(x))
        };
        compile(restored, images(), device)
    }
}

fn images() -> TensorSpec {
    spec::<f32>(("batch", 1, 8, 8))
}
