//! Memory of a GPU, and memory of the host that a GPU copies from and to while other work goes on.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{result, sys};
use graver_ir::Error;

use super::{Context, driver_error};

/// Memory of a GPU.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    pub(super) pointer: sys::CUdeviceptr,
    context: Arc<Context>,
}

impl DeviceMemory {
    /// At least so many bytes; none are taken as some, so that the address is one.
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        context.enter()?;
        // SAFETY: what is in it is not read before it is written.
        let pointer = unsafe { result::malloc_sync(bytes.max(256)) };
        let pointer = pointer.map_err(|error| driver_error(&format!("no memory for {bytes} bytes on the GPU"), &error))?;
        Ok(Self { pointer, context: Arc::clone(context) })
    }

    /// Holding these bytes.
    pub(super) fn of(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, Error> {
        let memory = Self::new(context, bytes.len())?;
        if !bytes.is_empty() {
            // SAFETY: the memory has room for the bytes, and the call returns when they are copied.
            let copied = unsafe { result::memcpy_htod_sync(memory.pointer, bytes) };
            copied.map_err(|error| driver_error("constants cannot be copied to the GPU", &error))?;
        }
        Ok(memory)
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
