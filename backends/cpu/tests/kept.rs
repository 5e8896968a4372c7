//! Packed weights that the workspaces of an executable share: packed once, whoever calls, and never used for other weights.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};

use graver_cpu::{Cpu, Parallel, Pool};
use graver_ir::{Array, DType, Scalar, ScalarFn, StateKind};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Executable, Invocation, Slot, Workspace};
use graver_testkit::Build;

const SIZE: usize = 512;
/// Rows of a call.
const ROWS: usize = 48;
/// What is packed of two weights.
const PACKED: usize = 2 * 4 * SIZE * SIZE;

/// Threads that are lent, which count the regions that they run.
#[derive(Debug)]
struct Counting {
    pool: Pool,
    regions: AtomicUsize,
}

impl Counting {
    fn new(threads: usize) -> Arc<Self> {
        Arc::new(Self { pool: Pool::new(threads), regions: AtomicUsize::new(0) })
    }

    /// Regions that something runs.
    fn of<T>(&self, what: impl FnOnce() -> T) -> (T, usize) {
        let before = self.regions.load(Ordering::Relaxed);
        let result = what();
        (result, self.regions.load(Ordering::Relaxed) - before)
    }
}

impl Parallel for Counting {
    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        self.regions.fetch_add(1, Ordering::Relaxed);
        self.pool.run(parts, task);
    }
}

/// `relu(x first) second`, with weights of the state.
fn net(cpu: &Cpu) -> Arc<dyn Executable> {
    let mut b = Build::new("net");
    let x = b.arg("x", DType::F32, [ROWS, SIZE]);
    let [first, second] = ["first", "second"].map(|name| b.state(name, StateKind::Param, DType::F32, [SIZE, SIZE]).1);
    let hidden = b.matmul(x, first);
    let hidden = b.map(ScalarFn::Relu, [hidden]);
    let y = b.matmul(hidden, second);
    let program = pipeline::compile(b.finish([y]), &cpu.describe(), &mut Silent).expect("it compiles");
    cpu.compile(Arc::new(program)).expect("it compiles")
}

/// Small whole numbers, so that sums are exact.
fn whole(shape: [usize; 2], seed: usize) -> Array {
    let number = |place: usize| f64::from(u8::try_from((place * 31 + seed * 17 + place / 7) % 5).expect("below 5")) - 2.0;
    Array::from_fn(DType::F32, shape, |place| Scalar::float(DType::F32, number(place)))
}

fn weights(seed: usize) -> [Array; 2] {
    [whole([SIZE, SIZE], seed), whole([SIZE, SIZE], seed + 1)]
}

fn run(executable: &dyn Executable, workspace: &mut Workspace, weights: &[Array]) -> Array {
    let x = whole([ROWS, SIZE], 9);
    let mut state: Vec<Slot<'_>> = weights.iter().map(Slot::Read).collect();
    let call = Invocation { entry: 0, inputs: &[&x], state: &mut state, workspace };
    executable.run(call).expect("it runs").remove(0)
}

/// What a call gives with these weights.
fn expected(weights: &[Array]) -> Array {
    let executable = net(&Cpu::new(1));
    run(executable.as_ref(), &mut executable.workspace(), weights)
}

#[test]
fn a_second_workspace_packs_nothing() {
    let (pool, weights) = (Counting::new(2), weights(0));
    let executable = net(&Cpu::with_threads(pool.clone()));
    let [mut one, mut two] = [(); 2].map(|()| executable.workspace());
    let call = |workspace: &mut Workspace| pool.of(|| run(executable.as_ref(), workspace, &weights));
    let (first, with_packing) = call(&mut one);
    let (again, without) = call(&mut one);
    assert_eq!(with_packing, without + 2, "two weights are packed");
    assert_eq!(call(&mut two), (first.clone(), without), "the other workspace's are there");
    assert_eq!((again, first), (expected(&weights), expected(&weights)));
    let total = executable.working_bytes(0, &[].into()).expect("sizes are known").total();
    assert_eq!([one.bytes(), two.bytes()], [total, total - PACKED]);
    // They stay when the workspace that packed them goes.
    drop((one, two));
    let mut three = executable.workspace();
    assert_eq!((call(&mut three).1, three.bytes()), (without, total - PACKED));
}

