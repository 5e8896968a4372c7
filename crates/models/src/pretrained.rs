//! Models out of folders.

use graver_hub::{Folder, Names, Weights};
use graver_ir::{Diag, Error};
use graver_nn::Init;
use graver_trace::Module;
use serde_json::{Map, Value};

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
/// If it has no readable configuration.
pub fn model_type(folder: &Folder) -> Result<(String, Vec<String>), Error> {
    let config: Map<String, Value> = folder.config()?;
    let family = config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let classes = config.get("architectures").and_then(Value::as_array);
    Ok((family, classes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()))
}

/// So many equal parts, while there are elements for them.
pub(crate) fn stack<T>(count: usize, init: &mut Init, mut part: impl FnMut(&mut Init) -> T) -> Vec<T> {
    (0..count).map_while(|_| init.refused().is_none().then(|| part(init))).collect()
}
