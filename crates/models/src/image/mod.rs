//! Classifiers of images, ViT, ResNet and ConvNeXt, over `f32[batch, channels, height, width]`; and pictures as such images.

mod convnext;
mod picture;
mod processor;
mod resample;
mod resnet;
mod vit;

pub use convnext::{ConvNext, ConvNextClassifier, ConvNextConfig};
pub use picture::Picture;
pub use processor::{ImageProcessor, ImageSize};
pub use resample::Filter;
pub use resnet::{ResNet, ResNetClassifier, ResNetConfig, ResNetLayer};
pub use vit::{Vit, VitClassifier, VitConfig};
