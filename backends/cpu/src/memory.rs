//! Aligned memory that grows and is reused: arenas and scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use graver_ir::prefer_large_pages;

/// The alignment of arenas and scratch, in bytes.
pub(crate) const ALIGNMENT: usize = 64;

/// Bytes aligned to [`ALIGNMENT`]. Fresh ones are nobody's until they are written to, so that threads share the work of getting them.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What was allocated, with the least alignment: zeroed memory of a greater one would be written to at once.
    all: Option<(NonNull<u8>, Layout)>,
    /// From the first aligned byte on.
    bytes: usize,
}

// SAFETY: it owns its bytes.
unsafe impl Send for Memory {}

impl Memory {
    /// At least `bytes`; earlier contents are lost where it must grow. `None` if there is not so much memory.
    pub(crate) fn at_least(&mut self, bytes: usize) -> Option<*mut u8> {
        if self.all.is_none() || self.bytes < bytes {
            self.free();
            let bytes = bytes.max(ALIGNMENT);
            let layout = Layout::from_size_align(bytes.checked_add(ALIGNMENT)?, 1).ok()?;
            // SAFETY: the layout's size is not zero.
            let pointer = NonNull::new(unsafe { alloc_zeroed(layout) })?;
            (self.all, self.bytes) = (Some((pointer, layout)), bytes);
            // SAFETY: these bytes were just allocated, zeroed, and nothing else refers to them.
            prefer_large_pages(unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), layout.size()) });
        }
        self.start()
    }

    /// The first byte, if there are any.
    pub(crate) fn start(&self) -> Option<*mut u8> {
        let (pointer, _) = self.all?;
        // SAFETY: the first aligned byte is less than the alignment away, which was added to the size.
        Some(unsafe { pointer.as_ptr().add(pointer.as_ptr().align_offset(ALIGNMENT)) })
    }

    /// The bytes that it has.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn free(&mut self) {
        self.bytes = 0;
        if let Some((pointer, layout)) = self.all.take() {
            // SAFETY: it was allocated with this layout, and nothing refers to it any more.
            unsafe { dealloc(pointer.as_ptr(), layout) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.free();
    }
}
