//! Pictures as models' inputs, and their classes.

use std::collections::BTreeMap;
use std::io::Cursor;

use graver_models::hub::Folder;
use graver_models::{ConvNextClassifier, Filter, ImageClassifier, ImageProcessor, ImageSize, Picture, Pretrained};
use graver_runtime::Checkpoint;
use graver_trace::{Error, compile, spec};
use image::{DynamicImage, ImageBuffer, ImageFormat};
use serde_json::{Value, json};

use crate::common::{Copy, cpu, path};

fn picture(name: &str) -> Picture {
    Picture::read(path("pictures").join(name)).expect("kept beside the tests")
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> T {
    serde_json::from_slice(&std::fs::read(path(file)).expect("kept beside the tests")).expect("JSON")
}

/// The processor of a folder with such a file.
fn processor(said: &Value, test: &str) -> Result<ImageProcessor, Error> {
    let copy = Copy::of("vit_class", test);
    copy.edit("preprocessor_config.json", |file| *file = said.clone());
    ImageProcessor::of_folder(&copy.folder(), "vit")
}

/// The greatest difference, in steps of the 256 of a pixel.
fn steps(processor: &ImageProcessor, got: &[f64], expected: &[f64]) -> f64 {
    let step = if processor.do_rescale { processor.rescale_factor } else { 1.0 };
    let least = processor.image_std.iter().copied().fold(1.0, f32::min);
    let step = if processor.do_normalize { step / f64::from(least) } else { step };
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(x, y)| (x - y).abs() / step).fold(0.0, f64::max)
}

/// As Pillow to the last bit, and one step of a pixel beside torchvision, which rounds weights to fewer bits. JPEG's own arithmetic is any
/// decoder's.
#[test]
fn pictures_are_prepared_as_transformers_does() -> Result<(), Error> {
    let expected = Checkpoint::read(path("pictures/expected.safetensors"))?.arrays;
    let processors: BTreeMap<String, Value> = read("pictures/processors.json");
    assert_eq!((processors.len(), expected.len()), (8, 45));
    for (name, said) in &processors {
        let processor = processor(said, &format!("prepared-{name}"))?;
        for (key, expected) in expected.iter().filter(|(key, _)| key.starts_with(&format!("{name}."))) {
            let (file, backend) = key[name.len() + 1..].rsplit_once('.').expect("`name.file.backend`");
            let got = processor.batch(&[picture(file)])?;
            assert_eq!(got.shape(), expected.shape(), "{key}");
            // Of an odd number of black columns around a small picture, transformers has one more on the left, or with torchvision on the
            // right: so in all that are made for CLIP here.
            if key.ends_with("torchvision") && (name == "clip" || key.starts_with("bit.grey")) {
                continue;
            }
            let allowed = match (file, backend) {
                ("turned.jpg", _) => 3.0,
                (_, "torchvision") => 1.0,
                _ => 0.0,
            };
            let off = steps(&processor, &got.to_f64(), &expected.to_f64());
            assert!(off <= allowed + 1e-3, "{key} is off by {off} steps");
        }
    }
    Ok(())
}

/// The classes that transformers' pipeline gives, of one model for any number of pictures of any size.
#[test]
fn classes_of_pictures() -> Result<(), Error> {
    for case in ["vit_class", "resnet"] {
        let classifier = ImageClassifier::of_folder(&Folder::open(path(case))?, &cpu())?;
        let expected: BTreeMap<String, BTreeMap<String, f64>> = read(&format!("{case}/classes.json"));
        let pictures: Vec<Picture> = expected.keys().map(|name| picture(name)).collect();
        for count in [2, 1] {
            let found = classifier.classify(&pictures[..count])?;
            assert_eq!(found.len(), count);
            for (row, expected) in found.iter().zip(expected.values()) {
                assert!(row.len() == 3 && row.is_sorted_by(|x, y| x.score >= y.score), "{row:?}");
                for scored in row {
                    assert!((scored.score - expected[&scored.label]).abs() < 1e-5, "{case}: {scored:?} of {expected:?}");
                }
            }
        }
        assert_eq!(classifier.classify(&[]).expect_err("nothing").to_string(), "there is no picture");
    }
    Ok(())
}

