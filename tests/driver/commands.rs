//! Whole commands, as a user with a GPU types them, by the profile that is built already. What is ignored takes minutes:
//! `cargo test --workspace --test driver -- --ignored`, and with `--release` by that profile.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use graver::data::npy;
use graver::prelude::*;

use crate::fake::{Kernels, broken, equip};

/// What a command prints that is run in the project's folder, over the fake driver, and ends well.
fn printed(program: &str, args: &[&OsStr], variables: &[(&str, &str)], kernels: Kernels) -> String {
    let mut command = Command::new(program);
    command.args(args).envs(variables.iter().copied()).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    equip(&mut command, kernels);
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// The script to its table, by so much less work.
fn measured(shrink: &str, variables: &[(&str, &str)], kernels: Kernels) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cuda-speed-{shrink}.md"));
    let _ = std::fs::remove_file(&path);
    let args = ["--shrink".as_ref(), shrink.as_ref(), "--write".as_ref(), path.as_os_str()];
    let said = printed("backends/cuda/measure.sh", &args, variables, kernels);
    assert!(said.contains("on a GPU that is not there") && said.contains("1 passed"), "{said}");
    let page = std::fs::read_to_string(&path).expect("the script writes it");
    assert!(page.starts_with("# How fast on a GPU\n\na GPU that is not there, "), "{page}");
    let rows: Vec<Vec<&str>> =
        page.lines().filter(|line| line.starts_with("| ")).skip(1).map(|row| row.split(" | ").collect()).collect();
    let number = |text: &str| text.split(' ').next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(f64::NAN);
    assert_eq!(rows.len(), 6, "{page}");
    for row in &rows {
        // A time, the floor, the floor's share of the time, a rate, an error.
        assert!(row.len() == 7 && row[2..6].iter().all(|cell| number(cell) > 0.0 || cell.starts_with("0")), "{page}");
        assert!(number(row[6]) <= 1.0 && row[6].ends_with(" of the bound |"), "{page}");
    }
}

/// What is built already: the profile, and its folder.
const BUILT: [&str; 2] = if cfg!(debug_assertions) { ["dev", "debug"] } else { ["release", "release"] };

/// A program of the workspace, built with the features that tests have: nothing is built twice.
fn built(kind: &str, name: &str) -> PathBuf {
    let [profile, folder] = BUILT;
    let build = ["build", "--workspace", "--features", "graver-hub/download", kind, name, "--profile", profile];
    printed("cargo", &build.map(OsStr::new), &[], Kernels::Quickly);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target's folder").join(folder);
    if kind == "--example" { target.join("examples").join(name) } else { target.join(name) }
}

#[test]
#[ignore = "it takes minutes"]
fn the_script_measures_to_its_table() {
    measured("64", &[("SUITE", "nets_and_their_training_steps"), ("PROFILE", BUILT[0])], Kernels::Quick);
}

/// The same over as little as can be.
#[test]
fn the_script_goes_through() {
    measured("65536", &[("SUITE", "nets_and_their_training_steps"), ("PROFILE", BUILT[0])], Kernels::Quickly);
}

/// A GPU that cannot be used is no reason to pass.
#[test]
fn the_script_fails_where_the_gpu_cannot_be_used() {
    let mut command = Command::new("backends/cuda/measure.sh");
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).env("LD_LIBRARY_PATH", broken());
    command.envs([("SUITE", "nets_and_their_training_steps"), ("PROFILE", BUILT[0])]);
    let output = command.output().expect("it is there");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("GRAVER_GPU is 1, and there is no GPU: there is no CUDA"), "{said}");
}

