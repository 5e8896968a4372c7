//! How fast compiled programs are: `cargo run --release -p graver-bench -- CASE.. [--json] [--roofline] [--vs DIR] [--landings FILE]`.
//!
//! Cases are models and operations as PyTorch, JAX and ONNX Runtime are measured on; batch and length are symbols, so that what
//! is timed is code for any size; or they are ONNX models in files, beside ONNX Runtime. Each case runs in a process of its own: memory and first calls are nobody else's.
//!
//! Exit codes: 0 ran; 1 a result, or a number of kernels, differs from what is expected; 2 bad usage, or a case failed.

mod cases;
mod landing;
mod machine;
mod measure;
mod models;
mod numbers;
mod roofline;
mod row;
mod vs;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use graver::ir::Sizes;
use graver::prelude::*;
use graver::{Convolutions, Cpu, Denormals, Dots, Isa};

use crate::cases::{Build, Case, Kind};
use crate::landing::Landing;
use crate::numbers::Numbers;
use crate::row::Row;
use crate::vs::Versus;

/// Time models and operations on this machine.
#[derive(Debug, Parser)]
#[command(name = "graver-bench", arg_required_else_help = true)]
struct Args {
    /// Cases: `all`, names, or beginnings of names: `micro`; or files of ONNX models: `model.onnx`.
    #[arg(required = true)]
    cases: Vec<String>,
    /// A size that a model in a file leaves open, as often as there are some: `batch=8`.
    #[arg(long = "size", value_name = "NAME=SIZE", value_parser = size)]
    sizes: Vec<(String, i64)>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Threads; all of the machine's if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The instruction-set level, without more dot-product instructions than it has; all that the machine runs if not given.
    #[arg(long)]
    isa: Option<Isa>,
    /// How convolutions are computed: `direct`, `winograd2` or `winograd4`. Floors are those of direct ones.
    #[arg(long, value_name = "WAY", default_value_t, conflicts_with = "landings")]
    convolutions: Convolutions,
    /// What becomes of denormals: `kept` or `flushed`.
    #[arg(long, value_name = "WAY", default_value_t, conflicts_with = "landings")]
    denormals: Denormals,
    /// Read weights, data and expected results from `DIR/CASE.safetensors`, and check the results; without it, numbers of our own.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also print the time of every launch beside what the machine allows.
    #[arg(long)]
    roofline: bool,
    /// Write every stage of a case's compilation into `DIR/CASE`.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Run other engines on the same work in turn with ours, from the environments that `peers/setup.sh DIR` makes, and print ratios.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "dump", "roofline"])]
    vs: Option<PathBuf>,
    /// How often everybody runs; medians of medians are compared.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99), requires = "vs")]
    rounds: u16,
    /// Compare with the last landing that FILE tells of, and warn of what is slower by more than a tenth.
    #[arg(long, value_name = "FILE", conflicts_with = "vs")]
    landings: Option<PathBuf>,
    /// Add this run to the file of landings.
    #[arg(long, requires = "landings")]
    record: bool,
    /// Run in this process: the one case that is named.
    #[arg(long, hide = true)]
    here: bool,
}

fn size(word: &str) -> Result<(String, i64), String> {
    let (name, size) = word.split_once('=').ok_or("a size is given as batch=8")?;
    Ok((name.to_owned(), size.parse().map_err(|_| format!("`{size}` is no size"))?))
}

impl Args {
    fn sizes(&self) -> Sizes {
        self.sizes.iter().cloned().collect()
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = if args.here { here(&args) } else { each(&args) };
    outcome.unwrap_or_else(|message| {
        eprintln!("graver-bench: {message}");
        ExitCode::from(2)
    })
}

/// Every case that is asked for, one process after the other.
fn each(args: &Args) -> Result<ExitCode, String> {
    if let Some(dir) = &args.vs {
        return versus(args, dir);
    }
    let (mut worst, mut rows) = (0, Vec::new());
    for (place, case) in chosen(&args.cases)?.into_iter().enumerate() {
        let (code, text) = apart(args, case, args.data.as_deref())?;
        row::print(&text, args.json, place == 0);
        rows.extend(text.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok()));
        worst = worst.max(code);
    }
    if let Some(file) = &args.landings {
        landed(args, file, &rows)?;
    }
    Ok(ExitCode::from(u8::try_from(worst).unwrap_or(2)))
}

