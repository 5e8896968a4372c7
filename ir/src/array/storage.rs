//! Where an array's elements are: in memory of the host, in memory of a device, or in both, alike. They go from one to the other
//! when they are asked for; whoever writes them on one side makes the other side forget them.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use super::Data;
use crate::dtype::DType;
use crate::error::Diag;

/// Memory of a device that holds an array's elements, where the host cannot read them.
pub trait Remote: Any + fmt::Debug + Send + Sync {
    /// Copies the elements, as many bytes as they are, in the machine's order.
    ///
    /// # Errors
    /// If the device cannot give them: why, in its own words.
    fn read(&self, to: &mut [u8]) -> Result<(), Diag>;
}

/// The elements of an array. At least one side has them.
#[derive(Debug)]
pub(super) struct Storage {
    dtype: DType,
    numel: usize,
    host: OnceLock<Data>,
    remote: OnceLock<Box<dyn Remote>>,
}

impl Storage {
    /// Elements of a device.
    pub(super) fn remote_only(dtype: DType, numel: usize, remote: Box<dyn Remote>) -> Self {
        Self { dtype, numel, host: OnceLock::new(), remote: OnceLock::from(remote) }
    }

    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(super) fn numel(&self) -> usize {
        self.numel
    }

    /// The host's elements, copied from the device where only that has them.
    ///
    /// # Panics
    /// If the device cannot give them: [`Storage::fetch`] says so instead.
    #[inline]
    pub(super) fn host(&self) -> &Data {
        self.host.get().unwrap_or_else(|| {
            let told = |diag| panic!("elements that nobody fetched can be read: {diag}; `Array::fetch` gives this as an error");
            self.fetch().unwrap_or_else(told)
        })
    }

    /// The same, or why the device cannot give them.
    pub(super) fn fetch(&self) -> Result<&Data, Diag> {
        if let Some(data) = self.host.get() {
            return Ok(data);
        }
        let Some(mut data) = Data::zeroed(self.dtype, self.numel) else {
            return Err(Diag::new(format!("the host has no memory for {} elements {} of a device", self.numel, self.dtype)));
        };
        self.remote.get().expect("one side has the elements").read(data.bytes_mut())?;
        // Of two threads that fetch at once either has the elements.
        Ok(self.host.get_or_init(|| data))
    }

    /// The host's elements for writing: the device's are forgotten.
    pub(super) fn host_mut(&mut self) -> &mut Data {
        self.host();
        self.remote.take();
        self.host.get_mut().expect("fetched above")
    }

    /// What is lent of the host's elements need not stay in memory.
    pub(super) fn release(&self) {
        self.host.get().into_iter().for_each(Data::release);
    }

    pub(super) fn has_host(&self) -> bool {
        self.host.get().is_some()
    }

    pub(super) fn remote(&self) -> Option<&dyn Remote> {
        self.remote.get().map(Box::as_ref)
    }

    /// Remembers a device's copy, unless one is known.
    pub(super) fn set_remote(&self, remote: Box<dyn Remote>) {
        // Of two that are set at once either is right, and the other is let go.
        drop(self.remote.set(remote));
    }

    /// Forgets the host's elements, where a device has others.
    pub(super) fn forget_host(&mut self) {
        if self.remote.get().is_some() {
            self.host.take();
        }
    }
}

impl From<Data> for Storage {
    fn from(data: Data) -> Self {
        Self { dtype: data.dtype(), numel: data.len(), host: OnceLock::from(data), remote: OnceLock::new() }
    }
}

impl Clone for Storage {
    /// To be written to by the host.
    fn clone(&self) -> Self {
        Self::from(self.host().clone())
    }
}

impl PartialEq for Storage {
    fn eq(&self, other: &Self) -> bool {
        self.host() == other.host()
    }
}

impl Eq for Storage {}

impl Hash for Storage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host().hash(state);
    }
}
