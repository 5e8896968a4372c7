//! The whole compiler on one page.

use graver_ir::kernel::Program;
use graver_ir::{Error, Module, Target};

use crate::Observer;

/// Compiles a traced module to a planned program.
///
/// # Errors
/// What is wrong with the user's program: derivatives that do not exist, sizes that cannot be.
pub fn compile(_module: Module, _target: &Target, _observer: &mut dyn Observer) -> Result<Program, Error> {
    Err(Error::new("the pipeline is empty"))
}
