//! The shim's own memory, apart from the host's arrays as a GPU's is: what goes to it and comes back is counted.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use graver_ir::{Diag, Error, Remote};
use graver_runtime::Device;

use super::ShimExecutable;

/// Copies of whole arrays so far.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    to: AtomicUsize,
    within: AtomicUsize,
    back: AtomicUsize,
    read: AtomicU64,
}

impl Copies {
    /// From the host.
    #[must_use]
    pub fn to(&self) -> usize {
        self.counts.to.load(Ordering::Relaxed)
    }

    /// From one place of the device to another.
    #[must_use]
    pub fn within(&self) -> usize {
        self.counts.within.load(Ordering::Relaxed)
    }

    /// To the host.
    #[must_use]
    pub fn back(&self) -> usize {
        self.counts.back.load(Ordering::Relaxed)
    }

    /// Bytes that kernels read of arguments that they only read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.counts.read.load(Ordering::Relaxed)
    }

    pub(super) fn count_read(&self, bytes: u64) {
        self.counts.read.fetch_add(bytes, Ordering::Relaxed);
    }

    fn piece(&self, bytes: &[u8]) -> Piece {
        let mut words = vec![[0u64; 2]; bytes.len().div_ceil(16) + 1];
        // SAFETY: the words have room for the bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), words.as_mut_ptr().cast(), bytes.len()) };
        Piece { words: UnsafeCell::new(words), len: bytes.len(), copies: self.clone() }
    }
}

/// Memory that holds one array's elements, aligned to 16 bytes.
#[derive(Debug)]
pub(crate) struct Piece {
    words: UnsafeCell<Vec<[u64; 2]>>,
    len: usize,
    copies: Copies,
}

// SAFETY: kernels write it only while the call that runs them borrows its array mutably; nobody reads it then.
unsafe impl Sync for Piece {}

impl Piece {
    pub(super) fn pointer(&self) -> *mut u8 {
        // SAFETY: only the vector's own words are read, which never change.
        unsafe { (*self.words.get()).as_mut_ptr().cast() }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: as many bytes are there, and nobody writes them while the array is borrowed for reading.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.len) }
    }
}

impl Remote for Piece {
    fn read(&self, to: &mut [u8]) -> Result<(), Diag> {
        self.copies.counts.back.fetch_add(1, Ordering::Relaxed);
        to.copy_from_slice(self.bytes());
        Ok(())
    }
}

impl Device for ShimExecutable {
    type Memory = Piece;

    fn owns(&self, memory: &Piece) -> bool {
        Arc::ptr_eq(&self.shim.copies.counts, &memory.copies.counts)
    }

    fn upload(&self, bytes: &[u8]) -> Result<Piece, Error> {
        self.shim.copies.counts.to.fetch_add(1, Ordering::Relaxed);
        Ok(self.shim.copies.piece(bytes))
    }

    fn duplicate(&self, memory: &Piece) -> Result<Piece, Error> {
        self.shim.copies.counts.within.fetch_add(1, Ordering::Relaxed);
        Ok(self.shim.copies.piece(memory.bytes()))
    }
}
