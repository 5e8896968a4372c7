//! The command as its users meet it: what it prints, what it writes, how it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use graver_data::npy;
use graver_ir::Array;

const AFFINE: &str = "graver 1

sym n: 0..=1024

func @main(
  %0: f32[n, 3] = arg \"x\",
  %1: f32[3] = arg \"w\",
) {
  %2 = broadcast(%1) {shape = [n, 3], axes = [1]} : f32[n, 3]
  %3 = mul(%0, %2) : f32[n, 3]
  %4 = relu(%3) : f32[n, 3]
  return %4
}
";

const CONVOLUTION: &str = "graver 1

func @main(
  %0: f32[1, 10, 10, 32] = arg \"x\",
  %1: f32[32, 32, 3, 3] = arg \"w\",
) {
  %2 = conv(%0, %1) {input = [0, 3, 1, 2], kernel = [0, 1, 2, 3], output = [0, 3, 1, 2], axes = [{}, {}]} : f32[1, 8, 8, 32]
  return %2
}
";

/// A folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("graver-cli-{}-{test}", std::process::id()));
        std::fs::create_dir_all(path.join("in")).expect("the temporary folder is writable");
        std::fs::write(path.join("model.gir"), AFFINE).expect("just made");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn input(&self, position: usize, array: &Array) {
        npy::write_file(self.path(&format!("in/input_{position}.npy")), array).expect("just made");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn graver(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_graver")).args(args).current_dir(folder).output().expect("the command starts")
}

/// Runs the command, which must end with this code; gives standard output and standard error.
fn ends(folder: &Folder, args: &[&str], code: i32) -> (String, String) {
    let output = graver(&folder.0, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(code), "graver {args:?}\n{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out, err)
}

fn array(shape: &[usize], data: &[f32]) -> Array {
    Array::from_vec(shape, data.to_vec()).expect("sizes agree")
}

#[test]
fn a_program_runs_on_both_devices_for_any_batch() {
    let folder = Folder::new("runs");
    folder.input(1, &array(&[3], &[1.0, -1.0, 2.0]));
    for rows in [0, 1, 5] {
        let x: Vec<f32> = (0..rows * 3).map(|place| place as f32 - 2.0).collect();
        folder.input(0, &array(&[rows, 3], &x));
        let expected: Vec<f32> = x.iter().zip([1.0, -1.0, 2.0].iter().cycle()).map(|(x, w)| (x * w).max(0.0)).collect();
        for device in ["interp", "cpu"] {
            ends(&folder, &["run", "model.gir", "--inputs", "in", "--outputs", "out", "--device", device, "--threads", "2"], 0);
            let got = npy::read_file(folder.path("out/output_0.npy"), npy_limit()).expect("just written");
            assert_eq!(got, array(&[rows, 3], &expected), "{device}, {rows} rows");
        }
    }
}

#[test]
fn the_level_of_the_code_can_be_chosen() {
    let folder = Folder::new("levels");
    folder.input(0, &array(&[2, 3], &[1.0, -2.0, 3.0, 4.0, 5.0, -6.0]));
    folder.input(1, &array(&[3], &[1.0, -1.0, 2.0]));
    let run = ["run", "model.gir", "--inputs", "in", "--outputs", "out", "--isa"];
    for isa in graver_cpu::Isa::ALL {
        let args: Vec<&str> = run.into_iter().chain([isa.name()]).collect();
        if !isa.is_available() {
            let (_, error) = ends(&folder, &args, 3);
            assert!(error.contains(isa.name()), "{error}");
            continue;
        }
        ends(&folder, &args, 0);
        let got = npy::read_file(folder.path("out/output_0.npy"), npy_limit()).expect("just written");
        assert_eq!(got, array(&[2, 3], &[1.0, 2.0, 6.0, 4.0, 0.0, 0.0]), "{isa}");
    }
    let args: Vec<&str> = run.into_iter().chain(["v9"]).collect();
    assert!(ends(&folder, &args, 2).1.contains("v9"));
}

/// Nine windows hold an element; where sixteen results are computed at once, an infinity reaches all of them.
#[test]
fn the_way_of_convolutions_can_be_chosen() {
    let folder = Folder::new("convolutions");
    std::fs::write(folder.path("conv.gir"), CONVOLUTION).expect("the folder is ours");
    let mut image = vec![1.0; 10 * 10 * 32];
    image[(2 * 10 + 2) * 32] = f32::INFINITY;
    folder.input(0, &array(&[1, 10, 10, 32], &image));
    folder.input(1, &array(&[32, 32, 3, 3], &[1.0; 32 * 32 * 9]));
    let run = ["run", "conv.gir", "--inputs", "in", "--outputs", "out", "--convolutions"];
    for (way, reached) in graver_cpu::Convolutions::ALL.into_iter().zip([9, 9, 16]) {
        ends(&folder, &[&run[..], &[way.name()]].concat(), 0);
        let got = npy::read_file(folder.path("out/output_0.npy"), npy_limit()).expect("just written").to_f64();
        assert_eq!(got.iter().step_by(32).filter(|x| !x.is_finite()).count(), reached, "{way}");
    }
    assert!(ends(&folder, &[&run[..], &["fast"]].concat(), 2).1.contains("fast"));
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn denormals_can_be_flushed() {
    let folder = Folder::new("denormals");
    let twice = "graver 1\n\nfunc @main(\n  %0: f32[2] = arg \"x\",\n) {\n  %1 = add(%0, %0) : f32[2]\n  return %1\n}\n";
    std::fs::write(folder.path("twice.gir"), twice).expect("the folder is ours");
    folder.input(0, &array(&[2], &[1e-40, 1.0]));
    let run = ["run", "twice.gir", "--inputs", "in", "--outputs", "out", "--denormals"];
    for (way, expected) in graver_cpu::Denormals::ALL.into_iter().zip([2.0 * 1e-40, 0.0]) {
        ends(&folder, &[&run[..], &[way.name()]].concat(), 0);
        let got = npy::read_file(folder.path("out/output_0.npy"), npy_limit()).expect("just written");
        assert_eq!(got, array(&[2], &[expected, 2.0]), "{way}");
    }
    assert!(ends(&folder, &[&run[..], &["gone"]].concat(), 2).1.contains("kept or flushed"));
}

fn npy_limit() -> graver_data::Limit {
    graver_data::Limit::default()
}

#[test]
fn every_stage_is_shown() {
    let folder = Folder::new("stages");
    assert_eq!(ends(&folder, &["dump", "model.gir"], 0).0, AFFINE, "the text comes back as it was");
    for (stage, holds) in [("kernels", "arena"), ("vector", "relu"), ("clif", "function"), ("asm", "ret")] {
        let (out, _) = ends(&folder, &["dump", "model.gir", "--stage", stage], 0);
        assert!(out.contains(holds), "--stage {stage}:\n{out}");
    }
    assert!(ends(&folder, &["dump", "model.gir", "--after", "fuse"], 0).0.contains("tag = region"));
    assert!(ends(&folder, &["dump", "model.gir", "--format", "dot"], 0).0.starts_with("digraph"));
}

#[test]
fn json_is_a_program_too() {
    let folder = Folder::new("json");
    let (json, _) = ends(&folder, &["dump", "model.gir", "--format", "json"], 0);
    std::fs::write(folder.path("model.json"), json).expect("the folder is ours");
    assert_eq!(ends(&folder, &["dump", "model.json"], 0).0, AFFINE);
}

#[test]
fn passes_run_by_name() {
    let folder = Folder::new("passes");
    let (table, _) = ends(&folder, &["passes"], 0);
    for pass in graver_passes::PASSES {
        assert!(table.contains(pass.name) && table.contains(pass.about), "{table}");
    }
    assert_eq!(ends(&folder, &["opt", "model.gir", "--passes", "simplify,cse,dce"], 0).0, AFFINE, "nothing to do");
    ends(&folder, &["opt", "model.gir", "-o", "out.gir"], 0);
    assert_eq!(std::fs::read_to_string(folder.path("out.gir")).expect("just written"), AFFINE);
}

#[test]
fn the_matrix_of_operations_is_printed() {
    let folder = Folder::new("ops");
    let (table, _) = ends(&folder, &["ops"], 0);
    for function in graver_ir::ScalarFn::ALL {
        assert!(table.contains(&format!("`{function}`")), "{function} in\n{table}");
    }
}

/// Bad usage and bad input end with 2 and a message that says what and where.
#[test]
fn what_is_wrong_is_said() {
    let folder = Folder::new("wrong");
    let fails = |args: &[&str], says: &str| {
        let (_, err) = ends(&folder, args, 2);
        assert!(err.contains(says), "graver {args:?} says:\n{err}");
    };
    fails(&["fly"], "fly");
    fails(&["dump", "nowhere.gir"], "nowhere.gir");
    fails(&["dump", "in"], "in: ");
    fails(&["dump", "model.gir", "--after", "magic"], "no pass is named `magic`");
    fails(&["dump", "model.gir", "--stage", "asm", "--format", "dot"], "text");
    let run = ["run", "model.gir", "--inputs", "in", "--outputs", "out"];
    fails(&run, "input_0.npy");
    folder.input(0, &array(&[2, 3], &[0.0; 6]));
    folder.input(1, &array(&[4], &[0.0; 4]));
    fails(&run, "4");
    folder.input(1, &Array::from_vec([3], vec![0i64; 3]).expect("sizes agree"));
    fails(&run, "i64");
    std::fs::write(folder.path("in/input_1.npy"), b"\x93NUMPY\x01\x00").expect("the folder is ours");
    fails(&run, "input_1.npy");
    for (name, text) in [("cut.gir", &AFFINE[..150]), ("empty.gir", ""), ("cut.json", "{\"graver\": "), ("note.txt", AFFINE)] {
        std::fs::write(folder.path(name), text).expect("the folder is ours");
        fails(&["dump", name], name);
    }
    std::fs::write(folder.path("typo.gir"), AFFINE.replace(" relu(", " rulu(")).expect("the folder is ours");
    let told = ends(&folder, &["dump", "typo.gir"], 2).1;
    assert!(told.contains("graver: typo.gir:") && !told.contains("<text>"), "{told}");
    std::fs::write(folder.path("bytes.gir"), [0xff, 0xfe, 0]).expect("the folder is ours");
    fails(&["dump", "bytes.gir"], "bytes.gir");
}

/// A valid program that asks for derivatives that there are not ends with 3, and every one is listed.
#[test]
fn what_is_not_supported_is_told_apart() {
    let folder = Folder::new("unsupported");
    let program = "graver 1

func @main(
  %0: f32[] = arg \"x\",
) {
  %1 = alias(%0) : f32[]
  %2 = while(%1) {cond = @goes_on, body = @halved, carried = 1} : f32[] loc(\"model.rs\":7:5)
  %3 = while(%2) {cond = @goes_on, body = @halved, carried = 1} : f32[] loc(\"model.rs\":8:5)
  %4 = const() {value = f32[] [1.0]} : f32[]
  %5 = vjp(%3, %4, %1) {outputs = 1, wrt = 1} : f32[] loc(\"model.rs\":9:5)
  return %5
}

func @goes_on(
  %0: f32[] = arg \"x\",
) {
  %1 = const() {value = f32[] [1.0]} : f32[]
  %2 = lt(%1, %0) : bool[]
  return %2
}

func @halved(
  %0: f32[] = arg \"x\",
) {
  %1 = const() {value = f32[] [0.5]} : f32[]
  %2 = mul(%0, %1) : f32[]
  return %2
}
";
    std::fs::write(folder.path("model.gir"), program).expect("the folder is ours");
    let (_, err) = ends(&folder, &["dump", "model.gir", "--stage", "kernels"], 3);
    assert!(err.contains("model.rs:7:5: while") && err.contains("model.rs:8:5: while"), "{err}");
}

#[test]
fn cuda_is_shown_without_a_gpu_and_missed_without_a_panic() {
    let folder = Folder::new("cuda");
    let (text, _) = ends(&folder, &["dump", "model.gir", "--device", "cuda", "--stage", "cuda"], 0);
    // Whole: the names that kernels use, and then kernels, in comments of whose language their numbers are.
    let kernel = text.find("\n// kernel 0 ").expect("it is numbered");
    let (prelude, kernels) = text.split_at(kernel);
    assert!(prelude.contains("typedef long long i64;") && prelude.contains("#define GR_KERNEL("), "{text}");
    assert!(kernels.contains("GR_KERNEL(") && kernels.contains("gr_relu(") && !kernels.contains("\n; "), "{text}");
    let (_, error) = ends(&folder, &["dump", "model.gir", "--device", "cpu", "--stage", "cuda"], 2);
    assert!(error.contains("--device"), "{error}");
    folder.input(0, &array(&[1, 3], &[1.0; 3]));
    folder.input(1, &array(&[3], &[1.0; 3]));
    let output = graver(&folder.0, &["run", "model.gir", "--inputs", "in", "--outputs", "out", "--device", "cuda"]);
    let error = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(3) => assert!(error.contains("CUDA") || error.contains("NVRTC"), "{error}"),
        other => panic!("{other:?}: {error}"),
    }
    // A name that is none never gets to a driver; the same parser is asked wherever a device is named.
    for command in [&["run", "model.gir", "--inputs", "in", "--outputs", "out"][..], &["check", "model.gir", "--inputs", "in"]] {
        for (name, told) in [("cuda:x", "`cuda:x` names no GPU; cuda: is followed by"), ("gpu", "there is no device `gpu`")] {
            let (_, error) = ends(&folder, &[command, &["--device", name]].concat(), 2);
            assert!(error.contains(told), "{error}");
        }
    }
}

#[test]
fn an_architecture_that_there_is_not_is_bad_usage() {
    let folder = Folder::new("arch");
    // With what the machine has, and with no NVRTC but the system's.
    for hidden in [false, true] {
        let of = |stage: &str, architecture: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_graver"));
            command
                .args(["dump", "model.gir", "--device", "cuda", "--stage", stage, "--arch", architecture])
                .current_dir(&folder.0);
            if hidden {
                command.env("XDG_CACHE_HOME", folder.path("nothing")).env_remove("GRAVER_NVRTC").env_remove("LD_LIBRARY_PATH");
            }
            let output = command.output().expect("the command starts");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for (stage, wrong) in [("ptx", "sm_12"), ("ptx", "sm_75"), ("ptx", ""), ("sass", "hopper"), ("sass", "compute_90")] {
            let (code, said) = of(stage, wrong);
            assert!(code == Some(2) && said.contains("--arch: ") && said.contains(&format!("`{wrong}`")), "{code:?} {said}");
        }
        // Whether there is one of a right name, NVRTC alone knows.
        let (known, unknown) = (of("ptx", "sm_90a"), of("ptx", "sm_980"));
        if known.0 == Some(0) {
            assert!(unknown.0 == Some(2) && unknown.1.contains("--arch: ") && unknown.1.contains("`sm_980`"), "{unknown:?}");
        } else {
            let missed =
                |(code, said): &(Option<i32>, String)| *code == Some(3) && said.contains("NVRTC, which compiles kernels");
            assert!(missed(&known) && missed(&unknown), "{known:?} {unknown:?}");
        }
    }
}

#[test]
fn an_architecture_of_nothing_is_bad_usage() {
    let folder = Folder::new("arch-of-nothing");
    for of in [
        &[][..],
        &["--stage", "asm"],
        &["--device", "cuda", "--stage", "cuda"],
        &["--stage", "ptx"],
        &["--device", "cuda", "--after", "fuse"],
    ] {
        let output = graver(&folder.0, &[&["dump", "model.gir", "--arch", "sm_90a"], of].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains("--arch sm_90a says for which GPU"), "{of:?}: {error}");
    }
}

const LOGARITHM: &str = "graver 1

func @main(
  %0: f32[3] = arg \"x\",
) {
  %1 = log(%0) : f32[3] loc(\"model.rs\":7:5)
  %2 = exp(%1) : f32[3] loc(\"model.rs\":8:5)
  return %2
}

func @inputs() {
  %0 = const() {value = f32[3] [1.0, 0.0, 2.0]} : f32[3]
  return %0
}
";

#[test]
fn run_names_the_first_infinity() {
    let folder = Folder::new("finite");
    std::fs::write(folder.path("log.gir"), LOGARITHM).expect("just made");
    folder.input(0, &Array::from_vec([3], vec![1.0f32, 0.0, 2.0]).expect("three"));
    let (_, err) = ends(&folder, &["run", "log.gir", "--inputs", "in", "--outputs", "out", "--check-finite"], 1);
    assert!(err.contains("model.rs:7:5: log: gives -inf at [1] of f32[3], made of 0.0"), "{err}");
    // No NaN is made: the outputs are written.
    ends(&folder, &["run", "log.gir", "--inputs", "in", "--outputs", "out", "--check-nan"], 0);
    let output = npy::read_file(folder.path("out/output_0.npy"), graver_data::Limit::default()).expect("it is written");
    assert_eq!(output.to_f64(), [1.0, 0.0, 2.0]);
}

#[test]
fn check_runs_a_program_with_its_inputs() {
    let folder = Folder::new("check");
    std::fs::write(folder.path("log.gir"), LOGARITHM).expect("just made");
    let (out, _) = ends(&folder, &["check", "log.gir"], 0);
    assert!(out.contains("as written: 1 launches"), "{out}");
    folder.input(0, &Array::from_vec([2, 3], vec![1.0f32; 6]).expect("six"));
    folder.input(1, &Array::from_vec([3], vec![1.0f32; 3]).expect("three"));
    ends(&folder, &["check", "model.gir", "--inputs", "in", "--device", "interp"], 0);
    let (_, err) = ends(&folder, &["check", "model.gir"], 2);
    assert!(err.contains("model.gir") || err.contains("inputs"), "{err}");
}
