//! Functions: parameters, state, calls, lines in errors.

use graver_interp::{Outcome, Precision, eval};
use graver_ir::op::{Call, GatherAxes, Reduce, ReduceKind, Transform};
use graver_ir::{
    Array, DType, Dim, FuncId, Function, Loc, Module, NodeId, Op, Place, Role, ScalarFn, Shape, Sink, StateDecl, StateKind,
    Symbol, Type, Value,
};

use crate::{array, check, check_error};

fn line(line: u32) -> Loc {
    Loc::new(Place { file: "model.rs".to_owned(), line, column: 1, ..Place::default() })
}

fn arg(function: &mut Function, name: &str, ty: &Type) -> NodeId {
    function.add_param(ty.clone(), Role::Arg(name.to_owned()), Loc::UNKNOWN)
}

fn add(function: &mut Function, op: Op, args: &[NodeId], loc: Loc) -> NodeId {
    let args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
    function.graph.add(op, &args, loc).expect("a test's graph is well typed")
}

fn run(module: &Module, inputs: &[&Array], state: &[Array]) -> Result<Outcome, String> {
    eval(module, FuncId(0), inputs, state, Precision::Typed).map_err(|error| error.to_string())
}

fn rows() -> Type {
    Type::new(DType::F32, Shape(vec![Dim::sym(&Symbol::new("n")), Dim::from(2)]))
}

/// `f(x) = sum over rows of x, times the state`, which becomes it.
fn running_total() -> Module {
    let mut module = Module::default();
    let total = Type::new(DType::F32, Shape::new([2]));
    let state = module.add_state(StateDecl { path: "total".to_owned(), ty: total.clone(), kind: StateKind::Buffer });
    let mut f = Function::new("f");
    let x = arg(&mut f, "x", &rows());
    let old = f.add_param(total, Role::State(state), Loc::UNKNOWN);
    let sum = add(&mut f, Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: vec![0] }), &[x], Loc::UNKNOWN);
    let new = add(&mut f, Op::Map(ScalarFn::Mul), &[sum, old], Loc::UNKNOWN);
    f.add_result(sum, Sink::Out);
    f.add_result(new, Sink::Update(state));
    f.add_result(sum, Sink::Out);
    module.add(f);
    module
}

#[test]
fn results_and_updates_for_any_size() {
    let module = running_total();
    let state = [array(&[2], &[2f32, 3.0])];
    let found = run(&module, &[&array(&[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])], &state).expect("inputs fit");
    assert_eq!(found.outputs, vec![array(&[2], &[9f32, 12.0]); 2]);
    assert_eq!(found.updates.iter().map(|(_, x)| x).collect::<Vec<_>>(), [&array(&[2], &[18f32, 36.0])]);
    let found = run(&module, &[&array::<f32>(&[0, 2], &[])], &state).expect("no row is a number of rows");
    assert_eq!(found.outputs[0], array(&[2], &[0f32; 2]));
}

#[test]
fn inputs_and_state_are_checked() {
    let module = running_total();
    let state = [array(&[2], &[2f32, 3.0])];
    let x = array(&[3, 3], &[0f32; 9]);
    assert_eq!(run(&module, &[&x], &state), Err("`x` axis 1 is 3, but must be 2: `x` is f32[n, 2]".to_owned()));
    assert_eq!(run(&module, &[], &state), Err("takes 1 inputs (`x`), got 0".to_owned()));
    let x = array(&[1, 2], &[0f32; 2]);
    assert_eq!(run(&module, &[&x], &[]), Err("the state has 1 slots, got 0".to_owned()));
    let wrong = [array(&[3], &[0f32; 3])];
    assert_eq!(run(&module, &[&x], &wrong), Err("the state `total` must be f32[2], got f32[3]".to_owned()));
}

#[test]
fn the_reference_does_not_round() {
    let mut module = Module::default();
    let mut f = Function::new("f");
    let x = arg(&mut f, "x", &Type::scalar(DType::BF16));
    let third = add(&mut f, Op::Map(ScalarFn::Exp), &[x], Loc::UNKNOWN);
    f.add_result(third, Sink::Out);
    module.add(f);
    let x = array(&[], &[0.3f64]);
    let found = eval(&module, FuncId(0), &[&x], &[], Precision::Reference).expect("any float will do");
    assert_eq!(found.outputs, [array(&[], &[0.3f64.exp()])]);
    assert!(eval(&module, FuncId(0), &[&x], &[], Precision::Typed).is_err());
}

/// `main(x, at) = pick(pick(x, at), at)` where `pick` gathers rows.
fn calls() -> Module {
    let ty = rows();
    let index = Type::new(DType::I64, Shape(vec![Dim::sym(&Symbol::new("n"))]));
    let mut pick = Function::new("pick");
    let (x, at) = (arg(&mut pick, "x", &ty), arg(&mut pick, "at", &index));
    let picked = add(&mut pick, Op::Gather(GatherAxes { axis: 0, batch: 0 }), &[x, at], line(5));
    pick.add_result(picked, Sink::Out);
    let mut main = Function::new("main");
    let (mut x, at) = (arg(&mut main, "x", &ty), arg(&mut main, "at", &index));
    for at_line in [11, 12] {
        let call = Call { func: FuncId(1), tag: None, vjp: None, results: vec![ty.clone()] };
        x = add(&mut main, Op::Call(call), &[x, at], line(at_line));
    }
    main.add_result(x, Sink::Out);
    let mut module = Module::default();
    module.add(main);
    module.add(pick);
    module
}

#[test]
fn calls_apply_functions() {
    let x = array(&[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let found = run(&calls(), &[&x, &array(&[3], &[1i64, 2, 0])], &[]).expect("positions are in range");
    assert_eq!(found.outputs, [array(&[3, 2], &[5f32, 6.0, 1.0, 2.0, 3.0, 4.0])]);
}

#[test]
fn a_failure_in_a_call_says_both_lines() {
    let x = array(&[1, 2], &[1f32, 2.0]);
    let found = run(&calls(), &[&x, &array(&[1], &[7i64])], &[]);
    let expected =
        "model.rs:5:1, called from model.rs:11:1: gather: position 7 is out of range for axis 0 of f32[1, 2]: it stands at [0]";
    assert_eq!(found, Err(expected.to_owned()));
}

#[test]
fn what_no_result_needs_is_not_evaluated() {
    let mut module = Module::default();
    let mut f = Function::new("f");
    let x = arg(&mut f, "x", &Type::scalar(DType::I32));
    add(&mut f, Op::Map(ScalarFn::Div), &[x, x], Loc::UNKNOWN);
    f.add_result(x, Sink::Out);
    module.add(f);
    let zero = array(&[], &[0i32]);
    assert_eq!(run(&module, &[&zero], &[]).map(|outcome| outcome.outputs), Ok(vec![zero]));
}

#[test]
fn identities_and_what_has_no_value() {
    let x = array(&[2], &[1f32, 2.0]);
    check(&Op::Alias, &[&x], &x);
    check(&Op::StopGradient, &[&x], &x);
    check_error(
        &Op::Transform(Transform::Vjp { outputs: 1, wrt: 1 }),
        &[&x, &x, &x],
        "vjp: a derivative has no value before the grad pass has written it out; run the grad pass first",
    );
    check_error(&Op::Param(x.ty()), &[], "param: has a value in its function alone");
}
