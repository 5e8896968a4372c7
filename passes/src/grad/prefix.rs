//! Derivatives of what is combined with all before it.

use graver_ir::dim::MAX_SIZE;
use graver_ir::op::{Broadcast, GatherAxes, Iota, PadAxis, Perm, Prefix, ReduceKind, SliceAxis};
use graver_ir::{DType, Diag, Dim, Op, Scalar, ScalarFn, Shape, Value};

use super::linear::{Derivative, Step};
use super::reduce::delayed;
use crate::build::Build;

/// The derivative of a prefix.
pub(super) fn prefix(b: &mut Build<'_>, of: Prefix, x: Value, out: Value) -> Result<Derivative, Diag> {
    match of.kind {
        ReduceKind::Sum => Ok(Derivative::step(Op::Prefix(of), &[], &[])),
        ReduceKind::Max | ReduceKind::Min => extreme(b, of, x, out),
        ReduceKind::Prod => product(b, of, x),
    }
}

/// The cotangents of all that an element is in.
pub(super) fn transpose(b: &mut Build<'_>, of: Prefix, g: Value) -> Result<Value, Diag> {
    assert_eq!(of.kind, ReduceKind::Sum, "G1: only sums are linear");
    b.add(Op::Prefix(Prefix { reverse: !of.reverse, ..of }), &[g])
}

/// The tangent of the latest element that equals the extreme so far; where that is NaN, of the latest NaN: as PyTorch's `cummax`.
fn extreme(b: &mut Build<'_>, of: Prefix, x: Value, out: Value) -> Result<Derivative, Diag> {
    let ty = b.ty(x).clone();
    let (equal, nan) = (b.map(ScalarFn::Eq, &[x, out]), b.map(ScalarFn::IsNan, &[x]));
    let chosen = b.map(ScalarFn::Or, &[equal, nan]);
    let places = b.add(Op::Iota(Iota { dtype: DType::I64, shape: ty.shape.clone(), axis: of.axis }), &[])?;
    // The first element is always chosen: what stands elsewhere never wins against it.
    let (never, latest) = if of.reverse { (MAX_SIZE, ReduceKind::Min) } else { (-1, ReduceKind::Max) };
    let never = b.full(&ty.shape, Scalar::int(DType::I64, never));
    let places = b.map(ScalarFn::Select, &[chosen, places, never]);
    let places = b.add(Op::Prefix(Prefix { kind: latest, ..of }), &[places])?;

    let rank = ty.rank();
    let last = Perm::new((0..rank).filter(|axis| *axis != of.axis).chain([of.axis]).collect()).expect("one axis is moved");
    let places = b.add(Op::Permute(last.clone()), &[places])?;
    let take = GatherAxes { axis: rank - 1, batch: rank - 1 };
    Ok(Derivative::Linear(vec![
        Step::new(Op::Permute(last.clone()), &[], &[]),
        Step::new(Op::Gather(take), &[], &[places]),
        Step::new(Op::Permute(last.inverse()), &[], &[]),
    ]))
}

/// By doubling, so that nothing is divided and zeros are like other numbers: of products of `reach` elements, `p' = p e` with `e` the product
/// before each, the tangent is `t' = t e + p d`, where `d` is `t` of `reach` elements before.
fn product(b: &mut Build<'_>, of: Prefix, x: Value) -> Result<Derivative, Diag> {
    let Prefix { axis, reverse, .. } = of;
    let (ty, shape) = (b.ty(x).clone(), b.ty(x).shape.clone());
    let wide = ty.dtype.compute();
    let turned = reverse.then(|| Step::new(Op::Reverse(vec![axis]), &[], &[]));
    let x = if reverse { b.add(Op::Reverse(vec![axis]), &[x])? } else { x };
    let mut steps: Vec<Step> = turned.into_iter().chain([Step::new(Op::Cast(wide), &[], &[])]).collect();
    let (mut p, one) = (b.add(Op::Cast(wide), &[x])?, Scalar::one(wide));
    let zero = b.full(&Shape::SCALAR, Scalar::zero(wide));
    let (longest, mut reach) = (shape[axis].bounds().hi.min(MAX_SIZE), 1);
    while reach < longest {
        let e = delayed(b, p, (axis, reach), one)?;
        steps.extend(with_earlier(&shape, axis, reach, zero));
        let [of_own, of_earlier] = [e, p].map(|factor| b.add(Op::Reshape(beside(&shape, axis, &Dim::ONE)), &[factor]));
        let factors = b.add(Op::Concat(axis), &[of_own?, of_earlier?])?;
        steps.extend([Step::scale(factors), Step::sum(&[axis])]);
        p = b.mul(p, e);
        reach *= 2;
    }
    steps.push(Step::new(Op::Cast(ty.dtype), &[], &[]));
    steps.extend(reverse.then(|| Step::new(Op::Reverse(vec![axis]), &[], &[])));
    Ok(Derivative::Linear(steps))
}

/// The shape with one more axis, before `axis`.
fn beside(shape: &Shape, axis: usize, size: &Dim) -> Shape {
    Shape([&shape[..axis], std::slice::from_ref(size), &shape[axis..]].concat())
}

/// From a tangent to itself and what is `reach` before each of its elements, 0 where there is nothing: one after the other along a new axis.
///
/// Two copies, each with `reach` zeros behind, are one line; where it is cut anew after `n` and `2 n` elements, the second begins with the zeros of
/// the first.
fn with_earlier(shape: &Shape, axis: usize, reach: i64, zero: Value) -> [Step; 5] {
    let (two, size) = (Dim::from(2), &shape[axis]);
    // No more than there are: of a symbolic axis of few elements that is few.
    let reach = Dim::from(reach).min_with(size);
    let twice = beside(shape, axis, &two);
    let kept = (0..=shape.rank()).filter(|own| *own != axis).collect();
    let mut pads = vec![PadAxis { low: Dim::ZERO, high: Dim::ZERO, interior: 0 }; shape.rank() + 1];
    pads[axis + 1].high = reach.clone();
    let mut line = shape.clone();
    line.0[axis] = &two * (size + &reach);
    let mut cut: Vec<SliceAxis> = shape.iter().map(|size| SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 }).collect();
    cut[axis].size = &two * size;
    [
        Step::new(Op::Broadcast(Broadcast { shape: twice.clone(), axes: kept }), &[], &[]),
        Step::new(Op::Pad(pads), &[], &[zero]),
        Step::new(Op::Reshape(line), &[], &[]),
        Step::new(Op::Slice(cut), &[], &[]),
        Step::new(Op::Reshape(twice), &[], &[]),
    ]
}
