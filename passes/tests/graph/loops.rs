//! Loops: what leaves them, and what derivatives find in them.

use graver_ir::op::{Conv, ConvAxis};
use graver_ir::{Array, DType, Dim, Module, Op, ScalarFn, Shape, Symbol, Type, Value};
use graver_testkit::{Build, Rng, random_like, reverse};

use crate::common::after;
use crate::tools::{expanded, run};

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

const STEPS: usize = 3;

/// `state = tanh(state / 2 + conv(x_t, w))`, from `state`, for all `x_t`: as a loop, or step by step.
fn convolved(conv: &Conv, [state, x, w]: &[Shape; 3], looped: bool) -> Module {
    let step = |b: &mut Build, state: Value, x: Value, w: Value| {
        let half = b.full(DType::F64, b.ty(state).shape.clone(), 0.5);
        let (kept, y) = (b.map(ScalarFn::Mul, [state, half]), b.add(Op::Conv(conv.clone()), &[x, w]));
        let sum = b.map(ScalarFn::Add, [kept, y]);
        b.map(ScalarFn::Tanh, [sum])
    };
    let mut b = Build::new("main");
    let all = Shape(std::iter::once(Dim::from(STEPS as i64)).chain(x.iter().cloned()).collect());
    let (first, xs, kernel) = (b.arg("state", DType::F64, state), b.arg("xs", DType::F64, &all), b.arg("w", DType::F64, w));
    if looped {
        let body = b.func("body", |b| {
            let args = (b.arg("state", DType::F64, state), b.arg("x", DType::F64, x), b.arg("w", DType::F64, w));
            vec![step(b, args.0, args.1, args.2)]
        });
        let last = b.scan(body, (STEPS as i64, false), [&[first], &[xs], &[kernel]])[0];
        return b.finish([last]);
    }
    let mut last = first;
    for place in 0..STEPS {
        let whole = |size: &Dim| graver_ir::op::SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 };
        let one = graver_ir::op::SliceAxis { start: Dim::from(place as i64), size: Dim::ONE, step: 1 };
        let part = b.add(Op::Slice(std::iter::once(one).chain(x.iter().map(whole)).collect()), &[xs]);
        let part = b.reshape(part, x);
        last = step(&mut b, last, part, kernel);
    }
    b.finish([last])
}

fn spatial(stride: i64, pad: i64, kernel_dilation: i64) -> ConvAxis {
    ConvAxis { stride, low: Dim::from(pad), high: Dim::from(pad), kernel_dilation, input_dilation: 1 }
}

/// Convolutions with sizes of a result, an operand and a kernel: pictures at once, groups of features and of pictures, other orders of axes.
fn convolutions() -> [(Conv, [Shape; 3]); 5] {
    let of = |axes: [ConvAxis; 2], orders: [[usize; 4]; 3], groups: i64, batch_groups: i64| {
        let [input, kernel, output] = orders.map(|order| order.to_vec());
        Conv { input, kernel, output, axes: axes.to_vec(), groups, batch_groups }
    };
    let shapes = |shapes: [[i64; 4]; 3]| shapes.map(Shape::new);
    let (first, last) = ([0, 1, 2, 3], [0, 3, 1, 2]);
    let near = || [spatial(1, 1, 1), spatial(1, 1, 1)];
    [
        (of(near(), [first; 3], 1, 1), shapes([[2, 3, 5, 4], [2, 2, 5, 4], [3, 2, 3, 3]])),
        (of([spatial(2, 0, 1), spatial(2, 0, 1)], [first; 3], 2, 1), shapes([[2, 4, 2, 2], [2, 4, 5, 5], [4, 2, 2, 2]])),
        (of(near(), [first; 3], 1, 2), shapes([[2, 2, 4, 4], [4, 3, 4, 4], [2, 3, 3, 3]])),
        (
            of([spatial(1, 0, 2), spatial(1, 0, 1)], [last, [3, 2, 0, 1], last], 1, 1),
            shapes([[2, 3, 4, 3], [2, 5, 5, 2], [2, 2, 2, 3]]),
        ),
        (of(near(), [[2, 0, 1, 3], [1, 0, 2, 3], [1, 0, 3, 2]], 1, 1), shapes([[3, 2, 4, 5], [2, 5, 2, 4], [2, 3, 3, 3]])),
    ]
}

/// How many convolutions are in the functions that the entry's loops run.
fn convolutions_in_loops(module: &Module) -> usize {
    let of = |function: &graver_ir::Function| {
        function.graph.nodes().filter(|id| matches!(function.graph.op(*id), Op::Conv(_))).count()
    };
    let in_all: usize = module.functions.values().map(of).sum();
    in_all - of(module.entry().expect("an entry").1)
}

/// Slices are more pictures, and what a kernel's gradient sums over; both are what step after step gives.
#[test]
fn convolutions_leave_with_their_gradients() {
    for (place, (conv, shapes)) in convolutions().into_iter().enumerate() {
        let (looped, steps) = (convolved(&conv, &shapes, true), convolved(&conv, &shapes, false));
        let zeros = |sizes: &[usize]| Array::full(sizes, graver_ir::Scalar::float(DType::F64, 0.0));
        let sizes = shapes.clone().map(|shape| shape.as_const().expect("numbers"));
        let all = [&[STEPS], sizes[1].as_slice()].concat();
        let like = [&sizes[0], &all, &sizes[2], &sizes[0]].map(|sizes| zeros(sizes));
        let inputs = random_like(&like, &mut Rng::named("convolutions"));
        let close = |x: &Array, y: &Array| x.to_f64().iter().zip(y.to_f64()).all(|(x, y)| (x - y).abs() < 1e-12);
        let results = |module: &Module, count: usize| run(module, &inputs[..count]);
        let (hoisted, expected) = (after(looped.clone(), &["hoist"]), results(&steps, 3));
        assert_eq!(convolutions_in_loops(&after(hoisted.clone(), &["dce"])), 0, "{place}");
        assert!(close(&results(&hoisted, 3)[0], &expected[0]), "{place}");
        let (slopes, expected) = (reverse(&looped), results(&reverse(&steps), 4));
        for module in [slopes.clone(), after(slopes, &["hoist"])] {
            let got = results(&module, 4);
            assert!(got.iter().zip(&expected).all(|(x, y)| x.shape() == y.shape() && close(x, y)), "{place}");
        }
        // Forward and for the operand; that for the kernel is one after the loop.
        let expanded = expanded(&reverse(&looped)).expect("it has derivatives");
        assert_eq!(convolutions_in_loops(&expanded), 2, "{place}");
    }
}
