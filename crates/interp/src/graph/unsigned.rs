//! The order of `u64`, whose values are held by their bits: that of `i64`, once the highest bit is the other one.

use graver_ir::{DType, Diag, Op};

use super::Out;
use crate::dense::{Data, Dense};
use crate::scalar::Precision;

/// As [`super::dispatch`]. An operation on `u64` that looks at the order of elements is that on `i64` of the same order; maps know both.
pub(super) fn dispatch(op: &Op, args: &[&Dense], out: Out, precision: Precision) -> Result<Dense, Diag> {
    let is_ordered = op.compares() && !matches!(op, Op::Map(_)) && args[0].dtype == DType::U64;
    if !is_ordered {
        return super::dispatch(op, args, out, precision);
    }
    let signed = |(slot, arg): (usize, &&Dense)| if op.is_compared(slot) { turned(arg, DType::I64) } else { (*arg).clone() };
    let args: Vec<Dense> = args.iter().enumerate().map(signed).collect();
    let Out { dtype, shape } = out;
    let out = Out { dtype: if dtype == DType::U64 { DType::I64 } else { dtype }, shape };
    let result = super::dispatch(op, &args.iter().collect::<Vec<_>>(), out, precision)?;
    Ok(if dtype == DType::U64 { turned(&result, dtype) } else { result })
}

/// The highest bit turned over, as `i64` from `u64` or back: the order stays.
fn turned(x: &Dense, dtype: DType) -> Dense {
    let data = x.data.ints().iter().map(|bits| bits ^ i64::MIN).collect();
    Dense { dtype, shape: x.shape.clone(), data: Data::Int(data) }
}
