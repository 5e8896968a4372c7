//! Models and training states in files: named arrays, written whole or not at all, read with distrust.
//!
//! Everything that does not fit is told at once, and nothing is changed unless all fits.

use std::collections::BTreeMap;
use std::path::Path;

use graver_trace::{Array, Diag, Error, Leaf, Module, TrainState};

use graver_runtime::Checkpoint;

/// What a file has and a model has not, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// What the model has and the file has not: these keep their values.
    pub missing: Vec<String>,
    /// What the file has and the model has not.
    pub unexpected: Vec<String>,
    /// What both have in other types, both types said: these keep their values.
    pub mismatched: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// One diagnostic a difference, under the name of what was read; `None` if there are none. Of many of a kind the first
    /// are told, and how many more there are.
    #[must_use]
    pub fn to_error(&self, source: &str) -> Option<Error> {
        let missing = told(&self.missing, "missing", |path| format!("`{path}` is missing"));
        let unexpected = told(&self.unexpected, "unexpected", |path| format!("`{path}` is unexpected"));
        let mismatched = told(&self.mismatched, "of another type", str::to_owned);
        let all = [missing, unexpected, mismatched].into_iter().flatten();
        Error::from_diags(all.map(|message| Diag::new(message).op(source)).collect())
    }
}

/// How many differences of a kind are told.
const MAX_TOLD: usize = 20;

fn told(differences: &[String], kind: &str, message: impl Fn(&str) -> String) -> Vec<String> {
    let first = differences.iter().take(MAX_TOLD).map(|difference| message(difference));
    let more = differences.len().saturating_sub(MAX_TOLD);
    first.chain((more > 0).then(|| format!("{more} more are {kind}"))).collect()
}

/// Saving and loading parameters and buffers, for every [`Module`].
///
/// The file is safetensors with the names that PyTorch's `state_dict` has, so that either side reads the other's.
///
/// ```
/// use graver_nn::{Init, Linear, ModelFile};
/// let path = std::env::temp_dir().join(format!("graver-doc-{}.safetensors", std::process::id()));
/// let saved = Linear::new(3, 2).init(&mut Init::seed(0));
/// saved.save(&path)?;
/// let mut loaded = Linear::new(3, 2).init(&mut Init::seed(1));
/// loaded.load(&path)?;
/// assert_eq!(loaded.weight.value(), saved.weight.value());
/// # std::fs::remove_file(path).expect("written above");
/// # Ok::<(), graver_trace::Error>(())
/// ```
pub trait ModelFile: Module {
    /// The parameters and buffers by path.
    fn state_dict(&self) -> Checkpoint {
        let arrays = self.leaves().into_iter().map(|(path, leaf)| (path, leaf.value())).collect();
        // Readers of Hugging Face's refuse files that do not say so.
        Checkpoint { arrays, metadata: BTreeMap::from([("format".to_owned(), "pt".to_owned())]) }
    }

    /// Takes parameters and buffers from a checkpoint. Floats of another type are converted.
    ///
    /// # Errors
    /// Every name that is missing, unexpected or of another shape; the model is then as it was.
    fn load_state_dict(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let (differences, values) = compare(&self.leaves(), checkpoint);
        differences.to_error("load").map_or_else(|| assign(values), Err)
    }

    /// Takes what fits from a checkpoint, and says what did not.
    ///
    /// # Errors
    /// If a parameter changes its type meanwhile.
    fn load_fitting(&mut self, checkpoint: &Checkpoint) -> Result<Differences, Error> {
        let (differences, values) = compare(&self.leaves(), checkpoint);
        assign(values).map(|()| differences)
    }

    /// Writes parameters and buffers to a file: the old file or the new one, whatever happens.
    ///
    /// # Errors
    /// If the file cannot be written: the path and why.
    fn save(&self, path: impl AsRef<Path>) -> Result<(), Error>
    where
        Self: Sized,
    {
        self.state_dict().write(path)
    }

    /// Reads parameters and buffers from a file.
    ///
    /// # Errors
    /// If the file cannot be read or is malformed; every name that is missing, unexpected or of another shape. The model is then as it was.
    fn load(&mut self, path: impl AsRef<Path>) -> Result<(), Error>
    where
        Self: Sized,
    {
        let path = path.as_ref();
        let (differences, values) = compare(&self.leaves(), &Checkpoint::read(path)?);
        differences.to_error(&path.display().to_string()).map_or_else(|| assign(values), Err)
    }
}

impl<M: Module + ?Sized> ModelFile for M {}

type Values = Vec<(Leaf, Array)>;

