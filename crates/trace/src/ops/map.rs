//! Element by element: operators, functions, comparisons, casts. Operands broadcast by NumPy's rules, on sizes that are the number 1.

use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Rem, Shl, Shr, Sub};

use graver_ir::op::Broadcast;
use graver_ir::{DType, Diag, Dim, Op, Scalar, ScalarFn, Shape, Type};

use super::index::constant;
use crate::context::{Traced, done, emit, wrong};
use crate::tensor::{Operand, Tensor};

/// Records a scalar function over operands of one shape.
#[track_caller]
pub(crate) fn map(function: ScalarFn, args: &[Tensor]) -> Traced {
    emit(Op::Map(function), args)
}

/// `x` in the type that it is computed with: 16-bit floats as `f32`. What takes several steps rounds once, at its end.
#[track_caller]
pub(crate) fn widen(x: Tensor) -> Traced {
    narrow(x, x.ty()?.dtype.compute())
}

/// `x` rounded to `dtype`, if it is not of it.
#[track_caller]
pub(crate) fn narrow(x: Tensor, dtype: DType) -> Traced {
    if x.ty()?.dtype == dtype { Ok(x) } else { emit(Op::Cast(dtype), &[x]) }
}

/// `x` stretched to `shape`: axes are matched from the last, and those of `x` that are the number 1 repeat.
#[track_caller]
pub(crate) fn stretch(x: Tensor, shape: &Shape) -> Traced {
    let ty = x.ty()?;
    if ty.shape == *shape {
        return Ok(x);
    }
    let Some(lead) = shape.rank().checked_sub(ty.rank()) else {
        return wrong(format!("{ty} has more axes than {shape}"));
    };
    let (mut kept, mut axes) = (Vec::new(), Vec::new());
    for (axis, size) in ty.shape.iter().enumerate() {
        let target = &shape[lead + axis];
        if size == target {
            kept.push(size.clone());
            axes.push(lead + axis);
        } else if !size.is(1) {
            return wrong(format!("axis {axis} of {ty} is {size}, which does not stretch to {target} of {shape}"));
        }
    }
    let kept = if kept.len() == ty.rank() { x } else { emit(Op::Reshape(Shape(kept)), &[x])? };
    emit(Op::Broadcast(Broadcast { shape: shape.clone(), axes }), &[kept])
}

/// The shape to which both stretch.
fn common_shape(x: &Type, y: &Type) -> Traced<Shape> {
    let rank = x.rank().max(y.rank());
    let size = |ty: &Type, axis: usize| (axis + ty.rank()).checked_sub(rank).map_or(Dim::ONE, |axis| ty.shape[axis].clone());
    let mut shape = Vec::new();
    for axis in 0..rank {
        let (left, right) = (size(x, axis), size(y, axis));
        if left == right || right.is(1) {
            shape.push(left);
        } else if left.is(1) {
            shape.push(right);
        } else {
            let symbolic = left.as_const().is_none() || right.as_const().is_none();
            let help = if symbolic {
                "sizes that are not equal as expressions never broadcast, whatever their values; only the number 1 stretches"
            } else {
                "only a size of 1 stretches"
            };
            let place = rank - axis;
            return Err(Diag::new(format!("shapes do not broadcast: {x} and {y} differ at axis -{place}, {left} and {right}"))
                .help(help)
                .into());
        }
    }
    Ok(Shape(shape))
}

/// Both of one shape.
#[track_caller]
pub(crate) fn broadcast_pair(x: Tensor, y: Tensor) -> Traced<(Tensor, Tensor)> {
    let shape = common_shape(&x.ty()?, &y.ty()?)?;
    Ok((stretch(x, &shape)?, stretch(y, &shape)?))
}

/// Both have one element type.
pub(crate) fn same_dtype(x: &Type, y: &Type) -> Traced<()> {
    if x.dtype == y.dtype {
        return Ok(());
    }
    Err(Diag::new(format!("element types differ: {x} and {y}"))
        .help(format!("cast one of them: `.cast(DType::{:?})`", x.dtype))
        .into())
}

#[track_caller]
fn binary(function: ScalarFn, x: Tensor, y: Tensor) -> Traced {
    same_dtype(&x.ty()?, &y.ty()?)?;
    let (x, y) = broadcast_pair(x, y)?;
    map(function, &[x, y])
}

