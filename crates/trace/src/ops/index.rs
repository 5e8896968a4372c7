//! Values that come from positions, and positions that come from values: constants, counting, gathers.

use graver_ir::op::{DynamicSlice, GatherAxes, Iota, Scatter, ScatterKind, SliceAxis, Sort};
use graver_ir::{Array, DType, Dim, Element, Op, Scalar, ScalarFn, Shape};

use super::map::{broadcast_pair, map, stretch};
use super::movement::{narrow, permute_to, reshape_to};
use super::scatter::last;
use crate::context::{Traced, done, done_all, emit, wrong};
use crate::size::{Dims, Size, whole_shape};
use crate::tensor::{Axis, Operand, Tensor};

/// A number as a scalar tensor.
#[track_caller]
pub(crate) fn constant(value: Scalar) -> Traced {
    emit(Op::Const(Array::full([], value)), &[])
}

/// A size as a scalar tensor.
#[track_caller]
pub(crate) fn size_like(dim: &Dim, dtype: DType) -> Traced {
    match dim.as_const() {
        Some(number) => constant(Scalar::int(dtype, number)),
        None => {
            let size = emit(Op::Size(dim.clone()), &[])?;
            if dtype == DType::I64 { Ok(size) } else { emit(Op::Cast(dtype), &[size]) }
        }
    }
}

#[track_caller]
fn filled(dims: &dyn Dims, value: Scalar) -> Traced {
    let shape = whole_shape(dims)?;
    stretch(constant(value)?, &shape)
}

#[track_caller]
pub(crate) fn iota_of(dtype: DType, shape: Shape, axis: usize) -> Traced {
    emit(Op::Iota(Iota { dtype, shape, axis }), &[])
}

#[track_caller]
fn index_select(x: Tensor, axis: Axis, index: Tensor) -> Traced {
    let axis = axis.of(&x.ty()?)?;
    emit(Op::Gather(GatherAxes { axis, batch: 0 }), &[x, index])
}

/// Both with `axis` last, gathered row by row, and put back.
#[track_caller]
fn gather(x: Tensor, axis: Axis, index: Tensor) -> Traced {
    let (ty, index_ty) = (x.ty()?, index.ty()?);
    let axis = axis.of(&ty)?;
    if index_ty.rank() != ty.rank() || index_ty.shape.without(&[axis]) != ty.shape.without(&[axis]) {
        return wrong(format!("{ty} and the index {index_ty} differ in more than axis {axis}"));
    }
    let rows = ty.rank() - 1;
    let (order, back) = last(ty.rank(), axis);
    let (x, index) = (permute_to(x, order.clone())?, permute_to(index, order)?);
    permute_to(emit(Op::Gather(GatherAxes { axis: rows, batch: rows }), &[x, index])?, back)
}

#[track_caller]
fn scatter(kind: ScatterKind, x: Tensor, axis: Axis, index: Tensor, update: Tensor) -> Traced {
    let axis = axis.of(&x.ty()?)?;
    emit(Op::Scatter(Scatter { kind, at: GatherAxes { axis, batch: 0 } }), &[x, index, update])
}

/// The position as the graph has it.
#[track_caller]
fn start(at: Tensor) -> Traced {
    let ty = at.ty()?;
    if ty.rank() != 0 || !ty.dtype.is_int() {
        return wrong(format!("a position is one integer, got {ty}"));
    }
    if ty.dtype == DType::I64 { Ok(at) } else { emit(Op::Cast(DType::I64), &[at]) }
}

#[track_caller]
fn narrow_at(x: Tensor, axis: Axis, at: Tensor, length: Size) -> Traced {
    let axis = axis.of(&x.ty()?)?;
    let slice = DynamicSlice { axes: vec![axis], sizes: vec![length.to_dim()?] };
    emit(Op::DynamicSlice(slice), &[x, start(at)?])
}

#[track_caller]
fn replace_at(x: Tensor, axis: Axis, at: Tensor, update: Tensor) -> Traced {
    let axis = axis.of(&x.ty()?)?;
    emit(Op::DynamicUpdate(vec![axis]), &[x, update, start(at)?])
}

#[track_caller]
fn argsort(x: Tensor, axis: Axis, descending: bool) -> Traced {
    let axis = axis.of(&x.ty()?)?;
    emit(Op::Sort(Sort { axis, descending }), &[x])
}

/// Values and positions of the first `count` in order.
#[track_caller]
fn ordered(x: Tensor, axis: Axis, count: Option<Size>, descending: bool) -> Traced<[Tensor; 2]> {
    let at = axis.of(&x.ty()?)?;
    let mut order = argsort(x, axis, descending)?;
    if let Some(count) = count {
        order = narrow(order, at, SliceAxis { start: Dim::ZERO, size: count.to_dim()?, step: 1 })?;
    }
    Ok([gather(x, axis, order)?, order])
}

