//! `graver conform`: a folder of models with inputs and the outputs that are expected.
//!
//! A case is a folder with `model.onnx` and sets beside it: `set_<k>` with `input_<i>.npy` and `expect/output_<i>.npy`, or, as ONNX's
//! own suite has them, `test_data_set_<k>` with `input_<i>.pb` and `output_<i>.pb`. A sequence is a folder of its tensors. Each set is run by
//! `graver run` in a process of its own: a case that crashes, or takes for ever, ends alone.

mod child;
mod compare;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Conform;
use crate::failure::{Failure, print};
use crate::model;
use child::Runner;
use compare::{Apart, Tolerance};

/// How a case ended: what reports call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pass,
    /// The model is valid and not supported.
    Unsupported,
    /// A signal ended the process, or it panicked.
    Crash,
    /// The process failed.
    Error,
    /// The process took too long and was ended.
    Timeout,
    /// An element is outside of the tolerance.
    FailValue,
    FailShape,
    FailDtype,
    /// What is expected was not written.
    MissingOutput,
    /// What was written cannot be read.
    BadOutput,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Unsupported => "unsupported",
            Self::Crash => "crash",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::FailValue => "fail_value",
            Self::FailShape => "fail_shape",
            Self::FailDtype => "fail_dtype",
            Self::MissingOutput => "missing_output",
            Self::BadOutput => "bad_output",
        }
    }
}

/// Why a case does not pass.
struct Ending {
    status: Status,
    why: String,
}

impl Ending {
    fn new(status: Status, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }
}

/// A model with its sets.
struct Case {
    folder: PathBuf,
    /// The folders that it lies in.
    kind: String,
    name: String,
}

/// What the report says of a case.
#[derive(Serialize)]
struct Row {
    kind: String,
    name: String,
    status: Status,
    msg: String,
    /// The greatest finite difference of an element; none where nothing was compared.
    error: Option<f64>,
    /// The time that it took, in seconds.
    sec: f64,
}

/// `graver conform`
pub(crate) fn conform(args: &Conform) -> Result<(), Failure> {
    let mut cases = cases(&args.folder)?;
    if let Some(path) = &args.names {
        retain_named(&mut cases, path)?;
    }
    let rows = run(&cases, args)?;
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&rows).map_err(|error| Failure::file(path, error))?;
        std::fs::write(path, text).map_err(|error| Failure::file(path, error))?;
    }
    let count = |status: Status| rows.iter().filter(|row| row.status == status).count();
    let (pass, unsupported) = (count(Status::Pass), count(Status::Unsupported));
    let failed = rows.len() - pass - unsupported;
    print(&format!("{pass} pass, {unsupported} are not supported, {failed} fail\n"))?;
    if failed == 0 { Ok(()) } else { Err(Failure::Found(format!("{failed} of {} cases fail", rows.len()))) }
}

/// Runs the cases, so many at a time, and tells in order what does not pass, as soon as all before it are known.
fn run(cases: &[Case], args: &Conform) -> Result<Vec<Row>, Failure> {
    let runner = Runner::new(&args.machine, args.timeout)?;
    let next = AtomicUsize::new(0);
    let (ended, endings) = mpsc::channel();
    let work = |ended: mpsc::Sender<(usize, Row)>| {
        while let Some((place, case)) = take(&next, cases) {
            if ended.send((place, row(case, &runner, args))).is_err() {
                return;
            }
        }
    };
    let mut rows: Vec<Option<Row>> = cases.iter().map(|_| None).collect();
    let mut told = 0;
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            let ended = ended.clone();
            scope.spawn(move || work(ended));
        }
        drop(ended);
        // Who goes away early drops the receiver, which ends the others.
        for (place, row) in endings {
            rows[place] = Some(row);
            while let Some(Some(row)) = rows.get(told) {
                tell(row)?;
                told += 1;
            }
        }
        Ok(rows.into_iter().flatten().collect())
    })
}

/// The next case that nobody has taken.
fn take<'a>(next: &AtomicUsize, cases: &'a [Case]) -> Option<(usize, &'a Case)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    Some((place, cases.get(place)?))
}

