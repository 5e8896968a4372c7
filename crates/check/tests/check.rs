//! Planted faults: a pass with a bug, a backend with a bug. Each is found, named, and made small; what is written shows it again.

use std::sync::Arc;

use graver_check::{Case, Checked, Compiler, Finding, Guilty, Suspect, check, finite};
use graver_interp::Interp;
use graver_ir::kernel::{InstKind, KernelBody, Program};
use graver_ir::op::{Reduce, ReduceKind};
use graver_ir::{Array, DType, Error, Module, Op, ScalarFn, Target, Value};
use graver_passes::{Changed, Cx, Pass, pipeline};
use graver_runtime::{Backend, Executable};
use graver_testkit::{Build, Rng, nets, random_program};

fn right(case: &Case, compiler: &Compiler<'_>) -> usize {
    match check(case, compiler).expect("the program runs") {
        Checked::Right { launches } => launches,
        Checked::Wrong(finding) => panic!("{finding}\n{}", finding.to_gir()),
    }
}

fn wrong(case: &Case, compiler: &Compiler<'_>) -> Finding {
    match check(case, compiler).expect("the program runs") {
        Checked::Right { launches } => panic!("nothing is found in {launches} launches"),
        Checked::Wrong(finding) => *finding,
    }
}

/// Two layers, softmax, a sum over rows; lines as a user's file has them.
fn net() -> Case {
    let mut b = Build::new("main");
    let (x, w1, w2) = (b.arg("x", DType::F32, ("n", 8)), b.arg("w1", DType::F32, [8, 6]), b.arg("w2", DType::F32, [6, 5]));
    b.at("src/net.rs", 10);
    let hidden = b.dot(x, w1, matmul());
    b.at("src/net.rs", 11);
    let hidden = b.map(ScalarFn::Tanh, [hidden]);
    b.at("src/net.rs", 12);
    let out = b.dot(hidden, w2, matmul());
    b.at("src/net.rs", 13);
    let exp = b.map(ScalarFn::Exp, [out]);
    let sum = b.reduce(ReduceKind::Sum, exp, [1]);
    b.at("src/net.rs", 14);
    let log = b.map(ScalarFn::Log, [sum]);
    let module = b.finish([log, out]);
    let mut rng = Rng::new(3);
    let inputs = [[3, 8], [8, 6], [6, 5]].map(|shape| graver_testkit::Fill::Any.array(DType::F32, &shape, &mut rng)).to_vec();
    Case { module, inputs, state: Vec::new(), pass: None }
}

fn matmul() -> graver_ir::op::DotAxes {
    graver_ir::op::DotAxes { lhs_contract: vec![1], rhs_contract: vec![0], ..Default::default() }
}

#[test]
fn what_is_right_is_said_to_be() {
    let interp = Interp::default();
    assert!(right(&net(), &Compiler::new(&interp)) > 1);
}

#[test]
fn nets_with_state_and_derivatives_are_right() {
    let interp = Interp::default();
    for module in [nets::cnn_step(DType::F32), nets::transformer_block(DType::F32)] {
        let mut rng = Rng::new(7);
        let state: Vec<Array> = graver_testkit::initial_state(&module);
        let inputs = inputs_of(&module, &mut rng);
        right(&Case { module, inputs, state, pass: None }, &Compiler::new(&interp));
    }
}

/// Arguments for a net's entry: two examples.
fn inputs_of(module: &Module, rng: &mut Rng) -> Vec<Array> {
    let (_, main) = module.entry().expect("a net has an entry");
    let args = main.params.iter().filter(|param| matches!(param.role, graver_ir::Role::Arg(_)));
    args.map(|param| {
        let ty = main.graph.ty(param.node.into());
        let shape: Vec<usize> =
            ty.shape.iter().map(|dim| dim.as_const().map_or(2, |size| usize::try_from(size).expect("small"))).collect();
        let fill = if ty.dtype.is_float() { graver_testkit::Fill::Open } else { graver_testkit::Fill::Index(10) };
        fill.array(ty.dtype, &shape, rng)
    })
    .collect()
}

#[test]
fn random_programs_are_right() {
    let interp = Interp::default();
    for seed in 0..40 {
        let program = random_program(seed);
        let case = Case { module: program.module, inputs: program.inputs, state: program.state, pass: None };
        right(&case, &Compiler::new(&interp));
    }
}

