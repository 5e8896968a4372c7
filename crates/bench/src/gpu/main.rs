//! What programs reach on a GPU of what it can do: `backends/cuda/measure.sh`, or `cargo run --release -p graver-bench --bin graver-gpu`.
//!
//! Every case runs on fresh random numbers, is checked against sums in `f64`, and is timed beside ceilings that the same process
//! measures. A time is a call's: a replay of one CUDA graph, waited for. Operands and results are state, which stays on the GPU, so that
//! none of them is copied in it; a step of the digits example is timed with the copies of its images and labels to the GPU and of its
//! loss back.
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

use crate::cases::{Case, Random, STEPS, Work};

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
    /// Divide every size and number of calls by so many, to see that all of it goes through where there is no time to measure.
    #[arg(long, default_value_t = 1)]
    shrink: u32,
    /// Tests of the suite that failed on this GPU, which the page tells.
    #[arg(long, value_name = "TESTS")]
    wrong: Option<String>,
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
    let shrunk = |count: usize, least: usize| (count / shrink.max(1) as usize).max(count.min(least));
    let sizes: Vec<usize> = case.sizes.iter().map(|size| shrunk(*size, 4)).collect();
    let mut ready = (case.build)(device, random, &sizes)?;
    (0..shrunk(ready.checked, 3)).try_for_each(|_| (ready.call)())?;
    let first = (ready.error)()?;
    let took = time(&mut *ready.call, shrunk(SAMPLES, 1), LONG / shrink.max(1))?.as_secs_f64();
    // What was timed is right, too.
    let error = cases::largest([first, (ready.error)()?]);
    let (floor, rate) = floor(ready.work, ceilings);
    let right = if error <= 1.0 { format!("{error:.2} of the bound") } else { format!("WRONG: {error:.2} of the bound") };
    let (name, share) = (case.name, 100.0 * floor / took);
    let row =
        format!("| {name} | {sizes:?} | {:.4} | {:.4} | {share:.0} % | {} | {right} |", 1e3 * took, 1e3 * floor, rate(took));
    Ok((row, error <= 1.0))
}

/// The least seconds for work, were all of it done at once; and the rate of what takes them, for a time.
fn floor(work: Work, ceilings: Ceilings) -> (f64, impl Fn(f64) -> String) {
    let Ceilings { copied, f32_operations, bf16_operations } = ceilings;
    let parts = [
        (work.bytes, copied, "GB/s", 1e9),
        (work.f32, f32_operations, "TFLOP/s", 1e12),
        (work.bf16, bf16_operations, "TFLOP/s", 1e12),
    ];
    let most = parts.into_iter().max_by(|x, y| (x.0 / x.1).total_cmp(&(y.0 / y.1))).expect("there are three");
    (most.0 / most.1, move |seconds: f64| format!("{:.1} {}", most.0 / seconds / most.3, most.2))
}

/// Calls that are timed at least, and for how long.
const SAMPLES: usize = 10;
const LONG: Duration = Duration::from_secs(1);

/// The median of calls.
fn time(call: &mut dyn FnMut() -> Result<(), Error>, least: usize, long: Duration) -> Result<Duration, Error> {
    (0..3.min(least)).try_for_each(|_| call())?;
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while samples.len() < least || begin.elapsed() < long {
        let start = Instant::now();
        call()?;
        samples.push(start.elapsed());
    }
    samples.sort_unstable();
    Ok(samples[samples.len() / 2])
}

fn page(name: &str, args: &Args, seed: u64, ceilings: Ceilings, rows: &str) -> String {
    let Ceilings { copied, f32_operations, bf16_operations } = ceilings;
    let wrong = args.wrong.as_ref().map_or_else(String::new, |tests| format!("\n**The suite failed on this GPU**: {tests}.\n"));
    format!(
        "# How fast on a GPU\n\n{name}, {}, written by `backends/cuda/measure.sh` with seed {seed}. Measured in the same run: copying within the GPU \
         {:.0} GB/s, read and written; `f32` {:.1} TFLOP/s; `bf16` by `mma.sync` {:.1} TFLOP/s. A floor is the time of a case's bytes or \
         operations at these rates, whichever is more. Operands and results stay on the GPU, and no copy of them is in a time; of the digits \
         step the copies of images and labels to the GPU and of the loss back are. Errors are those of checked places, and of the first {STEPS} losses of the digits \
         step, beside `f64`.\n{wrong}\n\
         | case | sizes | ms | floor, ms | floor / time | rate | largest error |\n|---|---|---|---|---|---|---|\n{rows}",
        args.date,
        copied / 1e9,
        f32_operations / 1e12,
        bf16_operations / 1e12,
    )
}
