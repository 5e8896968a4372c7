//! Pages of memory. What is new to a process costs a fault a page, and every page that is read an entry of a small table of the
//! processor's: large arrays are better off in large pages.

/// Bytes of a large page.
const PAGE: usize = 2 << 20;

/// Asks the system for large pages where a large page is all inside of `memory`. What it holds stays as it is; best asked before it
/// is first written to. Nothing where the memory is small or the system has no such pages.
pub fn prefer_large_pages(memory: &mut [u8]) {
    let start = memory.as_ptr().align_offset(PAGE);
    if let Some(inner) = memory.get_mut(start..) {
        advise(inner);
    }
}

#[cfg(target_os = "linux")]
fn advise(inner: &mut [u8]) {
    let whole = inner.len() / PAGE * PAGE;
    if whole > 0 {
        // SAFETY: the range is whole pages of memory that is borrowed here, and the advice changes no byte of it. A system that does
        // not take it says so, and nothing is lost.
        unsafe { libc::madvise(inner.as_mut_ptr().cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &mut [u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_memory_holds_stays() {
        for bytes in [0, 1, PAGE - 1, 3 * PAGE + 5] {
            let mut memory: Vec<u8> = (0..bytes).map(|place| u8::try_from(place % 251).expect("below")).collect();
            prefer_large_pages(&mut memory);
            assert!(memory.iter().enumerate().all(|(place, byte)| usize::from(*byte) == place % 251), "{bytes} bytes");
        }
    }
}
