//! ONNX models as programs, and the inputs that they are specialised to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graver_data::{Limit, npy};
use graver_ir::{Array, DType, Module, text};
use graver_onnx::proto::ModelProto;
use graver_onnx::{Form, Options, Origin};

use crate::failure::{Failure, print};
use crate::{Import, load, run};

impl Failure {
    /// What kept a model from being imported.
    pub(crate) fn import(path: &Path, failure: graver_onnx::Failure) -> Self {
        match failure {
            graver_onnx::Failure::Invalid(error) => Self::file(path, error),
            graver_onnx::Failure::Unsupported(error) => Self::Unsupported(error.to_string()),
            graver_onnx::Failure::Undetermined { inputs, error } => Self::Unsupported(format!(
                "{error}\nthe shapes of this model depend on the values, or on the sizes, of {}",
                inputs.join(", ")
            )),
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

/// A model with inputs from a folder.
pub(crate) struct Given {
    pub(crate) module: Module,
    /// The arrays that are still arguments.
    pub(crate) inputs: Vec<Array>,
    /// What the model's outputs are.
    pub(crate) outputs: Vec<Form>,
}

/// Imports a model for the inputs that a folder holds.
pub(crate) fn with_inputs(path: &Path, folder: &Path) -> Result<Given, Failure> {
    let model = read(path)?;
    let names = graver_onnx::input_names(&model);
    let forms = forms(folder, &names)?;
    let given = present(&model, folder, &names, &forms);
    let forms: BTreeMap<String, Form> = names.iter().cloned().zip(forms).collect();
    // A file that is there takes the place of an initializer, even one that cannot be read: that is told.
    let replaced = forms.iter().filter(|(_, form)| **form == Form::Tensor).map(|(name, _)| name.clone()).collect();
    let options = Options { forms, replaced, ..options(path) };
    let imported = graver_onnx::import_for(&model, &options, &given).map_err(|failure| Failure::import(path, failure))?;
    let dtypes = run::argument_dtypes(&imported.module);
    let arrays = imported.inputs.iter().zip(dtypes).map(|(origin, dtype)| load::array(&file(folder, *origin), dtype));
    let inputs = arrays.collect::<Result<Vec<Array>, Failure>>()?;
    Ok(Given { module: imported.module, inputs, outputs: imported.outputs })
}

/// The file of a tensor: `input_0.npy`, or `input_0/2.npy` of a sequence.
fn file(folder: &Path, origin: Origin) -> PathBuf {
    match origin.item {
        None => load::input(folder, origin.input),
        Some(item) => load::input(folder, origin.input).with_extension("").join(format!("{item}.npy")),
    }
}

/// What there is of each input: a file, a folder of files for a sequence, or nothing.
fn forms(folder: &Path, names: &[String]) -> Result<Vec<Form>, Failure> {
    if !folder.is_dir() {
        return Err(Failure::file(folder, "is not a folder"));
    }
    let one = |input: usize| {
        let tensor = file(folder, Origin { input, item: None });
        if tensor.with_extension("").is_dir() {
            return sequence(folder, input).map(Form::Sequence);
        }
        Ok(if tensor.exists() { Form::Tensor } else { Form::Absent })
    };
    let more = file(folder, Origin { input: names.len(), item: None });
    if more.exists() {
        return Err(Failure::file(&more, format!("one input too many: the model takes {}", names.len())));
    }
    (0..names.len()).map(one).collect()
}

/// How many tensors a sequence's folder holds: `0.npy` and on, without a gap.
fn sequence(folder: &Path, input: usize) -> Result<usize, Failure> {
    let item = |item| file(folder, Origin { input, item: Some(item) });
    let own = load::input(folder, input).with_extension("");
    let entries = std::fs::read_dir(&own).map_err(|error| Failure::file(&own, error))?;
    let held = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "npy")).count();
    match (0..held).find(|place| !item(*place).exists()) {
        None => Ok(held),
        Some(gap) => Err(Failure::file(&item(gap), format!("not found; the sequence has {held} files, numbered from 0"))),
    }
}

/// The tensors that are there and can be read, as what the model's inputs are, by their names. What cannot is told if the program takes it.
fn present(model: &ModelProto, folder: &Path, names: &[String], forms: &[Form]) -> BTreeMap<String, Array> {
    let (dtypes, mut present) = (graver_onnx::input_dtypes(model), BTreeMap::new());
    for (input, (name, form)) in names.iter().zip(forms).enumerate() {
        for item in 0..form.tensors() {
            let (item, own) = match form {
                Form::Sequence(_) => (Some(item), format!("{name}.{item}")),
                Form::Absent | Form::Tensor => (None, name.clone()),
            };
            if let Ok(array) = npy::read_file(file(folder, Origin { input, item }), Limit::default()) {
                present
                    .insert(own, dtypes.get(name).map_or_else(|| array.clone(), |dtype| load::as_typed(array.clone(), *dtype)));
            }
        }
    }
    present
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
    let one = |(origin, dtype): (&Origin, DType)| match given.get(&names[origin.input]) {
        Some(array) => Ok(load::as_typed(array.clone(), dtype)),
        None => Err(Failure::file(path, format!("the input `{}` is not there", names[origin.input]))),
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
