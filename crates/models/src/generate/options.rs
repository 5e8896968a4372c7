//! How texts go on: what `generation_config.json` says, or what of it `config.json` has.

use graver_hub::Folder;
use graver_ir::{Diag, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::config::{at, over};

/// How tokens are picked, and when a text ends. Fields have the names and defaults of transformers' `GenerationConfig`.
///
/// ```
/// use graver_models::Generation;
/// let drawn = Generation { do_sample: true, temperature: 0.7, top_k: 20, seed: 1, ..Generation::default() };
/// assert_eq!(drawn.top_p, 1.0);
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Generation {
    /// The most tokens that are added.
    pub max_new_tokens: Option<usize>,
    /// Where nothing says how many are added: the most tokens of a text, its prompt among them. Without it 20 are added.
    pub max_length: Option<usize>,
    /// Whether tokens are drawn by their probabilities; else the likeliest is taken.
    pub do_sample: bool,
    /// What scores are divided by before a token is drawn; at 0 the likeliest is taken.
    pub temperature: f64,
    /// From how many of the likeliest a token is drawn; 0 for all.
    pub top_k: usize,
    /// A token is drawn from the likeliest whose probabilities together come to this.
    pub top_p: f64,
    /// What positive scores of tokens that the text has are divided by, and negative ones multiplied: Keskar et al. (2019), "CTRL".
    pub repetition_penalty: f64,
    /// The tokens at which a text ends.
    #[serde(deserialize_with = "one_or_several")]
    pub eos_token_id: Vec<u32>,
    /// Draws are a function of this, of the text's place and of the token's.
    #[serde(skip)]
    pub seed: u64,
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            max_new_tokens: None,
            max_length: None,
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            repetition_penalty: 1.0,
            eos_token_id: Vec::new(),
            seed: 0,
        }
    }
}

/// What a field of a file is to this library.
enum Role {
    /// It is read.
    Read,
    /// Nothing that is generated depends on it.
    Idle,
    /// It is supported at the value at which it changes nothing; at none but null where that is null.
    Only(Value),
}

/// The fields that a file may have, the rest of their names behind a star. One that is not here is supported where it says nothing: at
/// false, 0, 1.0, and empty.
fn known() -> Vec<(&'static str, Role)> {
    use Role::{Idle, Only, Read};
    vec![
        ("max_new_tokens", Read),
        ("max_length", Read),
        ("do_sample", Read),
        ("temperature", Read),
        ("top_k", Read),
        ("top_p", Read),
        ("repetition_penalty", Read),
        ("eos_token_id", Read),
        (START, Read),
        ("pad_token_id", Idle),
        ("bos_token_id", Idle),
        ("transformers_version", Idle),
        ("_from_model_config", Idle),
        ("_commit_hash", Idle),
        ("use_cache", Idle),
        ("output_*", Idle),
        ("cache_*", Idle),
        ("return_dict_in_generate", Idle),
        // Scores in proportion to others': a softmax comes behind.
        ("renormalize_logits", Idle),
        // Of beams alone.
        ("early_stopping", Idle),
        ("length_penalty", Idle),
        ("num_beams", Only(json!(1))),
        ("num_return_sequences", Only(json!(1))),
        ("min_length", Only(json!(0))),
        ("min_new_tokens", Only(json!(0))),
        ("typical_p", Only(json!(1.0))),
        ("min_p", Only(json!(0.0))),
        ("top_h", Only(Value::Null)),
        ("epsilon_cutoff", Only(json!(0.0))),
        ("eta_cutoff", Only(json!(0.0))),
        ("penalty_alpha", Only(json!(0.0))),
        ("max_time", Only(Value::Null)),
        ("no_repeat_ngram_size", Only(json!(0))),
        ("encoder_no_repeat_ngram_size", Only(json!(0))),
        ("encoder_repetition_penalty", Only(json!(1.0))),
        ("guidance_scale", Only(json!(1.0))),
        ("bad_words_ids", Only(json!([]))),
        ("suppress_tokens", Only(json!([]))),
        ("begin_suppress_tokens", Only(json!([]))),
        ("forced_bos_token_id", Only(Value::Null)),
        ("forced_eos_token_id", Only(json!([]))),
    ]
}

impl Role {
    /// Whether a field's value is supported.
    fn takes(&self, value: &Value) -> bool {
        match self {
            Self::Read | Self::Idle => true,
            Self::Only(neutral) => equal(value, neutral),
        }
    }
}

/// Whether a field of this name is meant.
fn is_named(name: &str, field: &str) -> bool {
    name.strip_suffix('*').map_or(name == field, |begin| field.starts_with(begin))
}

/// Whether a value says nothing.
fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(_) => equal(value, &json!(0)) || equal(value, &json!(1)),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// The token that a decoder's text begins with, where a file says.
const START: &str = "decoder_start_token_id";

/// How long a prompt is, and how many tokens there is room for.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) prompt: usize,
    pub(super) room: usize,
}

/// How many tokens are added where nothing says so.
const USUAL: usize = 20;

/// The file of a folder.
const OWN: &str = "generation_config.json";

