//! ONNX models as cases: networks that nobody here had in mind. Axes without numbers are symbols, as everywhere; the caller says their sizes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graver::ir::kernel::Program;
use graver::ir::{Dim, Sizes, Target};
use graver::nn::Checkpoint;
use graver::passes::{Silent, pipeline};
use graver::prelude::*;
use graver::runtime::{Binding, Executable, Invocation, Profile, Workspace};

use super::{Facts, Runs};
use crate::numbers::Numbers;

/// A model, compiled, with its arguments.
struct Loaded {
    executable: Arc<dyn Executable>,
    workspace: Workspace,
    args: Vec<Array>,
    results: Vec<Array>,
    compile: Duration,
    sizes: Sizes,
}

/// Imports and compiles a model, and makes arguments of these sizes.
pub(crate) fn build(path: &Path, sizes: &Sizes, numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let start = Instant::now();
    let executable = device.backend().compile(Arc::new(program(path, &device.backend().describe())?))?;
    let compile = start.elapsed();
    let args = arguments(executable.program(), sizes, numbers)?;
    let sizes = Binding::new(executable.program(), 0, &args.iter().collect::<Vec<_>>())?.sizes;
    let workspace = executable.workspace();
    Ok(Box::new(Loaded { executable, workspace, args, results: Vec::new(), compile, sizes }))
}

fn program(path: &Path, target: &Target) -> Result<Program, Error> {
    let model = graver_onnx::read_file(path).map_err(|failure| Error::new(failure.to_string()))?;
    let (name, folder) = (path.display().to_string(), path.parent().map(Path::to_owned));
    let options = graver_onnx::Options { name, folder, ..graver_onnx::Options::default() };
    let imported = graver_onnx::import(&model, &options).map_err(|failure| Error::new(failure.to_string()))?;
    pipeline::compile(imported.module, target, &mut Silent)
}

/// Copies a model to a folder, with a file of arguments, for whoever runs the same.
pub(crate) fn prepare(path: &Path, sizes: &Sizes, folder: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::new(format!("{}: {error}", path.display()));
    let args = arguments(&program(path, &Target::generic())?, sizes, &mut Numbers::open(None, "")?)?;
    let named = args.into_iter().enumerate().map(|(place, array)| (format!("data.{place}"), array));
    let checkpoint = Checkpoint { arrays: named.collect(), ..Checkpoint::default() };
    let name = path.file_name().unwrap_or_default();
    checkpoint.write(folder.join(name).with_extension("safetensors"))?;
    std::fs::copy(path, folder.join(name)).map_err(failed)?;
    // Where the exporter puts weights that it keeps apart.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".data");
    let beside = Path::new(&beside);
    if let Some(name) = beside.file_name().filter(|_| beside.is_file()) {
        std::fs::copy(beside, folder.join(name)).map_err(failed)?;
    }
    Ok(())
}

/// Normal floats, and integers that are 0 or 1, which are among the tokens and marks of any model.
fn arguments(program: &Program, sizes: &Sizes, numbers: &mut Numbers) -> Result<Vec<Array>, Error> {
    let entry = program.entries.first().ok_or_else(|| Error::new("the model has no graph"))?;
    let size = |dim: &Dim| -> Result<usize, Error> {
        let value = dim.eval(sizes).map_err(|error| {
            let names: Vec<String> = program.symbols.iter().map(|symbol| format!("--size {}=8", symbol.name())).collect();
            Error::new(format!("{error}; the sizes that the model leaves open are given so: {}", names.join(" ")))
        })?;
        usize::try_from(value).map_err(|_| Error::new(format!("{dim} is {value}")))
    };
    let mut args = Vec::new();
    for (place, (buffer, name)) in entry.inputs.iter().enumerate() {
        let buffer = entry.buffer(*buffer);
        let shape = buffer.shape.iter().map(size).collect::<Result<Vec<usize>, Error>>()?;
        let array = if buffer.dtype == DType::F32 {
            numbers.floats(place, &shape)?
        } else if buffer.dtype == DType::I64 {
            numbers.integers(place, &shape, 2)?
        } else {
            return Err(Error::new(format!("`{name}` is of type {}; models of f32 and i64 are timed", buffer.dtype)));
        };
        args.push(array);
    }
    Ok(args)
}

impl Loaded {
    fn invocation<'a>(args: &'a [&'a Array], workspace: &'a mut Workspace) -> Invocation<'a> {
        Invocation { entry: 0, inputs: args, state: &mut [], workspace }
    }
}

impl Runs for Loaded {
    fn call(&mut self) -> Result<(), Error> {
        let args: Vec<&Array> = self.args.iter().collect();
        self.results = self.executable.run(Self::invocation(&args, &mut self.workspace))?;
        Ok(())
    }

    fn profile(&mut self) -> Result<Profile, Error> {
        let args: Vec<&Array> = self.args.iter().collect();
        Ok(self.executable.profile(Self::invocation(&args, &mut self.workspace))?.1)
    }

    fn seen(&self) -> Result<f64, Error> {
        super::runs::mean_magnitude(&self.results)
    }

    fn facts(&self) -> Result<Facts, Error> {
        let planned = self.executable.working_bytes(0, &self.sizes)?.total();
        Ok(Facts { compile: self.compile, kernels: self.executable.program().kernels.len(), planned, sizes: self.sizes.clone() })
    }

    fn program(&self) -> &Program {
        self.executable.program()
    }

    fn dump(&self, _: &Path) -> Result<(), Error> {
        Err(Error::new("`graver dump` shows every stage of a model that is in a file"))
    }
}
