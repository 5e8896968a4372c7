//! Activations as values: what a configuration names and a [`crate::Sequential`] holds.

use std::str::FromStr;

use graver_trace::{Diag, Module, Tensor, Walk};

use super::Layer;

/// A function of every element.
///
/// ```
/// use graver_nn::Activation;
/// assert_eq!("gelu_tanh".parse(), Ok(Activation::GeluTanh));
/// assert_eq!(Activation::default(), Activation::Relu);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`
    Identity,
    /// `max(x, 0)`
    #[default]
    Relu,
    /// `x` where positive, else `slope * x`; PyTorch's slope is 0.01.
    LeakyRelu {
        /// The factor of negative elements.
        slope: f32,
    },
    /// `x` where positive, else `e^x - 1`
    Elu,
    /// `x * Phi(x)` by the error function
    Gelu,
    /// [`Activation::Gelu`] by the hyperbolic tangent
    GeluTanh,
    /// `x * sigmoid(x)`
    Silu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// The hyperbolic tangent
    Tanh,
    /// `log(1 + e^x)`
    Softplus,
    /// `x * tanh(softplus(x))`
    Mish,
    /// `x * clamp(x + 3, 0, 6) / 6`
    HardSwish,
    /// `x * sigmoid(1.702 x)`: what some models call GELU.
    QuickGelu,
}

impl Activation {
    /// Every activation with its name, parameters at PyTorch's defaults.
    pub const ALL: [(&'static str, Self); 13] = [
        ("identity", Self::Identity),
        ("relu", Self::Relu),
        ("leaky_relu", Self::LeakyRelu { slope: 0.01 }),
        ("elu", Self::Elu),
        ("gelu", Self::Gelu),
        ("gelu_tanh", Self::GeluTanh),
        ("silu", Self::Silu),
        ("sigmoid", Self::Sigmoid),
        ("tanh", Self::Tanh),
        ("softplus", Self::Softplus),
        ("mish", Self::Mish),
        ("hard_swish", Self::HardSwish),
        ("quick_gelu", Self::QuickGelu),
    ];

    /// The function applied.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        match *self {
            Self::Identity => x,
            Self::Relu => x.relu(),
            Self::LeakyRelu { slope } => x.leaky_relu(slope),
            Self::Elu => x.elu(),
            Self::Gelu => x.gelu(),
            Self::GeluTanh => x.gelu_tanh(),
            Self::Silu => x.silu(),
            Self::Sigmoid => x.sigmoid(),
            Self::Tanh => x.tanh(),
            Self::Softplus => x.softplus(),
            Self::Mish => x * x.softplus().tanh(),
            Self::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
        }
    }

    /// The gain for [`crate::Fill`] that keeps the size of activations, as PyTorch's `calculate_gain`; 1 where that has none.
    #[must_use]
    pub fn gain(self) -> f64 {
        match self {
            Self::Relu => std::f64::consts::SQRT_2,
            Self::LeakyRelu { slope } => (2.0 / (1.0 + f64::from(slope).powi(2))).sqrt(),
            Self::Tanh => 5.0 / 3.0,
            Self::Identity
            | Self::Elu
            | Self::Gelu
            | Self::GeluTanh
            | Self::Silu
            | Self::Sigmoid
            | Self::Softplus
            | Self::Mish
            | Self::HardSwish
            | Self::QuickGelu => 1.0,
        }
    }
}

impl FromStr for Activation {
    type Err = Diag;

    fn from_str(name: &str) -> Result<Self, Diag> {
        let named = |(known, activation)| (known == name).then_some(activation);
        Self::ALL.into_iter().find_map(named).ok_or_else(|| {
            let known = Self::ALL.map(|(known, _)| known).join(", ");
            Diag::new(format!("there is no activation `{name}`")).help(format!("known: {known}"))
        })
    }
}

impl Layer for Activation {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}

impl Module for Activation {
    fn visit(&self, _: &mut Walk<'_>) {}
}
