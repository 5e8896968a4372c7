//! Convolutions over images the other way.

use graver_trace::{ConvTransposeOptions, Module, Pair, Param, Tensor, enter};

use super::Layer;
use crate::init::{Fill, Init};

/// Every element of images spread by a bank of kernels: `[n, inputs, h, w]` to `[n, outputs, h', w']`, where
/// `h' = (h - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1`.
///
/// Parameters: `weight: [inputs, outputs / groups, kh, kw]`, `bias: [outputs]`.
///
/// ```
/// use graver_nn::{ConvTranspose2d, Init};
/// let twice = ConvTranspose2d::new(32, 16, 3).stride(2).padding(1).output_padding(1).groups(4).init(&mut Init::seed(0));
/// assert_eq!(twice.weight.value().shape(), [32, 4, 3, 3]);
/// ```
#[derive(Debug, Module)]
pub struct ConvTranspose2d {
    /// `[inputs, outputs / groups, kh, kw]`
    pub weight: Param,
    /// `[outputs]`
    pub bias: Option<Param>,
    #[module(skip)]
    conv: ConvTransposeOptions,
}

/// What a [`ConvTranspose2d`] is before it has values.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ConvTranspose2dOptions {
    inputs: usize,
    outputs: usize,
    kernel: [usize; 2],
    groups: usize,
    bias: bool,
    conv: ConvTransposeOptions,
}

impl ConvTranspose2d {
    /// From so many features to so many, by kernels of this size: `3`, `(3, 5)`.
    #[expect(clippy::new_ret_no_self, reason = "a layer exists once it has values; until then it is options")]
    pub fn new(inputs: usize, outputs: usize, kernel: impl Into<Pair>) -> ConvTranspose2dOptions {
        // A negative size is a kernel of no elements, which tracing refuses by its shape.
        let kernel = kernel.into().get().map(|size| usize::try_from(size).unwrap_or(0));
        ConvTranspose2dOptions { inputs, outputs, kernel, groups: 1, bias: true, conv: ConvTransposeOptions::new() }
    }

    /// The layer applied to `[n, inputs, h, w]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = x.conv_transpose2d(&self.weight, self.conv);
        match &self.bias {
            Some(bias) => y + bias.get().reshape((-1, 1, 1)),
            None => y,
        }
    }
}

impl ConvTranspose2dOptions {
    /// The distance between what neighbours become: 1 by default.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.conv = self.conv.stride(stride);
        self
    }

    /// Elements of the result that are left out on each side: none by default.
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.conv = self.conv.padding(padding);
        self
    }

    /// Elements more at the end of each axis, fewer than the stride or the dilation: none by default.
    pub fn output_padding(mut self, padding: impl Into<Pair>) -> Self {
        self.conv = self.conv.output_padding(padding);
        self
    }

    /// The distance between a kernel's elements: 1 by default.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.conv = self.conv.dilation(dilation);
        self
    }

    /// Groups of features that see only each other: one by default. Both numbers of features must be multiples.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self.conv = self.conv.groups(i64::try_from(groups).unwrap_or(i64::MAX));
        self
    }

    /// Whether there is a bias; there is one by default.
    pub const fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The layer with PyTorch's default values: both uniform within `1 / sqrt(outputs / groups * kh * kw)` of 0.
    ///
    /// # Panics
    /// If the numbers of features are no multiples of the groups.
    #[track_caller]
    pub fn init(self, init: &mut Init) -> ConvTranspose2d {
        self.init_with(init, Fill::default_weight())
    }

    /// The layer with weights of this distribution.
    ///
    /// # Panics
    /// If the numbers of features are no multiples of the groups.
    #[track_caller]
    pub fn init_with(self, init: &mut Init, weight: Fill) -> ConvTranspose2d {
        let Self { inputs, outputs, kernel: [height, width], groups, bias, conv } = self;
        let divides = groups > 0 && inputs % groups == 0 && outputs % groups == 0;
        assert!(divides, "a transposed convolution of {inputs} to {outputs} features does not split into {groups} groups");
        let inner = outputs / groups;
        let fan_in = [height, width].into_iter().fold(inner, usize::saturating_mul);
        let weight = init.param(weight, [inputs, inner, height, width]);
        let bias = bias.then(|| init.param(Fill::default_bias(fan_in), [outputs]));
        ConvTranspose2d { weight, bias, conv }
    }
}

impl Layer for ConvTranspose2d {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}
