//! Where functions have kinks or poles, derivatives are PyTorch's.

use graver_ir::op::{ReduceKind, Window, WindowAxis};
use graver_ir::{Array, DType, Dim, Module, Op, ScalarFn, Value};
use graver_testkit::{Build, reverse};

use crate::tools::run;

fn vector(values: &[f64]) -> Array {
    Array::from_vec([values.len()], values.to_vec()).expect("sizes agree")
}

/// A module of float vectors of `size` elements, as many as the body takes.
fn module<const N: usize>(size: i64, body: impl FnOnce(&mut Build, [Value; N]) -> Value) -> Module {
    let mut b = Build::new("main");
    let args = [(); N].map(|()| b.arg("x", DType::F64, [size]));
    let result = body(&mut b, args);
    b.finish([result])
}

/// The cotangents for a cotangent of ones.
fn slopes(module: &Module, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let inputs: Vec<Array> = inputs.iter().map(|input| vector(input)).collect();
    let outputs = run(module, &inputs);
    let ones = outputs.iter().map(|out| Array::full(out.shape(), graver_ir::Scalar::one(DType::F64)));
    let inputs: Vec<Array> = inputs.iter().cloned().chain(ones).collect();
    run(&reverse(module), &inputs).iter().map(Array::to_f64).collect()
}

fn map1(function: ScalarFn, x: &[f64]) -> Vec<f64> {
    let size = i64::try_from(x.len()).expect("short");
    slopes(&module(size, |b, [x]| b.map(function, [x])), &[x]).swap_remove(0)
}

fn map2(function: ScalarFn, x: &[f64], y: &[f64]) -> [Vec<f64>; 2] {
    let size = i64::try_from(x.len()).expect("short");
    slopes(&module(size, |b, [x, y]| b.map(function, [x, y])), &[x, y]).try_into().expect("two inputs")
}

