//! The interpreter's arrays: an element type, sizes, and elements in one of two wide forms.

use graver_ir::{Array, DType, Element, Scalar, Shape, Type, bf16, f16};

use crate::scalar::{Num, Precision, round, wrap};

/// A row-major array. Floats of every type are `f64`; integers and bool are `i64`, a `u64` by its bits.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

/// Elements of a [`Dense`].
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Float(Vec<f64>),
    Int(Vec<i64>),
}

/// The same expression for either form of elements.
macro_rules! on_data {
    ($data:expr, $x:ident => $body:expr) => {
        match $data {
            $crate::dense::Data::Float($x) => $crate::dense::Data::Float($body),
            $crate::dense::Data::Int($x) => $crate::dense::Data::Int($body),
        }
    };
}
pub(crate) use on_data;

impl Dense {
    pub(crate) fn from_array(array: &Array) -> Self {
        Self { dtype: array.dtype(), shape: array.shape().to_vec(), data: Data::from_array(array) }
    }

    /// An array of the declared type; of `f64` for any float where floats were not rounded.
    pub(crate) fn to_array(&self, precision: Precision) -> Array {
        match &self.data {
            Data::Float(data) => float_array(self.dtype, &self.shape, data, precision),
            Data::Int(data) => int_array(self.dtype, &self.shape, data),
        }
    }

    pub(crate) fn ty(&self) -> Type {
        Type::new(self.dtype, Shape::new(self.shape.iter().copied()))
    }

    pub(crate) fn filled(shape: &[usize], value: Scalar) -> Self {
        let numel = shape.iter().product();
        let data = match Num::of(value) {
            Num::Float(x) => Data::Float(vec![x; numel]),
            Num::Int(x) => Data::Int(vec![x; numel]),
        };
        Self { dtype: value.dtype(), shape: shape.to_vec(), data }
    }

    /// Computed elements made values of the type: floats rounded, integers wrapped.
    pub(crate) fn finished(mut self, precision: Precision) -> Self {
        match &mut self.data {
            Data::Float(data) => data.iter_mut().for_each(|x| *x = round(self.dtype, precision, *x)),
            Data::Int(data) => data.iter_mut().for_each(|x| *x = wrap(self.dtype, i128::from(*x))),
        }
        self
    }
}

impl Data {
    fn from_array(array: &Array) -> Self {
        match array.dtype() {
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => Self::Float(array.to_f64()),
            DType::I64 => Self::Int(typed::<i64>(array).to_vec()),
            DType::I32 => Self::Int(typed::<i32>(array).iter().map(|x| i64::from(*x)).collect()),
            DType::I16 => Self::Int(typed::<i16>(array).iter().map(|x| i64::from(*x)).collect()),
            DType::I8 => Self::Int(typed::<i8>(array).iter().map(|x| i64::from(*x)).collect()),
            DType::U64 => Self::Int(typed::<u64>(array).iter().map(|x| x.cast_signed()).collect()),
            DType::U32 => Self::Int(typed::<u32>(array).iter().map(|x| i64::from(*x)).collect()),
            DType::U16 => Self::Int(typed::<u16>(array).iter().map(|x| i64::from(*x)).collect()),
            DType::U8 => Self::Int(typed::<u8>(array).iter().map(|x| i64::from(*x)).collect()),
            DType::Bool => Self::Int(typed::<bool>(array).iter().map(|x| i64::from(*x)).collect()),
        }
    }

    pub(crate) fn ints(&self) -> &[i64] {
        match self {
            Self::Int(data) => data,
            Self::Float(_) => unreachable!("typed: integers are asked for where floats are"),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Float(data) => data.len(),
            Self::Int(data) => data.len(),
        }
    }

    pub(crate) fn get(&self, position: usize) -> Num {
        match self {
            Self::Float(data) => Num::Float(data[position]),
            Self::Int(data) => Num::Int(data[position]),
        }
    }