/// `tanh` becomes `sin`.
fn tanh_is_sin(module: &mut Module, _: &mut Cx<'_>) -> Result<Changed, Error> {
    replaced(module, |op| matches!(op, Op::Map(ScalarFn::Tanh)), &Op::Map(ScalarFn::Sin))
}

fn replaced(module: &mut Module, meant: fn(&Op) -> bool, by: &Op) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    for function in module.functions.values_mut() {
        for node in function.graph.topo() {
            if meant(function.graph.op(node)) {
                let (args, loc) = (function.graph.args(node), function.graph.loc(node).clone());
                let new = function.graph.add(by.clone(), &args, loc)?;
                function.replace(node.into(), new.into());
                function.graph.remove(node);
                changed = Changed::Yes;
            }
        }
    }
    Ok(changed)
}

#[test]
fn a_pass_with_a_bug_is_named_and_shown() {
    let interp = Interp::default();
    let mut compiler = Compiler::new(&interp);
    let place = compiler.passes.iter().rposition(|pass| pass.name == "fold").expect("the pipeline folds");
    compiler.passes[place] = Pass { name: "fold", about: "planted", run: tanh_is_sin };
    let finding = wrong(&net(), &compiler);
    assert_eq!(finding.guilty, Guilty::Pass { name: "fold", position: place });
    // One operation, and few numbers.
    let (_, main) = finding.case.module.entry().expect("a program");
    assert_eq!((main.graph.len(), finding.case.inputs.len()), (2, 1), "{}", finding.to_gir());
    assert!(finding.case.inputs[0].numel() <= 2, "{}", finding.to_gir());
    // What is written shows it again, with this pass and not with the right one.
    let written = Case::parse(&finding.to_gir()).expect("it reads back");
    assert!(matches!(check(&written, &compiler).expect("it runs"), Checked::Wrong(_)));
    right(&written, &Compiler::new(&interp));
}

#[test]
fn a_pass_that_breaks_an_invariant_is_named() {
    fn lies(_: &mut Module, _: &mut Cx<'_>) -> Result<Changed, Error> {
        Ok(Changed::Yes)
    }
    let interp = Interp::default();
    let mut compiler = Compiler::new(&interp);
    compiler.passes[0] = Pass { name: "repeat", about: "planted", run: lies };
    let finding = wrong(&net(), &compiler);
    assert_eq!(finding.guilty, Guilty::Pass { name: "repeat", position: 0 });
    assert!(finding.told.contains("says changed"), "{}", finding.told);
}

/// A device that compiles one function as another.
#[derive(Debug)]
struct Faulty(fn(&mut Program));

impl Backend for Faulty {
    fn describe(&self) -> Target {
        Interp::default().describe()
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        let mut program = (*program).clone();
        (self.0)(&mut program);
        Interp::default().compile(Arc::new(program))
    }
}

/// `exp(x)` is compiled as `expm1(x)`.
fn exp_is_expm1(program: &mut Program) {
    for kernel in &mut program.kernels {
        let bodies = match &mut kernel.body {
            KernelBody::Nest(nest) => nest.stages.iter_mut().map(|stage| &mut stage.body).collect(),
            KernelBody::Contract(contract) => vec![&mut contract.epilogue],
            KernelBody::Scatter(_) | KernelBody::Sort(_) | KernelBody::Prefix(_) | KernelBody::Attend(_) => Vec::new(),
        };
        for inst in bodies.into_iter().flat_map(|body| &mut body.insts) {
            if let InstKind::Map(function @ ScalarFn::Exp, _) = &mut inst.kind {
                *function = ScalarFn::Expm1;
            }
        }
    }
}

/// A fault in each stage behind the passes: what it leaves has exponentials less one.
#[test]
fn a_stage_with_a_bug_is_named_and_shown() {
    fn planted(place: usize) -> fn(Program, &Module, &Target) -> Program {
        fn at<const PLACE: usize>(program: Program, module: &Module, target: &Target) -> Program {
            let mut program = (pipeline::STAGES[PLACE].run)(program, module, target);
            exp_is_expm1(&mut program);
            program
        }
        [at::<0>, at::<1>, at::<2>, at::<3>][place]
    }
    let interp = Interp::default();
    for (place, stage) in pipeline::STAGES.into_iter().enumerate() {
        let mut compiler = Compiler::new(&interp);
        compiler.stages[place].run = planted(place);
        let finding = wrong(&net(), &compiler);
        assert_eq!(finding.guilty, Guilty::Stage(stage.name));
        assert!(finding.case.module.entry().expect("a program").1.graph.len() <= 3, "{}", finding.to_gir());
        let written = Case::parse(&finding.to_gir()).expect("it reads back");
        assert!(matches!(check(&written, &compiler).expect("it runs"), Checked::Wrong(_)));
        right(&written, &Compiler::new(&interp));
    }
}

