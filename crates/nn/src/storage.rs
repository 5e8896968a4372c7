//! Weights that are kept in fewer bits than they are computed with: for models that are only used, whose speed is that of reading
//! weights. Nothing here trains.

use graver_ir::Scalar;
use graver_trace::{Array, DType, Param, Tensor};

/// How a layer keeps a weight. The layer computes as before, in `f32` sums; what differs is that the weight is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As `f16`: within 2^-11 of each element, relatively; elements beyond 65504 become infinite.
    F16,
    /// As `bf16`: within 2^-8 of each element, relatively.
    Bf16,
    /// As integers of 8 bits from -127 to 127 and one scale for each row: within 1/254 of the row's greatest magnitude.
    Int8,
}

/// A weight as it is kept, with the scales of its rows if it has any. Both are frozen.
pub(crate) fn kept(weight: &Array, storage: Storage) -> (Param, Option<Param>) {
    let frozen = |array: Array| {
        let param = Param::new(array);
        param.freeze();
        param
    };
    match storage {
        Storage::F16 => (frozen(weight.cast(DType::F16)), None),
        Storage::Bf16 => (frozen(weight.cast(DType::BF16)), None),
        Storage::Int8 => {
            let (values, scales) = integers(weight);
            (frozen(values), Some(frozen(scales)))
        }
    }
}

/// `round(w / scale)` and `scale`, the greatest magnitude of each row over 127. Not a number becomes 0.
fn integers(weight: &Array) -> (Array, Array) {
    const MOST: f64 = 127.0;
    let (values, rows) = (weight.to_f64(), weight.shape().first().copied().unwrap_or(1));
    let width = values.len() / rows.max(1);
    let greatest = |row: usize| values[row * width..(row + 1) * width].iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let scales = Array::from_fn(weight.dtype(), [rows], |row| Scalar::float(weight.dtype(), greatest(row) / MOST));
    // Rounded as the scales are.
    let rounded = scales.to_f64();
    let whole = |place: usize| {
        let scale = rounded[place / width];
        let value = if scale > 0.0 { (values[place] / scale).round_ties_even().clamp(-MOST, MOST) } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of seven bits; NaN gives 0")]
        Scalar::int(DType::I8, value as i64)
    };
    (Array::from_fn(DType::I8, weight.shape(), whole), scales)
}

/// A kept tensor in the type that is computed with. Types that nothing is kept in stay, and differ as any others do.
#[track_caller]
pub(crate) fn widened(kept: Tensor, dtype: DType) -> Tensor {
    let wider = matches!(dtype, DType::F32 | DType::F64);
    if wider && matches!(kept.dtype(), DType::F16 | DType::BF16 | DType::I8) { kept.cast(dtype) } else { kept }
}

/// `x W^T`: `[.., inputs]` with `[outputs, inputs]` and the scales of its rows to `[.., outputs]`.
#[track_caller]
pub(crate) fn times_transposed(x: Tensor, weight: &Param, scale: Option<&Param>) -> Tensor {
    let y = x.matmul(widened(weight.get(), x.dtype()).t());
    // Scales do not differ along what is summed: they wait for the sum.
    match scale {
        Some(scale) => y * scale,
        None => y,
    }
}
