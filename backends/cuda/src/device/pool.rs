//! Memory that was let go of and is used again: asking the driver takes as long as many kernels, and waits for all of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUdeviceptr;

use super::driver;

/// Bytes that lie idle at most; of what goes beyond, what was not used for longest goes back to the driver.
const MOST_IDLE: usize = 1 << 28;

/// Memory that the driver gave. What it gives later at the same address is another piece: what was recorded over this one is not over that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) pointer: CUdeviceptr,
    number: u64,
}

impl Piece {
    /// At an address that the driver has just given.
    pub(super) fn new(pointer: CUdeviceptr) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self { pointer, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }
}

/// Pieces by their size, the latest last: it is the first to be used again, so that a call finds the same places as the one before.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// By size, and within one by when they were let go of.
    pieces: BTreeMap<(usize, u64), Piece>,
    /// The size of each, by when it was let go of.
    ages: BTreeMap<u64, usize>,
    bytes: usize,
    now: u64,
}

impl Idle {
    fn remove(&mut self, key: (usize, u64)) -> Option<Piece> {
        let piece = self.pieces.remove(&key)?;
        self.ages.remove(&key.1);
        self.bytes -= key.0;
        Some(piece)
    }
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
    pub(super) fn take(&self, size: usize) -> Option<Piece> {
        let mut idle = self.idle();
        let (&key, _) = idle.pieces.range((size, 0)..=(size, u64::MAX)).next_back()?;
        idle.remove(key)
    }

    /// Keeps a piece that nobody uses any more, and hands over what is to go back to the driver: pieces that have lain for longer, where
    /// there are too many, or this one, where it is too large.
    #[must_use]
    pub(super) fn keep(&self, size: usize, piece: Piece) -> Vec<Piece> {
        if size > MOST_IDLE {
            return vec![piece];
        }
        let mut idle = self.idle();
        let mut back = Vec::new();
        while idle.bytes + size > MOST_IDLE {
            let (&age, &size) = idle.ages.first_key_value().expect("bytes are those of pieces");
            back.extend(idle.remove((size, age)));
        }
        let now = idle.now;
        idle.now += 1;
        idle.bytes += size;
        idle.ages.insert(now, size);
        idle.pieces.insert((size, now), piece);
        back
    }

    /// Lets the driver have all of it. The context is this thread's.
    pub(super) fn empty(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for piece in idle.pieces.into_values() {
            // SAFETY: it was allocated once, and nobody uses it. Nothing can be done about a driver that is gone.
            let _ = unsafe { driver::free(piece.pointer) };
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_IDLE, PAGE, Piece, Pool, rounded};

    fn piece(number: u64) -> Piece {
        Piece { pointer: number, number }
    }

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
        assert_eq!(Pool::default().keep(rounded(MOST_IDLE + 1), piece(1)), [piece(1)]);
        assert_eq!(Pool::default().keep(usize::MAX, piece(1)), [piece(1)]);
    }

    #[test]
    fn the_latest_of_a_size_comes_first_and_the_oldest_go_back() {
        let none: [Piece; 0] = [];
        let pool = Pool::default();
        for (size, number) in [(512, 1), (512, 2), (1024, 3), (512, 4)] {
            assert_eq!(pool.keep(size, piece(number)), none);
        }
        assert_eq!((pool.take(512), pool.take(256), pool.take(2048)), (Some(piece(4)), None, None));
        // What lies idle is 512, 512 and 1024; the two that were let go of first must go, not the one that was taken and came back.
        assert_eq!(pool.take(512), Some(piece(2)));
        assert_eq!(pool.keep(512, piece(2)), none);
        assert_eq!(pool.keep(MOST_IDLE - 512, piece(5)), [piece(1), piece(3)]);
        assert_eq!(
            (pool.take(1024), pool.take(512), pool.take(512), pool.take(MOST_IDLE - 512)),
            (None, Some(piece(2)), None, Some(piece(5)))
        );
        // Nothing is counted that is not there.
        assert_eq!(pool.keep(MOST_IDLE, piece(6)), none);
        assert_eq!(pool.keep(256, piece(7)), [piece(6)]);
        assert_eq!(pool.take(256), Some(piece(7)));
    }
}
