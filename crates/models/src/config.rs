//! What configurations have in common: defaults, labels, checks.

use std::collections::BTreeMap;

use graver_hub::Folder;
use graver_ir::{Diag, Error};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

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
    /// If it cannot be read, is of another family, or would make no model.
    fn of_folder(folder: &Folder) -> Result<Self, Error> {
        let source = folder.path().join("config.json").display().to_string();
        let wrong = |what: String| Error::from(Diag::new(what).op(source.clone()));
        let file: Map<String, Value> = folder.config()?;
        let family = file.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let Some((_, defaults)) = Self::DEFAULTS.iter().find(|(known, _)| *known == family) else {
            let known: Vec<&str> = Self::DEFAULTS.iter().map(|(known, _)| *known).collect();
            return Err(wrong(format!("the model type is `{family}`, and here it must be one of {}", known.join(", "))));
        };
        let mut merged: Map<String, Value> = serde_json::from_str(defaults).expect("defaults are JSON objects");
        merged.extend(file);
        let config: Self = serde_json::from_value(Value::Object(merged)).map_err(|error| wrong(error.to_string()))?;
        match config.check() {
            Ok(()) => Ok(config),
            Err(error) => Err(Error::from_diags(error.diags().iter().cloned().map(|diag| diag.op(source.clone())).collect())
                .expect("an error has diagnostics")),
        }
    }
}

/// The names of classes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
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
    /// `{"0": "negative", "1": "positive"}`: every number from 0 has one name.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names: BTreeMap<String, String> = BTreeMap::deserialize(from)?;
        (0..names.len())
            .map(|class| names.get(&class.to_string()).cloned())
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("the {} classes are not numbered from 0", names.len())))
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

/// That a size splits into so many parts.
pub(crate) fn splits(name: &str, size: usize, into: &str, parts: usize) -> (bool, String) {
    (parts > 0 && size.is_multiple_of(parts), format!("`{name}` is {size}, which is no multiple of `{into}`, {parts}"))
}
