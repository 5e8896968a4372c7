//! Many elements to one: sums and extremes over axes, positions of extremes, pooling windows.

use graver_ir::op::{ArgReduce, Extreme, Prefix, Reduce, ReduceKind, Window, WindowAxis};
use graver_ir::{DType, Dim, Op, ScalarFn, Shape, Type};

use super::index::size_like;
use super::map::{broadcast_pair, map, narrow, widen};
use crate::context::{Traced, done, emit, wrong};
use crate::tensor::{Axes, Axis, Tensor};

/// Whether reduced axes vanish or stay with size 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    No,
    Yes,
}

#[track_caller]
pub(crate) fn reduce(x: Tensor, kind: ReduceKind, axes: &Axes, keep: Keep) -> Traced {
    let ty = x.ty()?;
    let axes = axes.of(&ty)?;
    let reduced = emit(Op::Reduce(Reduce { kind, axes: axes.clone() }), &[x])?;
    restore(reduced, &ty, &axes, keep)
}

/// The reduced axes again with size 1, if they are kept.
#[track_caller]
fn restore(reduced: Tensor, ty: &Type, axes: &[usize], keep: Keep) -> Traced {
    match keep {
        Keep::No => Ok(reduced),
        Keep::Yes => {
            let size = |(axis, size): (usize, &Dim)| if axes.contains(&axis) { Dim::ONE } else { size.clone() };
            emit(Op::Reshape(Shape(ty.shape.iter().enumerate().map(size).collect())), &[reduced])
        }
    }
}

/// The number of elements that each result of a reduction combines.
fn count(ty: &Type, axes: &[usize]) -> Dim {
    axes.iter().map(|axis| &ty.shape[*axis]).product()
}

#[track_caller]
pub(crate) fn mean(x: Tensor, axes: &Axes, keep: Keep) -> Traced {
    let ty = x.ty()?;
    if !ty.dtype.is_float() {
        return wrong(format!("the mean is of floats, got {ty}"));
    }
    let axes_of = axes.of(&ty)?;
    // A sum of 16-bit floats would overflow where the mean does not.
    let sum = reduce(widen(x)?, ReduceKind::Sum, axes, keep)?;
    let (sum, count) = broadcast_pair(sum, size_like(&count(&ty, &axes_of), ty.dtype.compute())?)?;
    narrow(map(ScalarFn::Div, &[sum, count])?, ty.dtype)
}

/// Mean and variance, the variance with `correction` taken off the count.
#[track_caller]
pub(crate) fn moments(x: Tensor, axes: &Axes, correction: i64, keep: Keep) -> Traced<(Tensor, Tensor)> {
    let dtype = x.ty()?.dtype;
    // Squares of 16-bit floats would overflow where the variance does not.
    let x = widen(x)?;
    let ty = x.ty()?;
    let places = axes.of(&ty)?;
    let wide_mean = mean(x, axes, Keep::Yes)?;
    let (x, stretched) = broadcast_pair(x, wide_mean)?;
    let centred = map(ScalarFn::Sub, &[x, stretched])?;
    let squares = map(ScalarFn::Mul, &[centred, centred])?;
    let variance = if correction == 0 {
        mean(squares, axes, keep)?
    } else {
        let sum = reduce(squares, ReduceKind::Sum, axes, keep)?;
        let divisor = (count(&ty, &places) - Dim::from(correction)).max_with(&Dim::ZERO);
        let (sum, count) = broadcast_pair(sum, size_like(&divisor, ty.dtype)?)?;
        map(ScalarFn::Div, &[sum, count])?
    };
    let mean = match keep {
        Keep::Yes => wide_mean,
        Keep::No => emit(Op::Reshape(ty.shape.without(&places)), &[wide_mean])?,
    };
    Ok((narrow(mean, dtype)?, narrow(variance, dtype)?))
}

#[track_caller]
fn arg(x: Tensor, kind: Extreme, axis: Axis) -> Traced {
    let axis = axis.of(&x.ty()?)?;
    emit(Op::ArgReduce(ArgReduce { kind, axis }), &[x])
}

#[track_caller]
fn holds(x: Tensor, kind: ReduceKind, axes: &Axes) -> Traced {
    let ty = x.ty()?;
    if ty.dtype == DType::Bool { reduce(x, kind, axes, Keep::No) } else { wrong(format!("takes bool, got {ty}")) }
}

macro_rules! reduce_methods {
    ($($name:ident $keepdim:ident $work:expr, $doc:literal;)*) => {
        impl Tensor {$(
            #[doc = $doc]
            ///
            /// `axes`: one axis, an array of them, or `..` for all; negative ones count from the end; they vanish.
            #[must_use]
            #[track_caller]
            pub fn $name(self, axes: impl Into<Axes>) -> Self {
                done(stringify!($name), $work(self, &axes.into(), Keep::No))
            }

            #[doc = $doc]
            ///
            /// As the method without `_keepdim`, but the axes stay with size 1.
            #[must_use]
            #[track_caller]
            pub fn $keepdim(self, axes: impl Into<Axes>) -> Self {
                done(stringify!($name), $work(self, &axes.into(), Keep::Yes))
            }
        )*}
    };
}

