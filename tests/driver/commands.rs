//! Whole commands, as a user with a GPU types them. Each builds for release and takes minutes:
//! `cargo test --workspace --test driver -- --ignored`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::fake::{Kernels, equip};

/// What a command prints that is run in the project's folder, over the fake driver, and ends well.
fn printed(program: &str, args: &[&OsStr], suite: &str) -> String {
    let mut command = Command::new(program);
    command.args(args).env("SUITE", suite).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    equip(&mut command, Kernels::Quick);
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

#[test]
#[ignore = "it builds for release, and takes minutes"]
fn the_script_measures_to_its_table() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda-speed.md");
    let _ = std::fs::remove_file(&path);
    let args = ["--shrink".as_ref(), "64".as_ref(), "--write".as_ref(), path.as_os_str()];
    let said = printed("backends/cuda/measure.sh", &args, "nets_and_their_training_steps");
    assert!(said.contains("on a GPU that is not there") && said.contains("1 passed"), "{said}");
    let page = std::fs::read_to_string(&path).expect("the script writes it");
    assert!(page.starts_with("# How fast on a GPU\n\na GPU that is not there, "), "{page}");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() == 6 && rows.iter().all(|row| row.ends_with(" of the bound |") && !row.contains("WRONG")), "{page}");
}

#[test]
#[ignore = "it builds for release, and takes minutes"]
fn the_digits_example_has_the_losses_of_the_cpu() {
    let told = |device: &str| {
        let args = ["run", "--release", "--quiet", "--example", "digits", "--", "--epochs", "1", "--device", device];
        let said = printed("cargo", &args.map(OsStr::new), "");
        let line = said.lines().find(|line| line.starts_with("epoch  1: train loss ")).unwrap_or_else(|| panic!("{said}"));
        let numbers = line.split([' ', ',']).filter_map(|word| word.parse::<f64>().ok()).collect::<Vec<f64>>();
        // The loss and the accuracy; the rate is another's.
        [numbers[0], numbers[1]]
    };
    let (cpu, cuda) = (told("cpu"), told("cuda"));
    assert!(cpu.iter().zip(&cuda).all(|(x, y)| (x - y).abs() <= 2e-6), "{cuda:?}, not {cpu:?}");
}
