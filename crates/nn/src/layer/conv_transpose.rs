//! Convolutions over images the other way.

use graver_trace::{ConvTransposeOptions, Module, Pair, Param, Tensor, enter};

use super::{Conv2dOptions, Layer};

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

impl ConvTranspose2d {
    /// From so many features to so many, by kernels of this size: `3`, `(3, 5)`.
    pub fn new(inputs: usize, outputs: usize, kernel: impl Into<Pair>) -> Conv2dOptions<Self> {
        Conv2dOptions::new([inputs, outputs], outputs, kernel, |options, weight, bias| {
            let Conv2dOptions { stride, padding, output_padding, dilation, .. } = options;
            let conv = ConvTransposeOptions::new().stride(stride).padding(padding).output_padding(output_padding);
            Self { weight, bias, conv: conv.dilation(dilation).groups(options.groups_i64()) }
        })
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

impl Conv2dOptions<ConvTranspose2d> {
    /// Elements more at the end of each axis, fewer than the stride or the dilation: none by default.
    pub fn output_padding(mut self, padding: impl Into<Pair>) -> Self {
        self.output_padding = padding.into();
        self
    }
}

impl Layer for ConvTranspose2d {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}
