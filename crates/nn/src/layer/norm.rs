//! Normalisation over features, which keeps no statistics: layer, root-mean-square and group norm.

use graver_trace::{Diag, Module, Param, Tensor, enter, fail};

use super::Layer;
use crate::init::{Fill, Init};

/// The last axes brought to mean 0 and variance 1, then scaled and shifted: Ba, Kiros and Hinton (2016), "Layer normalization".
///
/// Parameters of the shape of those axes: `weight`, `bias`.
///
/// ```
/// use graver_nn::{Init, LayerNorm};
/// let norm = LayerNorm::new([4, 8]).bias(false).init(&mut Init::seed(0));
/// assert_eq!(norm.weight.value().shape(), [4, 8]);
/// ```
#[derive(Debug, Module)]
pub struct LayerNorm {
    /// The shape of the normalised axes.
    pub weight: Param,
    /// The shape of the normalised axes.
    pub bias: Option<Param>,
    #[module(skip)]
    eps: f64,
}

/// What a [`LayerNorm`] is before it has values.
#[derive(Clone, Debug)]
#[must_use]
pub struct LayerNormOptions {
    shape: Vec<usize>,
    bias: bool,
    eps: f64,
}

/// What may be the sizes of the last axes: one, or an array of several.
pub trait LastAxes {
    /// The sizes, outermost first.
    fn sizes(self) -> Vec<usize>;
}

impl LastAxes for usize {
    fn sizes(self) -> Vec<usize> {
        vec![self]
    }
}

impl<const N: usize> LastAxes for [usize; N] {
    fn sizes(self) -> Vec<usize> {
        self.to_vec()
    }
}

impl LastAxes for Vec<usize> {
    fn sizes(self) -> Vec<usize> {
        self
    }
}

impl LayerNorm {
    /// Over the last axes of these sizes.
    #[expect(clippy::new_ret_no_self, reason = "a layer exists once it has values; until then it is options")]
    pub fn new(shape: impl LastAxes) -> LayerNormOptions {
        LayerNormOptions { shape: shape.sizes(), bias: true, eps: 1e-5 }
    }

    /// The layer applied to `[.., shape]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let weight = self.weight.get();
        let bias = self.bias.as_ref().map_or_else(|| weight.zeros_like(), Param::get);
        if weight.rank() == 1 {
            return x.layer_norm(weight, bias, self.eps);
        }
        match x.rank().checked_sub(weight.rank()) {
            Some(lead) if x.shape()[lead..] == weight.shape() => {
                x.flatten(lead).layer_norm(weight.flatten(0), bias.flatten(0), self.eps).reshape(x.shape())
            }
            Some(_) | None => fail(self.mismatch(x)),
        }
    }

    #[track_caller]
    fn mismatch(&self, x: Tensor) -> Diag {
        let wanted = self.weight.value().ty();
        Diag::new(format!("the last axes must be those of the weight {wanted}, got {}", described(x))).op("layer_norm")
    }
}

/// The type of a tensor, for errors.
#[track_caller]
fn described(x: Tensor) -> String {
    let sizes: Vec<String> = x.shape().iter().map(ToString::to_string).collect();
    format!("{}[{}]", x.dtype(), sizes.join(", "))
}

impl LayerNormOptions {
    /// Whether there is a bias; there is one by default.
    pub const fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// What is added to variances: 1e-5 by default.
    pub const fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The layer with weights 1 and biases 0.
    pub fn init(self, init: &mut Init) -> LayerNorm {
        let mut filled = |value| init.param(Fill::Constant(value), self.shape.clone());
        LayerNorm { weight: filled(1.0), bias: self.bias.then(|| filled(0.0)), eps: self.eps }
    }
}

impl Layer for LayerNorm {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}

