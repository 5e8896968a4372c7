//! Input arrays by domain: each function of the table is sampled where it is defined, and where it is smooth.

use graver_ir::dim::Sizes;
use graver_ir::{Array, DType, DTypeKind, Scalar, Shape};

use crate::rng::Rng;

/// Half of what a `u64` may be, beyond which `i64` has other values.
const HALF: i128 = 1 << 63;

/// Which values an input holds. A `u64` may be as far above half of its range as above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Floats of magnitude 0.1 to 2, integers within 5 (unsigned: to 9), either truth value.
    Any,
    /// Floats from 0.3 to 3, integers from 1 to 9.
    Positive,
    /// Floats from -0.9 to 0.9.
    Open,
    /// Floats of magnitude 0.5 to 2, integers but 0: divisors.
    NonZero,
    /// All elements different (as far as the type goes), in no order.
    Distinct,
    /// Integers in `0..limit`.
    Index(i64),
    /// Distances of shifts, some of them past every width.
    Shift,
    /// Infinities, NaN, zeros of both signs, denormals and ordinary values; for integers both ends of the range.
    Special,
    /// As `Special`, and the greatest and the least values of the type. 20 of floats, 10 of integers.
    Edges,
    /// The same, moved on by one after each round: beside `Edges`, as many elements as pairs hold every pair.
    EdgesBeside,
    /// As `EdgesBeside`, without 0: divisors of integers.
    EdgesBesideNonZero,
    /// Whole numbers within 3 in any type, so that sums and products are exact and ties occur.
    Whole,
    /// Every bit random (integers only).
    Bits,
    /// Multiples of 1/4 within 2, integers within 3: exact under much arithmetic.
    Quarters,
}

impl Fill {
    /// An array of these values.
    ///
    /// # Panics
    /// If the fill is not one for the element type.
    #[must_use]
    pub fn array(self, dtype: DType, shape: &[usize], rng: &mut Rng) -> Array {
        match self {
            Self::Distinct => distinct(dtype, shape, rng),
            Self::Special => in_turn(&specials(dtype, rng), 0, shape, rng),
            Self::Edges => in_turn(&edges(dtype, rng), 0, shape, rng),
            Self::EdgesBeside => in_turn(&edges(dtype, rng), 1, shape, rng),
            Self::EdgesBesideNonZero => {
                let mut values = edges(dtype, rng);
                let zero = Scalar::zero(dtype);
                values.iter_mut().filter(|value| **value == zero).for_each(|value| *value = Scalar::int(dtype, 3));
                in_turn(&values, 1, shape, rng)
            }
            Self::Any
            | Self::Positive
            | Self::Open
            | Self::NonZero
            | Self::Index(_)
            | Self::Shift
            | Self::Whole
            | Self::Bits
            | Self::Quarters => Array::from_fn(dtype, shape, |_| self.element(dtype, rng)),
        }
    }

    fn element(self, dtype: DType, rng: &mut Rng) -> Scalar {
        match dtype.kind() {
            DTypeKind::Float => Scalar::float(dtype, self.float(rng)),
            DTypeKind::Signed => Scalar::int(dtype, self.int(-5, rng)),
            DTypeKind::Unsigned => Scalar::from_i128(dtype, i128::from(self.int(0, rng)) + self.half(dtype, rng)),
            DTypeKind::Bool => Scalar::bool(rng.once_in(2)),
        }
    }

    fn float(self, rng: &mut Rng) -> f64 {
        let signed = |lo, hi, rng: &mut Rng| {
            let magnitude = rng.float(lo, hi);
            if rng.once_in(2) { -magnitude } else { magnitude }
        };
        match self {
            Self::Any => signed(0.1, 2.0, rng),
            Self::Positive => rng.float(0.3, 3.0),
            Self::Open => rng.float(-0.9, 0.9),
            Self::NonZero => signed(0.5, 2.0, rng),
            #[expect(clippy::cast_precision_loss, reason = "small")]
            Self::Whole => rng.int(-3, 3) as f64,
            #[expect(clippy::cast_precision_loss, reason = "small")]
            Self::Quarters => rng.int(-8, 8) as f64 / 4.0,
            Self::Distinct
            | Self::Index(_)
            | Self::Shift
            | Self::Special
            | Self::Edges
            | Self::EdgesBeside
            | Self::EdgesBesideNonZero
            | Self::Bits => panic!("{self:?} is no fill of floats"),
        }
    }

    /// What is added to an element: [`HALF`] now and then.
    fn half(self, dtype: DType, rng: &mut Rng) -> i128 {
        let any = matches!(self, Self::Any | Self::Positive | Self::NonZero | Self::Whole | Self::Quarters | Self::Bits);
        if dtype == DType::U64 && any && rng.once_in(3) { HALF } else { 0 }
    }

    fn int(self, least: i64, rng: &mut Rng) -> i64 {
        match self {
            Self::Any => rng.int(least, if least < 0 { 5 } else { 9 }),
            Self::Positive => rng.int(1, 9),
            Self::NonZero => match rng.int(least.min(1), 5) {
                0 => 6,
                x => x,
            },
            Self::Index(limit) => rng.int(0, limit - 1),
            Self::Shift => rng.int(0, 70),
            Self::Whole | Self::Quarters => rng.int(least.max(-3), 3),
            Self::Bits => rng.bits().cast_signed() >> rng.below(40),
            Self::Open | Self::Distinct | Self::Special | Self::Edges | Self::EdgesBeside | Self::EdgesBesideNonZero => {
                panic!("{self:?} is no fill of integers")
            }
        }
    }
}