fn tell(row: &Row) -> Result<(), Failure> {
    if row.status == Status::Pass {
        return Ok(());
    }
    let place = if row.kind.is_empty() { row.name.clone() } else { format!("{}/{}", row.kind, row.name) };
    let first = row.msg.lines().next().unwrap_or_default();
    print(&format!("{:<14} {place}: {first}\n", row.status.name()))
}

/// Every folder under this one that has a model, in order.
fn cases(folder: &Path) -> Result<Vec<Case>, Failure> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        if folder.join("model.onnx").is_file() {
            found.push(folder);
            continue;
        }
        open.extend(folders(&folder)?);
    }
    found.sort();
    if found.is_empty() { Err(Failure::file(folder, "no folder in it has a model.onnx")) } else { Ok(named(folder, found)) }
}

fn named(root: &Path, folders: Vec<PathBuf>) -> Vec<Case> {
    let text = |part: Option<&Path>| part.unwrap_or(Path::new("")).to_string_lossy().into_owned();
    let case = |folder: PathBuf| {
        let within = folder.strip_prefix(root).unwrap_or(&folder);
        let name = folder.file_name().map(Path::new);
        Case { kind: text(within.parent()), name: text(name.or(Some(root))), folder }
    };
    folders.into_iter().map(case).collect()
}

/// Only the cases that a file names; a name without a case is told.
fn retain_named(cases: &mut Vec<Case>, path: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
    let wanted: BTreeSet<&str> = text.split_whitespace().collect();
    let there: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    if let Some(missing) = wanted.iter().find(|wanted| !there.contains(**wanted)) {
        return Err(Failure::file(path, format!("the case `{missing}` is not there")));
    }
    cases.retain(|case| wanted.contains(case.name.as_str()));
    Ok(())
}

/// The folders in a folder; links are not followed, so that there is an end.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::file(folder, error))?;
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    Ok(entries.flatten().filter(is_folder).map(|entry| entry.path()).collect())
}

fn row(case: &Case, runner: &Runner, args: &Conform) -> Row {
    let begun = Instant::now();
    let mut apart = Apart::default();
    let ending = check(&case.folder, runner, args, &mut apart).err().unwrap_or(Ending::new(Status::Pass, ""));
    let sec = (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3;
    Row { kind: case.kind.clone(), name: case.name.clone(), status: ending.status, msg: ending.why, error: apart.0, sec }
}

/// Runs all sets of a case, until one does not pass.
fn check(case: &Path, runner: &Runner, args: &Conform, apart: &mut Apart) -> Result<(), Ending> {
    let failed = |failure: Failure| Ending::new(Status::Error, failure.message());
    let mut sets = folders(case).map_err(failed)?;
    sets.retain(|folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("set_") || name.starts_with("test_data_set_")
    });
    sets.sort();
    if sets.is_empty() {
        return Err(Ending::new(Status::Error, "it has no set of inputs and outputs"));
    }
    let tolerance = tolerance(case, args).map_err(failed)?;
    let path = case.join("model.onnx");
    for set in sets {
        let written = runner.run(&path, &set)?;
        let elements = graver_onnx::output_elements(&model::read(&path).map_err(failed)?);
        compare::check(&set, &written.path, &elements, tolerance, apart)?;
    }
    Ok(())
}

/// What a case says of itself.
#[derive(Default, Deserialize)]
struct Meta {
    rtol: Option<f64>,
    atol: Option<f64>,
}

/// The case's own tolerance, or that of ONNX's suite; a tolerance that is asked for, where the case has none that is greater.
fn tolerance(case: &Path, args: &Conform) -> Result<Tolerance, Failure> {
    let path = case.join("case.json");
    let meta = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| Failure::file(&path, error))?,
        Err(_) => Meta::default(),
    };
    let of = |own: Option<f64>, asked: Option<f64>, usual: f64| match (own, asked) {
        (Some(own), Some(asked)) => own.max(asked),
        (own, asked) => own.or(asked).unwrap_or(usual),
    };
    Ok(Tolerance { relative: of(meta.rtol, args.rtol, 1e-3), absolute: of(meta.atol, args.atol, 1e-7) })
}
