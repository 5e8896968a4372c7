//! Derivatives of reductions and windows.

use graver_ir::dim::MAX_SIZE;
use graver_ir::op::{
    Broadcast, Conv, ConvAxis, Iota, PadAxis, Perm, Reduce, ReduceKind, SliceAxis, Window, WindowAxis, WindowPut,
};
use graver_ir::{DType, Diag, Dim, Op, Scalar, ScalarFn, Shape, Type, Value};

use super::linear::{Derivative, Step};
use super::movement::{pad_with_zeros, spread};
use crate::build::Build;

/// The derivative of a reduction.
pub(super) fn reduce(b: &mut Build<'_>, reduce: &Reduce, x: Value, out: Value) -> Result<Derivative, Diag> {
    match reduce.kind {
        ReduceKind::Sum => Ok(Derivative::step(Op::Reduce(reduce.clone()), &[], &[])),
        ReduceKind::Max | ReduceKind::Min => extreme(b, reduce, x, out),
        ReduceKind::Prod => product(b, reduce, x),
    }
}

/// The mean of the tangents of all elements that equal the extreme; where that is NaN, of all that are NaN.
fn extreme(b: &mut Build<'_>, reduce: &Reduce, x: Value, out: Value) -> Result<Derivative, Diag> {
    let ty = b.ty(x).clone();
    let repeated = repeat_along(b, out, &ty.shape, &reduce.axes)?;
    let (equal, nan) = (b.map(ScalarFn::Eq, &[x, repeated]), b.map(ScalarFn::IsNan, &[x]));
    let chosen = b.map(ScalarFn::Or, &[equal, nan]);
    let (zeros, ones) = (b.zeros(&ty), b.full(&ty.shape, Scalar::one(ty.dtype)));
    let ones = b.map(ScalarFn::Select, &[chosen, ones, zeros]);
    let count = b.sum(ones, reduce.axes.clone())?;
    Ok(Derivative::Linear(vec![Step::where_true(chosen, zeros), Step::sum(&reduce.axes), Step::divide(count)]))
}

/// The sum of the tangents, each times the product of the other elements: right for any number of zeros, in any order.
fn product(b: &mut Build<'_>, reduce: &Reduce, x: Value) -> Result<Derivative, Diag> {
    let others = product_of_others(b, &reduce.axes, x)?;
    Ok(Derivative::Linear(vec![Step::scale(others), Step::sum(&reduce.axes)]))
}

/// For every element the product of all others along `axes`: of those before it times those after it.
fn product_of_others(b: &mut Build<'_>, axes: &[usize], x: Value) -> Result<Value, Diag> {
    let shape = b.ty(x).shape.clone();
    let kept = (0..shape.rank()).filter(|axis| !axes.contains(axis));
    let last = Perm::new(kept.chain(axes.iter().copied()).collect()).expect("axes are split in two");
    let moved = b.add(Op::Permute(last.clone()), &[x])?;
    let moved_shape = b.ty(moved).shape.clone();
    let axis = shape.rank() - axes.len();
    let mut flat = moved_shape.0[..axis].to_vec();
    flat.push(moved_shape[axis..].iter().product());
    let row = b.add(Op::Reshape(Shape(flat)), &[moved])?;

    let before = product_before(b, row, axis)?;
    let backwards = b.add(Op::Reverse(vec![axis]), &[row])?;
    let after = product_before(b, backwards, axis)?;
    let after = b.add(Op::Reverse(vec![axis]), &[after])?;
    let others = b.mul(before, after);

    let unflat = b.add(Op::Reshape(moved_shape), &[others])?;
    b.add(Op::Permute(last.inverse()), &[unflat])
}

/// The product of the elements before each along an axis, by doubling: after step `k`, of the `2^k` before it.
fn product_before(b: &mut Build<'_>, x: Value, axis: usize) -> Result<Value, Diag> {
    let longest = b.ty(x).shape[axis].bounds().hi.min(MAX_SIZE);
    let one = Scalar::one(b.ty(x).dtype);
    let mut product = delayed(b, x, (axis, 1), one)?;
    let mut reach = 1;
    while reach + 1 < longest {
        let earlier = delayed(b, product, (axis, reach), one)?;
        product = b.mul(product, earlier);
        reach *= 2;
    }
    Ok(product)
}

