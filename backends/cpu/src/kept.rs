//! Packed operands that outlast calls: made once for all workspaces of an executable, by whoever needs them first. Who needs them meanwhile
//! helps, and waits only for points that are being packed: not for a caller, whose threads may be at work for this one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use graver_ir::Watch;
use graver_runtime::Slot;

use crate::memory::Memory;
use crate::packs::Pack;

/// How often a thread looks whether others have packed their points before it lets them run.
const SPINS: usize = 1_000;

/// The packings of an entry for one state, one behind the other in memory.
#[derive(Debug)]
pub(crate) struct Block {
    memory: Memory,
    /// By packing.
    packed: Vec<Packed>,
}

// SAFETY: of the memory, points are written by the one thread that has taken them, and read when all have been given back.
unsafe impl Sync for Block {}

/// How far a packing is.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    /// What its slots of the state held.
    sources: Vec<Watch>,
    /// Points that threads have taken.
    taken: AtomicI64,
    /// Points that are packed.
    given: AtomicI64,
}

impl Packed {
    fn is_of(&self, pack: &Pack, state: &[Slot<'_>]) -> bool {
        let mut held = self.sources.iter().zip(&pack.slots);
        self.sources.len() == pack.slots.len() && held.all(|(watch, slot)| watch.holds(state[*slot].array()))
    }

    fn begin(&mut self, pack: &Pack, state: &[Slot<'_>]) {
        self.sources = pack.slots.iter().map(|slot| state[*slot].array().watch()).collect();
        (self.taken, self.given) = Default::default();
    }

    /// Whether all points are packed.
    pub(crate) fn is_whole(&self, points: i64) -> bool {
        self.given.load(Ordering::Acquire) == points
    }

    /// Packs points, so many at once, until all have been taken. Many threads may do so.
    pub(crate) fn fill(&self, points: i64, at_once: i64, pack: impl Fn(i64, i64)) {
        loop {
            let begin = self.taken.fetch_add(at_once, Ordering::Relaxed);
            if begin >= points {
                return;
            }
            let end = points.min(begin.saturating_add(at_once));
            pack(begin, end);
            self.given.fetch_add(end - begin, Ordering::AcqRel);
        }
    }

    /// Waits for those who pack what they have taken. All points have been taken.
    pub(crate) fn wait(&self, points: i64) {
        let mut spins = 0;
        while !self.is_whole(points) {
            if spins < SPINS {
                std::hint::spin_loop();
                spins += 1;
            } else {
                std::thread::yield_now();
            }
        }
    }
}

impl Block {
    fn new(packs: &[Pack], bytes: usize, state: &[Slot<'_>]) -> Option<Self> {
        let mut memory = Memory::default();
        memory.at_least(bytes)?;
        let mut packed: Vec<Packed> = packs.iter().map(|_| Packed::default()).collect();
        packed.iter_mut().zip(packs).for_each(|(packed, pack)| packed.begin(pack, state));
        Some(Self { memory, packed })
    }

    fn is_of(&self, packs: &[Pack], state: &[Slot<'_>]) -> bool {
        self.packed.iter().zip(packs).all(|(packed, pack)| packed.is_of(pack, state))
    }

    /// What is of other elements than the state holds is to be packed again.
    fn renew(&mut self, packs: &[Pack], state: &[Slot<'_>]) {
        for (packed, pack) in self.packed.iter_mut().zip(packs) {
            if !packed.is_of(pack, state) {
                packed.begin(pack, state);
            }
        }
    }

    /// Where it begins.
    pub(crate) fn start(&self) -> *mut u8 {
        self.memory.start().expect("a block has memory")
    }

    /// How far a packing is.
    pub(crate) fn packed(&self, pack: usize) -> &Packed {
        &self.packed[pack]
    }
}

/// The block that the workspaces of an executable share, for an entry and the state that it was last called with.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Option<Arc<Block>>>);

/// A workspace's block.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    block: Option<Arc<Block>>,
    /// What of its memory this workspace asked for; other workspaces' is theirs.
    own: usize,
}

impl Kept {
    /// Bytes that this workspace asked for.
    pub(crate) fn bytes(&self) -> usize {
        self.own
    }

    /// The block of what the state holds; it stays as it is as long as the state does.
    pub(crate) fn block(&self) -> Option<&Block> {
        self.block.as_deref()
    }

    /// Finds the block of what the state holds, of so many bytes: this workspace's, the shelf's, or a new one. Whether there is memory for it.
    pub(crate) fn find(&mut self, shelf: &Shelf, packs: &[Pack], bytes: usize, state: &[Slot<'_>]) -> bool {
        let is_of = |block: &Arc<Block>| block.is_of(packs, state);
        if packs.is_empty() || self.block.as_ref().is_some_and(is_of) {
            return true;
        }
        // What nobody else uses is used again.
        *self = Self::default();
        let mut shelf = shelf.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !shelf.as_ref().is_some_and(is_of) {
            match shelf.as_mut().and_then(Arc::get_mut) {
                Some(block) => block.renew(packs, state),
                None => *shelf = Block::new(packs, bytes, state).map(Arc::new),
            }
            self.own = if shelf.is_some() { bytes } else { 0 };
        }
        self.block.clone_from(&shelf);
        self.block.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_point_is_packed_once_and_whoever_waits_finds_it() {
        for (points, at_once) in [(0, 1), (1, 1), (7, 3), (1000, 1), (1000, 64)] {
            let packed = Packed::default();
            let counts: Vec<AtomicUsize> = (0..points).map(|_| AtomicUsize::new(0)).collect();
            let together = Barrier::new(4);
            let pack = |begin: i64, end: i64| {
                for point in begin..end {
                    counts[usize::try_from(point).expect("a point")].fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
            };
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        together.wait();
                        packed.fill(points, at_once, pack);
                        packed.wait(points);
                        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{points}, {at_once} at once");
                    });
                }
            });
        }
    }
}
