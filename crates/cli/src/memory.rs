//! Whether a call fits into the machine: a program from outside may ask for any size.

use graver_ir::kernel::Entry;
use graver_ir::{Array, Shape, Sizes, Type, bind};
use graver_runtime::Executable;

use crate::failure::Failure;

/// What a call may take where the machine does not say what it has.
const UNKNOWN_MACHINE: usize = 1 << 34;

/// Refuses a call whose working memory and results do not fit into the memory that is free.
pub(crate) fn check(executable: &dyn Executable, inputs: &[Array]) -> Result<(), Failure> {
    let Some(entry) = executable.program().entries.first() else { return Ok(()) };
    let types: Vec<(&str, Type)> = entry
        .inputs
        .iter()
        .map(|(buffer, name)| {
            let buffer = entry.buffer(*buffer);
            (name.as_str(), Type::new(buffer.dtype, Shape(buffer.shape.clone())))
        })
        .collect();
    let params: Vec<(&str, &Type)> = types.iter().map(|(name, ty)| (*name, ty)).collect();
    let sizes = bind(&params, &inputs.iter().collect::<Vec<_>>())?;
    let needed = executable.working_bytes(0, &sizes)?.total().saturating_add(results(entry, &sizes)?);
    let free = free();
    if needed <= free {
        Ok(())
    } else {
        Err(Failure::Input(format!("the call needs {needed} bytes for intermediate values and results, {free} are free")))
    }
}

/// The results, in bytes.
fn results(entry: &Entry, sizes: &Sizes) -> Result<usize, Failure> {
    let mut total = 0usize;
    for output in &entry.outputs {
        let buffer = entry.buffer(*output);
        let mut bytes = buffer.dtype.size();
        for dim in &buffer.shape {
            let size = dim.eval(sizes).map_err(|error| Failure::Input(error.to_string()))?;
            bytes = bytes.saturating_mul(usize::try_from(size).unwrap_or(usize::MAX));
        }
        total = total.saturating_add(bytes);
    }
    Ok(total)
}

/// The memory that can be taken without pushing anything out.
fn free() -> usize {
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<usize>().ok());
    kilobytes.map_or(UNKNOWN_MACHINE, |kilobytes| kilobytes.saturating_mul(1024))
}
