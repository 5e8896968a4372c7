//! `graver conform`: a folder of models with inputs and the outputs that are expected.
//!
//! A case is a folder with `model.onnx` and sets beside it: `set_<k>` with `input_<i>.npy` and `expect/output_<i>.npy`, or, as ONNX's
//! own suite has them, `test_data_set_<k>` with `input_<i>.pb` and `output_<i>.pb`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use graver_data::{Limit, npy};
use graver_ir::Array;

use crate::Conform;
use crate::failure::{Failure, print};
use crate::{load, model, run};

/// How a case ended.
enum Outcome {
    Agrees,
    Unsupported(String),
    Differs(String),
}

/// `graver conform`
pub(crate) fn conform(args: &Conform) -> Result<(), Failure> {
    let mut cases = cases(&args.folder)?;
    if let Some(path) = &args.names {
        retain_named(&mut cases, path)?;
    }
    let (mut agree, mut unsupported, mut differ) = (0usize, 0usize, 0usize);
    for case in &cases {
        let name = case.strip_prefix(&args.folder).unwrap_or(case).display();
        match check(case, args) {
            Outcome::Agrees => agree += 1,
            Outcome::Unsupported(why) => {
                unsupported += 1;
                print(&format!("not supported  {name}: {}\n", first_line(&why)))?;
            }
            Outcome::Differs(why) => {
                differ += 1;
                print(&format!("differs        {name}: {}\n", first_line(&why)))?;
            }
        }
    }
    print(&format!("{agree} agree, {unsupported} are not supported, {differ} differ\n"))?;
    if differ == 0 { Ok(()) } else { Err(Failure::Input(format!("{differ} of {} cases differ", cases.len()))) }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Every folder under this one that has a model, in order.
fn cases(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        if folder.join("model.onnx").is_file() {
            found.push(folder);
            continue;
        }
        open.extend(folders(&folder)?);
    }
    found.sort();
    if found.is_empty() { Err(Failure::file(folder, "no folder in it has a model.onnx")) } else { Ok(found) }
}

/// Only the cases that a file names; a name without a case is told.
fn retain_named(cases: &mut Vec<PathBuf>, path: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
    let wanted: BTreeSet<&str> = text.split_whitespace().collect();
    let name = |case: &PathBuf| case.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let there: BTreeSet<String> = cases.iter().map(name).collect();
    if let Some(missing) = wanted.iter().find(|wanted| !there.contains(**wanted)) {
        return Err(Failure::file(path, format!("the case `{missing}` is not there")));
    }
    cases.retain(|case| wanted.contains(name(case).as_str()));
    Ok(())
}

/// The folders in a folder; links are not followed, so that there is an end.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::file(folder, error))?;
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    Ok(entries.flatten().filter(is_folder).map(|entry| entry.path()).collect())
}

fn check(case: &Path, args: &Conform) -> Outcome {
    let sets = match folders(case) {
        Ok(mut folders) => {
            folders.retain(|folder| {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("set_") || name.starts_with("test_data_set_")
            });
            folders.sort();
            folders
        }
        Err(failure) => return Outcome::Differs(failure.message()),
    };
    if sets.is_empty() {
        return Outcome::Differs("it has no set of inputs and outputs".to_owned());
    }
    for set in sets {
        match one_set(&case.join("model.onnx"), &set, args) {
            Ok(None) => {}
            Ok(Some(difference)) => return Outcome::Differs(difference),
            Err(Failure::Unsupported(why)) => return Outcome::Unsupported(why),
            Err(failure) => return Outcome::Differs(failure.message()),
        }
    }
    Outcome::Agrees
}

/// Runs one set; what differs, if anything does.
fn one_set(path: &Path, set: &Path, args: &Conform) -> Result<Option<String>, Failure> {
    let model = model::read(path)?;
    let names = graver_onnx::input_names(&model);
    let mut given = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        if let Some(array) = array(set, &format!("input_{place}"))? {
            given.insert(name.clone(), array);
        }
    }
    let (module, inputs) = model::specialised(path, &model, &given)?;
    let outputs = run::execute(module, &inputs, &args.machine)?;
    for (place, output) in outputs.iter().enumerate() {
        let expected = match array(&set.join("expect"), &format!("output_{place}"))? {
            Some(expected) => expected,
            None => match array(set, &format!("output_{place}"))? {
                Some(expected) => expected,
                None => return Ok(Some(format!("output {place} is expected nowhere"))),
            },
        };
        if let Some(difference) = difference(output, &load::as_typed(expected, output.dtype()), args) {
            return Ok(Some(format!("output {place}: {difference}")));
        }
    }
    Ok(None)
}

/// The array of this name, as `.npy` or `.pb`, if it is there.
fn array(folder: &Path, name: &str) -> Result<Option<Array>, Failure> {
    let (numpy, proto) = (folder.join(format!("{name}.npy")), folder.join(format!("{name}.pb")));
    if numpy.is_file() {
        return Ok(Some(npy::read_file(numpy, Limit::default())?));
    }
    if !proto.is_file() {
        return Ok(None);
    }
    graver_onnx::read_tensor(&proto).map(Some).map_err(|failure| Failure::import(&proto, failure))
}

/// What differs: type, shape, or the first element outside of the tolerance. NaN equals NaN.
fn difference(got: &Array, expected: &Array, args: &Conform) -> Option<String> {
    if got.ty() != expected.ty() {
        return Some(format!("{} instead of {}", got.ty(), expected.ty()));
    }
    let (got, expected) = (got.to_f64(), expected.to_f64());
    let close = |x: f64, y: f64| (x.is_nan() && y.is_nan()) || x == y || (x - y).abs() <= args.atol + args.rtol * y.abs();
    let place = got.iter().zip(&expected).position(|(x, y)| !close(*x, *y))?;
    Some(format!("element {place} is {} instead of {}", got[place], expected[place]))
}
