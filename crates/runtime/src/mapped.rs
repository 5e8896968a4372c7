//! Files whose bytes arrays are, without being read before they are asked for.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use graver_ir::Lender;
use memmap2::Mmap;

/// A file that is mapped into memory: what is read of it the system brings, and lets go of when memory is short or [`Lender::release`] says so.
///
/// The file must not change as long as this lives, or an array that is made of it: written over in place, arrays change with it, and
/// made shorter, who reads them is ended by the system. Files that are replaced, as [`crate::Checkpoint::write`] does, stay as they were for
/// those who have mapped them.
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// If it cannot be opened, is no file, or cannot be mapped.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        // Opening something else, as a pipe, might wait for ever.
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("is no file"));
        }
        let file = File::open(path)?;
        // SAFETY: the file is mapped read-only. That it does not change is asked of the caller, as by every program that maps weights.
        unsafe { Mmap::map(&file) }.map(Self)
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedFile({} bytes)", self.0.len())
    }
}

// SAFETY: a map stays where it is, and nobody writes to the file, as the caller has promised.
unsafe impl Lender for MappedFile {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[cfg(unix)]
    fn release(&self, range: Range<usize>) {
        // Pages that are whole inside of the range: others may be their neighbours'.
        let page = 1 << 12;
        let (first, end) = (range.start.next_multiple_of(page), range.end / page * page);
        if first < end {
            // SAFETY: nothing was written to the map, so that what is read again is what the file holds. It is advice: a system that does not
            // take it keeps the pages.
            let _ = unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, first, end - first) };
        }
    }

    #[cfg(not(unix))]
    fn release(&self, _: Range<usize>) {}
}
