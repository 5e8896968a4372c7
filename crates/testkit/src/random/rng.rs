//! Random bits inside random programs, and uniform numbers made of them.

use graver_ir::op::Philox;
use graver_ir::{DType, Op, ScalarFn, Shape};

use super::numbers::Numbers;
use super::{Gen, Recipe};
use crate::fill::Fill;

pub(super) const RECIPES: &[Recipe] = &[uniform];

/// The uppermost eight bits as a number in `[0, 1)`: exact in every float type.
fn uniform(g: &mut Gen<'_>) -> Option<()> {
    let like = g.any(|x| x.dtype().is_float())?;
    let shape = like.ty.shape.clone();
    let (dtype, all) = (like.dtype(), Numbers::discrete(DType::U32));
    let key = match g.any(|x| x.dtype() == DType::U32 && x.ty.shape == Shape::new([4])) {
        Some(key) => key,
        None => g.fresh(DType::U32, [4], Fill::Bits),
    };
    let stream = u32::try_from(g.rng.below(100)).expect("below 100");
    let bits = g.emit(Op::Philox(Philox { shape: shape.clone(), stream }), &[key.value], all)?;
    let distance = g.splat(DType::U32, &shape, 24.0);
    let top = g.emit_hidden(Op::Map(ScalarFn::Shr), &[bits.value, distance], all.capped(255.0))?;
    let number = g.emit_hidden(Op::Cast(dtype), &[top.value], top.numbers.cast(dtype))?;
    let scale = g.splat(dtype, &shape, 1.0 / 256.0);
    let numbers = Numbers { max: 1.0, error: 0.0, grain: Some(1.0 / 256.0) };
    g.emit(Op::Map(ScalarFn::Mul), &[number.value, scale], numbers).map(drop)
}
