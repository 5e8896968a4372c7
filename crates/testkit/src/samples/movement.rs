//! Samples of movements: exact at every element type.

use graver_ir::op::{PadAxis, SliceAxis};
use graver_ir::{DType, Dim, Op, Shape, Symbol, Value};

use super::{Case, Cases};
use crate::build::Dims;
use crate::fill::Fill;

pub(super) fn add(cases: &mut Cases) {
    for dtype in DType::ALL {
        basic(cases, dtype);
    }
    for dtype in [DType::F64, DType::F32, DType::U8] {
        reshapes(cases, dtype);
        permutes(cases, dtype);
        broadcasts(cases, dtype);
        slices(cases, dtype);
        pads(cases, dtype);
        concats(cases, dtype);
        reverses(cases, dtype);
    }
}

/// One operand moved by `body`.
fn moved(cases: &mut Cases, name: String, dtype: DType, x: impl Dims, body: impl FnOnce(&mut Case, Value) -> Value) {
    let sample = cases.add(name, |c| {
        let x = c.arg(dtype, x, Fill::Any);
        [body(c, x)]
    });
    if dtype.is_float() {
        sample.smooth();
    }
}

/// Every movement at every element type.
fn basic(cases: &mut Cases, dtype: DType) {
    let name = |op: &str| format!("{op}/{dtype}/basic");
    moved(cases, name("reshape"), dtype, [3, 5], |c, x| c.b.reshape(x, [15]));
    moved(cases, name("permute"), dtype, [3, 5], |c, x| c.b.permute(x, [1, 0]));
    moved(cases, name("broadcast"), dtype, [5], |c, x| c.b.broadcast(x, [3, 5], [1]));
    moved(cases, name("slice"), dtype, [17], |c, x| c.b.slice(x, [(1, 5, 3)]));
    moved(cases, name("concat"), dtype, [7], |c, x| c.b.concat(0, [x, x]));
    moved(cases, name("reverse"), dtype, [7], |c, x| c.b.reverse(x, [0]));
    moved(cases, name("pad"), dtype, [7], |c, x| {
        let value = c.b.scalar(dtype, 1.0);
        c.b.pad(x, value, [(1, 2, 0)])
    });
}

fn reshapes(cases: &mut Cases, dtype: DType) {
    let pairs = [
        ("to_rank_0", [1, 1].shape(), ().shape()),
        ("from_rank_0", ().shape(), [1, 1, 1].shape()),
        ("split", [33].shape(), [3, 11].shape()),
        ("regroup", [3, 5, 2].shape(), [5, 6].shape()),
        ("merge_symbol", ("n", 4).shape(), Shape(vec![Dim::sym(&Symbol::new("n")) * Dim::from(4)])),
        ("split_symbol", Shape(vec![Dim::sym(&Symbol::new("n")) * Dim::from(4)]), (2, "n", 2).shape()),
        ("two_symbols", ("n", "m").shape(), ("m", "n").shape()),
        ("empty", [3, 0].shape(), [0, 7, 2].shape()),
        ("empty_symbol", ("z", 6).shape(), ("z", 3, 2).shape()),
    ];
    for (name, from, to) in pairs {
        moved(cases, format!("reshape/{dtype}/{name}"), dtype, from, |c, x| c.b.reshape(x, to));
    }
}

fn permutes(cases: &mut Cases, dtype: DType) {
    let name = |name: &str| format!("permute/{dtype}/{name}");
    moved(cases, name("rank_0"), dtype, (), |c, x| c.b.permute(x, []));
    moved(cases, name("identity"), dtype, [3, 5], |c, x| c.b.permute(x, [0, 1]));
    moved(cases, name("rotate"), dtype, [2, 3, 5], |c, x| c.b.permute(x, [2, 0, 1]));
    moved(cases, name("nchw_to_nhwc"), dtype, ("n", 3, 2, 5), |c, x| c.b.permute(x, [0, 2, 3, 1]));
    moved(cases, name("large"), dtype, [33, 17], |c, x| c.b.permute(x, [1, 0]));
    moved(cases, name("symbols"), dtype, ("n", "s"), |c, x| c.b.permute(x, [1, 0]));
    moved(cases, name("empty"), dtype, [3, 0, 5], |c, x| c.b.permute(x, [1, 2, 0]));
    // Equal sizes: only the elements tell a permutation from its inverse.
    moved(cases, name("cube"), dtype, [3, 3, 3], |c, x| c.b.permute(x, [1, 2, 0]));
}

