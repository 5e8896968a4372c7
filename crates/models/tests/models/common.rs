//! The references: models' folders, inputs, and what transformers makes of them.

use std::path::PathBuf;
use std::sync::Arc;

use graver_models::hub::Folder;
use graver_runtime::Checkpoint;
use graver_trace::{Array, Device};

/// What transformers was given and gave, by `<call>.<name>`.
pub(crate) struct Reference {
    pub(crate) folder: Folder,
    expected: Checkpoint,
}

/// The two calls of every reference: other batch sizes and lengths, one compiled function.
pub(crate) const CALLS: [&str; 2] = ["one", "two"];

pub(crate) fn path(case: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(case)
}

impl Reference {
    pub(crate) fn of(case: &str) -> Self {
        let folder = Folder::open(path(case)).expect("the reference is kept beside the tests");
        let expected = Checkpoint::read(path(case).join("expected.safetensors")).expect("a reference has its results");
        Self { folder, expected }
    }

    /// An array of a call.
    pub(crate) fn array(&self, call: &str, name: &str) -> &Array {
        let name = format!("{call}.{name}");
        self.expected.arrays.get(&name).unwrap_or_else(|| panic!("no `{name}` among the expected arrays"))
    }

    /// Whether this is what transformers gave, within 1e-5, relative beyond 1.
    #[track_caller]
    pub(crate) fn check(&self, call: &str, name: &str, got: &Array) {
        let expected = self.array(call, name);
        assert_eq!(got.shape(), expected.shape(), "{call}.{name}");
        let (got, expected) = (got.to_f64(), expected.to_f64());
        let error = |(x, y): (&f64, &f64)| (x - y).abs() / y.abs().max(1.0);
        let worst =
            got.iter().zip(&expected).map(error).fold(0.0, |worst: f64, error| if error <= worst { worst } else { error });
        assert!(worst <= 1e-5, "{call}.{name} is off by {worst}: {got:?} is not {expected:?}");
    }
}

pub(crate) fn cpu() -> Device {
    Device::new(Arc::new(graver_cpu::Cpu::new(1)))
}
