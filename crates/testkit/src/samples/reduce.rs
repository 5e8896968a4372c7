//! Samples of reductions and windows.

use graver_ir::op::{ArgReduce, Extreme, Reduce, ReduceKind, Window, WindowAxis, WindowPut};
use graver_ir::{DType, Dim, Op, Shape, Value};

use super::{Case, Cases, NUMBERS};
use crate::build::Dims;
use crate::close::{Bound, eps};
use crate::fill::Fill;

pub(super) fn add(cases: &mut Cases) {
    for dtype in DType::ALL {
        for kind in ReduceKind::ALL.into_iter().filter(|kind| takes(*kind, dtype)) {
            reduces(cases, kind, dtype);
            prefixes(cases, kind, dtype);
        }
        for kind in [Extreme::Max, Extreme::Min] {
            arg_reduces(cases, kind, dtype);
        }
        windows(cases, dtype);
        window_takes(cases, dtype);
    }
    for dtype in NUMBERS {
        window_puts(cases, dtype);
    }
}

/// These get every geometry, the other types a few.
fn is_main(dtype: DType) -> bool {
    [DType::F64, DType::F32].contains(&dtype)
}

fn takes(kind: ReduceKind, dtype: DType) -> bool {
    match kind {
        ReduceKind::Sum | ReduceKind::Prod => dtype != DType::Bool,
        ReduceKind::Max | ReduceKind::Min => true,
    }
}

/// Sums of anything, products near one, extremes without ties.
fn fill(kind: ReduceKind) -> Fill {
    match kind {
        ReduceKind::Sum => Fill::Any,
        ReduceKind::Prod => Fill::NonZero,
        ReduceKind::Max | ReduceKind::Min => Fill::Distinct,
    }
}

/// Of combining `terms` values as [`fill`] gives them.
fn bound(kind: ReduceKind, dtype: DType, terms: usize) -> Bound {
    #[expect(clippy::cast_precision_loss, reason = "an error bound")]
    let count = terms as f64;
    match kind {
        _ if !dtype.is_float() => Bound::EXACT,
        ReduceKind::Sum => Bound::sum(dtype, terms, 2.0 * count),
        ReduceKind::Prod => Bound { relative: eps(dtype) + eps(dtype.compute()) * count, absolute: 0.0 },
        ReduceKind::Max | ReduceKind::Min => Bound::EXACT,
    }
}

/// Lines of whole vectors, of what is left of one, of fewer; far and near neighbours; from either end.
fn prefixes(cases: &mut Cases, kind: ReduceKind, dtype: DType) {
    let few: &[(&str, Shape, usize, bool)] = &[
        ("rows", (3, 37).shape(), 1, false),
        ("columns_reversed", (9, 20).shape(), 0, true),
        ("columns", (9, 20).shape(), 0, false),
        ("rows_reversed", (3, 37).shape(), 1, true),
    ];
    let more: &[(&str, Shape, usize, bool)] = &[
        ("few", (5, 3).shape(), 1, false),
        ("middle", (2, 5, 18).shape(), 1, true),
        ("narrow", (2, 6, 3).shape(), 1, false),
        ("one", (3, 1).shape(), 1, true),
        ("symbolic", ("n", "s").shape(), 1, true),
        ("empty", (3, 0).shape(), 1, false),
        ("no_rows", ("z", 5).shape(), 1, true),
    ];
    let is_main = is_main(dtype) && matches!(kind, ReduceKind::Sum | ReduceKind::Max);
    let (few, more) = if is_main { (few, more) } else { (&few[..2], &[][..]) };
    for (name, shape, axis, reverse) in few.iter().chain(more) {
        let sample = cases.add(format!("prefix/{}/{dtype}/{name}", kind.name()), |c| {
            let x = c.arg(dtype, shape, fill(kind));
            [c.b.prefix(kind, *axis, *reverse, x)]
        });
        sample.within(bound(kind, dtype, 37));
        if dtype.is_float() {
            sample.smooth();
        }
    }
    if dtype.is_float() {
        let special = cases.add(format!("prefix/{}/{dtype}/special", kind.name()), |c| {
            let x = c.arg(dtype, [37, 3], Fill::Special);
            [c.b.prefix(kind, 0, false, x)]
        });
        special.within(bound(kind, dtype, 90));
    }
}

