//! JSON files of bounded size and with bounded numbers.

use std::path::Path;

use graver_ir::{Diag, Error};
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
    std::fs::read(path).map_err(|error| wrong(path, &error))
}

/// A JSON file.
pub(crate) fn value(path: &Path) -> Result<Value, Error> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| wrong(path, &error))
}

/// A configuration, whose integers are sizes.
pub(crate) fn config<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let value = value(path)?;
    let mut large = Vec::new();
    find_large(&value, "", &mut large);
    let diags = large.into_iter().map(|(field, number)| {
        Diag::new(format!("`{field}` is {number}, and sizes are at most {MAX_NUMBER}")).op(path.display().to_string())
    });
    match Error::from_diags(diags.take(20).collect()) {
        Some(error) => Err(error),
        None => serde_json::from_value(value).map_err(|error| wrong(path, &error)),
    }
}

fn find_large(value: &Value, path: &str, large: &mut Vec<(String, u64)>) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| find_large(value, &join(name), large)),
        Value::Array(values) => values.iter().for_each(|value| find_large(value, path, large)),
        Value::Number(number) => large.extend(number.as_u64().filter(|n| *n > MAX_NUMBER).map(|n| (path.to_owned(), n))),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

pub(crate) fn wrong(path: &Path, what: &dyn std::fmt::Display) -> Error {
    Diag::new(what.to_string()).op(path.display().to_string()).into()
}
