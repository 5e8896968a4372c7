//! What a call costs once sizes are known: no memory but that of the list of results and of their shapes, and no page that the process has not
//! touched before.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use graver_cpu::Cpu;
use graver_ir::{Array, DType, Dim, ScalarFn, StateKind, Symbol};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Executable, Invocation, Slot, Workspace};
use graver_testkit::{Build, Fill, Rng};

/// The system's allocator, which counts what the thread asks for.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    COUNT.set(COUNT.get() + 1);
}

// SAFETY: it is the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller's.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A weight of the state that is packed, a loop, and two results, one of which is large.
struct Example {
    executable: Arc<dyn Executable>,
    workspace: Workspace,
    weight: Array,
    counter: Array,
}

/// Columns of the weight, and how often the loop goes round.
const WIDTH: usize = 200;
const TURNS: usize = 3;

impl Example {
    fn new(threads: usize) -> Self {
        let mut b = Build::new("main");
        let rows = Dim::sym(&Symbol::ranged("rows", 0, 1000, 1));
        let x = b.arg("x", DType::F32, vec![rows.clone(), Dim::from(WIDTH)]);
        let (_, weight) = b.state("weight", StateKind::Param, DType::F32, [WIDTH, WIDTH]);
        let (slot, counter) = b.state("counter", StateKind::Buffer, DType::F32, [1usize; 0]);
        let body = b.func("body", |b| {
            let (now, weight) = (b.arg("now", DType::F32, vec![rows, Dim::from(WIDTH)]), b.arg("w", DType::F32, [WIDTH, WIDTH]));
            let product = b.matmul(now, weight);
            vec![b.map(ScalarFn::Tanh, [product])]
        });
        let turned = b.scan(body, (TURNS, false), [&[x], &[], &[weight]])[0];
        let one = b.scalar(DType::F32, 1.0);
        let next = b.map(ScalarFn::Add, [counter, one]);
        b.update(slot, next);
        let sum = b.reduce(graver_ir::op::ReduceKind::Sum, turned, [0, 1]);
        let cpu = Cpu::new(threads);
        let program = pipeline::compile(b.finish([turned, sum]), &cpu.describe(), &mut Silent).expect("it compiles");
        let executable = cpu.compile(Arc::new(program)).expect("it compiles");
        let workspace = executable.workspace();
        let weight = Fill::Open.array(DType::F32, &[WIDTH, WIDTH], &mut Rng::named("calls"));
        Self { executable, workspace, weight, counter: Array::zeroed(DType::F32, []).expect("memory") }
    }

    fn call(&mut self, x: &Array) -> Vec<Array> {
        let mut state = [Slot::Read(&self.weight), Slot::Write(&mut self.counter)];
        let call = Invocation { entry: 0, inputs: &[x], state: &mut state, workspace: &mut self.workspace };
        self.executable.run(call).expect("it runs")
    }
}

fn inputs(rows: usize) -> Array {
    Fill::Open.array(DType::F32, &[rows, WIDTH], &mut Rng::named("calls"))
}

#[test]
fn a_call_takes_no_memory_but_for_its_results() {
    for threads in [1, 2] {
        let mut example = Example::new(threads);
        // Of two sizes in turn, each with its own results.
        let sizes = [inputs(150), inputs(150)];
        for _ in 0..3 {
            sizes.iter().for_each(|x| drop(example.call(x)));
        }
        let before = COUNT.get();
        let results = example.call(&sizes[0]);
        let taken = COUNT.get() - before;
        assert_eq!(results.len(), 2);
        assert!(taken <= 1 + results.len(), "{threads} threads: {taken} times memory was asked for");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_call_touches_no_new_page() {
    let faults = || {
        // SAFETY: a record of numbers, for which zeros are values, is written by the call.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0, "there is a thread");
            usage
        };
        usage.ru_minflt
    };
    let mut example = Example::new(1);
    let x = inputs(900);
    (0..3).for_each(|_| drop(example.call(&x)));
    let before = faults();
    (0..20).for_each(|_| drop(example.call(&x)));
    let taken = faults() - before;
    // What the machine does to a process's pages is not ours: one in four calls may find one gone.
    assert!(taken <= 5, "20 calls of {} KB of results met {taken} pages for the first time", 900 * WIDTH * 4 / 1024);
}
