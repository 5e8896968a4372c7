//! How fast compiled programs are: `cargo run --release -p graver-bench -- CASE.. [--json] [--roofline]`.
//!
//! Cases are models and operations as PyTorch, JAX and ONNX Runtime are measured on; batch and length are symbols, so that what
//! is timed is code for any size. Each case runs in a process of its own: memory and first calls are nobody else's.
//!
//! Exit codes: 0 ran; 1 a result differs from what is expected; 2 bad usage, or a case failed.

mod cases;
mod machine;
mod measure;
mod models;
mod numbers;
mod roofline;
mod row;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use graver::Isa;
use graver::prelude::*;

use crate::cases::Case;
use crate::numbers::Numbers;
use crate::row::Row;

/// Time models and operations on this machine.
#[derive(Debug, Parser)]
#[command(name = "graver-bench", arg_required_else_help = true)]
struct Args {
    /// Cases: `all`, names, or beginnings of names: `micro`.
    #[arg(required = true)]
    cases: Vec<String>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Threads; all of the machine's if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The instruction-set level; the highest that the machine runs if not given.
    #[arg(long)]
    isa: Option<Isa>,
    /// Read weights, data and expected results from `DIR/CASE.safetensors`, and check the results; without it, numbers of our own.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also print the time of every launch beside what the machine allows.
    #[arg(long)]
    roofline: bool,
    /// Write every stage of a case's compilation into `DIR/CASE`.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Run in this process: the one case that is named.
    #[arg(long, hide = true)]
    here: bool,
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
    let mut worst = 0;
    for (place, case) in chosen(&args.cases)?.into_iter().enumerate() {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args([case.name, "--here", "--json"]).args(args.isa.map(|isa| format!("--isa={isa}")));
        command.args(args.threads.map(|threads| format!("--threads={threads}")));
        command.args(args.data.iter().flat_map(|folder| ["--data".as_ref(), folder.as_os_str()]));
        command.args(args.dump.iter().flat_map(|folder| ["--dump".as_ref(), folder.as_os_str()]));
        command.args(args.roofline.then_some("--roofline"));
        let output = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        row::print(&text, args.json, place == 0);
        worst = worst.max(output.status.code().unwrap_or(2));
    }
    Ok(ExitCode::from(u8::try_from(worst).unwrap_or(2)))
}

/// The cases that words name, in the order of the words.
fn chosen(words: &[String]) -> Result<Vec<&'static Case>, String> {
    let mut chosen: Vec<&Case> = Vec::new();
    for word in words {
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

/// The one case of this process.
fn here(args: &Args) -> Result<ExitCode, String> {
    let [case] = chosen(&args.cases)?[..] else { return Err("takes one case".to_owned()) };
    one(args, case).map_err(|error| format!("{}: {error}", case.name))
}

fn one(args: &Args, case: &Case) -> Result<ExitCode, Error> {
    let threads = args.threads.map_or_else(machine::threads, usize::from);
    let isa = args.isa.unwrap_or_else(Isa::detect);
    let device = graver::cpu_with_isa(threads, isa)?;
    let mut numbers = Numbers::open(args.data.as_deref(), case.name)?;
    measure::reset_peak();
    let mut ready = (case.build)(&mut numbers, &device)?;
    if let Some(folder) = &args.dump {
        ready.dump(&folder.join(case.name))?;
    }
    let timed = measure::measure(ready.as_mut())?;
    let limits = machine::limits(threads, isa);
    let row = Row::new(case, isa, threads, &timed, &ready.facts()?, limits, numbers.has_expectations());
    println!("{}", row.json());
    if args.roofline {
        roofline::print(ready.as_mut(), limits)?;
    }
    match numbers.wrong(&timed.seen) {
        None => Ok(ExitCode::SUCCESS),
        Some(message) => {
            eprintln!("graver-bench: {}: {message}", case.name);
            Ok(ExitCode::FAILURE)
        }
    }
}
