//! Samples of control flow: every element type carried and scanned; recurrences over symbolic and empty lengths, backwards, inside of
//! one another, with values that are closed over.

use graver_ir::op::ReduceKind;
use graver_ir::{DType, Dim, FuncId, ScalarFn, Value};

use super::{Cases, FLOATS, NUMBERS};
use crate::build::{AsDim, Build};
use crate::close::Bound;
use crate::fill::Fill;

pub(super) fn add(cases: &mut Cases) {
    for dtype in DType::ALL {
        delays(cases, dtype);
        choices(cases, dtype);
        exchanges(cases, dtype);
    }
    for dtype in NUMBERS {
        sums(cases, dtype);
    }
    for dtype in FLOATS {
        recurrences(cases, dtype);
        nested(cases, dtype);
        halvings(cases, dtype);
        branches(cases, dtype);
    }
}

/// Every slice one iteration later: what is stacked is what is carried.
fn delays(cases: &mut Cases, dtype: DType) {
    for (name, trip, reverse) in
        [("n", "n".dim(), false), ("backwards", 5.dim(), true), ("empty", "z".dim(), false), ("none", 0.dim(), false)]
    {
        let sample = cases.add(format!("scan/{dtype}/delay_{name}"), |c| {
            let body = c.b.func("delay", |b| {
                let (last, x) = (b.arg("last", dtype, [3]), b.arg("x", dtype, [3]));
                vec![x, last]
            });
            let (start, xs) = (c.arg(dtype, [3], Fill::Any), c.arg(dtype, vec![trip.clone(), 3.dim()], Fill::Any));
            let results = c.b.scan(body, (trip, reverse), [&[start], &[xs], &[]]);
            [results[0], results[1]]
        });
        if dtype.is_float() && name != "empty" && name != "none" {
            sample.smooth();
        }
    }
}

/// A value or another one, by a condition of the caller.
fn choices(cases: &mut Cases, dtype: DType) {
    for holds in [true, false] {
        let sample = cases.add(format!("if/{dtype}/{holds}"), |c| {
            let arms = [0, 1].map(|arm| {
                c.b.func(["first", "second_backwards"][arm], |b| {
                    let (x, y) = (b.arg("x", dtype, ("n", 3)), b.arg("y", dtype, ("n", 3)));
                    vec![if arm == 0 { x } else { b.reverse(y, [0]) }]
                })
            });
            let (x, y) = (c.arg(dtype, ("n", 3), Fill::Any), c.arg(dtype, ("n", 3), Fill::Any));
            let condition = c.b.constant(graver_ir::Array::full([], graver_ir::Scalar::int(DType::Bool, i64::from(holds))));
            [c.b.branch(condition, arms, &[x, y])[0]]
        });
        if dtype.is_float() {
            sample.smooth();
        }
    }
}

/// Two values that change places as often as a number says that is carried too.
fn exchanges(cases: &mut Cases, dtype: DType) {
    let sample = cases.add(format!("while/{dtype}/exchange"), |c| {
        let args = |b: &mut Build| (b.arg("x", dtype, [3]), b.arg("y", dtype, [3]), b.arg("count", DType::I64, ()));
        let cond = c.b.func("any_left", |b| {
            let (_, _, count) = args(b);
            let zero = b.scalar(DType::I64, 0.0);
            vec![b.map(ScalarFn::Gt, [count, zero])]
        });
        let body = c.b.func("exchange", |b| {
            let (x, y, count) = args(b);
            let one = b.scalar(DType::I64, 1.0);
            vec![y, x, b.map(ScalarFn::Sub, [count, one])]
        });
        let (x, y) = (c.arg(dtype, [3], Fill::Any), c.arg(dtype, [3], Fill::Any));
        let count = c.b.scalar(DType::I64, 3.0);
        let results = c.b.repeat([cond, body], Some(Dim::from(7)), &[x, y, count], &[]);
        [results[0], results[1]]
    });
    if dtype.is_float() {
        sample.smooth();
    }
}

/// Running sums of slices, which are stacked, and their last one.
fn sums(cases: &mut Cases, dtype: DType) {
    let sample = cases.add(format!("scan/{dtype}/running_sum"), |c| {
        let body = c.b.func("add", |b| {
            let (sum, x) = (b.arg("sum", dtype, ("m", 2)), b.arg("x", dtype, ("m", 2)));
            let next = b.map(ScalarFn::Add, [sum, x]);
            vec![next, next]
        });
        let (start, xs) = (c.arg(dtype, ("m", 2), Fill::Any), c.arg(dtype, ("n", "m", 2), Fill::Any));
        let results = c.b.scan(body, ("n", false), [&[start], &[xs], &[]]);
        [results[0], results[1]]
    });
    sample.rounded_sums(dtype, 8);
    if dtype.is_float() {
        sample.smooth();
    }
}

/// `h = tanh(x w + h u + b)`, the cell of a plain recurrent net.
fn cell(b: &mut Build, dtype: DType, [h, x, w, u, bias]: [Value; 5]) -> Value {
    let (xw, hu) = (b.matmul(x, w), b.matmul(h, u));
    let sum = b.map(ScalarFn::Add, [xw, hu]);
    let bias = b.broadcast(bias, ("m", 3), [1]);
    let sum = b.map(ScalarFn::Add, [sum, bias]);
    assert_eq!(b.ty(sum).dtype, dtype, "the cell keeps its type");
    b.map(ScalarFn::Tanh, [sum])
}

