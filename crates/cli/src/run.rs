//! `graver run`: a program over `.npy` files.

use std::path::Path;
use std::sync::Arc;

use graver_check::Suspect;
use graver_data::npy;
use graver_interp::Outcome;
use graver_ir::{Array, DType, Function, Module, Role, Sink, StateDecl};
use graver_onnx::Form;
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Checkpoint, DeviceName, Executable, Invocation, Slot};

use crate::failure::Failure;
use crate::model::Given;
use crate::{Convolutions, Isa, Machine, Run, load, memory, model};

/// `graver run`
pub(crate) fn run(args: &Run) -> Result<(), Failure> {
    let Given { module, inputs, outputs: forms } = program(args)?;
    let mut state = match &args.state {
        Some(path) => read_state(path, &module.state)?,
        None if module.state.is_empty() => Vec::new(),
        None => return Err(missing_state(&module.state)),
    };
    if let Some(suspect) = suspect(args) {
        let finite = graver_check::finite(&module, &inputs.iter().collect::<Vec<_>>(), &state, suspect);
        return finished(args, &forms, &module.state, state, finite.map_err(|error| Failure::Found(error.to_string()))?);
    }
    let executable = compiled(module, &args.machine)?;
    memory::check(executable.as_ref(), &inputs)?;
    let outputs = executable.run(Invocation {
        entry: 0,
        inputs: &inputs.iter().collect::<Vec<_>>(),
        state: &mut state.iter_mut().map(Slot::Write).collect::<Vec<_>>(),
        workspace: &mut executable.workspace(),
    })?;
    write_outputs(args, &forms, &outputs)?;
    match &args.save_state {
        Some(path) => write_state(path, &executable.program().state, state),
        None => Ok(()),
    }
}

/// What is looked for, if anything is.
fn suspect(args: &Run) -> Option<Suspect> {
    match (args.check_finite, args.check_nan) {
        (true, _) => Some(Suspect::NanOrInfinity),
        (false, true) => Some(Suspect::Nan),
        (false, false) => None,
    }
}

/// Writes what an interpreted call gave.
fn finished(args: &Run, forms: &[Form], decls: &[StateDecl], mut state: Vec<Array>, outcome: Outcome) -> Result<(), Failure> {
    write_outputs(args, forms, &outcome.outputs)?;
    for (slot, array) in outcome.updates {
        state[slot.0 as usize] = array;
    }
    match &args.save_state {
        Some(path) => write_state(path, decls, state),
        None => Ok(()),
    }
}

/// The program and its inputs; an ONNX model may be specialised to them.
fn program(args: &Run) -> Result<Given, Failure> {
    if model::is_onnx(&args.model) {
        return model::with_inputs(&args.model, &args.inputs);
    }
    let module = load::module(&args.model)?;
    let inputs = load::inputs(&args.inputs, &argument_dtypes(&module))?;
    let results =
        module.entry().map_or(0, |(_, function)| function.results.iter().filter(|result| result.sink == Sink::Out).count());
    Ok(Given { module, inputs, outputs: vec![Form::Tensor; results] })
}

fn compiled(module: Module, machine: &Machine) -> Result<Arc<dyn Executable>, Failure> {
    let backend = device(machine)?;
    let program = pipeline::compile(module, &backend.describe(), &mut Silent).map_err(|error| Failure::unsupported(&error))?;
    backend.compile(Arc::new(program)).map_err(|error| Failure::unsupported(&error))
}

/// What runs programs.
pub(crate) fn device(args: &Machine) -> Result<Box<dyn Backend>, Failure> {
    match args.device {
        DeviceName::Interp => return Ok(Box::new(graver_interp::Interp::default())),
        DeviceName::Cuda(number) => {
            return Ok(Box::new(graver_cuda::Cuda::new(number).map_err(|error| Failure::unsupported(&error))?));
        }
        DeviceName::Cpu => {}
    }
    let cpu = graver_cpu::Cpu::new(args.threads.map_or(0, usize::from));
    let level = args.isa.map(|isa| match isa {
        Isa::Baseline => graver_cpu::Isa::Baseline,
        Isa::V3 => graver_cpu::Isa::V3,
        Isa::V4 => graver_cpu::Isa::V4,
    });
    let level = level.unwrap_or(cpu.isa());
    let cpu = cpu.with_convolutions(match args.convolutions {
        Convolutions::Direct => graver_cpu::Convolutions::Direct,
        Convolutions::Winograd2 => graver_cpu::Convolutions::Winograd2,
        Convolutions::Winograd4 => graver_cpu::Convolutions::Winograd4,
    });
    let cpu = cpu.with_isa(level).and_then(|cpu| cpu.with_denormals(args.denormals));
    Ok(Box::new(cpu.map_err(|error| Failure::unsupported(&error))?))
}

