//! inline, cse and dce.

use graver_ir::op::{Call, Composite, Op, Transform};
use graver_ir::{DType, FuncId, Function, ScalarFn, Target, Type};
use graver_passes::{Changed, Cx, Observer, PASSES, Pass, PassReport, Silent, runner};

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
fn regions_and_what_derivatives_need_are_not_inlined() {
    let ty = Type::new(DType::F32, vec![3.into()]);
    let call = |tag, vjp| Op::Call(Call { func: FuncId(1), tag, vjp, results: vec![ty.clone()] });
    let (region, custom) = (call(Some(Composite::Region), None), call(None, Some(FuncId(2))));
    for derived in [false, true] {
        let mut f = Draft::new("main");
        let param = f.param(DType::F32, &[3]);
        let x = f.add(Op::Alias, &[param]);
        let y = f.add(region.clone(), &[x]);
        let z = f.add(custom.clone(), &[x]);
        let slope = f.add(Op::Transform(Transform::Vjp { outputs: 1, wrt: 1 }), &[z, z, x]);
        let vjp = {
            let mut f = Draft::new("double_vjp");
            let (_, g) = (f.param(DType::F32, &[3]), f.param(DType::F32, &[3]));
            f.done(&[g])
        };
        let results = if derived { vec![y, z, slope] } else { vec![y, z] };
        let out = after(module([f.done(&results), double(), vjp]), &["dce", "inline"]);
        let main = out.function(FuncId(0));
        assert_eq!([&region, &custom].map(|op| count(main, op)), [1, usize::from(derived)]);
    }
}

#[test]
fn a_circle_of_calls_is_an_error_that_names_it() {
    let call = |func| Op::Call(Call { func, tag: None, vjp: None, results: vec![Type::new(DType::F32, vec![3.into()])] });
    let calling = |name: &str, func| {
        let mut f = Draft::new(name);
        let x = f.param(DType::F32, &[3]);
        let y = f.add(call(func), &[x]);
        f.done(&[y])
    };
    let mut module = module([calling("main", FuncId(1)), calling("ping", FuncId(2)), calling("pong", FuncId(1))]);
    let inline = PASSES.iter().find(|pass| pass.name == "inline").expect("the pass exists");
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    let error = (inline.run)(&mut module, &mut cx).expect_err("there is a circle");
    assert_eq!(error.to_string(), "call: `pong` and `ping` call each other in a circle");
}

/// Forty functions, each of which calls the next one twice: a trillion operations in a text of a few kilobytes.
#[test]
fn calls_that_stand_for_more_than_fits_into_memory_are_an_error() {
    let double = |callee: u32| {
        let mut f = Draft::new(&format!("f{}", callee - 1));
        let call =
            Op::Call(Call { func: FuncId(callee), tag: None, vjp: None, results: vec![Type::new(DType::F32, vec![3.into()])] });
        let x = f.param(DType::F32, &[3]);
        let y = f.add(call.clone(), &[x]);
        let z = f.add(call, &[y]);
        f.done(&[z])
    };
    let last = {
        let mut f = Draft::new("f39");
        let x = f.param(DType::F32, &[3]);
        let y = f.add(Op::Map(ScalarFn::Neg), &[x]);
        f.done(&[y])
    };
    let mut module = module((1..40).map(double).chain([last]));
    let inline = PASSES.iter().find(|pass| pass.name == "inline").expect("the pass exists");
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    let error = (inline.run)(&mut module, &mut cx).expect_err("it is too much").to_string();
    assert!(error.contains("more than 1000000 operations, most of them in `f0`"), "{error}");
}

/// Notes what the runner says.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn after_pass(&mut self, report: &PassReport<'_>) {
        self.0.push(format!("{} {}: {:?}, {:?}", report.position, report.pass, report.changed, report.remarks));
    }

    fn program(&mut self, _: &'static str, _: &graver_ir::kernel::Program, _: std::time::Duration) {}
}

#[test]
fn the_runner_reports_every_pass_and_stops_where_told() {
    let remarks = Pass {
        name: "remarks",
        about: "",
        run: |_, cx| {
            cx.remarks.push("why".to_owned());
            Ok(Changed::No)
        },
    };
    let mut f = Draft::new("main");
    let x = f.param(DType::F32, &[3]);
    f.map(ScalarFn::Exp, &[x]);
    let mut module = module([f.done(&[x])]);
    let named = |name: &str| *PASSES.iter().find(|pass| pass.name == name).expect("the pass exists");
    let passes = [remarks, named("dce"), named("cse"), named("inline")];
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    let mut notes = Notes::default();
    let ended = runner::run(&mut module, &passes, &mut cx, &mut notes, Some("cse")).expect("nothing fails");
    assert_eq!(ended, runner::Ended::Stopped);
    assert_eq!(notes.0, ["0 remarks: No, [\"why\"]", "1 dce: Yes, []", "2 cse: No, []"]);
}

#[test]
#[should_panic(expected = "says changed")]
fn a_pass_that_lies_is_found_out() {
    let mut module = module([Draft::new("main").done(&[])]);
    let lies = Pass { name: "lies", about: "", run: |_, _| Ok(Changed::Yes) };
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    let _ = runner::run(&mut module, &[lies], &mut cx, &mut Silent, None);
}