reduce_methods! {
    sum sum_keepdim sum, "The sum over axes; integers wrap; 0 of nothing.";
    prod prod_keepdim prod, "The product over axes; integers wrap; 1 of nothing.";
    max max_keepdim max, "The greatest over axes; NaN if any is NaN. Equal ones share the gradient evenly.";
    min min_keepdim min, "The least over axes; NaN if any is NaN. Equal ones share the gradient evenly.";
    mean mean_keepdim mean, "The mean over axes of floats; NaN of nothing.";
    var var_keepdim var, "The variance over axes, the sum of squares divided by `count - 1` (PyTorch's default).";
    logsumexp logsumexp_keepdim logsumexp, "`log(sum(exp(x)))` over axes, without overflow.";
}

macro_rules! kinds {
    ($($name:ident $kind:ident;)*) => {$(
        #[track_caller]
        fn $name(x: Tensor, axes: &Axes, keep: Keep) -> Traced { reduce(x, ReduceKind::$kind, axes, keep) }
    )*};
}

kinds! {
    sum Sum;
    prod Prod;
    max Max;
    min Min;
}

/// Everything up to each element combined.
#[track_caller]
fn cumulative(x: Tensor, kind: ReduceKind, axis: Axis) -> Traced {
    let axis = axis.of(&x.ty()?)?;
    emit(Op::Prefix(Prefix { kind, axis, reverse: false }), &[x])
}

#[track_caller]
fn var(x: Tensor, axes: &Axes, keep: Keep) -> Traced {
    moments(x, axes, 1, keep).map(|(_, variance)| variance)
}

#[track_caller]
fn logsumexp(x: Tensor, axes: &Axes, keep: Keep) -> Traced {
    let ty = x.ty()?;
    let top = emit(Op::StopGradient, &[reduce(x, ReduceKind::Max, axes, Keep::Yes)?])?;
    // Of infinities alone the maximum is infinite, and subtracting it would give NaN.
    let finite = map(ScalarFn::IsFinite, &[top])?;
    let zero = super::map::stretch(super::map::like(x, 0.0)?, &top.ty()?.shape)?;
    let top = map(ScalarFn::Select, &[finite, top, zero])?;
    let (x, stretched) = broadcast_pair(x, top)?;
    let exp = map(ScalarFn::Exp, &[map(ScalarFn::Sub, &[x, stretched])?])?;
    let log = map(ScalarFn::Log, &[reduce(exp, ReduceKind::Sum, axes, Keep::Yes)?])?;
    let result = map(ScalarFn::Add, &[log, top])?;
    match keep {
        Keep::Yes => Ok(result),
        Keep::No => emit(Op::Reshape(ty.shape.without(&axes.of(&ty)?)), &[result]),
    }
}

impl Tensor {
    /// The sum of everything up to each element along an axis, that element included. Integers wrap; 16-bit floats are summed in `f32`.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use graver_trace::{Array, Device, compile, spec};
    /// # let device = Device::new(Arc::new(graver_interp::Interp::default()));
    /// let f = compile(|x| x.cumsum(-1), spec::<f32>((2, "n")), &device)?;
    /// let x = Array::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    /// assert_eq!(f.call(&x)?.to_f64(), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn cumsum(self, axis: impl Into<Axis>) -> Self {
        done("cumsum", cumulative(self, ReduceKind::Sum, axis.into()))
    }

    /// The product of everything up to each element along an axis; as [`Tensor::cumsum`]. Its derivative divides by nothing, so zeros are like
    /// other numbers, and takes as many steps as the logarithm of the axis' size: the symbol of a symbolic axis should have a range.
    #[must_use]
    #[track_caller]
    pub fn cumprod(self, axis: impl Into<Axis>) -> Self {
        done("cumprod", cumulative(self, ReduceKind::Prod, axis.into()))
    }

    /// The greatest of everything up to each element along an axis; NaN from the first NaN on. Of equal ones the latest has the gradient, as in
    /// PyTorch.
    #[must_use]
    #[track_caller]
    pub fn cummax(self, axis: impl Into<Axis>) -> Self {
        done("cummax", cumulative(self, ReduceKind::Max, axis.into()))
    }

    /// The least of everything up to each element along an axis; as [`Tensor::cummax`].
    #[must_use]
    #[track_caller]
    pub fn cummin(self, axis: impl Into<Axis>) -> Self {
        done("cummin", cumulative(self, ReduceKind::Min, axis.into()))
    }

    /// The variance over axes divided by the count (PyTorch: `correction = 0`), as norms use it.
    #[must_use]
    #[track_caller]
    pub fn var_population(self, axes: impl Into<Axes>) -> Self {
        done("var", moments(self, &axes.into(), 0, Keep::No).map(|(_, variance)| variance))
    }

    /// The square root of [`Tensor::var`].
    #[must_use]
    #[track_caller]
    pub fn std(self, axes: impl Into<Axes>) -> Self {
        self.var(axes).sqrt()
    }

    /// The position of the greatest along an axis, as i64: the first of equals; NaN wins.
    #[must_use]
    #[track_caller]
    pub fn argmax(self, axis: impl Into<Axis>) -> Self {
        done("argmax", arg(self, Extreme::Max, axis.into()))
    }

    /// The position of the least along an axis, as i64: the first of equals; NaN wins.
    #[must_use]
    #[track_caller]
    pub fn argmin(self, axis: impl Into<Axis>) -> Self {
        done("argmin", arg(self, Extreme::Min, axis.into()))
    }

    /// Whether any element along the axes of a bool tensor holds.
    #[must_use]
    #[track_caller]
    pub fn any(self, axes: impl Into<Axes>) -> Self {
        done("any", holds(self, ReduceKind::Max, &axes.into()))
    }

    /// Whether all elements along the axes of a bool tensor hold.
    #[must_use]
    #[track_caller]
    pub fn all(self, axes: impl Into<Axes>) -> Self {
        done("all", holds(self, ReduceKind::Min, &axes.into()))
    }

    /// The greatest of every window over the last two axes. `pool` is a window's side, or a [`Pool2d`].
    #[must_use]
    #[track_caller]
    pub fn max_pool2d(self, pool: impl Into<Pool2d>) -> Self {
        done("max_pool2d", pool.into().windows(self, ReduceKind::Max))
    }

    /// The mean of every window over the last two axes, padding counted as zeros. `pool` is a window's side, or a [`Pool2d`].
    #[must_use]
    #[track_caller]
    pub fn avg_pool2d(self, pool: impl Into<Pool2d>) -> Self {
        done("avg_pool2d", average(self, pool.into()))
    }
}

