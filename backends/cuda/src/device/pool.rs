//! Memory that was let go of and is used again: asking the driver takes as long as many kernels, and waits for all of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUdeviceptr;

use super::driver;

/// Bytes that lie idle at most; what goes beyond goes back to the driver.
const MOST_IDLE: usize = 1 << 28;

/// Pieces by their size, the latest last: it is the first to be used again, so that a call finds the same places as the one before.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    pieces: BTreeMap<usize, Vec<CUdeviceptr>>,
    bytes: usize,
}

/// What the driver deals out large pieces in.
const PAGE: usize = 2 << 20;

/// So many bytes, or up to an eighth more, so that there are few sizes. Of pieces that are too large to be kept there need not be few:
/// whole pages.
pub(super) fn rounded(bytes: usize) -> usize {
    let step = if bytes > MOST_IDLE { PAGE } else { (bytes.next_power_of_two() / 16).max(256) };
    bytes.max(1).checked_next_multiple_of(step).unwrap_or(bytes)
}

impl Pool {
    /// A piece of exactly this size.
    pub(super) fn take(&self, size: usize) -> Option<CUdeviceptr> {
        let mut idle = self.idle();
        let piece = idle.pieces.get_mut(&size)?.pop()?;
        idle.bytes -= size;
        Some(piece)
    }

    /// Keeps a piece that nobody uses any more, unless there is enough; then it is given back.
    pub(super) fn keep(&self, size: usize, piece: CUdeviceptr) -> Option<CUdeviceptr> {
        let mut idle = self.idle();
        if idle.bytes.saturating_add(size) > MOST_IDLE {
            return Some(piece);
        }
        idle.bytes += size;
        idle.pieces.entry(size).or_default().push(piece);
        None
    }

    /// Lets the driver have all of it. The context is this thread's.
    pub(super) fn empty(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for piece in idle.pieces.into_values().flatten() {
            // SAFETY: it was allocated once, and nobody uses it. Nothing can be done about a driver that is gone.
            let _ = unsafe { driver::free(piece) };
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_IDLE, PAGE, Pool, rounded};

    #[test]
    fn sizes_are_few_and_little_more_than_asked_for() {
        assert_eq!([0, 1, 256, 257, 5000].map(rounded), [256, 256, 256, 512, 5120]);
        for bytes in (4096..100_000).step_by(77) {
            assert!(rounded(bytes) >= bytes && rounded(bytes) <= bytes + bytes / 8, "{bytes}");
        }
        let sizes: std::collections::BTreeSet<usize> = (1 << 20..1 << 21).step_by(1000).map(rounded).collect();
        assert!(sizes.len() <= 9, "{sizes:?}");
        assert_eq!(rounded(usize::MAX), usize::MAX);
    }

    #[test]
    fn what_is_too_large_to_be_kept_is_asked_for_as_it_is() {
        let gib = 1usize << 30;
        assert_eq!([MOST_IDLE - 1, MOST_IDLE, MOST_IDLE + 1].map(rounded), [MOST_IDLE, MOST_IDLE, MOST_IDLE + PAGE]);
        assert_eq!([73 * gib, 73 * gib + 1].map(rounded), [73 * gib, 73 * gib + PAGE]);
        assert_eq!(Pool::default().keep(rounded(MOST_IDLE + 1), 1), Some(1));
    }

    #[test]
    fn the_latest_of_a_size_comes_first_and_too_much_is_given_back() {
        let pool = Pool::default();
        assert_eq!((pool.keep(512, 1), pool.keep(512, 2), pool.keep(1024, 3)), (None, None, None));
        assert_eq!((pool.take(512), pool.take(512), pool.take(512), pool.take(256)), (Some(2), Some(1), None, None));
        assert_eq!((pool.keep(MOST_IDLE, 4), pool.take(1024), pool.keep(MOST_IDLE, 4)), (Some(4), Some(3), None));
    }
}
