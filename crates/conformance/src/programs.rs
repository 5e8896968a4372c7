//! Programs that the passes make: a sample of every operation, and random programs.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use graver_interp::{Precision, eval};
use graver_ir::Array;
use graver_runtime::{Backend, Executable};
use graver_testkit::{RandomModule, Sample, check_close, random_program};

use crate::{compile, report, run};

/// Every operation at every type that it admits.
///
/// # Panics
/// If any sample does not compile, does not run, or gives something else.
pub fn samples(backend: &dyn Backend) {
    let all = graver_testkit::samples();
    let compiled: Vec<_> = all.iter().map(|sample| caught(|| compile(backend, &sample.module))).collect();
    let wrong = all.iter().zip(compiled).filter_map(|(sample, executable)| {
        let outcome = executable.and_then(|executable| caught(|| check_sample(executable.as_ref(), sample)));
        outcome.err().map(|error| format!("{}: {error}", sample.name))
    });
    report("samples", &wrong.collect::<Vec<_>>());
}

fn caught<T>(what: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|_| Err("panicked".to_owned()))
}

fn check_sample(executable: &dyn Executable, sample: &Sample) -> Result<(), String> {
    let inputs: Vec<&Array> = sample.inputs.iter().collect();
    let entry = *sample.module.functions.keys().next().ok_or("a sample has a function")?;
    let expected = eval(&sample.module, entry, &inputs, &[], Precision::Reference).map_err(|error| error.to_string())?;
    let got = run(executable, &sample.inputs, &[])?;
    expected.outputs.iter().zip(&got).try_for_each(|(expected, got)| check_close(expected, got, sample.bound))
}

/// Random programs of these seeds, with state: within their bounds, and with the same bits on the other backend.
///
/// # Panics
/// If any is wrong.
pub fn random_programs(backend: &dyn Backend, alike: &dyn Backend, seeds: Range<u64>) {
    type Both = Result<[Arc<dyn Executable>; 2], String>;
    let all: Vec<(u64, RandomModule)> = seeds.map(|seed| (seed, random_program(seed))).collect();
    let both = |random: &RandomModule| Ok([compile(backend, &random.module)?, compile(alike, &random.module)?]);
    let compiled: Vec<Both> = all.iter().map(|(_, random)| both(random)).collect();
    let wrong = all.iter().zip(compiled).filter_map(|((seed, random), executables)| {
        let outcome = executables.and_then(|executables| check_random(&executables, random));
        outcome.err().map(|error| format!("{seed}: {error}"))
    });
    report("programs", &wrong.collect::<Vec<_>>());
}

fn check_random([one, other]: &[Arc<dyn Executable>; 2], random: &RandomModule) -> Result<(), String> {
    let inputs: Vec<&Array> = random.inputs.iter().collect();
    let entry = *random.module.functions.keys().next().ok_or("a program has a function")?;
    let expected =
        eval(&random.module, entry, &inputs, &random.state, Precision::Reference).map_err(|error| error.to_string())?;
    let got = run(one.as_ref(), &random.inputs, &random.state)?;
    if got != run(other.as_ref(), &random.inputs, &random.state)? {
        return Err("the same backend gives other bits in another guise".to_owned());
    }
    for ((expected, got), bound) in expected.outputs.iter().zip(&got).zip(&random.bounds) {
        check_close(expected, got, *bound)?;
    }
    Ok(())
}
