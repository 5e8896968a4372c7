//! Models whose shapes depend on what they are given: imported for the sizes, and at last for the values, of the inputs at hand.

use std::collections::BTreeMap;

use graver_ir::{Array, Role, Type, bind};

use crate::import::{Imported, Options, import};
use crate::problem::Failure;
use crate::proto::ModelProto;

/// Imports a model for these inputs, by name, elements of sequences by theirs: for all sizes if that can be, and these are among them; else for
/// the inputs' sizes; else the inputs whose values decide about shapes become constants as well, and are no arguments any more.
///
/// # Errors
/// As [`import`].
pub fn import_for(model: &ModelProto, options: &Options, inputs: &BTreeMap<String, Array>) -> Result<Imported, Failure> {
    match import(model, options) {
        Ok(imported) if takes(&imported, inputs) => Ok(imported),
        // Where these sizes are none of the model's either, the call says what it does not take.
        Ok(imported) => Ok(for_sizes(model, options, inputs).unwrap_or(imported)),
        Err(_) => for_sizes(model, options, inputs),
    }
}

/// Whether the sizes of these inputs are among those that a program is for.
fn takes(imported: &Imported, inputs: &BTreeMap<String, Array>) -> bool {
    let Some((_, entry)) = imported.module.entry() else { return false };
    let (mut params, mut args): (Vec<(&str, &Type)>, Vec<&Array>) = (Vec::new(), Vec::new());
    for param in &entry.params {
        let Role::Arg(name) = &param.role else { continue };
        // What is not there is told where it is read.
        let Some(array) = inputs.get(name) else { return true };
        params.push((name, entry.graph.ty(param.node.into())));
        args.push(array);
    }
    bind(&params, &args).is_ok()
}

fn for_sizes(model: &ModelProto, options: &Options, inputs: &BTreeMap<String, Array>) -> Result<Imported, Failure> {
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
