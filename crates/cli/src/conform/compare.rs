//! What was written, against what is expected: the same number of outputs, of the same element types and shapes, and elements that are close.

use std::path::{Path, PathBuf};

use graver_ir::{Array, DType};
use graver_onnx::Element;

use super::{Ending, Status};
use crate::load;

/// How far an element `x` may be from `y`, which is expected: `absolute + relative * |y|`.
#[derive(Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) relative: f64,
    pub(super) absolute: f64,
}

/// Elements of `bfloat16` have 8 bits: of their last two, nothing is asked.
const OF_BF16: f64 = 1.0 / 64.0;

/// What a folder has of an output.
enum Found {
    Nothing,
    /// A file of a tensor.
    Tensor(PathBuf),
    /// A file of strings.
    Strings,
    /// The files of a sequence's tensors, by their places.
    Sequence(Vec<PathBuf>),
}

/// The greatest finite difference of elements that were compared, if any were.
#[derive(Default)]
pub(super) struct Apart(pub(super) Option<f64>);

impl Apart {
    fn see(&mut self, got: &[f64], expected: &[f64]) {
        let apart = got.iter().zip(expected).map(|(x, y)| if x == y { 0.0 } else { (x - y).abs() });
        self.0 = apart.filter(|apart| apart.is_finite()).chain(self.0).reduce(f64::max);
    }
}

/// Holds all outputs that a set expects against what was written.
pub(super) fn check(
    set: &Path,
    written: &Path,
    elements: &[Option<Element>],
    tolerance: Tolerance,
    apart: &mut Apart,
) -> Result<(), Ending> {
    let own = set.join("expect");
    let (expect, got) = (if own.is_dir() { own } else { set.to_owned() }, written.join("outputs"));
    for (place, element) in elements.iter().enumerate() {
        let name = format!("output_{place}");
        let told = |ending: Ending| Ending { why: format!("output {place}: {}", ending.why), ..ending };
        output(find(&expect, &name), find(&got, &name), *element, tolerance, apart).map_err(told)?;
    }
    Ok(())
}

fn find(folder: &Path, name: &str) -> Found {
    let path = folder.join(name);
    if path.is_dir() {
        let item = |place: usize| tensor(&path, &place.to_string());
        return Found::Sequence((0..).map_while(item).collect());
    }
    match tensor(folder, name) {
        Some(file) => Found::Tensor(file),
        None if path.with_extension("json").is_file() => Found::Strings,
        None => Found::Nothing,
    }
}

/// The file of a tensor, if there is one.
fn tensor(folder: &Path, name: &str) -> Option<PathBuf> {
    ["npy", "pb"].map(|extension| folder.join(name).with_extension(extension)).into_iter().find(|path| path.is_file())
}

fn output(expected: Found, got: Found, element: Option<Element>, tolerance: Tolerance, apart: &mut Apart) -> Result<(), Ending> {
    match (expected, got) {
        (Found::Nothing, Found::Nothing) => Ok(()),
        (Found::Nothing, _) => Err(Ending::new(Status::FailValue, "it is there, and none is expected")),
        (Found::Tensor(expected), Found::Tensor(got)) => files(&expected, &got, element, tolerance, apart),
        (Found::Sequence(expected), Found::Sequence(got)) if expected.len() != got.len() => {
            Err(Ending::new(Status::FailShape, format!("a sequence of {} instead of {}", got.len(), expected.len())))
        }
        (Found::Sequence(expected), Found::Sequence(got)) => {
            expected.iter().zip(&got).try_for_each(|(expected, got)| files(expected, got, element, tolerance, apart))
        }
        (Found::Strings, _) => Err(Ending::new(Status::MissingOutput, "strings are expected")),
        (Found::Tensor(_), _) => Err(Ending::new(Status::MissingOutput, "a tensor is expected")),
        (Found::Sequence(_), _) => Err(Ending::new(Status::MissingOutput, "a sequence is expected")),
    }
}

fn files(expected: &Path, got: &Path, element: Option<Element>, tolerance: Tolerance, apart: &mut Apart) -> Result<(), Ending> {
    let read = |path: &Path| load::read(path).map_err(|failure| Ending::new(Status::BadOutput, failure.message()));
    let (got, expected) = (read(got)?, read(expected)?);
    if got.shape() != expected.shape() {
        return Err(Ending::new(Status::FailShape, format!("{:?} instead of {:?}", got.shape(), expected.shape())));
    }
    let element = element.unwrap_or(Element::Plain(expected.dtype()));
    if file_dtype(&got) != file_dtype(&expected) {
        return Err(Ending::new(Status::FailDtype, format!("{} instead of {}", got.dtype(), expected.dtype())));
    }
    let (got, expected) = (element.numbers(&got), element.numbers(&expected));
    apart.see(&got, &expected);
    values(&got, &expected, element, tolerance)
}

/// What an `.npy` file has: bits of `bf16`, which NumPy lacks.
fn file_dtype(array: &Array) -> DType {
    if array.dtype() == DType::BF16 { DType::U16 } else { array.dtype() }
}

/// The first element outside of the tolerance. NaN equals NaN.
fn values(got: &[f64], expected: &[f64], element: Element, tolerance: Tolerance) -> Result<(), Ending> {
    let relative = match element {
        Element::Plain(DType::BF16) => tolerance.relative.max(OF_BF16),
        Element::Plain(_) | Element::Coded(_) => tolerance.relative,
    };
    let near = |x: f64, y: f64| y.is_finite() && (x - y).abs() <= tolerance.absolute + relative * y.abs();
    let close = |x: f64, y: f64| (x.is_nan() && y.is_nan()) || x == y || near(x, y);
    match got.iter().zip(expected).position(|(x, y)| !close(*x, *y)) {
        None => Ok(()),
        Some(place) => {
            let why = format!("element {place} is {} instead of {}", got[place], expected[place]);
            Err(Ending::new(Status::FailValue, why))
        }
    }
}
