//! How the sources read: headers, sizes, and words that do not belong in them.

use std::path::{Path, PathBuf};

/// The most lines of a source file.
const LONGEST: usize = 600;

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the project").to_owned()
}

/// Every Rust source of the project with its text, in path order.
pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["ir", "passes", "backends", "crates", "tests"] {
        collect(&root().join(folder), &mut found);
    }
    found.sort();
    assert!(found.len() > 20, "the project's sources were not found");
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("sources are text");
            found.push((path, text));
        }
    }
}

#[test]
fn every_source_says_what_it_is() {
    let silent: Vec<PathBuf> = sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "no //! header: {silent:#?}");
}

#[test]
fn no_source_is_too_long() {
    let long: Vec<(PathBuf, usize)> =
        sources().into_iter().map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > LONGEST).collect();
    assert!(long.is_empty(), "more than {LONGEST} lines: {long:#?}");
}

#[test]
fn no_source_is_left_unfinished() {
    let words = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("FIX", "ME"), concat!("XX", "X")];
    for (path, text) in sources() {
        let found: Vec<&&str> = words.iter().filter(|word| text.contains(**word)).collect();
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}