fn compare(leaves: &[(String, Leaf)], checkpoint: &Checkpoint) -> (Differences, Values) {
    let mut differences = Differences::default();
    let mut values = Vec::new();
    for (path, leaf) in leaves {
        match checkpoint.arrays.get(path).map(|found| fitted(&leaf.value(), found)) {
            None => differences.missing.push(path.clone()),
            Some(Err(both)) => differences.mismatched.push(format!("`{path}` {both}")),
            Some(Ok(value)) => values.push((leaf.tie(), value)),
        }
    }
    let known: Vec<&str> = leaves.iter().map(|(path, _)| path.as_str()).collect();
    differences.unexpected = unknown(checkpoint, &known);
    (differences, values)
}

/// The names that nobody knows, in order.
fn unknown(checkpoint: &Checkpoint, known: &[&str]) -> Vec<String> {
    let known: std::collections::BTreeSet<&str> = known.iter().copied().collect();
    checkpoint.arrays.keys().filter(|path| !known.contains(path.as_str())).cloned().collect()
}

/// What is found as the type that is held, or both types.
fn fitted(held: &Array, found: &Array) -> Result<Array, String> {
    let floats = held.dtype().is_float() && found.dtype().is_float();
    if held.shape() == found.shape() && (floats || held.dtype() == found.dtype()) {
        Ok(found.cast(held.dtype()))
    } else {
        Err(format!("is {} in the model and {} in the file", held.ty(), found.ty()))
    }
}

fn assign(values: Values) -> Result<(), Error> {
    let wrong = values.into_iter().filter_map(|(leaf, value)| leaf.set_value(value).err());
    Error::from_diags(wrong.collect()).map_or(Ok(()), Err)
}

/// Saving and loading a whole training: parameters, buffers, what optimisers remember, the number of steps and the random key.
///
/// A training that is resumed from a file goes on bit for bit as the one that was not interrupted.
pub trait StateFile {
    /// Every slot of the state by path.
    fn checkpoint(&self) -> Checkpoint;

    /// Takes every slot from a checkpoint.
    ///
    /// # Errors
    /// Every name that is missing, unexpected or of another type; the state is then as it was.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Error>;

    /// Writes the state to a file: the old file or the new one, whatever happens.
    ///
    /// # Errors
    /// If the file cannot be written: the path and why.
    fn save(&self, path: impl AsRef<Path>) -> Result<(), Error>
    where
        Self: Sized,
    {
        self.checkpoint().write(path)
    }

    /// Reads the state from a file.
    ///
    /// # Errors
    /// If the file cannot be read or is malformed; every name that is missing, unexpected or of another type; each with the path. The state is
    /// then as it was.
    fn load(&mut self, path: impl AsRef<Path>) -> Result<(), Error>
    where
        Self: Sized,
    {
        let path = path.as_ref();
        let named = |error: Error| {
            let diags = error.diags().iter().map(|diag| diag.clone().op(path.display().to_string()));
            Error::from_diags(diags.collect()).expect("an error has diagnostics")
        };
        self.restore(&Checkpoint::read(path)?).map_err(named)
    }
}

/// The metadata of a training's file: what it is and which version of the format.
const FORMAT: (&str, &str) = ("graver.train_state", "1");

impl StateFile for TrainState {
    fn checkpoint(&self) -> Checkpoint {
        let arrays = self.entries().map(|entry| (entry.path.clone(), entry.value.clone())).collect();
        Checkpoint { arrays, metadata: BTreeMap::from([(FORMAT.0.to_owned(), FORMAT.1.to_owned())]) }
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        check_format(checkpoint)?;
        let mut differences = Differences::default();
        for entry in self.entries() {
            match checkpoint.arrays.get(&entry.path) {
                None => differences.missing.push(entry.path.clone()),
                Some(found) if found.ty() == entry.value.ty() => {}
                Some(found) => {
                    let (held, found) = (entry.value.ty(), found.ty());
                    differences.mismatched.push(format!("`{}` is {held} in the training and {found} in the file", entry.path));
                }
            }
        }
        differences.unexpected = unknown(checkpoint, &self.entries().map(|entry| entry.path.as_str()).collect::<Vec<_>>());
        if let Some(error) = differences.to_error("load") {
            return Err(error);
        }
        checkpoint.arrays.iter().try_for_each(|(path, value)| Ok(self.set(path, value.clone())?))
    }
}

fn check_format(checkpoint: &Checkpoint) -> Result<(), Error> {
    match checkpoint.metadata.get(FORMAT.0) {
        Some(version) if version == FORMAT.1 => Ok(()),
        Some(version) => Err(Error::new(format!("a training's file of version {version}, this is version {}", FORMAT.1))),
        None => Err(Diag::new("the file holds no training").help("a model's file is read by the model's `load`").into()),
    }
}
