//! Weights into models, by their names in the files.

use std::collections::BTreeMap;

use graver_ir::Error;
use graver_nn::Differences;
use graver_trace::{Leaf, Module};

use crate::weights::Weights;

/// How the files of a family name weights, where that is not the model's paths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    /// The path of the body in models with a head, `bert`. A body's file is read into a model with a head, and the other way round.
    pub body: &'static str,
    /// Names of which a part is one of these hold nothing to load: caches of constants, parts that a head does not use.
    pub ignored: &'static [&'static str],
    /// Other names of parameters, `(name, path)`: what is tied is in a file under either name or both.
    pub tied: &'static [(&'static str, &'static str)],
}

impl Weights {
    /// Gives every parameter and buffer of a model its value. Floats of another type are converted.
    ///
    /// # Errors
    /// Every name that is missing, unexpected or of another shape or type, all at once; the model is then as it was.
    pub fn load_into<M: Module + ?Sized>(&self, model: &M, names: &Names) -> Result<(), Error> {
        let leaves: BTreeMap<String, Leaf> = model.leaves().into_iter().collect();
        let (found, unexpected) = self.assign(&leaves, names);
        let mut differences = Differences { unexpected, ..Differences::default() };
        for (path, leaf) in &leaves {
            let ty = leaf.value().ty();
            match found.get(path.as_str()) {
                None if is_counter(path) => {}
                None => differences.missing.push(path.clone()),
                Some(name) if self.fits(name, leaf.value().shape(), ty.dtype) => {}
                Some(name) => {
                    differences.mismatched.push(format!("`{path}` is {ty} in the model and {} in the file", self.describe(name)))
                }
            }
        }
        if let Some(error) = differences.to_error(&self.source().display().to_string()) {
            return Err(error);
        }
        for (path, name) in found {
            let leaf = &leaves[path];
            // The only copy: blank values take no memory before they are read.
            leaf.set_value(self.array(name, leaf.value().dtype())?)?;
        }
        Ok(())
    }

    /// The name in the file for each path of the model, and the names for which there is none.
    fn assign<'a>(&'a self, leaves: &'a BTreeMap<String, Leaf>, names: &Names) -> (BTreeMap<&'a str, &'a str>, Vec<String>) {
        let body = format!("{}.", names.body);
        let is_body = !names.body.is_empty() && !leaves.keys().any(|path| path.starts_with(&body));
        let has_head = is_body && self.names().any(|name| name.starts_with(&body));
        let (mut found, mut unexpected) = (BTreeMap::new(), Vec::new());
        for name in self.names() {
            let plain = modern(name);
            // A body read from the file of a model with a head: the rest is the head's.
            let inner = if has_head { plain.strip_prefix(&body) } else { Some(plain.as_str()) };
            let Some(inner) = inner else { continue };
            let tied =
                names.tied.iter().find(|(other, _)| *other == inner || format!("{body}{other}") == inner).map(|(_, path)| *path);
            let candidates = [Some(inner.to_owned()), Some(format!("{body}{inner}")), tied.map(str::to_owned)];
            let path = candidates.into_iter().flatten().find_map(|path| leaves.get_key_value(&path));
            match path {
                // Under its own name rather than under another.
                Some((path, _)) if tied.is_some() => drop(found.entry(path.as_str()).or_insert(name)),
                Some((path, _)) => drop(found.insert(path.as_str(), name)),
                None if names.ignored.iter().any(|part| has_part(inner, part)) => {}
                None => unexpected.push(name.to_owned()),
            }
        }
        (found, unexpected)
    }
}

/// A name as it is written today: TensorFlow's norms had a `gamma` and a `beta`.
fn modern(name: &str) -> String {
    match (name.strip_suffix("LayerNorm.gamma"), name.strip_suffix("LayerNorm.beta")) {
        (Some(start), _) => format!("{start}LayerNorm.weight"),
        (_, Some(start)) => format!("{start}LayerNorm.bias"),
        (None, None) => name.to_owned(),
    }
}

/// Whether these segments occur in the name, one after another.
fn has_part(name: &str, part: &str) -> bool {
    format!(".{name}.").contains(&format!(".{part}."))
}

/// How many batches a norm has seen: files from before it was counted have no such entry, and evaluation does not read it.
fn is_counter(path: &str) -> bool {
    path.ends_with(".num_batches_tracked")
}