/// The element types of the entry's arguments, in order.
pub(crate) fn argument_dtypes(module: &Module) -> Vec<DType> {
    let Some((_, entry)) = module.entry() else { return Vec::new() };
    arguments(entry).collect()
}

fn arguments(entry: &Function) -> impl Iterator<Item = DType> {
    let of = |node: graver_ir::NodeId| entry.graph.ty(node.into()).dtype;
    entry.params.iter().filter(|param| matches!(param.role, Role::Arg(_))).map(move |param| of(param.node))
}

pub(crate) fn missing_state(state: &[StateDecl]) -> Failure {
    let paths: Vec<&str> = state.iter().map(|slot| slot.path.as_str()).collect();
    Failure::Input(format!("the program has state; give --state FILE with {}", paths.join(", ")))
}

/// Reads every slot; all that is missing or of another type is listed at once.
pub(crate) fn read_state(path: &Path, state: &[StateDecl]) -> Result<Vec<Array>, Failure> {
    let mut file = Checkpoint::read(path)?;
    let slots: Vec<Result<Array, String>> = state
        .iter()
        .map(|slot| match file.arrays.remove(&slot.path) {
            None => Err(format!("`{}` {} is not in it", slot.path, slot.ty)),
            Some(array) if array.ty() != slot.ty => {
                Err(format!("`{}` is {}, the program says {}", slot.path, array.ty(), slot.ty))
            }
            Some(array) => Ok(array),
        })
        .collect();
    let wrong: Vec<&str> = slots.iter().filter_map(|slot| slot.as_ref().err()).map(String::as_str).collect();
    if wrong.is_empty() { Ok(slots.into_iter().flatten().collect()) } else { Err(Failure::file(path, wrong.join("; "))) }
}

fn write_state(path: &Path, decls: &[StateDecl], state: Vec<Array>) -> Result<(), Failure> {
    let arrays = decls.iter().map(|slot| slot.path.clone()).zip(state).collect();
    Ok(Checkpoint { arrays, ..Checkpoint::default() }.write(path)?)
}

/// How `bf16` is written, which NumPy has not.
#[derive(Clone, Copy)]
enum Halves {
    /// As `float32`, and so exactly.
    Floats,
    /// As its bits in `uint16`: the convention of ONNX's test data.
    Bits,
}

impl Halves {
    fn written(self, array: &Array) -> Result<Array, Failure> {
        array.fetch()?;
        Ok(match self {
            Self::Floats => array.cast(DType::F32),
            Self::Bits => Array::from_bytes(DType::U16, array.shape().to_vec(), array.bytes())?,
        })
    }
}

/// Writes every result: a tensor as `output_0.npy`, a sequence's as `output_0/0.npy` and so on, and nothing of what is not there.
fn write_outputs(args: &Run, forms: &[Form], outputs: &[Array]) -> Result<(), Failure> {
    let folder = args.outputs.as_path();
    let halves = if model::is_onnx(&args.model) { Halves::Bits } else { Halves::Floats };
    std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, error))?;
    let mut outputs = outputs.iter();
    for (position, form) in forms.iter().enumerate() {
        let name = format!("output_{position}");
        let of_sequence = folder.join(&name);
        if let Form::Sequence(_) = form {
            std::fs::create_dir_all(&of_sequence).map_err(|error| Failure::file(&of_sequence, error))?;
        }
        for (item, output) in outputs.by_ref().take(form.tensors()).enumerate() {
            let path = match form {
                Form::Sequence(_) => of_sequence.join(format!("{item}.npy")),
                Form::Absent | Form::Tensor => folder.join(format!("{name}.npy")),
            };
            let output = if output.dtype() == DType::BF16 { halves.written(output)? } else { output.clone() };
            npy::write_file(&path, &output)?;
        }
    }
    Ok(())
}
