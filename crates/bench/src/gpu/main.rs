//! What programs reach on a GPU of what it can do: `backends/cuda/measure.sh`, or `cargo run --release -p graver-bench --bin graver-gpu`.
//!
//! Every case runs on fresh random numbers, is checked against sums in `f64`, and is timed beside ceilings that the same process
//! measures. Operands and results are state, which stays on the GPU, so that no copies are timed. A time is a call's: a replay of one
//! CUDA graph, waited for.
//!
//! Exit codes: 0 ran; 1 a result is wrong; 2 there is no GPU, or a case failed.

mod cases;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use graver::prelude::*;
use graver_cuda::{Ceilings, Cuda};

use crate::cases::{Case, Limit, Random};

/// Check and time programs on a GPU.
#[derive(Debug, Parser)]
#[command(name = "graver-gpu")]
struct Args {
    /// The GPU's number.
    #[arg(long, default_value_t = 0)]
    gpu: usize,
    /// Where the random numbers start; the time if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Write a page with the table there.
    #[arg(long, value_name = "FILE", overrides_with = "write")]
    write: Option<PathBuf>,
    /// Divide every size by so many, to see that all of it goes through where there is no time to measure.
    #[arg(long, default_value_t = 1)]
    shrink: u32,
    /// The day that the page tells.
    #[arg(long, default_value = "an untold day")]
    date: String,
}

fn main() -> ExitCode {
    let outcome = run(&Args::parse());
    outcome.unwrap_or_else(|error| {
        eprintln!("graver-gpu: {error}");
        ExitCode::from(2)
    })
}

fn run(args: &Args) -> Result<ExitCode, Error> {
    let cuda = Cuda::new(args.gpu)?;
    let (name, ceilings) = (cuda.name().to_owned(), cuda.ceilings(args.shrink)?);
    let device = Device::new(Arc::new(cuda));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = args.seed.unwrap_or(now);
    let mut random = Random::new(seed);
    let (mut rows, mut wrong) = (String::new(), 0);
    for case in cases::all() {
        let (row, is_right) = one(&case, args.shrink, &device, &mut random, ceilings)
            .map_err(|error| Error::new(format!("{}: {error}", case.name)))?;
        println!("{row}");
        rows += &format!("{row}\n");
        wrong += i32::from(!is_right);
    }
    let page = page(&name, args, seed, ceilings, &rows);
    match &args.write {
        Some(path) => std::fs::write(path, page).map_err(|error| Error::new(format!("{}: {error}", path.display())))?,
        None => println!("\n{page}"),
    }
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

/// A row of the table, and whether the results are right.
fn one(case: &Case, shrink: u32, device: &Device, random: &mut Random, ceilings: Ceilings) -> Result<(String, bool), Error> {
    let sizes: Vec<usize> = case.sizes.iter().map(|size| (size / shrink.max(1) as usize).max(4)).collect();
    let mut ready = (case.build)(device, random, &sizes)?;
    (ready.call)()?;
    let error = (ready.error)()?;
    let took = time(&mut *ready.call)?;
    let (rate, ceiling, unit) = match ready.limit {
        Limit::Bytes(bytes) => (bytes / took.as_secs_f64() / 1e9, ceilings.copied / 1e9, "GB/s"),
        Limit::F32(operations) => (operations / took.as_secs_f64() / 1e12, ceilings.f32_operations / 1e12, "TFLOP/s"),
        Limit::Bf16(operations) => (operations / took.as_secs_f64() / 1e12, ceilings.bf16_operations / 1e12, "TFLOP/s"),
        Limit::None(images) => (images / took.as_secs_f64(), f64::NAN, "images/s"),
    };
    let share = if ceiling.is_nan() { "-".to_owned() } else { format!("{:.0} %", 100.0 * rate / ceiling) };
    let milliseconds = 1e3 * took.as_secs_f64();
    let right = if error <= 1.0 { format!("{error:.2} of the bound") } else { format!("WRONG: {error:.2} of the bound") };
    Ok((format!("| {} | {:?} | {milliseconds:.3} | {rate:.1} {unit} | {share} | {right} |", case.name, sizes), error <= 1.0))
}

/// The median of calls, at least ten and a second of them.
fn time(call: &mut dyn FnMut() -> Result<(), Error>) -> Result<Duration, Error> {
    (0..3).try_for_each(|_| call())?;
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while samples.len() < 10 || begin.elapsed() < Duration::from_secs(1) {
        let start = Instant::now();
        call()?;
        samples.push(start.elapsed());
    }
    samples.sort_unstable();
    Ok(samples[samples.len() / 2])
}

fn page(name: &str, args: &Args, seed: u64, ceilings: Ceilings, rows: &str) -> String {
    let Ceilings { copied, f32_operations, bf16_operations } = ceilings;
    format!(
        "# How fast on a GPU\n\n{name}, {}, written by `backends/cuda/measure.sh` with seed {seed}. Measured in the same run: copying within the GPU \
         {:.0} GB/s, read and written; `f32` {:.1} TFLOP/s; `bf16` by `mma.sync` {:.1} TFLOP/s.\n\n\
         | case | sizes | ms | rate | of the ceiling | largest error |\n|---|---|---|---|---|---|\n{rows}",
        args.date,
        copied / 1e9,
        f32_operations / 1e12,
        bf16_operations / 1e12,
    )
}
