//! One planted violation an invariant.

use super::verify;
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::graph::{NodeId, Value};
use crate::location::Loc;
use crate::module::{FuncId, Function, Module, Param, Role, Sink, StateDecl, StateId, StateKind};
use crate::op::{Call, If, Op, Scan, Transform, While};
use crate::scalar::ScalarFn;
use crate::ty::{Shape, Type};

fn f32s(shape: impl Into<Shape>) -> Type {
    Type::new(DType::F32, shape)
}

fn symbolic() -> Type {
    f32s(vec![Dim::sym(&Symbol::new("batch")), Dim::from(4)])
}

/// `main(x, "w") { y = exp(x); z = callee(y); d = vjp(..); return z, update "w" = w }` and `callee(x) { return neg(x) }`.
fn module() -> Module {
    let mut module = Module::default();
    let slot = module.add_state(StateDecl { path: "w".to_owned(), ty: f32s(vec![Dim::from(4)]), kind: StateKind::Param });
    let mut main = Function::new("main");
    let x = main.add_param(symbolic(), Role::Arg("x".to_owned()), Loc::UNKNOWN);
    let w = main.add_param(f32s(vec![Dim::from(4)]), Role::State(slot), Loc::UNKNOWN);
    let alias = add(&mut main, Op::Alias, &[x]);
    let y = add(&mut main, Op::Map(ScalarFn::Exp), &[alias]);
    let call = Call { func: FuncId(1), tag: None, vjp: None, results: vec![symbolic()] };
    let z = add(&mut main, Op::Call(call), &[y]);
    let d = add(&mut main, Op::Transform(Transform::Vjp { outputs: 1, wrt: 1 }), &[z, z, alias]);
    main.add_result(d, Sink::Out);
    main.add_result(w, Sink::Update(slot));
    module.add(main);
    let mut callee = Function::new("callee");
    let x = callee.add_param(symbolic(), Role::Arg("x".to_owned()), Loc::UNKNOWN);
    let y = add(&mut callee, Op::Map(ScalarFn::Neg), &[x]);
    callee.add_result(y, Sink::Out);
    module.add(callee);
    module
}

fn add(function: &mut Function, op: Op, args: &[NodeId]) -> NodeId {
    let args: Vec<Value> = args.iter().map(|id| id.out(0)).collect();
    function.graph.add(op, &args, Loc::UNKNOWN).expect("operands fit")
}

fn find(function: &Function, name: &str) -> NodeId {
    function.graph.nodes().find(|id| function.graph.op(*id).name() == name).expect("the test's module has it")
}

/// Breaks the module, and demands that exactly this invariant is the first that is reported.
fn check(invariant: &str, plant: impl FnOnce(&mut Module)) {
    let mut broken = module();
    plant(&mut broken);
    let error = verify(&broken).expect_err(invariant).to_string();
    assert!(error.contains(&format!("{invariant}: ")), "{invariant}: {error}");
    // A dump of a broken module is what one needs most.
    assert!(crate::text::print(&broken).starts_with("graver 1\n"));
}

fn in_main(invariant: &str, plant: impl FnOnce(&mut Function)) {
    check(invariant, |module| plant(module.function_mut(FuncId(0))));
}

#[test]
fn the_module_is_sound() {
    assert_eq!(verify(&module()), Ok(()));
    assert_eq!(verify(&Module::default()), Ok(()));
}

#[test]
fn graph_invariants() {
    in_main("I1", |main| {
        let dead = add(main, Op::Param(f32s(vec![])), &[]);
        main.graph.remove(dead);
        main.params.push(Param { node: dead, role: Role::Arg(String::new()) });
    });
    in_main("I2", |main| main.results[0].value.out = 7);
    in_main("I2", |main| {
        let (from, to) = (find(main, "exp"), find(main, "call"));
        main.graph.add_raw_edge(from.out(3), to, 1);
    });
    in_main("I3", |main| {
        let exp = find(main, "exp");
        main.graph.add_raw_edge(main.params[0].node.into(), exp, 0);
    });
    in_main("I3", |main| {
        let exp = find(main, "exp");
        main.graph.add_raw_edge(main.params[0].node.into(), exp, 2);
    });
    in_main("I5", |main| {
        let exp = find(main, "exp");
        main.graph.add_raw_edge(exp.into(), exp, 1);
    });
    in_main("I8", |main| {
        let call = find(main, "call");
        main.graph.node_mut(call).outs = vec![f32s(vec![]); 70_000];
    });
    in_main("I9", |main| {
        let exp = find(main, "exp");
        main.graph.node_mut(exp).outs = vec![f32s(vec![Dim::from(4)])];
    });
    in_main("I9", |main| {
        let exp = find(main, "exp");
        main.graph.node_mut(exp).op = Op::Map(ScalarFn::Add);
    });
}