fn reduces(cases: &mut Cases, kind: ReduceKind, dtype: DType) {
    let few: &[(&str, Shape, &[usize])] = &[
        ("all_of_33", [33].shape(), &[0]),
        ("rows", [5, 17].shape(), &[1]),
        ("columns", [17, 5].shape(), &[0]),
        ("symbol_rows", ("n", 7).shape(), &[1]),
        ("nothing", [3, 0].shape(), &[1]),
    ];
    let more: &[(&str, Shape, &[usize])] = &[
        ("rank_0", ().shape(), &[]),
        ("no_axis", [3, 5].shape(), &[]),
        ("one", [1].shape(), &[0]),
        ("both", [3, 7].shape(), &[0, 1]),
        ("middle", [2, 3, 5].shape(), &[1]),
        ("outer_and_inner", [2, 3, 5].shape(), &[0, 2]),
        ("channels", [2, 3, 5, 1].shape(), &[0, 2, 3]),
        ("over_symbol", ("s", 3).shape(), &[0]),
        ("symbols", ("n", "m").shape(), &[0, 1]),
        ("over_empty_symbol", ("z", 3).shape(), &[0]),
        ("of_nothing", [0, 3].shape(), &[1]),
    ];
    let (few, more) = if is_main(dtype) { (few, more) } else { (&few[..3], &[][..]) };
    for (name, shape, axes) in few.iter().chain(more) {
        let op = Op::Reduce(Reduce { kind, axes: axes.to_vec() });
        let sample = cases.add(format!("reduce/{}/{dtype}/{name}", kind.name()), |c| {
            let x = c.arg(dtype, shape, fill(kind));
            [c.b.add(op, &[x])]
        });
        sample.within(bound(kind, dtype, 51));
        if dtype.is_float() {
            sample.smooth();
        }
    }
    if dtype.is_float() {
        let special = cases.add(format!("reduce/{}/{dtype}/special", kind.name()), |c| {
            let x = c.arg(dtype, [17, 3], Fill::Special);
            [c.b.reduce(kind, x, [1])]
        });
        special.within(bound(kind, dtype, 90));
    }
}

fn arg_reduces(cases: &mut Cases, kind: Extreme, dtype: DType) {
    let prefix = match kind {
        Extreme::Max => "arg_reduce/max",
        Extreme::Min => "arg_reduce/min",
    };
    let shapes: &[(&str, Shape, usize, Fill)] = &[
        ("ties", [5, 17].shape(), 1, Fill::Whole),
        ("special", [5, 7].shape(), 1, Fill::Special),
        ("distinct", [33].shape(), 0, Fill::Distinct),
        ("columns", [17, 5].shape(), 0, Fill::Whole),
        ("one", [3, 1].shape(), 1, Fill::Any),
        ("symbol", ("n", 7).shape(), 1, Fill::Whole),
        ("over_symbol", ("s", 3).shape(), 0, Fill::Whole),
        ("no_rows", [0, 3].shape(), 1, Fill::Any),
    ];
    for (name, shape, axis, fill) in &shapes[..if is_main(dtype) { shapes.len() } else { 2 }] {
        cases.add(format!("{prefix}/{dtype}/{name}"), |c| {
            let x = c.arg(dtype, shape, *fill);
            [c.b.add(Op::ArgReduce(ArgReduce { kind, axis: *axis }), &[x])]
        });
    }
}

/// A window of `size`, `stride`, `dilation` and padding.
fn axis(size: i64, stride: i64, dilation: i64, low: i64, high: i64) -> WindowAxis {
    WindowAxis { size, stride, dilation, low: Dim::from(low), high: Dim::from(high) }
}

