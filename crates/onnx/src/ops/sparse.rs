//! Sparse tensors, which say where they are not zero. They are dense in the program, which makes them: a few bytes of a file may say that
//! there are any number of zeros.

use graver_ir::{Array, DType, Dim, Scalar, Shape, Value};

use super::index::set_rows;
use crate::build::Builder;
use crate::external::External;
use crate::problem::{Result, wrong};
use crate::proto::SparseTensorProto;
use crate::tensor;

/// All elements.
pub(crate) fn dense(b: &mut Builder, sparse: &SparseTensorProto, external: &External) -> Result<Value> {
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
        return wrong("a sparse tensor without values or without positions");
    };
    let (values, indices) = (tensor::array(values, external)?, tensor::array(indices, external)?);
    let places = places(&indices, &values, &sparse.dims)?;
    let shape = Shape(sparse.dims.iter().copied().map(Dim::from).collect());
    let zero = b.constant(Array::full([], Scalar::zero(values.dtype())))?;
    let zeros = b.fill(zero, &Shape(vec![shape.numel()]))?;
    let (places, values) = (b.constant(Array::from_vec([places.len()], places)?)?, b.constant(values)?);
    let all = set_rows(b, zeros, places, values)?;
    b.reshape(all, shape.0)
}

/// The places among all elements: strictly increasing, as they are in the file or as an index for each axis.
fn places(indices: &Array, values: &Array, sizes: &[i64]) -> Result<Vec<i64>> {
    let (rank, count) = (sizes.len(), values.numel());
    let numel = sizes.iter().try_fold(1i64, |product, size| product.checked_mul(*size).filter(|_| *size >= 0));
    let Some(numel) = numel else { return wrong(format!("a sparse tensor of shape {sizes:?}")) };
    let Some(numbers) = indices.as_slice::<i64>().filter(|_| indices.dtype() == DType::I64 && values.shape().len() == 1) else {
        return wrong(format!("a sparse tensor of the values {} at {}", values.ty(), indices.ty()));
    };
    let places: Option<Vec<i64>> = match *indices.shape() {
        [places] if places == count => Some(numbers.to_vec()),
        [places, axes] if places == count && axes == rank && rank > 0 => {
            numbers.chunks(rank).map(|at| place(at, sizes)).collect()
        }
        _ => return wrong(format!("positions {} of {count} values of a tensor of shape {sizes:?}", indices.ty())),
    };
    match places.filter(|places| places.iter().all(|place| (0..numel).contains(place)) && places.is_sorted_by(|x, y| x < y)) {
        Some(places) => Ok(places),
        None => wrong(format!("positions of a sparse tensor that are outside of {sizes:?}, or not in order")),
    }
}

/// The place of an element among all; nothing if it is outside.
fn place(index: &[i64], sizes: &[i64]) -> Option<i64> {
    index.iter().zip(sizes).try_fold(0, |place, (at, size)| (0..*size).contains(at).then(|| place * size + at))
}