/// What a folder's file says, without what is null; and the file.
fn fields(folder: &Folder) -> Result<(Map<String, Value>, String), Error> {
    let is_own = folder.has(OWN);
    let name = if is_own { OWN } else { "config.json" };
    let mut fields = folder.fields(name)?;
    if !is_own && !fields.contains_key("eos_token_id") {
        let family = fields.get("model_type").and_then(Value::as_str).unwrap_or_default();
        fields.insert("eos_token_id".to_owned(), usual_end(family));
    }
    fields.retain(|_, value| !value.is_null());
    Ok((fields, folder.path().join(name).display().to_string()))
}

impl Generation {
    /// What a folder asks for that is not supported, all at once.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn refused(folder: &Folder) -> Result<Option<Error>, Error> {
        let (fields, path) = fields(folder)?;
        let (known, is_own) = (known(), folder.has(OWN));
        // What else a model's configuration says is not about this.
        let takes = |field: &str, value: &Value| {
            let role = known.iter().find(|(name, _)| is_named(name, field));
            role.map_or_else(|| !is_own || is_neutral(value), |(_, role)| role.takes(value))
        };
        let asked = fields.into_iter().filter(|(field, value)| !takes(field, value));
        let told =
            asked.map(|(field, value)| Diag::new(format!("`{field}` is {value}, which is not supported")).op(path.clone()));
        Ok(Error::from_diags(told.collect()))
    }

    /// What a folder says: `generation_config.json`, and where there is none, `config.json` with what is usual in its family.
    ///
    /// # Errors
    /// If the file cannot be read, makes no sense, or asks for what is not supported, all of it at once.
    pub fn of_folder(folder: &Folder) -> Result<Self, Error> {
        if let Some(error) = Self::refused(folder)? {
            return Err(error);
        }
        let (fields, path) = fields(folder)?;
        let options: Self = over(&Map::new(), fields).map_err(|error| at(&path, &error))?;
        let found = options.wrong().into_iter().map(|diag| diag.op(path.clone())).collect();
        Error::from_diags(found).map_or(Ok(options), Err)
    }

    /// The token that a decoder's text begins with, if the folder's own file says.
    pub(super) fn start(folder: &Folder) -> Result<Option<u32>, Error> {
        let said = if folder.has(OWN) { folder.fields(OWN)?.remove(START) } else { None };
        let read = said.map(serde_json::from_value::<Option<u32>>).transpose();
        let wrong = |error| Diag::new(format!("`{START}`: {error}")).op(folder.path().join(OWN).display().to_string());
        Ok(read.map_err(wrong)?.flatten())
    }

    /// What makes no sense.
    ///
    /// # Errors
    /// All of it.
    pub fn check(&self) -> Result<(), Error> {
        let found = self.wrong().into_iter().map(|diag| diag.op("generate"));
        Error::from_diags(found.collect()).map_or(Ok(()), Err)
    }

    fn wrong(&self) -> Vec<Diag> {
        let conditions = [
            ("temperature", self.temperature, self.temperature >= 0.0 && self.temperature.is_finite(), "a number of 0 or more"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite(),
                "a number above 0",
            ),
        ];
        let broken = conditions.into_iter().filter(|(_, _, holds, _)| !holds);
        broken.map(|(name, value, _, wanted)| Diag::new(format!("`{name}` is {value}, and must be {wanted}"))).collect()
    }

    /// How many tokens a text has at most in the end, a prompt of so many among them.
    #[must_use]
    pub fn longest(&self, prompt: usize) -> usize {
        match (self.max_new_tokens, self.max_length) {
            (Some(added), _) => prompt.saturating_add(added),
            (None, Some(length)) => length.max(prompt),
            (None, None) => prompt.saturating_add(USUAL),
        }
    }

    /// How many tokens are added behind a prompt.
    pub(super) fn most(&self, limits: Limits) -> Result<usize, Error> {
        let Limits { prompt, room } = limits;
        // The last token is not read any more.
        let left = (room + 1).saturating_sub(prompt);
        let wrong = |message: String| Err(Diag::new(message).op("generate").into());
        match (self.max_new_tokens, self.max_length) {
            (Some(most), _) if most > left => {
                wrong(format!("{most} tokens behind a prompt of {prompt} are more than the {room} that there is room for"))
            }
            (Some(most), _) => Ok(most),
            (None, Some(length)) if length <= prompt => {
                wrong(format!("a prompt has {prompt} tokens, and `max_length` is {length}: say how many to add"))
            }
            (None, _) => Ok((self.longest(prompt) - prompt).min(left)),
        }
    }
}

/// The token at which texts of a family end, where a file does not say.
fn usual_end(family: &str) -> Value {
    match family {
        "gpt2" => json!(50256),
        "llama" | "mistral" => json!(2),
        "t5" => json!(1),
        _ => Value::Null,
    }
}

/// Whether two values are the same, `1` and `1.0` too.
fn equal(x: &Value, y: &Value) -> bool {
    x == y || x.as_f64().is_some_and(|x| Some(x) == y.as_f64())
}

fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "is neither the number of a token nor a list of them")]
    enum Ids {
        One(u32),
        Several(Vec<u32>),
    }
    Ok(match Ids::deserialize(from)? {
        Ids::One(id) => vec![id],
        Ids::Several(ids) => ids,
    })
}
