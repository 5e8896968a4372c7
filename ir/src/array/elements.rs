//! The memory of an array's elements: a caller's vector, memory of our own that begins where a cache line does, so that no vector of
//! a kernel lies in two lines, or somebody's who lends it, which is copied before it is written to.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use bytemuck::{NoUninit, Zeroable, allocation};

use super::pages::prefer_large_pages;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Elements of fewer bytes lie where they come to lie.
const SMALL: usize = 1024;

/// Memory that somebody else has, and nobody writes to while it is lent: a file's, mapped.
///
/// # Safety
/// [`Lender::bytes`] gives the same memory each time, and nothing changes it as long as this lives.
pub unsafe trait Lender: fmt::Debug + Send + Sync {
    /// All of it.
    fn bytes(&self) -> &[u8];

    /// These bytes will not be read soon: what could be had again need not stay in memory. They can be read all the same.
    fn release(&self, _: Range<usize>) {}
}

/// Elements in a row.
pub struct Elements<T>(Memory<T>);

enum Memory<T> {
    Own {
        all: Vec<T>,
        /// The first one's position.
        start: usize,
    },
    Lent {
        first: *const T,
        len: usize,
        /// Where that is among the lender's bytes.
        range: Range<usize>,
        lender: Arc<dyn Lender>,
    },
}

// SAFETY: what is lent is read only, and its lender may be asked from any thread.
unsafe impl<T: Send + Sync> Send for Memory<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Memory<T> {}

impl<T> Elements<T> {
    /// Elements that a lender has at these of its bytes; `None` where they do not lie as elements do, or are not there. Any bytes must be elements.
    pub(super) fn lent(lender: &Arc<dyn Lender>, range: Range<usize>) -> Option<Self>
    where
        T: bytemuck::AnyBitPattern,
    {
        let of: &[T] = bytemuck::try_cast_slice(lender.bytes().get(range.clone())?).ok()?;
        let (first, len) = (of.as_ptr(), of.len());
        Some(Self(Memory::Lent { first, len, range, lender: Arc::clone(lender) }))
    }

    /// What is lent need not stay in memory.
    pub(super) fn release(&self) {
        match &self.0 {
            Memory::Own { .. } => {}
            Memory::Lent { range, lender, .. } => lender.release(range.clone()),
        }
    }
}

impl<T: NoUninit + Zeroable> Elements<T> {
    /// As many times the same. Zeros are not written: memory that is new to the process is zero.
    pub(super) fn splat(value: T, len: usize) -> Self {
        let mut elements = Self::zeroed(len).expect("there is memory for an array");
        if bytemuck::bytes_of(&value).iter().any(|byte| *byte != 0) {
            elements.fill(value);
        }
        elements
    }
}

impl<T: Copy + Zeroable> Elements<T> {
    /// Zeros; `None` if there is not so much memory.
    pub(super) fn zeroed(len: usize) -> Option<Self> {
        let beside = if len.saturating_mul(size_of::<T>()) < SMALL { 0 } else { LINE / size_of::<T>() - 1 };
        let mut all: Vec<T> = allocation::try_zeroed_vec(len.checked_add(beside)?).ok()?;
        let bytes = size_of_val(all.as_slice());
        // SAFETY: these are the bytes of the elements, borrowed mutably; the advice does not change them.
        prefer_large_pages(unsafe { std::slice::from_raw_parts_mut(all.as_mut_ptr().cast(), bytes) });
        // An element is as far from a line as whole elements are, so that there is such a place among those beside.
        let start = if beside == 0 { 0 } else { all.as_ptr().align_offset(LINE).min(beside) };
        all.truncate(start + len);
        Some(Self(Memory::Own { all, start }))
    }
}

impl<T> From<Vec<T>> for Elements<T> {
    fn from(all: Vec<T>) -> Self {
        Self(Memory::Own { all, start: 0 })
    }
}

impl<T> Deref for Elements<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Memory::Own { all, start } => &all[*start..],
            // SAFETY: these are elements of the lender's, which it keeps as they are while it lives, and it lives as long as this.
            Memory::Lent { first, len, .. } => unsafe { std::slice::from_raw_parts(*first, *len) },
        }
    }
}

impl<T: Copy + Zeroable> DerefMut for Elements<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if matches!(self.0, Memory::Lent { .. }) {
            *self = self.clone();
        }
        match &mut self.0 {
            Memory::Own { all, start } => &mut all[*start..],
            Memory::Lent { .. } => unreachable!("a copy is its owner's"),
        }
    }
}

impl<T: Copy + Zeroable> Clone for Elements<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len()).expect("there is memory for a copy of an array");
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: fmt::Debug> fmt::Debug for Elements<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_elements_begin_at_a_line() {
        for len in [0, 1, 255, 256, 1000, 1 << 20] {
            let elements: Elements<f32> = Elements::zeroed(len).expect("there is memory");
            assert_eq!(elements.len(), len);
            assert!(elements.iter().all(|x| *x == 0.0));
            assert!(len * 4 < SMALL || elements.as_ptr().addr().is_multiple_of(LINE), "{len} elements");
            let copy = Elements::splat(2.0f32, len).clone();
            assert!(copy.len() == len && copy.iter().all(|x| *x == 2.0), "{len} elements");
            assert!(len * 4 < SMALL || copy.as_ptr().addr().is_multiple_of(LINE), "{len} elements");
        }
        assert!(Elements::<f64>::zeroed(usize::MAX).is_none());
    }

    #[derive(Debug)]
    struct Shelf {
        bytes: Vec<u64>,
        released: std::sync::Mutex<Vec<Range<usize>>>,
    }

    // SAFETY: nobody writes to the vector.
    unsafe impl Lender for Shelf {
        fn bytes(&self) -> &[u8] {
            bytemuck::cast_slice(&self.bytes)
        }

        fn release(&self, range: Range<usize>) {
            self.released.lock().expect("nobody panics").push(range);
        }
    }

    #[test]
    fn what_is_lent_is_copied_where_it_is_written_to() {
        let shelf = Arc::new(Shelf { bytes: (0..100).collect(), released: std::sync::Mutex::default() });
        let lender: Arc<dyn Lender> = shelf.clone();
        let lent: Elements<u64> = Elements::lent(&lender, 80..160).expect("they lie as elements do");
        assert_eq!(&*lent, (10..20).collect::<Vec<u64>>());
        assert_eq!(lent.as_ptr(), &raw const shelf.bytes[10], "they are where they were");
        let mut copy = lent.clone();
        copy[0] = 7;
        assert_eq!((lent[0], copy[0], shelf.bytes[10]), (10, 7, 10));
        let mut written = lent;
        written.release();
        written[1] = 8;
        assert_eq!((&written[..3], shelf.bytes[11]), (&[10, 8, 12][..], 11));
        written.release();
        copy.release();
        assert_eq!(*shelf.released.lock().expect("nobody panics"), vec![80..160; 1], "only what is lent is given back");
        #[expect(clippy::reversed_empty_ranges, reason = "a range that is none")]
        let reversed = (160..80, "backwards");
        for (range, why) in [reversed, (81..161, "between"), (80..161, "not whole"), (80..900, "beyond"), (808..816, "beyond")] {
            assert!(Elements::<u64>::lent(&lender, range).is_none(), "{why}");
        }
        assert_eq!(Arc::strong_count(&shelf), 2, "whoever has a copy keeps no lender");
    }
}
