//! Programs that the passes make: a sample of every operation, and random programs.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use graver_interp::{Precision, eval};
use graver_ir::Array;
use graver_runtime::Backend;
use graver_testkit::{RandomModule, Sample, check_close, random_program};

use crate::{Compiled, report};

/// Every operation at every type that it admits.
///
/// # Panics
/// If any sample does not compile, does not run, gives something else, or has other bits on one of the backends in `alike`.
pub fn samples(backend: &dyn Backend, alike: &[&dyn Backend]) {
    let all = graver_testkit::samples();
    let compiled: Vec<_> = all.iter().map(|sample| caught(|| Compiled::new(&sample.module, backend, alike))).collect();
    let wrong = all.iter().zip(compiled).filter_map(|(sample, compiled)| {
        let outcome = compiled.and_then(|compiled| caught(|| check_sample(&compiled, sample)));
        outcome.err().map(|error| format!("{}: {error}", sample.name))
    });
    report("samples", &wrong.collect::<Vec<_>>());
}

fn caught<T>(what: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|_| Err("panicked".to_owned()))
}

fn check_sample(compiled: &Compiled, sample: &Sample) -> Result<(), String> {
    let inputs: Vec<&Array> = sample.inputs.iter().collect();
    let entry = *sample.module.functions.keys().next().ok_or("a sample has a function")?;
    let expected = eval(&sample.module, entry, &inputs, &[], Precision::Reference).map_err(|error| error.to_string())?;
    let got = compiled.run(&sample.inputs, &[])?;
    expected.outputs.iter().zip(&got).try_for_each(|(expected, got)| check_close(expected, got, sample.bound))
}

/// Random programs of these seeds, with state: within their bounds, and with the same bits on the backends in `alike`.
///
/// # Panics
/// If any is wrong.
pub fn random_programs(backend: &dyn Backend, alike: &[&dyn Backend], seeds: Range<u64>) {
    let all: Vec<(u64, RandomModule)> = seeds.map(|seed| (seed, random_program(seed))).collect();
    let compiled: Vec<_> = all.iter().map(|(_, random)| Compiled::new(&random.module, backend, alike)).collect();
    let wrong = all.iter().zip(compiled).filter_map(|((seed, random), compiled)| {
        let outcome = compiled.and_then(|compiled| check_random(&compiled, random));
        outcome.err().map(|error| format!("{seed}: {error}"))
    });
    report("programs", &wrong.collect::<Vec<_>>());
}

fn check_random(compiled: &Compiled, random: &RandomModule) -> Result<(), String> {
    let inputs: Vec<&Array> = random.inputs.iter().collect();
    let entry = *random.module.functions.keys().next().ok_or("a program has a function")?;
    let expected =
        eval(&random.module, entry, &inputs, &random.state, Precision::Reference).map_err(|error| error.to_string())?;
    let got = compiled.run(&random.inputs, &random.state)?;
    for ((expected, got), bound) in expected.outputs.iter().zip(&got).zip(&random.bounds) {
        check_close(expected, got, *bound)?;
    }
    Ok(())
}
