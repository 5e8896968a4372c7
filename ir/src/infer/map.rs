//! Types of maps: operands of one shape, element types by the scalar table.

use super::{Inferred, operands};
use crate::dtype::DType;
use crate::error::Diag;
use crate::scalar::ScalarFn;
use crate::ty::Type;

/// All operands have one shape; the element types satisfy the function's rule.
pub(super) fn function(function: ScalarFn, args: &[&Type]) -> Inferred {
    let dtypes: Vec<DType> = args.iter().map(|ty| ty.dtype).collect();
    let dtype = function.infer(&dtypes).map_err(Diag::new)?;
    let first = args[0];
    match args.iter().find(|ty| ty.shape != first.shape) {
        Some(other) => Err(Diag::new(format!("shapes differ: {first} and {other}")).help("broadcast one of them")),
        None => Ok(vec![first.with_dtype(dtype)]),
    }
}

/// Any element type to any other.
pub(super) fn cast(dtype: DType, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    Ok(vec![x.with_dtype(dtype)])
}

/// An element type to another of the same size. Bits of 16-bit floats are not at hand, which are computed in wider ones; a bool has no other
/// bits than 0 and 1.
pub(super) fn bitcast(dtype: DType, args: &[&Type]) -> Inferred {
    let [x] = operands(args)?;
    let from = x.dtype;
    let is_float = [from.is_float(), dtype.is_float()];
    let help = match () {
        () if from.size() != dtype.size() => format!("{from} has {} bytes and {dtype} {}", from.size(), dtype.size()),
        () if is_float == [true; 2] => "cast it".to_owned(),
        () if is_float != [false; 2] && from.size() == 2 => "16-bit floats are computed in wider ones".to_owned(),
        () if dtype == DType::Bool && from != dtype => "compare it with 0".to_owned(),
        () => return Ok(vec![x.with_dtype(dtype)]),
    };
    Err(Diag::new(format!("the bits of {x} as {dtype}")).help(help))
}