/// Of ConvNeXt, whose middle is cut out of what is larger by a share: the model's scores of what its processor makes of pictures.
#[test]
fn classes_of_pictures_by_convnext() -> Result<(), Error> {
    let copy = Copy::of("convnext_class", "classes");
    let said = json!({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 16}, "crop_pct": 0.875});
    std::fs::write(copy.file("preprocessor_config.json"), said.to_string()).expect("writable");
    let classifier = ImageClassifier::of_folder(&copy.folder(), &cpu())?;
    let (model, processor) =
        (ConvNextClassifier::of_folder(&copy.folder())?, ImageProcessor::of_folder(&copy.folder(), "convnext")?);
    assert_eq!((processor.size(), processor.resample), (Some([16, 16]), Filter::Bicubic));
    let shares = compile(|images| model.forward(images).softmax(-1), spec::<f32>(("batch", 3, 16, 16)), &cpu())?;
    let pictures: Vec<Picture> = ["colours.png", "grey.png", "turned.jpg"].into_iter().map(picture).collect();
    let expected = shares.call(&processor.batch(&pictures)?)?;
    let classes = expected.shape()[1];
    for count in [3, 1] {
        let found = classifier.classify(&pictures[..count])?;
        assert_eq!(found.len(), count);
        for (row, expected) in found.iter().zip(expected.to_f64().chunks(classes)) {
            assert!(row.len() == classes && row.is_sorted_by(|x, y| x.score >= y.score), "{row:?}");
            let mut expected = expected.to_vec();
            expected.sort_by(|x, y| y.total_cmp(x));
            assert!(
                row.iter().zip(&expected).all(|(scored, share)| (scored.score - share).abs() < 1e-6),
                "{row:?}: {expected:?}"
            );
        }
    }
    // Pictures differ, and so do their classes' shares.
    let rows: Vec<f64> = expected.to_f64();
    assert!((rows[0] - rows[classes]).abs() > 1e-6, "{rows:?}");
    Ok(())
}

/// From 384 on the whole picture is seen.
#[test]
fn large_sizes_are_not_cropped() -> Result<(), Error> {
    let whole = processor(&json!({"image_processor_type": "ConvNextImageProcessor"}), "whole")?;
    assert_eq!((whole.size(), whole.resample), (Some([384, 384]), Filter::Bicubic));
    let plain = ImageProcessor { size: ImageSize::Of([384, 384]), ..whole.clone() };
    let colours = picture("colours.png");
    assert_eq!(whole.batch(std::slice::from_ref(&colours))?, plain.batch(&[colours])?);
    Ok(())
}

