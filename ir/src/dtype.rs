//! Element types and the scalar constants made of them.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The type of one tensor element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DType {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16; computed in `f32`, rounded where it is stored.
    F16,
    /// bfloat16; computed in `f32`, rounded where it is stored.
    BF16,
    /// Signed 64-bit integer: indices and labels.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer; computed in `i32`, wrapped after every operation.
    I16,
    /// Signed 8-bit integer, as `i16`.
    I8,
    /// Unsigned 64-bit integer: hashes and counters; computed in `i64`, whose sums and products have the same bits.
    U64,
    /// Unsigned 32-bit integer: random bits.
    U32,
    /// Unsigned 16-bit integer; computed in `u32`, wrapped after every operation.
    U16,
    /// Unsigned 8-bit integer: pixels and bytes.
    U8,
    /// A truth value, stored as the byte 0 or 1.
    Bool,
}

/// What a kernel computes in for a stored [`DType`], and which rules apply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DTypeKind {
    /// `f64 f32 f16 bf16`
    Float,
    /// `i64 i32 i16 i8`
    Signed,
    /// `u64 u32 u16 u8`
    Unsigned,
    /// `bool`
    Bool,
}

impl DType {
    /// Every element type, in order of precedence in tables.
    pub const ALL: [Self; 13] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
    ];

    /// The name in texts: `f32`, `i64`, `bool`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// Bytes that one element occupies in memory.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Float, signed, unsigned or bool.
    #[must_use]
    pub const fn kind(self) -> DTypeKind {
        match self {
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 => DTypeKind::Float,
            Self::I64 | Self::I32 | Self::I16 | Self::I8 => DTypeKind::Signed,
            Self::U64 | Self::U32 | Self::U16 | Self::U8 => DTypeKind::Unsigned,
            Self::Bool => DTypeKind::Bool,
        }
    }

    /// Whether values are floating point, and therefore differentiable.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self.kind(), DTypeKind::Float)
    }

    /// Whether values are integers (not `bool`).
    #[must_use]
    pub const fn is_int(self) -> bool {
        matches!(self.kind(), DTypeKind::Signed | DTypeKind::Unsigned)
    }

    /// The type that kernels compute in: `f32` for the 16-bit floats, 32 bits for `i16`, `i8` and `u16`, `i64` for `u64`, else itself.
    #[must_use]
    pub const fn compute(self) -> Self {
        match self {
            Self::F16 | Self::BF16 => Self::F32,
            Self::I16 | Self::I8 => Self::I32,
            Self::U16 => Self::U32,
            Self::U64 => Self::I64,
            Self::F64 | Self::F32 | Self::I64 | Self::I32 | Self::U32 | Self::U8 | Self::Bool => self,
        }
    }

    /// Whether it is an integer that kernels compute in more bits than it has, and wrap.
    #[must_use]
    pub const fn is_narrow(self) -> bool {
        self.is_int() && self.size() < self.compute().size()
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == text).ok_or_else(|| format!("unknown element type `{text}`"))
    }
}

/// One constant element. Floats hold the value already rounded to `dtype`; integers are held in 64 bits.
///
/// Equality and hashing go by bits, so that NaN equals itself and `0.0` differs from `-0.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawScalar")]
pub struct Scalar {
    dtype: DType,
    /// `f64::to_bits` of a float; the two's complement of an integer; 0 or 1.
    bits: u64,
}

/// A scalar as it is read, which may be none.
#[derive(Deserialize)]
struct RawScalar {
    dtype: DType,
    bits: u64,
}

impl TryFrom<RawScalar> for Scalar {
    type Error = String;

    fn try_from(raw: RawScalar) -> Result<Self, String> {
        Self::from_bits(raw.dtype, raw.bits).ok_or_else(|| format!("the bits {:#x} are no {}", raw.bits, raw.dtype))
    }
}

