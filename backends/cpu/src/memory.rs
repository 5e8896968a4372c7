//! Aligned memory that grows and is reused: arenas and scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// The alignment of arenas and scratch, in bytes.
pub(crate) const ALIGNMENT: usize = 64;

/// Bytes aligned to [`ALIGNMENT`].
#[derive(Debug, Default)]
pub(crate) struct Memory(Option<(NonNull<u8>, Layout)>);

// SAFETY: it owns its bytes.
unsafe impl Send for Memory {}

impl Memory {
    /// At least `bytes`; earlier contents are lost where it must grow. `None` if there is not so much memory.
    pub(crate) fn at_least(&mut self, bytes: usize) -> Option<*mut u8> {
        if let Some((pointer, layout)) = self.0
            && layout.size() >= bytes
        {
            return Some(pointer.as_ptr());
        }
        let layout = Layout::from_size_align(bytes.max(ALIGNMENT), ALIGNMENT).ok()?;
        self.free();
        // SAFETY: the layout's size is not zero.
        let pointer = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        self.0 = Some((pointer, layout));
        Some(pointer.as_ptr())
    }

    /// The bytes that it has.
    pub(crate) fn bytes(&self) -> usize {
        self.0.map_or(0, |(_, layout)| layout.size())
    }

    fn free(&mut self) {
        if let Some((pointer, layout)) = self.0.take() {
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