/// Element `i` becomes element `i + by`; `first` comes in, the last elements leave.
pub(super) fn delayed(b: &mut Build<'_>, x: Value, (axis, by): (usize, i64), first: Scalar) -> Result<Value, Diag> {
    let ty = b.ty(x).clone();
    let one = b.full(&Shape::SCALAR, first);
    let mut pads = vec![PadAxis { low: Dim::ZERO, high: Dim::ZERO, interior: 0 }; ty.rank()];
    // Never more than the axis is long, so that a symbolic axis of few elements is padded by few.
    pads[axis].low = Dim::from(by).min_with(&ty.shape[axis]);
    let padded = b.add(Op::Pad(pads), &[x, one])?;
    b.add(Op::Slice(whole(&ty.shape)), &[padded])
}

/// The first elements of every axis, as many as `shape` says.
fn whole(shape: &Shape) -> Vec<SliceAxis> {
    shape.iter().map(|size| SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 }).collect()
}

/// A reduction's result at every element that it came from.
fn repeat_along(b: &mut Build<'_>, y: Value, shape: &Shape, axes: &[usize]) -> Result<Value, Diag> {
    let kept = (0..shape.rank()).filter(|axis| !axes.contains(axis)).collect();
    b.add(Op::Broadcast(Broadcast { shape: shape.clone(), axes: kept }), &[y])
}

/// The cotangent of the sum at every element.
pub(super) fn transpose_sum(b: &mut Build<'_>, reduce: &Reduce, x: &Type, g: Value) -> Result<Value, Diag> {
    assert_eq!(reduce.kind, ReduceKind::Sum, "G1: only sums are linear");
    repeat_along(b, g, &x.shape, &reduce.axes)
}

/// The derivative of a window's combination. Extremes take the chosen element's tangent.
pub(super) fn window(b: &mut Build<'_>, window: &Window, x: Value) -> Result<Derivative, Diag> {
    match window.kind {
        ReduceKind::Sum => Ok(Derivative::step(Op::Window(window.clone()), &[], &[])),
        ReduceKind::Max | ReduceKind::Min => {
            let place = b.add(Op::WindowArg(window.clone()), &[x])?;
            Ok(Derivative::step(Op::WindowTake(window.axes.clone()), &[], &[place]))
        }
        ReduceKind::Prod => window_product(b, window, x),
    }
}

/// The sum over a window of the tangents, each times the product of the window's other elements.
///
/// A convolution with one feature for each place of the window takes the tangents apart; it is linear, and its kernel picks.
fn window_product(b: &mut Build<'_>, window: &Window, x: Value) -> Result<Derivative, Diag> {
    let ty = b.ty(x).clone();
    let elements = window_elements(b, window, x)?;
    let others = product_of_others(b, &[0], elements)?;
    let places = b.ty(elements).shape[0].clone();

    let sizes: Vec<Dim> = window.axes.iter().map(|axis| Dim::from(axis.size)).collect();
    let identity = identity(b, &ty, &places)?;
    let picked = b.add(Op::Reshape(Shape([vec![places.clone(), Dim::ONE], sizes].concat())), &[identity])?;
    let axes: Vec<usize> = (0..ty.rank() + 2).collect();
    let along = |axis: &WindowAxis| ConvAxis {
        stride: axis.stride,
        low: axis.low.clone(),
        high: axis.high.clone(),
        kernel_dilation: axis.dilation,
        input_dilation: 1,
    };
    let conv = Conv {
        input: axes.clone(),
        kernel: axes.clone(),
        output: axes,
        axes: window.axes.iter().map(along).collect(),
        groups: 1,
        batch_groups: 1,
    };
    let image = Shape([vec![Dim::ONE, Dim::ONE], ty.shape.0].concat());
    Ok(Derivative::Linear(vec![
        Step::new(Op::Reshape(image), &[], &[]),
        Step::new(Op::Conv(conv), &[], &[picked]),
        Step::new(Op::Reshape(b.ty(others).shape.clone()), &[], &[]),
        Step::scale(others),
        Step::sum(&[0]),
    ]))
}

