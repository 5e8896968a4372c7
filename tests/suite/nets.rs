//! The nets: kernels mean what graphs mean, and compiled code computes what kernels mean, bit for bit the same for any number
//! of threads, within bounds that are derived from an `f64` reference. Texts and passes are tested where they live.

use graver_cpu::Cpu;
use graver_interp::Interp;
use graver_runtime::Backend;

use crate::cases::{Case, cases, failing_cases};

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
    let cpu = Cpu::new(1);
    all_pass(|case| computes(case, &cpu));
}

#[test]
fn results_are_the_same_bits_for_any_number_of_threads() {
    let cpus = [Cpu::new(1), Cpu::new(2), Cpu::new(3)];
    all_pass(|case| {
        let run =
            |cpu: &Cpu| case.run(cpu, case.compile(cpu).map_err(|error| error.to_string())?).map_err(|error| error.to_string());
        let one = run(&cpus[0])?;
        for cpu in &cpus[1..] {
            if run(cpu)? != one {
                return Err(format!("{}: other bits on {} threads", case.name, cpu.describe().threads));
            }
        }
        Ok(())
    });
}

#[test]
fn what_must_fail_fails_on_every_device() {
    let devices: [&dyn Backend; 2] = [&Interp::default(), &Cpu::new(1)];
    for case in failing_cases() {
        assert!(case.outcome().is_err(), "{} has a meaning", case.show());
        for device in devices {
            let program = case.compile(device).unwrap_or_else(|error| panic!("{error}\n{}", case.show()));
            let (mut state, name) = (case.state.clone(), device.describe().name);
            let outcome = case.run_over(&mut state, device, program);
            assert!(outcome.is_err(), "{} runs on {name}", case.show());
            assert_eq!(state, case.state, "{}: {name} has touched the state", case.name);
        }
    }
}
