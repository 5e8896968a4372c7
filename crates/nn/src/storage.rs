//! Weights that are kept in fewer bits than they are computed with: for models that are only used, whose speed is that of reading
//! weights. Nothing here trains.
//!
//! Integers of 4 bits, plus 8, are two in a byte: byte `i` of a group of `2 n` holds element `i` in its low half and element
//! `n + i` in its high one, so that neighbours come of neighbours. Operations of the graph decode them, which the compiler
//! makes part of the product.

use graver_ir::{Diag, Scalar};
use graver_trace::{Array, DType, Param, Size, Tensor, arange};

/// How a layer keeps a weight. The layer computes as before, in `f32` sums; what differs is that the weight is rounded.
///
/// Integers lie around 0, and each group of them, neighbours in a row, has a scale: so many inputs of an output
/// ([`Linear`](crate::Linear)), or so many numbers of an entry ([`Embedding`](crate::Embedding)). Where there is no group, a
/// row is one. What a group does not divide is refused: programs that read the weight do not compile, and the error names the
/// layer.
///
/// ```
/// use graver_nn::{Init, Linear, Storage};
/// use graver_trace::Module;
/// let layer = Linear::new(256, 64).init(&mut Init::seed(0)).stored(Storage::Int4 { group: Some(128) });
/// let shapes: Vec<_> = layer.params().into_iter().map(|(path, p)| (path, p.value().ty().to_string())).collect();
/// let expected = [("weight", "u8[64, 128]"), ("bias", "f32[64]"), ("scale", "f32[64, 2]")];
/// assert_eq!(shapes, expected.map(|(path, ty)| (path.to_owned(), ty.to_owned())));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As `f16`: within 2^-11 of each element, relatively; elements beyond 65504 become infinite.
    F16,
    /// As `bf16`: within 2^-8 of each element, relatively.
    Bf16,
    /// As integers from -127 to 127: within 1/254 of the group's greatest magnitude.
    Int8 {
        /// Elements that share a scale.
        group: Option<usize>,
    },
    /// As integers from -7 to 7, two in a byte: within 1/14 of the group's greatest magnitude.
    Int4 {
        /// Elements that share a scale: an even number.
        group: Option<usize>,
    },
}

impl Storage {
    /// Integers of 8 bits, with a scale for each row.
    pub const INT8: Self = Self::Int8 { group: None };
    /// Integers of 4 bits, with a scale for each 64: 4.5 bits an element.
    pub const INT4: Self = Self::Int4 { group: Some(64) };
}

/// A weight as it is kept, with the scales of its groups if it has any. Both are frozen.
pub(crate) fn kept(weight: &Array, storage: Storage) -> (Param, Option<Param>) {
    let frozen = |param: Param| {
        param.freeze();
        param
    };
    let (dtype, most, group) = match storage {
        Storage::F16 => return (frozen(Param::new(weight.cast(DType::F16))), None),
        Storage::Bf16 => return (frozen(Param::new(weight.cast(DType::BF16))), None),
        Storage::Int8 { group } => (DType::I8, 127.0, group),
        Storage::Int4 { group } => (DType::U8, 7.0, group),
    };
    match integers(weight, most, group, dtype == DType::U8) {
        Ok((values, scales)) => {
            let values = if dtype == DType::U8 { pairs(&values, group) } else { values };
            (frozen(Param::new(values)), Some(frozen(Param::new(scales))))
        }
        Err(why) => (frozen(Param::refused(dtype, why)), None),
    }
}

/// `round(w / scale)` and `scale`, the greatest magnitude of each group over the greatest integer. Not a number becomes 0.
fn integers(weight: &Array, most: f64, group: Option<usize>, in_pairs: bool) -> Result<(Array, Array), Diag> {
    let (values, rows) = (weight.to_f64(), weight.shape().first().copied().unwrap_or(1));
    let row = weight.shape().iter().skip(1).product::<usize>();
    let width = group.unwrap_or(row);
    let wrong = |why: String| Err(Diag::new(format!("a weight {} cannot be kept so: {why}", weight.ty())).op("stored"));
    if in_pairs && !width.is_multiple_of(2) {
        return wrong(format!("two integers of 4 bits are a byte, and a group has {width} elements"));
    }
    if group.is_some() && (width == 0 || !row.is_multiple_of(width)) {
        return wrong(format!("groups of {width} elements do not divide rows of {row}"));
    }
    let groups = if group.is_some() { vec![rows, row / width] } else { vec![rows] };
    let greatest = |group: usize| values[group * width..(group + 1) * width].iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let scales = Array::from_fn(weight.dtype(), groups, |group| Scalar::float(weight.dtype(), greatest(group) / most));
    // Rounded as the scales are.
    let rounded = scales.to_f64();
    let whole = |place: usize| {
        let scale = rounded[place / width];
        let value = if scale > 0.0 { (values[place] / scale).round_ties_even().clamp(-most, most) } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of seven bits; NaN gives 0")]
        Scalar::int(DType::I8, value as i64)
    };
    Ok((Array::from_fn(DType::I8, weight.shape(), whole), scales))
}

