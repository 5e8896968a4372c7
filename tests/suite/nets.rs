//! The nets: kernels mean what graphs mean, and compiled code computes what kernels mean, bit for bit the same for any number
//! of threads, within bounds that are derived from an `f64` reference. Texts and passes are tested where they live.

use graver_interp::Interp;
use graver_runtime::Backend;

use crate::cases::{Case, cases};

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
