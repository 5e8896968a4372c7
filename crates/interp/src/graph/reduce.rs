//! Reductions and windows. Floats are summed in `f64` and rounded once.

use graver_ir::Scalar;
use graver_ir::op::{ArgReduce, Extreme, Prefix, Reduce, ReduceKind, Window, WindowAxis};

use super::Out;
use super::sizes::number;
use crate::dense::{Arith, Data, Dense, on_data};
use crate::scalar::Num;
use crate::walk::{Along, Windows, each_point, offsets, strides};

/// The elements along some axes combined.
pub(super) fn reduce(reduce: &Reduce, x: &Dense, out: Out) -> Dense {
    let places = kept_places(x, &reduce.axes, &out);
    let mut data = Dense::filled(&out.shape, reduce.kind.identity(out.dtype)).data;
    match (&mut data, &x.data) {
        (Data::Float(sums), Data::Float(x)) => fold(reduce.kind, sums, x, places),
        (Data::Int(sums), Data::Int(x)) => fold(reduce.kind, sums, x, places),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("typed: a reduction keeps the type"),
    }
    out.of(data)
}

/// For every element of `x` in order, the place of the result that it goes to.
fn kept_places(x: &Dense, reduced: &[usize], out: &Out) -> Vec<usize> {
    let mut kept = strides(&out.shape).into_iter();
    let steps: Vec<isize> = (0..x.shape.len())
        .map(|axis| if reduced.contains(&axis) { 0 } else { kept.next().expect("the result has the axes that stay") })
        .collect();
    offsets(&x.shape, 0, &steps).collect()
}

fn fold<A: Arith>(kind: ReduceKind, sums: &mut [A], x: &[A], places: Vec<usize>) {
    for (place, x) in places.into_iter().zip(x) {
        sums[place] = combine(kind, sums[place], *x);
    }
}

/// Two values of a reduction made one.
pub(crate) fn combine<A: Arith>(kind: ReduceKind, x: A, y: A) -> A {
    match kind {
        ReduceKind::Sum => x.add(y),
        ReduceKind::Prod => x.mul(y),
        ReduceKind::Max => x.maximum(y),
        ReduceKind::Min => x.minimum(y),
    }
}

/// Every element combined with all before it along an axis, or with all after it.
pub(super) fn prefix(prefix: Prefix, x: &Dense, out: Out) -> Dense {
    let (size, inner) = (x.shape[prefix.axis], x.shape[prefix.axis + 1..].iter().product::<usize>());
    let outer: usize = x.shape[..prefix.axis].iter().product();
    let data = on_data!(&x.data, x => {
        let mut combined = x.clone();
        for line in 0..outer * inner {
            let at = |step: usize| {
                let position = if prefix.reverse { size - 1 - step } else { step };
                (line / inner * size + position) * inner + line % inner
            };
            for step in 1..size {
                combined[at(step)] = combine(prefix.kind, combined[at(step - 1)], x[at(step)]);
            }
        }
        combined
    });
    out.of(data)
}

/// The position of the extreme along one axis.
pub(super) fn arg_reduce(arg: ArgReduce, x: &Dense, out: Out) -> Dense {
    let size = x.shape[arg.axis];
    let inner: usize = x.shape[arg.axis + 1..].iter().product();
    let line = |place: usize| (0..size).map(move |k| ((place / inner) * size + k) * inner + place % inner);
    let count = out.shape.iter().product::<usize>();
    let positions = match &x.data {
        Data::Float(x) => (0..count).map(|place| extreme(arg.kind, line(place).map(|at| x[at]))).collect(),
        Data::Int(x) => (0..count).map(|place| extreme(arg.kind, line(place).map(|at| x[at]))).collect(),
    };
    out.of(Data::Int(positions))
}

/// The position of the first extreme; NaN wins. Type inference refuses nothing, which would give 0.
fn extreme<A: Arith>(kind: Extreme, values: impl Iterator<Item = A>) -> i64 {
    let mut best: Option<(i64, A)> = None;
    for (position, x) in (0..).zip(values) {
        if best.is_none_or(|(_, y)| beats(kind, x, y)) {
            best = Some((position, x));
        }
    }
    best.map_or(0, |(position, _)| position)
}

/// Whether `x` takes the place of the earlier `y` as the extreme.
pub(crate) fn beats<A: Arith>(kind: Extreme, x: A, y: A) -> bool {
    let beyond = match kind {
        Extreme::Max => x > y,
        Extreme::Min => x < y,
    };
    !y.is_nan() && (beyond || x.is_nan())
}

