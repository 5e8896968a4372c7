//! Classifiers of images.

use graver_models::{ConvNext, ConvNextClassifier, Pretrained, ResNetClassifier, Vit, VitClassifier};
use graver_trace::{Array, Error, Tensor, Tree, compile, spec};

use crate::common::{CALLS, Reference, cpu};

fn check<M: Pretrained, Y: Tree<Arrays = Vec<Array>>>(
    case: &str,
    side: usize,
    names: &[&str],
    forward: impl Fn(&M, Tensor) -> Y,
) -> Result<(), Error> {
    let reference = Reference::of(case);
    let model = M::of_folder(&reference.folder)?;
    let compiled = compile(|images| forward(&model, images), spec::<f32>(("batch", 3, side, side)), &cpu())?;
    for call in CALLS {
        let results = compiled.call(reference.array(call, "images"))?;
        assert_eq!(results.len(), names.len());
        for (name, result) in names.iter().zip(&results) {
            reference.check(call, name, result);
        }
    }
    Ok(())
}

#[test]
fn vit() -> Result<(), Error> {
    check("vit", 8, &["last_hidden_state", "pooler_output"], |model: &Vit, images| {
        let hidden = model.forward(images);
        std::iter::once(hidden).chain(model.pooled(hidden)).collect::<Vec<_>>()
    })?;
    check("vit_class", 8, &["logits"], |model: &VitClassifier, images| vec![model.forward(images)])
}

#[test]
fn resnet() -> Result<(), Error> {
    let forward = |model: &ResNetClassifier, images| vec![model.forward(images)];
    check("resnet", 32, &["logits"], forward)?;
    check("resnet_basic", 32, &["logits"], forward)
}

#[test]
fn convnext() -> Result<(), Error> {
    check("convnext", 16, &["last_hidden_state", "pooler_output"], |model: &ConvNext, images| {
        let features = model.forward(images);
        vec![features, model.pooled(features)]
    })?;
    check("convnext_class", 16, &["logits"], |model: &ConvNextClassifier, images| vec![model.forward(images)])
}
