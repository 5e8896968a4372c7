//! ONNX models as programs, and the inputs that they are specialised to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graver_ir::{Array, Module, text};
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
    let held = forms(folder, &names)?;
    let given = present(&model, folder, &names, &held);
    let missing = |input: usize| missing(folder, &names, &held, input);
    let forms: BTreeMap<String, Form> = names.iter().cloned().zip(held.iter().copied()).collect();
    // A file that is there takes the place of an initializer, even one that cannot be read: that is told.
    let replaced = forms.iter().filter(|(_, form)| **form == Form::Tensor).map(|(name, _)| name.clone()).collect();
    let options = Options { forms, replaced, ..options(path) };
    let imported = graver_onnx::import_for(&model, &options, &given).map_err(|failure| match &failure {
        // An input that decides about shapes and is not there is told as such.
        graver_onnx::Failure::Undetermined { inputs, .. } => {
            let absent = |input: &usize| held[*input] == Form::Absent && inputs.contains(&names[*input]);
            (0..names.len()).find(absent).map_or_else(|| Failure::import(path, failure), missing)
        }
        graver_onnx::Failure::Invalid(_) | graver_onnx::Failure::Unsupported(_) => Failure::import(path, failure),
    })?;
    let dtypes = run::argument_dtypes(&imported.module);
    let arrays = imported.inputs.iter().zip(dtypes).map(|(origin, dtype)| match held[origin.input] {
        Form::Absent => Err(missing(origin.input)),
        Form::Tensor | Form::Sequence(_) => load::array(&file(folder, *origin), dtype),
    });
    let inputs = arrays.collect::<Result<Vec<Array>, Failure>>()?;
    Ok(Given { module: imported.module, inputs, outputs: imported.outputs })
}

/// An input of the model has no file.
fn missing(folder: &Path, names: &[String], held: &[Form], input: usize) -> Failure {
    let there = held.iter().filter(|form| **form != Form::Absent).count();
    let (name, count, within) = (&names[input], names.len(), folder.display());
    let message = format!("not found: the model's input `{name}` is read from it; {there} of {count} inputs are in {within}");
    Failure::file(&load::input(folder, input), message)
}

/// The file of a tensor: `input_0.npy`, or `input_0/2.npy` of a sequence; `input_0.pb`, as ONNX's test data has it, where only that is.
fn file(folder: &Path, origin: Origin) -> PathBuf {
    let numpy = match origin.item {
        None => load::input(folder, origin.input),
        Some(item) => load::input(folder, origin.input).with_extension("").join(format!("{item}.npy")),
    };
    let proto = numpy.with_extension("pb");
    if !numpy.exists() && proto.is_file() { proto } else { numpy }
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
            if let Ok(array) = load::read(&file(folder, Origin { input, item })) {
                present
                    .insert(own, dtypes.get(name).map_or_else(|| array.clone(), |dtype| load::as_typed(array.clone(), *dtype)));
            }
        }
    }
    present
}
