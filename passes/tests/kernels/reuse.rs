//! Which results take over the memory of what they are computed from, and which must not.

use std::collections::BTreeMap;
use std::time::Duration;

use graver_ir::DType::{F16, F32, F64};
use graver_ir::kernel::{Launch, Mode, Place, Program, launches, live_bytes};
use graver_ir::op::ReduceKind;
use graver_ir::{Module, ScalarFn, Sizes, StateKind, Target, Value};
use graver_passes::{Observer, PassReport, pipeline};
use graver_testkit::Build;

use crate::common::{check_meaning, compiled};
use crate::nets::Net;

/// One line a launch: its name, and how it uses every argument.
fn uses(program: &Program) -> Vec<String> {
    let letter = |mode: Mode| match mode {
        Mode::Read => 'r',
        Mode::Write => 'w',
        Mode::Update => 'u',
    };
    let line = |launch: &Launch| {
        let kernel = program.kernel(launch.kernel);
        format!("{} {}", kernel.name, kernel.args.iter().map(|arg| letter(arg.mode)).collect::<String>())
    };
    launches(&program.entries[0].steps).into_iter().map(line).collect()
}

/// The launches are these, nothing of the caller's is written, and kernels mean what the graph means when a strict run watches.
#[track_caller]
fn check_uses(module: &Module, expected: &[&str]) -> Program {
    let program = compiled(module);
    assert_eq!(uses(&program), expected);
    let entry = &program.entries[0];
    for launch in launches(&entry.steps) {
        for (view, arg) in launch.args.iter().zip(&program.kernel(launch.kernel).args) {
            let place = &entry.buffer(view.buffer).place;
            assert!(arg.mode == Mode::Read || matches!(place, Place::Output(_) | Place::Arena(_)), "{place:?} is written");
        }
    }
    check_meaning("reuse", module);
    program
}

/// Also, the arena holds so many `f64[n, 32]`.
#[track_caller]
fn check(module: &Module, launches: &[&str], arrays: i64) {
    let program = check_uses(module, launches);
    let arena = program.entries[0].arena.eval(&Sizes::from([("n".to_owned(), 64)])).expect("n has a size");
    assert_eq!(arena, arrays * 64 * 32 * 8, "bytes of the arena");
}

/// A net over `x: f64[n, 32]` and weights `f64[32, 32]`.
struct Square {
    net: Net,
    x: Value,
    weight: Value,
}

impl Square {
    fn new() -> Self {
        let mut net = Net::new(F64);
        let (x, weight) = (net.b.arg("x", F64, ("n", 32)), net.b.arg("w", F64, (32, 32)));
        Self { net, x, weight }
    }

    fn dot(&mut self, x: Value) -> Value {
        self.net.b.matmul(x, self.weight)
    }

    fn add(&mut self, x: Value, y: Value) -> Value {
        self.net.b.map(ScalarFn::Add, [x, y])
    }

    fn finish<const N: usize>(self, results: [Value; N]) -> Module {
        self.net.finish(results)
    }
}

// ---- what is taken over

#[test]
fn rows_between_contractions_stay_where_they_are() {
    let mut s = Square::new();
    let y = s.dot(s.x);
    let y = s.net.softmax(y);
    let y = s.dot(y);
    check(&s.finish([y]), &["dot rrw", "max_exp_sum u", "dot rrw"], 1);
}

#[test]
fn a_chain_of_layers_is_two_buffers_and_two_kernels() {
    let mut s = Square::new();
    let mut y = s.x;
    for _ in 0..4 {
        y = s.dot(y);
        y = s.net.softmax(y);
    }
    let module = s.finish([y]);
    assert_eq!(compiled(&module).kernels.len(), 2, "equal kernels stay one");
    // One of every two buffers is the result's.
    check(&module, &["dot rrw", "max_exp_sum u"].repeat(4), 2);
}

#[test]
fn a_result_takes_over_and_nothing_is_left_in_the_arena() {
    let mut s = Square::new();
    let y = s.dot(s.x);
    let y = s.net.softmax(y);
    check(&s.finish([y]), &["dot rrw", "max_exp_sum u"], 0);
}

#[test]
fn a_residual_is_updated_by_the_epilogue() {
    let mut s = Square::new();
    let y = s.dot(s.x);
    let z = s.net.softmax(y);
    let z = s.dot(z);
    let y = s.add(y, z);
    let y = s.dot(y);
    check(&s.finish([y]), &["dot rrw", "max_exp_sum rw", "dot rru", "dot rrw"], 2);
}

#[test]
fn another_shape_of_the_same_memory_is_the_same_memory() {
    let mut s = Square::new();
    let y = s.dot(s.x);
    let y = s.net.b.reshape(y, ("n", 4, 8));
    let y = s.net.softmax(y);
    let y = s.net.b.reshape(y, ("n", 32));
    let y = s.dot(y);
    check(&s.finish([y]), &["dot rrw", "max_exp_sum u", "dot rrw"], 1);
}

#[test]
fn a_dying_value_that_is_a_result_is_stored_there_at_once() {
    let mut s = Square::new();
    let y = s.dot(s.x);
    let y = s.net.relu(y);
    let z = s.net.softmax(y);
    check(&s.finish([y, z]), &["dot_relu rrw", "max_exp_sum rw"], 0);
}

// ---- what is not

