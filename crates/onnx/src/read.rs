//! Model files, which are hostile: their size, their nesting and the number of their messages are bounded before anything is decoded,
//! so that memory is bounded by a multiple of the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use graver_ir::{Array, Diag};
use graver_runtime::lfs_pointer;
use prost::Message;

use crate::external::External;
use crate::problem::{Failure, Problem};
use crate::proto::{ModelProto, TensorProto};
use crate::tensor;

/// The greatest file that protobuf allows.
const MAX_FILE: u64 = 1 << 31;
/// The most fields of their own length: messages, texts, lists. A decoded one takes some two hundred bytes.
const MAX_FIELDS: usize = 1 << 21;
/// The deepest nesting of messages; prost's own limit is 100.
const MAX_DEPTH: usize = 64;

/// Reads and decodes a model file.
///
/// # Errors
/// If it cannot be read, is too large, or is no ONNX model.
pub fn read_file(path: &Path) -> Result<ModelProto, Diag> {
    decode(bytes(path)?.into())
}

/// The bytes of a file.
fn bytes(path: &Path) -> Result<Vec<u8>, Diag> {
    let failed = |why: std::io::Error| Diag::new(format!("cannot read: {why}"));
    // Before it is opened: who opens a pipe waits for whoever writes to it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Diag::new("cannot read: it is not a file"));
    }
    let file = File::open(path).map_err(failed)?;
    let too_long =
        || Diag::new(format!("more bytes than a model file may have ({MAX_FILE})")).help("keep weights as external data");
    let length = file.metadata().map_err(failed)?.len();
    let length = usize::try_from(length).ok().filter(|length| *length as u64 <= MAX_FILE).ok_or_else(too_long)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Diag::new(format!("cannot read: there is no memory for {length} bytes")))?;
    // A file that grows meanwhile is read to the length that it had.
    file.take(length as u64).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Reads a tensor from a file of its own, as ONNX's test data has them.
///
/// # Errors
/// If it cannot be read, is no tensor, or has an element type that is not supported.
pub fn read_tensor(path: &Path) -> Result<Array, Failure> {
    let failed = |why: String| Failure::from(Diag::new(why));
    let bytes = bytes(path)?;
    if let Some(diag) = lfs_pointer(&bytes) {
        return Err(diag.into());
    }
    let mut budget = MAX_FIELDS;
    check(&bytes, Kind::Tensor, MAX_DEPTH, &mut budget).map_err(|what| failed(format!("not a tensor: {what}")))?;
    let tensor = TensorProto::decode(Bytes::from(bytes)).map_err(|why| failed(format!("not a tensor: {why}")))?;
    match tensor::coded(&tensor, &External::default()).map(|(array, _)| array) {
        Ok(array) => Ok(array),
        Err(Problem::Unsupported(diag)) => Err(Failure::Unsupported(diag.into())),
        Err(Problem::Wrong(diag) | Problem::Unknown(_, diag)) => Err(Failure::Invalid(diag.into())),
        Err(Problem::Assume(..)) => Err(failed("a tensor of symbols".to_owned())),
    }
}

/// Decodes a model. Weights are not copied: they stay parts of `bytes`.
///
/// # Errors
/// If the bytes are no ONNX model.
pub fn decode(bytes: Bytes) -> Result<ModelProto, Diag> {
    if let Some(diag) = lfs_pointer(&bytes) {
        return Err(diag);
    }
    let mut budget = MAX_FIELDS;
    check(&bytes, Kind::Model, MAX_DEPTH, &mut budget).map_err(|what| Diag::new(format!("not an ONNX model: {what}")))?;
    let model = ModelProto::decode(bytes).map_err(|why| Diag::new(format!("not an ONNX model: {why}")))?;
    if model.graph.is_none() {
        return Err(Diag::new("not an ONNX model: it has no graph"));
    }
    Ok(model)
}

/// A message that holds messages.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Sparse,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Leaf,
}

/// What a field of a message holds, as in [`crate::proto`].
const fn child(kind: Kind, field: u64) -> Option<Kind> {
    match (kind, field) {
        (Kind::Model, 7) | (Kind::Attribute, 6) => Some(Kind::Graph),
        (Kind::Model, 25) => Some(Kind::Function),
        (Kind::Graph, 1) | (Kind::Function, 7) => Some(Kind::Node),
        (Kind::Graph, 5) | (Kind::Attribute, 5) | (Kind::Sparse, 1 | 2) => Some(Kind::Tensor),
        (Kind::Graph, 15) | (Kind::Attribute, 22) => Some(Kind::Sparse),
        (Kind::Graph, 11 | 12) => Some(Kind::ValueInfo),
        (Kind::Function, 11) | (Kind::Node, 5) => Some(Kind::Attribute),
        (Kind::ValueInfo, 2) => Some(Kind::Type),
        (Kind::Type, 1) => Some(Kind::TensorType),
        (Kind::TensorType, 2) => Some(Kind::Shape),
        (Kind::Model, 8) | (Kind::Function, 9) | (Kind::Tensor, 13) | (Kind::Shape, 1) | (Kind::Type, _) => Some(Kind::Leaf),
        _ => None,
    }
}

/// Walks the fields of a message without keeping anything.
fn check(mut bytes: &[u8], kind: Kind, depth: usize, budget: &mut usize) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or_else(|| format!("messages nest deeper than {MAX_DEPTH}"))?;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => varint(&mut bytes).map(drop)?,
            1 => skip(&mut bytes, 8).map(drop)?,
            5 => skip(&mut bytes, 4).map(drop)?,
            2 => {
                *budget = budget.checked_sub(1).ok_or_else(|| format!("more than {MAX_FIELDS} fields"))?;
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| "a field is longer than memory")?;
                let field = skip(&mut bytes, length)?;
                if let Some(kind) = child(kind, tag >> 3) {
                    check(field, kind, depth, budget)?;
                }
            }
            wire => return Err(format!("a field of wire type {wire}")),
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or("it ends inside a number")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number of more than ten bytes".to_owned())
}

fn skip<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (field, rest) = bytes.split_at_checked(length).ok_or("it ends inside a field")?;
    *bytes = rest;
    Ok(field)
}
