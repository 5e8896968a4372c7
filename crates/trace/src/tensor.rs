//! The user's handle of a value in the traced program, and what may stand where one is expected.
//!
//! The operations are in `ops/`, by family.

use std::marker::PhantomData;

use graver_ir::{DType, Scalar, Type};

use crate::context::{Traced, done, give_up, with, wrong};
use crate::ops::index::constant;
use crate::size::Size;

/// A value of the program that is being traced: eight bytes, copied freely, and nothing outside of its trace.
///
/// A mistake (shapes that do not fit, an axis that is not there) is recorded where it happens and gives a poisoned tensor,
/// from which others can be computed; `compile` returns what was recorded, at most the first twenty errors.
/// A tensor that leaves its trace is refused where it is used.
///
/// ```compile_fail
/// fn sendable<T: Send>() {}
/// sendable::<graver_trace::Tensor>(); // a tensor belongs to the thread that traces
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    trace: u32,
    index: u32,
    /// Not Send: the trace is the thread's.
    thread: PhantomData<*const ()>,
}

impl Tensor {
    pub(crate) const fn new(trace: u32, index: u32) -> Self {
        Self { trace, index, thread: PhantomData }
    }

    pub(crate) const fn trace(self) -> u32 {
        self.trace
    }

    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }

    /// The type, unless the tensor is poisoned or of another trace.
    #[track_caller]
    pub(crate) fn ty(self) -> Traced<Type> {
        with(|trace| trace.ty(self))
    }

    /// The type for user code that cannot go on without.
    #[track_caller]
    fn ty_or_unwind(self, name: &str) -> Type {
        match self.ty() {
            Ok(ty) => ty,
            Err(failed) => give_up(name, failed),
        }
    }

    /// The element type. On a poisoned tensor this ends the trace with the errors recorded so far.
    #[must_use]
    #[track_caller]
    pub fn dtype(self) -> DType {
        self.ty_or_unwind("dtype").dtype
    }

    /// The number of axes. On a poisoned tensor this ends the trace with the errors recorded so far.
    #[must_use]
    #[track_caller]
    pub fn rank(self) -> usize {
        self.ty_or_unwind("rank").rank()
    }

    /// The sizes, outermost first. On a poisoned tensor this ends the trace with the errors recorded so far.
    #[must_use]
    #[track_caller]
    pub fn shape(self) -> Vec<Size> {
        self.ty_or_unwind("shape").shape.0.into_iter().map(Size::from_dim).collect()
    }

    /// The size of one axis, negative ones counted from the end: a number or an expression in the declared symbols.
    /// On a poisoned tensor, or if there is no such axis, this ends the trace with the errors recorded so far.
    #[must_use]
    #[track_caller]
    pub fn dim(self, axis: impl Into<Axis>) -> Size {
        let ty = self.ty_or_unwind("dim");
        match axis.into().of(&ty) {
            Ok(axis) => Size::from_dim(ty.shape[axis].clone()),
            Err(failed) => give_up("dim", failed),
        }
    }
}

/// An axis by position; negative ones count from the end: -1 is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis(i64);

impl Axis {
    /// The position, if a tensor of this type has it.
    pub(crate) fn of(self, ty: &Type) -> Traced<usize> {
        self.among(ty.rank())
            .map_or_else(|| wrong(format!("there is no axis {} in {ty}, which has rank {}", self.0, ty.rank())), Ok)
    }

    /// The position among so many axes.
    pub(crate) fn among(self, rank: usize) -> Option<usize> {
        let rank = i64::try_from(rank).ok()?;
        let place = if self.0 < 0 { self.0 + rank } else { self.0 };
        usize::try_from(place).ok().filter(|_| place < rank)
    }

    pub(crate) const fn number(self) -> i64 {
        self.0
    }
}

macro_rules! axis_from {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Axis {
            fn from(axis: $ty) -> Self { Self(i64::try_from(axis).unwrap_or(i64::MAX)) }
        }
    )*};
}

axis_from!(i32 i64 isize usize);

/// A set of axes: one, an array or a vector of several, or `..` for all.
#[derive(Clone, Debug)]
pub enum Axes {
    /// All of them.
    All,
    /// These.
    Some(Vec<Axis>),
}

impl Axes {
    /// The positions, strictly increasing.
    pub(crate) fn of(&self, ty: &Type) -> Traced<Vec<usize>> {
        let Self::Some(axes) = self else { return Ok((0..ty.rank()).collect()) };
        let mut places = axes.iter().map(|axis| axis.of(ty)).collect::<Traced<Vec<_>>>()?;
        places.sort_unstable();
        match places.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => wrong(format!("axis {} of {ty} is named twice", pair[0])),
            None => Ok(places),
        }
    }
}

impl From<std::ops::RangeFull> for Axes {
    fn from(_: std::ops::RangeFull) -> Self {
        Self::All
    }
}

macro_rules! axes_from {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Axes { fn from(axis: $ty) -> Self { Self::Some(vec![axis.into()]) } }
        impl From<&[$ty]> for Axes { fn from(axes: &[$ty]) -> Self { Self::Some(axes.iter().map(|axis| (*axis).into()).collect()) } }
        impl From<Vec<$ty>> for Axes { fn from(axes: Vec<$ty>) -> Self { axes.as_slice().into() } }
        impl<const N: usize> From<[$ty; N]> for Axes { fn from(axes: [$ty; N]) -> Self { axes.as_slice().into() } }
    )*};
}

axes_from!(i32 i64 isize usize);

/// What may stand on the right of an operator, or where a method takes another operand: a tensor, a parameter, or a number,
/// which becomes a constant of the other operand's element type.
pub trait Operand {
    /// The operand as a tensor beside `other`.
    #[doc(hidden)]
    #[track_caller]
    fn beside(&self, other: Tensor) -> Tensor;
}

impl Operand for Tensor {
    fn beside(&self, _: Self) -> Tensor {
        *self
    }
}

impl<O: Operand + ?Sized> Operand for &O {
    #[track_caller]
    fn beside(&self, other: Tensor) -> Tensor {
        (**self).beside(other)
    }
}

macro_rules! number_operands {
    ($($ty:ty, $make:ident $dtype:ident;)*) => {$(
        impl Operand for $ty {
            #[track_caller]
            fn beside(&self, other: Tensor) -> Tensor {
                done("constant", number(Scalar::$make(DType::$dtype, (*self).into()), other))
            }
        }
    )*};
}

number_operands! {
    f32, float F32;
    f64, float F64;
    i32, int I32;
    i64, int I64;
}

/// A number as a constant of the element type of `other`, if it has such a value.
#[track_caller]
fn number(value: Scalar, other: Tensor) -> Traced {
    constant(convert(value, other.ty()?.dtype)?)
}

/// The number in another element type: floats round, everything else must be exact.
pub(crate) fn convert(value: Scalar, dtype: DType) -> Traced<Scalar> {
    let converted =
        if value.dtype().is_float() { Scalar::float(dtype, value.as_f64()) } else { Scalar::from_i128(dtype, value.as_i128()) };
    if dtype.is_float() || (dtype != DType::Bool && converted.as_f64() == value.as_f64()) {
        Ok(converted)
    } else {
        wrong(format!("the number {value} is no {dtype}"))
    }
}