/// The elements of every window combined; padding takes no part.
pub(super) fn window(window: &Window, x: &Dense, out: Out) -> Dense {
    let windows = windows(&window.axes, &x.shape, &out.shape);
    let start = Num::of(window.kind.identity(out.dtype));
    let data = on_data!(&x.data, x => {
        let mut results = Vec::new();
        each_point(&out.shape, |point| {
            let mut sum = Arith::of(start);
            windows.each(point, &mut |_, at| sum = combine(window.kind, sum, x[at]));
            results.push(sum);
        });
        results
    });
    out.of(data)
}

/// The row-major position in every window of its extreme; -1 where the window holds padding alone.
pub(super) fn window_arg(window: &Window, x: &Dense, out: Out) -> Dense {
    let windows = windows(&window.axes, &x.shape, &out.shape);
    let kind = match window.kind {
        ReduceKind::Max => Extreme::Max,
        ReduceKind::Min => Extreme::Min,
        ReduceKind::Sum | ReduceKind::Prod => unreachable!("typed: a sum has no place"),
    };
    let places = match &x.data {
        Data::Float(x) => window_extremes(kind, &windows, x),
        Data::Int(x) => window_extremes(kind, &windows, x),
    };
    out.of(Data::Int(places))
}

fn window_extremes<A: Arith>(kind: Extreme, windows: &Windows, x: &[A]) -> Vec<i64> {
    let mut places = Vec::new();
    each_point(&windows.shape(), |point| {
        let mut best: Option<(usize, A)> = None;
        windows.each(point, &mut |tap, at| {
            if best.is_none_or(|(_, y)| beats(kind, x[at], y)) {
                best = Some((tap, x[at]));
            }
        });
        places.push(best.map_or(-1, |(tap, _)| i64::try_from(tap).expect("windows are small")));
    });
    places
}

/// Of every window the element at its place; 0 where that is padding or not in the window.
pub(super) fn window_take(axes: &[WindowAxis], x: &Dense, place: &Dense, out: Out) -> Dense {
    let sources = window_sources(&windows(axes, &x.shape, &out.shape), place);
    let zero = Num::of(Scalar::zero(out.dtype));
    let data = on_data!(&x.data, x => sources.iter().map(|at| at.map_or(Arith::of(zero), |at| x[at])).collect());
    out.of(data)
}

/// Every window's value added to the element at its place, in order of windows; those of padding vanish.
pub(super) fn window_put(axes: &[WindowAxis], y: &Dense, place: &Dense, out: Out) -> Dense {
    let sources = window_sources(&windows(axes, &out.shape, &y.shape), place);
    let mut data = Dense::filled(&out.shape, Scalar::zero(out.dtype)).data;
    match (&mut data, &y.data) {
        (Data::Float(sums), Data::Float(y)) => put(sums, &sources, y),
        (Data::Int(sums), Data::Int(y)) => put(sums, &sources, y),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => {
            unreachable!("typed: windows are put among their like")
        }
    }
    out.of(data)
}

fn put<A: Arith>(sums: &mut [A], sources: &[Option<usize>], y: &[A]) {
    for (at, y) in sources.iter().zip(y) {
        if let Some(at) = at {
            sums[*at] = sums[*at].add(*y);
        }
    }
}

/// For every window in order, the element that its place names.
fn window_sources(windows: &Windows, place: &Dense) -> Vec<Option<usize>> {
    let mut sources = Vec::new();
    let mut places = place.data.ints().iter();
    each_point(&windows.shape(), |point| {
        let place = places.next().expect("typed: there is one place a window");
        sources.push(usize::try_from(*place).ok().and_then(|tap| windows.element(point, tap)));
    });
    sources
}

fn windows(axes: &[WindowAxis], over: &[usize], counts: &[usize]) -> Windows {
    let along = |(axis, (size, count)): (&WindowAxis, (&usize, &usize))| Along {
        windows: *count,
        taps: usize::try_from(axis.size).expect("typed: a window has a tap or more"),
        size: *size,
        stride: axis.stride,
        low: number(&axis.low),
        dilation: axis.dilation,
        spread: 1,
    };
    Windows::new(axes.iter().zip(over.iter().zip(counts)).map(along).collect())
}
