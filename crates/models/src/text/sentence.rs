//! Embeddings of sentences: Reimers and Gurevych (2019), "Sentence-BERT", in the folders of sentence-transformers.

use std::path::{Component, Path};

use graver_hub::Folder;
use graver_ir::{Diag, Error};
use graver_trace::{Module, Tensor, concat, enter};
use serde::Deserialize;

use super::encoder::{TextEncoder, TextInput};
use crate::pretrained::Pretrained;

/// One row of features for a whole text.
#[derive(Debug, Module)]
pub struct SentenceEncoder {
    body: TextEncoder,
    #[module(skip)]
    pooling: Vec<Pooling>,
    #[module(skip)]
    normalize: bool,
    #[module(skip)]
    max_length: usize,
}

/// How the rows of tokens become one. Several are put beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's.
    Cls,
    /// The greatest of every feature.
    Max,
    /// The mean.
    Mean,
    /// The sum over the root of the number of tokens.
    MeanSqrtLength,
}

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
    pooling_mode: Option<Modes>,
    pooling_mode_cls_token: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
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
}

impl SentenceEncoder {
    /// The model of a folder: `modules.json` says what follows the body; without it, the mean of the tokens' rows.
    ///
    /// # Errors
    /// If files are missing or malformed, or something follows that is not supported.
    pub fn of_folder(folder: &Folder) -> Result<Self, Error> {
        let plan = Plan::of_folder(folder)?;
        let body = TextEncoder::of_folder(&plan.body)?;
        let limits = if folder.has(LIMITS) { folder.json::<Limits>(LIMITS)? } else { Limits::default() };
        let longest = body.config().max_length();
        let max_length = limits.max_seq_length.filter(|limit| *limit > 0).map_or(longest, |limit| limit.min(longest));
        Ok(Self { body, pooling: plan.pooling, normalize: plan.normalize, max_length })
    }

    /// The embeddings, `[batch, width]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, input: TextInput) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let hidden = self.body.forward(input);
        let rows: Vec<Tensor> = self.pooling.iter().map(|pooling| pooling.of(hidden, input.mask)).collect();
        let row = concat(&rows, -1);
        // As sentence-transformers has it, so that a row of zeros stays one.
        if self.normalize { row / row.square().sum_keepdim(-1).sqrt().maximum(1e-12) } else { row }
    }

    /// The encoder of tokens.
    #[must_use]
    pub const fn body(&self) -> &TextEncoder {
        &self.body
    }

    /// How many tokens of a text are read.
    #[must_use]
    pub const fn max_length(&self) -> usize {
        self.max_length
    }
}

const LIMITS: &str = "sentence_bert_config.json";

impl Pooling {
    #[track_caller]
    fn of(self, hidden: Tensor, mask: Tensor) -> Tensor {
        let keep = mask.cast(hidden.dtype()).unsqueeze(-1);
        let total = || (hidden * keep).sum(1);
        let count = || keep.sum(1).maximum(1e-9);
        match self {
            Self::Cls => hidden.select(1, 0),
            Self::Max => hidden.masked_fill(mask.eq(0).unsqueeze(-1), -1e9).max(1),
            Self::Mean => total() / count(),
            Self::MeanSqrtLength => total() / count().sqrt(),
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "cls" => Some(Self::Cls),
            "max" => Some(Self::Max),
            "mean" => Some(Self::Mean),
            "mean_sqrt_len_tokens" => Some(Self::MeanSqrtLength),
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
    normalize: bool,
}

impl Plan {
    fn of_folder(folder: &Folder) -> Result<Self, Error> {
        let mut plan = Self { body: folder.clone(), pooling: vec![Pooling::Mean], normalize: false };
        if !folder.has(MODULES) {
            return Ok(plan);
        }
        let parts: Vec<Part> = folder.json(MODULES)?;
        let mut diags = Vec::new();
        for part in &parts {
            if let Err(error) = plan.add(folder, part) {
                let at = || folder.path().join(MODULES).display().to_string();
                diags.extend(error.diags().iter().map(|diag| diag.clone().op(at())));
            }
        }
        Error::from_diags(diags).map_or(Ok(plan), Err)
    }

    fn add(&mut self, folder: &Folder, part: &Part) -> Result<(), Error> {
        let kind = part.kind.rsplit('.').next().unwrap_or_default();
        if !is_inside(&part.path) {
            return Err(Error::new(format!("`{}` lies outside of the folder", part.path)));
        }
        match kind {
            "Transformer" => self.body = Folder::open(folder.path().join(&part.path))?,
            "Pooling" => self.pooling = pooling(folder, &format!("{}/config.json", part.path))?,
            "Normalize" => self.normalize = true,
            _ => return Err(Error::new(format!("the module `{}` is not supported", part.kind))),
        }
        Ok(())
    }
}

const MODULES: &str = "modules.json";

fn is_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn pooling(folder: &Folder, file: &str) -> Result<Vec<Pooling>, Error> {
    let config: PoolingConfig = folder.json(file)?;
    let unknown = |mode: &str| Diag::new(format!("pooling by `{mode}` is not supported")).op(file);
    let named = |mode: &str| Pooling::named(mode).ok_or_else(|| Error::from(unknown(mode)));
    match config.modes() {
        modes if modes.is_empty() => Err(Diag::new("says no way of pooling").op(file).into()),
        modes => modes.into_iter().map(named).collect(),
    }
}