/// The windows of a pooling over the last two axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    size: [i64; 2],
    stride: [i64; 2],
    padding: [i64; 2],
    dilation: [i64; 2],
}

impl Pool2d {
    /// Windows of this side, without overlap or padding.
    #[must_use]
    pub fn new(size: impl Into<Pair>) -> Self {
        let Pair(size) = size.into();
        Self { size, stride: size, padding: [0; 2], dilation: [1; 2] }
    }

    /// The distance between windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Pair>) -> Self {
        self.stride = stride.into().0;
        self
    }

    /// Elements of padding on each side; at most half a window.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Pair>) -> Self {
        self.padding = padding.into().0;
        self
    }

    /// The distance between a window's elements.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    #[track_caller]
    fn windows(self, x: Tensor, kind: ReduceKind) -> Traced {
        let ty = x.ty()?;
        let Some(lead) = ty.rank().checked_sub(2) else { return wrong(format!("pools over the last two axes, got {ty}")) };
        if self.padding.iter().zip(self.size).any(|(padding, size)| *padding > size / 2) {
            return wrong(format!("padding {:?} is more than half of a window {:?}", self.padding, self.size));
        }
        let mut axes = vec![WindowAxis::IDENTITY; lead];
        axes.extend((0..2).map(|axis| WindowAxis {
            size: self.size[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            low: Dim::from(self.padding[axis]),
            high: Dim::from(self.padding[axis]),
        }));
        emit(Op::Window(Window { kind, axes }), &[x])
    }
}

impl<P: Into<Pair>> From<P> for Pool2d {
    fn from(size: P) -> Self {
        Self::new(size)
    }
}

/// A number for both spatial axes, or one for each: `2`, `(2, 1)`, `[2, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair(pub(crate) [i64; 2]);

impl Pair {
    /// Both numbers: height, width.
    #[must_use]
    pub const fn get(self) -> [i64; 2] {
        self.0
    }
}

macro_rules! pair_from {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Pair {
            fn from(both: $ty) -> Self { Self([i64::try_from(both).unwrap_or(i64::MAX); 2]) }
        }
        impl From<[$ty; 2]> for Pair {
            fn from(each: [$ty; 2]) -> Self { Self(each.map(|one| i64::try_from(one).unwrap_or(i64::MAX))) }
        }
        impl From<($ty, $ty)> for Pair {
            fn from((first, second): ($ty, $ty)) -> Self { [first, second].into() }
        }
    )*};
}

pair_from!(i32 i64 usize);

#[track_caller]
fn average(x: Tensor, pool: Pool2d) -> Traced {
    let ty = x.ty()?;
    if !ty.dtype.is_float() {
        return wrong(format!("the mean is of floats, got {ty}"));
    }
    let sums = pool.windows(x, ReduceKind::Sum)?;
    let count = Dim::from(pool.size[0]) * Dim::from(pool.size[1]);
    let (sums, count) = broadcast_pair(sums, size_like(&count, ty.dtype)?)?;
    map(ScalarFn::Div, &[sums, count])
}