    /// The elements at these positions.
    pub(crate) fn pick(&self, positions: impl Iterator<Item = usize>) -> Self {
        on_data!(self, data => positions.map(|position| data[position]).collect())
    }

    /// Writes `from`'s elements in order at these positions.
    pub(crate) fn place(&mut self, positions: impl Iterator<Item = usize>, from: &Self) {
        match (self, from) {
            (Self::Float(to), Self::Float(from)) => positions.zip(from).for_each(|(position, x)| to[position] = *x),
            (Self::Int(to), Self::Int(from)) => positions.zip(from).for_each(|(position, x)| to[position] = *x),
            (Self::Float(_), Self::Int(_)) | (Self::Int(_), Self::Float(_)) => {
                unreachable!("typed: elements are placed among their like")
            }
        }
    }
}

fn typed<E: Element>(array: &Array) -> &[E] {
    array.as_slice::<E>().expect("an array's elements have its element type")
}

fn array_of<E: Element>(shape: &[usize], data: impl Iterator<Item = E>) -> Array {
    Array::from_vec(shape, data.collect()).expect("a dense array has as many elements as its sizes say")
}

fn float_array(dtype: DType, shape: &[usize], data: &[f64], precision: Precision) -> Array {
    let data = data.iter().copied();
    match (precision, dtype) {
        (Precision::Reference, _) | (Precision::Typed, DType::F64) => array_of(shape, data),
        (Precision::Typed, DType::F32) => array_of(shape, data.map(|x| x as f32)),
        (Precision::Typed, DType::F16) => array_of(shape, data.map(|x| f16::from_f32(x as f32))),
        (Precision::Typed, DType::BF16) => array_of(shape, data.map(|x| bf16::from_f32(x as f32))),
        (Precision::Typed, DType::I64 | DType::I32 | DType::I16 | DType::I8)
        | (Precision::Typed, DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool) => {
            unreachable!("typed: float elements of type {dtype}")
        }
    }
}

fn int_array(dtype: DType, shape: &[usize], data: &[i64]) -> Array {
    let data = data.iter().copied();
    match dtype {
        DType::I64 => array_of(shape, data),
        DType::I32 => array_of(shape, data.map(|x| x as i32)),
        DType::I16 => array_of(shape, data.map(|x| x as i16)),
        DType::I8 => array_of(shape, data.map(|x| x as i8)),
        DType::U64 => array_of(shape, data.map(|x| x as u64)),
        DType::U32 => array_of(shape, data.map(|x| x as u32)),
        DType::U16 => array_of(shape, data.map(|x| x as u16)),
        DType::U8 => array_of(shape, data.map(|x| x as u8)),
        DType::Bool => array_of(shape, data.map(|x| x != 0)),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => unreachable!("typed: integer elements of type {dtype}"),
    }
}

/// What reductions and sums of products need of an element.
pub(crate) trait Arith: Copy + PartialOrd {
    const ZERO: Self;
    fn of(value: Num) -> Self;
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn maximum(self, other: Self) -> Self;
    fn minimum(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
}

impl Arith for f64 {
    const ZERO: Self = 0.0;
    fn of(value: Num) -> Self {
        value.float()
    }
    fn add(self, other: Self) -> Self {
        self + other
    }
    fn mul(self, other: Self) -> Self {
        self * other
    }
    fn maximum(self, other: Self) -> Self {
        crate::scalar::maximum(self, other)
    }
    fn minimum(self, other: Self) -> Self {
        crate::scalar::minimum(self, other)
    }
    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

/// Wraps at 64 bits; the low bits of a narrower type are those of its own arithmetic.
impl Arith for i64 {
    const ZERO: Self = 0;
    fn of(value: Num) -> Self {
        value.int()
    }
    fn add(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    fn mul(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }
    fn maximum(self, other: Self) -> Self {
        self.max(other)
    }
    fn minimum(self, other: Self) -> Self {
        self.min(other)
    }
    fn is_nan(self) -> bool {
        false
    }
}