impl Scalar {
    /// The value `x` in `dtype`: rounded to nearest for floats, saturated for integers, `x != 0` for bool.
    /// The 16-bit floats are rounded to `f32` first, which is what they are computed in.
    #[must_use]
    pub fn float(dtype: DType, x: f64) -> Self {
        let rounded = match dtype {
            DType::F64 => x,
            #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is asked for")]
            DType::F32 => f64::from(x as f32),
            #[expect(clippy::cast_possible_truncation, reason = "16-bit floats are rounded from f32 on every machine")]
            DType::F16 => f16::from_f32(x as f32).to_f64(),
            #[expect(clippy::cast_possible_truncation, reason = "16-bit floats are rounded from f32 on every machine")]
            DType::BF16 => bf16::from_f32(x as f32).to_f64(),
            #[expect(clippy::cast_possible_truncation, reason = "saturates, NaN to 0: the numerics contract")]
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => {
                return Self::from_i128(dtype, x as i128);
            }
            DType::Bool => return Self::int(dtype, i64::from(x != 0.0)),
        };
        Self { dtype, bits: rounded.to_bits() }
    }

    /// The value `x` in `dtype`: saturated to the integer types' ranges, rounded to nearest for floats.
    #[must_use]
    pub fn int(dtype: DType, x: i64) -> Self {
        Self::from_i128(dtype, i128::from(x))
    }

    /// As [`Scalar::int`], for what may be a `u64`.
    #[must_use]
    pub fn from_i128(dtype: DType, x: i128) -> Self {
        let (least, most) = match dtype {
            #[expect(clippy::cast_precision_loss, reason = "rounds to nearest")]
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => return Self::float(dtype, x as f64),
            DType::I64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
            DType::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
            DType::I16 => (i128::from(i16::MIN), i128::from(i16::MAX)),
            DType::I8 => (i128::from(i8::MIN), i128::from(i8::MAX)),
            DType::U64 => (0, i128::from(u64::MAX)),
            DType::U32 => (0, i128::from(u32::MAX)),
            DType::U16 => (0, i128::from(u16::MAX)),
            DType::U8 => (0, i128::from(u8::MAX)),
            DType::Bool => return Self { dtype, bits: u64::from(x != 0) },
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "two's complement of what fits in 64 bits")]
        let bits = x.clamp(least, most) as u64;
        Self { dtype, bits }
    }

    /// A truth value.
    #[must_use]
    pub fn bool(x: bool) -> Self {
        Self::int(DType::Bool, i64::from(x))
    }

    /// The zero (or `false`) of `dtype`.
    #[must_use]
    pub fn zero(dtype: DType) -> Self {
        Self::int(dtype, 0)
    }

    /// The one (or `true`) of `dtype`.
    #[must_use]
    pub fn one(dtype: DType) -> Self {
        Self::int(dtype, 1)
    }

    /// The least value of `dtype`: minus infinity for floats, `false` for bool. The identity of `max`.
    #[must_use]
    pub fn lowest(dtype: DType) -> Self {
        match dtype.kind() {
            DTypeKind::Float => Self::float(dtype, f64::NEG_INFINITY),
            DTypeKind::Signed | DTypeKind::Unsigned => Self::from_i128(dtype, i128::MIN),
            DTypeKind::Bool => Self::bool(false),
        }
    }

    /// The greatest value of `dtype`: infinity for floats, `true` for bool. The identity of `min`.
    #[must_use]
    pub fn highest(dtype: DType) -> Self {
        match dtype.kind() {
            DTypeKind::Float => Self::float(dtype, f64::INFINITY),
            DTypeKind::Signed | DTypeKind::Unsigned => Self::from_i128(dtype, i128::MAX),
            DTypeKind::Bool => Self::bool(true),
        }
    }

    /// The element type.
    #[must_use]
    pub const fn dtype(self) -> DType {
        self.dtype
    }

    /// The value as a float; exact but for integers beyond 2^53.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "documented")]
    pub fn as_f64(self) -> f64 {
        if self.dtype.is_float() { f64::from_bits(self.bits) } else { self.as_i128() as f64 }
    }

    /// The value as an integer: floats truncate and saturate, as does a `u64` beyond `i64`; NaN is 0.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "in range")]
    pub fn as_i64(self) -> i64 {
        self.as_i128().clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// As [`Scalar::as_i64`], which holds a `u64` too.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "saturates: the numerics contract")]
    pub fn as_i128(self) -> i128 {
        match self.dtype.kind() {
            DTypeKind::Float => f64::from_bits(self.bits) as i128,
            DTypeKind::Signed => i128::from(self.bits.cast_signed()),
            DTypeKind::Unsigned | DTypeKind::Bool => i128::from(self.bits),
        }
    }

    /// The representation: `f64::to_bits` of a float, the two's complement of an integer, 0 or 1 of a bool.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.bits
    }

    /// The scalar of this representation, if `dtype` has such a value.
    #[must_use]
    pub fn from_bits(dtype: DType, bits: u64) -> Option<Self> {
        let value = f64::from_bits(bits);
        let same = if dtype.kind() == DTypeKind::Signed {
            Self::int(dtype, bits.cast_signed())
        } else if !dtype.is_float() {
            Self::from_i128(dtype, i128::from(bits))
        } else if value.is_nan() {
            Self { dtype, bits }
        } else {
            Self::float(dtype, value)
        };
        (same.bits == bits).then_some(same)
    }

    /// Whether the value is exactly zero (of either sign) or `false`.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.as_f64() == 0.0
    }

    /// Whether the value is exactly one or `true`.
    #[must_use]
    pub fn is_one(self) -> bool {
        if self.dtype.is_float() { self.as_f64() == 1.0 } else { self.as_i64() == 1 }
    }
}