/// Rows divided by the root of the mean of their squares, then scaled: Zhang and Sennrich (2019), "Root mean square layer
/// normalization". Parameter: `weight: [width]`.
///
/// ```
/// use graver_nn::{Init, RmsNorm};
/// let norm = RmsNorm::new(64).eps(1e-5).init(&mut Init::seed(0));
/// assert_eq!(norm.weight.value().shape(), [64]);
/// ```
#[derive(Debug, Module)]
pub struct RmsNorm {
    /// `[width]`
    pub weight: Param,
    #[module(skip)]
    eps: f64,
}

/// What an [`RmsNorm`] is before it has values.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct RmsNormOptions {
    width: usize,
    eps: f64,
}

impl RmsNorm {
    /// Over the last axis, of this size.
    #[expect(clippy::new_ret_no_self, reason = "a layer exists once it has values; until then it is options")]
    pub const fn new(width: usize) -> RmsNormOptions {
        RmsNormOptions { width, eps: 1e-6 }
    }

    /// The layer applied to `[.., width]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        x.rms_norm(&self.weight, self.eps)
    }
}

impl RmsNormOptions {
    /// What is added to mean squares: 1e-6 by default.
    pub const fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The layer with weights 1.
    pub fn init(self, init: &mut Init) -> RmsNorm {
        RmsNorm { weight: init.param(Fill::Constant(1.0), [self.width]), eps: self.eps }
    }
}

impl Layer for RmsNorm {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}

/// Groups of features of every example brought to mean 0 and variance 1, then scaled and shifted by feature: Wu and He (2018),
/// "Group normalization". Parameters: `weight: [features]`, `bias: [features]`.
///
/// ```
/// use graver_nn::{GroupNorm, Init};
/// let norm = GroupNorm::new(4, 32).init(&mut Init::seed(0));
/// assert_eq!(norm.bias.value().shape(), [32]);
/// ```
#[derive(Debug, Module)]
pub struct GroupNorm {
    /// `[features]`
    pub weight: Param,
    /// `[features]`
    pub bias: Param,
    #[module(skip)]
    groups: usize,
    #[module(skip)]
    eps: f64,
}

/// What a [`GroupNorm`] is before it has values.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct GroupNormOptions {
    groups: usize,
    features: usize,
    eps: f64,
}

impl GroupNorm {
    /// So many groups of so many features in all.
    #[expect(clippy::new_ret_no_self, reason = "a layer exists once it has values; until then it is options")]
    pub const fn new(groups: usize, features: usize) -> GroupNormOptions {
        GroupNormOptions { groups, features, eps: 1e-5 }
    }

    /// The layer applied to `[n, features, ..]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let features = self.weight.value().shape()[0];
        if x.rank() < 2 || x.dim(1) != features {
            fail(Diag::new(format!("the input must be [n, {features}, ..], got {}", described(x))).op("group_norm"));
        }
        // Features have an axis of their own, so that what follows from a group's statistics is computed where they are.
        let each = features / self.groups;
        let vector = |vector: &Param| vector.get().reshape((self.groups, each, 1));
        let grouped = x.reshape((x.dim(0), self.groups, each, -1));
        let mean = grouped.mean_keepdim([-2, -1]);
        let variance = grouped.var_population([-2, -1]).reshape((x.dim(0), self.groups, 1, 1));
        let normal = (grouped - mean) * (variance + self.eps).rsqrt();
        (normal * vector(&self.weight) + vector(&self.bias)).reshape(x.shape())
    }
}

impl GroupNormOptions {
    /// What is added to variances: 1e-5 by default.
    pub const fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The layer with weights 1 and biases 0.
    ///
    /// # Panics
    /// If the features do not split into the groups.
    #[track_caller]
    pub fn init(self, init: &mut Init) -> GroupNorm {
        let Self { groups, features, eps } = self;
        assert!(groups > 0 && features % groups == 0, "{features} features do not split into {groups} groups");
        let mut vector = |value| init.param(Fill::Constant(value), [features]);
        GroupNorm { weight: vector(1.0), bias: vector(0.0), groups, eps }
    }
}

impl Layer for GroupNorm {
    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        self.forward(x)
    }
}
