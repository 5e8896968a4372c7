//! The table of errors in the guide's chapter on pretrained models, which these references' tests hold.
//!
//! To write it again: `GRAVER_BLESS=1 cargo test -p graver-models --test models page`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use graver_cpu::{Cpu, Isa};
use graver_models::model_type;
use graver_trace::{Device, Error};

use crate::common::{Case, Reference};
use crate::{causal, image, pipeline, text};

const HEAD: &str = "| model | `model_type` | error |\n|---|---|---|\n";

/// A row: the type of the library, and what configurations call it.
type Key = (String, String);

/// What the chapter states of each row.
pub(crate) struct Page(BTreeMap<Key, f64>);

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/pretrained.md")
}

/// What stands before the table's rows, the rows, and what follows.
fn parts(chapter: &str) -> [&str; 3] {
    let (before, rest) = chapter.split_once(HEAD).expect("the chapter has the table");
    let (rows, _) = rest.split_once("\n\n").expect("something follows the table");
    [before, rows, &rest[rows.len()..]]
}

fn key(case: &Case) -> Key {
    let (family, _) = model_type(&Reference::of(case.name).folder).expect("a reference has a configuration");
    (case.model.to_owned(), family)
}

impl Page {
    pub(crate) fn read() -> Self {
        let chapter = std::fs::read_to_string(path()).expect("the book is beside the crates");
        let row = |row: &str| {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let ["", model, family, error, ""] = cells[..] else { panic!("no row of the table: {row}") };
            ((model.to_owned(), family.to_owned()), error.parse().expect("an error is a number"))
        };
        Self(parts(&chapter)[1].lines().map(row).collect())
    }

    /// Whether a case is within the error that is stated of its row.
    #[track_caller]
    pub(crate) fn check(&self, case: &Case, found: f64) {
        let stated = self.0.get(&key(case)).unwrap_or_else(|| panic!("the chapter has no row of {:?}", key(case)));
        assert!(
            found <= *stated,
            "{} is off by {found}, and the chapter says {stated}; write it again with GRAVER_BLESS=1",
            case.name
        );
    }
}

fn cases() -> impl Iterator<Item = &'static Case> {
    [text::CASES, causal::CASES, image::CASES, pipeline::CASES].into_iter().flatten()
}

/// The number of one digit that is not below.
fn rounded_up(error: f64) -> f64 {
    let unit = 10f64.powf(error.max(1e-9).log10().floor());
    let up = format!("{:.0e}", (error / unit).ceil() * unit);
    up.parse().expect("a number")
}

/// All rows, as the greatest error at any level of instructions that this machine has.
fn written() -> Result<String, Error> {
    let mut worst: BTreeMap<Key, f64> = BTreeMap::new();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let device = Device::new(Arc::new(Cpu::new(1).with_isa(isa)?));
        for case in cases() {
            let error = (case.run)(&Reference::of(case.name), &device)?;
            let row = worst.entry(key(case)).or_default();
            *row = row.max(error);
        }
    }
    let mut rows = String::new();
    for ((model, family), error) in worst {
        writeln!(rows, "| `{model}` | `{family}` | {:.0e} |", rounded_up(error)).expect("memory takes it");
    }
    Ok(rows.trim_end().to_owned())
}

#[test]
fn the_page_has_a_row_of_every_model_and_no_other() -> Result<(), Error> {
    if std::env::var_os("GRAVER_BLESS").is_some() {
        let chapter = std::fs::read_to_string(path()).expect("the book is beside the crates");
        let [before, _, after] = parts(&chapter);
        std::fs::write(path(), format!("{before}{HEAD}{}{after}", written()?)).expect("the project's folder is writable");
    }
    let Page(stated) = Page::read();
    let keys: BTreeMap<Key, f64> = cases().map(|case| (key(case), 0.0)).collect();
    assert!(stated.keys().eq(keys.keys()), "the chapter has {:?}, the tests {:?}", stated.keys(), keys.keys());
    // Every reference with results of a model is a case, but those of whole pipelines.
    let references = std::fs::read_dir(crate::common::path("")).expect("kept beside the tests");
    for folder in references.map(|entry| entry.expect("readable").path()) {
        let name = folder.file_name().expect("a folder").to_string_lossy().into_owned();
        let is_model = folder.join("config.json").exists() && folder.join("expected.safetensors").exists();
        assert!(!is_model || name == "classify" || cases().any(|case| case.name == name), "`{name}` is not run");
    }
    Ok(())
}
