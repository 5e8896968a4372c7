//! Convolutions over images.

use graver_trace::{ConvOptions, Module, Pair, Param, Tensor, enter};

use super::Layer;
use crate::init::{Fill, Init};

/// The cross-correlation of images with a bank of kernels: `[n, inputs, h, w]` to `[n, outputs, h', w']`, where
/// `h' = (h + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1`.
///
/// Parameters: `weight: [outputs, inputs / groups, kh, kw]`, `bias: [outputs]`.
///
/// ```
/// use graver_nn::{Conv2d, Init};
/// let conv = Conv2d::new(16, 32, (3, 5)).stride(2).padding((1, 2)).groups(4).bias(false).init(&mut Init::seed(0));
/// assert_eq!(conv.weight.value().shape(), [32, 4, 3, 5]);
/// ```
#[derive(Debug, Module)]
pub struct Conv2d {
    /// `[outputs, inputs / groups, kh, kw]`
    pub weight: Param,
    /// `[outputs]`
    pub bias: Option<Param>,
    #[module(skip)]
    conv: ConvOptions,
}

/// What a convolution over images is before it has values: a [`Conv2d`], or a [`ConvTranspose2d`](super::ConvTranspose2d).
#[derive(Debug)]
#[must_use]
pub struct Conv2dOptions<L> {
    /// As the weight has them: the second is split into groups.
    features: [usize; 2],
    outputs: usize,
    kernel: [usize; 2],
    pub(super) stride: Pair,
    pub(super) padding: Pair,
    pub(super) output_padding: Pair,
    pub(super) dilation: Pair,
    groups: usize,
    bias: bool,
    make: fn(Self, Param, Option<Param>) -> L,
}

// Derived, these would ask the same of the layer.
impl<L> Clone for Conv2dOptions<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Conv2dOptions<L> {}

impl Conv2d {
    /// From so many features to so many, by kernels of this size: `3`, `(3, 5)`.
    pub fn new(inputs: usize, outputs: usize, kernel: impl Into<Pair>) -> Conv2dOptions<Self> {
        Conv2dOptions::new([outputs, inputs], outputs, kernel, |options, weight, bias| {
            let conv = ConvOptions::new().stride(options.stride).padding(options.padding).dilation(options.dilation);
            Self { weight, bias, conv: conv.groups(options.groups_i64()) }
        })
    }

    /// The layer applied to `[n, inputs, h, w]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let y = x.conv2d(&self.weight, self.conv);
        match &self.bias {
            Some(bias) => y + bias.get().reshape((-1, 1, 1)),
            None => y,
        }
    }
}

impl<L> Conv2dOptions<L> {
    pub(super) fn new(
        features: [usize; 2],
        outputs: usize,
        kernel: impl Into<Pair>,
        make: fn(Self, Param, Option<Param>) -> L,
    ) -> Self {
        // A negative size is a kernel of no elements, which tracing refuses by its shape.
        let kernel = kernel.into().get().map(|size| usize::try_from(size).unwrap_or(0));
        let [one, none] = [1, 0].map(Pair::from);
        Self {
            features,
            outputs,
            kernel,
            stride: one,
            padding: none,
            output_padding: none,
            dilation: one,
            groups: 1,
            bias: true,
            make,
        }
    }

    /// The distance between results, of a transposed one between what neighbours become: 1 by default.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = stride.into();
        self
    }

    /// Zeros on each side, of a transposed one elements of the result that are left out there: none by default.
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.padding = padding.into();
        self
    }

    /// The distance between a kernel's elements: 1 by default.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// Groups of features that see only each other: one by default. Both numbers of features must be multiples.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Whether there is a bias; there is one by default.
    pub const fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// The layer with PyTorch's default values: both uniform within `1 / sqrt(n)` of 0, where `n` is the product of the
    /// weight's sizes but the first.
    ///
    /// # Panics
    /// If the numbers of features are no multiples of the groups.
    #[track_caller]
    pub fn init(self, init: &mut Init) -> L {
        self.init_with(init, Fill::default_weight())
    }

    /// The layer with weights of this distribution.
    ///
    /// # Panics
    /// If the numbers of features are no multiples of the groups.
    #[track_caller]
    pub fn init_with(self, init: &mut Init, weight: Fill) -> L {
        let Self { features: [first, second], kernel: [height, width], groups, .. } = self;
        let divides = groups > 0 && first % groups == 0 && second % groups == 0;
        assert!(divides, "a convolution between {first} and {second} features does not split into {groups} groups");
        let inner = second / groups;
        let fan_in = [height, width].into_iter().fold(inner, usize::saturating_mul);
        let weight = init.param(weight, [first, inner, height, width]);
        let bias = self.bias.then(|| init.param(Fill::default_bias(fan_in), [self.outputs]));
        (self.make)(self, weight, bias)
    }

    /// The number of groups as operations take it.
    pub(super) fn groups_i64(self) -> i64 {
        i64::try_from(self.groups).unwrap_or(i64::MAX)
    }
}

impl Layer for Conv2d {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}
