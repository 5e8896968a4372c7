//! Models whose shapes depend on what they are given: imported for the sizes, and at last for the values, of the inputs at hand.

use std::collections::BTreeMap;

use graver_ir::Array;

use crate::import::{Imported, Options, import};
use crate::problem::Failure;
use crate::proto::ModelProto;

/// Imports a model for these inputs, by name, elements of sequences by theirs: for all sizes if that can be; else for the inputs' sizes; else the inputs whose values
/// decide about shapes become constants as well, and are no arguments any more.
///
/// # Errors
/// As [`import`].
pub fn import_for(model: &ModelProto, options: &Options, inputs: &BTreeMap<String, Array>) -> Result<Imported, Failure> {
    if let Ok(imported) = import(model, options) {
        return Ok(imported);
    }
    let mut options = options.clone();
    options.shapes = inputs.iter().map(|(name, array)| (name.clone(), array.shape().to_vec())).collect();
    loop {
        let failure = match import(model, &options) {
            Ok(imported) => return Ok(imported),
            Err(failure) => failure,
        };
        let Failure::Undetermined { inputs: names, .. } = &failure else { return Err(failure) };
        let known = options.values.len();
        options.values.extend(names.iter().filter_map(|name| Some((name.clone(), inputs.get(name)?.clone()))));
        if options.values.len() == known {
            return Err(failure);
        }
    }
}