/// A stage that breaks an invariant stops the compiler, which is told of it by name.
#[test]
fn a_stage_that_breaks_an_invariant_is_named() {
    fn nowhere(mut program: Program, _: &Module, _: &Target) -> Program {
        program.kernels.clear();
        program
    }
    let interp = Interp::default();
    let mut compiler = Compiler::new(&interp);
    compiler.stages[1].run = nowhere;
    let finding = wrong(&net(), &compiler);
    assert_eq!(finding.guilty, Guilty::Stage("schedule"));
    assert!(finding.told.contains("stage `schedule` broke an invariant"), "{}", finding.told);
}

#[test]
fn a_kernel_with_a_bug_is_named_and_shown() {
    let faulty = Faulty(exp_is_expm1);
    let compiler = Compiler::new(&faulty);
    let finding = wrong(&net(), &compiler);
    let Guilty::Kernel(name) = &finding.guilty else { panic!("{finding}") };
    assert!(name.contains("exp"), "{name}");
    assert!(finding.loc.to_string().starts_with("src/net.rs:1"), "{}", finding.loc);
    let (_, main) = finding.case.module.entry().expect("a program");
    assert!(main.graph.len() <= 3, "{}", finding.to_gir());
    let written = Case::parse(&finding.to_gir()).expect("it reads back");
    assert!(matches!(check(&written, &compiler).expect("it runs"), Checked::Wrong(_)));
    right(&written, &Compiler::new(&Interp::default()));
}

/// The fault lies in a loop's body, which becomes the program.
#[test]
fn a_fault_inside_of_a_loop_is_cut_out_of_it() {
    let mut b = Build::new("main");
    let body = b.func("body", |b| {
        let (carry, x) = (b.arg("carry", DType::F32, [4]), b.arg("x", DType::F32, [4]));
        let next = b.map(ScalarFn::Tanh, [carry]);
        let next = b.map(ScalarFn::Add, [next, x]);
        vec![next, next]
    });
    let (start, xs) = (b.arg("start", DType::F32, [4]), b.arg("xs", DType::F32, (3, 4)));
    let all = b.scan(body, (3, false), [&[start], &[xs], &[]]);
    let module = b.finish([all[0], all[1]]);
    let mut rng = Rng::new(5);
    let inputs = vec![
        graver_testkit::Fill::Any.array(DType::F32, &[4], &mut rng),
        graver_testkit::Fill::Any.array(DType::F32, &[3, 4], &mut rng),
    ];
    let case = Case { module, inputs, state: Vec::new(), pass: None };
    let interp = Interp::default();
    right(&case, &Compiler::new(&interp));
    let mut compiler = Compiler::new(&interp);
    let place = compiler.passes.iter().position(|pass| pass.name == "cse").expect("the pipeline merges");
    compiler.passes[place] = Pass { name: "cse", about: "planted", run: tanh_is_sin };
    let finding = wrong(&case, &compiler);
    assert_eq!(finding.guilty, Guilty::Pass { name: "cse", position: place });
    let ops = finding
        .case
        .module
        .functions
        .values()
        .flat_map(|function| function.graph.nodes().map(|node| function.graph.op(node).name()).collect::<Vec<_>>());
    assert_eq!(ops.collect::<Vec<_>>(), ["param", "tanh"], "{}", finding.to_gir());
}

fn first(module: &Module, inputs: &[Array], suspect: Suspect) -> String {
    let inputs: Vec<&Array> = inputs.iter().collect();
    finite(module, &inputs, &[], suspect).expect_err("it makes one").to_string()
}

fn floats(values: &[f32]) -> Array {
    Array::from_vec([values.len()], values.to_vec()).expect("a vector")
}

