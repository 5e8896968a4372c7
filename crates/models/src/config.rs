//! What configurations have in common: defaults, labels, checks.

use std::collections::BTreeMap;

use graver_hub::{Folder, sized};
use graver_ir::{Diag, Error};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::support::refused_fields;

/// A configuration as `config.json` has it.
pub trait Configuration: DeserializeOwned {
    /// What `model_type` may be, each with the values that a file need not say, as JSON.
    const DEFAULTS: &'static [(&'static str, &'static str)];

    /// What would make no model.
    ///
    /// # Errors
    /// Everything that is wrong.
    fn check(&self) -> Result<(), Error>;

    /// The configuration of a folder.
    ///
    /// # Errors
    /// If it cannot be read, is of another family, asks for what is not supported, or would make no model.
    fn of_folder(folder: &Folder) -> Result<Self, Error> {
        of_fields(folder.config()?).map_err(|error| at(&folder.path().join("config.json").display().to_string(), &error))
    }

    /// A configuration as it would stand in a file: what it does not say is as usual in its family.
    ///
    /// ```
    /// use graver_models::{Configuration, TextConfig};
    /// let config = TextConfig::of_json(r#"{"model_type": "bert", "hidden_size": 64, "num_attention_heads": 4}"#)?;
    /// assert_eq!((config.hidden_size, config.num_hidden_layers), (64, 12));
    /// # Ok::<(), graver_ir::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Configuration::of_folder`].
    fn of_json(json: &str) -> Result<Self, Error> {
        let fields = serde_json::from_str(json).map_err(|error| Error::new(error.to_string()));
        fields.and_then(of_fields).map_err(|error| at("configuration", &error))
    }
}

fn of_fields<C: Configuration>(fields: Map<String, Value>) -> Result<C, Error> {
    let family = fields.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let Some((_, defaults)) = C::DEFAULTS.iter().find(|(known, _)| *known == family) else {
        let known: Vec<&str> = C::DEFAULTS.iter().map(|(known, _)| *known).collect();
        return Err(Error::new(format!("the model type is `{family}`, and here it must be one of {}", known.join(", "))));
    };
    if let Some(error) = refused_fields(&fields) {
        return Err(error);
    }
    let mut defaults: Map<String, Value> = serde_json::from_str(defaults).expect("defaults are JSON objects");
    defaults.insert("model_type".to_owned(), family.into());
    let config: C = over(&defaults, fields)?;
    config.check().map(|()| config)
}

/// Reads fields over what they are without a file. What cannot be read is told by its name, all of it.
pub(crate) fn over<T: DeserializeOwned>(defaults: &Map<String, Value>, fields: Map<String, Value>) -> Result<T, Error> {
    let with = |fields: Map<String, Value>| sized::<T>(Value::Object(defaults.clone().into_iter().chain(fields).collect()));
    with(fields.clone()).map_err(|error| {
        let read = |fields: Value| if let Value::Object(fields) = fields { with(fields).map(drop) } else { Ok(()) };
        let mut wrong = Vec::new();
        each_alone(&read, "", fields, &mut wrong);
        Error::from_diags(wrong).unwrap_or_else(|| Error::new(error.to_string()))
    })
}

/// The reader stops at the first field that is wrong, and does not say which it is: each alone beside the defaults tells, and each inside of
/// it where an object may have none.
fn each_alone(read: &dyn Fn(Value) -> serde_json::Result<()>, path: &str, fields: Map<String, Value>, wrong: &mut Vec<Diag>) {
    for (name, value) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let alone = |value: Value| read(Value::Object([(name.clone(), value)].into_iter().collect()));
        let Err(error) = alone(value.clone()) else { continue };
        let known = wrong.len();
        if let Value::Object(inner) = value
            && alone(Value::Object(Map::new())).is_ok()
        {
            each_alone(&alone, &path, inner, wrong);
        }
        if wrong.len() == known {
            wrong.push(Diag::new(format!("`{path}`: {error}")));
        }
    }
}

/// The error with what it is about.
pub(crate) fn at(source: &str, error: &Error) -> Error {
    let diags = error.diags().iter().map(|diag| diag.clone().op(source)).collect();
    Error::from_diags(diags).expect("an error has diagnostics")
}

/// The `problem_type` of models whose scores are what is asked for.
pub(crate) const REGRESSION: &str = "regression";

/// The names of classes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// That there is a class.
    pub(crate) fn some(&self) -> (bool, String) {
        (!self.0.is_empty(), "`id2label` names no class".to_owned())
    }

    /// Whether one thing may be of several classes, or of none, by what `problem_type` says.
    pub(crate) fn are_independent(&self, problem: Option<&str>) -> bool {
        match problem {
            Some("multi_label_classification") => true,
            Some(REGRESSION) => false,
            Some(_) | None => self.0.len() == 1,
        }
    }
}

impl<S: Into<String>> FromIterator<S> for Labels {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl Default for Labels {
    fn default() -> Self {
        ["LABEL_0", "LABEL_1"].into_iter().collect()
    }
}

impl<'de> Deserialize<'de> for Labels {
    /// `{"0": "negative", "1": "positive"}`: every number from 0 has one name. None is refused here: what may be empty, `over` looks
    /// into, and would blame a class for its number.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names: BTreeMap<String, Value> = BTreeMap::deserialize(from)?;
        if names.is_empty() {
            return Err(de::Error::custom("there is no class"));
        }
        let name = |class: usize| {
            let name = names.get(&class.to_string());
            let name = name.ok_or_else(|| de::Error::custom(format!("the {} classes are not numbered from 0", names.len())))?;
            let text = name.as_str().map(str::to_owned);
            text.ok_or_else(|| de::Error::custom(format!("the name of class {class} is {name}")))
        };
        (0..names.len()).map(name).collect::<Result<_, _>>().map(Self)
    }
}

/// Everything that does not hold, each with what is to be said about it.
pub(crate) fn require(conditions: impl IntoIterator<Item = (bool, String)>) -> Result<(), Error> {
    let broken = conditions.into_iter().filter(|(holds, _)| !holds).map(|(_, message)| Diag::new(message));
    Error::from_diags(broken.collect()).map_or(Ok(()), Err)
}

/// That these sizes are 1 or more.
pub(crate) fn positive<const N: usize>(sizes: [(&str, usize); N]) -> [(bool, String); N] {
    sizes.map(|(name, size)| (size > 0, format!("`{name}` is 0")))
}

/// That what is added to variances leaves them positive.
pub(crate) fn added(name: &str, eps: f64) -> (bool, String) {
    (eps >= 0.0 && eps.is_finite(), format!("`{name}` is {eps}, and is added to variances: it must be a number of 0 or more"))
}

/// That this is a probability.
pub(crate) fn probability(name: &str, p: f64) -> (bool, String) {
    ((0.0..=1.0).contains(&p), format!("`{name}` is {p}, not in 0..=1"))
}

/// Reads the side of a square: a number, or both sides, which are equal where a configuration is supported.
pub(crate) fn side<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Sides {
        Both([usize; 2]),
        One(usize),
    }
    match Sides::deserialize(from).map_err(|_| de::Error::custom("is neither a size nor a list of two sizes"))? {
        Sides::One(side) | Sides::Both([side, _]) => Ok(side),
    }
}

/// That a size splits into so many parts.
pub(crate) fn splits(name: &str, size: usize, into: &str, parts: usize) -> (bool, String) {
    (parts > 0 && size.is_multiple_of(parts), format!("`{name}` is {size}, which is no multiple of `{into}`, {parts}"))
}
