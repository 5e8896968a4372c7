//! Samples of parameters, names, calls and recorded derivatives.

use graver_ir::op::{Composite, ReduceKind};
use graver_ir::{DType, Op, ScalarFn, Value};

use super::{Case, Cases, FLOATS, shapes};
use crate::build::{Build, Dims};
use crate::close::Bound;
use crate::fill::Fill;

pub(super) fn add(cases: &mut Cases) {
    params(cases);
    for dtype in DType::ALL {
        names(cases, dtype);
    }
    for dtype in FLOATS {
        calls(cases, dtype);
        softmaxes(cases, dtype);
    }
}

fn params(cases: &mut Cases) {
    for dtype in DType::ALL {
        for (name, shape) in shapes().into_iter().skip(dtype.size()).step_by(3) {
            cases.add(format!("param/{dtype}/{name}"), |c| [c.arg(dtype, shape, Fill::Any)]);
        }
    }
    cases.add("param/f32/twice_out", |c| {
        let x = c.arg(DType::F32, [3], Fill::Any);
        [x, x]
    });
    cases.add("param/f32/unused", |c| {
        c.arg(DType::F32, [3], Fill::Any);
        [c.arg(DType::F32, [5], Fill::Any)]
    });
}

fn names(cases: &mut Cases, dtype: DType) {
    let alias = cases.add(format!("alias/{dtype}"), |c| {
        let x = c.arg(dtype, ("n", 3), Fill::Any);
        [c.b.add(Op::Alias, &[x])]
    });
    if dtype.is_float() {
        alias.smooth();
    }
    // Not differentiable by differences: its derivative is 0 by decree.
    cases.add(format!("stop_gradient/{dtype}"), |c| {
        let x = c.arg(dtype, ("n", 3), Fill::Any);
        [c.b.add(Op::StopGradient, &[x])]
    });
}

fn calls(cases: &mut Cases, dtype: DType) {
    let once = cases.add(format!("call/{dtype}/once"), |c| {
        let func = square(&mut c.b, dtype);
        let x = c.arg(dtype, ("n", 3), Fill::Any);
        [c.b.call(func, &[x])[0]]
    });
    once.within(Bound::ulps(dtype, 1.0)).smooth();
    let twice = cases.add(format!("call/{dtype}/twice"), |c| {
        let func = square(&mut c.b, dtype);
        let x = c.arg(dtype, ("n", 3), Fill::Any);
        let y = c.b.call(func, &[x])[0];
        [c.b.call(func, &[y])[0]]
    });
    twice.within(Bound::ulps(dtype, 4.0)).smooth();
    let nested = cases.add(format!("call/{dtype}/nested_two_results"), |c| {
        let func = square(&mut c.b, dtype);
        let both = c.b.func("square_and_negate", |b| {
            let x = b.arg("x", dtype, ("n", 3));
            let y = b.call(func, &[x])[0];
            vec![y, b.map(ScalarFn::Neg, [x])]
        });
        let x = c.arg(dtype, ("n", 3), Fill::Any);
        let results = c.b.call(both, &[x]);
        [results[1], results[0]]
    });
    nested.within(Bound::ulps(dtype, 1.0)).smooth();
    let own = cases.add(format!("call/{dtype}/own_vjp"), |c| {
        let (func, vjp) = (square(&mut c.b, dtype), square_vjp(&mut c.b, dtype));
        let x = c.arg(dtype, ("n", 3), Fill::Any);
        [c.b.call_tagged(func, &[x], None, Some(vjp))[0]]
    });
    own.within(Bound::ulps(dtype, 1.0)).smooth();
}

fn square(b: &mut Build, dtype: DType) -> graver_ir::FuncId {
    b.func("square", |b| {
        let x = b.arg("x", dtype, ("n", 3));
        vec![b.map(ScalarFn::Mul, [x, x])]
    })
}

fn square_vjp(b: &mut Build, dtype: DType) -> graver_ir::FuncId {
    b.func("square_vjp", |b| {
        let (x, g) = (b.arg("x", dtype, ("n", 3)), b.arg("g", dtype, ("n", 3)));
        let twice = b.map(ScalarFn::Add, [x, x]);
        vec![b.map(ScalarFn::Mul, [g, twice])]
    })
}

fn softmaxes(cases: &mut Cases, dtype: DType) {
    let sample = cases.add(format!("call/{dtype}/softmax"), |c| {
        let func = softmax(&mut c.b, dtype);
        let x = c.arg(dtype, ("n", 7), Fill::Any);
        [c.b.call_tagged(func, &[x], Some(Composite::Softmax), None)[0]]
    });
    // Each of exp's argument, exp, the sum of seven, and the quotient; every value is stored once at most.
    sample.within(Bound::ulps(dtype, 24.0)).smooth();
}

fn softmax(b: &mut Build, dtype: DType) -> graver_ir::FuncId {
    b.func("softmax", |b| {
        let shape = ("n", 7);
        let x = b.arg("x", dtype, shape);
        let greatest = b.reduce(ReduceKind::Max, x, [1]);
        let greatest = b.add(Op::StopGradient, &[greatest]);
        let greatest = b.broadcast(greatest, shape, [0]);
        let shifted = b.map(ScalarFn::Sub, [x, greatest]);
        let weights = b.map(ScalarFn::Exp, [shifted]);
        let sum = b.reduce(ReduceKind::Sum, weights, [1]);
        let sum = b.broadcast(sum, shape, [0]);
        vec![b.map(ScalarFn::Div, [weights, sum])]
    })
}

pub(super) fn add_transforms(cases: &mut Cases) {
    for dtype in FLOATS {
        let reverse = cases.add(format!("vjp/{dtype}/product"), |c| {
            let (x, y, z) = product(c, dtype);
            let g = c.arg(dtype, ("n", 3), Fill::Any);
            let [dx, dy] = [0, 1].map(|place| c.b.vjp(&[z], &[g], &[x, y])[place]);
            [dx, dy]
        });
        reverse.within(Bound::ulps(dtype, 1.0)).smooth();
        let forward = cases.add(format!("jvp/{dtype}/product"), |c| {
            let (x, y, z) = product(c, dtype);
            let (dx, dy) = (c.arg(dtype, ("n", 3), Fill::Any), c.arg(dtype, ("n", 3), Fill::Any));
            [c.b.jvp(&[z], &[x, y], &[dx, dy])[0]]
        });
        forward.rounded_sums(dtype, 2).smooth();
        let second = cases.add(format!("vjp/{dtype}/second_order"), |c| {
            let x = c.arg(dtype, [5].shape(), Fill::Any);
            let x = c.b.add(Op::Alias, &[x]);
            let square = c.b.map(ScalarFn::Mul, [x, x]);
            let cube = c.b.map(ScalarFn::Mul, [square, x]);
            let one = c.b.full(dtype, [5], 1.0);
            let slope = c.b.vjp(&[cube], &[one], &[x])[0];
            [c.b.vjp(&[slope], &[one], &[x])[0]]
        });
        second.rounded_sums(dtype, 6).smooth();
    }
}

fn product(c: &mut Case, dtype: DType) -> (Value, Value, Value) {
    let [x, y] = [(); 2].map(|()| {
        let x = c.arg(dtype, ("n", 3), Fill::Any);
        c.b.add(Op::Alias, &[x])
    });
    (x, y, c.b.map(ScalarFn::Mul, [x, y]))
}
