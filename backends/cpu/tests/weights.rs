//! Weights that are a file's, mapped: what is packed of them leaves memory, and is there again for whoever reads it.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use graver_cpu::Cpu;
use graver_ir::{Array, DType, Module, ScalarFn, StateKind};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Checkpoint, Invocation, Slot, Workspace};
use graver_testkit::{Build, Rng};

const NAMES: [&str; 2] = ["first", "second"];
const SIZE: usize = 1024;

/// `relu(x first) second`.
fn net() -> Module {
    let mut b = Build::new("net");
    let x = b.arg("x", DType::F32, [64, 1024]);
    let [first, second] = NAMES.map(|name| b.state(name, StateKind::Param, DType::F32, [1024, 1024]).1);
    let hidden = b.matmul(x, first);
    let hidden = b.map(ScalarFn::Relu, [hidden]);
    let y = b.matmul(hidden, second);
    b.finish([y])
}

/// Kibibytes of a file that are in this process's memory.
fn resident(path: &Path) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("Linux has it");
    let (mut is_ours, mut sum) = (false, 0);
    for line in maps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            is_ours = line.ends_with(path.to_str().expect("a plain name"));
        } else if is_ours && first == "Rss:" {
            sum += line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number of kibibytes");
        }
    }
    sum
}

fn file() -> (PathBuf, Checkpoint) {
    let mut rng = Rng::named("weights");
    let mut whole = || Array::from_fn(DType::F32, [SIZE, SIZE], |_| graver_ir::Scalar::float(DType::F32, rng.int(-3, 3) as f64));
    let arrays = NAMES.map(|name| (name.to_owned(), whole())).into();
    let path = std::env::temp_dir().join(format!("graver_weights_{}.safetensors", std::process::id()));
    let checkpoint = Checkpoint { arrays, ..Checkpoint::default() };
    checkpoint.write(&path).expect("there is room");
    (path, checkpoint)
}

#[test]
fn what_is_packed_of_a_mapped_file_leaves_memory() {
    let (path, written) = file();
    let mapped = Checkpoint::map(&path).expect("it was written");
    let before = resident(&path);
    assert!(before < 4 << 10, "{before} KiB of 8 MiB are in memory, of which none but the header was read");
    let cpu = Cpu::new(2);
    let program = pipeline::compile(net(), &cpu.describe(), &mut Silent).expect("it compiles");
    let executable = cpu.compile(Arc::new(program)).expect("it compiles");
    let x = Array::from_fn(DType::F32, [64, SIZE], |place| graver_ir::Scalar::float(DType::F32, (place % 5) as f64 - 2.0));
    let [mut workspace, mut other] = [(); 2].map(|()| executable.workspace());
    let run = |workspace: &mut Workspace, weights: &Checkpoint| {
        let mut state: Vec<Slot<'_>> =
            executable.program().state.iter().map(|slot| Slot::Read(&weights.arrays[&slot.path])).collect();
        let call = Invocation { entry: 0, inputs: &[&x], state: &mut state, workspace };
        executable.run(call).expect("it runs")
    };
    let got = run(&mut workspace, &mapped);
    let left = resident(&path);
    assert!(left < 512, "{left} KiB of 8 MiB are in memory: of what was packed none need be");
    assert_eq!(run(&mut workspace, &mapped), got);
    assert_eq!(run(&mut other, &mapped), got);
    assert!(resident(&path) < 512, "another workspace reads what was packed, not the file");
    assert_eq!(run(&mut workspace, &written), got, "the same as by weights of its own");
    assert_eq!(mapped.arrays, written.arrays, "what was released can be read");
    assert!(resident(&path) >= 8 << 10, "it was read just now");
    // A weight that is written to is a copy from then on.
    let mut changed = mapped.arrays["first"].clone();
    changed.as_mut_slice::<f32>().expect("floats")[0] += 1.0;
    assert_ne!(changed, written.arrays["first"]);
    assert_eq!(Checkpoint::read(&path).expect("it is there"), written);
    std::fs::remove_file(&path).expect("it was made above");
}