/// Runs a case in a process of its own: its exit code, and what it printed.
fn apart(args: &Args, case: &Case, data: Option<&Path>) -> Result<(i32, String), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    let word = if let Build::File(path) = &case.build { path.as_os_str() } else { case.name.as_ref() };
    command.arg(word).args(["--here", "--json"]).args(args.isa.map(|isa| format!("--isa={isa}")));
    command.args(args.threads.map(|threads| format!("--threads={threads}")));
    command.args(args.sizes.iter().map(|(name, size)| format!("--size={name}={size}")));
    command.arg(format!("--convolutions={}", args.convolutions)).arg(format!("--denormals={}", args.denormals));
    command.args(data.iter().flat_map(|folder| ["--data".as_ref(), folder.as_os_str()]));
    command.args(args.dump.iter().flat_map(|folder| ["--dump".as_ref(), folder.as_os_str()]));
    command.args(args.roofline.then_some("--roofline"));
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    Ok((output.status.code().unwrap_or(2), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Every case beside other engines.
fn versus(args: &Args, dir: &Path) -> Result<ExitCode, String> {
    let versus = Versus {
        dir,
        threads: args.threads.map_or_else(machine::threads, usize::from),
        rounds: args.rounds,
        json: args.json,
        sizes: args.sizes(),
    };
    let mut code = ExitCode::SUCCESS;
    for case in chosen(&args.cases)? {
        let wrong = std::cell::Cell::new(false);
        versus.case(case, &|data| {
            let (code, text) = apart(args, case, Some(data))?;
            wrong.set(wrong.get() || code == 1);
            if code < 2 { Ok(text) } else { Err(format!("{} failed", case.name)) }
        })?;
        if wrong.get() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Warns of what became slower since the last landing, and records this one if that is asked for.
fn landed(args: &Args, file: &Path, rows: &[Row]) -> Result<(), String> {
    let fractions = rows.iter().filter_map(Row::fraction).collect();
    let isa = args.isa.unwrap_or_else(Isa::detect).to_string();
    let threads = args.threads.map_or_else(machine::threads, usize::from);
    let now = Landing { commit: landing::commit(), cpu: landing::cpu(), isa, threads, fractions };
    let all = Landing::read(file)?;
    match now.last(&all) {
        None => row::say(&format!("no landing of {threads} threads at {} to compare with", now.isa)),
        Some(last) => {
            let warnings = now.warnings(last);
            warnings.iter().for_each(|warning| row::say(&format!("warning: {warning}")));
            if warnings.is_empty() {
                row::say(&format!("no case is slower than on {} by more than a tenth", last.commit));
            }
        }
    }
    if args.record { now.append(file) } else { Ok(()) }
}

/// The cases that words name, in the order of the words.
fn chosen(words: &[String]) -> Result<Vec<&'static Case>, String> {
    let mut chosen: Vec<&Case> = Vec::new();
    for word in words {
        if Path::new(word).extension().is_some_and(|extension| extension == "onnx") {
            chosen.push(Box::leak(Box::new(Case::file(Path::new(word)))));
            continue;
        }
        let exact: Vec<&Case> = cases::all().filter(|case| case.name == word).collect();
        let starts = |case: &&Case| word == "all" || case.name.starts_with(word.as_str());
        let found = if exact.is_empty() { cases::all().filter(starts).collect() } else { exact };
        if found.is_empty() {
            let names: Vec<&str> = cases::all().map(|case| case.name).collect();
            return Err(format!("no case is called `{word}` or begins so; there are {}", names.join(", ")));
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

/// How the device computes: the level, and whatever else is asked of it, or is the machine's.
fn mode(cpu: &Cpu) -> String {
    let dots = (cpu.dots() != Dots::Plain).then(|| cpu.dots().to_string());
    let convolutions = (cpu.convolutions() != Convolutions::Direct).then(|| cpu.convolutions().to_string());
    let denormals = (cpu.denormals() != Denormals::Kept).then(|| cpu.denormals().to_string());
    [Some(cpu.isa().to_string()), dots, convolutions, denormals].into_iter().flatten().collect::<Vec<_>>().join("+")
}

/// The one case of this process.
fn here(args: &Args) -> Result<ExitCode, String> {
    let [case] = chosen(&args.cases)?[..] else { return Err("takes one case".to_owned()) };
    one(args, case).map_err(|error| format!("{}: {error}", case.name))
}

fn one(args: &Args, case: &Case) -> Result<ExitCode, Error> {
    let threads = args.threads.map_or_else(machine::threads, usize::from);
    let isa = args.isa.unwrap_or_else(Isa::detect);
    let cpu = Cpu::new(threads).with_convolutions(args.convolutions).with_denormals(args.denormals)?;
    let cpu = args.isa.map_or(Ok(cpu.clone()), |isa| cpu.with_isa(isa))?;
    let mode = mode(&cpu);
    let device = graver::cpu_with(cpu);
    let mut numbers = Numbers::open(args.data.as_deref(), case.name)?;
    measure::reset_peak();
    let mut ready = case.compile(&mut numbers, &args.sizes(), &device)?;
    if let Some(folder) = &args.dump {
        ready.dump(&folder.join(case.name))?;
    }
    let timed = measure::measure(ready.as_mut())?;
    let limits = machine::limits(threads, isa);
    let facts = ready.facts()?;
    let is_file = case.kind() == Kind::File;
    let work = if is_file { roofline::work(ready.program(), &facts.sizes) } else { (case.flops, case.bytes) };
    let errors = numbers.errors(ready.results())?;
    let row = Row::new((case.name, work), mode, threads, &timed, &facts, limits, numbers.has_expectations()).with(errors);
    println!("{}", row.json());
    if args.roofline {
        roofline::print(ready.as_mut(), limits)?;
    }
    match numbers.wrong(&timed.seen, errors).or_else(|| case.other_kernels(facts.kernels)) {
        None => Ok(ExitCode::SUCCESS),
        Some(message) => {
            eprintln!("graver-bench: {}: {message}", case.name);
            Ok(ExitCode::FAILURE)
        }
    }
}