type Geometry = (&'static str, Shape, Vec<WindowAxis>);

/// All for the main types, one without and one with padding for the others.
fn all_geometries(dtype: DType) -> Vec<Geometry> {
    let count = if is_main(dtype) { usize::MAX } else { 1 };
    geometries().into_iter().take(count).chain(padded().into_iter().take(count)).collect()
}

/// Shapes and windows: every place of the operand is reached, or not, by one window, or many.
fn geometries() -> Vec<Geometry> {
    let same = WindowAxis::IDENTITY;
    vec![
        ("tiles", [6].shape(), vec![axis(2, 2, 1, 0, 0)]),
        ("overlap", [7, 5].shape(), vec![axis(3, 1, 1, 0, 0), axis(2, 1, 1, 0, 0)]),
        ("gaps", [17].shape(), vec![axis(2, 5, 1, 0, 0)]),
        ("dilated", [17].shape(), vec![axis(3, 2, 3, 0, 0)]),
        ("pool_2d", ("n", 2, 5, 7).shape(), vec![same.clone(), same.clone(), axis(3, 2, 1, 0, 0), axis(2, 2, 1, 0, 0)]),
        ("whole", [3, 5].shape(), vec![axis(3, 1, 1, 0, 0), axis(5, 1, 1, 0, 0)]),
        ("symbol", ["s"].shape(), vec![axis(3, 2, 1, 0, 0)]),
        ("no_rows", ("z", 5).shape(), vec![same, axis(2, 1, 1, 0, 0)]),
    ]
}

/// Windows that reach into padding, none of which lies there altogether.
fn padded() -> Vec<Geometry> {
    let same = WindowAxis::IDENTITY;
    vec![
        ("padded", [5].shape(), vec![axis(3, 1, 1, 1, 1)]),
        ("padded_strided", [7, 5].shape(), vec![axis(3, 2, 1, 1, 0), axis(2, 3, 1, 0, 1)]),
        ("padded_pool_2d", ("n", 2, 5, 7).shape(), vec![same.clone(), same, axis(3, 2, 1, 1, 1), axis(3, 2, 1, 1, 1)]),
        ("padded_dilated", [7].shape(), vec![axis(3, 1, 2, 2, 2)]),
        ("padded_symbol", ["m"].shape(), vec![axis(3, 1, 1, 1, 1)]),
    ]
}

fn windows(cases: &mut Cases, dtype: DType) {
    for (name, shape, axes) in all_geometries(dtype) {
        for kind in ReduceKind::ALL.into_iter().filter(|kind| takes(*kind, dtype)) {
            let op = Op::Window(Window { kind, axes: axes.clone() });
            let sample = cases.add(format!("window/{}/{dtype}/{name}", kind.name()), |c| {
                let x = c.arg(dtype, &shape, fill(kind));
                [c.b.add(op, &[x])]
            });
            sample.within(bound(kind, dtype, 15));
            if dtype.is_float() {
                sample.smooth();
            }
        }
        for kind in [ReduceKind::Max, ReduceKind::Min] {
            let op = Op::WindowArg(Window { kind, axes: axes.clone() });
            cases.add(format!("window_arg/{}/{dtype}/{name}", kind.name()), |c| {
                let x = c.arg(dtype, &shape, Fill::Whole);
                [c.b.add(op, &[x])]
            });
        }
    }
    cases.add(format!("window_arg/max/{dtype}/special"), |c| {
        let x = c.arg(dtype, [17], Fill::Special);
        [c.b.add(Op::WindowArg(Window { kind: ReduceKind::Max, axes: vec![axis(3, 2, 1, 0, 0)] }), &[x])]
    });
}

/// The place of the greatest element in every window: places that are certainly inside.
fn places(c: &mut Case, shape: &Shape, axes: &[WindowAxis]) -> Value {
    let x = c.arg(DType::I64, shape, Fill::Distinct);
    c.b.add(Op::WindowArg(Window { kind: ReduceKind::Max, axes: axes.to_vec() }), &[x])
}

fn window_takes(cases: &mut Cases, dtype: DType) {
    for (name, shape, axes) in all_geometries(dtype) {
        let sample = cases.add(format!("window_take/{dtype}/{name}"), |c| {
            let (x, place) = (c.arg(dtype, &shape, Fill::Any), places(c, &shape, &axes));
            [c.b.add(Op::WindowTake(axes), &[x, place])]
        });
        if dtype.is_float() {
            sample.smooth();
        }
    }
}

fn window_puts(cases: &mut Cases, dtype: DType) {
    for (name, shape, axes) in all_geometries(dtype) {
        let sample = cases.add(format!("window_put/{dtype}/{name}"), |c| {
            let place = places(c, &shape, &axes);
            let windows = c.b.ty(place).shape.clone();
            let y = c.arg(dtype, windows, Fill::Any);
            [c.b.add(Op::WindowPut(WindowPut { axes, shape }), &[y, place])]
        });
        if dtype.is_float() {
            let stored = Bound { relative: 0.0, absolute: 15.0 * 30.0 * eps(dtype) };
            sample.within(stored).smooth();
        }
    }
}