#[test]
fn the_first_nan_is_named_with_what_it_is_made_of() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F32, ["n"]);
    b.at("src/model.rs", 7);
    let exp = b.map(ScalarFn::Exp, [x]);
    b.at("src/model.rs", 8);
    let nan = b.map(ScalarFn::Sub, [exp, exp]);
    b.at("src/model.rs", 9);
    let sum = b.reduce(ReduceKind::Sum, nan, [0]);
    let module = b.finish([sum]);
    let x = floats(&[1.0, 100.0, 200.0]);
    let infinite = first(&module, std::slice::from_ref(&x), Suspect::NanOrInfinity);
    assert_eq!(infinite, "src/model.rs:7:1: exp: gives inf at [1] and 1 other elements of f32[3], made of 100.0");
    let nan = first(&module, &[x], Suspect::Nan);
    assert_eq!(nan, "src/model.rs:8:1: sub: gives nan at [1] and 1 other elements of f32[3], made of inf and inf");
    let fine: Vec<Array> = vec![floats(&[1.0, 2.0])];
    assert!(finite(&module, &fine.iter().collect::<Vec<_>>(), &[], Suspect::NanOrInfinity).is_ok());
}

/// Masks of minus infinity are meant; a row that is all masked makes a NaN.
#[test]
fn infinities_that_are_written_down_are_meant() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F32, (2, 3));
    let mask = b.arg("mask", DType::Bool, (2, 3));
    let low = b.full(DType::F32, graver_ir::Shape::new([2, 3]), f64::NEG_INFINITY);
    let masked = b.map(ScalarFn::Select, [mask, x, low]);
    let top = b.reduce(ReduceKind::Max, masked, [1]);
    let top = b.broadcast(top, [2, 3], [0]);
    b.at("src/attention.rs", 3);
    let shifted = b.map(ScalarFn::Sub, [masked, top]);
    let exp = b.map(ScalarFn::Exp, [shifted]);
    let module = b.finish([exp]);
    let x = Array::from_vec([2, 3], vec![1.0f32; 6]).expect("six");
    let mask = |rows: [bool; 6]| Array::from_vec([2, 3], rows.to_vec()).expect("six");
    let kept = [x.clone(), mask([true, false, true, true, true, false])];
    assert!(finite(&module, &kept.iter().collect::<Vec<_>>(), &[], Suspect::NanOrInfinity).is_ok());
    let error = first(&module, &[x, mask([true, true, true, false, false, false])], Suspect::NanOrInfinity);
    assert!(error.contains("src/attention.rs:3:1: sub: gives nan at [1, 0] and 2 other elements"), "{error}");
}

#[test]
fn derivatives_and_iterations_are_said() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F32, ());
    let x = b.add(Op::Alias, &[x]);
    b.at("src/loss.rs", 4);
    let root = b.map(ScalarFn::Sqrt, [x]);
    let one = b.scalar(DType::F32, 1.0);
    let slope = b.vjp(&[root], &[one], &[x]);
    let error = first(&b.finish([slope[0]]), &[Array::scalar(0.0f32)], Suspect::NanOrInfinity);
    assert!(error.starts_with("src/loss.rs:4:1: div: gives inf at [] of f32[], made of 1.0 and 0.0"), "{error}");
    assert!(error.contains("belongs to the derivative"), "{error}");

    let mut b = Build::new("main");
    let body = b.func("body", |b: &mut Build| -> Vec<Value> {
        let x = b.arg("x", DType::F32, ());
        b.at("src/cell.rs", 2);
        vec![b.map(ScalarFn::Mul, [x, x])]
    });
    let x = b.arg("x", DType::F32, ());
    let last = b.scan(body, (9, false), [&[x], &[], &[]]);
    let error = first(&b.finish([last[0]]), &[Array::scalar(1e5f32)], Suspect::NanOrInfinity);
    assert!(error.contains("src/cell.rs:2:1") && error.contains("in iteration 2"), "{error}");
}

#[test]
fn sums_that_overflow_are_found() {
    let mut b = Build::new("main");
    let x = b.arg("x", DType::F32, [3]);
    let sum = b.add(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: vec![0] }), &[x]);
    let module = b.finish([sum]);
    let error = first(&module, &[floats(&[3e38, 3e38, 0.0])], Suspect::NanOrInfinity);
    assert!(error.contains("reduce: gives inf at [] of f32[], made of f32[3] from 0.0 to"), "{error}");
}