#[track_caller]
fn one_hot(index: Tensor, classes: Size, dtype: DType) -> Traced {
    let ty = index.ty()?;
    let mut shape = ty.shape.clone();
    shape.0.push(classes.to_dim()?);
    let axis = ty.rank();
    let place = iota_of(ty.dtype, shape, axis)?;
    let mut column = ty.shape;
    column.0.push(Dim::ONE);
    let (index, place) = broadcast_pair(reshape_to(index, column)?, place)?;
    emit(Op::Cast(dtype), &[map(ScalarFn::Eq, &[index, place])?])
}

/// Which triangle of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Triangle {
    Lower,
    Upper,
}

#[track_caller]
fn triangle(x: Tensor, which: Triangle, diagonal: i64) -> Traced {
    let ty = x.ty()?;
    let Some(row_axis) = ty.rank().checked_sub(2) else { return wrong(format!("takes matrices, got {ty}")) };
    let matrix = Shape(ty.shape[row_axis..].to_vec());
    let (row, column) = (iota_of(DType::I64, matrix.clone(), 0)?, iota_of(DType::I64, matrix.clone(), 1)?);
    let shift = stretch(constant(Scalar::int(DType::I64, diagonal))?, &matrix)?;
    let limit = map(ScalarFn::Add, &[row, shift])?;
    let order = match which {
        Triangle::Lower => ScalarFn::Le,
        Triangle::Upper => ScalarFn::Ge,
    };
    let keep = stretch(map(order, &[column, limit])?, &ty.shape)?;
    let zero = stretch(constant(Scalar::zero(ty.dtype))?, &ty.shape)?;
    map(ScalarFn::Select, &[keep, x, zero])
}

impl Tensor {
    /// Slices of `x` at positions along `axis`; the axes of `index`, any number of integers, take its place.
    /// A position out of range is an error of the call.
    #[must_use]
    #[track_caller]
    pub fn index_select(self, axis: impl Into<Axis>, index: Self) -> Self {
        done("index_select", index_select(self, axis.into(), index))
    }

    /// Rows of this table `[entries, width]` for ids of any shape `[..]`: `[.., width]`. An id out of range is an error of the call.
    #[must_use]
    #[track_caller]
    pub fn embedding(self, ids: Self) -> Self {
        done("embedding", index_select(self, 0.into(), ids))
    }

    /// For every element of `index` the element of `x` at that position along `axis` and the same place otherwise;
    /// sizes but for that axis agree. A position out of range is an error of the call.
    #[must_use]
    #[track_caller]
    pub fn gather(self, axis: impl Into<Axis>, index: Self) -> Self {
        done("gather", gather(self, axis.into(), index))
    }

    /// `x` with each slice of `update` added at its position along `axis`. `update` has the shape that [`Tensor::index_select`] gives.
    #[must_use]
    #[track_caller]
    pub fn index_add(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("index_add", scatter(ScatterKind::Add, self, axis.into(), index, update))
    }

    /// `x` with each slice of `update` in the place of that at its position along `axis`; of several at one position the last.
    #[must_use]
    #[track_caller]
    pub fn index_copy(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("index_copy", scatter(ScatterKind::Set, self, axis.into(), index, update))
    }

    /// `x` with each slice multiplied by those of `update` at its position along `axis`.
    #[must_use]
    #[track_caller]
    pub fn index_mul(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("index_mul", scatter(ScatterKind::Mul, self, axis.into(), index, update))
    }

    /// `x` with the greatest of each element and of those of `update` at its position along `axis`; NaN if any is NaN.
    #[must_use]
    #[track_caller]
    pub fn index_max(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("index_max", scatter(ScatterKind::Max, self, axis.into(), index, update))
    }

    /// `x` with the least of each element and of those of `update` at its position along `axis`; NaN if any is NaN.
    #[must_use]
    #[track_caller]
    pub fn index_min(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("index_min", scatter(ScatterKind::Min, self, axis.into(), index, update))
    }

    /// `length` elements of one axis from a position that is a value: [`Tensor::narrow`] where it is a size. The length must be known to be no
    /// more than the axis has. Elements that leave the axis are an error of the call.
    #[must_use]
    #[track_caller]
    pub fn narrow_at(self, axis: impl Into<Axis>, start: Self, length: impl Into<Size>) -> Self {
        done("narrow_at", narrow_at(self, axis.into(), start, length.into()))
    }

