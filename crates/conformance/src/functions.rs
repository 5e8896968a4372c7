//! The expansions of scalar functions, over dense samples of all `f32`, against `f64`: in units in the last place.

use graver_interp::apply;
use graver_ir::{Array, DType, Module, Scalar, ScalarFn};
use graver_runtime::Backend;
use graver_testkit::Build;

use crate::{Compiled, report};

/// Functions of one `f32`, and how far they may be off.
const BOUNDS: &[(ScalarFn, f64)] = &[
    (ScalarFn::Exp, 1.0),
    (ScalarFn::Log, 1.0),
    (ScalarFn::Erf, 1.5),
    (ScalarFn::Sin, 1.5),
    (ScalarFn::Cos, 1.5),
    (ScalarFn::Expm1, 1.5),
    (ScalarFn::Log1p, 1.5),
    (ScalarFn::Rsqrt, 1.5),
    (ScalarFn::Sigmoid, 2.0),
    (ScalarFn::Tanh, 2.5),
    (ScalarFn::Neg, 0.5),
    (ScalarFn::Abs, 0.5),
    (ScalarFn::Sign, 0.5),
    (ScalarFn::Relu, 0.5),
    (ScalarFn::Floor, 0.5),
    (ScalarFn::Ceil, 0.5),
    (ScalarFn::Trunc, 0.5),
    (ScalarFn::Round, 0.5),
    (ScalarFn::Sqrt, 0.5),
];
/// How far powers may be off.
const POWERS: f64 = 2.0;

/// The functions of `f32` and powers, over dense samples of all floats.
///
/// # Panics
/// If any is further off than its bound.
pub fn functions(backend: &dyn Backend) {
    let all = cases();
    let compiled: Vec<_> = all.iter().map(|case| Compiled::new(&module(case), backend, &[])).collect();
    let wrong = all.iter().zip(compiled).filter_map(|((function, inputs, bound), compiled)| {
        let operands: Vec<Array> = inputs.iter().map(|x| Array::from_vec([x.len()], x.clone()).expect("sizes agree")).collect();
        let results = compiled.and_then(|compiled| compiled.run(&operands, &[]));
        results.and_then(|results| check(*function, inputs, results[0].as_slice().expect("floats"), *bound)).err()
    });
    report("functions", &wrong.collect::<Vec<_>>());
}

/// Every 8191st bit pattern, and those around every power of two, zeros, infinities and NaN among them.
fn inputs() -> Vec<f32> {
    let dense = (0..=u32::MAX / 8191).map(|step| f32::from_bits(step * 8191));
    let edges = (0..512u32)
        .flat_map(|exponent| (0..5u32).map(move |near| f32::from_bits((exponent << 23).wrapping_add(near).wrapping_sub(2))));
    let near_one = (0..4000i16).map(|step| 1.0 + f32::from(step - 2000) * f32::EPSILON * 0.5);
    dense.chain(edges).chain(near_one).collect()
}

/// A function, its operands, and how far it may be off.
type Case = (ScalarFn, Vec<Vec<f32>>, f64);

fn cases() -> Vec<Case> {
    let of_one = BOUNDS.iter().map(|(function, bound)| (*function, vec![inputs()], *bound));
    of_one.chain([(ScalarFn::Pow, powers(), POWERS)]).collect()
}

/// A program of each function, by name.
pub(crate) fn modules() -> Vec<(String, Module)> {
    cases().iter().map(|case| (format!("function/{}", case.0), module(case))).collect()
}

fn module((function, operands, _): &Case) -> Module {
    let mut b = Build::new("function");
    let count = i32::try_from(operands[0].len()).expect("few");
    let args: Vec<_> = operands.iter().map(|_| b.arg("x", DType::F32, [count])).collect();
    let result = b.add(graver_ir::Op::Map(*function), &args);
    b.finish([result])
}

/// The distance between `got` and the exact value in units of the last place of `f32` there.
fn ulps(exact: f64, got: f32) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
    let rounded = exact as f32;
    if rounded == got || (rounded.is_nan() && got.is_nan()) {
        return 0.0;
    }
    if rounded.is_nan() || got.is_nan() {
        return f64::INFINITY;
    }
    let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor().min(127.0);
    (exact - f64::from(got)).abs() / (exponent - 23.0).exp2()
}

fn check(function: ScalarFn, operands: &[Vec<f32>], got: &[f32], bound: f64) -> Result<(), String> {
    let exact = |place: usize| {
        let operands: Vec<Scalar> = operands.iter().map(|x| Scalar::float(DType::F64, f64::from(x[place]))).collect();
        apply(function, &operands).as_f64()
    };
    let errors = got.iter().enumerate().map(|(place, got)| (ulps(exact(place), *got), place));
    let (error, place) = errors.max_by(|x, y| x.0.total_cmp(&y.0)).ok_or("there are no inputs")?;
    if error <= bound {
        return Ok(());
    }
    let operands: Vec<String> = operands.iter().map(|x| format!("{:e}", x[place])).collect();
    let (operands, got, exact) = (operands.join(", "), got[place], exact(place));
    Err(format!("{function}({operands}) = {got:e}, not {exact:e}: {error:.2} units in the last place"))
}

/// Every base with every exponent.
fn powers() -> Vec<Vec<f32>> {
    let special = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let bases: Vec<f32> = inputs().into_iter().step_by(97).chain(special).collect();
    let exponents = [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -3.0, 0.5, -0.5, 2.5, 33.0, 1e-3, 1e9, 16_777_217.0];
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for exponent in exponents.into_iter().chain([f32::INFINITY, f32::NEG_INFINITY, f32::NAN]) {
        x.extend(&bases);
        y.extend(std::iter::repeat_n(exponent, bases.len()));
    }
    vec![x, y]
}