#[test]
fn what_processors_cannot_do_is_told() {
    let cases = [
        (json!({"image_processor_type": "SamImageProcessor"}), "prepared by `Sam`, which is not supported; known: ViT, DeiT"),
        (json!({"resample": 0}), "`resample`: is 0; known: 1 (Lanczos)"),
        (json!({"size": {"longest_edge": 5}}), "`size`: a size is `height` and `width`, or `shortest_edge`"),
        (json!({"size": [5, 5]}), "`size`: a size is `height` and `width`, or `shortest_edge`"),
        (json!({"crop_size": {"height": "7", "width": 5}}), "`crop_size`: `height` is \"7\", and no size"),
        (json!({"size": {"shortest_edge": -1}}), "`size`: `shortest_edge` is -1, and no size"),
        (json!({"image_mean": [0.5, "a"]}), "`image_mean`: invalid type: string"),
        (json!({"do_resize": 1}), "`do_resize`: invalid type: integer"),
        (json!({"size": {"height": 0, "width": 5}, "image_std": [1.0, 0.0]}), "`size` is [0, 5]: a side is 1 to 65536"),
        (json!({"image_std": [1.0, 0.0]}), "`image_mean` has 3 numbers and `image_std` 2"),
        (json!({"image_std": [1.0, 0.0, 1.0]}), "`image_std` has a 0"),
        (json!({"crop_size": {"shortest_edge": 5}}), "`crop_size` needs `height` and `width`"),
        (json!({"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 1e-9}), "must be a share above 0.01"),
        (json!([1]), "expected a map"),
    ];
    for (place, (said, told)) in cases.iter().enumerate() {
        let error = processor(said, &format!("told-{place}")).expect_err("wrong").to_string();
        assert!(error.contains(told) && error.contains("preprocessor_config.json"), "{error}");
    }
    // A strip that would become gigabytes.
    let strip = Picture::new([1, 60_000], 1, vec![7; 60_000]).expect("thin");
    let large = ImageProcessor { size: ImageSize::Shortest(20_000), ..ImageProcessor::default() };
    let error = large.batch(&[strip]).expect_err("too large").to_string();
    assert!(error.contains("1 x 60000 pixels would become 20000 x 1200000000, beyond any picture"), "{error}");
    let any = ImageProcessor { size: ImageSize::Shortest(8), ..ImageProcessor::default() };
    let error = any.batch(&[picture("colours.png"), picture("grey.png")]).expect_err("two sizes").to_string();
    assert!(error.contains("one picture becomes 8 x 10 and another 8 x 9: they are no batch"), "{error}");
}

#[test]
fn a_processor_that_does_not_fit_its_model_is_told() {
    let told = |case: &str, change: fn(&mut Value)| {
        let copy = Copy::of(case, "unfit");
        copy.edit("preprocessor_config.json", change);
        ImageClassifier::of_folder(&copy.folder(), &cpu()).expect_err("unfit").to_string()
    };
    let error = told("vit_class", |file| file["size"] = json!(9));
    assert!(
        error.contains("become [colours, height, width] = [3, 9, 9], and the model of `config.json` reads [3, 8, 8]"),
        "{error}"
    );
    let error = told("resnet", |file| *file = json!({"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 9}}));
    assert!(error.contains("pictures come out in any size"), "{error}");
    let folder = Folder::open(path("bert")).expect("kept beside the tests");
    let error = ImageClassifier::of_folder(&folder, &cpu()).expect_err("no pictures").to_string();
    assert!(error.contains("bert/preprocessor_config.json: No such file"), "{error}");
}

/// Pillow 13 gives these of all but grey, which it cuts off at 255.
#[test]
fn the_upper_bits_of_deep_colours_are_taken() -> Result<(), Error> {
    let deep = [0u16, 255, 128, 256, 0x80ff, 0xffff];
    let decoded = |picture: DynamicImage| {
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png).expect("in memory");
        Picture::decode(png.get_ref())
    };
    let grey = ImageBuffer::from_raw(6, 1, deep.to_vec()).expect("six");
    let colours = |opacity: Option<u16>| deep.iter().flat_map(move |x| [*x; 3].into_iter().chain(opacity));
    let three = ImageBuffer::from_raw(6, 1, colours(None).collect()).expect("six");
    let four = ImageBuffer::from_raw(6, 1, colours(Some(0)).collect()).expect("six");
    let expected: Vec<u8> = [0u8, 0, 0, 1, 128, 255].iter().flat_map(|x| [*x; 3]).collect();
    for picture in [DynamicImage::ImageLuma16(grey), DynamicImage::ImageRgb16(three), DynamicImage::ImageRgba16(four)] {
        assert_eq!(decoded(picture)?.pixels(), expected);
    }
    Ok(())
}

#[test]
fn malformed_pictures_are_told() {
    let png = std::fs::read(path("pictures/colours.png")).expect("kept beside the tests");
    let jpeg = std::fs::read(path("pictures/turned.jpg")).expect("kept beside the tests");
    for bytes in [&[][..], b"P6 1 1 255 abc", &png[..png.len() / 2], &png[..9], &jpeg[..9]] {
        let error = Picture::decode(bytes).expect_err("no picture").to_string();
        assert!(error.starts_with("no PNG or JPEG picture: "), "{error}");
    }
    // Four billion pixels in a few bytes.
    let mut wide = png.clone();
    wide[16..24].copy_from_slice(&[0, 0, 255, 255, 0, 0, 255, 255]);
    Picture::decode(&wide).expect_err("beyond any picture");
    let error = Picture::read("/no/such.png").expect_err("none").to_string();
    assert!(error.starts_with("/no/such.png: "), "{error}");
    for (size, channels, pixels, told) in [
        ([0, 1], 3, vec![], "a side is 1 to"),
        ([1, 1], 4, vec![0; 4], "pixels have 1 colour or 3, not 4"),
        ([2, 1], 3, vec![0; 5], "2 x 1 pixels of 3 colours are 6 numbers, not 5"),
    ] {
        let error = Picture::new(size, channels, pixels).expect_err("wrong").to_string();
        assert!(error.contains(told), "{error}");
    }
}
