//! Layers: structs of parameters with a forward pass, a file each.
//!
//! A layer is made in two steps, options and then initial values: `Linear::new(64, 10).bias(false).init(&mut init)`. Parameters
//! have PyTorch's names and shapes. Operations carry the layer's path in the model and the line that called `forward`.

mod activation;
mod attention;
mod batch_norm;
mod cache;
mod conv;
mod conv_transpose;
mod dropout;
mod embedding;
mod flatten;
mod linear;
mod norm;
mod pool;
mod recurrent;
mod rotary;
mod sequential;
mod transformer;
mod upsample;

use graver_trace::{Module, Tensor};

pub use activation::Activation;
pub use attention::{Heads, Mask, MultiHeadAttention, MultiHeadAttentionOptions};
pub use batch_norm::{BatchNorm1d, BatchNorm2d, BatchNormOptions};
pub use cache::{KvCache, Past};
pub use conv::{Conv2d, Conv2dOptions};
pub use conv_transpose::ConvTranspose2d;
pub use dropout::Dropout;
pub use embedding::{Embedding, EmbeddingOptions};
pub use flatten::Flatten;
pub use linear::{Linear, LinearOptions};
pub use norm::{GroupNorm, GroupNormOptions, LastAxes, LayerNorm, LayerNormOptions, RmsNorm, RmsNormOptions};
pub use pool::{AvgPool2d, GlobalAvgPool2d, MaxPool2d};
pub use recurrent::{Gru, Lstm, RecurrentOptions, RecurrentWeights};
pub use rotary::{Longer, Rotary};
pub use sequential::Sequential;
pub use transformer::{TransformerDecoderLayer, TransformerEncoderLayer, TransformerOptions};
pub use upsample::Upsample;

/// A module that is a function of one tensor: what a [`Sequential`] holds.
///
/// ```
/// use graver_nn::{Init, Layer, Linear};
/// use graver_trace::{Module, Tensor};
///
/// #[derive(Module)]
/// struct Residual {
///     inner: Linear,
/// }
///
/// impl Layer for Residual {
///     fn forward(&self, x: Tensor) -> Tensor {
///         x + self.inner.forward(x).relu()
///     }
/// }
/// # let _ = Residual { inner: Linear::new(4, 4).init(&mut Init::seed(0)) };
/// ```
pub trait Layer: Module + Send + Sync {
    /// The layer applied.
    fn forward(&self, x: Tensor) -> Tensor;
}
