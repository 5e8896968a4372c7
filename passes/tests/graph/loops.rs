//! Loops: what leaves them, and what derivatives find in them.

use graver_ir::{Array, DType, Dim, Module, Op, ScalarFn, Symbol, Type, Value};
use graver_testkit::{Build, reverse};

use crate::common::after;
use crate::tools::run;

fn array<const N: usize>(shape: [usize; N], values: &[f64]) -> Array {
    Array::from_vec(shape, values.to_vec()).expect("sizes agree")
}

/// A derivative that a user wrote need not be linear in the cotangent: here `3 w` is added in every iteration, whatever it is.
#[test]
fn an_own_derivative_keeps_its_part_without_cotangents() {
    let mut b = Build::new("main");
    let two = |b: &mut Build, names: [&str; 2]| names.map(|name| b.arg(name, DType::F64, [2]));
    let product = b.func("product", |b| {
        let args = two(b, ["w", "x"]);
        vec![b.map(ScalarFn::Mul, args)]
    });
    let vjp = b.func("product_vjp", |b| {
        let ([w, x], g) = (two(b, ["w", "x"]), b.arg("g", DType::F64, [2]));
        let three = b.full(DType::F64, [2], 3.0);
        let (decay, own) = (b.map(ScalarFn::Mul, [w, three]), b.map(ScalarFn::Mul, [g, x]));
        vec![b.map(ScalarFn::Add, [own, decay]), b.map(ScalarFn::Mul, [g, w])]
    });
    let body = b.func("body", |b| {
        let ([sum, x], w) = (two(b, ["sum", "x"]), b.arg("w", DType::F64, [2]));
        let y = b.call_tagged(product, &[w, x], None, Some(vjp))[0];
        vec![b.map(ScalarFn::Add, [sum, y])]
    });
    let (start, xs, w) = (b.arg("start", DType::F64, [2]), b.arg("xs", DType::F64, (3, 2)), b.arg("w", DType::F64, [2]));
    let sum = b.scan(body, (3, false), [&[start], &[xs], &[w]])[0];
    let module = reverse(&b.finish([sum]));
    let (xs, w) = (array([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), array([2], &[0.5, -1.0]));
    let slopes = run(&module, &[array([2], &[0.0; 2]), xs, w, array([2], &[1.0; 2])]);
    assert_eq!(slopes[2].to_f64(), [9.0 + 9.0 * 0.5, 12.0 - 9.0]);
}

/// At most `n - 5` times, `n` being 3: not at all.
#[test]
fn a_bound_that_is_negative_is_none() {
    let mut b = Build::new("main");
    let cond = b.func("always", |b| {
        b.arg("x", DType::F64, ["n"]);
        vec![b.constant(Array::full([], graver_ir::Scalar::bool(true)))]
    });
    let body = b.func("double", |b| {
        let x = b.arg("x", DType::F64, ["n"]);
        vec![b.map(ScalarFn::Add, [x, x])]
    });
    let x = b.arg("x", DType::F64, ["n"]);
    let most = Dim::sym(&Symbol::new("n")) - Dim::from(5);
    let y = b.repeat([cond, body], Some(most), &[x], &[])[0];
    let module = reverse(&b.finish([y]));
    let slopes = run(&module, &[array([3], &[1.0, 2.0, 3.0]), array([3], &[1.0, 2.0, 4.0])]);
    assert_eq!(slopes[0].to_f64(), [1.0, 2.0, 4.0]);
}

/// A state `[4, 3]` that is fed by what `feed` makes of `x_t . w: [4]`, a slice `[3]`, and what is closed over, `[3]`.
fn fed(feed: fn(&mut Build, [Value; 3]) -> Value) -> Module {
    let mut b = Build::new("main");
    let body = b.func("body", |b| {
        let state = b.arg("state", DType::F64, (4, 3));
        let (x, y) = (b.arg("x", DType::F64, (1, 5)), b.arg("y", DType::F64, [3]));
        let (w, a) = (b.arg("w", DType::F64, (5, 4)), b.arg("a", DType::F64, [3]));
        let projected = b.matmul(x, w);
        let projected = b.reshape(projected, [4]);
        let fed = feed(b, [projected, y, a]);
        let half = b.full(DType::F64, (4, 3), 0.5);
        let kept = b.map(ScalarFn::Mul, [state, half]);
        vec![b.map(ScalarFn::Add, [kept, fed])]
    });
    let state = b.arg("state", DType::F64, (4, 3));
    let (w, a) = (b.arg("w", DType::F64, (5, 4)), b.arg("a", DType::F64, [3]));
    let (xs, ys) = (b.arg("xs", DType::F64, (7, 1, 5)), b.arg("ys", DType::F64, (7, 3)));
    let last = b.scan(body, (7, false), [&[state], &[xs, ys], &[w, a]])[0];
    b.finish([last])
}

/// The types of what the scan takes after hoisting.
fn operands(module: Module) -> Vec<String> {
    let module = after(module, &["hoist"]);
    let graph = &module.entry().expect("an entry").1.graph;
    let scan = graph.nodes().find(|id| matches!(graph.op(*id), Op::Scan(_))).expect("a scan");
    graph.args(scan).iter().map(|arg| graph.ty(*arg)).map(Type::to_string).collect()
}

#[test]
fn an_outer_product_stays_and_its_factors_leave() {
    let outer = fed(|b, [x, _, a]| b.dot(x, a, graver_ir::op::DotAxes::default()));
    assert_eq!(operands(outer), ["f64[4, 3]", "f64[7, 1, 5]", "f64[7, 3]", "f64[7, 1, 4]", "f64[5, 4]", "f64[3]"]);
}

#[test]
fn what_is_repeated_leaves_once() {
    let repeated = fed(|b, [x, y, _]| {
        let (x, y) = (b.broadcast(x, (4, 3), [0]), b.broadcast(y, (4, 3), [1]));
        b.map(ScalarFn::Mul, [x, y])
    });
    assert_eq!(operands(repeated), ["f64[4, 3]", "f64[7, 1, 5]", "f64[7, 3]", "f64[7, 1, 4]", "f64[5, 4]", "f64[3]"]);
}

/// A product that is as large as one of its operands is one product before the loop, with the maps after it.
#[test]
fn a_projection_leaves_with_its_maps() {
    let projected = fed(|b, [x, y, _]| {
        let tanh = b.map(ScalarFn::Tanh, [x]);
        let tanh = b.broadcast(tanh, (4, 3), [0]);
        let y = b.broadcast(y, (4, 3), [1]);
        b.map(ScalarFn::Add, [tanh, y])
    });
    assert_eq!(operands(projected), ["f64[4, 3]", "f64[7, 1, 5]", "f64[7, 3]", "f64[7, 4]", "f64[5, 4]", "f64[3]"]);
}
