//! JSON files of bounded size and with bounded numbers.

use std::path::Path;

use graver_ir::{Diag, Error};
use graver_runtime::lfs_pointer;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// More than any configuration, index or vocabulary has.
const MAX_BYTES: u64 = 1 << 28;

/// No size in a configuration is larger, so that products of two never overflow.
const MAX_NUMBER: u64 = 1 << 31;

/// The bytes of a file, unless it is absurdly large.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let found = std::fs::metadata(path).map_err(|error| wrong(path, &error))?;
    if !found.is_file() {
        return Err(wrong(path, &"is no file"));
    }
    if found.len() > MAX_BYTES {
        return Err(wrong(path, &format!("has {} bytes, and more than {MAX_BYTES} are not read", found.len())));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(path, &error))?;
    lfs_pointer(&bytes).map_or(Ok(bytes), |diag| Err(wrong(path, &diag)))
}

/// A JSON file.
pub(crate) fn value(path: &Path) -> Result<Value, Error> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| wrong(path, &error))
}

/// A configuration, whose integers are sizes.
pub(crate) fn config<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    sized(value(path)?).map_err(|error| wrong(path, &error))
}

/// A JSON value as a type whose integers are sizes: at most 2^31, so that products of two never overflow. What the type has no field for
/// may be any number, and so may a number that need not be whole.
///
/// ```
/// use serde_json::json;
/// assert_eq!(graver_hub::sized::<[usize; 2]>(json!([3, 4]))?, [3, 4]);
/// let error = graver_hub::sized::<usize>(json!(u64::MAX)).unwrap_err().to_string();
/// assert_eq!(error, "is 18446744073709551615, and sizes are at most 2147483648");
/// assert_eq!(graver_hub::sized::<f64>(json!(10_000_000_000u64))?, 1e10);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
/// If it is of another type, or a size is larger.
pub fn sized<T: DeserializeOwned>(value: Value) -> serde_json::Result<T> {
    let large = largest(&value).filter(|number| *number > MAX_NUMBER);
    let Some(large) = large else { return serde_json::from_value(value) };
    serde_json::from_value(without_large(value.clone())).map_err(|error| match serde_json::from_value::<T>(value) {
        Ok(_) => serde::de::Error::custom(format!("is {large}, and sizes are at most {MAX_NUMBER}")),
        Err(_) => error,
    })
}

fn largest(value: &Value) -> Option<u64> {
    match value {
        Value::Object(fields) => fields.values().filter_map(largest).max(),
        Value::Array(values) => values.iter().filter_map(largest).max(),
        Value::Number(number) => number.as_u64(),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

/// Integers that are no sizes as floats, which no type takes for a whole number.
fn without_large(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, without_large(value))).collect(),
        Value::Array(values) => values.into_iter().map(without_large).collect(),
        Value::Number(number) if number.as_u64().is_some_and(|number| number > MAX_NUMBER) => number.as_f64().into(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

pub(crate) fn wrong(path: &Path, what: &dyn std::fmt::Display) -> Error {
    Diag::new(what.to_string()).op(path.display().to_string()).into()
}