/// Integers of 4 bits two in a byte, by groups: `[rows, width]` to `[rows, width / 2]`.
fn pairs(values: &Array, group: Option<usize>) -> Array {
    let (rows, row) = (values.shape()[0], values.shape()[1]);
    let half = group.unwrap_or(row) / 2;
    let code = |place: usize| values.get(place).as_i64() + 8;
    Array::from_fn(DType::U8, [rows, row / 2], |byte| {
        let first = byte / half.max(1) * 2 * half + byte % half.max(1);
        Scalar::int(DType::U8, code(first) | code(first + half) << 4)
    })
}

/// Rows `[.., width]` of a kept tensor in the type that is computed with, and by what they are yet to be multiplied: the scales
/// of rows. Types that nothing is kept in stay, and differ as any others do.
#[track_caller]
fn widened(kept: Tensor, scale: Option<Tensor>, dtype: DType) -> (Tensor, Option<Tensor>) {
    if !matches!(dtype, DType::F32 | DType::F64) || !matches!(kept.dtype(), DType::F16 | DType::BF16 | DType::I8 | DType::U8) {
        return (kept, scale);
    }
    let lead = kept.rank() - 1;
    let (by_group, groups) = match scale {
        Some(scale) if scale.rank() > lead => (Some(scale), scale.dim(-1)),
        Some(_) | None => (None, 1.into()),
    };
    // As `[.., groups, group]`, or with the halves of bytes in between.
    let shape = |tail: &[Size]| (0..lead).map(|axis| kept.dim(axis)).chain(tail.iter().cloned()).collect::<Vec<Size>>();
    let of_group = kept.dim(-1) / groups;
    let row = if kept.dtype() == DType::U8 { kept.dim(-1) * 2 } else { kept.dim(-1) };
    let values = if kept.dtype() == DType::U8 {
        let bytes = kept.reshape(shape(&[groups, 1.into(), of_group])).cast(DType::I32);
        let is_low = arange(2, DType::I64).eq(0).unsqueeze(-1);
        is_low.where_(bytes & 15, bytes >> 4) - 8
    } else if by_group.is_some() {
        kept.reshape(shape(&[groups, of_group]))
    } else {
        return (kept.cast(dtype), scale);
    };
    let values = values.cast(dtype);
    match by_group {
        Some(by_group) => {
            let scale = if kept.dtype() == DType::U8 { by_group.unsqueeze(-1) } else { by_group };
            ((values * scale.unsqueeze(-1)).reshape(shape(&[row])), None)
        }
        None => (values.reshape(shape(&[row])), scale),
    }
}

/// `x W^T`: `[.., inputs]` with `[outputs, inputs]` and scales to `[.., outputs]`.
#[track_caller]
pub(crate) fn times_transposed(x: Tensor, weight: &Param, scale: Option<&Param>) -> Tensor {
    let (weight, scale) = widened(weight.get(), scale.map(Param::get), x.dtype());
    let y = x.matmul(weight.t());
    // Scales of rows do not differ along what is summed: they wait for the sum.
    match scale {
        Some(scale) => y * scale,
        None => y,
    }
}

/// Rows of a table `[entries, width]` with scales, in the type that is computed with: `[.., width]`.
#[track_caller]
pub(crate) fn rows_of(weight: &Param, scale: Option<&Param>, ids: Tensor, dtype: DType) -> Tensor {
    let of_rows = |scale: &Param| {
        let scale = scale.get();
        if scale.rank() == 1 { scale.unsqueeze(-1).embedding(ids).squeeze(-1) } else { scale.embedding(ids) }
    };
    let (rows, scale) = widened(weight.get().embedding(ids), scale.map(of_rows), dtype);
    match scale {
        Some(scale) => rows * scale.unsqueeze(-1),
        None => rows,
    }
}