impl fmt::Display for Scalar {
    /// Shortest text that reads back to the same bits; `nan`, `inf`, `-inf`, `true`, `false`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype.kind() {
            DTypeKind::Float => {
                let x = self.as_f64();
                if x.is_nan() {
                    f.write_str("nan")
                } else if x.is_infinite() {
                    f.write_str(if x > 0.0 { "inf" } else { "-inf" })
                } else if self.dtype == DType::F64 {
                    write!(f, "{x:?}")
                } else {
                    #[expect(clippy::cast_possible_truncation, reason = "the value is one of f32's, whose text is shorter")]
                    let x = x as f32;
                    write!(f, "{x:?}")
                }
            }
            DTypeKind::Signed | DTypeKind::Unsigned => write!(f, "{}", self.as_i128()),
            DTypeKind::Bool => write!(f, "{}", self.as_i64() != 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_saturate_and_round() {
        assert_eq!(Scalar::int(DType::U8, 300).as_i64(), 255);
        assert_eq!(Scalar::float(DType::I32, f64::NAN).as_i64(), 0);
        assert_eq!((Scalar::int(DType::I8, -300).as_i64(), Scalar::int(DType::U16, -1).as_i64()), (-128, 0));
        assert_eq!(Scalar::float(DType::U64, f64::INFINITY), Scalar::highest(DType::U64));
        assert_eq!(Scalar::highest(DType::U64).to_string(), u64::MAX.to_string());
        assert_eq!((Scalar::highest(DType::U64).as_i64(), Scalar::int(DType::U64, -1).as_i64()), (i64::MAX, 0));
        assert_eq!(Scalar::from_i128(DType::U64, 1 << 63).as_f64(), 2f64.powi(63));
        assert_eq!(Scalar::from_bits(DType::U64, u64::MAX), Some(Scalar::highest(DType::U64)));
        assert_eq!(Scalar::float(DType::BF16, 1.001).as_f64(), 1.0);
        // Just above half way between 1 and the next f16, which f32 does not see: ties go to even.
        assert_eq!(Scalar::float(DType::F16, 1.0 + 2f64.powi(-11) + 2f64.powi(-40)).as_f64(), 1.0);
        assert_eq!(Scalar::lowest(DType::F16).as_f64(), f64::NEG_INFINITY);
        assert_eq!((Scalar::lowest(DType::Bool), Scalar::highest(DType::Bool)), (Scalar::bool(false), Scalar::bool(true)));
        assert_ne!(Scalar::float(DType::F32, 0.0), Scalar::float(DType::F32, -0.0));
    }
}
