//! Threads: what a caller may lend, and a small pool of our own. Work is cut into parts whose number and bounds the caller
//! of the pool decides; nothing here decides what is computed.

use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Threads that run the parts of a kernel. A program may lend its own.
pub trait Parallel: fmt::Debug + Send + Sync {
    /// How many parts run at once, the caller's among them; at least 1.
    fn threads(&self) -> usize;

    /// Calls `task` with every part below `parts`, each once, perhaps at once, and returns when all have returned.
    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync));
}

/// How often a thread looks for work before it sleeps: some 20 microseconds.
const SPINS: usize = 4_000;

/// Threads that wait for work: awake for some microseconds, then asleep.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Whether a caller's job runs; others do their work alone meanwhile.
    busy: AtomicBool,
}

type Task<'a> = &'a (dyn Fn(usize) + Sync);

/// What runs, with its number of parts.
#[derive(Default)]
struct Job(UnsafeCell<Option<(Task<'static>, usize)>>);

// SAFETY: one caller at a time ([`Pool::busy`]) writes it, while no worker has a job; workers read it after the change of the epoch that
// follows, and before they say that they have finished.
unsafe impl Sync for Job {}
// SAFETY: as above; a task may be called from any thread.
unsafe impl Send for Job {}

#[derive(Default)]
struct Shared {
    /// Counts jobs; a change is the signal.
    epoch: AtomicU64,
    job: Job,
    /// Workers that have not finished the job.
    remaining: AtomicUsize,
    ending: AtomicBool,
    panicked: AtomicBool,
}

impl Pool {
    /// A pool of `threads`, the caller's among them; at least 1.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let spawn = |part: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("graver-{part}");
            std::thread::Builder::new().name(name).spawn(move || shared.work(part)).ok()
        };
        // A thread that cannot be made is done without: its parts fall to the caller.
        let workers = (1..threads).map_while(spawn).collect();
        Self { shared, workers, busy: AtomicBool::new(false) }
    }
}

impl Parallel for Pool {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, parts: usize, task: Task<'_>) {
        if parts <= 1 || self.workers.is_empty() || self.busy.swap(true, Ordering::Acquire) {
            (0..parts).for_each(task);
            return;
        }
        self.shared.start(task, parts, &self.workers);
        let own = catch_unwind(AssertUnwindSafe(|| {
            // The first part, and those for which there is no worker.
            task(0);
            (self.workers.len() + 1..parts).for_each(task);
        }));
        self.shared.finish();
        // Taken before anything unwinds: the next run is not to blame for this one.
        let others = self.shared.panicked.swap(false, Ordering::AcqRel);
        self.busy.store(false, Ordering::Release);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!others, "a part of a kernel panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker contains its panics.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Shared {
    fn start(&self, task: Task<'_>, parts: usize, workers: &[JoinHandle<()>]) {
        // SAFETY: `finish` returns only after every worker has let go of the task, and it is called before `run` returns
        // or unwinds, so the task outlives its uses.
        let task = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        // SAFETY: as [`Job`] says; this is the caller, and every worker has finished.
        unsafe { *self.job.0.get() = Some((task, parts)) };
        self.remaining.store(workers.len(), Ordering::Release);
        self.epoch.fetch_add(1, Ordering::Release);
        for worker in workers {
            worker.thread().unpark();
        }
    }

    /// Waits for every worker.
    fn finish(&self) {
        let mut spins = 0;
        while self.remaining.load(Ordering::Acquire) > 0 {
            if spins < SPINS {
                std::hint::spin_loop();
                spins += 1;
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// What a worker does: its part of every job.
    fn work(&self, part: usize) {
        let mut seen = 0;
        loop {
            seen = self.next(seen);
            if self.ending.load(Ordering::Acquire) {
                return;
            }
            // SAFETY: as [`Job`] says; the epoch has changed, and this worker has not finished.
            let job = unsafe { *self.job.0.get() };
            if let Some((task, parts)) = job
                && part < parts
                && catch_unwind(AssertUnwindSafe(|| task(part))).is_err()
            {
                self.panicked.store(true, Ordering::Release);
            }
            self.remaining.fetch_sub(1, Ordering::Release);
        }
    }

    /// The number of the job after `seen`, once there is one.
    fn next(&self, seen: u64) -> u64 {
        for _ in 0..SPINS {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        loop {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_part_runs_once() {
        for threads in 1..4 {
            let pool = Pool::new(threads);
            for parts in 0..9 {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                pool.run(parts, &|part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} threads, {parts} parts");
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for bad in 0..3 {
            let outcome = catch_unwind(AssertUnwindSafe(|| pool.run(3, &|part| assert_ne!(part, bad, "on purpose"))));
            assert!(outcome.is_err());
        }
        let count = AtomicUsize::new(0);
        pool.run(3, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 3);
    }
}
