//! From texts to answers: a folder's tokeniser and model, compiled once for any number of texts of any length.

use graver_hub::{Folder, Tokenizer};
use graver_ir::Error;
use graver_trace::{Array, Compiled, Device, Tensor, TensorSpec, compile, spec, symbol};

use crate::config::Labels;
use crate::pretrained::Pretrained;
use crate::text::{SentenceEncoder, SequenceClassifier, TextConfig, TextInput};

/// A function of ids, mask and types.
type OfTokens = Compiled<(TensorSpec, TensorSpec, TensorSpec), Tensor>;

/// Texts to rows of features: what search and clustering compare.
#[derive(Debug)]
pub struct Embedder {
    tokenizer: Tokenizer,
    compiled: OfTokens,
}

impl Embedder {
    /// The model of a folder, as sentence-transformers reads it.
    ///
    /// # Errors
    /// If files are missing or malformed, or the model is not supported.
    pub fn of_folder(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let model = SentenceEncoder::of_folder(folder)?;
        let length = model.max_length();
        let tokenizer = tokenizer(folder, model.body().config(), length)?;
        Ok(Self { tokenizer, compiled: compiled(length, device, |input| model.forward(input))? })
    }

    /// The embeddings, `f32[texts, width]`. Longer texts than the model reads are cut.
    ///
    /// # Errors
    /// If there is no text, or a call fails.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Array, Error> {
        run(&self.tokenizer, &self.compiled, texts)
    }
}

/// Texts to classes.
#[derive(Debug)]
pub struct Classifier {
    tokenizer: Tokenizer,
    compiled: OfTokens,
    labels: Labels,
}

/// A class of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The name of the class.
    pub label: String,
    /// Its probability.
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
        let probabilities = |input| {
            let scores = model.forward(input);
            // One class, or several that do not exclude each other.
            if config.is_multi_label() { scores.sigmoid() } else { scores.softmax(-1) }
        };
        let compiled = compiled(config.max_length(), device, probabilities)?;
        Ok(Self { tokenizer, compiled, labels: config.id2label.clone() })
    }

    /// Every class of each text, the likeliest first.
    ///
    /// # Errors
    /// If there is no text, or a call fails.
    pub fn classify<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Vec<Scored>>, Error> {
        let scores = run(&self.tokenizer, &self.compiled, texts)?.to_f64();
        Ok(scores.chunks(self.labels.names().len()).map(|row| self.ranked(row)).collect())
    }

    fn ranked(&self, scores: &[f64]) -> Vec<Scored> {
        let scored = |(label, score): (&String, &f64)| Scored { label: label.clone(), score: *score };
        let mut classes: Vec<Scored> = self.labels.names().iter().zip(scores).map(scored).collect();
        classes.sort_by(|x, y| y.score.total_cmp(&x.score));
        classes
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

fn run<T: AsRef<str>>(tokenizer: &Tokenizer, compiled: &OfTokens, texts: &[T]) -> Result<Array, Error> {
    let tokens = tokenizer.encode(texts)?;
    compiled.call((&tokens.ids, &tokens.mask, &tokens.types))
}
