//! Constant tensors of models as arrays, and ONNX's element types as ours.

use graver_ir::{Array, DType, Scalar, bf16, f16};

use crate::external::External;
use crate::format::{self, Element, Format};
use crate::problem::{Result, unsupported, wrong};
use crate::proto::TensorProto;

/// ONNX's names of element types, by number.
const NAMES: [&str; 27] = [
    "undefined",
    "float",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "double",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
    "float8e8m0",
    "uint2",
    "int2",
];

/// The element type of a number in an ONNX file.
pub(crate) fn dtype(number: i64) -> Result<DType> {
    Ok(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => {
            let known = usize::try_from(number).ok().and_then(|place| NAMES.get(place)).filter(|_| number != 0);
            return match known {
                Some(name) => unsupported(format!("the element type {name}")),
                None => wrong(format!("there is no element type {number}")),
            };
        }
    })
}

/// Elements are in one place.
fn once(tensor: &TensorProto) -> Result<()> {
    let lists = [
        ("raw_data", tensor.raw_data.len()),
        ("float_data", tensor.float_data.len()),
        ("int32_data", tensor.int32_data.len()),
        ("int64_data", tensor.int64_data.len()),
        ("double_data", tensor.double_data.len()),
        ("uint64_data", tensor.uint64_data.len()),
    ];
    let there: Vec<&str> = lists.iter().filter(|(_, count)| *count > 0).map(|(name, _)| *name).collect();
    match there.as_slice() {
        [first, second, ..] => wrong(format!("a tensor whose elements are there twice, in `{first}` and in `{second}`")),
        [] | [_] => Ok(()),
    }
}

/// The elements of a tensor.
pub(crate) fn array(tensor: &TensorProto, external: &External) -> Result<Array> {
    once(tensor)?;
    let dtype = dtype(i64::from(tensor.data_type))?;
    let shape: Option<Vec<usize>> = tensor.dims.iter().map(|size| usize::try_from(*size).ok()).collect();
    let Some(shape) = shape else { return wrong(format!("a tensor of shape {:?}", tensor.dims)) };
    let numel = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let Some(bytes) = numel.and_then(|numel| numel.checked_mul(dtype.size())) else {
        return wrong(format!("a tensor of shape {:?} is larger than memory", tensor.dims));
    };
    let array = if tensor.data_location == 1 {
        outside(dtype, shape, bytes, tensor, external)?
    } else if !tensor.raw_data.is_empty() {
        raw(dtype, shape, &tensor.raw_data)?
    } else {
        listed(dtype, shape, tensor)?
    };
    if array.ty().shape.is_valid() { Ok(array) } else { wrong(format!("a tensor of shape {:?}", tensor.dims)) }
}

/// The elements of a tensor, which may be codes.
pub(crate) fn coded(tensor: &TensorProto, external: &External) -> Result<(Array, Option<Format>)> {
    once(tensor)?;
    let format = match Element::of(i64::from(tensor.data_type))? {
        Element::Plain(_) => return Ok((array(tensor, external)?, None)),
        Element::Coded(format) => format,
    };
    let shape: Option<Vec<usize>> = tensor.dims.iter().map(|size| usize::try_from(*size).ok()).collect();
    let Some(shape) = shape else { return wrong(format!("a tensor of shape {:?}", tensor.dims)) };
    let numel = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let Some(bits) = numel.and_then(|numel| numel.checked_mul(format.bits)) else {
        return wrong(format!("a tensor of shape {:?} is larger than memory", tensor.dims));
    };
    // Codes of integers with a sign may be written as such.
    let listed = || -> Result<Vec<u8>> {
        let words = within::<i64>(format.name, &tensor.int32_data, -0x80, 0xff)?;
        Ok(words.into_iter().map(|word| u8::try_from(word & 0xff).unwrap_or(0)).collect())
    };
    let bytes: Vec<u8> = match (tensor.data_location == 1, tensor.raw_data.is_empty()) {
        (true, _) => {
            let (file, range) = external.part(tensor, bits.div_ceil(8))?;
            file.bytes()[range].to_vec()
        }
        (false, false) => tensor.raw_data.to_vec(),
        (false, true) => listed()?,
    };
    Ok((format::unpacked(format, shape, &bytes)?, Some(format)))
}

