//! Operations whose batched form is themselves with their axes moved by one, instances being the first axis of every operand and of the
//! result: movement, maps, reductions, windows.

use graver_ir::op::{ArgReduce, Broadcast, PadAxis, Perm, Prefix, Reduce, SliceAxis, Sort, Window, WindowAxis, WindowPut};
use graver_ir::{Diag, Dim, Op, Scalar, ScalarFn, Shape, Value};

use super::{Lane, stacked};
use crate::build::Build;

/// The operation over a batch of so many.
pub(super) fn op(op: &Op, size: &Dim) -> Op {
    let next = |axes: &[usize]| axes.iter().map(|axis| axis + 1).collect::<Vec<_>>();
    let with_first = |axes: &[usize]| std::iter::once(0).chain(next(axes)).collect::<Vec<_>>();
    match op {
        Op::Map(_) | Op::Cast(_) | Op::Bitcast(_) | Op::Alias | Op::StopGradient => op.clone(),
        Op::Sort(sort) => Op::Sort(Sort { axis: sort.axis + 1, ..*sort }),
        Op::Reshape(shape) => Op::Reshape(stacked(size, shape)),
        Op::Permute(perm) => {
            Op::Permute(Perm::new(with_first(perm.axes())).expect("a permutation of one axis more is a permutation"))
        }
        Op::Broadcast(of) => Op::Broadcast(Broadcast { shape: stacked(size, &of.shape), axes: with_first(&of.axes) }),
        Op::Slice(axes) => Op::Slice(before(SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 }, axes)),
        Op::Concat(axis) => Op::Concat(axis + 1),
        Op::Reverse(axes) => Op::Reverse(next(axes)),
        Op::Reduce(reduce) => Op::Reduce(Reduce { kind: reduce.kind, axes: next(&reduce.axes) }),
        Op::ArgReduce(arg) => Op::ArgReduce(ArgReduce { axis: arg.axis + 1, ..*arg }),
        Op::Prefix(prefix) => Op::Prefix(Prefix { axis: prefix.axis + 1, ..*prefix }),
        Op::Window(window) => Op::Window(windowed(window)),
        Op::WindowArg(window) => Op::WindowArg(windowed(window)),
        Op::WindowTake(axes) => Op::WindowTake(before(WindowAxis::IDENTITY, axes)),
        Op::WindowPut(put) => {
            Op::WindowPut(WindowPut { axes: before(WindowAxis::IDENTITY, &put.axes), shape: stacked(size, &put.shape) })
        }
        Op::Pad(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Philox(_)
        | Op::Param(_)
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => panic!("V2: `{}` has a rule of its own", op.name()),
    }
}

fn windowed(window: &Window) -> Window {
    Window { kind: window.kind, axes: before(WindowAxis::IDENTITY, &window.axes) }
}

fn before<T: Clone>(first: T, axes: &[T]) -> Vec<T> {
    std::iter::once(first).chain(axes.iter().cloned()).collect()
}

/// A padded operand; where each instance has a value of its own around it, that is chosen outside of what is padded.
pub(super) fn pad(b: &mut Build<'_>, axes: &[PadAxis], args: &[Lane], size: &Dim) -> Result<Value, Diag> {
    let axes = before(PadAxis { low: Dim::ZERO, high: Dim::ZERO, interior: 0 }, axes);
    let x = args[0].whole(b, size)?;
    if !args[1].mapped {
        return b.add(Op::Pad(axes), &[x, args[1].value]);
    }
    let ty = b.ty(x).clone();
    let zero = b.full(&Shape::SCALAR, Scalar::zero(ty.dtype));
    let padded = b.add(Op::Pad(axes.clone()), &[x, zero])?;
    let (inside, outside) = (b.full(&ty.shape, Scalar::bool(true)), b.full(&Shape::SCALAR, Scalar::bool(false)));
    let covered = b.add(Op::Pad(axes), &[inside, outside])?;
    let shape = b.ty(padded).shape.clone();
    let around = b.add(Op::Broadcast(Broadcast { shape, axes: vec![0] }), &[args[1].value])?;
    Ok(b.map(ScalarFn::Select, &[covered, padded, around]))
}
