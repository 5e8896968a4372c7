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
