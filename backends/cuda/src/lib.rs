//! Kernels to CUDA C++, for GPUs, and for CPUs through a shim.
//!
//! A kernel becomes text (`emit`), which NVRTC compiles for a GPU and, with other words before it (`text`), a C++ compiler for
//! the CPU ([`Shim`]). Passes are not seen here. Nothing is linked: a machine without CUDA runs the same binary.

mod device;
mod dump;
mod emit;
mod nvrtc;
mod parallel;
mod report;
mod shim;
mod steps;
mod text;

use std::path::{Path, PathBuf};

use graver_ir::kernel::{Launch, Program, launches};
use graver_ir::{Error, Sizes, Target};
use graver_runtime::Working;

use emit::Emitted;

pub use device::{Ceilings, Cuda, DRIVER_FUNCTIONS};
pub use dump::{check_architecture, check_architecture_name, cuda_text, cuda_unit, text};
pub use nvrtc::{Compiled, Nvrtc, is_whole};
pub use report::{KernelName, Usage};
pub use shim::{Copies, Cxx, Order, Shim};

/// The alignment of buffers in the arena, in bytes: what `cuMemAlloc` gives.
const ALIGNMENT: usize = 256;

/// What passes must know of a GPU, of which none has to be there.
#[must_use]
pub fn describe() -> Target {
    target("cuda")
}

fn target(name: &str) -> Target {
    Target {
        name: name.to_owned(),
        lanes: 4,
        threads: 1,
        cache_bytes: 1 << 20,
        alignment: ALIGNMENT,
        channels_last: true,
        fused_epilogues: true,
        attends: true,
        attends_across: false,
        sums_across_rows: false,
    }
}

/// What a call works in: the arena, and the most that the blocks of any launch work in.
fn working<'a>(
    program: &Program,
    kernels: impl Iterator<Item = &'a Emitted>,
    entry: usize,
    sizes: &Sizes,
    most_blocks: usize,
) -> Result<Working, Error> {
    let kernels: Vec<&Emitted> = kernels.collect();
    let (number, entries) = (entry, program.entries.len());
    let entry = program.entries.get(number);
    let entry = entry.ok_or_else(|| Error::new(format!("the program has {entries} entries, not number {number}")))?;
    let need = |launch: &Launch| {
        let (_, scratch) = kernels[launch.kernel.0 as usize].spread(sizes, 0, |_| most_blocks)?;
        Ok(scratch)
    };
    let needs = launches(&entry.steps).into_iter().map(need).collect::<Result<Vec<usize>, Error>>()?;
    Working::apart(entry, sizes, &needs)
}

/// The trap in a status word: its lower half; the upper is the launch.
fn trap_of(status: u64) -> usize {
    usize::try_from(status & 0xffff_ffff).expect("32 bits")
}

/// Writes a file that appears whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = unfinished(path);
    let written = std::fs::write(&unfinished, bytes).and_then(|()| std::fs::rename(&unfinished, path));
    if written.is_err() {
        // A disk that is full must not stay so.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

/// A name beside the path that no other process or thread uses.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{:?}", std::process::id(), std::thread::current().id()));
    path.with_file_name(name)
}