/// What was built elsewhere is measured without cargo, and what the suite finds wrong is told on the page, and in the end.
#[test]
fn the_script_takes_what_was_built_and_measures_whatever_the_suite_says() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("measured");
    let _ = std::fs::remove_dir_all(&folder);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let args = ["--build".as_ref(), folder.as_os_str()];
    printed("backends/cuda/measure.sh", &args, &[("PROFILE", BUILT[0])], Kernels::Quickly);
    let page = folder.join("page.md");
    let run = |script: &Path, binaries: Option<&Path>| {
        let mut command = Command::new(script);
        command.args(["--shrink", "65536", "--write"]).arg(&page);
        equip(&mut command, Kernels::Quickly);
        command.env("PATH", "/usr/bin:/bin").env("SUITE", "values_decide_how_often");
        command.envs(binaries.map(|folder| ("GRAVER_GPU_BINARIES", folder)));
        let output = command.output().expect("it is there");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said.into_owned(), std::fs::read_to_string(&page).unwrap_or_default())
    };
    let (code, said, told) = run(&folder.join("measure.sh"), None);
    assert!(code == Some(0) && said.contains("1 passed") && told.contains("| case |") && !told.contains("failed"), "{said}");
    // Another suite, which fails.
    let suite = "#!/bin/sh\necho 'test result'\necho\necho failures:\necho '    rows_that_registers_do_not_hold'\nexit 101\n";
    std::fs::write(folder.join("device"), suite).expect("it is our own");
    let (code, said, told) = run(&root.join("backends/cuda/measure.sh"), Some(&folder));
    assert_eq!(code, Some(1), "{said}");
    assert!(told.contains("\n**The suite failed on this GPU**: `rows_that_registers_do_not_hold`.\n\n| case |"), "{told}");
}

const PROGRAM: &str = "graver 1

func @main(
  %0: f32[4, 3] = arg \"x\",
) {
  %1 = relu(%0) : f32[4, 3]
  return %1
}
";

#[test]
fn a_program_in_a_file_gives_what_it_gives_on_the_cpu() {
    let (graver, folder) = (built("--bin", "graver"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("run"));
    let path = |name: &str| folder.join(name);
    std::fs::create_dir_all(path("in")).expect("the target's folder is writable");
    std::fs::write(path("model.gir"), PROGRAM).expect("just made");
    let x = Array::from_vec([4, 3], (-6i8..6).map(f32::from).collect()).expect("sizes agree");
    npy::write_file(path("in/input_0.npy"), &x).expect("just made");
    let run = |device: &str, variables: &[(&str, &str)]| {
        let _ = std::fs::remove_dir_all(path("out"));
        let [model, inputs, outputs] = ["model.gir", "in", "out"].map(path);
        let args =
            [OsStr::new("run"), model.as_ref(), "--inputs".as_ref(), inputs.as_ref(), "--outputs".as_ref(), outputs.as_ref()];
        let mut command = Command::new(&graver);
        command.args(args).args(["--device", device]).envs(variables.iter().copied());
        equip(&mut command, Kernels::Quickly);
        let output = command.output().expect("it was built above");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), std::fs::read(path("out/output_0.npy")).ok())
    };
    let (cpu, cuda) = (run("cpu", &[]), run("cuda", &[]));
    assert!(cpu.0 == Some(0) && cpu.2.is_some(), "{cpu:?}");
    assert_eq!(cuda, cpu);
    assert_eq!(run("cuda:0", &[]), cpu);
    let (code, said, written) = run("cuda:1", &[]);
    assert!(code == Some(3) && said.contains("there is no GPU 1: the CUDA driver sees 1"), "{code:?} {said}");
    assert_eq!(written, None);
    // A driver that does not start is a device that is not there; one that fails later fails the run.
    let failing =
        [("cuInit", 3, "the CUDA driver does not start"), ("cuMemcpyDtoH_v2", 2, "an array cannot be copied from the GPU")];
    for (function, exit, words) in failing {
        let (code, said, written) = run("cuda", &[("FAKE_CUDA_FAILS", function)]);
        assert!(code == Some(exit) && said.contains(words) && !said.contains("panicked"), "{function}: {code:?} {said}");
        assert_eq!(written, None);
    }
}

#[test]
#[ignore = "it takes minutes"]
fn the_digits_example_has_the_losses_of_the_cpu() {
    let digits = built("--example", "digits");
    let digits = digits.to_str().expect("the target's folder has a plain name");
    let told = |device: &str| {
        let said = printed(digits, &["--epochs", "1", "--device", device].map(OsStr::new), &[], Kernels::Quick);
        let line = said.lines().find(|line| line.starts_with("epoch  1: train loss ")).unwrap_or_else(|| panic!("{said}"));
        let numbers = line.split([' ', ',']).filter_map(|word| word.parse::<f64>().ok()).collect::<Vec<f64>>();
        // The loss and the accuracy; the rate is another's.
        [numbers[0], numbers[1]]
    };
    let (cpu, cuda) = (told("cpu"), told("cuda"));
    assert!(cpu.iter().zip(&cuda).all(|(x, y)| (x - y).abs() < 2.5e-6), "{cuda:?}, not {cpu:?}");
}
