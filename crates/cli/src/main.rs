//! The `graver` command: look inside programs, run them, and print what the compiler is made of.
//!
//! Exit codes: 0 ran; 1 a check found something; 2 bad usage or bad input; 3 valid, but not supported. Never a panic.

mod chat;
mod check;
mod conform;
mod dump;
mod failure;
mod load;
mod matrix;
mod memory;
mod model;
mod run;
mod text;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use graver_runtime::DeviceName;

/// Look inside Graver programs, run them, and see what the compiler is made of.
#[derive(Debug, Parser)]
#[command(name = "graver", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a program at a stage of its compilation.
    Dump(Dump),
    /// Run passes over a program and print the result.
    Opt(Opt),
    /// Run a program over `input_<i>.npy` and write `output_<i>.npy`.
    Run(Run),
    /// Check a call against the interpreter, kernel by kernel, and name who computes something else.
    Check(Check),
    /// Run a folder of models with inputs and compare with the outputs that are expected.
    Conform(Conform),
    /// Write an ONNX model as a program.
    Import(Import),
    /// Print rows of features for texts, by a pretrained model's folder.
    Embed(Embed),
    /// Print the classes of texts or pictures, by a pretrained model's folder.
    Classify(Classify),
    /// Print what follows a text, or is answered in a conversation, as it comes, by a pretrained model's folder.
    Generate(Generate),
    /// Print the table of passes.
    Passes,
    /// Print which operation runs with which element type on which device, as the tests found it.
    Ops,
}

