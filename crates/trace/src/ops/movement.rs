//! The same elements elsewhere: shapes, orders of axes, ranges, padding, joining.

use graver_ir::op::{PadAxis, Perm, SliceAxis};
use graver_ir::{Diag, Dim, Op, Shape};

use super::map::stretch;
use crate::context::{Traced, done, emit, wrong};
use crate::size::{Dims, Size, shape_for, whole_shape};
use crate::tensor::{Axes, Axis, Operand, Tensor};

#[track_caller]
pub(crate) fn reshape_to(x: Tensor, shape: Shape) -> Traced {
    if x.ty()?.shape == shape { Ok(x) } else { emit(Op::Reshape(shape), &[x]) }
}

#[track_caller]
fn reshape(x: Tensor, dims: &dyn Dims) -> Traced {
    let shape = shape_for(dims, &x.ty()?.shape.numel())?;
    reshape_to(x, shape)
}

#[track_caller]
fn flatten(x: Tensor, first: Axis) -> Traced {
    let ty = x.ty()?;
    // The axis one past the last gives a new axis of size 1.
    let first = if first.number() == i64::try_from(ty.rank()).unwrap_or(i64::MAX) { ty.rank() } else { first.of(&ty)? };
    let (kept, rest) = ty.shape.split_at(first);
    let mut shape = kept.to_vec();
    shape.push(rest.iter().product());
    reshape_to(x, Shape(shape))
}

#[track_caller]
pub(crate) fn permute_to(x: Tensor, axes: Vec<usize>) -> Traced {
    let perm = Perm::new(axes).map_err(Diag::new)?;
    if perm.is_identity() { Ok(x) } else { emit(Op::Permute(perm), &[x]) }
}

#[track_caller]
fn permute(x: Tensor, axes: &Axes) -> Traced {
    let ty = x.ty()?;
    let Axes::Some(axes) = axes else { return Ok(x) };
    let places = axes.iter().map(|axis| axis.of(&ty)).collect::<Traced<Vec<_>>>()?;
    if places.len() != ty.rank() {
        return wrong(format!("{} axes are named, {ty} has {}", places.len(), ty.rank()));
    }
    permute_to(x, places)
}

#[track_caller]
pub(crate) fn transpose(x: Tensor, first: Axis, second: Axis) -> Traced {
    let ty = x.ty()?;
    let mut axes: Vec<usize> = (0..ty.rank()).collect();
    axes.swap(first.of(&ty)?, second.of(&ty)?);
    permute_to(x, axes)
}

#[track_caller]
fn squeeze(x: Tensor, axes: &Axes) -> Traced {
    let ty = x.ty()?;
    let places = match axes {
        Axes::All => (0..ty.rank()).filter(|axis| ty.shape[*axis].is(1)).collect(),
        Axes::Some(_) => axes.of(&ty)?,
    };
    match places.iter().find(|axis| !ty.shape[**axis].is(1)) {
        Some(axis) => wrong(format!("axis {axis} of {ty} is {}, only 1 can vanish", ty.shape[*axis])),
        None => reshape_to(x, ty.shape.without(&places)),
    }
}

#[track_caller]
fn unsqueeze(x: Tensor, axis: Axis) -> Traced {
    let ty = x.ty()?;
    let Some(place) = axis.among(ty.rank() + 1) else {
        return wrong(format!("there is no place {} for a new axis of {ty}", axis.number()));
    };
    let mut shape = ty.shape.clone();
    shape.0.insert(place, Dim::ONE);
    reshape_to(x, shape)
}

#[track_caller]
fn broadcast_to(x: Tensor, dims: &dyn Dims) -> Traced {
    let shape = whole_shape(dims)?;
    stretch(x, &shape)
}

/// All of an axis.
fn whole(size: &Dim) -> SliceAxis {
    SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 }
}

#[track_caller]
pub(crate) fn narrow(x: Tensor, axis: usize, range: SliceAxis) -> Traced {
    let ty = x.ty()?;
    let mut ranges: Vec<SliceAxis> = ty.shape.iter().map(whole).collect();
    if ranges[axis] == range {
        return Ok(x);
    }
    ranges[axis] = range;
    emit(Op::Slice(ranges), &[x])
}

/// A position on an axis: negative numbers count from the end.
#[track_caller]
fn position(at: Size, size: &Dim) -> Traced<Dim> {
    let at = at.to_dim()?;
    Ok(if at.as_const().is_some_and(|number| number < 0) { size + at } else { at })
}

