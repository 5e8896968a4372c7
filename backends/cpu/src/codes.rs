//! The code of an executable: what was compiled at first, and what turns out to be wanted for large results.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use graver_ir::Error;
use graver_ir::kernel::{KernelBody, Program};

use crate::emit::jit::{Code, Entry, Jit, Made};
use crate::how::How;
use crate::lower::lower_passing;

/// See the file's header. Code lives as long as this does.
pub(crate) struct Codes {
    program: Arc<Program>,
    how: How,
    first: Code,
    /// By kernel: its phases, which store an argument past the caches.
    passing: Mutex<BTreeMap<usize, (Code, Vec<Entry>)>>,
}

impl Codes {
    pub(crate) fn new(program: Arc<Program>, how: How, first: Code) -> Self {
        Self { program, how, first, passing: Mutex::default() }
    }

    /// A function that was compiled at first.
    pub(crate) fn entry(&self, function: usize) -> Entry {
        self.first.entry(function)
    }

    /// The phases of a kernel that store the argument of its [`crate::lower::Passing`] past the caches: compiled when they are first
    /// asked for.
    ///
    /// # Errors
    /// As compiling has.
    pub(crate) fn passing(&self, kernel: usize, arg: usize) -> Result<Vec<Entry>, Error> {
        let mut known = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, entries)) = known.get(&kernel) {
            return Ok(entries.clone());
        }
        let of = &self.program.kernels[kernel];
        assert!(matches!(of.body, KernelBody::Nest(_) | KernelBody::Contract(_)), "only nests store past the caches");
        let failed = |error: String| Error::new(format!("kernel `{}`: {error}", of.name));
        let mut jit = Jit::new(self.how.isa).map_err(failed)?;
        let lowered = lower_passing(of, &self.program.symbols, self.how, arg);
        let functions = lowered.phases.into_iter().map(|phase| jit.compile(&Made::of(phase.func, self.how.isa)));
        let functions = functions.collect::<Result<Vec<usize>, String>>().map_err(failed)?;
        let code = jit.finish().map_err(failed)?;
        let entries: Vec<Entry> = functions.into_iter().map(|function| code.entry(function)).collect();
        known.insert(kernel, (code, entries.clone()));
        Ok(entries)
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codes({:?})", self.first)
    }
}
