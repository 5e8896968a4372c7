//! From texts or pictures to answers: a folder's tokeniser or processor and its model, compiled once for any number of them.

use graver_hub::{Folder, Tokenizer};
use graver_ir::{Diag, Error};
use graver_trace::{Array, Compiled, Device, Tensor, TensorSpec, compile, spec, symbol};

use crate::config::{Labels, REGRESSION};
use crate::image::{ConvNextClassifier, ImageProcessor, Picture, ResNetClassifier, VitClassifier};
use crate::pretrained::{Pretrained, knows, model_type};
use crate::text::{SentenceEncoder, SequenceClassifier, TextConfig, TextInput, Writing};

/// A function of ids, mask and types.
type OfTokens = Compiled<(TensorSpec, TensorSpec, TensorSpec), Tensor>;

/// Texts to rows of features: what search and clustering compare.
#[derive(Debug)]
pub struct Embedder {
    tokenizer: Tokenizer,
    compiled: OfTokens,
    vocabulary: usize,
    writing: Writing,
}

impl Embedder {
    /// The model of a folder, as sentence-transformers reads it.
    ///
    /// # Errors
    /// If files are missing or malformed, or the model is not supported.
    pub fn of_folder(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let model = SentenceEncoder::of_folder(folder)?;
        let length = model.max_length();
        let tokenizer = tokenizer(&SentenceEncoder::body_folder(folder)?, model.body().config(), length)?;
        let vocabulary = model.body().config().vocab_size;
        let writing = model.writing().clone();
        Ok(Self { tokenizer, compiled: compiled(length, device, |input| model.forward(input))?, vocabulary, writing })
    }

    /// The embeddings, `f32[texts, width]`, of texts behind the folder's default prompt, if it has one. Longer texts than the model reads are
    /// cut.
    ///
    /// # Errors
    /// If there is no text, one has tokens that the model does not know, or a call fails.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Array, Error> {
        let written: Vec<String> = texts.iter().map(|text| self.writing.of(text.as_ref())).collect();
        run(&self.tokenizer, &self.compiled, self.vocabulary, &written)
    }
}

/// Texts to classes.
#[derive(Debug)]
pub struct Classifier {
    tokenizer: Tokenizer,
    compiled: OfTokens,
    vocabulary: usize,
    labels: Labels,
}

/// A class of a text or a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The name of the class.
    pub label: String,
    /// Its probability; of a regression, the number itself.
    pub score: f64,
}

impl Classifier {
    /// The model of a folder.
    ///
    /// # Errors
    /// If files are missing or malformed, or the model is not supported.
    pub fn of_folder(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let model = SequenceClassifier::of_folder(folder)?;
        Self::new(&model, tokenizer(folder, model.config(), model.config().max_length())?, device)
    }

    /// A model that was made or trained in the program.
    ///
    /// # Errors
    /// If the model does not compile.
    pub fn new(model: &SequenceClassifier, tokenizer: Tokenizer, device: &Device) -> Result<Self, Error> {
        let config = model.config();
        let probabilities = |input| config.id2label.probabilities(model.forward(input), config.problem_type.as_deref());
        let compiled = compiled(config.max_length(), device, probabilities)?;
        Ok(Self { tokenizer, compiled, vocabulary: config.vocab_size, labels: config.id2label.clone() })
    }

    /// Every class of each text, the likeliest or greatest first.
    ///
    /// # Errors
    /// If there is no text, one has tokens that the model does not know, or a call fails.
    pub fn classify<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Vec<Scored>>, Error> {
        let scores = run(&self.tokenizer, &self.compiled, self.vocabulary, texts)?.fetch()?.to_f64();
        Ok(self.labels.ranked(&scores))
    }
}

/// Pictures to classes.
///
/// ```no_run
/// use graver_models::{ImageClassifier, Picture, hub::Folder};
/// let classifier = ImageClassifier::of_folder(&Folder::open("vit-base-patch16-224")?, &graver::cpu())?;
/// for class in &classifier.classify(&[Picture::read("cat.jpg")?])?[0][..3] {
///     println!("{:.3}  {}", class.score, class.label);
/// }
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Debug)]
pub struct ImageClassifier {
    processor: ImageProcessor,
    compiled: Compiled<TensorSpec, Tensor>,
    labels: Labels,
}

/// What `model_type` may be.
const FAMILIES: [&str; 3] = ["vit", "resnet", "convnext"];

