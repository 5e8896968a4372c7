//! Models of images.

use graver_models::{ConvNext, ConvNextClassifier, Pretrained, ResNetClassifier, Vit, VitClassifier};
use graver_trace::{Array, Device, Error, Tensor, Tree, compile, spec};

use crate::common::{CALLS, Case, Reference, check};

/// What is run of a reference: how far its results are from the reference's.
fn run<M: Pretrained, Y: Tree<Arrays = Vec<Array>>>(
    (reference, device): (&Reference, &Device),
    names: &[&str],
    forward: impl Fn(&M, Tensor) -> Y,
) -> Result<f64, Error> {
    let model = M::of_folder(&reference.folder)?;
    let side = reference.array(CALLS[0], "images").shape()[2];
    let compiled = compile(|images| forward(&model, images), spec::<f32>(("batch", 3, side, side)), device)?;
    let mut worst = 0.0f64;
    for call in CALLS {
        let results = compiled.call(reference.array(call, "images"))?;
        assert_eq!(results.len(), names.len());
        for (name, result) in names.iter().zip(&results) {
            worst = worst.max(reference.check(call, name, result));
        }
    }
    Ok(worst)
}

const BODY: &[&str] = &["last_hidden_state", "pooler_output"];

fn vit(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), BODY, |model: &Vit, images| {
        let hidden = model.forward(images);
        std::iter::once(hidden).chain(model.pooled(hidden)).collect::<Vec<_>>()
    })
}

fn vit_class(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), &["logits"], |model: &VitClassifier, images| vec![model.forward(images)])
}

fn resnet(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), &["logits"], |model: &ResNetClassifier, images| vec![model.forward(images)])
}

fn convnext(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), BODY, |model: &ConvNext, images| {
        let features = model.forward(images);
        vec![features, model.pooled(features)]
    })
}

fn convnext_class(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), &["logits"], |model: &ConvNextClassifier, images| vec![model.forward(images)])
}

pub(crate) const CASES: &[Case] = &[
    Case { name: "vit", model: "Vit", run: vit },
    Case { name: "vit_class", model: "VitClassifier", run: vit_class },
    Case { name: "resnet", model: "ResNetClassifier", run: resnet },
    Case { name: "resnet_basic", model: "ResNetClassifier", run: resnet },
    Case { name: "convnext", model: "ConvNext", run: convnext },
    Case { name: "convnext_class", model: "ConvNextClassifier", run: convnext_class },
];

#[test]
fn each_gives_what_transformers_gives() -> Result<(), Error> {
    check(CASES)
}