#[test]
fn size_invariants() {
    in_main("I10", |main| {
        add(main, Op::Size(Dim::axis(0, &Dim::from(3))), &[]);
    });
    in_main("I10", |main| {
        let n = Dim::sym(&Symbol::new("n"));
        let deep = (0..100).fold(n.clone(), |deep, step| (&n - Dim::from(step)).min_with(&(deep * Dim::from(-1))));
        add(main, Op::Size(deep), &[]);
    });
    in_main("I17", |main| {
        add(main, Op::Size(Dim::sym(&Symbol::ranged("batch", 1, 8, 1))), &[]);
    });
}

#[test]
fn function_invariants() {
    in_main("I11", |main| {
        main.params.pop();
    });
    in_main("I11", |main| main.params.push(main.params[0].clone()));
    in_main("I11", |main| {
        let exp = find(main, "exp");
        main.params.push(Param { node: exp, role: Role::Arg(String::new()) });
    });
    in_main("I12", |main| {
        let (vjp, exp) = (find(main, "vjp"), find(main, "exp"));
        main.graph.set_arg(crate::Use { node: vjp, slot: 2 }, exp.into());
    });
    in_main("I13", |main| main.results.push(main.results[1]));
    in_main("I13", |main| main.results[1].value = main.results[0].value);
    check("I13", |module| module.state[0].ty = f32s(vec![Dim::from(5)]));
}

#[test]
fn module_invariants() {
    check("I6", |module| {
        module.functions.remove(&FuncId(1));
    });
    check("I7", |module| module.state.clear());
    check("I14", |module| {
        let callee = module.function_mut(FuncId(1));
        callee.results.clear();
    });
    check("I14", |module| {
        let main = module.function_mut(FuncId(0));
        let call = find(main, "call");
        main.graph.add_raw_edge(main.params[0].node.into(), call, 1);
    });
    check("I14", |module| {
        let main = module.function_mut(FuncId(0));
        let call = find(main, "call");
        let vjp = Call { func: FuncId(1), tag: None, vjp: Some(FuncId(2)), results: vec![symbolic()] };
        main.graph.node_mut(call).op = Op::Call(vjp);
        module.add(Function::new("takes_nothing"));
    });
    check("I15", |module| module.function_mut(FuncId(1)).results[0].sink = Sink::Update(StateId(0)));
    check("I16", |module| {
        let callee = module.function_mut(FuncId(1));
        let call = Call { func: FuncId(1), tag: None, vjp: None, results: vec![symbolic()] };
        add(callee, Op::Call(call), &[callee.params[0].node]);
    });
    check("I18", |module| module.function_mut(FuncId(1)).name = "main".to_owned());
    check("I18", |module| module.state.push(module.state[0].clone()));
    check("I19", |module| module.state[0].ty = symbolic());
    check("I19", |module| module.state[0].kind = StateKind::Rng);
}

#[test]
fn control_invariants() {
    // `callee` takes and gives one symbolic array, in `main` and here.
    let adds = |op: Op, with_condition: bool| {
        move |module: &mut Module| {
            let main = module.function_mut(FuncId(0));
            let x = main.add_param(symbolic(), Role::Arg("of_control".to_owned()), Loc::UNKNOWN);
            let condition = main.add_param(Type::scalar(DType::Bool), Role::Arg("condition".to_owned()), Loc::UNKNOWN);
            if with_condition {
                add(main, op.clone(), &[condition, x])
            } else {
                add(main, op.clone(), &[x])
            };
        }
    };
    let branch = |results| Op::If(If { then: FuncId(1), otherwise: FuncId(1), results });
    check("I20", adds(branch(Vec::new()), true));
    check("I21", adds(Op::While(While { cond: FuncId(1), body: FuncId(1), carried: 1, most: None }), false));
    let scan =
        |body, carried, results| Scan { body, trip: Dim::from(3), carried, scanned: 0, reverse: false, at_once: false, results };
    check("I22", adds(Op::Scan(scan(FuncId(1), 0, Vec::new())), false));
    check("I6", adds(Op::Scan(scan(FuncId(9), 1, vec![symbolic()])), false));
    let fine = Op::Scan(scan(FuncId(1), 1, vec![symbolic()]));
    let mut module = module();
    adds(fine, false)(&mut module);
    assert!(verify(&module).is_ok(), "a scan of a function that fits");
}