/// The range `start..end` by `step` of an axis; ends beyond the axis are errors where that can be told.
#[track_caller]
fn slice(x: Tensor, axis: Axis, range: Range) -> Traced {
    let ty = x.ty()?;
    let axis = axis.of(&ty)?;
    let size = &ty.shape[axis];
    let start = range.start.map_or(Ok(Dim::ZERO), |at| position(at, size))?;
    let end = range.end.map_or(Ok(size.clone()), |at| position(at, size))?;
    if range.step < 1 {
        return wrong(format!("the step must be 1 or more, got {}", range.step));
    }
    let length = &end - &start;
    let outside = start.bounds().hi < 0 || (&end - size).is_positive() || length.bounds().hi < 0;
    if outside {
        return wrong(format!("the range {start}..{end} does not lie inside axis {axis} of {ty}"));
    }
    narrow(x, axis, SliceAxis { start, size: length.ceil_div(&Dim::from(range.step)), step: range.step })
}

#[track_caller]
fn select(x: Tensor, axis: Axis, at: Size) -> Traced {
    let ty = x.ty()?;
    let axis = axis.of(&ty)?;
    let start = position(at, &ty.shape[axis])?;
    let one = narrow(x, axis, SliceAxis { start, size: Dim::ONE, step: 1 })?;
    reshape_to(one, ty.shape.without(&[axis]))
}

#[track_caller]
fn pad(x: Tensor, axis: Axis, low: Size, high: Size, value: Tensor) -> Traced {
    let axis = axis.of(&x.ty()?)?;
    pad_axis(x, axis, PadAxis { low: low.to_dim()?, high: high.to_dim()?, interior: 0 }, value)
}

#[track_caller]
pub(crate) fn pad_axis(x: Tensor, axis: usize, pad: PadAxis, value: Tensor) -> Traced {
    let mut axes = vec![PadAxis { low: Dim::ZERO, high: Dim::ZERO, interior: 0 }; x.ty()?.rank()];
    axes[axis] = pad;
    emit(Op::Pad(axes), &[x, value])
}

#[track_caller]
fn concat_of(xs: &[Tensor], axis: Axis) -> Traced {
    match xs {
        [] => wrong("there is nothing to join"),
        [x] => Ok(*x),
        [first, ..] => {
            let axis = axis.of(&first.ty()?)?;
            emit(Op::Concat(axis), xs)
        }
    }
}

#[track_caller]
fn stack_of(xs: &[Tensor], axis: Axis) -> Traced {
    let Some(first) = xs.first() else { return wrong("there is nothing to stack") };
    let ty = first.ty()?;
    let mut rows = Vec::new();
    for x in xs {
        let other = x.ty()?;
        if other != ty {
            return wrong(format!("what is stacked must be alike: {ty} and {other}"));
        }
        rows.push(unsqueeze(*x, axis)?);
    }
    match axis.among(ty.rank() + 1) {
        Some(_) if rows.len() == 1 => Ok(rows[0]),
        Some(axis) => emit(Op::Concat(axis), &rows),
        None => wrong(format!("there is no place {} for a new axis of {ty}", axis.number())),
    }
}

#[track_caller]
fn flip(x: Tensor, axes: &Axes) -> Traced {
    let axes = axes.of(&x.ty()?)?;
    emit(Op::Reverse(axes), &[x])
}

#[track_caller]
fn split(x: Tensor, parts: usize, axis: Axis) -> Traced<Vec<Tensor>> {
    let ty = x.ty()?;
    let axis = axis.of(&ty)?;
    let count = Dim::from(parts);
    match if parts == 0 { None } else { ty.shape[axis].exact_div(&count) } {
        Some(size) if parts > 0 => {
            let mut chunks = Vec::new();
            for part in 0..parts {
                chunks.push(narrow(x, axis, SliceAxis { start: &size * Dim::from(part), size: size.clone(), step: 1 })?);
            }
            Ok(chunks)
        }
        Some(_) | None => wrong(format!("axis {axis} of {ty} is not known to split into {parts} equal parts")),
    }
}

/// Positions `start..end`, every `step`-th of them.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    start: Option<Size>,
    end: Option<Size>,
    step: i64,
}

impl Range {
    /// Every `step`-th of the positions.
    #[must_use]
    pub fn step(mut self, step: i64) -> Self {
        self.step = step;
        self
    }
}

impl<S: Into<Size>> From<std::ops::Range<S>> for Range {
    fn from(range: std::ops::Range<S>) -> Self {
        Self { start: Some(range.start.into()), end: Some(range.end.into()), step: 1 }
    }
}

impl<S: Into<Size>> From<std::ops::RangeFrom<S>> for Range {
    fn from(range: std::ops::RangeFrom<S>) -> Self {
        Self { start: Some(range.start.into()), end: None, step: 1 }
    }
}

impl<S: Into<Size>> From<std::ops::RangeTo<S>> for Range {
    fn from(range: std::ops::RangeTo<S>) -> Self {
        Self { start: None, end: Some(range.end.into()), step: 1 }
    }
}

impl From<std::ops::RangeFull> for Range {
    fn from(_: std::ops::RangeFull) -> Self {
        Self { start: None, end: None, step: 1 }
    }
}