impl ImageClassifier {
    /// The model of a folder, with its `preprocessor_config.json`.
    ///
    /// # Errors
    /// If files are missing or malformed, the model is not supported, or pictures do not come out as it reads them.
    pub fn of_folder(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let (family, _) = model_type(folder)?;
        let processor = ImageProcessor::of_folder(folder, &family)?;
        match family.as_str() {
            "vit" => {
                let model = VitClassifier::of_folder(folder)?;
                let config = model.config();
                let shape = [config.num_channels, config.image_size, config.image_size];
                let labels = (&config.id2label, config.problem_type.as_deref());
                Self::new(processor, shape, labels, device, |images| model.forward(images))
            }
            "resnet" => {
                let model = ResNetClassifier::of_folder(folder)?;
                let config = model.config();
                let [height, width] = processor.size().unwrap_or_default();
                let labels = (&config.id2label, config.problem_type.as_deref());
                Self::new(processor, [config.num_channels, height, width], labels, device, |images| model.forward(images))
            }
            "convnext" => {
                let model = ConvNextClassifier::of_folder(folder)?;
                let config = model.config();
                let [height, width] = processor.size().unwrap_or_default();
                let labels = (&config.id2label, config.problem_type.as_deref());
                Self::new(processor, [config.num_channels, height, width], labels, device, |images| model.forward(images))
            }
            _ => {
                let message = format!("the model type `{family}` does not classify pictures; known: {}", FAMILIES.join(", "));
                Err(Diag::new(message).op(folder.path().display().to_string()).into())
            }
        }
    }

    /// A model that reads images of a shape, `[channels, height, width]`.
    fn new(
        processor: ImageProcessor,
        shape: [usize; 3],
        (labels, problem): (&Labels, Option<&str>),
        device: &Device,
        forward: impl FnOnce(Tensor) -> Tensor,
    ) -> Result<Self, Error> {
        let wrong = |message: String| Err(Diag::new(message).op("preprocessor_config.json").into());
        let Some([height, width]) = processor.size() else {
            return wrong(
                "pictures come out in any size: a `size` of `height` and `width` is wanted, or a center crop".to_owned(),
            );
        };
        let made = [processor.image_mean.len(), height, width];
        if made != shape {
            let message = "pictures become [colours, height, width]";
            return wrong(format!("{message} = {made:?}, and the model of `config.json` reads {shape:?}"));
        }
        let [channels, height, width] = shape;
        let images = spec::<f32>((symbol("pictures", 0..=1 << 20), channels, height, width)).named("images");
        let compiled = compile(|images| labels.probabilities(forward(images), problem), images, device)?;
        Ok(Self { processor, compiled, labels: labels.clone() })
    }

    /// The families that classify pictures, as `model_type` has them.
    #[must_use]
    pub const fn families() -> &'static [&'static str] {
        &FAMILIES
    }

    /// Every class of each picture, the likeliest or greatest first.
    ///
    /// # Errors
    /// If there is no picture, or a call fails.
    pub fn classify(&self, pictures: &[Picture]) -> Result<Vec<Vec<Scored>>, Error> {
        let scores = self.compiled.call(&self.processor.batch(pictures)?)?.fetch()?.to_f64();
        Ok(self.labels.ranked(&scores))
    }
}

impl Labels {
    /// Probabilities of scores: of one class, or of several that do not exclude each other, each its own; the scores themselves of a
    /// regression.
    #[track_caller]
    fn probabilities(&self, scores: Tensor, problem: Option<&str>) -> Tensor {
        match problem {
            Some(REGRESSION) => scores,
            Some(_) | None if self.are_independent(problem) => scores.sigmoid(),
            Some(_) | None => scores.softmax(-1),
        }
    }

    /// The classes of each row, the likeliest first.
    fn ranked(&self, scores: &[f64]) -> Vec<Vec<Scored>> {
        let scored = |(label, score): (&String, &f64)| Scored { label: label.clone(), score: *score };
        let row = |scores: &[f64]| {
            let mut classes: Vec<Scored> = self.names().iter().zip(scores).map(scored).collect();
            classes.sort_by(|x, y| y.score.total_cmp(&x.score));
            classes
        };
        scores.chunks(self.names().len()).map(row).collect()
    }
}

fn tokenizer(folder: &Folder, config: &TextConfig, max_length: usize) -> Result<Tokenizer, Error> {
    let padding = u32::try_from(config.padding()).expect("sizes in configurations are at most 2^31");
    folder.tokenizer()?.padding(padding).max_length(max_length)
}

fn compiled(length: usize, device: &Device, forward: impl FnOnce(TextInput) -> Tensor) -> Result<OfTokens, Error> {
    let tokens = |name: &str| spec::<i64>((symbol("batch", 0..=1 << 20), symbol("length", 1..=length))).named(name);
    let of = |(ids, mask, types)| forward(TextInput { ids, mask, types: Some(types) });
    compile(of, (tokens("ids"), tokens("mask"), tokens("types")), device)
}

fn run<T: AsRef<str>>(tokenizer: &Tokenizer, compiled: &OfTokens, vocabulary: usize, texts: &[T]) -> Result<Array, Error> {
    let tokens = tokenizer.encode(texts)?;
    knows(vocabulary, tokens.ids.as_slice::<i64>().unwrap_or_default().iter().copied())?;
    compiled.call((&tokens.ids, &tokens.mask, &tokens.types))
}
