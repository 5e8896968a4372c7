//! Classifiers of images: ViT and ResNet. Images are `f32[batch, channels, height, width]`, already scaled as the model wants them.

mod resnet;
mod vit;

pub use resnet::{ResNet, ResNetClassifier, ResNetConfig, ResNetLayer};
pub use vit::{Vit, VitClassifier, VitConfig};
