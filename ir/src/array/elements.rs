//! The memory of an array's elements: a caller's vector, or memory of our own that begins where a cache line does, so that no vector of
//! a kernel lies in two lines.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::{NoUninit, Zeroable, allocation};

use super::pages::prefer_large_pages;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Elements of fewer bytes lie where they come to lie.
const SMALL: usize = 1024;

/// Elements in a row.
pub struct Elements<T> {
    all: Vec<T>,
    /// The first one's position.
    start: usize,
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
        Some(Self { all, start })
    }
}

impl<T> From<Vec<T>> for Elements<T> {
    fn from(all: Vec<T>) -> Self {
        Self { all, start: 0 }
    }
}

impl<T> Deref for Elements<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all[self.start..]
    }
}

impl<T> DerefMut for Elements<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all[self.start..]
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
}
