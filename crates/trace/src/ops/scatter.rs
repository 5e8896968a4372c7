//! Elements put at positions, one by one, and rows of positions that name several axes at once.

use graver_ir::op::{GatherAxes, Scatter, ScatterKind, SliceAxis};
use graver_ir::{DType, Dim, Op, Scalar, ScalarFn, Shape};

use super::index::{constant, size_like};
use super::map::{map, stretch};
use super::movement::{narrow, permute_to, reshape_to};
use crate::context::{Traced, done, emit, wrong};
use crate::tensor::{Axis, Tensor};

/// The order that puts an axis last, and the one that puts it back.
pub(super) fn last(rank: usize, axis: usize) -> (Vec<usize>, Vec<usize>) {
    let order: Vec<usize> = (0..rank).filter(|place| *place != axis).chain([axis]).collect();
    let mut back = vec![0; rank];
    for (place, from) in order.iter().enumerate() {
        back[*from] = place;
    }
    (order, back)
}

/// All with `axis` last, scattered row by row, and put back.
#[track_caller]
fn scatter(kind: ScatterKind, x: Tensor, axis: Axis, index: Tensor, update: Tensor) -> Traced {
    let (ty, index_ty, update_ty) = (x.ty()?, index.ty()?, update.ty()?);
    let axis = axis.of(&ty)?;
    if index_ty.rank() != ty.rank() || index_ty.shape.without(&[axis]) != ty.shape.without(&[axis]) {
        return wrong(format!("{ty} and the index {index_ty} differ in more than axis {axis}"));
    }
    if update_ty.shape != index_ty.shape {
        return wrong(format!("the index {index_ty} and the update {update_ty} differ in shape: each position has one element"));
    }
    let rows = ty.rank() - 1;
    let (order, back) = last(ty.rank(), axis);
    let place = |x: Tensor| permute_to(x, order.clone());
    let at = GatherAxes { axis: rows, batch: rows };
    let y = emit(Op::Scatter(Scatter { kind, at }), &[place(x)?, place(index)?, place(update)?])?;
    permute_to(y, back)
}

/// How many axes of `x` the rows of an index name.
#[track_caller]
fn depth(x: Tensor, index: Tensor) -> Traced<usize> {
    let (ty, index_ty) = (x.ty()?, index.ty()?);
    if !index_ty.dtype.is_int() {
        return wrong(format!("positions must be integers, got {index_ty}"));
    }
    let named = index_ty.shape.last().and_then(Dim::as_const).and_then(|named| usize::try_from(named).ok());
    match named {
        Some(named) if (1..=ty.rank()).contains(&named) => Ok(named),
        Some(_) | None => {
            let most = ty.rank();
            wrong(format!("the last axis of the index {index_ty} names axes of {ty}: its size must be a number from 1 to {most}"))
        }
    }
}

/// Row-major positions that rows of `index` name among axes of these sizes. Where any is out of range: -1, which is out of range of all.
#[track_caller]
fn rows(lead: &Shape, index: Tensor) -> Traced {
    let ty = index.ty()?;
    let axis = ty.rank() - 1;
    let shape = ty.shape.without(&[axis]);
    let index = if ty.dtype == DType::I64 { index } else { emit(Op::Cast(DType::I64), &[index])? };
    let size = |size: &Dim| stretch(size_like(size, DType::I64)?, &shape);
    let zero = size(&Dim::ZERO)?;
    let mut found: Option<(Tensor, Tensor)> = None;
    for (place, (own, stride)) in lead.iter().zip(lead.strides()).enumerate() {
        let one = narrow(index, axis, SliceAxis { start: Dim::from(place), size: Dim::ONE, step: 1 })?;
        let one = reshape_to(one, shape.clone())?;
        let (above, below) = (map(ScalarFn::Ge, &[one, zero])?, map(ScalarFn::Lt, &[one, size(own)?])?);
        let inside = map(ScalarFn::And, &[above, below])?;
        let part = map(ScalarFn::Mul, &[one, size(&stride)?])?;
        found = Some(match found {
            None => (part, inside),
            Some((sum, all)) => (map(ScalarFn::Add, &[sum, part])?, map(ScalarFn::And, &[all, inside])?),
        });
    }
    let Some((place, inside)) = found else { return wrong("rows of positions name one axis or more") };
    let never = stretch(constant(Scalar::int(DType::I64, -1))?, &shape)?;
    map(ScalarFn::Select, &[inside, place, never])
}

