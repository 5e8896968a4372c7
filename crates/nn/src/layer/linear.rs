//! Affine maps of the last axis.

use graver_trace::{Module, Param, Tensor, enter};

use super::Layer;
use crate::init::{Fill, Init};
use crate::storage::{Storage, kept, times_transposed};

/// `x W^T + b` over the last axis: `[.., inputs]` to `[.., outputs]`.
///
/// Parameters: `weight: [outputs, inputs]`, `bias: [outputs]`; `scale` where [`Linear::stored`] gave it one ([`Storage`]).
///
/// ```
/// use graver_nn::{Init, Linear};
/// use graver_trace::Module;
/// let layer = Linear::new(3, 2).init(&mut Init::seed(0));
/// let shapes: Vec<_> = layer.params().into_iter().map(|(path, p)| (path, p.value().shape().to_vec())).collect();
/// assert_eq!(shapes, [("weight".to_owned(), vec![2, 3]), ("bias".to_owned(), vec![2])]);
/// ```
#[derive(Debug, Module)]
pub struct Linear {
    /// `[outputs, inputs]`
    pub weight: Param,
    /// `[outputs]`
    pub bias: Option<Param>,
    /// `[outputs]` or `[outputs, groups]`: by what a weight of integers is multiplied.
    pub scale: Option<Param>,
}

/// What a [`Linear`] is before it has values.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct LinearOptions {
    inputs: usize,
    outputs: usize,
    bias: bool,
}

impl Linear {
    /// From so many features to so many.
    #[expect(clippy::new_ret_no_self, reason = "a layer exists once it has values; until then it is options")]
    pub const fn new(inputs: usize, outputs: usize) -> LinearOptions {
        LinearOptions { inputs, outputs, bias: true }
    }

    /// The layer applied to `[.., inputs]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = times_transposed(x, &self.weight, self.scale.as_ref());
        match &self.bias {
            Some(bias) => y + bias,
            None => y,
        }
    }

    /// The layer with its weight kept in fewer bits, for use without training: a weight that is tied to others is so no longer.
    ///
    /// ```
    /// use graver_nn::{Init, Linear, Storage};
    /// use graver_trace::DType;
    /// let layer = Linear::new(64, 64).init(&mut Init::seed(0)).stored(Storage::INT8);
    /// assert_eq!(layer.weight.value().dtype(), DType::I8);
    /// ```
    #[must_use]
    pub fn stored(self, storage: Storage) -> Self {
        let (weight, scale) = kept(&self.weight.value(), storage);
        Self { weight, scale, ..self }
    }
}

impl LinearOptions {
    /// Whether there is a bias; there is one by default.
    pub const fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The layer with PyTorch's default values: both uniform within `1 / sqrt(inputs)` of 0.
    pub fn init(self, init: &mut Init) -> Linear {
        self.init_with(init, Fill::default_weight())
    }

    /// The layer with weights of this distribution.
    pub fn init_with(self, init: &mut Init, weight: Fill) -> Linear {
        let weight = init.param(weight, [self.outputs, self.inputs]);
        let bias = || init.param(Fill::default_bias(self.inputs), [self.outputs]);
        Linear { weight, bias: self.bias.then(bias), scale: None }
    }
}

impl Layer for Linear {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}
