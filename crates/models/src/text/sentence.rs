//! Embeddings of sentences: Reimers and Gurevych (2019), "Sentence-BERT", in the folders of sentence-transformers.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use graver_hub::{Folder, Names};
use graver_ir::{Diag, Error};
use graver_nn::{Activation, Init, Linear};
use graver_trace::{Module, Tensor, arange, concat, enter};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::encoder::{TextEncoder, TextInput};
use crate::config::at;
use crate::parts::linear_if;
use crate::pretrained::Pretrained;

/// One row of features for a whole text.
#[derive(Debug, Module)]
pub struct SentenceEncoder {
    body: TextEncoder,
    #[module(skip)]
    pooling: Vec<Pooling>,
    dense: Vec<Dense>,
    #[module(skip)]
    normalize: bool,
    #[module(skip)]
    max_length: usize,
    #[module(skip)]
    writing: Writing,
}

/// How texts are written before they are tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writing {
    /// What stands before every text.
    prompt: String,
    lower_case: bool,
}

impl Writing {
    /// A text as its tokens are made of, without spaces around it.
    pub(crate) fn of(&self, text: &str) -> String {
        let text = format!("{}{text}", self.prompt);
        if self.lower_case { text.trim().to_lowercase() } else { text.trim().to_owned() }
    }
}

/// How the rows of tokens become one. Several are put beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's.
    Cls,
    /// The greatest of every feature.
    Max,
    /// The last token's.
    Last,
    /// The mean.
    Mean,
    /// The sum over the root of the number of tokens.
    MeanSqrtLength,
    /// The mean where the second token counts twice, the third three times, and so on.
    WeightedMean,
}

/// A dense layer behind the pooling.
#[derive(Debug, Module)]
struct Dense {
    linear: Linear,
    #[module(skip)]
    activation: Activation,
}

/// `2_Dense/config.json`
#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    /// A class of PyTorch.
    #[serde(default = "tanh")]
    activation_function: String,
}

const fn yes() -> bool {
    true
}

fn tanh() -> String {
    "Tanh".to_owned()
}

impl Dense {
    fn of_folder(folder: &Folder) -> Result<Self, Error> {
        let config: DenseConfig = folder.json("config.json")?;
        let weights = folder.weights()?;
        let mut init = Init::blank(weights.count().saturating_add(1));
        let class = config.activation_function.rsplit('.').next().unwrap_or_default();
        let activation = ACTIVATIONS.into_iter().find_map(|(known, activation)| (known == class).then_some(activation));
        let unknown = || Error::from(Diag::new(format!("the activation `{class}` is not supported")).op("config.json"));
        let linear = linear_if(config.bias, config.in_features, config.out_features, &mut init);
        let dense = Self { linear, activation: activation.ok_or_else(unknown)? };
        if init.refused().is_some() {
            return Err(Error::new("config.json asks for more elements than the weights have"));
        }
        weights.load_into(&dense, &Names::default())?;
        Ok(dense)
    }

    #[track_caller]
    fn forward(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        self.activation.forward(self.linear.forward(x))
    }
}