fn recurrences(cases: &mut Cases, dtype: DType) {
    for (name, reverse) in [("recurrent", false), ("recurrent_backwards", true)] {
        let sample = cases.add(format!("scan/{dtype}/{name}"), |c| {
            let body = recurrent(&mut c.b, dtype);
            let (h, xs) = (c.arg(dtype, ("m", 3), Fill::Any), c.arg(dtype, ("n", "m", 2), Fill::Any));
            let (w, u) = (c.arg(dtype, [2, 3], Fill::Any), c.arg(dtype, [3, 3], Fill::Any));
            let bias = c.arg(dtype, [3], Fill::Any);
            let results = c.b.scan(body, ("n", reverse), [&[h], &[xs], &[w, u, bias]]);
            [results[0], results[1]]
        });
        // Five steps, each of a sum of six products; the slope of tanh is at most 1, and of u at most 6.
        sample.within(Bound { relative: 0.0, absolute: 40_000.0 * crate::close::eps(dtype) }).smooth();
    }
}

fn recurrent(b: &mut Build, dtype: DType) -> FuncId {
    b.func("recurrent", |b| {
        let (h, x) = (b.arg("h", dtype, ("m", 3)), b.arg("x", dtype, ("m", 2)));
        let (w, u, bias) = (b.arg("w", dtype, [2, 3]), b.arg("u", dtype, [3, 3]), b.arg("bias", dtype, [3]));
        let next = cell(b, dtype, [h, x, w, u, bias]);
        vec![next, next]
    })
}

/// A scan inside of a scan: sums of rows, each row added element by element.
fn nested(cases: &mut Cases, dtype: DType) {
    let sample = cases.add(format!("scan/{dtype}/nested"), |c| {
        let inner = c.b.func("inner", |b| {
            let (sum, x, scale) = (b.arg("sum", dtype, ()), b.arg("x", dtype, ()), b.arg("scale", dtype, ()));
            let scaled = b.map(ScalarFn::Mul, [x, scale]);
            let next = b.map(ScalarFn::Add, [sum, scaled]);
            vec![next, scaled]
        });
        let outer = c.b.func("outer", |b| {
            let (sum, row, scale) = (b.arg("sum", dtype, ()), b.arg("row", dtype, ["m"]), b.arg("scale", dtype, ()));
            b.scan(inner, ("m", true), [&[sum], &[row], &[scale]])
        });
        let (start, xs) = (c.arg(dtype, (), Fill::Any), c.arg(dtype, ("n", "m"), Fill::Any));
        let scale = c.arg(dtype, (), Fill::Any);
        let results = c.b.scan(outer, ("n", false), [&[start], &[xs], &[scale]]);
        [results[0], results[1]]
    });
    sample.rounded_sums(dtype, 30).smooth();
}

/// Halved until small: how often depends on the values.
fn halvings(cases: &mut Cases, dtype: DType) {
    for (name, most) in [("halving", None), ("halving_twice", Some(Dim::from(2)))] {
        let bounded = most.is_some();
        let sample = cases.add(format!("while/{dtype}/{name}"), |c| {
            let cond = c.b.func("is_large", |b| {
                let (x, _) = (b.arg("x", dtype, ["n"]), b.arg("factor", dtype, ()));
                let squares = b.map(ScalarFn::Mul, [x, x]);
                let sum = b.reduce(ReduceKind::Sum, squares, [0]);
                let limit = b.scalar(dtype, 0.01);
                vec![b.map(ScalarFn::Gt, [sum, limit])]
            });
            let body = c.b.func("halve", |b| {
                let (x, factor) = (b.arg("x", dtype, ["n"]), b.arg("factor", dtype, ()));
                let half = b.full(dtype, ["n"], 0.5);
                let x = b.map(ScalarFn::Mul, [x, half]);
                let factor = b.broadcast(factor, ["n"], []);
                let ratio = b.map(ScalarFn::Mul, [factor, half]);
                let ratio = b.map(ScalarFn::Tanh, [ratio]);
                vec![b.map(ScalarFn::Mul, [x, ratio])]
            });
            let (x, factor) = (c.arg(dtype, ["n"], Fill::Any), c.arg(dtype, (), Fill::Any));
            [c.b.repeat([cond, body], most, &[x], &[factor])[0]]
        });
        sample.within(Bound { relative: 0.0, absolute: 64.0 * crate::close::eps(dtype) });
        if bounded {
            sample.smooth();
        }
    }
}

/// Different functions of the operands in a scan, by a condition that every iteration computes.
fn branches(cases: &mut Cases, dtype: DType) {
    let sample = cases.add(format!("if/{dtype}/in_scan"), |c| {
        let square = c.b.func("square", |b| {
            let (sum, x) = (b.arg("sum", dtype, [3]), b.arg("x", dtype, [3]));
            let square = b.map(ScalarFn::Mul, [x, x]);
            vec![b.map(ScalarFn::Add, [sum, square]), x]
        });
        let keep = c.b.func("keep", |b| {
            let (sum, x) = (b.arg("sum", dtype, [3]), b.arg("x", dtype, [3]));
            vec![sum, b.map(ScalarFn::Sin, [x])]
        });
        let body = c.b.func("body", |b| {
            let (sum, x) = (b.arg("sum", dtype, [3]), b.arg("x", dtype, [3]));
            let total = b.reduce(ReduceKind::Sum, x, [0]);
            let zero = b.scalar(dtype, 0.0);
            let positive = b.map(ScalarFn::Gt, [total, zero]);
            b.branch(positive, [square, keep], &[sum, x])
        });
        let (start, xs) = (c.arg(dtype, [3], Fill::Any), c.arg(dtype, ("n", 3), Fill::Any));
        let results = c.b.scan(body, ("n", false), [&[start], &[xs], &[]]);
        [results[0], results[1]]
    });
    sample.rounded_sums(dtype, 24).smooth();
}