fn distinct(dtype: DType, shape: &[usize], rng: &mut Rng) -> Array {
    let numel = i64::try_from(shape.iter().product::<usize>()).expect("a small test array");
    let least = if dtype.kind() == DTypeKind::Unsigned { 0 } else { -numel / 2 };
    let mut values: Vec<i64> = (least..least + numel).collect();
    rng.shuffle(&mut values);
    Array::from_fn(dtype, shape, |position| match dtype.kind() {
        // Off zero, where some functions have a kink.
        #[expect(clippy::cast_precision_loss, reason = "small")]
        DTypeKind::Float => Scalar::float(dtype, values[position] as f64 * 0.25 + 0.125),
        DTypeKind::Unsigned if dtype == DType::U64 => Scalar::from_i128(dtype, HALF + i128::from(values[position] - numel / 2)),
        DTypeKind::Signed | DTypeKind::Unsigned | DTypeKind::Bool => Scalar::int(dtype, values[position]),
    })
}

/// The values of [`Fill::Special`].
fn specials(dtype: DType, rng: &mut Rng) -> Vec<Scalar> {
    const FLOATS: [f64; 16] =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-40, 6e-8, 60.0, -90.0, 12.25, -3.0, 1.5];
    const LEAST: i128 = i64::MIN as i128;
    const INTS: [i128; 10] = [LEAST, HALF - 1, 0, 1, -1, HALF - 1, 7, LEAST, u64::MAX as i128, HALF];
    match dtype.kind() {
        DTypeKind::Float => FLOATS.iter().map(|value| Scalar::float(dtype, *value)).collect(),
        DTypeKind::Signed | DTypeKind::Unsigned => INTS.iter().map(|value| Scalar::from_i128(dtype, *value)).collect(),
        DTypeKind::Bool => (0..7).map(|_| Scalar::bool(rng.once_in(2))).collect(),
    }
}

/// The same, and of floats the greatest on both sides, the least normal one and the least.
fn edges(dtype: DType, rng: &mut Rng) -> Vec<Scalar> {
    let [most, normal, least] = match dtype {
        DType::F64 => [f64::MAX, f64::MIN_POSITIVE, 5e-324],
        DType::F32 => [f64::from(f32::MAX), f64::from(f32::MIN_POSITIVE), 1.4e-45],
        DType::BF16 => [3.389_531_389_251_535_5e38, f64::from(f32::MIN_POSITIVE), 9.2e-41],
        DType::F16 => [65_504.0, 6.103_515_625e-5, 6e-8],
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => {
            return specials(dtype, rng);
        }
    };
    let own = [most, -most, normal, -least].map(|value| Scalar::float(dtype, value));
    specials(dtype, rng).into_iter().chain(own).collect()
}

/// Values in turn, from a random place on, so that operands do not meet in step; each round begins so much further.
fn in_turn(values: &[Scalar], further: usize, shape: &[usize], rng: &mut Rng) -> Array {
    let start = rng.below(values.len());
    let place = |position: usize| (position + position / values.len() * further + start) % values.len();
    Array::from_fn(values[0].dtype(), shape, |position| values[place(position)])
}

/// What the symbols of samples and random programs are at run time: `n = 3, m = 5, k = 7, s = 17, z = 0`.
#[must_use]
pub fn sizes() -> Sizes {
    [("k", 7), ("m", 5), ("n", 3), ("s", 17), ("z", 0)].map(|(name, size)| (name.to_owned(), size)).into()
}

/// The shape at [`sizes`].
///
/// # Panics
/// If it has other symbols.
#[must_use]
pub fn concrete(shape: &Shape) -> Vec<usize> {
    let sizes = sizes();
    let size = |dim: &graver_ir::Dim| dim.eval(&sizes).ok().and_then(|size| usize::try_from(size).ok());
    shape.iter().map(|dim| size(dim).expect("a shape over the symbols of `sizes`")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use graver_ir::DType;

    use super::Fill;
    use crate::rng::Rng;

    #[test]
    fn every_pair_of_edges_occurs_and_no_divisor_is_zero() {
        let mut rng = Rng::named("edges");
        // 1e-40 is 0 in f16.
        for (dtype, count) in [(DType::F16, 19), (DType::BF16, 20), (DType::F32, 20), (DType::F64, 20), (DType::I32, 6)] {
            let [x, y, divisors] =
                [Fill::Edges, Fill::EdgesBeside, Fill::EdgesBesideNonZero].map(|fill| fill.array(dtype, &[400], &mut rng));
            let bits = |array: &graver_ir::Array, place: usize| array.get(place).bits();
            let pairs: BTreeSet<(u64, u64)> = (0..400).map(|place| (bits(&x, place), bits(&y, place))).collect();
            assert_eq!(pairs.len(), count * count, "{dtype}");
            assert!(dtype.is_float() || divisors.to_f64().iter().all(|value| *value != 0.0), "{dtype}");
        }
    }
}