/// Elements of a file of their own, which are not copied unless they have to be.
fn outside(dtype: DType, shape: Vec<usize>, bytes: usize, tensor: &TensorProto, external: &External) -> Result<Array> {
    let (file, range) = external.part(tensor, bytes)?;
    if dtype == DType::Bool {
        return raw(dtype, shape, &file.bytes()[range]);
    }
    Ok(Array::from_lender(dtype, shape, &file, range)?)
}

/// Little-endian bytes; any byte but zero is true.
fn raw(dtype: DType, shape: Vec<usize>, bytes: &[u8]) -> Result<Array> {
    if dtype == DType::Bool {
        return Ok(Array::from_vec(shape, bytes.iter().map(|byte| *byte != 0).collect())?);
    }
    Ok(Array::from_bytes(dtype, shape, bytes)?)
}

/// Elements in the list that their type has. Those of narrow types are kept in wider ones, and must be of their own type: nothing is cut off.
fn listed(dtype: DType, shape: Vec<usize>, tensor: &TensorProto) -> Result<Array> {
    let words = || within(dtype.name(), &tensor.int32_data, 0, 0xffff);
    let integers = |least: i32, most: i32| {
        let values = within::<i64>(dtype.name(), &tensor.int32_data, least, most)?;
        scalars(dtype, shape.clone(), values.into_iter())
    };
    Ok(match dtype {
        DType::F32 => Array::from_vec(shape, tensor.float_data.clone())?,
        DType::F64 => Array::from_vec(shape, tensor.double_data.clone())?,
        DType::I64 => Array::from_vec(shape, tensor.int64_data.clone())?,
        DType::I32 => Array::from_vec(shape, tensor.int32_data.clone())?,
        DType::F16 => Array::from_vec(shape, words()?.into_iter().map(f16::from_bits).collect())?,
        DType::BF16 => Array::from_vec(shape, words()?.into_iter().map(bf16::from_bits).collect())?,
        DType::Bool => Array::from_vec(shape, tensor.int32_data.iter().map(|x| *x != 0).collect())?,
        DType::I16 => integers(i32::from(i16::MIN), i32::from(i16::MAX))?,
        DType::I8 => integers(i32::from(i8::MIN), i32::from(i8::MAX))?,
        DType::U16 => integers(0, 0xffff)?,
        DType::U8 => integers(0, 0xff)?,
        DType::U64 => Array::from_vec(shape, tensor.uint64_data.clone())?,
        DType::U32 => {
            let value = |x: &u64| u32::try_from(*x).map(i64::from);
            let values: std::result::Result<Vec<i64>, _> = tensor.uint64_data.iter().map(value).collect();
            match values {
                Ok(values) => scalars(dtype, shape, values.into_iter())?,
                Err(_) => return wrong("`uint64_data` holds what is no uint32"),
            }
        }
    })
}

/// The numbers of `int32_data` as a narrower type's.
fn within<T: TryFrom<i32>>(name: &str, values: &[i32], least: i32, most: i32) -> Result<Vec<T>> {
    let one = |(place, value): (usize, &i32)| match T::try_from(*value) {
        Ok(narrow) if (least..=most).contains(value) => Ok(narrow),
        Ok(_) | Err(_) => wrong(format!("`int32_data` holds {value} at {place}: elements of {name} there are {least} to {most}")),
    };
    values.iter().enumerate().map(one).collect()
}

fn scalars(dtype: DType, shape: Vec<usize>, values: impl Iterator<Item = i64>) -> Result<Array> {
    let values: Vec<Scalar> = values.map(|value| Scalar::int(dtype, value)).collect();
    Ok(Array::from_scalars(dtype, shape, &values)?)
}
