//! Reading and writing files of others: bounded, and atomic where they are written.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use graver_ir::Diag;

/// How much of a file is read at most, in bytes after decompression. More is an error, not a truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(
    /// The bytes.
    pub usize,
);

impl Default for Limit {
    /// One gibibyte.
    fn default() -> Self {
        Self(1 << 30)
    }
}

/// Everything that there is to read, within the limit.
pub(crate) fn read_all(op: &str, reader: impl Read, limit: Limit) -> Result<Vec<u8>, Diag> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit.0).unwrap_or(u64::MAX).saturating_add(1);
    // Grows with what is there, not with what a header promises.
    reader.take(most).read_to_end(&mut bytes).map_err(|why| Diag::new(format!("cannot read: {why}")).op(op))?;
    if bytes.len() > limit.0 {
        return Err(Diag::new(format!("more than {} bytes", limit.0)).op(op).help("raise the limit if the file is trusted"));
    }
    Ok(bytes)
}

/// Writes next to the place, then moves there: a reader sees the old file or the new one.
pub(crate) fn write_atomic(op: &str, path: &Path, parts: &[&[u8]]) -> Result<(), Diag> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let synced = || -> io::Result<()> {
        let mut file = fs::File::create(&beside)?;
        parts.iter().try_for_each(|part| io::Write::write_all(&mut file, part))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    synced().map_err(|why| {
        // What failed is reported; a leftover that cannot be removed either is not worth a second message.
        drop(fs::remove_file(&beside));
        failed(op, path, &why)
    })
}

pub(crate) fn failed(op: &str, path: &Path, why: &io::Error) -> Diag {
    Diag::new(format!("{}: {why}", path.display())).op(op)
}

pub(crate) fn of_path(diag: Diag, path: &Path) -> Diag {
    Diag { message: format!("{}: {}", path.display(), diag.message), ..diag }
}
