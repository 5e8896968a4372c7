//! Layers after one another.

use graver_trace::{Module, Tensor, Walk, enter};

use super::Layer;

/// Layers applied one after another. Paths are PyTorch's: `0.weight`, `2.weight`.
///
/// ```
/// use graver_nn::{Activation, Init, Linear, Sequential};
/// use graver_trace::{Module, Tensor};
///
/// let init = &mut Init::seed(0);
/// let net = Sequential::new()
///     .push(Linear::new(2, 8).init(init))
///     .push(Activation::Relu)
///     .push(Linear::new(8, 1).init(init))
///     .then(|x| x.squeeze(-1));
/// let paths: Vec<String> = net.params().into_iter().map(|(path, _)| path).collect();
/// assert_eq!(paths, ["0.weight", "0.bias", "2.weight", "2.bias"]);
/// ```
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Layer>>,
}

impl Sequential {
    /// The identity.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a further layer.
    #[must_use]
    pub fn push(mut self, layer: impl Layer) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// With a function as a further layer; it has no parameters.
    #[must_use]
    pub fn then(self, function: impl Fn(Tensor) -> Tensor + Send + Sync + 'static) -> Self {
        self.push(Function(Box::new(function)))
    }

    /// The number of layers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The layers applied, the first first.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }
}

impl std::fmt::Debug for Sequential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sequential of {} layers", self.len())
    }
}

impl Module for Sequential {
    fn visit(&self, walk: &mut Walk<'_>) {
        self.layers.visit(walk);
    }
}

impl Layer for Sequential {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}

struct Function(Box<dyn Fn(Tensor) -> Tensor + Send + Sync>);

impl Module for Function {
    fn visit(&self, _: &mut Walk<'_>) {}
}

impl Layer for Function {
    fn forward(&self, x: Tensor) -> Tensor {
        (self.0)(x)
    }
}