#[test]
fn relu_and_abs_are_flat_at_zero() {
    assert_eq!(map1(ScalarFn::Relu, &[-1.0, -0.0, 0.0, 2.0]), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(map1(ScalarFn::Abs, &[-1.0, -0.0, 0.0, 2.0]), [-1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn steps_are_flat() {
    for step in [ScalarFn::Sign, ScalarFn::Floor, ScalarFn::Ceil, ScalarFn::Trunc, ScalarFn::Round] {
        assert_eq!(map1(step, &[-1.5, 0.0, 2.25]), [0.0; 3]);
    }
}

/// As the extreme is NaN where an element is, so is what it follows from.
#[test]
fn the_slope_of_an_extreme_that_is_nan_is_that_of_the_nans() {
    for kind in [ReduceKind::Max, ReduceKind::Min] {
        let module = module(4, |b, [x]| b.reduce(kind, x, [0]));
        assert_eq!(slopes(&module, &[&[1.0, f64::NAN, 3.0, f64::NAN]]), [[0.0, 0.5, 0.0, 0.5]], "{kind:?}");
    }
}

#[test]
fn equal_operands_of_max_and_min_get_half_each() {
    let (x, y) = ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]);
    assert_eq!(map2(ScalarFn::Max, &x, &y), [vec![0.0, 0.5, 1.0], vec![1.0, 0.5, 0.0]]);
    assert_eq!(map2(ScalarFn::Min, &x, &y), [vec![1.0, 0.5, 0.0], vec![0.0, 0.5, 1.0]]);
}

#[test]
fn pow_is_finite_at_zero() {
    let [base, exponent] = map2(ScalarFn::Pow, &[0.0, 0.0, 0.0, 2.0, -2.0], &[0.0, 1.0, 2.0, 0.0, 3.0]);
    assert_eq!(base, [0.0, 1.0, 0.0, 0.0, 12.0]);
    assert_eq!(exponent[..3], [0.0, 0.0, 0.0]);
    assert!((exponent[3] - 2f64.ln()).abs() < 1e-15 && exponent[4].is_nan());
}

#[test]
fn equal_extremes_share_evenly() {
    for kind in [ReduceKind::Max, ReduceKind::Min] {
        let all = module(4, |b, [x]| b.reduce(kind, x, [0]));
        assert_eq!(slopes(&all, &[&[3.0, 3.0, 3.0, 3.0]]), [vec![0.25; 4]]);
    }
    let max = module(4, |b, [x]| b.reduce(ReduceKind::Max, x, [0]));
    assert_eq!(slopes(&max, &[&[3.0, 1.0, 3.0, 2.0]]), [vec![0.5, 0.0, 0.5, 0.0]]);
}

#[test]
fn of_equal_elements_of_a_window_the_first_is_chosen() {
    let axis = WindowAxis { size: 2, stride: 1, dilation: 1, low: Dim::ZERO, high: Dim::ZERO };
    let window = Op::Window(Window { kind: ReduceKind::Max, axes: vec![axis] });
    let pooled = module(4, |b, [x]| b.add(window, &[x]));
    assert_eq!(slopes(&pooled, &[&[1.0, 1.0, 1.0, 2.0]]), [vec![1.0, 1.0, 0.0, 1.0]]);
}

#[test]
fn products_are_right_for_any_number_of_zeros() {
    let product = module(3, |b, [x]| b.reduce(ReduceKind::Prod, x, [0]));
    assert_eq!(slopes(&product, &[&[2.0, 3.0, 4.0]]), [vec![12.0, 8.0, 6.0]]);
    assert_eq!(slopes(&product, &[&[2.0, 0.0, 4.0]]), [vec![0.0, 8.0, 0.0]]);
    assert_eq!(slopes(&product, &[&[0.0, 0.0, 4.0]]), [vec![0.0; 3]]);
    // The second derivative by both zeros is the third element.
    let twice = reverse(&reverse(&product));
    let inputs = [vector(&[0.0, 0.0, 4.0]), Array::scalar(1.0), vector(&[1.0, 0.0, 0.0])];
    assert_eq!(run(&twice, &inputs)[0].to_f64(), [0.0, 4.0, 0.0]);
}

/// Factors that are scattered: right for one zero at a position, and for two.
#[test]
fn scattered_factors_may_be_zero() {
    let index = Array::from_vec([5], vec![0i64, 0, 1, 2, 2]).expect("sizes agree");
    let mut b = Build::new("main");
    let (x, update) = (b.arg("x", DType::F64, [3]), b.arg("update", DType::F64, [5]));
    let index = b.constant(index);
    let y = b.scatter(graver_ir::op::ScatterKind::Mul, [x, index, update], 0, 0);
    let found = slopes(&b.finish([y]), &[&[2.0, 0.0, 0.0], &[3.0, 0.0, 5.0, 0.0, 7.0]]);
    assert_eq!(found, [vec![0.0, 5.0, 0.0], vec![0.0, 6.0, 0.0, 0.0, 0.0]]);
}

/// `y0 = x0 u0 u1`, `y1 = x1 u2`: second derivatives are the factors that are left, where others are zero too.
#[test]
fn scattered_factors_have_second_derivatives_at_zeros() {
    let mut b = Build::new("main");
    let (x, update) = (b.arg("x", DType::F64, [2]), b.arg("update", DType::F64, [3]));
    let index = b.constant(Array::from_vec([3], vec![0i64, 1, 0]).expect("sizes agree"));
    let y = b.scatter(graver_ir::op::ScatterKind::Mul, [x, index, update], 0, 0);
    let twice = reverse(&reverse(&b.finish([y])));
    let along = |dx: [f64; 2], du: [f64; 3]| {
        let values = [vector(&[2.0, 0.0]), vector(&[0.0, 0.0, 0.0]), vector(&[1.0, 1.0]), vector(&dx), vector(&du)];
        let found = run(&twice, &values);
        [found[0].to_f64(), found[1].to_f64()]
    };
    assert_eq!(along([0.0; 2], [1.0, 0.0, 0.0]), [vec![0.0, 0.0], vec![0.0, 0.0, 2.0]]);
    assert_eq!(along([0.0; 2], [0.0, 1.0, 0.0]), [vec![0.0, 1.0], vec![0.0, 0.0, 0.0]]);
    assert_eq!(along([0.0, 1.0], [0.0; 3]), [vec![0.0, 0.0], vec![0.0, 1.0, 0.0]]);
}

/// Of several at one position the last is set, and has the derivative; extremes share theirs.
#[test]
fn scattered_values_that_meet() {
    use graver_ir::op::ScatterKind;
    let of = |kind: ScatterKind, x: &[f64], update: &[f64]| {
        let index = Array::from_vec([4], vec![0i64, 1, 0, 0]).expect("sizes agree");
        let mut b = Build::new("main");
        let (own, new) = (b.arg("x", DType::F64, [3]), b.arg("update", DType::F64, [4]));
        let index = b.constant(index);
        let y = b.scatter(kind, [own, index, new], 0, 0);
        slopes(&b.finish([y]), &[x, update])
    };
    let x = [2.0, 5.0, 1.0];
    assert_eq!(of(ScatterKind::Set, &x, &[7.0, 8.0, 9.0, 6.0]), [vec![0.0, 0.0, 1.0], vec![0.0, 1.0, 0.0, 1.0]]);
    assert_eq!(
        of(ScatterKind::Max, &x, &[2.0, 4.0, 2.0, 1.0]),
        [vec![1.0 / 3.0, 1.0, 1.0], vec![1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0]]
    );
    assert_eq!(of(ScatterKind::Max, &x, &[f64::NAN, 4.0, 2.0, f64::NAN])[1], [0.5, 0.0, 0.0, 0.5]);
    assert_eq!(of(ScatterKind::Min, &x, &[1.0, 5.0, 1.0, 4.0]), [vec![0.0, 0.5, 1.0], vec![0.5, 0.5, 0.5, 0.0]]);
}
