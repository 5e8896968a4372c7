//! The expansions of scalar functions, over dense samples of all `f32`, against `f64`: in units in the last place.

mod levels;

use std::sync::Arc;

use graver_cpu::Cpu;
use graver_interp::apply;
use graver_ir::{Array, DType, Scalar, ScalarFn};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Invocation};
use graver_testkit::Build;

/// Every 8191st bit pattern, and those around every power of two, zeros, infinities and NaN among them.
fn inputs() -> Vec<f32> {
    let dense = (0..=u32::MAX / 8191).map(|step| f32::from_bits(step * 8191));
    let edges = (0..512u32)
        .flat_map(|exponent| (0..5u32).map(move |near| f32::from_bits((exponent << 23).wrapping_add(near).wrapping_sub(2))));
    let near_one = (0..4000i16).map(|step| 1.0 + f32::from(step - 2000) * f32::EPSILON * 0.5);
    dense.chain(edges).chain(near_one).collect()
}

fn evaluate(cpu: &Cpu, function: ScalarFn, operands: &[Vec<f32>]) -> Vec<f32> {
    let mut b = Build::new("function");
    let count = i32::try_from(operands[0].len()).expect("few");
    let args: Vec<_> = operands.iter().map(|_| b.arg("x", DType::F32, [count])).collect();
    let result = b.add(graver_ir::Op::Map(function), &args);
    let module = b.finish([result]);
    let program = pipeline::compile(module, &cpu.describe(), &mut Silent).expect("it compiles");
    let executable = cpu.compile(Arc::new(program)).expect("it compiles");
    let arrays: Vec<Array> =
        operands.iter().map(|operand| Array::from_vec([operand.len()], operand.clone()).expect("sizes agree")).collect();
    let inputs: Vec<&Array> = arrays.iter().collect();
    let mut workspace = executable.workspace();
    let call = Invocation { entry: 0, inputs: &inputs, state: &mut [], workspace: &mut workspace };
    let results = executable.run(call).expect("it runs");
    results[0].as_slice::<f32>().expect("floats").to_vec()
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

fn check(function: ScalarFn, bound: f64) {
    let inputs = inputs();
    let exact = |x: f32| apply(function, &[Scalar::float(DType::F64, f64::from(x))]).as_f64();
    for cpu in levels::cpus(1) {
        let got = evaluate(&cpu, function, std::slice::from_ref(&inputs));
        let worst = inputs.iter().zip(&got).map(|(x, y)| (ulps(exact(*x), *y), *x, *y)).max_by(|x, y| x.0.total_cmp(&y.0));
        let (error, x, y) = worst.expect("there are inputs");
        let (wanted, isa) = (exact(x), cpu.isa());
        assert!(error <= bound, "{isa}: {function}({x:e}) = {y:e}, not {wanted:e}: {error:.2} units in the last place");
    }
}

#[test]
fn within_one_unit_and_a_half() {
    check(ScalarFn::Exp, 1.0);
    check(ScalarFn::Log, 1.0);
    for function in [ScalarFn::Erf, ScalarFn::Sin, ScalarFn::Cos, ScalarFn::Expm1, ScalarFn::Log1p, ScalarFn::Rsqrt] {
        check(function, 1.5);
    }
}

#[test]
fn within_two_units_and_a_half() {
    check(ScalarFn::Sigmoid, 2.0);
    check(ScalarFn::Tanh, 2.5);
}

#[test]
fn exact_functions_are_exact() {
    for function in [
        ScalarFn::Neg,
        ScalarFn::Abs,
        ScalarFn::Sign,
        ScalarFn::Relu,
        ScalarFn::Floor,
        ScalarFn::Ceil,
        ScalarFn::Trunc,
        ScalarFn::Round,
        ScalarFn::Sqrt,
    ] {
        check(function, 0.5);
    }
}

#[test]
fn powers() {
    let bases: Vec<f32> =
        inputs().into_iter().step_by(97).chain([0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]).collect();
    let exponents = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        3.0,
        -3.0,
        0.5,
        -0.5,
        2.5,
        33.0,
        1e-3,
        1e9,
        16_777_217.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for exponent in exponents {
        x.extend(&bases);
        y.extend(std::iter::repeat_n(exponent, bases.len()));
    }
    for cpu in levels::cpus(1) {
        let (got, isa) = (evaluate(&cpu, ScalarFn::Pow, &[x.clone(), y.clone()]), cpu.isa());
        for ((x, y), got) in x.iter().zip(&y).zip(got) {
            let exact = f64::from(*x).powf(f64::from(*y));
            assert!(ulps(exact, got) <= 2.0, "{isa}: {x:e}^{y:e} = {got:e}, not {exact:e}: {:.2} units", ulps(exact, got));
        }
    }
}
