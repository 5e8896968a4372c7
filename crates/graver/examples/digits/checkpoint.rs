//! A training on disk: its state, and what the epochs to come depend on besides.

use std::path::{Path, PathBuf};

use graver::nn::{Checkpoint, StateFile};
use graver::prelude::*;

/// What a training goes by, whoever starts it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// Of parameters and of the order of images.
    pub(crate) seed: u64,
    pub(crate) batch: u32,
    pub(crate) lr: f64,
}

/// A training that was stopped.
pub(crate) struct Stopped {
    path: PathBuf,
    checkpoint: Checkpoint,
    pub(crate) recipe: Recipe,
    /// Finished ones.
    pub(crate) epochs: u32,
}

fn file(folder: &Path) -> PathBuf {
    folder.join("training.safetensors")
}

/// Writes parameters, optimiser state and random key, the number of finished epochs, and the recipe.
pub(crate) fn save(folder: &Path, state: &TrainState, recipe: Recipe, epochs: u32) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|error| Error::new(format!("{}: {error}", folder.display())))?;
    let mut checkpoint = state.checkpoint();
    let Recipe { seed, batch, lr } = recipe;
    let texts =
        [("epochs", epochs.to_string()), ("seed", seed.to_string()), ("batch", batch.to_string()), ("lr", lr.to_string())];
    checkpoint.metadata.extend(texts.map(|(key, text)| (key.to_owned(), text)));
    checkpoint.write(file(folder))
}

impl Stopped {
    /// Reads what [`save`] wrote.
    pub(crate) fn read(folder: &Path) -> Result<Self, Error> {
        let path = file(folder);
        let checkpoint = Checkpoint::read(&path)?;
        let says = |key: &str| checkpoint.metadata.get(key).map(String::as_str);
        let missing = |what: &str| Error::new(format!("{}: does not say {what}", path.display()));
        let epochs = says("epochs").and_then(|text| text.parse().ok()).ok_or_else(|| missing("how many epochs were finished"))?;
        let recipe = || {
            let (seed, batch) = (says("seed")?.parse().ok()?, says("batch")?.parse().ok().filter(|batch| *batch > 0)?);
            Some(Recipe { seed, batch, lr: says("lr")?.parse().ok()? })
        };
        let recipe = recipe().ok_or_else(|| missing("its seed, batch and learning rate"))?;
        Ok(Self { path, checkpoint, recipe, epochs })
    }

    /// Puts the state where it was.
    pub(crate) fn restore(&self, state: &mut TrainState) -> Result<(), Error> {
        state.restore(&self.checkpoint).map_err(|error| Error::new(format!("{}: {error}", self.path.display())))
    }
}
