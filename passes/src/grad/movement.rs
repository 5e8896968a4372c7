//! Derivatives of movement: all linear; the transpose of moving elements is moving them back, and adding where they were repeated.

use graver_ir::op::{Broadcast, PadAxis, SliceAxis};
use graver_ir::{Diag, Dim, Op, Scalar, Shape, Type, Value};

use super::linear::{Derivative, Step};
use crate::build::Build;

/// The derivative with respect to the padded operand or, slot 1, the value around it.
pub(super) fn pad(b: &mut Build<'_>, axes: &[PadAxis], args: &[Value], out: &Type, slot: usize) -> Result<Derivative, Diag> {
    let x = b.ty(args[0]).clone();
    if slot == 0 {
        let zero = b.full(&Shape::SCALAR, Scalar::zero(x.dtype));
        return Ok(Derivative::step(Op::Pad(axes.to_vec()), &[], &[zero]));
    }
    let (inside, outside) = (b.full(&x.shape, Scalar::bool(true)), b.full(&Shape::SCALAR, Scalar::bool(false)));
    let covered = b.add(Op::Pad(axes.to_vec()), &[inside, outside])?;
    let zeros = b.zeros(out);
    let repeat = Step::new(Op::Broadcast(Broadcast { shape: out.shape.clone(), axes: Vec::new() }), &[], &[]);
    Ok(Derivative::Linear(vec![repeat, Step::where_false(covered, zeros)]))
}

/// The tangent between zeros.
pub(super) fn concat(b: &mut Build<'_>, axis: usize, args: &[Value], slot: usize) -> Derivative {
    let before = zero_block(b, axis, &args[..slot]);
    let after = zero_block(b, axis, &args[slot + 1..]);
    Derivative::step(Op::Concat(axis), before.as_slice(), after.as_slice())
}

/// Zeros of the type that the operands have together.
fn zero_block(b: &mut Build<'_>, axis: usize, args: &[Value]) -> Option<Value> {
    let mut ty = b.ty(*args.first()?).clone();
    ty.shape.0[axis] = args.iter().map(|arg| b.ty(*arg).shape[axis].clone()).sum();
    Some(b.zeros(&ty))
}

/// The sum over the axes that repeat.
pub(super) fn transpose_broadcast(b: &mut Build<'_>, broadcast: &Broadcast, g: Value) -> Result<Value, Diag> {
    let repeated = (0..broadcast.shape.rank()).filter(|axis| !broadcast.axes.contains(axis)).collect();
    b.sum(g, repeated)
}

/// The slice in its place among zeros.
pub(super) fn transpose_slice(b: &mut Build<'_>, axes: &[SliceAxis], x: &Type, g: Value) -> Result<Value, Diag> {
    let pads: Vec<PadAxis> = axes.iter().zip(x.shape.iter()).map(|(axis, size)| around(axis, size)).collect();
    pad_with_zeros(b, g, pads)
}

/// The padding that puts a slice back into an axis of `size` elements.
fn around(slice: &SliceAxis, size: &Dim) -> PadAxis {
    let interior = slice.step - 1;
    let spread = spread(&slice.size, interior);
    PadAxis { low: slice.start.clone(), high: size - spread - &slice.start, interior }
}

/// The size of `size` elements with `interior` more between two: exactly as [`Op::Pad`] counts, so that sizes cancel.
pub(super) fn spread(size: &Dim, interior: i64) -> Dim {
    let gaps = if interior == 0 { Dim::ZERO } else { (size - Dim::ONE).max_with(&Dim::ZERO) };
    size + gaps * Dim::from(interior)
}

/// Pads with zeros by amounts that are zero or more, whether or not that can be proved: what cannot be is a block of zeros beside.
pub(super) fn pad_with_zeros(b: &mut Build<'_>, x: Value, mut pads: Vec<PadAxis>) -> Result<Value, Diag> {
    let mut blocks = Vec::new();
    for (axis, pad) in pads.iter_mut().enumerate() {
        let unproved = |amount: &mut Dim| if amount.is_nonneg() { Dim::ZERO } else { std::mem::replace(amount, Dim::ZERO) };
        let (low, high) = (unproved(&mut pad.low), unproved(&mut pad.high));
        blocks.push((axis, low, high));
    }
    let padded = if pads.iter().all(is_nothing) {
        x
    } else {
        let ty = b.ty(x).clone();
        let zero = b.full(&Shape::SCALAR, Scalar::zero(ty.dtype));
        b.add(Op::Pad(pads), &[x, zero])?
    };
    blocks.into_iter().try_fold(padded, |x, (axis, low, high)| between_zeros(b, x, axis, &low, &high))
}

fn is_nothing(pad: &PadAxis) -> bool {
    pad.low.is(0) && pad.high.is(0) && pad.interior == 0
}

fn between_zeros(b: &mut Build<'_>, x: Value, axis: usize, low: &Dim, high: &Dim) -> Result<Value, Diag> {
    let mut parts = Vec::new();
    for (amount, operand) in [(low, None), (&Dim::ZERO, Some(x)), (high, None)] {
        if !amount.is(0) {
            let mut ty = b.ty(x).clone();
            ty.shape.0[axis] = amount.clone();
            parts.push(b.zeros(&ty));
        }
        parts.extend(operand);
    }
    if parts.len() == 1 { Ok(x) } else { b.add(Op::Concat(axis), &parts) }
}

/// What lies where the operand was.
pub(super) fn transpose_pad(b: &mut Build<'_>, axes: &[PadAxis], x: &Type, g: Value) -> Result<Value, Diag> {
    let back = |(pad, size): (&PadAxis, &Dim)| SliceAxis { start: pad.low.clone(), size: size.clone(), step: pad.interior + 1 };
    b.add(Op::Slice(axes.iter().zip(x.shape.iter()).map(back).collect()), &[g])
}

/// What lies where the tangent was.
pub(super) fn transpose_concat(b: &mut Build<'_>, axis: usize, step: &Step, x: &Type, g: Value) -> Result<Value, Diag> {
    let start: Dim = step.before.iter().map(|value| b.ty(*value).shape[axis].clone()).sum();
    let whole = |size: &Dim| SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 };
    let mut ranges: Vec<SliceAxis> = x.shape.iter().map(whole).collect();
    ranges[axis].start = start;
    b.add(Op::Slice(ranges), &[g])
}
