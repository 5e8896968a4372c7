//! Models whose shapes depend on what they are given: imported for the sizes, and at last for the values, of the inputs at hand.

use std::collections::BTreeMap;

use graver_ir::{Array, Diag, Role, Type, bind};

use crate::import::{Imported, Options, import};
use crate::problem::Failure;
use crate::proto::{DimensionValue, ModelProto, TensorShapeProto, TypeValue, ValueInfoProto};

/// Imports a model for these inputs, by name, elements of sequences by theirs: for all sizes if that can be, and these are among them; else for
/// the inputs' sizes; else the inputs whose values decide about shapes become constants as well, and are no arguments any more. An input
/// that has an initializer is an argument if it is among these.
///
/// # Errors
/// As [`import`], and if the inputs have different sizes where the model has one name.
pub fn import_for(model: &ModelProto, options: &Options, inputs: &BTreeMap<String, Array>) -> Result<Imported, Failure> {
    one_size_a_name(model, inputs)?;
    let mut options = options.clone();
    options.replaced.extend(inputs.keys().cloned());
    match import(model, &options) {
        Ok(imported) if takes(&imported, inputs) => Ok(imported),
        // Where these sizes are none of the model's either, the call says what it does not take.
        Ok(imported) => Ok(for_sizes(model, &options, inputs).unwrap_or(imported)),
        Err(_) => for_sizes(model, &options, inputs),
    }
}

/// An axis of an input: its size in a call.
struct Sized<'a> {
    input: &'a str,
    axis: usize,
    size: usize,
}

/// Refuses inputs whose axes of one name have different sizes. Elements of a sequence have names of their own.
fn one_size_a_name(model: &ModelProto, inputs: &BTreeMap<String, Array>) -> Result<(), Diag> {
    let mut sizes: BTreeMap<&str, Sized<'_>> = BTreeMap::new();
    for input in model.graph.iter().flat_map(|graph| &graph.input) {
        let (Some(shape), Some(array)) = (declared_shape(input), inputs.get(&input.name)) else { continue };
        if shape.dim.len() != array.shape().len() {
            continue;
        }
        for (axis, (dim, size)) in shape.dim.iter().zip(array.shape()).enumerate() {
            let Some(DimensionValue::Name(symbol)) = &dim.value else { continue };
            let here = Sized { input: &input.name, axis, size: *size };
            match sizes.get(symbol.as_str()) {
                Some(there) if there.size != here.size => return Err(two_sizes(symbol, there, &here)),
                Some(_) => {}
                None if symbol.is_empty() => {}
                None => drop(sizes.insert(symbol, here)),
            }
        }
    }
    Ok(())
}

fn two_sizes(symbol: &str, there: &Sized<'_>, here: &Sized<'_>) -> Diag {
    let side = |of: &Sized<'_>| format!("{} in axis {} of the input `{}`", of.size, of.axis, of.input);
    Diag::new(format!("`{symbol}` is {}, and {}", side(there), side(here)))
}

/// The declared shape of a tensor, or of one that need not be there.
fn declared_shape(input: &ValueInfoProto) -> Option<&TensorShapeProto> {
    match input.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) => tensor.shape.as_ref(),
        TypeValue::Optional(of) => match of.elem_type.as_deref()?.value.as_ref()? {
            TypeValue::Tensor(tensor) => tensor.shape.as_ref(),
            TypeValue::Sequence(_) | TypeValue::Map(_) | TypeValue::Sparse(_) | TypeValue::Optional(_) => None,
        },
        TypeValue::Sequence(_) | TypeValue::Map(_) | TypeValue::Sparse(_) => None,
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