#[track_caller]
fn select(condition: Tensor, x: Tensor, y: Tensor) -> Traced {
    same_dtype(&x.ty()?, &y.ty()?)?;
    let shape = common_shape(&x.ty()?, &y.ty()?)?;
    let shape = common_shape(&condition.ty()?, &Type::new(DType::Bool, shape))?;
    map(ScalarFn::Select, &[stretch(condition, &shape)?, stretch(x, &shape)?, stretch(y, &shape)?])
}

#[track_caller]
fn cast(x: Tensor, dtype: DType) -> Traced {
    if x.ty()?.dtype == dtype { Ok(x) } else { emit(Op::Cast(dtype), &[x]) }
}

/// A constant of the element type of `x`.
#[track_caller]
pub(crate) fn like(x: Tensor, value: f64) -> Traced {
    constant(Scalar::float(x.ty()?.dtype, value))
}

macro_rules! unary_methods {
    ($($name:ident $function:ident $doc:literal;)*) => {
        impl Tensor {$(
            #[doc = $doc]
            #[must_use]
            #[track_caller]
            pub fn $name(self) -> Self { done(stringify!($name), map(ScalarFn::$function, &[self])) }
        )*}
    };
}

unary_methods! {
    abs Abs "The absolute value. The derivative at 0 is 0.";
    sign Sign "-1, 0 or 1; NaN stays NaN.";
    relu Relu "`max(x, 0)`. The derivative at 0 is 0.";
    floor Floor "The greatest integer not above each element.";
    ceil Ceil "The least integer not below each element.";
    trunc Trunc "Each element rounded towards zero.";
    round Round "Each element rounded to nearest, ties to even.";
    exp Exp "`e^x`.";
    expm1 Expm1 "`e^x - 1`, accurate near 0.";
    log Log "The natural logarithm.";
    log1p Log1p "`log(1 + x)`, accurate near 0.";
    sqrt Sqrt "The square root.";
    rsqrt Rsqrt "`1 / sqrt(x)`.";
    sin Sin "The sine of radians.";
    cos Cos "The cosine of radians.";
    tanh Tanh "The hyperbolic tangent.";
    sigmoid Sigmoid "`1 / (1 + e^-x)`.";
    erf Erf "The error function.";
    is_nan IsNan "Where an element is NaN, as bool.";
    is_finite IsFinite "Where an element is neither NaN nor infinite, as bool.";
}

macro_rules! binary_methods {
    ($($name:ident $function:ident $doc:literal;)*) => {
        impl Tensor {$(
            #[doc = $doc]
            #[must_use]
            #[track_caller]
            pub fn $name(self, other: impl Operand) -> Self {
                let other = other.beside(self);
                done(stringify!($name), binary(ScalarFn::$function, self, other))
            }
        )*}
    };
}

binary_methods! {
    pow Pow "`x^y` for floats. A number as the exponent becomes a constant.";
    maximum Max "The greater of both; NaN if either is NaN.";
    minimum Min "The lesser of both; NaN if either is NaN.";
    eq Eq "Where both are equal, as bool; false for NaN.";
    ne Ne "Where they differ, as bool; true for NaN.";
    lt Lt "Where `x < y`, as bool.";
    le Le "Where `x <= y`, as bool.";
    gt Gt "Where `x > y`, as bool.";
    ge Ge "Where `x >= y`, as bool.";
}

impl Tensor {
    /// Every element converted: floats to integers truncate and saturate, NaN gives 0; to bool: whether it is not 0.
    #[must_use]
    #[track_caller]
    pub fn cast(self, dtype: DType) -> Self {
        done("cast", cast(self, dtype))
    }

    /// The bits of every element as another type of the same size: float and integer of 4 or 8 bytes, or two integers. It has no derivative.
    ///
    /// ```
    /// use graver_trace::{DType, spec, trace};
    /// let traced = trace(|x| x.bitcast(DType::I32), spec::<f32>(["n"]))?;
    /// # drop(traced);
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn bitcast(self, dtype: DType) -> Self {
        done("bitcast", emit(Op::Bitcast(dtype), &[self]))
    }

    /// `x` squared.
    #[must_use]
    #[track_caller]
    pub fn square(self) -> Self {
        done("square", map(ScalarFn::Mul, &[self, self]))
    }

