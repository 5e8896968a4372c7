//! Whether results differ by more than rounding: measured, not set.
//!
//! The same program is evaluated with rounding errors by chance, from a few seeds. How far that takes an element is how far another order of
//! additions, or another approximation of a function, may take it; what differs by many times as much is wrong.

use graver_ir::{Array, DType, unravel};

/// How many evaluations with rounding errors there are.
pub(crate) const SEEDS: u64 = 3;

/// How much further than chance takes an element it may be: a few seeds do not show the worst, and sums of many terms lose more digits than
/// their rounded terms do.
const MARGIN: f64 = 32.0;

/// Units in the last place that every element may be off.
const UNITS: f64 = 16.0;

/// The first element that differs, told; `None` if none does. `noisy` are evaluations with rounding errors.
pub(crate) fn difference(expected: &Array, noisy: &[&Array], got: &Array) -> Option<String> {
    if expected.ty() != got.ty() {
        return Some(format!("gives {}, expected {}", got.ty(), expected.ty()));
    }
    let wrong = |position: &usize| differs(expected, noisy, got, *position);
    let first = (0..got.numel()).find(wrong)?;
    let all = (first..got.numel()).filter(wrong).count();
    let index = unravel(first, got.shape());
    let (x, y) = (expected.get(first), got.get(first));
    Some(format!("{} at {index:?} is {y}, expected {x}; {all} of {} elements differ", got.ty(), got.numel()))
}

fn differs(expected: &Array, noisy: &[&Array], got: &Array, position: usize) -> bool {
    let (x, y) = (expected.get(position), got.get(position));
    if !x.dtype().is_float() {
        // Where rounding decides (a comparison of computed values), either answer is right.
        return x != y && noisy.iter().all(|noisy| noisy.get(position) == x);
    }
    let (x, y) = (x.as_f64(), y.as_f64());
    let around: Vec<f64> = noisy.iter().map(|noisy| noisy.get(position).as_f64()).collect();
    if x.is_nan() || y.is_nan() {
        return x.is_nan() != y.is_nan() && around.iter().all(|z| z.is_nan() == x.is_nan());
    }
    if x.is_infinite() || y.is_infinite() {
        return x != y && around.iter().all(|z| z.is_infinite() == x.is_infinite());
    }
    let spread = around.iter().map(|z| if z.is_finite() { (z - x).abs() } else { f64::INFINITY }).fold(0.0, f64::max);
    let (unit, least) = precision(expected.dtype());
    (x - y).abs() > MARGIN * spread + UNITS * unit * x.abs() + least
}

/// The distance from 1 to the next greater value, and the least normal value.
fn precision(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F64 => (f64::EPSILON, f64::MIN_POSITIVE),
        DType::F32 => (f64::from(f32::EPSILON), f64::from(f32::MIN_POSITIVE)),
        DType::F16 => (1.0 / 1024.0, 1.0 / 16_384.0),
        DType::BF16 => (1.0 / 128.0, f64::from(f32::MIN_POSITIVE)),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => {
            (0.0, 0.0)
        }
    }
}

/// The first result that differs, by number.
pub(crate) fn first_difference(expected: &[Array], noisy: &[Vec<Array>], got: &[Array]) -> Option<(usize, String)> {
    if expected.len() != got.len() {
        return Some((expected.len().min(got.len()), format!("{} results, expected {}", got.len(), expected.len())));
    }
    let told = |(place, (expected, got)): (usize, (&Array, &Array))| {
        let around: Vec<&Array> = noisy.iter().filter_map(|noisy| noisy.get(place)).collect();
        difference(expected, &around, got).map(|told| (place, told))
    };
    expected.iter().zip(got).enumerate().find_map(told)
}
