//! Images of other sizes: positions between elements are computed in integers, so that they are exact and the same on every backend.

use graver_ir::op::GatherAxes;
use graver_ir::{DType, Dim, Op, Scalar, ScalarFn, Shape};

use super::index::{constant, iota_of, size_like};
use super::map::{like, map, narrow, stretch, widen};
use super::movement::reshape_to;
use crate::context::{Traced, done, emit, wrong};
use crate::size::{Dims, whole_shape};
use crate::tensor::Tensor;

/// How an image's elements become those of another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Element `i` of `out` is element `floor(i * size / out)`.
    Nearest,
    /// The two nearest of each axis, by their distances. Elements are the middles of equal parts: `i` of `out` lies at
    /// `(i + 1/2) * size / out - 1/2`, and what lies before the first one is the first.
    Bilinear,
    /// The two nearest of each axis, by their distances, the corners upon the corners: `i` of `out` lies at `i * (size - 1) / (out - 1)`.
    BilinearAligned,
}

/// A position between two elements: its numerator for every element of the result, and its denominator.
struct Position {
    numerator: Tensor,
    denominator: Tensor,
}

#[track_caller]
fn interpolate(x: Tensor, dims: &dyn Dims, how: Interpolation) -> Traced {
    let (ty, shape) = (x.ty()?, whole_shape(dims)?);
    let [height, width] = &shape[..] else { return wrong(format!("takes the size of an image, [h, w], got {shape}")) };
    let Some(first) = ty.rank().checked_sub(2) else { return wrong(format!("takes images [.., h, w], got {ty}")) };
    if how == Interpolation::Nearest {
        let rows = nearest(x, first, height)?;
        return nearest(rows, first + 1, width);
    }
    if !ty.dtype.is_float() {
        return wrong(format!("what lies between elements is a float, got {ty}; take the nearest?"));
    }
    let rows = linear(widen(x)?, first, height, how)?;
    narrow(linear(rows, first + 1, width, how)?, ty.dtype)
}

/// An integer at every place of a vector.
#[track_caller]
fn repeated(value: &Dim, out: &Dim) -> Traced {
    stretch(size_like(value, DType::I64)?, &Shape(vec![out.clone()]))
}

#[track_caller]
fn nearest(x: Tensor, axis: usize, out: &Dim) -> Traced {
    let size = x.ty()?.shape[axis].clone();
    if size == *out {
        return Ok(x);
    }
    let place = iota_of(DType::I64, Shape(vec![out.clone()]), 0)?;
    let scaled = map(ScalarFn::Mul, &[place, repeated(&size, out)?])?;
    let from = map(ScalarFn::Div, &[scaled, repeated(out, out)?])?;
    emit(Op::Gather(GatherAxes { axis, batch: 0 }), &[x, from])
}

/// `x[before] + (x[behind] - x[before]) * ratio` along one axis.
#[track_caller]
fn linear(x: Tensor, axis: usize, out: &Dim, how: Interpolation) -> Traced {
    let ty = x.ty()?;
    let size = &ty.shape[axis];
    if size == out {
        return Ok(x);
    }
    let Position { numerator, denominator } = position(size, out, how)?;
    let before = map(ScalarFn::Div, &[numerator, denominator])?;
    let rest = map(ScalarFn::Rem, &[numerator, denominator])?;
    let next = map(ScalarFn::Add, &[before, repeated(&Dim::ONE, out)?])?;
    let behind = map(ScalarFn::Min, &[next, repeated(&(size - Dim::ONE), out)?])?;
    let float = |x: Tensor| emit(Op::Cast(ty.dtype), &[x]);
    let ratio = map(ScalarFn::Div, &[float(rest)?, float(denominator)?])?;
    let column: Vec<Dim> = [out.clone()].into_iter().chain(vec![Dim::ONE; ty.rank() - axis - 1]).collect();
    let at = |place: Tensor| emit(Op::Gather(GatherAxes { axis, batch: 0 }), &[x, place]);
    let (low, high) = (at(before)?, at(behind)?);
    let shape = low.ty()?.shape;
    let ratio = stretch(reshape_to(ratio, Shape(column))?, &shape)?;
    let rest = map(ScalarFn::Sub, &[stretch(like(ratio, 1.0)?, &shape)?, ratio])?;
    map(ScalarFn::Add, &[map(ScalarFn::Mul, &[low, rest])?, map(ScalarFn::Mul, &[high, ratio])?])
}

#[track_caller]
fn position(size: &Dim, out: &Dim, how: Interpolation) -> Traced<Position> {
    let place = iota_of(DType::I64, Shape(vec![out.clone()]), 0)?;
    if how == Interpolation::BilinearAligned {
        // A single element is the first one.
        let gaps = (out - Dim::ONE).max_with(&Dim::ONE);
        let numerator = map(ScalarFn::Mul, &[place, repeated(&(size - Dim::ONE), out)?])?;
        return Ok(Position { numerator, denominator: repeated(&gaps, out)? });
    }
    // ((2 i + 1) * size - out) / (2 out), from 0 on.
    let odd = map(ScalarFn::Add, &[map(ScalarFn::Add, &[place, place])?, repeated(&Dim::ONE, out)?])?;
    let scaled = map(ScalarFn::Mul, &[odd, repeated(size, out)?])?;
    let numerator = map(ScalarFn::Sub, &[scaled, repeated(out, out)?])?;
    let zero = stretch(constant(Scalar::zero(DType::I64))?, &Shape(vec![out.clone()]))?;
    Ok(Position { numerator: map(ScalarFn::Max, &[numerator, zero])?, denominator: repeated(&(out * Dim::from(2)), out)? })
}

impl Tensor {
    /// Images `[.., h, w]` in another size `[h', w']`: `[.., h', w']`. Sizes may be symbols.
    ///
    /// ```
    /// use graver_trace::{Interpolation, spec, trace};
    /// let image = spec::<f32>((1, 3, "h", "w"));
    /// let twice = trace(|x| x.interpolate((x.dim(2) * 2, x.dim(3) * 2), Interpolation::Bilinear), image)?;
    /// let (_, main) = twice.module().entry().expect("a traced module has an entry");
    /// assert_eq!(main.result_types()[0].to_string(), "f32[1, 3, 2*h, 2*w]");
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn interpolate(self, size: impl Dims, how: Interpolation) -> Self {
        done("interpolate", interpolate(self, &size, how))
    }
}