    /// `1 / x`.
    #[must_use]
    #[track_caller]
    pub fn recip(self) -> Self {
        1.0 / self
    }

    /// Elements below `low` become `low`, those above `high` become `high`; NaN stays.
    #[must_use]
    #[track_caller]
    pub fn clamp(self, low: impl Operand, high: impl Operand) -> Self {
        self.maximum(low).minimum(high)
    }

    /// Where this bool tensor holds the element of `x`, elsewhere that of `y`. All three broadcast.
    ///
    /// `x` must be a tensor; `y` may be a number.
    #[must_use]
    #[track_caller]
    pub fn where_(self, x: Self, y: impl Operand) -> Self {
        let y = y.beside(x);
        done("where", select(self, x, y))
    }

    /// `value` where `mask` holds, elsewhere `x`.
    #[must_use]
    #[track_caller]
    pub fn masked_fill(self, mask: Self, value: impl Operand) -> Self {
        let value = value.beside(self);
        done("masked_fill", select(mask, value, self))
    }

    /// `x * sigmoid(x)`.
    #[must_use]
    #[track_caller]
    pub fn silu(self) -> Self {
        done("silu", silu(self))
    }

    /// `x` where positive, else `slope * x`.
    #[must_use]
    #[track_caller]
    pub fn leaky_relu(self, slope: impl Operand) -> Self {
        self.gt(0).where_(self, self * slope)
    }

    /// `x` where positive, else `e^x - 1`.
    #[must_use]
    #[track_caller]
    pub fn elu(self) -> Self {
        // The branch not taken must stay finite: its derivative would be 0 * inf.
        self.gt(0).where_(self, self.minimum(0).expm1())
    }

    /// `log(1 + e^x)`, without overflow.
    #[must_use]
    #[track_caller]
    pub fn softplus(self) -> Self {
        self.relu() + (-self.abs()).exp().log1p()
    }
}

#[track_caller]
fn silu(x: Tensor) -> Traced {
    map(ScalarFn::Mul, &[x, map(ScalarFn::Sigmoid, &[x])?])
}

macro_rules! operators {
    ($($op:ident $method:ident $function:ident;)*) => {$(
        impl<O: Operand> $op<O> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: O) -> Tensor {
                let other = other.beside(self);
                done(stringify!($method), binary(ScalarFn::$function, self, other))
            }
        }
        impl<O: Operand> $op<O> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: O) -> Tensor { (*self).$method(other) }
        }
        operators!(@left $op $method $function f32 i32);
    )*};
    // One float and one integer type only: with two, no literal on the left has a type.
    (@left $op:ident $method:ident $function:ident $($number:ident)*) => {$(
        impl $op<Tensor> for $number {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                let this = self.beside(other);
                done(stringify!($method), binary(ScalarFn::$function, this, other))
            }
        }
    )*};
}

operators! {
    Add add Add;
    Sub sub Sub;
    Mul mul Mul;
    Div div Div;
    Rem rem Rem;
}

macro_rules! bit_operators {
    ($($op:ident $method:ident $function:ident;)*) => {$(
        impl<O: Operand> $op<O> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: O) -> Tensor {
                let other = other.beside(self);
                done(stringify!($function), binary(ScalarFn::$function, self, other))
            }
        }
    )*};
}

bit_operators! {
    BitAnd bitand And;
    BitOr bitor Or;
    BitXor bitxor Xor;
    Shl shl Shl;
    Shr shr Shr;
}

impl Neg for Tensor {
    type Output = Self;

    #[track_caller]
    fn neg(self) -> Self {
        done("neg", map(ScalarFn::Neg, &[self]))
    }
}

impl Neg for &Tensor {
    type Output = Tensor;

    #[track_caller]
    fn neg(self) -> Tensor {
        -*self
    }
}

impl Not for Tensor {
    type Output = Self;

    #[track_caller]
    fn not(self) -> Self {
        done("not", map(ScalarFn::Not, &[self]))
    }
}

impl std::iter::Sum for Tensor {
    /// The sum of one tensor or more.
    ///
    /// # Panics
    /// Of none: the shape would be unknown.
    #[track_caller]
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.reduce(|x, y| x + y).expect("a sum of no tensors has no shape")
    }
}