    /// `x` with `update` in the place of as many elements of one axis, from a position that is a value (a size: [`size_value`]). The update
    /// must be known to be no longer than the axis; one that leaves it is an error of the call. Nothing is copied where `x` is not needed
    /// any more, or is state that is left with the result.
    #[must_use]
    #[track_caller]
    pub fn replace_at(self, axis: impl Into<Axis>, start: Self, update: Self) -> Self {
        done("replace_at", replace_at(self, axis.into(), start, update))
    }

    /// Positions along `axis` in the order of their elements, the least first, or the greatest. Equal elements keep their order; NaN comes last.
    #[must_use]
    #[track_caller]
    pub fn argsort(self, axis: impl Into<Axis>, descending: bool) -> Self {
        done("argsort", argsort(self, axis.into(), descending))
    }

    /// The elements in order along `axis`, and the positions that they come from: as [`Tensor::argsort`].
    #[must_use]
    #[track_caller]
    pub fn sort(self, axis: impl Into<Axis>, descending: bool) -> (Self, Self) {
        done_all("sort", ordered(self, axis.into(), None, descending)).into()
    }

    /// The `count` greatest elements along `axis`, the greatest first, and their positions. Equal elements keep their order; NaN comes last.
    #[must_use]
    #[track_caller]
    pub fn top_k(self, axis: impl Into<Axis>, count: impl Into<Size>) -> (Self, Self) {
        done_all("top_k", ordered(self, axis.into(), Some(count.into()), true)).into()
    }

    /// 1 at each position and 0 elsewhere, along a new last axis of `classes`. A position out of range gives zeros.
    #[must_use]
    #[track_caller]
    pub fn one_hot(self, classes: impl Into<Size>, dtype: DType) -> Self {
        done("one_hot", one_hot(self, classes.into(), dtype))
    }

    /// The lower triangle of matrices, zeros elsewhere; `diagonal` moves the border up.
    #[must_use]
    #[track_caller]
    pub fn tril(self, diagonal: i64) -> Self {
        done("tril", triangle(self, Triangle::Lower, diagonal))
    }

    /// The upper triangle of matrices, zeros elsewhere; `diagonal` moves the border up.
    #[must_use]
    #[track_caller]
    pub fn triu(self, diagonal: i64) -> Self {
        done("triu", triangle(self, Triangle::Upper, diagonal))
    }

    /// Zeros of the type of `x`.
    #[must_use]
    #[track_caller]
    pub fn zeros_like(self) -> Self {
        self.full_like(0)
    }

    /// Ones of the type of `x`.
    #[must_use]
    #[track_caller]
    pub fn ones_like(self) -> Self {
        self.full_like(1)
    }

    /// A number at every place of the type of `x`.
    #[must_use]
    #[track_caller]
    pub fn full_like(self, value: impl Operand) -> Self {
        let value = value.beside(self);
        done("full_like", fill_like(self, value))
    }
}

#[track_caller]
fn fill_like(x: Tensor, value: Tensor) -> Traced {
    stretch(value, &x.ty()?.shape)
}

/// A constant array.
#[must_use]
#[track_caller]
pub fn constant_array(array: &Array) -> Tensor {
    done("constant", emit(Op::Const(array.clone()), &[]))
}

/// A scalar constant: `scalar(1.0f32)`.
#[must_use]
#[track_caller]
pub fn scalar<E: Element>(value: E) -> Tensor {
    done("constant", constant(value.to_scalar()))
}

/// One number at every place.
#[must_use]
#[track_caller]
pub fn full<E: Element>(shape: impl Dims, value: E) -> Tensor {
    done("full", filled(&shape, value.to_scalar()))
}

/// Zeros of an element type.
#[must_use]
#[track_caller]
pub fn zeros(shape: impl Dims, dtype: DType) -> Tensor {
    done("zeros", filled(&shape, Scalar::zero(dtype)))
}

/// Ones of an element type.
#[must_use]
#[track_caller]
pub fn ones(shape: impl Dims, dtype: DType) -> Tensor {
    done("ones", filled(&shape, Scalar::one(dtype)))
}

/// `0, 1, 2, ..`: so many, of a number type.
#[must_use]
#[track_caller]
pub fn arange(size: impl Into<Size>, dtype: DType) -> Tensor {
    done("arange", counted(size.into(), dtype))
}

#[track_caller]
fn counted(size: Size, dtype: DType) -> Traced {
    iota_of(dtype, Shape(vec![size.to_dim()?]), 0)
}

/// A size as a value: an i64 scalar that holds what the call's sizes make of it.
#[must_use]
#[track_caller]
pub fn size_value(size: impl Into<Size>) -> Tensor {
    done("size", sized(size.into()))
}

#[track_caller]
fn sized(size: Size) -> Traced {
    size_like(&size.to_dim()?, DType::I64)
}
