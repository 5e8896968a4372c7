//! Every stage of a compilation as files: for looking, for comparing, for reports of bugs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use graver_ir::kernel::{self, Program};
use graver_ir::{Error, text};
use graver_passes::{Observer, PassReport, pipeline};
use graver_runtime::{Stage, write_whole};
use graver_trace::{Engine, Spec, Tree};

/// Stages of code generation and the endings of their files.
const STAGES: [(Stage, &str); 6] = [
    (Stage::Vector, "vector"),
    (Stage::Clif, "clif"),
    (Stage::Asm, "asm"),
    (Stage::Cuda, "cuda"),
    (Stage::Ptx, "ptx"),
    (Stage::Sass, "sass"),
];

/// Writes a compiled function into a folder, which is made if it is not there:
/// `00-traced.gir`, `<nn>-<pass>.gir` after every pass, `lower.txt`, `schedule.txt` and `plan.txt` with the kernel program, and
/// `kernel-<nn>-<name>.{vector,clif,asm}`, or `.{cuda,ptx,sass}` for a GPU, for every kernel.
///
/// The passes are run again for it, so a call costs a compilation without its code generation.
///
/// # Errors
/// If a file cannot be written: its path and why.
pub fn write_dumps<S: Spec, Y: Tree>(engine: &Engine<S, Y>, folder: impl AsRef<Path>) -> Result<(), Error> {
    let folder = folder.as_ref();
    std::fs::create_dir_all(folder).map_err(|error| Error::new(format!("{}: {error}", folder.display())))?;
    let mut files = Files { folder, outcome: Ok(()) };
    files.write("00-traced.gir", &engine.module_text());
    pipeline::compile(engine.module().clone(), engine.target(), &mut files)?;
    for (position, kernel) in engine.kernels().iter().enumerate() {
        for (stage, extension) in STAGES {
            if let Some(text) = engine.kernel_text(position, stage) {
                files.write(&format!("kernel-{position:02}-{}.{extension}", kernel.name), &text);
            }
        }
    }
    files.outcome
}

/// An observer that writes; the first error is kept.
struct Files<'a> {
    folder: &'a Path,
    outcome: Result<(), Error>,
}

impl Files<'_> {
    fn write(&mut self, name: &str, text: &str) {
        if self.outcome.is_ok() {
            let path: PathBuf = self.folder.join(name);
            self.outcome = write_whole(&path, text.as_bytes());
        }
    }
}

impl Observer for Files<'_> {
    fn after_pass(&mut self, report: &PassReport<'_>) {
        self.write(&format!("{:02}-{}.gir", report.position + 1, report.pass), &text::print(report.module));
    }

    fn program(&mut self, stage: &'static str, program: &Program, _: Duration) {
        self.write(&format!("{stage}.txt"), &kernel::text::print(program));
    }
}
