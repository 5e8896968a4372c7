//! Sizes in user code: numbers and expressions in the declared symbols, and how shapes are written.

use std::fmt;
use std::ops::{Add, Div, Mul, Rem, Sub};

use graver_ir::{Diag, Dim, Shape, Symbol};

use crate::context::{Traced, done, give_up, with, wrong};
use crate::ops::index::size_like;
use crate::spec::SymbolSpec;
use crate::tensor::{Operand, Tensor};

/// The size of an axis: a number, or an expression in symbols that calls will give values. Copied freely inside its trace.
///
/// `+ - *`, `/` (rounding down) and `%` give sizes again; any of them may be part of a shape.
#[derive(Clone, Copy)]
pub struct Size(Repr);

#[derive(Clone, Copy)]
enum Repr {
    Number(i64),
    /// An expression of the trace of this id, by position.
    Expr {
        trace: u32,
        index: u32,
    },
}

impl Size {
    pub(crate) fn from_dim(dim: Dim) -> Self {
        match dim.as_const() {
            Some(number) => Self(Repr::Number(number)),
            None => with(|trace| {
                let place = trace.dims.iter().position(|known| *known == dim).unwrap_or_else(|| {
                    trace.dims.push(dim);
                    trace.dims.len() - 1
                });
                let index = u32::try_from(place).expect("fewer than 2^32 sizes in a trace");
                Self(Repr::Expr { trace: trace.id(), index })
            }),
        }
    }

    /// The number of 0 or more that it is, outside of traces too.
    pub(crate) fn known(self) -> Option<i64> {
        match self.0 {
            Repr::Number(number) => Some(number).filter(|number| *number >= 0),
            Repr::Expr { .. } => None,
        }
    }

    #[track_caller]
    pub(crate) fn to_dim(self) -> Traced<Dim> {
        match self.0 {
            Repr::Number(number) => Ok(Dim::from(number)),
            Repr::Expr { trace: id, index } => with(|trace| {
                if trace.id() == id {
                    Ok(trace.dims[index as usize].clone())
                } else {
                    wrong("a size of another trace is used here")
                }
            }),
        }
    }

    #[track_caller]
    fn dim_or_unwind(self) -> Dim {
        self.to_dim().unwrap_or_else(|failed| give_up("size", failed))
    }

    /// The size as a number. If it depends on a declared symbol, which has no value before the call, this ends the trace
    /// with an error that says so.
    #[must_use]
    #[track_caller]
    pub fn number(self) -> usize {
        let dim = self.dim_or_unwind();
        match dim.as_const().and_then(|number| usize::try_from(number).ok()) {
            Some(number) => number,
            None => give_up(
                "size",
                Diag::new(format!("the size {dim} is not known before the call, and cannot be a number here"))
                    .help("compute with the size itself, or declare the axis with a number")
                    .into(),
            ),
        }
    }

    /// Whether the size is a number, and which.
    #[must_use]
    #[track_caller]
    pub fn as_number(self) -> Option<usize> {
        self.dim_or_unwind().as_const().and_then(|number| usize::try_from(number).ok())
    }

    /// The quotient rounded up.
    #[must_use]
    #[track_caller]
    pub fn ceil_div(self, other: impl Into<Self>) -> Self {
        let (x, y) = (self.dim_or_unwind(), other.into().divisor());
        Self::from_dim(x.ceil_div(&y))
    }

    /// The lesser of both.
    #[must_use]
    #[track_caller]
    pub fn min(self, other: impl Into<Self>) -> Self {
        Self::from_dim(self.dim_or_unwind().min_with(&other.into().dim_or_unwind()))
    }

    /// The greater of both.
    #[must_use]
    #[track_caller]
    pub fn max(self, other: impl Into<Self>) -> Self {
        Self::from_dim(self.dim_or_unwind().max_with(&other.into().dim_or_unwind()))
    }

    #[track_caller]
    fn divisor(self) -> Dim {
        let dim = self.dim_or_unwind();
        if dim.bounds().hi < 1 { give_up("size", Diag::new(format!("a size is divided by {dim}")).into()) } else { dim }
    }
}

impl Operand for Size {
    /// The size as a number of the other operand's element type: `x.sum(0) / x.dim(0)`.
    #[track_caller]
    fn beside(&self, other: Tensor) -> Tensor {
        done("size", sized(*self, other))
    }
}

#[track_caller]
fn sized(size: Size, other: Tensor) -> Traced {
    size_like(&size.to_dim()?, other.ty()?.dtype)
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_dim() {
            Ok(dim) => write!(f, "{dim}"),
            Err(_) => f.write_str("size of another trace"),
        }
    }
}

impl PartialEq for Size {
    /// Whether both are equal for all values of the symbols.
    fn eq(&self, other: &Self) -> bool {
        matches!((self.to_dim(), other.to_dim()), (Ok(x), Ok(y)) if x == y)
    }
}

impl PartialEq<usize> for Size {
    fn eq(&self, other: &usize) -> bool {
        *self == Self::from(*other)
    }
}

macro_rules! size_from {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Size {
            fn from(number: $ty) -> Self { Self(Repr::Number(i64::try_from(number).unwrap_or(i64::MAX))) }
        }
        impl DimArg for $ty {
            fn dim_arg(&self) -> Extent { i64::try_from(*self).map_or(Extent::Size(i64::MAX.into()), Extent::number) }
        }
    )*};
}

size_from!(i32 i64 usize u32);

