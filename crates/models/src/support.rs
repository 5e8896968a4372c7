//! What a valid configuration may ask for that is not supported, as a table: it is refused by the field's name before anything is read.

use graver_hub::Folder;
use graver_ir::{Diag, Error};
use serde_json::{Map, Value};

use crate::config::at;

/// What is supported of a field, where it is there and not null.
struct Limit {
    /// What `model_type` is.
    families: &'static [&'static str],
    /// The field, inside of others by a dot.
    field: &'static str,
    only: Only,
}

/// Which values are supported.
enum Only {
    False,
    Whole,
    Square,
    OneOf(&'static [&'static str]),
}

const TEXT: &[&str] = &["bert", "roberta", "xlm-roberta", "camembert", "distilbert"];
const MAY_DECODE: &[&str] = &["bert", "roberta", "xlm-roberta", "camembert"];
const MAY_CROSS: &[&str] = &["bert", "roberta", "xlm-roberta", "camembert", "gpt2"];
const LLAMA: &[&str] = &["llama", "mistral", "qwen2"];

/// How frequencies of rotary positions are scaled.
pub(crate) const ROPE_TYPES: &[&str] = &["default", "linear", "dynamic", "llama3", "yarn", "longrope"];

const LIMITS: &[Limit] = &[
    Limit { families: TEXT, field: "position_embedding_type", only: Only::OneOf(&["absolute"]) },
    Limit { families: MAY_DECODE, field: "is_decoder", only: Only::False },
    Limit { families: MAY_CROSS, field: "add_cross_attention", only: Only::False },
    // Some blocks alone would have windows.
    Limit { families: &["qwen2"], field: "use_sliding_window", only: Only::False },
    Limit { families: LLAMA, field: "partial_rotary_factor", only: Only::Whole },
    Limit { families: LLAMA, field: "rope_parameters.partial_rotary_factor", only: Only::Whole },
    Limit { families: LLAMA, field: "rope_scaling.partial_rotary_factor", only: Only::Whole },
    Limit { families: LLAMA, field: "rope_parameters.rope_type", only: Only::OneOf(ROPE_TYPES) },
    Limit { families: LLAMA, field: "rope_scaling.rope_type", only: Only::OneOf(ROPE_TYPES) },
    Limit { families: LLAMA, field: "rope_scaling.type", only: Only::OneOf(ROPE_TYPES) },
    Limit { families: &["vit"], field: "image_size", only: Only::Square },
    Limit { families: &["vit", "convnext"], field: "patch_size", only: Only::Square },
];

impl Only {
    /// Whether a value is supported. One of another type makes no sense, and is told when it is read.
    fn takes(&self, value: &Value) -> bool {
        match self {
            Self::False => value != &Value::Bool(true),
            Self::Whole => value.as_f64().is_none_or(|share| share == 1.0),
            Self::Square => value.as_array().is_none_or(|sides| sides.len() != 2 || sides[0] == sides[1]),
            Self::OneOf(known) => value.as_str().is_none_or(|name| known.contains(&name)),
        }
    }

    fn said(&self) -> String {
        match self {
            Self::False => "only `false` is".to_owned(),
            Self::Whole => "only 1 is".to_owned(),
            Self::Square => "only squares are".to_owned(),
            Self::OneOf([one]) => format!("only `{one}` is"),
            Self::OneOf(known) => format!("only {} are", known.join(", ")),
        }
    }
}

/// What a model's folder asks for that is not supported, all at once.
///
/// # Errors
/// If its `config.json` cannot be read.
pub fn refused(folder: &Folder) -> Result<Option<Error>, Error> {
    let path = folder.path().join("config.json").display().to_string();
    Ok(refused_fields(&folder.config()?).map(|error| at(&path, &error)))
}

/// What fields of a configuration ask for that is not supported.
pub(crate) fn refused_fields(fields: &Map<String, Value>) -> Option<Error> {
    let family = fields.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let limits = LIMITS.iter().filter(|limit| limit.families.contains(&family));
    let beyond = limits.filter_map(|Limit { field, only, .. }| {
        let value = found(fields, field).filter(|value| !only.takes(value))?;
        Some(Diag::new(format!("`{field}` is {value}; {} supported", only.said())))
    });
    Error::from_diags(beyond.collect())
}

fn found<'v>(fields: &'v Map<String, Value>, field: &str) -> Option<&'v Value> {
    let mut names = field.split('.');
    let outer = fields.get(names.next()?)?;
    names.try_fold(outer, |value, name| value.get(name))
}
