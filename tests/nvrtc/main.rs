//! Kernels as machine code of GPUs, without one. NVRTC is not part of this repository: `backends/cuda/setup-nvrtc.sh` brings it,
//! and `cargo test --workspace --test nvrtc -- --ignored` runs these; with GRAVER_BLESS=1 they write `docs/cuda-kernels.md`.

mod machine;
mod models;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use graver_conformance::programs;
use graver_cuda::{KernelName, Nvrtc, Usage, describe};
use graver_ir::kernel::Program;
use graver_runtime::Stage;

/// Ampere, Hopper, Blackwell.
const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90a", "sm_100"];

type Usages = BTreeMap<KernelName, Usage>;

fn compile(nvrtc: &Nvrtc, all: &[(String, Program)], architecture: &str) -> Usages {
    let start = Instant::now();
    let usages = nvrtc.usage(all.iter().map(|(_, program)| program), architecture).expect("every kernel compiles");
    println!("{architecture}: {} kernels of {} programs in {:?}", usages.len(), all.len(), start.elapsed());
    assert!(usages.values().all(|usage| usage.registers > 0), "every kernel is told of");
    let spilled: Vec<_> = usages.iter().filter(|(_, usage)| usage.spilled > 0).collect();
    let stacks: Vec<_> = usages.iter().filter(|(_, usage)| usage.stack > 0).collect();
    println!("arrays in memory: {stacks:?}");
    assert!(spilled.is_empty(), "{architecture}: these spill: {spilled:?}");
    usages
}

#[test]
#[ignore = "NVRTC comes from backends/cuda/setup-nvrtc.sh"]
fn what_the_kernels_of_the_suite_take() {
    let (nvrtc, all) = (Nvrtc::find().expect("NVRTC"), programs(&describe()));
    let usages = ARCHITECTURES.map(|architecture| compile(&nvrtc, &all, architecture));
    page::hold(page::SUITE, &page::of_shapes(&usages));
}

/// What `graver dump` shows: PTX of a virtual architecture or a machine, and a machine's own code.
#[test]
#[ignore = "NVRTC comes from backends/cuda/setup-nvrtc.sh"]
fn a_kernel_is_shown_as_ptx_and_as_machine_code() {
    let nvrtc = Nvrtc::find().expect("NVRTC");
    let (_, program) = &models::programs()[0];
    let shown = |stage, architecture: &str| {
        graver_cuda::text(program, 0, stage, &nvrtc, architecture).expect("it is made").expect("there is a kernel")
    };
    for architecture in ARCHITECTURES.into_iter().chain(["compute_90"]) {
        let ptx = shown(Stage::Ptx, architecture);
        let target = format!(".target {}", architecture.replace("compute", "sm"));
        assert!(ptx.contains(".visible .entry") && ptx.contains(&target), "{architecture}: {ptx}");
    }
    for architecture in ARCHITECTURES {
        let sass = shown(Stage::Sass, architecture);
        assert!(["FFMA", "BAR.SYNC", "EXIT"].iter().all(|code| sass.contains(code)), "{architecture}: {sass}");
    }
}

#[test]
#[ignore = "NVRTC comes from backends/cuda/setup-nvrtc.sh"]
fn what_the_kernels_of_examples_take() {
    let (nvrtc, all) = (Nvrtc::find().expect("NVRTC"), models::programs());
    let usages = ARCHITECTURES.map(|architecture| compile(&nvrtc, &all, architecture));
    page::hold(page::PROGRAMS, &page::of_programs(&all, &usages));
}

/// Needs no NVRTC.
#[test]
fn every_example_has_programs_of_kernels() {
    let all = models::programs();
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "every program has a name of its own");
    assert!(all.iter().all(|(_, program)| !program.kernels.is_empty()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for examples in ["crates/graver/examples", "crates/models/examples"] {
        for folder in std::fs::read_dir(root.join(examples)).expect("there are examples") {
            let folder = folder.expect("the project's folders are readable").path();
            let step = format!("{} step", folder.file_name().unwrap_or_default().display());
            assert!(!folder.join("model.rs").exists() || names.contains(step.as_str()), "no {step} is compiled");
        }
    }
}
