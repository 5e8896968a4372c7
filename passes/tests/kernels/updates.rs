//! Updates in place: what a step writes of a cache is the update, whatever the size of the cache.

use graver_ir::DType::{F64, I64};
use graver_ir::kernel::{KernelBody, Launch, Mode, Place, Program, launches};
use graver_ir::op::ReduceKind;
use graver_ir::{Dim, Module, ScalarFn, Sizes, StateKind, Value};
use graver_testkit::Build;

use crate::common::{check_meaning, compiled};

const CAPACITY: usize = 12;

/// Of every launch that writes: its kernel's name, where it writes, and how many elements it stores there, `n` being 3.
fn stores(program: &Program) -> Vec<(String, &'static str, i64)> {
    let entry = &program.entries[0];
    let of = |launch: &Launch| {
        let kernel = program.kernel(launch.kernel);
        let KernelBody::Nest(nest) = &kernel.body else { return Vec::new() };
        let written = (0..kernel.args.len()).filter(|arg| kernel.args[*arg].mode != Mode::Read);
        let count = |arg: usize| -> Dim {
            let stages = nest.stages.iter().filter(|stage| stage.stores.iter().any(|store| store.arg == arg));
            stages.map(|stage| stage.over.iter().map(|axis| nest.axes[axis].clone()).product::<Dim>()).sum()
        };
        let line = |arg: usize| {
            let place = match entry.buffer(launch.args[arg].buffer).place {
                Place::State(_) => "state",
                Place::Output(_) => "output",
                Place::Input(_) | Place::Const(_) | Place::Arena(_) | Place::Unplaced => "arena",
            };
            (kernel.name.clone(), place, count(arg).eval(&Sizes::from([("n".to_owned(), 3)])).expect("n has a size"))
        };
        written.map(line).collect()
    };
    launches(&entry.steps).into_iter().flat_map(of).collect()
}

fn sum(b: &mut Build, x: Value) -> Value {
    b.reduce(ReduceKind::Sum, x, [0])
}

#[track_caller]
fn check(module: &Module, expected: &[(&str, &str, i64)]) {
    let program = compiled(module);
    let found = stores(&program);
    let found: Vec<(&str, &str, i64)> = found.iter().map(|(name, place, count)| (name.as_str(), *place, *count)).collect();
    assert_eq!(found, expected, "{program:#?}");
    check_meaning("updates", module);
}

/// `f64[12, 4]` that the state holds, `f64[n, 4]` to be put at a position that the caller gives.
struct Cache {
    b: Build,
    slot: graver_ir::StateId,
    cache: Value,
    new: Value,
    at: Value,
}

impl Cache {
    fn new() -> Self {
        let mut b = Build::new("main");
        let (slot, cache) = b.state("cache", StateKind::Buffer, F64, (CAPACITY, 4));
        let symbol = graver_ir::Symbol::ranged("n", 0, 8, 1);
        let (new, at) = (b.arg("new", F64, (Dim::sym(&symbol), 4)), b.arg("at", I64, ()));
        Self { b, slot, cache, new, at }
    }

    fn put(&mut self, into: Value, new: Value, at: Value) -> Value {
        self.b.dynamic_update(into, new, &[0], &[at])
    }

    fn finish<const N: usize>(mut self, next: Value, results: [Value; N]) -> Module {
        self.b.update(self.slot, next);
        self.b.finish(results)
    }
}

#[test]
fn a_cache_in_the_state_is_written_where_it_grows() {
    let mut c = Cache::new();
    let next = c.put(c.cache, c.new, c.at);
    let sum = sum(&mut c.b, next);
    check(&c.finish(next, [sum]), &[("dynamic_update", "state", 12), ("sum", "output", 4)]);
}

#[test]
fn what_is_put_there_is_computed_there() {
    let mut c = Cache::new();
    let scaled = c.b.map(ScalarFn::Exp, [c.new]);
    let next = c.put(c.cache, scaled, c.at);
    let sum = sum(&mut c.b, next);
    check(&c.finish(next, [sum]), &[("exp_dynamic_update", "state", 12), ("sum", "output", 4)]);
}

#[test]
fn two_updates_of_one_cache_are_two_small_writes() {
    let mut c = Cache::new();
    let once = c.put(c.cache, c.new, c.at);
    let start = c.b.scalar(I64, 0.0);
    let next = c.put(once, c.new, start);
    let sum = sum(&mut c.b, next);
    check(&c.finish(next, [sum]), &[("dynamic_update", "state", 12), ("dynamic_update", "state", 12), ("sum", "output", 4)]);
}

/// Who reads the cache as it was does so before.
#[test]
fn the_old_cache_is_read_before() {
    let mut c = Cache::new();
    let before = sum(&mut c.b, c.cache);
    let next = c.put(c.cache, c.new, c.at);
    check(&c.finish(next, [before]), &[("sum", "output", 4), ("dynamic_update", "state", 12)]);
}

/// What reads both, old and new, needs the old one whole.
#[test]
fn a_cache_that_is_needed_as_it_was_is_copied() {
    let mut c = Cache::new();
    let next = c.put(c.cache, c.new, c.at);
    let change = c.b.map(ScalarFn::Sub, [next, c.cache]);
    let change = sum(&mut c.b, change);
    let program = compiled(&c.finish(next, [change]));
    let whole = i64::try_from(CAPACITY * 4).expect("small");
    assert!(stores(&program).iter().any(|(.., count)| *count == whole), "{program:#?}");
}

#[test]
fn a_computed_value_that_dies_is_updated_where_it_is() {
    let mut b = Build::new("main");
    let (x, new, at) = (b.arg("x", F64, (CAPACITY, 4)), b.arg("new", F64, (3, 4)), b.arg("at", I64, ()));
    // A reduction in between, so that `x` is computed before.
    let weight = b.arg("w", F64, (4, 4));
    let y = b.matmul(x, weight);
    let z = b.dynamic_update(y, new, &[0], &[at]);
    let (sum, max) = (sum(&mut b, z), b.reduce(ReduceKind::Max, z, [0]));
    check(&b.finish([sum, max]), &[("dynamic_update", "arena", 12), ("sum_max", "output", 4), ("sum_max", "output", 4)]);
}

/// A loop that fills what it carries, a row a turn.
#[test]
fn what_a_loop_carries_is_updated_in_place() {
    let mut b = Build::new("main");
    let (rows, start) = (b.arg("rows", F64, (5, 4)), b.arg("start", F64, (CAPACITY, 4)));
    let first = b.arg("at", I64, ());
    let body = b.func("put", |b| {
        let (all, at, row) = (b.arg("all", F64, (CAPACITY, 4)), b.arg("at", I64, ()), b.arg("row", F64, [4]));
        let row = b.reshape(row, (1, 4));
        let one = b.scalar(I64, 1.0);
        let next = b.map(ScalarFn::Add, [at, one]);
        vec![b.dynamic_update(all, row, &[0], &[at]), next]
    });
    let filled = b.scan(body, (5, false), [&[start, first], &[rows], &[]]);
    let sum = sum(&mut b, filled[0]);
    let program = compiled(&b.finish([sum]));
    let updates: Vec<_> = stores(&program).into_iter().filter(|(name, ..)| name.contains("dynamic_update")).collect();
    assert_eq!(updates, [("dynamic_update".to_owned(), "arena", 4)], "{program:#?}");
    let copies = stores(&program).into_iter().filter(|(name, ..)| name == "copy").count();
    assert_eq!(copies, 2, "the starts of what is carried, and nothing in the loop: {program:#?}");
}
