//! Programs that the passes make: a sample of every operation and random programs, compiled for this machine and held
//! against the graph interpreter's reference by derived error bounds, and against themselves on other numbers of threads.

mod levels;

use std::sync::Arc;

use graver_cpu::Cpu;
use graver_interp::{Precision, eval};
use graver_ir::{Array, Module};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Invocation, Slot};
use graver_testkit::{Sample, check_close, random_program, samples};

/// Results, and the state afterwards.
fn run(cpu: &Cpu, module: &Module, inputs: &[Array], state: &[Array]) -> Result<Vec<Array>, String> {
    let program = pipeline::compile(module.clone(), &cpu.describe(), &mut Silent).map_err(|error| error.to_string())?;
    let executable = cpu.compile(Arc::new(program)).map_err(|error| error.to_string())?;
    let mut state = state.to_vec();
    let mut workspace = executable.workspace();
    let inputs: Vec<&Array> = inputs.iter().collect();
    let mut slots: Vec<Slot<'_>> = state.iter_mut().map(Slot::Write).collect();
    let call = Invocation { entry: 0, inputs: &inputs, state: &mut slots, workspace: &mut workspace };
    let results = executable.run(call).map_err(|error| error.to_string())?;
    Ok(results.into_iter().chain(state).collect())
}

fn check_sample(cpu: &Cpu, sample: &Sample) -> Result<(), String> {
    let inputs: Vec<&Array> = sample.inputs.iter().collect();
    let entry = *sample.module.functions.keys().next().ok_or("a sample has a function")?;
    let expected = eval(&sample.module, entry, &inputs, &[], Precision::Reference).map_err(|error| error.to_string())?;
    let got = run(cpu, &sample.module, &sample.inputs, &[])?;
    expected.outputs.iter().zip(&got).try_for_each(|(expected, got)| check_close(expected, got, sample.bound))
}

#[test]
fn every_operation_at_every_type() {
    let (cpus, all) = (levels::cpus(2), samples());
    let check = |cpu: &Cpu, sample: &Sample| {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check_sample(cpu, sample)))
            .unwrap_or_else(|_| Err("panicked".to_owned()));
        caught.err().map(|error| format!("{}, {}: {error}", sample.name, cpu.isa()))
    };
    let wrong: Vec<String> = cpus.iter().flat_map(|cpu| all.iter().filter_map(|sample| check(cpu, sample))).collect();
    assert!(wrong.is_empty(), "{} samples are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn random_programs() {
    let mut wrong: Vec<String> = Vec::new();
    for (one, three) in levels::cpus(1).into_iter().zip(levels::cpus(3)) {
        let failed = |seed: u64| check_random(&one, &three, seed).err();
        wrong.extend((0..150).filter_map(|seed| failed(seed).map(|error| format!("{seed}, {}: {error}", one.isa()))));
    }
    assert!(wrong.is_empty(), "{} programs are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Within its bounds of the reference, and the same bits on one thread and on three.
fn check_random(one: &Cpu, three: &Cpu, seed: u64) -> Result<(), String> {
    let random = random_program(seed);
    let inputs: Vec<&Array> = random.inputs.iter().collect();
    let entry = *random.module.functions.keys().next().ok_or("a program has a function")?;
    let expected =
        eval(&random.module, entry, &inputs, &random.state, Precision::Reference).map_err(|error| error.to_string())?;
    let got = run(one, &random.module, &random.inputs, &random.state)?;
    if got != run(three, &random.module, &random.inputs, &random.state)? {
        return Err("three threads give other bits than one".to_owned());
    }
    for ((expected, got), bound) in expected.outputs.iter().zip(&got).zip(&random.bounds) {
        check_close(expected, got, *bound)?;
    }
    Ok(())
}