/// `x` with the axes that are named as one, and the positions among them.
#[track_caller]
fn as_rows(x: Tensor, index: Tensor) -> Traced<(Tensor, Tensor)> {
    let shape = x.ty()?.shape;
    let (lead, rest) = shape.split_at(depth(x, index)?);
    let flat = [&[lead.iter().product()], rest].concat();
    Ok((reshape_to(x, Shape(flat))?, rows(&Shape(lead.to_vec()), index)?))
}

const FIRST: GatherAxes = GatherAxes { axis: 0, batch: 0 };

#[track_caller]
fn gather_nd(x: Tensor, index: Tensor) -> Traced {
    let (x, place) = as_rows(x, index)?;
    emit(Op::Gather(FIRST), &[x, place])
}

#[track_caller]
fn scatter_nd(kind: ScatterKind, x: Tensor, index: Tensor, update: Tensor) -> Traced {
    let shape = x.ty()?.shape;
    let (x, place) = as_rows(x, index)?;
    reshape_to(emit(Op::Scatter(Scatter { kind, at: FIRST }), &[x, place, update])?, shape)
}

impl Tensor {
    /// `x` with each element of `update` at its position along `axis` and the same place otherwise; of several at one position the last.
    /// `index` and `update` are of one shape, which is that of `x` but for the size of `axis`. A position out of range is an error of the call.
    /// PyTorch's `scatter`, where sizes but for that axis agree.
    ///
    /// ```
    /// use graver_trace::{spec, trace};
    /// let traced = trace(|(x, index, y)| x.scatter(1, index, y), (spec::<f32>(("n", 5)), spec::<i64>(("n", 2)), spec::<f32>(("n", 2))))?;
    /// let (_, main) = traced.module().entry().expect("a traced module has an entry");
    /// assert_eq!(main.result_types()[0].to_string(), "f32[n, 5]");
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn scatter(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("scatter", scatter(ScatterKind::Set, self, axis.into(), index, update))
    }

    /// As [`Tensor::scatter`], each element added to what is there: what [`Tensor::gather`] has as its derivative.
    #[must_use]
    #[track_caller]
    pub fn scatter_add(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("scatter_add", scatter(ScatterKind::Add, self, axis.into(), index, update))
    }

    /// As [`Tensor::scatter`], what is there multiplied by each element.
    #[must_use]
    #[track_caller]
    pub fn scatter_mul(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("scatter_mul", scatter(ScatterKind::Mul, self, axis.into(), index, update))
    }

    /// As [`Tensor::scatter`], the greatest of what is there and of each element; NaN if any is NaN.
    #[must_use]
    #[track_caller]
    pub fn scatter_max(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("scatter_max", scatter(ScatterKind::Max, self, axis.into(), index, update))
    }

    /// As [`Tensor::scatter`], the least of what is there and of each element; NaN if any is NaN.
    #[must_use]
    #[track_caller]
    pub fn scatter_min(self, axis: impl Into<Axis>, index: Self, update: Self) -> Self {
        done("scatter_min", scatter(ScatterKind::Min, self, axis.into(), index, update))
    }

    /// Slices of `x` that rows of positions name: of an index `[.., k]`, each row is a position along each of the first `k` axes, and the result
    /// `[.., rest]` has what `x` has there. `k` is a number. A position out of range, also one below zero, is an error of the call.
    ///
    /// ```
    /// use graver_trace::{spec, trace};
    /// let traced = trace(|(x, index)| x.gather_nd(index), (spec::<f32>((4, "n", 3)), spec::<i64>(("m", 2))))?;
    /// let (_, main) = traced.module().entry().expect("a traced module has an entry");
    /// assert_eq!(main.result_types()[0].to_string(), "f32[m, 3]");
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn gather_nd(self, index: Self) -> Self {
        done("gather_nd", gather_nd(self, index))
    }

    /// `x` with each slice of `update` in the place of the one that its row of positions names; of several at one place the last. `update` has the
    /// shape that [`Tensor::gather_nd`] gives.
    #[must_use]
    #[track_caller]
    pub fn scatter_nd(self, index: Self, update: Self) -> Self {
        done("scatter_nd", scatter_nd(ScatterKind::Set, self, index, update))
    }

    /// As [`Tensor::scatter_nd`], each slice added to what is there: what [`Tensor::gather_nd`] has as its derivative.
    #[must_use]
    #[track_caller]
    pub fn scatter_nd_add(self, index: Self, update: Self) -> Self {
        done("scatter_nd_add", scatter_nd(ScatterKind::Add, self, index, update))
    }
}
