//! The models that are measured, with the names that their weights have in files.

mod resnet;
mod small;
mod transformer;

pub(crate) use resnet::ResNet18;
pub(crate) use small::{Cnn, Mlp, Sequence};
pub(crate) use transformer::{Bert, Gpt2};
