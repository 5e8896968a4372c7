//! `graver passes` and `graver ops`: what the compiler is made of.

use crate::failure::{Failure, print};

/// Which operation ran with which element type on which device; written and checked by the end-to-end tests.
const OPS: &str = include_str!("../../../docs/ops.md");

/// `graver passes`
pub(crate) fn passes() -> Result<(), Failure> {
    let width = graver_passes::PASSES.iter().map(|pass| pass.name.len()).max().unwrap_or(0);
    let rows = graver_passes::PASSES.iter().map(|pass| format!("{:width$}  {}\n", pass.name, pass.about));
    print(&rows.collect::<String>())
}

/// `graver ops`
pub(crate) fn ops() -> Result<(), Failure> {
    print(OPS)
}
