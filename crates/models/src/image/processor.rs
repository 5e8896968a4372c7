//! Pictures as the input of a model: `preprocessor_config.json`.

use std::collections::BTreeSet;

use graver_hub::Folder;
use graver_ir::{Array, Diag, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::picture::{MAX_BYTES, MAX_SIDE, Picture};
use super::resample::Filter;
use crate::config::{over, require};

/// What is done to a picture before a model sees it. Fields have the names of transformers' image processors.
///
/// Each step is optional: another size, the middle cut out, numbers multiplied by `rescale_factor`, then `(x - mean) / deviation` for each
/// colour.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ImageProcessor {
    /// Whether the size changes.
    pub do_resize: bool,
    /// To which size.
    pub size: ImageSize,
    /// How: Pillow's number of a filter.
    #[serde(deserialize_with = "filter")]
    pub resample: Filter,
    /// The share of a picture that is seen, where it is made smaller than 384 and its middle is cut out.
    #[serde(default)]
    pub crop_pct: Option<f64>,
    /// Whether the middle is cut out.
    pub do_center_crop: bool,
    /// Of which size.
    pub crop_size: ImageSize,
    /// Whether numbers are scaled.
    pub do_rescale: bool,
    /// By how much.
    pub rescale_factor: f64,
    /// Whether means are taken away and deviations divided by.
    pub do_normalize: bool,
    /// A mean a colour.
    pub image_mean: Vec<f32>,
    /// A deviation a colour.
    pub image_std: Vec<f32>,
}

/// A size of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSize {
    /// Height and width.
    Of([usize; 2]),
    /// The shorter side; the other in proportion.
    Shortest(usize),
}

/// The processors that are known, each with what its file need not say.
const KNOWN: [(&str, &str); 5] = [
    ("ViT", r#"{"size": {"height": 224, "width": 224}, "resample": 2}"#),
    ("DeiT", r#"{"size": {"height": 256, "width": 256}, "resample": 3, "do_center_crop": true}"#),
    ("ConvNext", r#"{"size": {"shortest_edge": 384}, "resample": 3, "crop_pct": 0.875}"#),
    ("CLIP", CLIP),
    ("Bit", CLIP),
];

const CLIP: &str = r#"{
    "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711]
}"#;

/// What none of them need say.
const USUAL: &str = r#"{
    "do_resize": true, "do_center_crop": false, "crop_size": {"height": 224, "width": 224}, "do_rescale": true,
    "rescale_factor": 0.00392156862745098, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]
}"#;

/// The file of a folder.
const FILE: &str = "preprocessor_config.json";

impl ImageProcessor {
    /// What a folder says. `family` is the model's, whose usual processor it is where the file names none.
    ///
    /// # Errors
    /// If the file cannot be read, names a processor that is not known, or asks for what makes no sense.
    pub fn of_folder(folder: &Folder, family: &str) -> Result<Self, Error> {
        let read = of_fields(folder.fields(FILE)?, family);
        let at = |diag: &Diag| diag.clone().op(folder.path().join(FILE).display().to_string());
        read.map_err(|error| Error::from_diags(error.diags().iter().map(at).collect()).expect("an error has diagnostics"))
    }

    /// Height and width of what comes out, where it is the same for every picture.
    #[must_use]
    pub fn size(&self) -> Option<[usize; 2]> {
        match (self.do_center_crop, self.crop_size, self.do_resize, self.size, self.crop_pct) {
            (true, ImageSize::Of(size), ..) | (false, _, true, ImageSize::Of(size), _) => Some(size),
            (false, _, true, ImageSize::Shortest(side), Some(_)) => Some([side, side]),
            _ => None,
        }
    }

