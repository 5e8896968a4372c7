//! Models out of folders.

use graver_hub::{Folder, Names, Weights};
use graver_ir::{Diag, Error};
use graver_nn::Init;
use graver_trace::Module;
use serde_json::Value;

use crate::config::Configuration;

/// A model that is read from a folder.
pub trait Pretrained: Module + Sized {
    /// What makes its shape.
    type Config: Configuration;

    /// The model with initial values.
    ///
    /// # Errors
    /// If the configuration would make none.
    fn new(config: &Self::Config, init: &mut Init) -> Result<Self, Error>;

    /// How files name its weights.
    fn names(&self) -> Names;

    /// What a file's weights say about the model that the configuration does not.
    fn adapt(_config: &mut Self::Config, _weights: &Weights) {}

    /// The model of a folder.
    ///
    /// # Errors
    /// If files are missing or malformed; every weight that is missing, unexpected or of another type.
    fn of_folder(folder: &Folder) -> Result<Self, Error> {
        let mut config = Self::Config::of_folder(folder)?;
        let weights = folder.weights()?;
        Self::adapt(&mut config, &weights);
        // Twice and some more: a part that the file lacks is to be named, and a configuration cannot ask for all the memory.
        let mut init = Init::blank(weights.count().saturating_mul(2).saturating_add(1 << 20));
        let model = Self::new(&config, &mut init)?;
        if let Some(shape) = init.refused() {
            let message = format!("asks for a tensor {shape:?}, beyond the {} elements that the weights have", weights.count());
            return Err(Diag::new(message).op(folder.path().join("config.json").display().to_string()).into());
        }
        weights.load_into(&model, &model.names())?;
        Ok(model)
    }
}

/// What a folder's configuration calls its model: `bert`, and the classes of it that were saved: `BertForMaskedLM`.
///
/// # Errors
/// If it has no readable configuration, or that does not say.
pub fn model_type(folder: &Folder) -> Result<(String, Vec<String>), Error> {
    let config = folder.config()?;
    let Some(family) = config.get("model_type").and_then(Value::as_str).map(str::to_owned) else {
        let diag = Diag::new("has no `model_type`, by which its family is known");
        return Err(diag.op(folder.path().join("config.json").display().to_string()).into());
    };
    let classes = config.get("architectures").and_then(Value::as_array);
    Ok((family, classes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()))
}

/// That a model of so many tokens knows all of these.
pub(crate) fn knows(vocabulary: usize, tokens: impl IntoIterator<Item = i64>) -> Result<(), Error> {
    let is_beyond = |token: &i64| usize::try_from(*token).is_ok_and(|token| token >= vocabulary);
    match tokens.into_iter().find(is_beyond) {
        None => Ok(()),
        Some(token) => {
            let diag = Diag::new(format!("a text has the token {token}, and the model has {vocabulary} of them"));
            Err(diag.help("is tokenizer.json that of another model?").into())
        }
    }
}

/// So many equal parts, while there are elements for them.
pub(crate) fn stack<T>(count: usize, init: &mut Init, mut part: impl FnMut(&mut Init) -> T) -> Vec<T> {
    (0..count).map_while(|_| init.refused().is_none().then(|| part(init))).collect()
}
