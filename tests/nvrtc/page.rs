//! `docs/cuda-kernels.md`: what kernels take of a GPU, each part of it written and held by one test.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use graver_cuda::{KernelName, Usage};
use graver_ir::kernel::Program;

use crate::{ARCHITECTURES, Usages};

/// The parts, in order.
pub(crate) const SUITE: &str = "\n## The suite\n";
pub(crate) const PROGRAMS: &str = "\n## Programs\n";

const HEAD: &str = "# What kernels take of a GPU

Registers of a thread, bytes of shared memory of a block, and bytes that a thread spills, as NVRTC 13.0.88 compiles kernels; of a kernel of several phases, the most
that one takes. No GPU ran for this page, which tests write and hold (`tests/nvrtc`).
";

/// One test at a time.
static PAGE: Mutex<()> = Mutex::new(());

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cuda-kernels.md")
}

/// What the page says in a part.
fn told<'a>(page: &'a str, title: &str) -> &'a str {
    let Some((_, part)) = page.split_once(title) else { return "" };
    part.split("\n## ").next().unwrap_or_default()
}

fn whole<'a>(part: impl Fn(&str) -> &'a str) -> String {
    [SUITE, PROGRAMS].iter().fold(HEAD.to_owned(), |page, title| page + title + part(title))
}

/// Needs no NVRTC.
#[test]
fn the_page_is_made_of_its_parts() {
    let page = std::fs::read_to_string(path()).expect("there is a page");
    assert!(page == whole(|title| told(&page, title)), "docs/cuda-kernels.md was written by hand");
    [SUITE, PROGRAMS].iter().for_each(|title| assert!(told(&page, title).lines().count() > 5, "{title}"));
}

/// The page says this in a part; with GRAVER_BLESS=1 it is written there.
///
/// # Panics
/// If it says something else.
pub(crate) fn hold(title: &str, part: &str) {
    let _one = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let page = std::fs::read_to_string(path()).unwrap_or_default();
    if std::env::var_os("GRAVER_BLESS").is_some() {
        let written = whole(|other| if other == title { part } else { told(&page, other) });
        std::fs::write(path(), written).expect("the project's folder is writable");
        return;
    }
    let what = "docs/cuda-kernels.md is not what NVRTC says; write it again with GRAVER_BLESS=1";
    assert!(page.starts_with(HEAD) && told(&page, title) == part, "{what}\n{part}");
}

/// A cell of each architecture.
fn cells(of: impl Fn(&Usages) -> Usage, usages: &[Usages]) -> String {
    let cell = |usages| {
        let usage = of(usages);
        format!(" {} / {} / {} |", usage.registers, usage.shared, usage.spilled)
    };
    usages.iter().map(cell).collect()
}

fn head(columns: &str) -> String {
    let architectures: String = ARCHITECTURES.iter().map(|architecture| format!(" {architecture} |")).collect();
    let count = columns.split('|').count() - 2 + ARCHITECTURES.len();
    format!("{columns}{architectures}\n|{}\n", "---|".repeat(count))
}

/// The most that a kernel of each shape takes.
pub(crate) fn of_shapes(usages: &[Usages]) -> String {
    let mut page =
        "\nOf all kernels of the conformance suite (`graver_conformance::programs`), the most that one of a shape takes.\n\n"
            .to_owned();
    page += &head("| shape | kernels |");
    let mut shapes: BTreeMap<&str, usize> = BTreeMap::new();
    usages[0].keys().for_each(|name| *shapes.entry(name.shape).or_default() += 1);
    for (shape, count) in shapes {
        let most = |usages: &Usages| {
            let all = usages.iter().filter(|(name, _)| name.shape == shape).map(|(_, usage)| *usage);
            all.fold(Usage::default(), Usage::most)
        };
        writeln!(page, "| {shape} | {count} |{}", cells(most, usages)).expect("memory takes it");
    }
    page
}

/// What every kernel of some programs takes.
pub(crate) fn of_programs(all: &[(String, Program)], usages: &[Usages]) -> String {
    let mut page =
        "\nThe kernels of the examples' programs, and of nets that no example has (`tests/nvrtc/models.rs`).\n\n".to_owned();
    page += &head("| program | kernel | shape |");
    for (program, kernels) in all {
        for position in 0..kernels.kernels.len() {
            let text = graver_cuda::cuda_text(kernels, position).expect("there is such a kernel");
            let known = |usages: &Usages| -> (KernelName, Usage) {
                let known = usages.iter().find(|(name, _)| text.contains(&name.function));
                known.map(|(name, usage)| (name.clone(), *usage)).expect("every kernel was compiled")
            };
            let (name, _) = known(&usages[0]);
            let cells = cells(|usages| known(usages).1, usages);
            writeln!(page, "| {program} | `{}` | {} |{cells}", name.kernel, name.shape).expect("memory takes it");
        }
    }
    page
}
