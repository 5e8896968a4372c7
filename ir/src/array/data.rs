//! Elements by type, and the Rust types that they are.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};

use super::elements::{Elements, Lender};
use crate::dtype::{DType, Scalar};

/// A Rust type that is an element type.
pub trait Element: Copy + Send + Sync + 'static + private::Sealed + fmt::Debug + PartialEq {
    /// The element type that it is.
    const DTYPE: DType;
    /// The value as a float (exact but for integers beyond 2^53).
    fn to_f64(self) -> f64;
    /// The value from a constant of any element type, as [`Scalar`] converts.
    fn from_scalar(scalar: Scalar) -> Self;
    /// The value as a constant.
    fn to_scalar(self) -> Scalar;
}

mod private {
    use super::Data;

    pub trait Sealed: Sized {
        fn wrap(data: Vec<Self>) -> Data;
        fn slice(data: &Data) -> Option<&[Self]>;
        fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;
    }
}

macro_rules! elements {
    ($($variant:ident $ty:ident |$x:ident| $to:expr, |$s:ident| $from:expr;)*) => {
        /// The elements, by type.
        #[derive(Clone, Debug)]
        pub enum Data { $(#[doc = stringify!($ty)] $variant(Elements<$ty>)),* }

        impl Data {
            pub(super) fn dtype(&self) -> DType { match self { $(Self::$variant(_) => DType::$variant),* } }
            pub(super) fn len(&self) -> usize { match self { $(Self::$variant(data) => data.len()),* } }
            pub(super) fn splat(value: Scalar, len: usize) -> Self {
                match value.dtype() { $(DType::$variant => Self::$variant(Elements::splat(<$ty>::from_scalar(value), len))),* }
            }
            pub(super) fn zeroed(dtype: DType, len: usize) -> Option<Self> {
                match dtype { $(DType::$variant => Elements::zeroed(len).map(Self::$variant)),* }
            }
            pub(super) fn release(&self) { match self { $(Self::$variant(data) => data.release()),* } }
            pub(super) fn get(&self, position: usize) -> Scalar {
                match self { $(Self::$variant(data) => data[position].to_scalar()),* }
            }
            pub(super) fn set(&mut self, position: usize, value: Scalar) {
                match self { $(Self::$variant(data) => data[position] = <$ty>::from_scalar(value)),* }
            }
            pub(super) fn to_f64(&self) -> Vec<f64> {
                match self { $(Self::$variant(data) => data.iter().map(|x| x.to_f64()).collect()),* }
            }
            pub(super) fn bytes(&self) -> &[u8] {
                match self { $(Self::$variant(data) => bytemuck::cast_slice(data)),* }
            }
        }

        $(
            impl private::Sealed for $ty {
                fn wrap(data: Vec<Self>) -> Data { Data::$variant(data.into()) }
                fn slice(data: &Data) -> Option<&[Self]> { match data { Data::$variant(data) => Some(data), _ => None } }
                fn slice_mut(data: &mut Data) -> Option<&mut [Self]> { match data { Data::$variant(data) => Some(data), _ => None } }
            }
            impl Element for $ty {
                const DTYPE: DType = DType::$variant;
                #[allow(clippy::cast_precision_loss, clippy::cast_lossless, reason = "documented in the trait")]
                fn to_f64(self) -> f64 { let $x = self; $to }
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a Scalar's dtype was saturated to fit")]
                fn from_scalar($s: Scalar) -> Self { let $s = retype($s, DType::$variant); $from }
                fn to_scalar(self) -> Scalar { to_scalar!($variant, self) }
            }
        )*
    };
}

macro_rules! to_scalar {
    (F64, $x:expr) => {
        Scalar::float(DType::F64, $x)
    };
    (F32, $x:expr) => {
        Scalar::float(DType::F32, f64::from($x))
    };
    (F16, $x:expr) => {
        Scalar::float(DType::F16, $x.to_f64())
    };
    (BF16, $x:expr) => {
        Scalar::float(DType::BF16, $x.to_f64())
    };
    ($variant:ident, $x:expr) => {
        Scalar::from_i128(DType::$variant, i128::from($x))
    };
}

elements! {
    F64 f64 |x| x, |s| s.as_f64();
    F32 f32 |x| f64::from(x), |s| s.as_f64() as f32;
    F16 f16 |x| x.to_f64(), |s| f16::from_f64(s.as_f64());
    BF16 bf16 |x| x.to_f64(), |s| bf16::from_f64(s.as_f64());
    I64 i64 |x| x as f64, |s| s.as_i64();
    I32 i32 |x| f64::from(x), |s| s.as_i64() as i32;
    I16 i16 |x| f64::from(x), |s| s.as_i64() as i16;
    I8 i8 |x| f64::from(x), |s| s.as_i64() as i8;
    U64 u64 |x| x as f64, |s| s.bits();
    U32 u32 |x| f64::from(x), |s| s.as_i64() as u32;
    U16 u16 |x| f64::from(x), |s| s.as_i64() as u16;
    U8 u8 |x| f64::from(x), |s| s.as_i64() as u8;
    Bool bool |x| f64::from(u8::from(x)), |s| s.as_i64() != 0;
}

fn retype(scalar: Scalar, dtype: DType) -> Scalar {
    if scalar.dtype() == dtype {
        scalar
    } else if scalar.dtype().is_float() {
        Scalar::float(dtype, scalar.as_f64())
    } else {
        Scalar::from_i128(dtype, scalar.as_i128())
    }
}

impl Data {
    /// Elements that a lender has at these of its bytes, in the machine's order; `None` where they do not lie as elements do.
    pub(super) fn lent(dtype: DType, lender: &Arc<dyn Lender>, range: Range<usize>) -> Option<Self> {
        match dtype {
            DType::F64 => Elements::lent(lender, range).map(Self::F64),
            DType::F32 => Elements::lent(lender, range).map(Self::F32),
            DType::F16 => Elements::lent(lender, range).map(Self::F16),
            DType::BF16 => Elements::lent(lender, range).map(Self::BF16),
            DType::I64 => Elements::lent(lender, range).map(Self::I64),
            DType::I32 => Elements::lent(lender, range).map(Self::I32),
            DType::I16 => Elements::lent(lender, range).map(Self::I16),
            DType::I8 => Elements::lent(lender, range).map(Self::I8),
            DType::U64 => Elements::lent(lender, range).map(Self::U64),
            DType::U32 => Elements::lent(lender, range).map(Self::U32),
            DType::U16 => Elements::lent(lender, range).map(Self::U16),
            DType::U8 => Elements::lent(lender, range).map(Self::U8),
            // Not every byte is one.
            DType::Bool => None,
        }
    }

    /// A `bool` must stay 0 or 1.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        let (pointer, size) = match self {
            Data::F64(x) => (x.as_mut_ptr().cast(), 8),
            Data::F32(x) => (x.as_mut_ptr().cast(), 4),
            Data::F16(x) => (x.as_mut_ptr().cast(), 2),
            Data::BF16(x) => (x.as_mut_ptr().cast(), 2),
            Data::I64(x) => (x.as_mut_ptr().cast(), 8),
            Data::I32(x) => (x.as_mut_ptr().cast(), 4),
            Data::I16(x) => (x.as_mut_ptr().cast(), 2),
            Data::I8(x) => (x.as_mut_ptr().cast(), 1),
            Data::U64(x) => (x.as_mut_ptr().cast(), 8),
            Data::U32(x) => (x.as_mut_ptr().cast(), 4),
            Data::U16(x) => (x.as_mut_ptr().cast(), 2),
            Data::U8(x) => (x.as_mut_ptr().cast(), 1),
            Data::Bool(x) => (x.as_mut_ptr().cast::<u8>(), 1),
        };
        // SAFETY: the pointer covers `len` elements of `size` bytes, borrowed mutably through `self`; every element type
        // but bool admits every bit pattern, and for bool the caller's contract keeps 0 and 1.
        unsafe { std::slice::from_raw_parts_mut(pointer, len * size) }
    }
}

impl PartialEq for Data {
    /// By bits: NaN equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.dtype() == other.dtype() && self.bytes() == other.bytes()
    }
}

impl Eq for Data {}

impl Hash for Data {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dtype().hash(state);
        self.bytes().hash(state);
    }
}
