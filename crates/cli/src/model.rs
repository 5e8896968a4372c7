//! ONNX models as programs, and the inputs that they are specialised to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graver_data::{Limit, npy};
use graver_ir::{Array, DType, Module, text};
use graver_onnx::Options;
use graver_onnx::proto::ModelProto;

use crate::failure::{Failure, print};
use crate::{Import, load, run};

impl Failure {
    /// What kept a model from being imported.
    pub(crate) fn import(path: &Path, failure: graver_onnx::Failure) -> Self {
        match failure {
            graver_onnx::Failure::Invalid(error) => Self::file(path, error),
            graver_onnx::Failure::Unsupported(error) => Self::Unsupported(error.to_string()),
            graver_onnx::Failure::Undetermined { inputs, error } => {
                Self::Unsupported(format!("{error}\nthe shapes of this model depend on the values of {}", inputs.join(", ")))
            }
        }
    }
}

/// Whether a file is an ONNX model by its name.
pub(crate) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "onnx")
}

pub(crate) fn read(path: &Path) -> Result<ModelProto, Failure> {
    graver_onnx::read_file(path).map_err(|diag| Failure::file(path, diag))
}

fn options(path: &Path) -> Options {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    Options { name, folder: Some(folder), ..Options::default() }
}

/// The module of a model, for all sizes and values of its inputs.
pub(crate) fn module(path: &Path) -> Result<Module, Failure> {
    let imported = graver_onnx::import(&read(path)?, &options(path)).map_err(|failure| Failure::import(path, failure))?;
    Ok(imported.module)
}

/// `graver import`
pub(crate) fn import(args: &Import) -> Result<(), Failure> {
    let written = text::print(&module(&args.model)?);
    match &args.output {
        None => print(&written),
        Some(path) => std::fs::write(path, written).map_err(|error| Failure::file(path, error)),
    }
}

/// A model with inputs from a folder, and the arrays that are still arguments.
pub(crate) fn with_inputs(path: &Path, folder: &Path) -> Result<(Module, Vec<Array>), Failure> {
    let model = read(path)?;
    let given = typed(&model, present(folder, &graver_onnx::input_names(&model))?);
    let imported = graver_onnx::import_for(&model, &options(path), &given).map_err(|failure| Failure::import(path, failure))?;
    let dtypes = run::argument_dtypes(&imported.module);
    let arrays = imported.inputs.iter().zip(dtypes).map(|(place, dtype)| load::array(&load::input(folder, *place), dtype));
    let arrays = arrays.collect::<Result<Vec<Array>, Failure>>()?;
    Ok((imported.module, arrays))
}

/// A model with inputs by name, and those that are still arguments.
pub(crate) fn specialised(
    path: &Path,
    model: &ModelProto,
    given: &BTreeMap<String, Array>,
) -> Result<(Module, Vec<Array>), Failure> {
    let given = typed(model, given.clone());
    let imported = graver_onnx::import_for(model, &options(path), &given).map_err(|failure| Failure::import(path, failure))?;
    let names = graver_onnx::input_names(model);
    let dtypes = run::argument_dtypes(&imported.module);
    let one = |(place, dtype): (&usize, DType)| match given.get(&names[*place]) {
        Some(array) => Ok(load::as_typed(array.clone(), dtype)),
        None => Err(Failure::file(path, format!("the input `{}` is not there", names[*place]))),
    };
    let arrays = imported.inputs.iter().zip(dtypes).map(one).collect::<Result<Vec<Array>, Failure>>()?;
    Ok((imported.module, arrays))
}

/// The arrays as what the model's inputs are.
fn typed(model: &ModelProto, given: BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    let dtypes = graver_onnx::input_dtypes(model);
    let one = |(name, array): (String, Array)| match dtypes.get(&name) {
        Some(dtype) => (name, load::as_typed(array, *dtype)),
        None => (name, array),
    };
    given.into_iter().map(one).collect()
}

/// The inputs that are there and can be read. What cannot is told if the program takes it.
fn present(folder: &Path, names: &[String]) -> Result<BTreeMap<String, Array>, Failure> {
    if !folder.is_dir() {
        return Err(Failure::file(folder, "is not a folder"));
    }
    let read = |(place, name): (usize, &String)| {
        Some((name.clone(), npy::read_file(load::input(folder, place), Limit::default()).ok()?))
    };
    Ok(names.iter().enumerate().filter_map(read).collect())
}