macro_rules! size_operators {
    ($($op:ident $method:ident |$x:ident, $y:ident| $work:expr;)*) => {$(
        impl<S: Into<Size>> $op<S> for Size {
            type Output = Size;
            #[track_caller]
            fn $method(self, other: S) -> Size {
                let ($x, $y) = (self.dim_or_unwind(), other.into());
                Size::from_dim($work)
            }
        }
    )*};
}

size_operators! {
    Add add |x, y| x + y.dim_or_unwind();
    Sub sub |x, y| x - y.dim_or_unwind();
    Mul mul |x, y| x * y.dim_or_unwind();
    Div div |x, y| x.floor_div(&y.divisor());
    Rem rem |x, y| x.modulo(&y.divisor());
}

/// One size of a shape as it is written.
#[derive(Clone, Debug)]
pub enum Extent {
    /// A size.
    Size(Size),
    /// -1: what is left over.
    Rest,
    /// A declared symbol by name, or a new one of any size.
    Name(String),
    /// A symbol with what is declared about it.
    Symbol(SymbolSpec),
}

impl Extent {
    fn number(number: i64) -> Self {
        if number == -1 { Self::Rest } else { Self::Size(number.into()) }
    }

    /// The size, unless it is -1.
    #[track_caller]
    fn to_dim(&self) -> Traced<Option<Dim>> {
        match self {
            Self::Size(size) => {
                let dim = size.to_dim()?;
                if dim.bounds().hi < 0 { wrong(format!("the size {dim} is negative")) } else { Ok(Some(dim)) }
            }
            Self::Rest => Ok(None),
            Self::Name(name) => match with(|trace| trace.symbols.get(name).cloned()) {
                Some(symbol) => Ok(Some(Dim::sym(&symbol))),
                None => wrong(format!("no input declares the size `{name}`")),
            },
            Self::Symbol(symbol) => Ok(Some(symbol.dim())),
        }
    }
}

/// What may be one size of a shape: a number (-1: what is left over), a [`Size`], a symbol or its name.
pub trait DimArg {
    /// The size as written.
    fn dim_arg(&self) -> Extent;
}

impl DimArg for Size {
    fn dim_arg(&self) -> Extent {
        Extent::Size(*self)
    }
}

impl DimArg for str {
    fn dim_arg(&self) -> Extent {
        Extent::Name(self.to_owned())
    }
}

impl DimArg for Symbol {
    fn dim_arg(&self) -> Extent {
        Extent::Symbol(self.clone().into())
    }
}

impl DimArg for SymbolSpec {
    fn dim_arg(&self) -> Extent {
        Extent::Symbol(self.clone())
    }
}

impl<D: DimArg + ?Sized> DimArg for &D {
    fn dim_arg(&self) -> Extent {
        (**self).dim_arg()
    }
}

/// What may be a shape: a tuple that mixes numbers, sizes and symbols' names (to 8), an array, slice or vector of one kind, `()` for a scalar.
pub trait Dims {
    /// The sizes as written.
    fn dims(&self) -> Vec<Extent>;
}

impl Dims for () {
    fn dims(&self) -> Vec<Extent> {
        Vec::new()
    }
}

impl<D: DimArg> Dims for [D] {
    fn dims(&self) -> Vec<Extent> {
        self.iter().map(DimArg::dim_arg).collect()
    }
}

impl<D: DimArg, const N: usize> Dims for [D; N] {
    fn dims(&self) -> Vec<Extent> {
        self.as_slice().dims()
    }
}

impl<D: DimArg> Dims for Vec<D> {
    fn dims(&self) -> Vec<Extent> {
        self.as_slice().dims()
    }
}

impl<D: Dims + ?Sized> Dims for &D {
    fn dims(&self) -> Vec<Extent> {
        (**self).dims()
    }
}

macro_rules! tuple_dims {
    ($($name:ident)*) => {
        impl<$($name: DimArg),*> Dims for ($($name,)*) {
            #[expect(non_snake_case, reason = "values named as their types")]
            fn dims(&self) -> Vec<Extent> {
                let ($($name,)*) = self;
                vec![$($name.dim_arg()),*]
            }
        }
    };
}

tuple_dims!(A);
tuple_dims!(A B);
tuple_dims!(A B C);
tuple_dims!(A B C D);
tuple_dims!(A B C D E);
tuple_dims!(A B C D E F);
tuple_dims!(A B C D E F G);
tuple_dims!(A B C D E F G H);

/// The shape as written, without -1.
#[track_caller]
pub(crate) fn whole_shape(dims: &dyn Dims) -> Traced<Shape> {
    let mut shape = Vec::new();
    for extent in dims.dims() {
        match extent.to_dim()? {
            Some(dim) => shape.push(dim),
            None => return wrong("-1 stands for a size that nothing tells here"),
        }
    }
    Ok(Shape(shape))
}

/// The shape as written for so many elements; one size may be -1.
#[track_caller]
pub(crate) fn shape_for(dims: &dyn Dims, numel: &Dim) -> Traced<Shape> {
    let mut shape = Vec::new();
    let mut rest = None;
    for (axis, extent) in dims.dims().iter().enumerate() {
        match extent.to_dim()? {
            Some(dim) => shape.push(dim),
            None if rest.is_some() => return wrong("-1 may stand for one size only"),
            None => {
                rest = Some(axis);
                shape.push(Dim::ONE);
            }
        }
    }
    let mut shape = Shape(shape);
    if let Some(axis) = rest {
        let others = shape.numel();
        match if others.is(0) { None } else { numel.exact_div(&others) } {
            Some(size) => shape.0[axis] = size,
            None => return wrong(format!("{numel} elements are not known to be a multiple of the other sizes' {others}")),
        }
    }
    Ok(shape)
}