/// PyTorch's names of activations.
const ACTIVATIONS: [(&str, Activation); 6] = [
    ("Identity", Activation::Identity),
    ("Tanh", Activation::Tanh),
    ("ReLU", Activation::Relu),
    ("GELU", Activation::Gelu),
    ("SiLU", Activation::Silu),
    ("Sigmoid", Activation::Sigmoid),
];

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct Part {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `1_Pooling/config.json`: newer files name the mode, older ones have a switch for each.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PoolingConfig {
    /// How long the body's rows are.
    word_embedding_dimension: Option<usize>,
    pooling_mode: Option<Modes>,
    pooling_mode_cls_token: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
    /// Whether a prompt's rows count.
    include_prompt: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Modes {
    One(String),
    Several(Vec<String>),
}

/// `sentence_bert_config.json`
#[derive(Default, Deserialize)]
struct Limits {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// `tokenizer_config.json`
#[derive(Default, Deserialize)]
struct TokenizerLimits {
    /// Far beyond any text where there is no limit.
    model_max_length: Option<f64>,
}

/// `config_sentence_transformers.json`
#[derive(Default, Deserialize)]
#[serde(default)]
struct Prompts {
    default_prompt_name: Option<String>,
    prompts: BTreeMap<String, String>,
}

impl SentenceEncoder {
    /// The model of a folder: `modules.json` says what follows the body; without it, the mean of the tokens' rows.
    ///
    /// # Errors
    /// If files are missing or malformed, or something follows that is not supported.
    pub fn of_folder(folder: &Folder) -> Result<Self, Error> {
        let plan = Plan::of_folder(folder)?;
        let body = TextEncoder::of_folder(&plan.body)?;
        plan.fits(body.config().hidden_size)?;
        let limits: Limits = optional(&plan.body, LIMITS)?;
        let max_length = longest(&plan.body, &limits, body.config().max_length())?;
        let writing = Writing { prompt: plan.prompt(folder)?, lower_case: limits.do_lower_case };
        Ok(Self { body, pooling: plan.pooling, dense: plan.dense, normalize: plan.normalize, max_length, writing })
    }

    /// Where the encoder of tokens and its tokeniser are: in the folder itself, or where `modules.json` says.
    ///
    /// # Errors
    /// If that file is malformed, or names what is not in the folder.
    pub fn body_folder(folder: &Folder) -> Result<Folder, Error> {
        let parts = if folder.has(MODULES) { folder.json::<Vec<Part>>(MODULES)? } else { Vec::new() };
        let part = parts.iter().find(|part| part.class() == TRANSFORMER);
        part.map_or_else(|| Ok(folder.clone()), |part| part.folder(folder).map_err(|error| at_modules(folder, &error)))
    }

    /// The embeddings, `[batch, width]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, input: TextInput) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let hidden = self.body.forward(input);
        let rows: Vec<Tensor> = self.pooling.iter().map(|pooling| pooling.of(hidden, input.mask)).collect();
        let row = self.dense.iter().fold(concat(&rows, -1), |row, dense| dense.forward(row));
        // As sentence-transformers has it, so that a row of zeros stays one.
        if self.normalize { row / row.square().sum_keepdim(-1).sqrt().maximum(1e-12) } else { row }
    }

    /// The encoder of tokens.
    #[must_use]
    pub const fn body(&self) -> &TextEncoder {
        &self.body
    }

    /// How texts are written before they are tokens.
    pub(crate) const fn writing(&self) -> &Writing {
        &self.writing
    }

    /// How many tokens of a text are read.
    #[must_use]
    pub const fn max_length(&self) -> usize {
        self.max_length
    }
}

const LIMITS: &str = "sentence_bert_config.json";
const TOKENIZER: &str = "tokenizer_config.json";
const PROMPTS: &str = "config_sentence_transformers.json";
const TRANSFORMER: &str = "Transformer";

/// A file that a folder need not have.
fn optional<T: Default + DeserializeOwned>(folder: &Folder, name: &str) -> Result<T, Error> {
    if folder.has(name) { folder.json(name) } else { Ok(T::default()) }
}

/// How many tokens are read, where the encoder reads so many at most: what is said of the sentences, or else of the tokeniser.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a size")]
fn longest(body: &Folder, limits: &Limits, most: usize) -> Result<usize, Error> {
    let nothing =
        |field: &str, file: &str| Err(Diag::new(format!("`{field}` is 0: nothing of a text would be read")).op(file).into());
    match (limits.max_seq_length, optional::<TokenizerLimits>(body, TOKENIZER)?.model_max_length) {
        (Some(0), _) => nothing("max_seq_length", LIMITS),
        (Some(limit), _) => Ok(limit.min(most)),
        (None, Some(limit)) if limit < 1.0 => nothing("model_max_length", TOKENIZER),
        (None, Some(limit)) => Ok(limit.min(most as f64) as usize),
        (None, None) => Ok(most),
    }
}

impl Pooling {
    #[track_caller]
    fn of(self, hidden: Tensor, mask: Tensor) -> Tensor {
        let keep = mask.cast(hidden.dtype()).unsqueeze(-1);
        let total = || (hidden * keep).sum(1);
        let count = || keep.sum(1).maximum(1e-9);
        match self {
            Self::Cls => hidden.select(1, 0),
            Self::Max => hidden.masked_fill(mask.eq(0).unsqueeze(-1), -1e9).max(1),
            // The number of tokens up to a place tells the last one, whichever side the padding is on.
            Self::Last => {
                let (places, count) = (keep.cumsum(1), keep.sum_keepdim(1));
                (hidden * keep * places.eq(count).cast(hidden.dtype())).sum(1)
            }
            Self::Mean => total() / count(),
            Self::MeanSqrtLength => total() / count().sqrt(),
            Self::WeightedMean => {
                let weight = keep * (arange(hidden.dim(1), hidden.dtype()) + 1.0).unsqueeze(-1);
                (hidden * weight).sum(1) / weight.sum(1).maximum(1e-9)
            }
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "cls" => Some(Self::Cls),
            "max" => Some(Self::Max),
            "mean" => Some(Self::Mean),
            "mean_sqrt_len_tokens" => Some(Self::MeanSqrtLength),
            "weightedmean" => Some(Self::WeightedMean),
            "lasttoken" => Some(Self::Last),
            _ => None,
        }
    }
}

impl PoolingConfig {
    /// The names of the modes, in the order in which their rows stand.
    fn modes(&self) -> Vec<&str> {
        let switches = [
            ("cls", self.pooling_mode_cls_token),
            ("max", self.pooling_mode_max_tokens),
            ("mean", self.pooling_mode_mean_tokens),
            ("mean_sqrt_len_tokens", self.pooling_mode_mean_sqrt_len_tokens),
            ("weightedmean", self.pooling_mode_weightedmean_tokens),
            ("lasttoken", self.pooling_mode_lasttoken),
        ];
        match &self.pooling_mode {
            Some(Modes::One(mode)) => vec![mode],
            Some(Modes::Several(modes)) => modes.iter().map(String::as_str).collect(),
            None => switches.into_iter().filter_map(|(mode, is_on)| is_on.then_some(mode)).collect(),
        }
    }
}

/// What a folder's modules amount to.
struct Plan {
    body: Folder,
    pooling: Vec<Pooling>,
    /// A file that says how long the body's rows are.
    width: Option<(String, usize)>,
    dense: Vec<Dense>,
    normalize: bool,
    /// Whether a prompt's rows are pooled, too.
    include_prompt: bool,
}

impl Part {
    /// The class without its module.
    fn class(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or_default()
    }

    /// That it lies in its folder.
    fn inside(&self) -> Result<(), Error> {
        let is_inside = Path::new(&self.path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if is_inside { Ok(()) } else { Err(Error::new(format!("`{}` lies outside of the folder", self.path))) }
    }

    fn folder(&self, of: &Folder) -> Result<Folder, Error> {
        self.inside()?;
        Folder::open(of.path().join(&self.path))
    }
}

impl Plan {
    fn of_folder(folder: &Folder) -> Result<Self, Error> {
        let mut plan = Self {
            body: folder.clone(),
            pooling: vec![Pooling::Mean],
            width: None,
            dense: Vec::new(),
            normalize: false,
            include_prompt: true,
        };
        if !folder.has(MODULES) {
            return Ok(plan);
        }
        let parts: Vec<Part> = folder.json(MODULES)?;
        let mut diags = Vec::new();
        for part in &parts {
            if let Err(error) = plan.add(folder, part) {
                diags.extend(at_modules(folder, &error).diags().iter().cloned());
            }
        }
        Error::from_diags(diags).map_or(Ok(plan), Err)
    }

    fn add(&mut self, folder: &Folder, part: &Part) -> Result<(), Error> {
        part.inside()?;
        match part.class() {
            TRANSFORMER => self.body = part.folder(folder)?,
            "Pooling" => {
                let file = format!("{}/config.json", part.path);
                let config: PoolingConfig = folder.json(&file)?;
                self.pooling = pooling(&config, &file)?;
                self.include_prompt = config.include_prompt.unwrap_or(true);
                self.width = config.word_embedding_dimension.map(|width| (file, width));
            }
            "Normalize" => self.normalize = true,
            _ if self.normalize => return Err(Error::new(format!("`{}` behind `Normalize` is not supported", part.kind))),
            "Dense" => self.dense.push(Dense::of_folder(&part.folder(folder)?)?),
            _ => return Err(Error::new(format!("the module `{}` is not supported", part.kind))),
        }
        Ok(())
    }

    /// What stands before every text: the default one of the folder's prompts.
    fn prompt(&self, folder: &Folder) -> Result<String, Error> {
        let Prompts { default_prompt_name, mut prompts } = optional(folder, PROMPTS)?;
        let Some(name) = default_prompt_name else { return Ok(String::new()) };
        let wrong = |message: String| Err(Diag::new(message).op(folder.path().join(PROMPTS).display().to_string()).into());
        match prompts.remove(&name) {
            None => {
                wrong(format!("`default_prompt_name` is `{name}`, and `prompts` has {:?}", prompts.keys().collect::<Vec<_>>()))
            }
            Some(prompt) if !prompt.is_empty() && !self.include_prompt => wrong(format!(
                "texts stand behind the prompt `{name}`, and pooling without it (`include_prompt`) is not supported"
            )),
            Some(prompt) => Ok(prompt),
        }
    }

    /// Whether the body's rows are as long as is said.
    fn fits(&self, hidden: usize) -> Result<(), Error> {
        match &self.width {
            Some((file, width)) if *width != hidden => {
                let said =
                    format!("`word_embedding_dimension` is {width}, and the rows of the encoder of tokens are {hidden} long");
                Err(Diag::new(said).op(file).help("the pooling is another model's").into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

const MODULES: &str = "modules.json";

fn at_modules(folder: &Folder, error: &Error) -> Error {
    at(&folder.path().join(MODULES).display().to_string(), error)
}

fn pooling(config: &PoolingConfig, file: &str) -> Result<Vec<Pooling>, Error> {
    let unknown = |mode: &str| Diag::new(format!("pooling by `{mode}` is not supported")).op(file);
    let named = |mode: &str| Pooling::named(mode).ok_or_else(|| Error::from(unknown(mode)));
    match config.modes() {
        modes if modes.is_empty() => Err(Diag::new("says no way of pooling").op(file).into()),
        modes => modes.into_iter().map(named).collect(),
    }
}