    /// Pictures as a batch, `f32[pictures, colours, height, width]`.
    ///
    /// ```
    /// use graver_models::{Filter, ImageProcessor, ImageSize, Picture};
    /// let processor = ImageProcessor { size: ImageSize::Of([1, 1]), resample: Filter::Box, ..ImageProcessor::default() };
    /// let batch = processor.batch(&[Picture::new([1, 2], 3, vec![0, 10, 255, 0, 20, 255])?])?;
    /// assert_eq!(batch.shape(), [1, 3, 1, 1]);
    /// assert_eq!(batch.to_f64()[0], -1.0);
    /// # Ok::<(), graver_ir::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are none, or they come out in different sizes.
    pub fn batch(&self, pictures: &[Picture]) -> Result<Array, Error> {
        let channels = self.image_mean.len();
        let ready = pictures.iter().map(|picture| self.prepared(&picture.with_channels(channels)));
        let ready = ready.collect::<Result<Vec<Picture>, Error>>()?;
        let Some(first) = ready.first() else {
            return Err(Error::new("there is no picture"));
        };
        if let Some(other) = ready.iter().find(|picture| picture.size() != first.size()) {
            let ([h, w], [other_h, other_w]) = (first.size(), other.size());
            let message = format!("one picture becomes {h} x {w} and another {other_h} x {other_w}: they are no batch");
            return Err(Diag::new(message).op("picture").into());
        }
        let mut numbers = Vec::with_capacity(ready.len() * first.pixels.len());
        for picture in &ready {
            for channel in 0..channels {
                let pixels = picture.pixels.iter().skip(channel).step_by(channels);
                numbers.extend(pixels.map(|pixel| self.number(*pixel, channel)));
            }
        }
        Ok(Array::from_vec([ready.len(), channels, first.height, first.width], numbers)?)
    }

    /// A picture in its size.
    fn prepared(&self, picture: &Picture) -> Result<Picture, Error> {
        let resized = match (self.do_resize, self.size, self.crop_pct) {
            (false, ..) => picture.clone(),
            (true, ImageSize::Of(size), _) => self.resized(picture, size)?,
            (true, ImageSize::Shortest(side), None) => self.resized(picture, in_proportion(picture, side))?,
            (true, ImageSize::Shortest(side), Some(share)) if side < WHOLE => {
                self.resized(picture, in_proportion(picture, larger(side, share)))?.center_crop([side, side])
            }
            (true, ImageSize::Shortest(side), Some(_)) => self.resized(picture, [side, side])?,
        };
        Ok(match (self.do_center_crop, self.crop_size) {
            (true, ImageSize::Of(size)) => resized.center_crop(size),
            _ => resized,
        })
    }

    fn resized(&self, picture: &Picture, [height, width]: [usize; 2]) -> Result<Picture, Error> {
        let bytes = height.max(picture.height).saturating_mul(width).saturating_mul(picture.channels);
        if bytes > MAX_BYTES {
            let [old_height, old_width] = picture.size();
            let message = format!("{old_height} x {old_width} pixels would become {height} x {width}, beyond any picture");
            return Err(Diag::new(message).op("picture").into());
        }
        Ok(picture.resize([height, width], self.resample))
    }

    fn number(&self, pixel: u8, channel: usize) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "models are given `f32`")]
        let scaled = if self.do_rescale { (f64::from(pixel) * self.rescale_factor) as f32 } else { f32::from(pixel) };
        if self.do_normalize { (scaled - self.image_mean[channel]) / self.image_std[channel] } else { scaled }
    }

    fn check(&self) -> Result<(), Error> {
        let sides = |name: &str, size: ImageSize| {
            let sides = match size {
                ImageSize::Of(sides) => sides,
                ImageSize::Shortest(side) => [side, side],
            };
            (sides.iter().all(|side| (1..=MAX_SIDE).contains(side)), format!("`{name}` is {sides:?}: a side is 1 to {MAX_SIDE}"))
        };
        let (means, deviations) = (self.image_mean.len(), self.image_std.len());
        require([
            sides("size", self.size),
            sides("crop_size", self.crop_size),
            (matches!(self.crop_size, ImageSize::Of(_)), "`crop_size` needs `height` and `width`".to_owned()),
            ([1, 3].contains(&means), format!("`image_mean` has {means} numbers, and there are 1 colour or 3")),
            (means == deviations, format!("`image_mean` has {means} numbers and `image_std` {deviations}")),
            (self.image_std.iter().all(|deviation| *deviation != 0.0), "`image_std` has a 0".to_owned()),
            (
                self.crop_pct.is_none_or(|share| share > 0.01 && share.is_finite()),
                format!("`crop_pct` is {}, and must be a share above 0.01", self.crop_pct.unwrap_or_default()),
            ),
        ])
    }
}

