//! Caches of keys and values: what attention has seen so far.

use graver_trace::{Array, Buffer, DType, Module, Size, Tensor, enter, size_value};

/// The keys and values of all positions so far, `[batch, heads, capacity, width]`, of which the first ones live.
///
/// A step that extends it writes the new positions where they belong, whatever the capacity, and compiles once for every length. Two steps
/// over one state, one for the prompt and one for each token after it, share the cache and the parameters. Any number of positions that were
/// written may be written again: the length is the caller's.
///
/// Buffers: `keys`, `values`.
///
/// ```
/// use graver_nn::KvCache;
/// use graver_trace::DType;
/// let cache = KvCache::new(1, 8, 1024, 64, DType::F32);
/// assert_eq!(cache.capacity(), 1024);
/// ```
#[derive(Debug, Module)]
pub struct KvCache {
    /// `[batch, heads, capacity, width]`
    pub keys: Buffer,
    /// `[batch, heads, capacity, width]`
    pub values: Buffer,
}

/// The axis of positions.
const POSITIONS: usize = 2;

/// What attention has seen before the positions of a call: a cache, and how many of its positions live.
#[derive(Clone, Copy, Debug)]
pub struct Past<'c> {
    /// Where keys and values are kept.
    pub cache: &'c KvCache,
    /// How many positions there are already.
    pub length: Size,
    /// Where each sequence begins, if not all do at the first position.
    pub(super) begins: Option<Tensor>,
}

impl Past<'_> {
    /// Sequences begin at these positions, `i64[batch]`, and turns are counted from there.
    pub const fn begins(mut self, begins: Tensor) -> Self {
        self.begins = Some(begins);
        self
    }

    /// [`KvCache::extend`] behind those that live.
    #[track_caller]
    pub(super) fn extend(self, keys: Tensor, values: Tensor) -> (Tensor, Tensor) {
        self.cache.extend(keys, values, self.length)
    }

    /// Keys and values of those that live.
    #[track_caller]
    pub(super) fn read(self) -> (Tensor, Tensor) {
        let _scope = enter(self.cache, crate::SOURCES);
        let read = |buffer: &Buffer| buffer.get().narrow(POSITIONS, 0, self.length);
        (read(&self.cache.keys), read(&self.cache.values))
    }
}

impl KvCache {
    /// Room for so many positions, all zero.
    #[must_use]
    pub fn new(batch: usize, heads: usize, capacity: usize, width: usize, dtype: DType) -> Self {
        let zeros = || Buffer::new(Array::full([batch, heads, capacity, width], graver_ir::Scalar::zero(dtype)));
        Self { keys: zeros(), values: zeros() }
    }

    /// The most positions that it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.keys.value().shape()[POSITIONS]
    }

    /// The cache with so many positions that live: what attention goes on from.
    pub fn after(&self, length: impl Into<Size>) -> Past<'_> {
        Past { cache: self, length: length.into(), begins: None }
    }

    /// Puts `[batch, heads, t, width]` behind the first `past` positions, and gives all `past + t` of them, keys and values. More than there is
    /// room for is an error: of tracing where the sizes' ranges tell, else of the call.
    #[track_caller]
    pub fn extend(&self, keys: Tensor, values: Tensor, past: impl Into<Size>) -> (Tensor, Tensor) {
        let _scope = enter(self, crate::SOURCES);
        let past = past.into();
        let length = past + keys.dim(POSITIONS);
        let (keys, values) = self.put(keys, values, size_value(past));
        (keys.narrow(POSITIONS, 0, length), values.narrow(POSITIONS, 0, length))
    }

    /// As [`KvCache::extend`] where the number of positions so far is a value, which no size can follow: gives `[batch, heads, capacity, width]`,
    /// of which the caller masks what is not written.
    #[track_caller]
    pub fn extend_at(&self, keys: Tensor, values: Tensor, past: Tensor) -> (Tensor, Tensor) {
        let _scope = enter(self, crate::SOURCES);
        self.put(keys, values, past)
    }

    #[track_caller]
    fn put(&self, keys: Tensor, values: Tensor, at: Tensor) -> (Tensor, Tensor) {
        let put = |buffer: &Buffer, new: Tensor| {
            let all = buffer.get().replace_at(POSITIONS, at, new);
            buffer.set(all);
            all
        };
        (put(&self.keys, keys), put(&self.values, values))
    }
}