fn broadcasts(cases: &mut Cases, dtype: DType) {
    let name = |name: &str| format!("broadcast/{dtype}/{name}");
    moved(cases, name("from_rank_0"), dtype, (), |c, x| c.b.broadcast(x, [3, 5], []));
    moved(cases, name("to_itself"), dtype, [3, 5], |c, x| c.b.broadcast(x, [3, 5], [0, 1]));
    moved(cases, name("rows"), dtype, [3], |c, x| c.b.broadcast(x, [3, 17], [0]));
    moved(cases, name("middle"), dtype, [2, 5], |c, x| c.b.broadcast(x, [2, 3, 5], [0, 2]));
    // Equal sizes: only the elements tell rows from columns.
    moved(cases, name("square"), dtype, [3], |c, x| c.b.broadcast(x, [3, 3], [1]));
    moved(cases, name("channels"), dtype, [3], |c, x| c.b.broadcast(x, [2, 3, 5, 1], [1]));
    moved(cases, name("symbol"), dtype, [3], |c, x| {
        c.arg(DType::U8, ["n"], Fill::Any);
        c.b.broadcast(x, ("n", 3), [1])
    });
    moved(cases, name("of_symbol"), dtype, ["n"], |c, x| c.b.broadcast(x, (5, "n", 2), [1]));
    moved(cases, name("to_empty"), dtype, [3], |c, x| c.b.broadcast(x, [3, 0], [0]));
    moved(cases, name("of_empty"), dtype, ["z"], |c, x| c.b.broadcast(x, (3, "z"), [1]));
}

fn slices(cases: &mut Cases, dtype: DType) {
    let name = |name: &str| format!("slice/{dtype}/{name}");
    moved(cases, name("all"), dtype, [3, 5], |c, x| c.b.slice(x, [(0, 3, 1), (0, 5, 1)]));
    moved(cases, name("inner"), dtype, [5, 7], |c, x| c.b.slice(x, [(1, 3, 1), (2, 4, 1)]));
    moved(cases, name("strided"), dtype, [7, 17], |c, x| c.b.slice(x, [(0, 4, 2), (3, 5, 3)]));
    moved(cases, name("one"), dtype, [7], |c, x| c.b.slice(x, [(6, 1, 1)]));
    moved(cases, name("none"), dtype, [7], |c, x| c.b.slice(x, [(7, 0, 1)]));
    moved(cases, name("rank_0"), dtype, (), |c, x| c.b.add(Op::Slice(Vec::new()), &[x]));
    moved(cases, name("symbol_rows"), dtype, ("n", 5), |c, x| {
        let rows = SliceAxis { start: Dim::ZERO, size: Dim::sym(&Symbol::new("n")), step: 1 };
        let columns = SliceAxis { start: Dim::ONE, size: Dim::from(2), step: 2 };
        c.b.add(Op::Slice(vec![rows, columns]), &[x])
    });
    moved(cases, name("all_but_first"), dtype, ["m"], |c, x| {
        let m = Dim::sym(&Symbol::new("m"));
        c.b.slice(x, [(Dim::ONE, m - Dim::ONE, 1)])
    });
    moved(cases, name("half_of_symbol"), dtype, ["s"], |c, x| {
        let s = Dim::sym(&Symbol::new("s"));
        c.b.slice(x, [(Dim::ZERO, s.floor_div(&Dim::from(2)), 2)])
    });
    moved(cases, name("empty"), dtype, [0, 3], |c, x| c.b.slice(x, [(0, 0, 1), (1, 2, 1)]));
}