/// The elements of every window: place in the window first, then the windows; ones where there is padding.
fn window_elements(b: &mut Build<'_>, window: &Window, x: Value) -> Result<Value, Diag> {
    let ty = b.ty(x).clone();
    let counts: Vec<Dim> = window.axes.iter().zip(ty.shape.iter()).map(|(axis, size)| axis.count(size)).collect();
    let one = b.full(&Shape::SCALAR, Scalar::one(ty.dtype));
    let pads = window.axes.iter().map(|axis| PadAxis { low: axis.low.clone(), high: axis.high.clone(), interior: 0 });
    let padded = b.add(Op::Pad(pads.collect()), &[x, one])?;
    let each = Shape([&[Dim::ONE], &counts[..]].concat());
    let mut elements = Vec::new();
    for place in 0..window.axes.iter().map(|axis| axis.size).product() {
        let mut rest = place;
        let mut axes = Vec::new();
        for (axis, count) in window.axes.iter().zip(&counts).rev() {
            let start = Dim::from(rest % axis.size * axis.dilation);
            axes.push(SliceAxis { start, size: count.clone(), step: axis.stride });
            rest /= axis.size;
        }
        axes.reverse();
        let element = b.add(Op::Slice(axes), &[padded])?;
        elements.push(b.add(Op::Reshape(each.clone()), &[element])?);
    }
    b.add(Op::Concat(0), &elements)
}

/// `[n, n]`: one where row and column agree, else zero.
fn identity(b: &mut Build<'_>, like: &Type, n: &Dim) -> Result<Value, Diag> {
    let shape = Shape(vec![n.clone(), n.clone()]);
    let mut position = |axis| b.add(Op::Iota(Iota { dtype: DType::I64, shape: shape.clone(), axis }), &[]);
    let (row, column) = (position(0)?, position(1)?);
    let same = b.map(ScalarFn::Eq, &[row, column]);
    b.add(Op::Cast(like.dtype), &[same])
}

/// Every element gets the cotangents of the windows that hold it: a window sum, backwards, over the cotangents set `stride` apart.
///
/// With the padding counted to the operand (`N = low + n + high`), element `p` is in window `i` as its element `k` if
/// `i * stride + k * dilation = p`. Padding the spread cotangents by the reach `(size - 1) * dilation` below, and above until
/// there are `N` windows of stride one, makes window `p` sum exactly those `i`. The padding's own share is not computed: cotangents are padded by
/// `low` less below, and above until there are `n` windows. Where a window may hold padding alone, it is cut off.
pub(super) fn transpose_window_sum(b: &mut Build<'_>, window: &Window, x: &Type, g: Value) -> Result<Value, Diag> {
    assert_eq!(window.kind, ReduceKind::Sum, "G1: only sums are linear");
    let counts = b.ty(g).shape.clone();
    let mut pads = Vec::new();
    let mut cut = Vec::new();
    for ((axis, size), count) in window.axes.iter().zip(x.shape.iter()).zip(counts.iter()) {
        let (reach, interior) = (Dim::from((axis.size - 1) * axis.dilation), axis.stride - 1);
        let reaches = |padding: &Dim| (&reach - padding).is_nonneg();
        let (before, start, windows) = if reaches(&axis.low) && reaches(&axis.high) {
            (&reach - &axis.low, Dim::ZERO, size + &axis.low)
        } else {
            (reach.clone(), axis.low.clone(), size + &axis.low + &axis.high)
        };
        pads.push(PadAxis { high: windows - spread(count, interior), low: before, interior });
        cut.push(SliceAxis { start, size: size.clone(), step: 1 });
    }
    let apart = pad_with_zeros(b, g, pads)?;
    let unit = |axis: &WindowAxis| WindowAxis { stride: 1, low: Dim::ZERO, high: Dim::ZERO, ..axis.clone() };
    let axes: Vec<WindowAxis> = window.axes.iter().map(unit).collect();
    let all = b.add(Op::Window(Window { kind: ReduceKind::Sum, axes }), &[apart])?;
    if b.ty(all) == x { Ok(all) } else { b.add(Op::Slice(cut), &[all]) }
}

/// The cotangents put where they were taken.
pub(super) fn transpose_take(b: &mut Build<'_>, axes: &[WindowAxis], step: &Step, x: &Type, g: Value) -> Result<Value, Diag> {
    let put = WindowPut { axes: axes.to_vec(), shape: x.shape.clone() };
    b.add(Op::WindowPut(put), &[g, step.after[0]])
}

/// The cotangents taken where they were put.
pub(super) fn transpose_put(b: &mut Build<'_>, put: &WindowPut, step: &Step, g: Value) -> Result<Value, Diag> {
    b.add(Op::WindowTake(put.axes.clone()), &[g, step.after[0]])
}
