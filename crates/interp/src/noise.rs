//! Rounding errors by chance: how far results move if every rounded value is another one nearby.
//!
//! A function of the seed, of where a value is computed, and of the element: the same in every run. Values that are not rounded
//! (comparisons, extremes, movement) are left as they are, so that a value stays equal to itself.

use graver_ir::op::{Prefix, Reduce, ReduceKind, Window};
use graver_ir::{DType, Diag, Op, ScalarFn};

use crate::dense::{Data, Dense};
use crate::graph::{At, Watch};
use crate::scalar::{Precision, round};

/// Moves values.
pub(crate) struct Noise {
    pub(crate) seed: u64,
}

impl Watch for Noise {
    fn given(&self, number: usize, value: &mut Dense, precision: Precision) {
        self.shake(u64::try_from(number).unwrap_or(0), value, precision);
    }

    fn computed(&self, at: &At<'_>, _: &[&Dense], results: &mut [Dense], precision: Precision) -> Result<(), Diag> {
        if rounds(at.op) {
            let place = 1_000 + at.node.index() as u64;
            results.iter_mut().for_each(|result| self.shake(place, result, precision));
        }
        Ok(())
    }
}

impl Noise {
    fn shake(&self, place: u64, value: &mut Dense, precision: Precision) {
        if let Data::Float(values) = &mut value.data {
            for (position, x) in values.iter_mut().enumerate() {
                *x = round(value.dtype, precision, moved(*x, value.dtype, self.seed, place, position as u64));
            }
        }
    }
}

/// A value up to two units in the last place away.
pub(crate) fn moved(x: f64, dtype: DType, seed: u64, place: u64, position: u64) -> f64 {
    let step = 2.0 * unit(dtype) * chance(seed, place, position);
    let moved = x + x * step;
    if moved.is_finite() { moved } else { x }
}

/// The distance from 1 to the next greater value of the type.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => 0.0,
    }
}

/// From -1 to 1 (S. Vigna's splitmix64 of the three numbers).
fn chance(seed: u64, place: u64, position: u64) -> f64 {
    let mut z = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(place.wrapping_mul(0xBF58_476D_1CE4_E5B9))
        .wrapping_add(position.wrapping_mul(0x94D0_49BB_1331_11EB));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Whether an operation rounds what it gives.
fn rounds(op: &Op) -> bool {
    match op {
        Op::Map(function) => function_rounds(*function),
        Op::Cast(_) | Op::Dot(_) | Op::Conv(_) | Op::WindowPut(_) | Op::Scatter(_) => true,
        Op::Reduce(Reduce { kind, .. }) | Op::Window(Window { kind, .. }) | Op::Prefix(Prefix { kind, .. }) => {
            matches!(kind, ReduceKind::Sum | ReduceKind::Prod)
        }
        Op::Bitcast(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::Gather(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::ArgReduce(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::Philox(_)
        | Op::Param(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => false,
    }
}

/// Whether a function rounds what it gives.
pub(crate) fn function_rounds(function: ScalarFn) -> bool {
    use ScalarFn as F;
    match function {
        F::Exp | F::Expm1 | F::Log | F::Log1p | F::Sqrt | F::Rsqrt | F::Sin | F::Cos | F::Tanh | F::Sigmoid | F::Erf => true,
        F::Add | F::Sub | F::Mul | F::Div | F::Rem | F::Pow => true,
        F::Neg | F::Abs | F::Sign | F::Relu | F::Floor | F::Ceil | F::Trunc | F::Round => false,
        F::Not | F::IsNan | F::IsFinite | F::Max | F::Min | F::And | F::Or | F::Xor | F::Shl | F::Shr => false,
        F::Eq | F::Ne | F::Lt | F::Le | F::Gt | F::Ge | F::Select => false,
    }
}
