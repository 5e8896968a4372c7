//! What Git LFS leaves in a file's place when it has not fetched it: a text that says which file it is.

use graver_ir::Diag;

const BEGINNING: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// The specification allows fewer.
const LONGEST: usize = 4096;

/// What is wrong with the bytes of a file that is only a pointer of Git LFS, and what to do; nothing for other files.
///
/// ```
/// let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 440449768\n";
/// let said = graver_runtime::lfs_pointer(pointer).expect("it is one").to_string();
/// assert!(said.starts_with("is a pointer of Git LFS to 440449768 bytes, not the file itself"));
/// assert!(said.contains("git lfs pull"));
/// assert!(graver_runtime::lfs_pointer(b"another file").is_none());
/// ```
#[must_use]
pub fn lfs_pointer(bytes: &[u8]) -> Option<Diag> {
    let rest = bytes.strip_prefix(BEGINNING).filter(|rest| rest.len() <= LONGEST)?;
    let size = String::from_utf8_lossy(rest).lines().find_map(|line| line.strip_prefix("size ")?.parse::<u64>().ok());
    let size = size.map_or_else(|| "a file".to_owned(), |size| format!("{size} bytes"));
    let help = "fetch it: `git lfs install`, then `git lfs pull` in the folder's repository, or download it by other means";
    Some(Diag::new(format!("is a pointer of Git LFS to {size}, not the file itself")).help(help))
}