impl Tensor {
    /// The same elements in row-major order under another shape; one size may be -1.
    #[must_use]
    #[track_caller]
    pub fn reshape(self, shape: impl Dims) -> Self {
        done("reshape", reshape(self, &shape))
    }

    /// Axis `first` and all after it as one: `x.flatten(1)` keeps the batch.
    #[must_use]
    #[track_caller]
    pub fn flatten(self, first: impl Into<Axis>) -> Self {
        done("flatten", flatten(self, first.into()))
    }

    /// Two axes exchanged.
    #[must_use]
    #[track_caller]
    pub fn transpose(self, first: impl Into<Axis>, second: impl Into<Axis>) -> Self {
        done("transpose", transpose(self, first.into(), second.into()))
    }

    /// The last two axes exchanged.
    #[must_use]
    #[track_caller]
    pub fn t(self) -> Self {
        self.transpose(-2, -1)
    }

    /// Axis `i` of the result is axis `axes[i]` of `x`; every axis is named.
    #[must_use]
    #[track_caller]
    pub fn permute(self, axes: impl Into<Axes>) -> Self {
        done("permute", permute(self, &axes.into()))
    }

    /// Without these axes, whose sizes must be the number 1; `..`: without all such axes.
    #[must_use]
    #[track_caller]
    pub fn squeeze(self, axes: impl Into<Axes>) -> Self {
        done("squeeze", squeeze(self, &axes.into()))
    }

    /// With a new axis of size 1 at this place of the result.
    #[must_use]
    #[track_caller]
    pub fn unsqueeze(self, axis: impl Into<Axis>) -> Self {
        done("unsqueeze", unsqueeze(self, axis.into()))
    }

    /// Stretched to a shape: axes of the number 1 and new leading axes repeat.
    #[must_use]
    #[track_caller]
    pub fn broadcast_to(self, shape: impl Dims) -> Self {
        done("broadcast_to", broadcast_to(self, &shape))
    }

    /// [`Tensor::broadcast_to`] under PyTorch's name.
    #[must_use]
    #[track_caller]
    pub fn expand(self, shape: impl Dims) -> Self {
        done("expand", broadcast_to(self, &shape))
    }

    /// A range of one axis: `x.slice(1, 2..)`, `x.slice(-1, ..-1)`, `x.slice(0, Range::from(..).step(2))`. Negative numbers count from the end.
    #[must_use]
    #[track_caller]
    pub fn slice(self, axis: impl Into<Axis>, range: impl Into<Range>) -> Self {
        done("slice", slice(self, axis.into(), range.into()))
    }

    /// `length` elements of one axis from `start`.
    #[must_use]
    #[track_caller]
    pub fn narrow(self, axis: impl Into<Axis>, start: impl Into<Size>, length: impl Into<Size>) -> Self {
        let start = start.into();
        done("narrow", slice(self, axis.into(), Range { start: Some(start), end: Some(start + length.into()), step: 1 }))
    }

    /// The elements at one position of an axis, which vanishes. Negative positions count from the end.
    #[must_use]
    #[track_caller]
    pub fn select(self, axis: impl Into<Axis>, at: impl Into<Size>) -> Self {
        done("select", select(self, axis.into(), at.into()))
    }

    /// `value` around one axis: `low` elements before, `high` after.
    #[must_use]
    #[track_caller]
    pub fn pad(self, axis: impl Into<Axis>, low: impl Into<Size>, high: impl Into<Size>, value: impl Operand) -> Self {
        let value = value.beside(self);
        done("pad", pad(self, axis.into(), low.into(), high.into(), value))
    }

    /// These axes backwards.
    #[must_use]
    #[track_caller]
    pub fn flip(self, axes: impl Into<Axes>) -> Self {
        done("flip", flip(self, &axes.into()))
    }

    /// So many equal parts of an axis, in order.
    #[must_use]
    #[track_caller]
    pub fn chunk(self, parts: usize, axis: impl Into<Axis>) -> Vec<Self> {
        match split(self, parts, axis.into()) {
            Ok(chunks) => chunks,
            Err(failed) => {
                crate::context::report("chunk", failed);
                (0..parts.max(1)).map(|_| crate::context::with(crate::context::Trace::poison)).collect()
            }
        }
    }
}

/// Tensors after one another along an axis; their other sizes agree.
#[must_use]
#[track_caller]
pub fn concat(xs: &[Tensor], axis: impl Into<Axis>) -> Tensor {
    done("concat", concat_of(xs, axis.into()))
}

/// Tensors of one type along a new axis.
#[must_use]
#[track_caller]
pub fn stack(xs: &[Tensor], axis: impl Into<Axis>) -> Tensor {
    done("stack", stack_of(xs, axis.into()))
}
