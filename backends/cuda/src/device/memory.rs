//! Memory of a GPU, and memory of the host that a GPU copies from and to while other work goes on.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{result, sys};
use graver_ir::{Error, Remote};

use super::{Context, driver_error};

/// Memory of a GPU.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    pub(super) pointer: sys::CUdeviceptr,
    bytes: usize,
    context: Arc<Context>,
}

impl DeviceMemory {
    /// At least so many bytes; none are taken as some, so that the address is one.
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        context.enter()?;
        // SAFETY: what is in it is not read before it is written.
        let pointer = unsafe { result::malloc_sync(bytes.max(256)) };
        let pointer = pointer.map_err(|error| driver_error(&format!("no memory for {bytes} bytes on the GPU"), &error))?;
        Ok(Self { pointer, bytes, context: Arc::clone(context) })
    }

    /// Holding these bytes.
    pub(super) fn of(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, Error> {
        let memory = Self::new(context, bytes.len())?;
        if !bytes.is_empty() {
            let failed = |error| driver_error("an array cannot be copied to the GPU", &error);
            // SAFETY: the memory has room for the bytes, which are copied before the call returns.
            unsafe { result::memcpy_htod_sync(memory.pointer, bytes) }.map_err(failed)?;
            // Streams of entries do not wait for copies from memory that is not pinned.
            result::ctx::synchronize().map_err(failed)?;
        }
        Ok(memory)
    }

    /// Holding what this holds.
    pub(super) fn duplicate(&self) -> Result<Self, Error> {
        let memory = Self::new(&self.context, self.bytes)?;
        if self.bytes > 0 {
            let failed = |error| driver_error("an array cannot be copied on the GPU", &error);
            // SAFETY: both have so many bytes; work over this one was waited for.
            unsafe { result::memcpy_dtod_sync(memory.pointer, self.pointer, self.bytes) }.map_err(failed)?;
            result::ctx::synchronize().map_err(failed)?;
        }
        Ok(memory)
    }

    /// As many as were asked for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is of the same GPU.
    pub(super) fn is_of(&self, context: &Context) -> bool {
        self.context.device == context.device
    }
}

impl Remote for DeviceMemory {
    fn read(&self, to: &mut [u8]) {
        if to.is_empty() {
            return;
        }
        let copied = self.context.enter().and_then(|()| {
            // SAFETY: the memory has as many bytes; work over it was waited for.
            let copied = unsafe { result::memcpy_dtoh_sync(to, self.pointer) };
            copied.map_err(|error| driver_error("an array cannot be copied from the GPU", &error))
        });
        copied.unwrap_or_else(|error| panic!("{error}: the GPU is gone, and what it held with it"));
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // Nothing can be done about a driver that is gone.
        if self.context.enter().is_ok() {
            // SAFETY: it was allocated once; work over it was waited for.
            let _ = unsafe { result::free_sync(self.pointer) };
        }
    }
}

/// Pinned memory of the host.
#[derive(Debug)]
pub(super) struct HostMemory {
    pointer: *mut u8,
    len: usize,
    context: Arc<Context>,
}

// SAFETY: it is memory, owned.
unsafe impl Send for HostMemory {}

impl HostMemory {
    pub(super) fn new(context: &Arc<Context>, len: usize) -> Result<Self, Error> {
        context.enter()?;
        // SAFETY: the memory is written below before it is read.
        let pointer = unsafe { result::malloc_host(len.max(8), 0) };
        let pointer = pointer.map_err(|error| driver_error(&format!("no pinned memory for {len} bytes"), &error))?.cast::<u8>();
        // SAFETY: as many bytes were allocated.
        unsafe { pointer.write_bytes(0, len.max(8)) };
        Ok(Self { pointer, len, context: Arc::clone(context) })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is owned and initialised; the GPU does not write it outside of a call, which is waited for.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.len) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: it was allocated once; work over it was waited for.
            let _ = unsafe { result::free_host(self.pointer.cast::<c_void>()) };
        }
    }
}