impl Default for ImageProcessor {
    /// That of ViT.
    fn default() -> Self {
        of_fields(Map::new(), "vit").expect("what is usual is right")
    }
}

/// From this side on, a `ConvNextImageProcessor` shows the whole picture.
const WHOLE: usize = 384;

/// The side of which one is a share.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes of pictures")]
fn larger(side: usize, share: f64) -> usize {
    ((side as f64 / share) as usize).max(1)
}

/// The size with this shorter side.
fn in_proportion(picture: &Picture, shortest: usize) -> [usize; 2] {
    let [height, width] = picture.size();
    let other = |long: usize, short: usize| shortest * long / short;
    if width <= height { [other(height, width), shortest] } else { [shortest, other(width, height)] }
}

fn of_fields(mut fields: Map<String, Value>, family: &str) -> Result<ImageProcessor, Error> {
    let named = ["image_processor_type", "feature_extractor_type"].iter().find_map(|name| fields.get(*name)?.as_str());
    let kind = named.map_or(if ["resnet", "convnext"].contains(&family) { "ConvNext" } else { "ViT" }, |name| {
        let name = name.strip_suffix("Fast").or_else(|| name.strip_suffix("Pil")).unwrap_or(name);
        name.strip_suffix("ImageProcessor").or_else(|| name.strip_suffix("FeatureExtractor")).unwrap_or(name)
    });
    let Some((kind, defaults)) = KNOWN.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
        return Err(Error::new(format!(
            "pictures are prepared by `{kind}`, which is not supported; known: {}",
            known.join(", ")
        )));
    };
    if *kind != "ConvNext" {
        fields.remove("crop_pct");
    }
    let is_square = ["ViT", "DeiT"].contains(kind);
    let parse = |text: &str| serde_json::from_str::<Map<String, Value>>(text).expect("defaults are JSON objects");
    let mut all = parse(USUAL);
    all.extend(parse(defaults));
    fields.retain(|_, value| !value.is_null());
    for (name, is_square) in [("size", is_square), ("crop_size", true)] {
        if let Some(side) = fields.get(name).and_then(Value::as_u64) {
            let sides: &[&str] = if is_square { &["height", "width"] } else { &["shortest_edge"] };
            fields.insert(name.to_owned(), sides.iter().map(|part| (part.to_string(), Value::from(side))).collect());
        }
    }
    let processor: ImageProcessor = over(&all, fields)?;
    processor.check().map(|()| processor)
}

impl<'de> Deserialize<'de> for ImageSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fields = if let Value::Object(fields) = Value::deserialize(from)? { fields } else { Map::new() };
        let side = |name: &str| {
            let side = fields[name].as_u64().and_then(|side| usize::try_from(side).ok());
            side.ok_or_else(|| serde::de::Error::custom(format!("`{name}` is {}, and no size", fields[name])))
        };
        let names: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
        match names.into_iter().collect::<Vec<_>>()[..] {
            ["height", "width"] => Ok(Self::Of([side("height")?, side("width")?])),
            ["shortest_edge"] => Ok(Self::Shortest(side("shortest_edge")?)),
            _ => Err(serde::de::Error::custom("a size is `height` and `width`, or `shortest_edge`")),
        }
    }
}

fn filter<'de, D: Deserializer<'de>>(from: D) -> Result<Filter, D::Error> {
    match u8::deserialize(from)? {
        1 => Ok(Filter::Lanczos),
        2 => Ok(Filter::Bilinear),
        3 => Ok(Filter::Bicubic),
        4 => Ok(Filter::Box),
        other => Err(serde::de::Error::custom(format!("is {other}; known: 1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box)"))),
    }
}
