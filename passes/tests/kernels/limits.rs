//! What is not fused, not updated in place, and why: the negative cases.

use std::time::Duration;

use graver_ir::DType::{F32, F64, I64};
use graver_ir::kernel::Program;
use graver_ir::{Module, ScalarFn, StateKind, Target, op::ReduceKind};
use graver_passes::{Observer, PassReport, pipeline};
use graver_testkit::Build;

use crate::common::{check_meaning, compiled};
use crate::nets::Net;
use crate::structure::{check, launches};

/// Keeps the remarks of a compilation.
#[derive(Default)]
struct Remarks(Vec<String>);

impl Observer for Remarks {
    fn after_pass(&mut self, report: &PassReport<'_>) {
        self.0.extend(report.remarks.iter().cloned());
    }

    fn program(&mut self, _: &'static str, _: &Program, _: Duration) {}
}

fn remarks(module: &Module) -> Vec<String> {
    let mut remarks = Remarks::default();
    pipeline::compile(module.clone(), &Target::generic(), &mut remarks).expect("the program is right");
    remarks.0
}

#[test]
fn a_remark_names_both_lines_and_the_reason() {
    let mut net = Net::new(F32);
    let x = net.b.at("model.rs", 3).arg("x", F32, ("n", 32));
    let weight = net.b.arg("w", F32, (32, 32));
    net.b.at("model.rs", 4);
    let y = net.b.matmul(x, weight);
    net.b.at("model.rs", 5);
    let y = net.softmax(y);
    let [remark] = &remarks(&net.finish([y]))[..] else { panic!("one pair of neighbours") };
    assert_eq!(
        remark,
        "`dot` (model.rs:4:1) and `reduce` (model.rs:5:1 (softmax)) are two kernels: a kernel has one contraction, attention, scatter, sort, prefix or kind of window"
    );
}

#[test]
fn reductions_that_keep_other_axes_are_apart() {
    let mut b = Build::new("main");
    let x = b.arg("x", F32, ("n", 32));
    let rows = b.reduce(ReduceKind::Sum, x, [1]);
    let columns = b.reduce(ReduceKind::Sum, x, [0]);
    check(&b.finish([rows, columns]), &["nest 2 sum", "nest 2 sum"]);
}

#[test]
fn a_sum_of_everything_is_not_fused_with_what_follows_everywhere() {
    let mut b = Build::new("main");
    let x = b.arg("x", F32, ("n", 32));
    let sum = b.reduce(ReduceKind::Sum, x, [0, 1]);
    let shape = b.ty(x).shape.clone();
    let sum = b.broadcast(sum, &shape, []);
    let y = b.map(ScalarFn::Div, [x, sum]);
    check(&b.finish([y]), &["nest 2 sum", "nest 1 div"]);
}

#[test]
fn a_contraction_may_give_what_stands_beside_its_sum() {
    let mut b = Build::new("main");
    let (x, w) = (b.arg("x", F64, ("n", 32)), b.arg("w", F64, (32, 16)));
    let (u, v) = (b.arg("u", F64, ("n", 16)), b.arg("v", F64, ("n", 16)));
    let sum = b.matmul(x, w);
    let (left, right) = (b.map(ScalarFn::Exp, [u]), b.map(ScalarFn::Tanh, [v]));
    let first = b.map(ScalarFn::Mul, [sum, left]);
    let second = b.map(ScalarFn::Mul, [first, right]);
    // Does not follow from the sum, and shares both factors with what does.
    let beside = b.map(ScalarFn::Add, [left, right]);
    let module = b.finish([second, beside]);
    check_meaning("beside", &module);
    check(&module, &["contract 2 dot_exp_tanh"]);
}

#[test]
fn an_expensive_map_is_not_repeated_along_a_broadcast() {
    let mut b = Build::new("main");
    let (x, y) = (b.arg("x", F32, ["n"]), b.arg("y", F32, ("n", 32)));
    let x = b.map(ScalarFn::Exp, [x]);
    let x = b.broadcast(x, ("n", 32), [0]);
    let y = b.map(ScalarFn::Mul, [x, y]);
    check(&b.finish([y]), &["nest 1 exp", "nest 1 mul"]);
}

#[test]
fn a_cheap_map_of_an_input_is_computed_by_every_reader() {
    let mut b = Build::new("main");
    let (x, w) = (b.arg("x", graver_ir::DType::U8, ("n", 8)), b.arg("w", F32, (8, 8)));
    let x = b.cast(F32, x);
    let (y, z) = (b.matmul(x, w), b.reduce(ReduceKind::Sum, x, [1]));
    check(&b.finish([y, z]), &["contract 1 dot", "nest 2 sum"]);
}

#[test]
fn states_that_change_places_are_copied() {
    let mut b = Build::new("main");
    let ((first, x), (second, y)) = (b.state("x", StateKind::Buffer, F64, [5]), b.state("y", StateKind::Buffer, F64, [5]));
    b.update(first, y);
    b.update(second, x);
    let module = b.finish([x]);
    // The output, one value put aside, both states.
    check(&module, &["nest 1 copy", "nest 1 copy", "nest 1 copy", "nest 1 copy"]);
    check_meaning("swap", &module);
}

#[test]
fn a_state_that_is_read_elsewhere_is_not_updated_under_the_reader() {
    let mut b = Build::new("main");
    let (id, x) = b.state("x", StateKind::Buffer, F64, [5, 5]);
    let turned = b.permute(x, [1, 0]);
    let sum = b.map(ScalarFn::Add, [x, turned]);
    b.update(id, sum);
    let module = b.finish([]);
    check(&module, &["nest 1 add", "nest 1 copy"]);
    check_meaning("turned", &module);
}

#[test]
fn a_state_is_written_after_all_that_can_fail() {
    let mut b = Build::new("main");
    let (index, (id, x)) = (b.arg("index", I64, ["n"]), b.state("x", StateKind::Buffer, F64, [5]));
    let next = b.map(ScalarFn::Exp, [x]);
    b.update(id, next);
    // Reads the new value, and may fail: the new value waits aside.
    let picked = b.gather(next, index, 0, 0);
    let module = b.finish([picked]);
    assert_eq!(launches(&compiled(&module)), ["nest 1 exp", "nest 1 gather", "nest 1 copy"]);
    check_meaning("late", &module);
}

#[test]
fn an_output_that_is_an_input_or_twice_a_value_is_copied() {
    let mut b = Build::new("main");
    let x = b.arg("x", F64, ("n", 3));
    let y = b.map(ScalarFn::Exp, [x]);
    let module = b.finish([x, y, y]);
    check(&module, &["nest 1 exp", "nest 1 copy", "nest 1 copy"]);
    check_meaning("copies", &module);
}

#[test]
fn a_region_is_convex() {
    // exp -> dot -> add, and exp -> add: the add joins the dot, and the exp stays before it.
    let mut b = Build::new("main");
    let (x, w) = (b.arg("x", F64, ("n", 8)), b.arg("w", F64, (8, 8)));
    let x = b.map(ScalarFn::Exp, [x]);
    let y = b.matmul(x, w);
    let y = b.map(ScalarFn::Add, [x, y]);
    let module = b.finish([y]);
    check(&module, &["nest 1 exp", "contract 1 dot"]);
    check_meaning("residual", &module);
}

#[test]
fn compile_time_does_not_explode_with_depth() {
    let mut net = Net::new(F32);
    let (mut x, labels) = (net.b.arg("x", F32, ("n", 32)), net.b.arg("labels", I64, ["n"]));
    for layer in 0..60 {
        x = net.linear(x, &format!("layers.{layer}"), 32, 32);
        x = net.relu(x);
    }
    let loss = net.cross_entropy(x, labels);
    net.descend(loss);
    let program = compiled(&net.finish([loss]));
    // Each layer: forward, gradient of the weight, of the bias, of the input.
    assert!(program.entries[0].steps.len() <= 60 * 4 + 4, "{}", program.entries[0].steps.len());
    assert!(program.kernels.len() <= 16, "equal layers are equal kernels: {}", program.kernels.len());
}
