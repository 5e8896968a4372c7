//! `graver dump` and `graver opt`: programs at every stage of their compilation, as text, Graphviz or JSON.

use std::sync::Arc;

use graver_ir::kernel::Program;
use graver_ir::{Error, Module, Target, dot, json, kernel, text};
use graver_passes::{Cx, PASSES, Pass, Silent, pipeline, runner};
use graver_runtime::{Backend, Executable};

use crate::failure::{Failure, print};
use crate::{Dump, Format, Maker, Opt, Stage, load};

/// `graver dump`
pub(crate) fn dump(args: &Dump) -> Result<(), Failure> {
    check_arch(args)?;
    let module = load::module(&args.file)?;
    if let Some(pass) = &args.after {
        known_pass(pass)?;
        return print(&graph(&after(module, pass)?, args.format)?);
    }
    match args.stage {
        Stage::Graph => print(&graph(&module, args.format)?),
        Stage::Kernels => print(&kernels(&compile(module, &target(args.device))?, args.format)?),
        Stage::Vector => code(module, graver_runtime::Stage::Vector, args),
        Stage::Clif => code(module, graver_runtime::Stage::Clif, args),
        Stage::Asm => code(module, graver_runtime::Stage::Asm, args),
        Stage::Cuda => code(module, graver_runtime::Stage::Cuda, args),
        Stage::Ptx => code(module, graver_runtime::Stage::Ptx, args),
        Stage::Sass => code(module, graver_runtime::Stage::Sass, args),
    }
}

/// The architecture of machine code, where none is said.
const ARCHITECTURE: &str = "sm_90a";

/// Refuses an architecture that nothing would be made for.
fn check_arch(args: &Dump) -> Result<(), Failure> {
    let is_asked_for = args.after.is_none() && args.device == Maker::Cuda && matches!(args.stage, Stage::Ptx | Stage::Sass);
    match &args.arch {
        Some(arch) if !is_asked_for => Err(Failure::Input(format!(
            "--arch {arch} says for which GPU `ptx` and `sass` are made, and nothing else is; add --device cuda --stage ptx or sass, or \
             leave --arch out"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// `graver opt`
pub(crate) fn opt(args: &Opt) -> Result<(), Failure> {
    let chosen: Vec<Pass> = if args.passes.is_empty() {
        pipeline::GRAPH.to_vec()
    } else {
        args.passes.iter().map(|name| known_pass(name)).collect::<Result<_, _>>()?
    };
    let mut module = load::module(&args.file)?;
    apply(&mut module, &chosen)?;
    let written = graph(&module, args.format)?;
    match &args.output {
        None => print(&written),
        Some(path) => std::fs::write(path, written).map_err(|error| Failure::file(path, error)),
    }
}

/// The device whose code is shown: one thread, so that nothing depends on the machine's count.
fn cpu() -> graver_cpu::Cpu {
    graver_cpu::Cpu::new(1)
}

fn known_pass(name: &str) -> Result<Pass, Failure> {
    PASSES.iter().find(|pass| pass.name == name).copied().ok_or_else(|| {
        let known: Vec<&str> = PASSES.iter().map(|pass| pass.name).collect();
        Failure::Input(format!("no pass is named `{name}`; there are {}", known.join(", ")))
    })
}

/// The module after the last run of the named pass in the pipeline.
fn after(mut module: Module, name: &str) -> Result<Module, Failure> {
    let pipeline: Vec<Pass> = pipeline::GRAPH.iter().chain(pipeline::REGIONS).copied().collect();
    let Some(last) = pipeline.iter().rposition(|pass| pass.name == name) else {
        return Err(Failure::Input(format!("the pipeline does not run `{name}`")));
    };
    apply(&mut module, &pipeline[..=last])?;
    Ok(module)
}

/// Runs passes; their remarks go to standard error.
fn apply(module: &mut Module, passes: &[Pass]) -> Result<(), Failure> {
    let target = cpu().describe();
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    runner::run(module, passes, &mut cx, &mut Silent, None).map_err(|error| Failure::unsupported(&error))?;
    cx.remarks.iter().for_each(|remark| eprintln!("remark: {remark}"));
    Ok(())
}

fn compile(module: Module, target: &Target) -> Result<Program, Failure> {
    pipeline::compile(module, target, &mut Silent).map_err(|error: Error| Failure::unsupported(&error))
}

fn graph(module: &Module, format: Format) -> Result<String, Failure> {
    Ok(match format {
        Format::Text => text::print(module),
        Format::Dot => dot::print(module),
        Format::Json => json::print(module) + "\n",
    })
}

fn kernels(program: &Program, format: Format) -> Result<String, Failure> {
    match format {
        Format::Text => Ok(kernel::text::print(program)),
        Format::Json => Ok(json::print_program(program) + "\n"),
        Format::Dot => Err(Failure::Input("kernels have no Graphviz form; use --format text or json".to_owned())),
    }
}

/// Every kernel at a stage of code generation.
fn code(module: Module, stage: graver_runtime::Stage, args: &Dump) -> Result<(), Failure> {
    if args.format != Format::Text {
        return Err(Failure::Input("generated code is text; use --format text".to_owned()));
    }
    let program = Arc::new(compile(module, &target(args.device))?);
    if (args.device, stage) == (Maker::Cuda, graver_runtime::Stage::Cuda) {
        return print(&graver_cuda::cuda_unit(&program));
    }
    let texts = match args.device {
        Maker::Cpu => cpu_code(&program, stage)?,
        Maker::Cuda => cuda_code(&program, stage, args.arch.as_deref().unwrap_or(ARCHITECTURE))?,
    };
    let mut shown = String::new();
    for (position, (kernel, text)) in program.kernels.iter().zip(texts).enumerate() {
        let body = text.ok_or_else(|| Failure::Input("this stage is of another device; see --device".to_owned()))?;
        shown += &format!("; kernel {position} {}\n{}\n", kernel.name, body.trim_end());
    }
    print(&shown)
}

fn target(device: Maker) -> Target {
    match device {
        Maker::Cpu => cpu().describe(),
        Maker::Cuda => graver_cuda::describe(),
    }
}

fn cpu_code(program: &Arc<Program>, stage: graver_runtime::Stage) -> Result<Vec<Option<String>>, Failure> {
    let executable: Arc<dyn Executable> = cpu().compile(Arc::clone(program)).map_err(|error| Failure::unsupported(&error))?;
    Ok((0..program.kernels.len()).map(|kernel| executable.dump(kernel, stage)).collect())
}

/// What NVRTC makes of CUDA C++.
fn cuda_code(program: &Program, stage: graver_runtime::Stage, architecture: &str) -> Result<Vec<Option<String>>, Failure> {
    // What is wrong with the name is told whether there is an NVRTC or not.
    let wrong = |error: graver_ir::Error| Failure::Input(format!("--arch: {error}"));
    graver_cuda::check_architecture_name(stage, architecture).map_err(wrong)?;
    let nvrtc = graver_cuda::Nvrtc::find().map_err(|error| Failure::unsupported(&error))?;
    graver_cuda::check_architecture(stage, &nvrtc, architecture).map_err(wrong)?;
    let text = |kernel| graver_cuda::text(program, kernel, stage, &nvrtc, architecture);
    (0..program.kernels.len()).map(text).collect::<Result<_, _>>().map_err(|error| Failure::unsupported(&error))
}
