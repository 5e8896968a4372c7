//! inline, cse and dce.

use graver_ir::op::{Call, Op};
use graver_ir::{DType, FuncId, Function, ScalarFn, Type};

use crate::common::{Draft, after, module};

fn count(function: &Function, op: &Op) -> usize {
    function.graph.nodes().filter(|node| function.graph.op(*node) == op).count()
}

fn double() -> Function {
    let mut f = Draft::new("double");
    let x = f.param(DType::F32, &[3]);
    let y = f.map(ScalarFn::Add, &[x, x]);
    f.done(&[y])
}

#[test]
fn calls_become_bodies_and_unused_functions_go() {
    let mut f = Draft::new("main");
    let x = f.param(DType::F32, &[3]);
    let call = Op::Call(Call { func: FuncId(1), tag: None, vjp: None, results: vec![Type::new(DType::F32, vec![3.into()])] });
    let y = f.add(call.clone(), &[x]);
    let z = f.add(call.clone(), &[y]);
    let out = after(module([f.done(&[z]), double()]), &["inline", "dce"]);
    assert_eq!(out.functions.len(), 1);
    assert_eq!(count(out.function(FuncId(0)), &call), 0);
    assert_eq!(count(out.function(FuncId(0)), &Op::Map(ScalarFn::Add)), 2);
}

#[test]
fn equal_work_is_done_once_and_unequal_work_is_not() {
    let mut f = Draft::new("main");
    let (x, y) = (f.param(DType::F32, &[3]), f.param(DType::F32, &[3]));
    let adds = [f.map(ScalarFn::Add, &[x, y]), f.map(ScalarFn::Add, &[y, x])];
    let subs = [f.map(ScalarFn::Sub, &[x, y]), f.map(ScalarFn::Sub, &[y, x])];
    let names = [f.add(Op::Alias, &[x]), f.add(Op::Alias, &[x])];
    let out = after(module([f.done(&[adds, subs, names].concat())]), &["cse"]);
    let main = out.function(FuncId(0));
    assert_eq!(main.results[0].value, main.results[1].value);
    let kinds = [Op::Map(ScalarFn::Add), Op::Map(ScalarFn::Sub), Op::Alias].map(|op| count(main, &op));
    assert_eq!(kinds, [1, 2, 2]);
}

#[test]
fn dead_nodes_go_and_parameters_stay() {
    let mut f = Draft::new("main");
    let (x, y) = (f.param(DType::F32, &[3]), f.param(DType::F32, &[3]));
    let dead = f.map(ScalarFn::Exp, &[y]);
    f.map(ScalarFn::Exp, &[dead]);
    let out = after(module([f.done(&[x]), double()]), &["dce"]);
    assert_eq!(out.function(FuncId(0)).graph.len(), 2);
    assert_eq!(out.functions.len(), 1);
}

#[test]
#[should_panic(expected = "says changed")]
fn a_pass_that_lies_is_found_out() {
    let mut module = module([Draft::new("main").done(&[])]);
    let lies = graver_passes::Pass { name: "lies", about: "", run: |_, _| Ok(graver_passes::Changed::Yes) };
    let mut cx = graver_passes::Cx { target: &graver_ir::Target::generic(), remarks: Vec::new() };
    let _ = graver_passes::runner::run(&mut module, &[lies], &mut cx, &mut graver_passes::Silent, None);
}
