//! Nesting, independence, refusals, places.

use graver_interp::{Precision, eval};
use graver_ir::{Array, DType, Op, Scalar, ScalarFn, Value};
use graver_testkit::{Build, concrete, forward, random_program, reverse};

use crate::tools::{ENTRY, expanded, run, run_expanded};

fn scalar(b: &mut Build) -> Value {
    let x = b.arg("x", DType::F64, ());
    b.add(Op::Alias, &[x])
}

#[test]
fn derivatives_nest_to_the_fifth() {
    let mut b = Build::new("main");
    let x = scalar(&mut b);
    let mut y = b.map(ScalarFn::Sin, [x]);
    let one = b.scalar(DType::F64, 1.0);
    for _ in 0..5 {
        y = b.vjp(&[y], &[one], &[x])[0];
    }
    let got = run(&b.finish([y]), &[Array::scalar(0.7)])[0].to_f64()[0];
    assert!((got - 0.7f64.cos()).abs() < 1e-14, "{got}");
}

#[test]
fn an_inner_derivative_is_an_ordinary_value_to_an_outer_one() {
    // d/dx (x * d/dz z^2 at z = 3 x) = d/dx 6 x^2 = 12 x.
    let mut b = Build::new("main");
    let x = scalar(&mut b);
    let three = b.scalar(DType::F64, 3.0);
    let tripled = b.map(ScalarFn::Mul, [x, three]);
    let z = b.add(Op::Alias, &[tripled]);
    let square = b.map(ScalarFn::Mul, [z, z]);
    let one = b.scalar(DType::F64, 1.0);
    let slope = b.vjp(&[square], &[one], &[z])[0];
    let y = b.map(ScalarFn::Mul, [x, slope]);
    let outer = b.vjp(&[y], &[one], &[x])[0];
    assert_eq!(run(&b.finish([outer]), &[Array::scalar(5.0)])[0].to_f64(), [60.0]);
}

#[test]
fn only_paths_through_the_name_count_and_stops_stop() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F64, ());
    let name = b.add(Op::Alias, &[x]);
    let stopped = b.add(Op::StopGradient, &[name]);
    // x * name * stop(name): by the name alone x * x.
    let product = b.map(ScalarFn::Mul, [x, name]);
    let y = b.map(ScalarFn::Mul, [product, stopped]);
    let one = b.scalar(DType::F64, 1.0);
    let unrelated = b.add(Op::Alias, &[x]);
    let both = b.vjp(&[y], &[one], &[name, unrelated]);
    let outputs = run(&b.finish_all(&both), &[Array::scalar(5.0)]);
    assert_eq!(outputs.iter().map(|x| x.to_f64()[0]).collect::<Vec<_>>(), [25.0, 0.0]);
}

/// A function with a derivative of its own, called. The derivative is wrong on purpose: it must be used.
fn call_with_own_derivative(b: &mut Build, x: Value) -> Value {
    let func = b.func("f", |b| {
        let x = b.arg("x", DType::F64, ());
        vec![b.map(ScalarFn::Exp, [x])]
    });
    let vjp = b.func("f_vjp", |b| {
        let (_, g) = (b.arg("x", DType::F64, ()), b.arg("g", DType::F64, ()));
        vec![b.map(ScalarFn::Neg, [g])]
    });
    b.call_tagged(func, &[x], None, Some(vjp))[0]
}

#[test]
fn a_derivative_of_its_own_is_used_in_reverse_and_the_bodys_forward() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F64, ());
    let y = call_with_own_derivative(&mut b, x);
    let module = b.finish([y]);
    assert_eq!(run(&reverse(&module), &[Array::scalar(1.0), Array::scalar(2.0)])[0].to_f64(), [-2.0]);
    let slope = 2.0 * 1f64.exp();
    assert_eq!(run(&forward(&module), &[Array::scalar(1.0), Array::scalar(2.0)])[0].to_f64(), [slope]);
}

/// A loop whose number of iterations nobody knows has no derivative in reverse mode.
#[test]
fn what_is_not_needed_is_not_refused() {
    let looped = |stop: bool| {
        let mut b = Build::new("main");
        let x = b.arg("x", DType::F64, ());
        let cond = b.func("cond", |b| {
            let (x, one) = (b.arg("x", DType::F64, ()), b.scalar(DType::F64, 1.0));
            vec![b.map(ScalarFn::Gt, [x, one])]
        });
        let body = b.func("body", |b| {
            let (x, half) = (b.arg("x", DType::F64, ()), b.scalar(DType::F64, 0.5));
            vec![b.map(ScalarFn::Mul, [x, half])]
        });
        let y = b.repeat([cond, body], None, &[x], &[])[0];
        let y = if stop { b.add(Op::StopGradient, &[y]) } else { y };
        let z = b.map(ScalarFn::Mul, [x, y]);
        expanded(&reverse(&b.finish([z])))
    };
    assert!(looped(true).is_ok());
    assert!(looped(false).expect_err("nobody knows how often").to_string().contains("needs a bound"));
}

#[test]
fn new_nodes_have_the_place_of_what_they_differentiate() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F64, [5]);
    b.at("src/model.rs", 7);
    let y = b.map(ScalarFn::Tanh, [x]);
    let module = expanded(&reverse(&b.finish([y]))).expect("it is differentiable");
    let graph = &module.function(ENTRY).graph;
    let lines: Vec<u32> = graph.nodes().filter_map(|node| graph.loc(node).place()).map(|place| place.line).collect();
    assert!(lines.len() > 4 && lines.iter().all(|line| *line == 7), "{lines:?}");
}

#[test]
fn the_same_program_gives_the_same_bits() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F64, [5]);
    let parts = [ScalarFn::Exp, ScalarFn::Sin, ScalarFn::Tanh].map(|function| b.map(function, [x]));
    let module = reverse(&b.finish(parts));
    let input = Array::from_vec([5], vec![0.1, 0.2, 0.3, 0.4, 0.5]).expect("sizes agree");
    let outputs = [(); 2].map(|()| run_expanded(&expanded(&module).expect("differentiable"), &vec![input.clone(); 4]));
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
fn random_programs_have_derivatives_that_run() {
    for seed in 0..200 {
        let program = random_program(seed);
        let module = reverse(&program.module);
        let module = expanded(&module).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let function = module.function(ENTRY);
        let types = function.params[program.inputs.len() + program.state.len()..]
            .iter()
            .map(|param| function.graph.ty(param.node.into()));
        let seeds: Vec<Array> = types.map(|ty| Array::full(concrete(&ty.shape), Scalar::one(ty.dtype))).collect();
        let inputs: Vec<&Array> = program.inputs.iter().chain(&seeds).collect();
        eval(&module, ENTRY, &inputs, &program.state, Precision::Typed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