#[test]
fn threads_that_call_at_once_pack_once() {
    let weights = weights(0);
    let result = expected(&weights);
    for threads in [1, 2] {
        for _ in 0..10 {
            let executable = net(&Cpu::new(threads));
            let together = Barrier::new(4);
            let call = || {
                let mut workspace = executable.workspace();
                together.wait();
                assert_eq!(run(executable.as_ref(), &mut workspace, &weights), result);
                workspace.bytes()
            };
            let bytes: usize = std::thread::scope(|scope| {
                let callers = [(); 4].map(|()| scope.spawn(call));
                callers.into_iter().map(|caller| caller.join().expect("results are equal")).sum()
            });
            let total = executable.working_bytes(0, &[].into()).expect("sizes are known").total();
            assert_eq!(bytes, 4 * total - 3 * PACKED, "one of four asked for memory to pack in");
        }
    }
}

/// One after the other and at once, and one weight of two.
#[test]
fn other_weights_are_packed_anew() {
    let pool = Counting::new(2);
    let executable = net(&Cpu::with_threads(pool.clone()));
    let all = [weights(0), weights(2), [weights(0)[0].clone(), weights(3)[1].clone()]];
    let results: Vec<Array> = all.iter().map(|weights| expected(weights)).collect();
    assert!(results[0] != results[1] && results[0] != results[2]);
    let mut workspace = executable.workspace();
    for place in [0, 1, 0, 2, 2, 1, 0] {
        assert_eq!(run(executable.as_ref(), &mut workspace, &all[place]), results[place]);
    }
    // One of the two is another array.
    let changed = [all[0][0].clone(), whole([SIZE, SIZE], 3)];
    let ((), with_one) = pool.of(|| drop(run(executable.as_ref(), &mut workspace, &changed)));
    let ((), with_none) = pool.of(|| drop(run(executable.as_ref(), &mut workspace, &changed)));
    assert_eq!(with_one, with_none + 1, "the other one is packed");
    std::thread::scope(|scope| {
        for (weights, result) in all.iter().zip(&results) {
            let executable = &executable;
            scope.spawn(move || {
                let mut workspace = executable.workspace();
                (0..20).for_each(|_| assert_eq!(run(executable.as_ref(), &mut workspace, weights), *result));
                (0..20).for_each(|_| assert_eq!(run(executable.as_ref(), &mut executable.workspace(), weights), *result));
            });
        }
    });
}

/// A weight that a caller writes to between calls, and one workspace that goes on with what it was.
#[test]
fn a_weight_that_is_written_to_is_packed_again() {
    let executable = net(&Cpu::new(2));
    let [mut one, mut two] = [(); 2].map(|()| executable.workspace());
    let before = weights(0);
    let mut after = before.clone();
    for turn in 1..4u8 {
        after[1].as_mut_slice::<f32>().expect("floats").fill(f32::from(turn));
        assert_eq!(run(executable.as_ref(), &mut one, &after), expected(&after));
        assert_eq!(run(executable.as_ref(), &mut two, &before), expected(&before));
    }
}

/// Threads that take up another call while they wait, as those of work-stealing pools do.
#[derive(Debug, Default)]
struct Stealing {
    /// What is called, and what it gives.
    other: OnceLock<(Arc<dyn Executable>, Array)>,
    calls: AtomicUsize,
}

impl Stealing {
    fn steal(&self) {
        if let Some((executable, expected)) = self.other.get()
            && self.calls.fetch_add(1, Ordering::Relaxed) < 20
        {
            assert_eq!(run(executable.as_ref(), &mut executable.workspace(), &weights(0)), *expected);
        }
    }
}

impl Parallel for Stealing {
    fn threads(&self) -> usize {
        2
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        for part in 0..parts {
            self.steal();
            task(part);
        }
        self.steal();
    }
}

#[test]
fn a_call_inside_of_a_call_waits_for_nobody() {
    let (pool, expected) = (Arc::new(Stealing::default()), expected(&weights(0)));
    let executable = net(&Cpu::with_threads(pool.clone()));
    pool.other.set((Arc::clone(&executable), expected.clone())).expect("it is set once");
    assert_eq!(run(executable.as_ref(), &mut executable.workspace(), &weights(0)), expected);
    assert!(pool.calls.load(Ordering::Relaxed) > 20);
}
