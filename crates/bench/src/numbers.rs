//! Weights, data and expected results: from a safetensors file, or of our own seeds.
//!
//! A file has the weights under their names, the data as `data.0`, `data.1` .., and, where a reference ran it, `expect.losses`
//! (the losses of the first steps) or `expect.mean` (the mean magnitude of the results).

use std::path::Path;

use graver::nn::{Checkpoint, Fill};
use graver::prelude::*;

/// How far the loss of the first step, or a result's mean magnitude, may be from what is expected, relatively.
const FIRST: f64 = 1e-5;
/// How far the loss of the third step may be: the updates' roundings add up.
const THIRD: f64 = 1e-3;

/// Where a case's numbers come from.
pub(crate) struct Numbers {
    file: Option<Checkpoint>,
    init: Init,
}

impl Numbers {
    /// `folder/case.safetensors`, or our own.
    pub(crate) fn open(folder: Option<&Path>, case: &str) -> Result<Self, Error> {
        let file = folder.map(|folder| Checkpoint::map(folder.join(format!("{case}.safetensors")))).transpose()?;
        Ok(Self { file, init: Init::seed(1) })
    }

    /// The seeds of our own weights.
    pub(crate) fn init(&self) -> Init {
        Init::seed(0)
    }

    /// Gives a model the file's weights. Counters of batches, which files may lack, are left as they are.
    pub(crate) fn fill<M: graver::trace::Module>(&self, model: &mut M) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        let weights = file.arrays.iter().filter(|(name, _)| !name.starts_with("data.") && !name.starts_with("expect."));
        let weights =
            Checkpoint { arrays: weights.map(|(name, array)| (name.clone(), array.clone())).collect(), ..Checkpoint::default() };
        let mut differences = model.load_fitting(&weights)?;
        differences.missing.retain(|name| !name.ends_with("num_batches_tracked"));
        if differences.is_empty() { Ok(()) } else { Err(Error::new(format!("the file's weights do not fit: {differences:?}"))) }
    }

    /// The file's floats `data.place`, or normal ones of this shape.
    pub(crate) fn floats(&mut self, place: usize, shape: &[usize]) -> Result<Array, Error> {
        match self.data(place, DType::F32, shape)? {
            Some(array) => Ok(array),
            None => Ok(self.init.array(Fill::Normal { mean: 0.0, std: 1.0 }, shape)),
        }
    }

    /// The file's integers `data.place`, or some of this shape below a bound.
    pub(crate) fn integers(&mut self, place: usize, shape: &[usize], below: i64) -> Result<Array, Error> {
        match self.data(place, DType::I64, shape)? {
            Some(array) => Ok(array),
            None => {
                let uniform = self.init.array(Fill::Uniform { low: 0.0, high: 1.0 }, shape).to_f64();
                let whole = |x: f64| Scalar::int(DType::I64, (x * below as f64) as i64 % below);
                Ok(Array::from_fn(DType::I64, shape, |place| whole(uniform[place])))
            }
        }
    }

    fn data(&self, place: usize, dtype: DType, shape: &[usize]) -> Result<Option<Array>, Error> {
        let Some(file) = &self.file else { return Ok(None) };
        match file.arrays.get(&format!("data.{place}")) {
            Some(array) if array.dtype() == dtype && array.shape() == shape => Ok(Some(array.clone())),
            found => Err(Error::new(format!("data.{place} must be {dtype}{shape:?}, got {:?}", found.map(Array::ty)))),
        }
    }

    /// Whether there is something to compare with.
    pub(crate) fn has_expectations(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.arrays.keys().any(|name| name.starts_with("expect.")))
    }

    /// What of the first calls' results differs from what is expected.
    pub(crate) fn wrong(&self, seen: &[f64]) -> Option<String> {
        let file = self.file.as_ref()?;
        let expected = |name: &str| file.arrays.get(name).map(Array::to_f64).unwrap_or_default();
        let (losses, mean) = (expected("expect.losses"), expected("expect.mean"));
        let compared = [
            ("the first loss", losses.first(), seen.first(), FIRST),
            ("the third loss", losses.get(2), seen.get(2), THIRD),
            ("the mean magnitude of the results", mean.first(), seen.first(), FIRST),
        ];
        let differs = |(what, expected, seen, tolerance): &(&str, Option<&f64>, Option<&f64>, f64)| {
            let (expected, seen) = ((*expected)?, seen.copied().unwrap_or(f64::NAN));
            // So written, NaN differs.
            let same = (seen - expected).abs() <= tolerance * expected.abs();
            (!same).then(|| format!("{what} is {seen}, expected {expected} within {tolerance:e}"))
        };
        compared.iter().find_map(differs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expecting(losses: [f64; 3]) -> Numbers {
        let losses = Array::from_vec([3], losses.to_vec()).expect("three");
        let file = Checkpoint { arrays: [("expect.losses".to_owned(), losses)].into(), ..Checkpoint::default() };
        Numbers { file: Some(file), init: Init::seed(0) }
    }

    #[test]
    fn what_differs_from_what_is_expected_is_told() {
        let numbers = expecting([2.0, 1.9, 1.8]);
        assert_eq!(numbers.wrong(&[2.000_01, 0.0, 1.801]), None);
        let first = numbers.wrong(&[2.000_03, 1.9, 1.8]).expect("it differs");
        assert!(first.contains("the first loss is 2.00003, expected 2"), "{first}");
        assert!(numbers.wrong(&[2.0, 1.9, 1.79]).is_some_and(|third| third.contains("third")));
        assert!(numbers.wrong(&[f64::NAN, 1.9, 1.8]).is_some() && numbers.wrong(&[2.0]).is_some());
    }
}
