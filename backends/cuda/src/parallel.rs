//! Work that threads share.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Results of `work` for `0..count`, in order, by as many threads as the machine has.
///
/// # Errors
/// The one of the least number that has one: numbers are begun in order, and none after a failure.
pub(crate) fn all<T: Send, E: Send>(count: usize, work: impl Fn(usize) -> Result<T, E> + Sync) -> Result<Vec<T>, E> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(count);
    if workers <= 1 {
        return (0..count).map(work).collect();
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)));
    let turns = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let outcome = work(number);
            if outcome.is_err() {
                next.fetch_max(count, Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
        }
    };
    thread::scope(|scope| {
        // A thread that cannot be made is done without: this one takes turns too.
        (1..workers).for_each(|_| drop(thread::Builder::new().spawn_scoped(scope, turns)));
        turns();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::all;

    #[test]
    fn results_are_in_order_and_an_error_is_the_first() {
        for count in [0, 1, 2, 300] {
            assert_eq!(all(count, |number| Ok::<_, ()>(number * 2)), Ok((0..count).map(|number| number * 2).collect()));
        }
        for _ in 0..100 {
            let fails = |number: usize| if number % 7 == 5 { Err(number) } else { Ok(number) };
            assert_eq!(all(300, fails), Err(5));
        }
    }

    #[test]
    fn nothing_is_begun_long_after_a_failure() {
        let begun = AtomicUsize::new(0);
        let fails = |_| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err::<(), ()>(())
        };
        assert_eq!(all(1 << 20, fails), Err(()));
        // Each thread's first.
        assert!(begun.into_inner() < 1 << 12);
    }

    #[test]
    #[should_panic = "panicked"]
    fn a_panic_goes_on() {
        let _ = all(2, |number| -> Result<(), ()> { panic!("number {number} panicked") });
    }
}
