//! The references: models' folders, inputs, and what transformers makes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graver_models::hub::Folder;
use graver_runtime::Checkpoint;
use graver_trace::{Array, Device, Error};
use serde_json::Value;

use crate::page::Page;

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

    /// Whether a call has such an array.
    pub(crate) fn has(&self, call: &str, name: &str) -> bool {
        self.expected.arrays.contains_key(&format!("{call}.{name}"))
    }

    /// How far this is from what transformers gave, relatively beyond 1: within 1e-5.
    #[track_caller]
    pub(crate) fn check(&self, call: &str, name: &str, got: &Array) -> f64 {
        let expected = self.array(call, name);
        assert_eq!(got.shape(), expected.shape(), "{call}.{name}");
        let (got, expected) = (got.to_f64(), expected.to_f64());
        let error = |(x, y): (&f64, &f64)| (x - y).abs() / y.abs().max(1.0);
        let worst =
            got.iter().zip(&expected).map(error).fold(0.0, |worst: f64, error| if error <= worst { worst } else { error });
        assert!(worst <= 1e-5, "{call}.{name} is off by {worst}: {got:?} is not {expected:?}");
        worst
    }
}

/// A reference that is run, and the row of the page of errors that it is a part of.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The type of this library.
    pub(crate) model: &'static str,
    /// Runs all of its calls: how far the results are from transformers' at most.
    pub(crate) run: fn(&Reference, &Device) -> Result<f64, Error>,
}

/// Runs these, each within the error that the page states.
#[track_caller]
pub(crate) fn check(cases: &[Case]) -> Result<(), Error> {
    let page = Page::read();
    for case in cases {
        let worst = (case.run)(&Reference::of(case.name), &cpu())?;
        page.check(case, worst);
    }
    Ok(())
}

pub(crate) fn cpu() -> Device {
    Device::new(Arc::new(graver_cpu::Cpu::new(1)))
}

/// A copy of a reference that may be damaged.
pub(crate) struct Copy(PathBuf);

impl Copy {
    pub(crate) fn of(case: &str, test: &str) -> Self {
        let to = std::env::temp_dir().join(format!("graver-models-{}-{test}-{case}", std::process::id()));
        copy(&path(case), &to);
        Self(to)
    }

    pub(crate) fn folder(&self) -> Folder {
        Folder::open(&self.0).expect("just made")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Changes a JSON file.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&std::fs::read(self.file(name)).expect("copied")).expect("JSON");
        change(&mut value);
        std::fs::write(self.file(name), value.to_string()).expect("writable");
    }

    /// Changes the weights.
    pub(crate) fn reweigh(&self, change: impl FnOnce(&mut BTreeMap<String, Array>)) {
        let mut weights = Checkpoint::read(self.file("model.safetensors")).expect("copied");
        change(&mut weights.arrays);
        weights.write(self.file("model.safetensors")).expect("writable");
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the temporary folder is writable");
    for entry in std::fs::read_dir(from).expect("the reference is kept beside the tests") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("readable");
        }
    }
}