#[test]
fn an_input_is_the_callers() {
    let mut s = Square::new();
    let y = s.net.softmax(s.x);
    check(&s.finish([y]), &["max_exp_sum rw"], 0);
}

#[test]
fn a_state_that_is_read_stays() {
    let mut net = Net::new(F64);
    let (_, state) = net.b.state("table", StateKind::Param, F64, (32, 32));
    let y = net.softmax(state);
    check(&net.finish([y]), &["max_exp_sum rw"], 0);
}

#[test]
fn what_a_side_reads_is_not_overwritten() {
    let mut s = Square::new();
    let y = s.dot(s.x);
    let z = s.dot(y);
    let y = s.add(y, z);
    check(&s.finish([y]), &["dot rrw", "dot rrw"], 1);
}

#[test]
fn what_is_read_later_is_kept() {
    let mut s = Square::new();
    let y = s.dot(s.x);
    let rows = s.net.softmax(y);
    let z = s.dot(rows);
    let y = s.dot(y);
    check(&s.finish([z, y, rows]), &["dot rrw", "max_exp_sum rw", "dot rrw", "dot rrw"], 1);
}

/// What becomes of `y: f64[32, 32]`, which is computed before, in a kernel of its own.
fn after_a_product(then: impl FnOnce(&mut Build, Value) -> Value) -> Module {
    let mut b = Build::new("main");
    let w = b.arg("w", F64, (32, 32));
    let y = b.matmul(w, w);
    let y = then(&mut b, y);
    let y = b.map(ScalarFn::Exp, [y]);
    b.finish([y])
}

#[test]
fn a_transposed_read_is_of_other_elements() {
    let module = after_a_product(|b, y| {
        let turned = b.permute(y, [1, 0]);
        b.map(ScalarFn::Add, [y, turned])
    });
    check_uses(&module, &["dot rw", "exp rw"]);
}

#[test]
fn a_shifted_read_is_of_other_elements() {
    let module = after_a_product(|b, y| {
        let zero = b.scalar(F64, 0.0);
        let cut = b.slice(y, [(0, 32, 1), (0, 31, 1)]);
        let shifted = b.pad(cut, zero, [(0, 0, 0), (1, 0, 0)]);
        b.map(ScalarFn::Add, [y, shifted])
    });
    check_uses(&module, &["dot rw", "exp rw"]);
}

/// Each point reads one element of the product that dies there, but not the one that it writes.
#[test]
fn a_single_read_elsewhere_is_of_another_element() {
    type Reader = fn(&mut Build, Value) -> Value;
    let elsewhere: [(&str, Reader); 3] = [
        ("transposed", |b, y| b.permute(y, [1, 0])),
        ("reversed rows", |b, y| b.reverse(y, [0])),
        ("reversed in both", |b, y| b.reverse(y, [0, 1])),
    ];
    for (what, read) in elsewhere {
        let module = after_a_product(|b, y| {
            let sum = b.reduce(ReduceKind::Sum, y, [0]);
            let sum = b.broadcast(sum, (32, 32), [1]);
            let read = read(b, y);
            b.map(ScalarFn::Add, [read, sum])
        });
        let program = check_uses(&module, &["dot rw", "sum rw", "exp rrw"]);
        assert_eq!(program.entries[0].steps.len(), 3, "{what}");
    }
}

#[test]
fn a_row_that_is_read_by_every_row_is_smaller() {
    let module = after_a_product(|b, y| {
        let row = b.reduce(ReduceKind::Sum, y, [0]);
        let row = b.map(ScalarFn::Exp, [row]);
        b.broadcast(row, (32, 32), [1])
    });
    check_uses(&module, &["dot rw", "sum_exp rw", "broadcast rw"]);
}

#[test]
fn another_element_type_is_another_buffer() {
    for (to, last) in [(F16, "sub ru"), (F32, "sub_cast rrw")] {
        let mut b = Build::new("main");
        let (x, w) = (b.arg("x", F16, ("n", 32)), b.arg("w", F16, (32, 32)));
        let y = b.matmul(x, w);
        let sum = b.reduce(ReduceKind::Sum, y, [0, 1]);
        let sum = b.broadcast(sum, ("n", 32), []);
        let y = b.map(ScalarFn::Sub, [y, sum]);
        let y = b.cast(to, y);
        assert_eq!(uses(&compiled(&b.finish([y]))), ["dot rrw", "sum rw", last]);
    }
}

#[test]
fn reuse_is_the_same_every_time_and_never_needs_more() {
    for seed in 0..100 {
        let module = graver_testkit::random_program(seed).module;
        let mut stages = Peaks::default();
        let first = pipeline::compile(module.clone(), &Target::generic(), &mut stages).expect("the program is right");
        assert_eq!(first, compiled(&module), "seed {seed}");
        assert!(stages.0["reuse"] <= stages.0["schedule"], "seed {seed}: {:?}", stages.0);
    }
}

/// The most bytes alive at once, by stage.
#[derive(Default)]
struct Peaks(BTreeMap<&'static str, i64>);

impl Observer for Peaks {
    fn after_pass(&mut self, _: &PassReport<'_>) {}

    fn program(&mut self, stage: &'static str, program: &Program, _: Duration) {
        let live = live_bytes(&program.entries[0], &graver_testkit::sizes()).expect("every size is given");
        self.0.insert(stage, live.into_iter().max().unwrap_or(0));
    }
}
