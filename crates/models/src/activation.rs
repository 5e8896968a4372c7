//! Activations by the names of configurations.

use graver_ir::Diag;
use graver_nn::Activation;
use serde::{Deserialize, Deserializer, de};

/// Hugging Face's names where they are not Graver's.
const NAMES: [(&str, Activation); 9] = [
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("swish", Activation::Silu),
    ("linear", Activation::Identity),
    ("hardswish", Activation::HardSwish),
];

/// The activation of a name.
pub(crate) fn named(name: &str) -> Result<Activation, Diag> {
    let known = NAMES.into_iter().find_map(|(known, activation)| (known == name).then_some(activation));
    known.map_or_else(|| name.parse(), Ok)
}

/// Reads the name of an activation.
pub(crate) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Activation, D::Error> {
    named(&String::deserialize(from)?).map_err(de::Error::custom)
}
