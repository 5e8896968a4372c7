//! What is known of a value's numbers before it is computed: size, error, exactness.

use graver_ir::{Array, DType, DTypeKind};

use crate::close::{Bound, eps};

/// Bounds that hold for every element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Numbers {
    /// No magnitude is greater.
    pub(super) max: f64,
    /// How far the value may be from what the same program over `f64` computes.
    pub(super) error: f64,
    /// If the value is exact: every element is a multiple of this power of two.
    pub(super) grain: Option<f64>,
}

/// No float is larger, and none is less certain: half precision is far from its end.
const MAX: f64 = 1000.0;
const MAX_ERROR: f64 = 0.5;

impl Numbers {
    /// Any value of an integer type, or a truth value.
    pub(super) fn discrete(dtype: DType) -> Self {
        let max = match dtype {
            DType::Bool => 1.0,
            DType::U8 => 255.0,
            DType::I8 => 128.0,
            DType::U16 => 65_535.0,
            DType::I16 => 32_768.0,
            DType::U32 => f64::from(u32::MAX),
            DType::I32 => 2f64.powi(31),
            DType::U64 => 2f64.powi(64),
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 | DType::I64 => 2f64.powi(63),
        };
        Self { max, error: 0.0, grain: Some(1.0) }
    }

    /// A known constant of few bits.
    pub(super) fn constant(dtype: DType, value: f64) -> Self {
        if dtype.is_float() {
            Self { max: value.abs(), error: 0.0, grain: Some(0.25) }
        } else {
            Self::discrete(dtype).capped(value)
        }
    }

    /// An input of quarters.
    pub(super) fn of(array: &Array) -> Self {
        let max = array.to_f64().into_iter().map(f64::abs).fold(0.0, f64::max);
        let grain = if array.dtype().is_float() { 0.25 } else { 1.0 };
        Self { max, error: 0.0, grain: Some(grain) }
    }

    /// Known to be no larger.
    pub(super) fn capped(self, max: f64) -> Self {
        Self { max: self.max.min(max), ..self }
    }

    pub(super) const fn is_exact(&self) -> bool {
        self.grain.is_some()
    }

    /// Whether programs may go on with it.
    pub(super) fn is_tame(&self) -> bool {
        self.is_exact() && self.grain == Some(1.0) || self.max <= MAX && self.error <= MAX_ERROR
    }

    /// The result of a function of slope `slope` and size `max`, computed with `ulps` rounding errors; no longer exact.
    pub(super) fn smooth(self, dtype: DType, slope: f64, max: f64, ulps: f64) -> Self {
        // One and a half times, for what rounding errors of the argument do to the slope.
        Self { max, error: 1.5 * slope * self.error + ulps * eps(dtype) * max, grain: None }
    }

    pub(super) fn add(self, other: Self, dtype: DType) -> Self {
        let sum = Self { max: self.max + other.max, error: self.error + other.error, grain: self.common_grain(other) };
        sum.rounded(dtype, 1.0)
    }

    pub(super) fn mul(self, other: Self, dtype: DType) -> Self {
        let product = Self {
            max: self.max * other.max,
            error: self.error * other.max + other.error * self.max + self.error * other.error,
            grain: self.grain.zip(other.grain).map(|(x, y)| x * y),
        };
        product.rounded(dtype, 1.0)
    }

    /// Of any one of both.
    pub(super) fn either(self, other: Self) -> Self {
        Self { max: self.max.max(other.max), error: self.error.max(other.error), grain: self.common_grain(other) }
    }

    /// A sum of `count` such values in any order, each rounded.
    pub(super) fn sum(self, dtype: DType, count: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "an error bound")]
        let count = count as f64;
        Self { max: self.max * count, error: self.error * count, grain: self.grain }.rounded(dtype, count + 1.0)
    }

    /// A product of `count` such values in any order, each rounded.
    pub(super) fn prod(self, dtype: DType, count: usize) -> Self {
        (0..count).fold(Self { max: 1.0, error: 0.0, grain: Some(1.0) }, |product, _| {
            let next = product.mul(self, dtype);
            // Any order: the product of few may be larger than that of many.
            Self { max: next.max.max(1.0), ..next }
        })
    }

    /// Converted to `dtype`, which does not jump: to a float.
    pub(super) fn cast(self, dtype: DType) -> Self {
        self.rounded(dtype, 1.0)
    }

    /// Rounded to `dtype`: exact values stay so where the type holds their bits; integers wrap exactly.
    fn rounded(self, dtype: DType, ulps: f64) -> Self {
        match dtype.kind() {
            DTypeKind::Float if self.grain.is_some_and(|grain| fits(dtype, self.max, grain)) => self,
            DTypeKind::Float => Self { error: self.error + ulps * eps(dtype) * self.max, grain: None, ..self },
            DTypeKind::Signed | DTypeKind::Unsigned | DTypeKind::Bool => {
                let all = Self::discrete(dtype);
                if self.max <= all.max { Self { grain: Some(1.0), ..self } } else { all }
            }
        }
    }

    /// As it is after a store: integers are exact whatever was done to them.
    pub(super) fn stored(self, dtype: DType) -> Self {
        if dtype.is_float() { self } else { self.rounded(dtype, 0.0) }
    }

    fn common_grain(self, other: Self) -> Option<f64> {
        self.grain.zip(other.grain).map(|(x, y)| x.min(y))
    }

    pub(super) const fn bound(&self) -> Bound {
        Bound { relative: 0.0, absolute: self.error }
    }

    /// Whether what holds for `other` holds for this one.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let grain = match (self.grain, other.grain) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(x), Some(y)) => x >= y,
        };
        self.max <= other.max && self.error <= other.error && grain
    }
}

/// Whether all multiples of `grain` up to `max` are values of the type.
fn fits(dtype: DType, max: f64, grain: f64) -> bool {
    max / grain <= 2.0 / eps(dtype) && grain >= 1.0 / 4096.0 && max <= MAX
}
