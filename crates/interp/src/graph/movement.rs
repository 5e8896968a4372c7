//! Movement: the same elements elsewhere, as strided views that are read or written.

use graver_ir::op::{PadAxis, Perm, SliceAxis};

use super::Out;
use super::sizes::number;
use crate::dense::{Data, Dense};
use crate::walk::{offsets, signed, strides};

/// Axis `i` of the result is axis `perm[i]` of `x`.
pub(super) fn permute(perm: &Perm, x: &Dense, out: Out) -> Dense {
    let of = strides(&x.shape);
    let moved: Vec<isize> = perm.axes().iter().map(|axis| of[*axis]).collect();
    read(x, 0, &moved, out)
}

/// Axes that `x` does not have repeat.
pub(super) fn broadcast(axes: &[usize], x: &Dense, out: Out) -> Dense {
    let mut steps = vec![0; out.shape.len()];
    for (stride, axis) in strides(&x.shape).iter().zip(axes) {
        steps[*axis] = *stride;
    }
    read(x, 0, &steps, out)
}

/// One strided range an axis.
pub(super) fn slice(axes: &[SliceAxis], x: &Dense, out: Out) -> Dense {
    let of = strides(&x.shape);
    let start = axes.iter().zip(&of).map(|(axis, stride)| to_isize(number(&axis.start)) * stride).sum();
    let steps: Vec<isize> = axes.iter().zip(&of).map(|(axis, stride)| to_isize(axis.step) * stride).collect();
    read(x, start, &steps, out)
}

/// These axes backwards.
pub(super) fn reverse(axes: &[usize], x: &Dense, out: Out) -> Dense {
    let mut steps = strides(&x.shape);
    let mut start = 0;
    for axis in axes {
        start += steps[*axis] * (signed(x.shape[*axis]) - 1);
        steps[*axis] = -steps[*axis];
    }
    read(x, start, &steps, out)
}

/// `value` everywhere, then `x` at its strided places.
pub(super) fn pad(axes: &[PadAxis], x: &Dense, value: &Dense, out: Out) -> Dense {
    let of = strides(&out.shape);
    let start = axes.iter().zip(&of).map(|(axis, stride)| to_isize(number(&axis.low)) * stride).sum();
    let steps: Vec<isize> = axes.iter().zip(&of).map(|(axis, stride)| (to_isize(axis.interior) + 1) * stride).collect();
    let mut data = repeated(value, &out);
    data.place(offsets(&x.shape, start, &steps), &x.data);
    out.of(data)
}

/// Operands after one another along an axis.
pub(super) fn concat(axis: usize, args: &[&Dense], out: Out) -> Dense {
    let of = strides(&out.shape);
    let mut data = Dense::filled(&out.shape, graver_ir::Scalar::zero(out.dtype)).data;
    let mut start = 0;
    for x in args {
        data.place(offsets(&x.shape, start, &of), &x.data);
        start += of[axis] * signed(x.shape[axis]);
    }
    out.of(data)
}

/// The elements of a strided view of `x`.
fn read(x: &Dense, start: isize, strides: &[isize], out: Out) -> Dense {
    let data = x.data.pick(offsets(&out.shape, start, strides));
    out.of(data)
}

fn repeated(value: &Dense, out: &Out) -> Data {
    value.data.pick(std::iter::repeat_n(0, out.shape.iter().product()))
}

fn to_isize(value: i64) -> isize {
    isize::try_from(value).expect("type inference keeps strides and padding inside arrays")
}