fn pads(cases: &mut Cases, dtype: DType) {
    let name = |name: &str| format!("pad/{dtype}/{name}");
    let mut pad = |name: String, x: Shape, axes: &[(Dim, Dim, i64)]| {
        let axes: Vec<PadAxis> = axes
            .iter()
            .map(|(low, high, interior)| PadAxis { low: low.clone(), high: high.clone(), interior: *interior })
            .collect();
        let sample = cases.add(name, |c| {
            let (x, value) = (c.arg(dtype, x, Fill::Any), c.arg(dtype, (), Fill::Any));
            [c.b.add(Op::Pad(axes), &[x, value])]
        });
        if dtype.is_float() {
            sample.smooth();
        }
    };
    let d = |size: i64| Dim::from(size);
    let n = || Dim::sym(&Symbol::new("n"));
    pad(name("rank_0"), ().shape(), &[]);
    pad(name("nothing"), [3, 5].shape(), &[(d(0), d(0), 0), (d(0), d(0), 0)]);
    pad(name("around"), [3, 5].shape(), &[(d(1), d(0), 0), (d(2), d(1), 0)]);
    pad(name("between"), [3, 5].shape(), &[(d(0), d(0), 2), (d(1), d(1), 1)]);
    pad(name("one_between"), [1].shape(), &[(d(0), d(2), 3)]);
    pad(name("empty"), [0].shape(), &[(d(2), d(1), 0)]);
    pad(name("empty_between"), [0, 3].shape(), &[(d(1), d(0), 2), (d(0), d(0), 1)]);
    pad(name("symbol"), ("n", 3).shape(), &[(d(1), d(2), 0), (d(0), d(1), 0)]);
    pad(name("by_symbol"), ("n", 3).shape(), &[(n(), d(0), 0), (d(0), n(), 0)]);
    pad(name("symbol_between"), ["n"].shape(), &[(d(0), d(1), 1)]);
    pad(name("empty_symbol_between"), ["z"].shape(), &[(d(2), d(1), 1)]);
}

fn concats(cases: &mut Cases, dtype: DType) {
    let name = |name: &str| format!("concat/{dtype}/{name}");
    let mut concat = |name: String, axis: usize, shapes: &[Shape]| {
        let sample = cases.add(name, |c| {
            let args: Vec<Value> = shapes.iter().map(|shape| c.arg(dtype, shape, Fill::Any)).collect();
            [c.b.add(Op::Concat(axis), &args)]
        });
        if dtype.is_float() {
            sample.smooth();
        }
    };
    concat(name("one"), 0, &[[3].shape()]);
    concat(name("rows"), 0, &[[3, 5].shape(), [1, 5].shape(), [2, 5].shape()]);
    concat(name("columns"), 1, &[[3, 5].shape(), [3, 2].shape()]);
    concat(name("middle"), 1, &[[2, 3, 5].shape(), [2, 1, 5].shape()]);
    concat(name("symbols"), 0, &[["n"].shape(), ["m"].shape(), [1].shape()]);
    concat(name("symbol_rows"), 1, &[("n", 3).shape(), ("n", "m").shape()]);
    concat(name("with_empty"), 0, &[[0, 3].shape(), [2, 3].shape(), ("z", 3).shape()]);
    concat(name("all_empty"), 1, &[[0, 3].shape(), [0, 2].shape()]);
    let many = |shape: &dyn Fn(usize) -> Shape| (0..11).map(shape).collect::<Vec<Shape>>();
    concat(name("many_rows"), 0, &many(&|place| [1 + place % 2, 3].shape()));
    concat(name("many_columns"), 1, &many(&|place| (3, if place == 4 { "n" } else { "m" }).shape()));
    concat(name("many_with_empty"), 1, &many(&|place| (3, if place % 3 == 0 { "z" } else { "m" }).shape()));
}

fn reverses(cases: &mut Cases, dtype: DType) {
    let name = |name: &str| format!("reverse/{dtype}/{name}");
    moved(cases, name("no_axis"), dtype, [3, 5], |c, x| c.b.reverse(x, []));
    moved(cases, name("first"), dtype, [3, 5], |c, x| c.b.reverse(x, [0]));
    moved(cases, name("both"), dtype, [3, 17], |c, x| c.b.reverse(x, [0, 1]));
    moved(cases, name("outer_and_inner"), dtype, [2, 3, 5], |c, x| c.b.reverse(x, [0, 2]));
    moved(cases, name("symbol"), dtype, ("n", 3), |c, x| c.b.reverse(x, [0]));
    moved(cases, name("empty"), dtype, (3, "z"), |c, x| c.b.reverse(x, [0, 1]));
}
