//! Sums of products, in `f64` or `i64`, rounded or wrapped once.

use graver_ir::op::{Conv, ConvAxis, DotAxes};

use super::Out;
use super::sizes::number;
use crate::dense::{Arith, Data, Dense};
use crate::walk::{Along, Windows, each_point, offsets, strides};

/// Products over paired axes summed.
pub(super) fn dot(axes: &DotAxes, x: &Dense, y: &Dense, out: Out) -> Dense {
    let x = Matrices::new(x, &axes.lhs_batch, &axes.lhs_contract);
    let y = Matrices::new(y, &axes.rhs_batch, &axes.rhs_contract);
    let data = match (&x.data, &y.data) {
        (Data::Float(a), Data::Float(b)) => Data::Float(products(&x, &y, a, b)),
        (Data::Int(a), Data::Int(b)) => Data::Int(products(&x, &y, a, b)),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("typed: both sides are of one type"),
    };
    out.of(data)
}

/// An operand as `[batch, free, contracted]`.
struct Matrices {
    batch: usize,
    free: usize,
    contracted: usize,
    data: Data,
}

impl Matrices {
    fn new(x: &Dense, batch: &[usize], contracted: &[usize]) -> Self {
        let free: Vec<usize> = (0..x.shape.len()).filter(|axis| !batch.contains(axis) && !contracted.contains(axis)).collect();
        let order: Vec<usize> = batch.iter().chain(&free).chain(contracted).copied().collect();
        let numel = |axes: &[usize]| axes.iter().map(|axis| x.shape[*axis]).product();
        Self { batch: numel(batch), free: numel(&free), contracted: numel(contracted), data: reordered(x, &order) }
    }
}

/// The elements with axis `order[i]` in place `i`.
fn reordered(x: &Dense, order: &[usize]) -> Data {
    let of = strides(&x.shape);
    let shape: Vec<usize> = order.iter().map(|axis| x.shape[*axis]).collect();
    let steps: Vec<isize> = order.iter().map(|axis| of[*axis]).collect();
    x.data.pick(offsets(&shape, 0, &steps))
}

fn products<A: Arith>(x: &Matrices, y: &Matrices, a: &[A], b: &[A]) -> Vec<A> {
    let k = x.contracted;
    let mut results = Vec::with_capacity(x.batch * x.free * y.free);
    for batch in 0..x.batch {
        for i in 0..x.free {
            let row = &a[(batch * x.free + i) * k..][..k];
            for j in 0..y.free {
                let column = &b[(batch * y.free + j) * k..][..k];
                results.push(row.iter().zip(column).fold(A::ZERO, |sum, (x, y)| sum.add(x.mul(*y))));
            }
        }
    }
    results
}

/// A cross-correlation.
pub(super) fn conv(conv: &Conv, x: &Dense, kernel: &Dense, out: Out) -> Dense {
    let sizes = Sizes::new(conv, x, kernel, &out);
    let (input, weights) = (reordered(x, &conv.input), reordered(kernel, &conv.kernel));
    let data = match (&input, &weights) {
        (Data::Float(x), Data::Float(kernel)) => Data::Float(correlate(&sizes, x, kernel)),
        (Data::Int(x), Data::Int(kernel)) => Data::Int(correlate(&sizes, x, kernel)),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("typed: both sides are of one type"),
    };
    let ordered = Dense { dtype: out.dtype, shape: conv.output.iter().map(|axis| out.shape[*axis]).collect(), data };
    let data = reordered(&ordered, &inverse(&conv.output));
    out.of(data)
}

fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (place, axis) in order.iter().enumerate() {
        inverse[*axis] = place;
    }
    inverse
}

/// A convolution's sizes, with operands in the order batch, feature, spatial; output feature, input feature, taps.
struct Sizes {
    rows: usize,
    in_features: usize,
    /// Input features that one output feature sees.
    group_features: usize,
    out_features: usize,
    /// Output features in one group of features.
    per_group: usize,
    /// Output features in one group of the batch.
    per_batch_group: usize,
    /// For every result's spatial position, the taps that meet an element, and it.
    met: Vec<Vec<(usize, usize)>>,
    taps: usize,
    elements: usize,
}

impl Sizes {
    fn new(conv: &Conv, x: &Dense, kernel: &Dense, out: &Out) -> Self {
        let out_features = kernel.shape[conv.kernel[0]];
        let spatial = |shape: &[usize], axes: &[usize]| axes[2..].iter().map(|axis| shape[*axis]).collect::<Vec<_>>();
        let (elements, taps) = (spatial(&x.shape, &conv.input), spatial(&kernel.shape, &conv.kernel));
        let windows = spatial_windows(&conv.axes, &elements, &taps, &spatial(&out.shape, &conv.output));
        Self {
            rows: out.shape[conv.output[0]],
            in_features: x.shape[conv.input[1]],
            group_features: kernel.shape[conv.kernel[1]],
            out_features,
            per_group: parts(out_features, conv.groups),
            per_batch_group: parts(out_features, conv.batch_groups),
            met: met(&windows),
            taps: taps.iter().product(),
            elements: elements.iter().product(),
        }
    }
}

/// The size of each of `count` equal parts, at least 1 to divide by.
fn parts(size: usize, count: i64) -> usize {
    (size / usize::try_from(count).expect("typed: there is a group or more")).max(1)
}

fn spatial_windows(axes: &[ConvAxis], elements: &[usize], taps: &[usize], counts: &[usize]) -> Windows {
    let along = |(i, axis): (usize, &ConvAxis)| Along {
        windows: counts[i],
        taps: taps[i],
        size: elements[i],
        stride: axis.stride,
        low: number(&axis.low),
        dilation: axis.kernel_dilation,
        spread: axis.input_dilation,
    };
    Windows::new(axes.iter().enumerate().map(along).collect())
}

fn met(windows: &Windows) -> Vec<Vec<(usize, usize)>> {
    let mut all = Vec::new();
    each_point(&windows.shape(), |point| {
        let mut met = Vec::new();
        windows.each(point, &mut |tap, at| met.push((tap, at)));
        all.push(met);
    });
    all
}

fn correlate<A: Arith>(sizes: &Sizes, x: &[A], kernel: &[A]) -> Vec<A> {
    let mut results = Vec::with_capacity(sizes.rows * sizes.out_features * sizes.met.len());
    for row in 0..sizes.rows {
        for feature in 0..sizes.out_features {
            let source_row = row + feature / sizes.per_batch_group * sizes.rows;
            let first = feature / sizes.per_group * sizes.group_features;
            let image = &x[(source_row * sizes.in_features + first) * sizes.elements..];
            let weights = &kernel[feature * sizes.group_features * sizes.taps..];
            results.extend(sizes.met.iter().map(|met| correlate_at(sizes, met, image, weights)));
        }
    }
    results
}

fn correlate_at<A: Arith>(sizes: &Sizes, met: &[(usize, usize)], image: &[A], weights: &[A]) -> A {
    let mut sum = A::ZERO;
    for c in 0..sizes.group_features {
        for (tap, at) in met {
            sum = sum.add(image[c * sizes.elements + at].mul(weights[c * sizes.taps + tap]));
        }
    }
    sum
}
