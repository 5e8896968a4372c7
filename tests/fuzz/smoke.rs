//! A little of what the fuzzers do, the same each time: what they read, changed in a few places, by number and not by time.

pub mod readers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use graver_data::npy;
use graver_ir::{Array, DType, Scalar};
use graver_runtime::Checkpoint;
use graver_testkit::Rng;

/// Files of the project, in order.
fn files(folder: &str, is_wanted: impl Fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let (mut found, mut open) = (Vec::new(), vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)]);
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
            entries.flatten().map(|entry| entry.path()).partition(|path| path.is_dir());
        open.extend(folders);
        found.extend(files.into_iter().filter(|path| is_wanted(path)));
    }
    found.sort();
    found.into_iter().map(|path| std::fs::read(path).expect("a file of the project")).collect()
}

fn has_extension(extension: &str) -> impl Fn(&Path) -> bool {
    move |path| path.extension().is_some_and(|found| found == extension)
}

/// Bytes with a few changes: another byte, one less, one more, a part of them again elsewhere, or an early end.
fn changed(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        let place = rng.below(bytes.len().max(1)).min(bytes.len());
        match rng.below(9) {
            _ if bytes.is_empty() => bytes.push(0),
            0..=2 => bytes[place] = rng.bits().to_le_bytes()[0],
            3 | 4 => drop(bytes.remove(place)),
            5 | 6 => bytes.insert(place, *rng.pick(&[0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b',', b'(', b'%'])),
            7 => {
                let from = rng.below(bytes.len());
                let part = bytes[from..bytes.len().min(from + 16)].to_vec();
                drop(bytes.splice(place..place, part));
            }
            _ => bytes.truncate(place),
        }
    }
    bytes
}

/// Every seed is taken as it is; of so many changes of each, some are and some are not.
#[track_caller]
fn smoke(name: &str, reader: fn(&[u8]) -> bool, seeds: &[Vec<u8>], changes: usize) {
    assert!(!seeds.is_empty() && seeds.iter().all(|seed| reader(seed)), "{name}: a seed is refused");
    let mut rng = Rng::named(name);
    let taken = seeds.iter().flat_map(|seed| std::iter::repeat_n(seed, changes)).filter(|seed| reader(&changed(seed, &mut rng)));
    let (taken, tries) = (taken.count(), seeds.len() * changes);
    assert!((1..tries).contains(&taken), "{name}: {taken} of {tries} are taken");
}

#[test]
fn models() {
    let models = ["suite", "exported"].map(|folder| files(&format!("crates/onnx/tests/{folder}"), has_extension("onnx")));
    // Some are imported only with values of their inputs.
    let models: Vec<Vec<u8>> = models.concat().into_iter().filter(|model| readers::importer(model)).collect();
    assert!(models.len() > 30, "{} models", models.len());
    smoke("importer", readers::importer, &models, 6);
}

#[test]
fn texts_of_graphs() {
    smoke("text", readers::text, &files("tests/files", has_extension("gir")), 20);
}

#[test]
fn texts_of_programs() {
    smoke("program", readers::program, &files("ir/tests/programs", has_extension("gir")), 1000);
}

/// An array of every element type, and text beside them.
fn safetensors() -> Vec<u8> {
    let array = |dtype: &DType| Array::from_fn(*dtype, [2, 3], |place| Scalar::int(*dtype, place as i64 % 2));
    let arrays = DType::ALL.iter().map(|dtype| (format!("layer.{dtype}"), array(dtype))).collect();
    let metadata = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
    Checkpoint { arrays, metadata }.to_bytes().expect("small")
}

#[test]
fn checkpoints() {
    smoke("checkpoint", readers::checkpoint, &[safetensors()], 2000);
}

#[test]
fn pretrained_weights() {
    smoke("weights", readers::weights, &[safetensors()], 1000);
}

#[test]
fn arrays_of_numpy() {
    let written = |array: &Array| {
        let mut bytes = Vec::new();
        npy::write(&mut bytes, array).expect("memory takes it");
        bytes
    };
    let floats = Array::from_vec([2, 3], vec![0.5f32; 6]).expect("six");
    let seeds = [DType::F32, DType::I64, DType::U8, DType::Bool].map(|dtype| written(&floats.cast(dtype)));
    smoke("npy", readers::npy, &seeds, 500);
}