#[derive(Debug, clap::Args)]
struct Dump {
    /// A program: `.gir` text, `.json` or an ONNX model.
    file: PathBuf,
    /// The graph after this pass of the pipeline (its last run).
    #[arg(long, conflicts_with = "stage")]
    after: Option<String>,
    /// What to show.
    #[arg(long, value_enum, default_value_t = Stage::Graph)]
    stage: Stage,
    /// For which machine kernels are made. No GPU has to be there: `ptx` and `sass` need NVRTC alone, `cuda` nothing.
    #[arg(long, value_enum, default_value_t = Maker::Cpu)]
    device: Maker,
    /// The GPU's architecture of `ptx` and `sass`: `sm_90a` if it is not said.
    #[arg(long)]
    arch: Option<String>,
    /// How to write it; `dot` for graphs alone, `json` for graphs and kernels.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Opt {
    /// A program: `.gir` text, `.json` or an ONNX model.
    file: PathBuf,
    /// Passes to run, in order; without it, the whole graph pipeline.
    #[arg(long, value_delimiter = ',')]
    passes: Vec<String>,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where to write the result; standard output if not given.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Run {
    /// A program: `.gir` text, `.json` or an ONNX model.
    model: PathBuf,
    /// The folder of `input_<i>.npy`, one an argument.
    #[arg(long)]
    inputs: PathBuf,
    /// The folder for `output_<i>.npy`, one a result; made if it is not there.
    #[arg(long)]
    outputs: PathBuf,
    #[command(flatten)]
    machine: Machine,
    /// The values of the program's state, a safetensors file with its paths as keys.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Where to write the state after the call, as safetensors.
    #[arg(long)]
    save_state: Option<PathBuf>,
    /// Interpret the program instead, and name the first operation that makes a NaN or an infinity of finite values.
    #[arg(long, conflicts_with = "check_nan")]
    check_finite: bool,
    /// Interpret the program instead, and name the first operation that makes a NaN.
    #[arg(long)]
    check_nan: bool,
}

#[derive(Debug, clap::Args)]
struct Check {
    /// A program: `.gir` text (which may hold its inputs: see `--write`), `.json` or an ONNX model.
    model: PathBuf,
    /// The folder of `input_<i>.npy`, one an argument; the program's own inputs if not given.
    #[arg(long)]
    inputs: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    /// The values of the program's state, a safetensors file with its paths as keys.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Where to write the smallest program that shows a difference, as `.gir` text with its inputs.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// What runs a program.
#[derive(Debug, clap::Args)]
struct Machine {
    /// The device: cpu, cuda (the first GPU), cuda:1 (the second), or interp, the interpreter of kernels.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Threads of the cpu device; all of the machine's if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The instruction-set level of the cpu device's code; the highest that the machine runs if not given.
    #[arg(long, value_enum)]
    isa: Option<Isa>,
    /// How the cpu device computes convolutions of 3x3 windows: what their rounding may be.
    #[arg(long, value_enum, default_value_t = Convolutions::Direct)]
    convolutions: Convolutions,
    /// What becomes of denormals on the cpu device: kept, or flushed to zeros.
    #[arg(long, value_name = "WAY", default_value_t)]
    denormals: graver_cpu::Denormals,
}

impl Machine {
    /// The arguments that say the same.
    fn args(&self) -> Vec<OsString> {
        let mut args = vec![format!("--device={}", self.device), format!("--denormals={}", self.denormals)];
        let name = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
        args.extend(self.threads.map(|threads| format!("--threads={threads}")));
        args.extend(self.isa.and_then(|isa| name(isa.to_possible_value())).map(|isa| format!("--isa={isa}")));
        args.extend(name(self.convolutions.to_possible_value()).map(|way| format!("--convolutions={way}")));
        args.into_iter().map(OsString::from).collect()
    }
}

#[derive(Debug, clap::Args)]
struct Conform {
    /// The folder: any depth of folders with `model.onnx` and sets of inputs and outputs.
    folder: PathBuf,
    /// A file with the names of cases, one a line, where not all are to run: a case's name is its folder's.
    #[arg(long)]
    names: Option<PathBuf>,
    /// The relative tolerance: 1e-3 if not given. Where a case's `case.json` has a greater one, that.
    #[arg(long)]
    rtol: Option<f64>,
    /// The absolute tolerance: 1e-7 if not given. Where a case's `case.json` has a greater one, that.
    #[arg(long)]
    atol: Option<f64>,
    /// The most seconds that a set may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    timeout: f64,
    /// How many cases run at a time.
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Where to write how each case ended, as JSON: a list of `kind`, `name`, `status`, `msg` and `sec`.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// An ONNX model.
    model: PathBuf,
    /// Where to write the program, as `.gir` text; standard output if not given.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// A pretrained model.
#[derive(Debug, clap::Args)]
struct Pretrained {
    /// The model's folder: `config.json`, `model.safetensors`, and `tokenizer.json` or `preprocessor_config.json`.
    #[arg(long)]
    model: PathBuf,
    /// Take the model's name on the Hugging Face Hub instead, and fetch what the usual cache has not.
    #[cfg(feature = "download")]
    #[arg(long)]
    download: bool,
    /// A branch, a tag or a commit of it.
    #[cfg(feature = "download")]
    #[arg(long, value_name = "REV", default_value = "main", requires = "download")]
    revision: String,
}

#[derive(Debug, clap::Args)]
struct Embed {
    #[command(flatten)]
    model: Pretrained,
    /// The texts.
    #[arg(required = true)]
    texts: Vec<String>,
    /// Where to write all rows as one `.npy` array instead.
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Debug, clap::Args)]
struct Classify {
    #[command(flatten)]
    model: Pretrained,
    /// The texts.
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    texts: Vec<String>,
    /// Pictures instead, PNG or JPEG files.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    image: Vec<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Debug, clap::Args)]
struct Generate {
    #[command(flatten)]
    model: Pretrained,
    #[command(flatten)]
    from: Beginning,
    /// What the model is told before a conversation.
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt")]
    system: Option<String>,
    /// How many tokens a conversation has room for at most.
    #[arg(long, value_name = "N", default_value_t = 4096, conflicts_with = "prompt")]
    room: usize,
    /// How many tokens are added at most; what `generation_config.json` says if not given, or 20,
    /// or in a conversation as many as there is room for.
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Draw tokens, after dividing scores by this; 0 takes the likeliest. What is not given of these four is as the model's folder says,
    /// and without any of them it also says whether tokens are drawn at all.
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draw from so many of the likeliest tokens, 0 for all.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens whose probabilities together come to this.
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Draw by this seed, 0 if not given: the same seed gives the same text.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    #[command(flatten)]
    machine: Machine,
}

/// What is gone on from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Beginning {
    /// The text to go on from.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Hold a conversation instead: every line of standard input is a message, and the model answers it.
    #[arg(long)]
    chat: bool,
    /// Answer a conversation instead, a JSON file `[{"role": "user", "content": "Hello"}]`; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
}

/// An instruction-set level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Isa {
    /// What every machine has: 128-bit vectors.
    Baseline,
    /// AVX2, FMA, F16C and BMI2.
    V3,
    /// AVX-512 F, BW, DQ and VL.
    V4,
}

/// A way to compute convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Convolutions {
    /// As sums of products.
    Direct,
    /// By transforms to 2x2 results at once where that is less work.
    Winograd2,
    /// By transforms to 4x4 results at once where that is less work: less exact.
    Winograd4,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The graph as it was read.
    Graph,
    /// The planned kernel program.
    Kernels,
    /// The vector IR of every kernel.
    Vector,
    /// Cranelift's IR of every kernel.
    Clif,
    /// Machine code of every kernel.
    Asm,
    /// CUDA C++ of every kernel, whole, as NVRTC takes it; with `--device cuda`, as all that follow.
    Cuda,
    /// NVIDIA's portable assembly of every kernel.
    Ptx,
    /// A GPU's machine code of every kernel.
    Sass,
}

/// For which machine kernels are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Maker {
    /// This CPU.
    Cpu,
    /// A GPU of NVIDIA's.
    Cuda,
}

/// How a thing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The `.gir` text.
    Text,
    /// Graphviz.
    Dot,
    /// JSON.
    Json,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dump(args) => dump::dump(&args),
        Command::Opt(args) => dump::opt(&args),
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Conform(args) => conform::conform(&args),
        Command::Import(args) => model::import(&args),
        Command::Embed(args) => text::embed(&args),
        Command::Classify(args) => text::classify(&args),
        Command::Generate(args) => text::generate(&args),
        Command::Passes => matrix::passes(),
        Command::Ops => matrix::ops(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
