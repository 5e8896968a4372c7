//! The nets: kernels mean what graphs mean, and compiled code computes what kernels mean, bit for bit the same for any number
//! of threads, within bounds that are derived from an `f64` reference. Texts and passes are tested where they live.

use graver_cpu::Cpu;
use graver_interp::Interp;
use graver_runtime::Backend;

use crate::cases::{Case, cases, failing_cases};
use crate::levels;
use crate::ops::shim;

/// Panics with every case that goes wrong.
fn all_pass(check: impl Fn(&Case) -> Result<(), String>) {
    let cases = cases();
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn computes(case: &Case, backend: &dyn Backend) -> Result<(), String> {
    let fails = |error: graver_ir::Error| format!("{}: {error}\n{}", case.name, case.show());
    let program = case.compile(backend).map_err(fails)?;
    let got = case.run(backend, program).map_err(fails)?;
    case.judge(&case.reference(), &got)
}

#[test]
fn kernels_mean_what_graphs_mean() {
    all_pass(|case| computes(case, &Interp::default()));
}

#[test]
fn compiled_code_computes_what_graphs_mean() {
    let cpus = levels::cpus(1);
    all_pass(|case| cpus.iter().try_for_each(|cpu| computes(case, cpu).map_err(|error| format!("{}: {error}", cpu.isa()))));
}

#[test]
fn results_are_the_same_bits_for_any_number_of_threads() {
    all_pass(|case| levels::cpus(1).iter().try_for_each(|one| same_bits(case, one)));
}

fn same_bits(case: &Case, one: &Cpu) -> Result<(), String> {
    let run = |cpu: &Cpu| case.run(cpu, case.compile(cpu).map_err(|error| error.to_string())?).map_err(|error| error.to_string());
    let (isa, wanted) = (one.isa(), run(one)?);
    for threads in [2, 3] {
        let cpu = Cpu::new(threads).with_isa(isa).map_err(|error| error.to_string())?;
        if run(&cpu)? != wanted {
            return Err(format!("{}: other bits on {threads} threads, {isa}", case.name));
        }
    }
    Ok(())
}

#[test]
fn what_must_fail_fails_on_every_device() {
    let (interp, cpus) = (Interp::default(), levels::cpus(1));
    let shim = shim();
    let devices = || cpus.iter().map(|cpu| cpu as &dyn Backend).chain([&interp as &dyn Backend, &shim]);
    for case in failing_cases() {
        assert!(case.outcome().is_err(), "{} has a meaning", case.show());
        for device in devices() {
            let program = case.compile(device).unwrap_or_else(|error| panic!("{error}\n{}", case.show()));
            let (mut state, name) = (case.state.clone(), device.describe().name);
            let outcome = case.run_over(&mut state, device, program);
            assert!(outcome.is_err(), "{} runs on {name}", case.show());
            assert_eq!(state, case.state, "{}: {name} has touched the state", case.name);
        }
    }
}
