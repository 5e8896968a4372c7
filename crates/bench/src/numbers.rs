//! Weights, data and expected results: from a safetensors file, or of our own seeds.
//!
//! A file has the weights under their names, the data as `data.0`, `data.1` .., and, where a reference ran it, `expect.losses`
//! (the losses of the first steps), `expect.mean` (the mean magnitude of the results) or the results themselves as `expect.0`,
//! `expect.1` ...

use std::path::Path;

use graver::nn::{Checkpoint, Fill};
use graver::prelude::*;

/// How far the loss of the first step, or a result's mean magnitude, may be from what is expected, relatively.
const FIRST: f64 = 1e-5;
/// How far the loss of the third step may be: the updates' roundings add up.
const THIRD: f64 = 1e-3;

/// How far an element of a result may be from what is expected, as a share of that result's greatest magnitude.
const ELEMENT: f64 = 1e-4;

/// How far results are from what is expected: the farthest element of all, and the farthest as a share of its result's greatest
/// magnitude.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Errors {
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
}

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
            // Copied: arguments lie where those of any caller do, not in a file.
            Some(array) if array.dtype() == dtype && array.shape() == shape => {
                Ok(Some(Array::from_bytes(dtype, shape, array.bytes())?))
            }
            found => Err(Error::new(format!("data.{place} must be {dtype}{shape:?}, got {:?}", found.map(Array::ty)))),
        }
    }

    /// Whether there is something to compare with.
    pub(crate) fn has_expectations(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.arrays.keys().any(|name| name.starts_with("expect.")))
    }

    /// How far results are from those that the file has, if it has some.
    pub(crate) fn errors(&self, results: &[Array]) -> Result<Option<Errors>, Error> {
        let Some(file) = &self.file else { return Ok(None) };
        let expected: Vec<&Array> = (0..).map_while(|place| file.arrays.get(&format!("expect.{place}"))).collect();
        if expected.is_empty() {
            return Ok(None);
        }
        let types = |arrays: &mut dyn Iterator<Item = &Array>| arrays.map(|array| array.ty().to_string()).collect::<Vec<_>>();
        let (got, told) = (types(&mut results.iter()), types(&mut expected.iter().copied()));
        if got != told {
            return Err(Error::new(format!("results are {got:?}, where the file expects {told:?}")));
        }
        Ok(Some(results.iter().zip(expected).fold(Errors::default(), |worst, (result, expected)| worst.and(result, expected))))
    }

    /// What of the first calls' results differs from what is expected.
    pub(crate) fn wrong(&self, seen: &[f64], errors: Option<Errors>) -> Option<String> {
        let file = self.file.as_ref()?;
        // So written, NaN differs.
        let is_right = |errors: &Errors| errors.relative <= ELEMENT;
        if let Some(errors) = errors.filter(|errors| !is_right(errors)) {
            let Errors { absolute, relative } = errors;
            return Some(format!(
                "a result is {absolute:e} from what is expected, {relative:e} of the greatest, allowed are {ELEMENT:e}"
            ));
        }
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

impl Errors {
    /// The worse of these and a result's.
    fn and(self, result: &Array, expected: &Array) -> Self {
        let greatest = elements(expected).fold(0.0, |most: f64, x| most.max(x.abs()));
        let far = elements(result).zip(elements(expected)).fold(0.0, |most, (x, y)| worse(most, (x - y).abs()));
        let share = if far > 0.0 { far / greatest } else { far };
        Self { absolute: worse(self.absolute, far), relative: worse(self.relative, share) }
    }
}

/// The greater; NaN is greater than any.
fn worse(x: f64, y: f64) -> f64 {
    if x >= y || x.is_nan() { x } else { y }
}

/// Elements of any type, without a copy of the whole where they are of the usual one.
pub(crate) fn elements(array: &Array) -> Box<dyn Iterator<Item = f64> + '_> {
    match array.as_slice::<f32>() {
        Some(elements) => Box::new(elements.iter().map(|x| f64::from(*x))),
        None => Box::new(array.to_f64().into_iter()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expecting(name: &str, values: &[f64]) -> Numbers {
        let values = Array::from_vec([values.len()], values.to_vec()).expect("as many as there are");
        let file = Checkpoint { arrays: [(name.to_owned(), values)].into(), ..Checkpoint::default() };
        Numbers { file: Some(file), init: Init::seed(0) }
    }

    #[test]
    fn what_differs_from_what_is_expected_is_told() {
        let numbers = expecting("expect.losses", &[2.0, 1.9, 1.8]);
        let wrong = |seen: &[f64]| numbers.wrong(seen, None);
        assert_eq!(wrong(&[2.000_01, 0.0, 1.801]), None);
        let first = wrong(&[2.000_03, 1.9, 1.8]).expect("it differs");
        assert!(first.contains("the first loss is 2.00003, expected 2"), "{first}");
        assert!(wrong(&[2.0, 1.9, 1.79]).is_some_and(|third| third.contains("third")));
        assert!(wrong(&[f64::NAN, 1.9, 1.8]).is_some() && wrong(&[2.0]).is_some());
    }

    #[test]
    fn results_are_compared_element_by_element() {
        let numbers = expecting("expect.0", &[4.0, -8.0, 0.0]);
        let errors = |values: &[f64]| numbers.errors(&[Array::from_vec([values.len()], values.to_vec()).expect("they fit")]);
        let near = errors(&[4.0, -8.0, 2e-4]).expect("of the same type").expect("there is something to compare with");
        assert_eq!(near, Errors { absolute: 2e-4, relative: 2e-4 / 8.0 });
        assert_eq!(numbers.wrong(&[], Some(near)), None);
        for far in [[4.0, -8.0, 2e-3], [f64::NAN, -8.0, 0.0], [4.0, f64::INFINITY, 0.0]] {
            let far = errors(&far).expect("of the same type");
            assert!(numbers.wrong(&[], far).is_some_and(|told| told.contains("of the greatest")), "{far:?}");
        }
        assert!(errors(&[4.0, -8.0]).is_err_and(|error| error.to_string().contains("f64[2]")));
        assert!(expecting("expect.mean", &[1.0]).errors(&[]).is_ok_and(|errors| errors.is_none()));
    }
}
