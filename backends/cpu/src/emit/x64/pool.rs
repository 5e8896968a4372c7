//! A function's constants, which lie behind its code.

use std::collections::BTreeMap;

/// Constants, each once, aligned to their size.
#[derive(Debug, Default)]
pub(super) struct Pool {
    bytes: Vec<u8>,
    known: BTreeMap<Vec<u8>, i64>,
}

impl Pool {
    /// Where these bytes are, a power of two of them.
    pub(super) fn add(&mut self, bytes: Vec<u8>) -> i64 {
        if let Some(known) = self.known.get(&bytes) {
            return *known;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(bytes.len()), 0);
        let offset = i64::try_from(self.bytes.len()).expect("few constants");
        self.bytes.extend(&bytes);
        self.known.insert(bytes, offset);
        offset
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
