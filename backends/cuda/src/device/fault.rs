//! What the driver says when it fails, and what a fault means. A GPU tells of a kernel's fault when it is waited for, not at the launch,
//! and of nothing else from then on: whoever is told first keeps what was known, for all who come later.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::driver::sys::{CUdevice, CUresult};
use graver_ir::{Diag, Loc};

use super::driver::DriverError;

/// NVIDIA's own variable: launches are waited for one by one, so that a fault is told with its kernel.
const BLOCKING: &str = "CUDA_LAUNCH_BLOCKING";
/// After a fault no call of the driver does anything in this process.
const OVER: &str = "what was on the GPU is lost, and this process cannot use it any more";

/// Whether every launch is to be waited for.
pub(super) fn launches_are_waited_for() -> bool {
    std::env::var_os(BLOCKING).is_some_and(|value| !value.is_empty() && value != OsStr::new("0"))
}

/// An error of the driver's in its own words.
pub(super) fn driver_error(what: &str, error: &DriverError) -> Diag {
    let words = error.words().unwrap_or_else(|| "an unknown error".to_owned());
    let name = error.name().unwrap_or_else(|| format!("error {}", error.0));
    let diag = Diag::new(format!("{what}: {words} ({name})"));
    match (is_fault(*error), is_of_a_kernel(*error)) {
        (true, true) => diag.help(format!("a kernel that was launched before has stopped the GPU; {OVER}")),
        (true, false) => diag.help(OVER),
        (false, _) => diag,
    }
}

/// The first fault of a GPU that this process was told of.
#[derive(Debug, Default)]
pub(super) struct FirstFault(OnceLock<Diag>);

impl FirstFault {
    /// That of a GPU, however often it is asked for: a fault ends its use by the whole process.
    pub(super) fn of(device: CUdevice) -> Arc<Self> {
        static ALL: Mutex<BTreeMap<CUdevice, Arc<FirstFault>>> = Mutex::new(BTreeMap::new());
        Arc::clone(ALL.lock().unwrap_or_else(PoisonError::into_inner).entry(device).or_default())
    }

    /// What everybody is told after a fault.
    pub(super) fn check(&self) -> Result<(), Diag> {
        let Some(first) = self.0.get() else { return Ok(()) };
        Err(Diag::new(format!("the GPU was stopped before: {}", first.message)).at(&first.loc).help(OVER))
    }

    /// A kernel that was waited for alone has failed.
    pub(super) fn of_kernel(&self, name: &str, loc: &Loc, error: &DriverError) -> Diag {
        self.keep(error, || driver_error(&format!("kernel {name} failed on the GPU"), error).at(loc), None)
    }

    /// One of an entry's kernels has failed: `kernels` says which they are.
    pub(super) fn of_entry(&self, name: &str, kernels: &str, error: &DriverError) -> Diag {
        let what = format!("entry `{name}` failed on the GPU in {kernels}");
        let which = format!(
            "a GPU tells of it after the launches: with {BLOCKING}=1 in the environment each is waited for, and the kernel and its line are named"
        );
        self.keep(error, || driver_error(&what, error), Some(which))
    }

    /// Of several who are told of one fault the first knows best.
    fn keep(&self, error: &DriverError, told: impl FnOnce() -> Diag, which: Option<String>) -> Diag {
        let over = is_fault(*error).then(|| OVER.to_owned());
        let help = which.into_iter().chain(over.clone()).collect::<Vec<_>>().join("; ");
        let diag = || told().help(help);
        if over.is_some() { self.0.get_or_init(diag).clone() } else { diag() }
    }
}

/// Whether it ends the use of the GPU by this process: besides what kernels do, errors of memory that were not corrected, and an MPS
/// server that has ended its client.
pub(super) fn is_fault(error: DriverError) -> bool {
    let others = [CUresult::CUDA_ERROR_ECC_UNCORRECTABLE, CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED];
    is_of_a_kernel(error) || others.iter().any(|fault| error.is(*fault))
}

/// What `cuda.h` says leaves the process "in an inconsistent state", and a failed assertion, after which "the context cannot be used
/// anymore".
fn is_of_a_kernel(error: DriverError) -> bool {
    const FAULTS: [CUresult; 12] = [
        CUresult::CUDA_ERROR_CONTAINED,
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
        CUresult::CUDA_ERROR_ASSERT,
        CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
        CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
        CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
        CUresult::CUDA_ERROR_INVALID_PC,
        CUresult::CUDA_ERROR_LAUNCH_FAILED,
        CUresult::CUDA_ERROR_TENSOR_MEMORY_LEAK,
        CUresult::CUDA_ERROR_EXTERNAL_DEVICE,
    ];
    FAULTS.iter().any(|fault| error.is(*fault))
}
