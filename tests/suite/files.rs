//! File tests: small programs, each through exactly one pass, or through the pipeline up to one stage of the kernels.
//!
//! `tests/files/<stage>/<name>.gir` starts with comment lines that say what is shown. With `// unchanged` among them the pass must answer
//! [`Changed::No`] and leave the text as it was; otherwise `<name>.snap` beside it is the exact result, remarks and errors included.
//! Write new results with `INSTA_UPDATE=always cargo test --workspace --test suite files`, then read them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use graver_ir::kernel::{self, Program};
use graver_ir::{Error, Module, Target, text};
use graver_passes::{Changed, Cx, Observer, PASSES, Pass, PassReport, pipeline, runner};

use crate::tidy::root;

/// The stages behind the passes, in the order of the pipeline.
const KERNELS: [&str; 4] = ["lower", "schedule", "reuse", "plan"];

/// The line that says that a pass must leave the program alone.
const UNCHANGED: &str = "// unchanged";

/// Keeps what is asked for.
#[derive(Debug, Default)]
struct Keep {
    changed: Option<Changed>,
    stages: Vec<(&'static str, String)>,
}

impl Observer for Keep {
    fn after_pass(&mut self, report: &PassReport<'_>) {
        self.changed = Some(report.changed);
    }

    fn program(&mut self, stage: &'static str, program: &Program, _: Duration) {
        self.stages.push((stage, kernel::text::print(program)));
    }
}

/// The module after one pass, with its remarks and its answer.
fn after(pass: Pass, mut module: Module) -> Result<(String, Changed), Error> {
    let target = Target::generic();
    let (mut cx, mut keep) = (Cx { target: &target, remarks: Vec::new() }, Keep::default());
    runner::run(&mut module, &[pass], &mut cx, &mut keep, None)?;
    let mut shown = text::print(&module);
    for remark in &cx.remarks {
        write!(shown, "\n// {remark}").expect("a string takes everything");
    }
    Ok((shown, keep.changed.expect("the runner reports every pass")))
}

/// The program after one stage of the whole pipeline.
fn up_to(stage: &str, module: Module) -> Result<String, Error> {
    let mut keep = Keep::default();
    pipeline::compile(module, &Target::generic(), &mut keep)?;
    let (_, shown) = keep.stages.into_iter().find(|(name, _)| *name == stage).expect("the pipeline has this stage");
    Ok(shown)
}

/// The comment lines before the program.
fn head(source: &str) -> Vec<&str> {
    source.lines().take_while(|line| line.starts_with("//")).collect()
}

fn is_negative(source: &str) -> bool {
    head(source).contains(&UNCHANGED)
}

/// Runs one file and compares.
fn check(stage: &str, path: &Path) {
    let source = read(path);
    let head = head(&source);
    assert!(head.iter().any(|line| *line != UNCHANGED), "the first line says what is shown");
    let module = text::parse(&source).unwrap_or_else(|error| panic!("{error}"));
    let pass = PASSES.iter().find(|pass| pass.name == stage);
    if let (Some(pass), true) = (pass, is_negative(&source)) {
        let (shown, changed) = after(*pass, module.clone()).expect("a program that stays is right");
        assert_eq!(shown, text::print(&module), "the pass must leave the program as it was");
        assert_eq!(changed, Changed::No, "the pass must say so");
        return;
    }
    let result = match pass {
        Some(pass) => after(*pass, module).map(|(shown, changed)| {
            assert_eq!(changed, Changed::Yes, "a program that stays is marked `{UNCHANGED}`");
            shown
        }),
        None => up_to(stage, module),
    };
    let shown = result.unwrap_or_else(|error| format!("error: {error}"));
    compare(path, &shown);
}

/// Against the snapshot beside the file.
fn compare(path: &Path, shown: &str) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(path.parent().expect("a file lies in a folder"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(stem(path), shown));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the tests' files are text")
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("files have names").to_string_lossy().into_owned()
}

fn folder() -> PathBuf {
    root().join("tests/files")
}

/// What a folder holds, in order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder of the tests").map(|entry| entry.expect("it can be read").path()).collect();
    found.sort();
    found
}

/// The files of a stage that end so, in order.
fn files(stage: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = entries(&folder().join(stage));
    found.retain(|path| path.extension().is_some_and(|own| own == extension));
    found
}

#[test]
fn every_file_of_every_stage() {
    let mut failed = Vec::new();
    for stage in stages() {
        for path in files(stage, "gir") {
            // All of them run, so that one look shows all that changed.
            if catch_unwind(AssertUnwindSafe(|| check(stage, &path))).is_err() {
                failed.push(format!("{stage}/{}", stem(&path)));
            }
        }
    }
    assert!(failed.is_empty(), "see above: {failed:#?}");
    stages().into_iter().for_each(check_pairs);
}

fn stages() -> Vec<&'static str> {
    PASSES.iter().map(|pass| pass.name).chain(KERNELS).collect()
}

#[test]
fn every_stage_has_a_folder() {
    let folders: BTreeSet<String> = entries(&folder()).iter().map(|path| stem(path)).collect();
    assert_eq!(folders, stages().into_iter().map(str::to_owned).collect(), "folders, and stages of the compiler");
}

#[test]
fn every_pass_has_positive_and_negative_files() {
    for pass in PASSES {
        let (negative, positive): (Vec<bool>, Vec<bool>) =
            files(pass.name, "gir").iter().map(|path| is_negative(&read(path))).partition(|negative| *negative);
        assert!(!positive.is_empty(), "`{}` has no file that it changes", pass.name);
        assert!(!negative.is_empty(), "`{}` has no file that it leaves alone", pass.name);
    }
}

/// Every file that a stage changes has a snapshot, and nothing else has.
fn check_pairs(stage: &str) {
    let results = files(stage, "gir").into_iter().filter(|path| !is_negative(&read(path)));
    let wanted: BTreeSet<String> = results.map(|path| stem(&path)).collect();
    let found: BTreeSet<String> = files(stage, "snap").iter().map(|path| stem(path)).collect();
    assert_eq!(found, wanted, "snapshots of `{stage}`, and the files that need one");
}
