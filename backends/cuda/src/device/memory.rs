//! Memory of a GPU, and memory of the host that a GPU copies from and to while other work goes on.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{CUresult, CUstream};
use graver_ir::{Diag, Error, Remote};

use super::Context;
use super::driver::{self, DriverError};
use super::fault::driver_error;
use super::pool::{Piece, rounded};

/// Memory of a GPU.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    pub(super) piece: Piece,
    bytes: usize,
    context: Arc<Context>,
}

impl DeviceMemory {
    /// Of so many bytes, taken from what lies idle or from the driver.
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        context.enter()?;
        let piece = match context.pool.take(rounded(bytes)) {
            Some(piece) => piece,
            None => allocate(context, bytes)?,
        };
        Ok(Self { piece, bytes, context: Arc::clone(context) })
    }

    /// Holding these bytes.
    pub(super) fn of(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, Error> {
        let memory = Self::new(context, bytes.len())?;
        if !bytes.is_empty() {
            // SAFETY: the memory has room for the bytes, and both are there until the copy was waited for.
            let copied = copy(context, |stream| unsafe { driver::enqueue_copy_in(memory.piece.pointer, bytes, stream) });
            copied.map_err(|error| driver_error("an array cannot be copied to the GPU", &error))?;
        }
        Ok(memory)
    }

    /// Holding what this holds.
    pub(super) fn duplicate(&self) -> Result<Self, Error> {
        let memory = Self::new(&self.context, self.bytes)?;
        if self.bytes > 0 {
            let (to, from) = (memory.piece.pointer, self.piece.pointer);
            // SAFETY: both have so many bytes, and are there until the copy was waited for; so was work over this one.
            let copied = copy(&self.context, |stream| unsafe { driver::enqueue_copy_within(to, from, self.bytes, stream) });
            copied.map_err(|error| driver_error("an array cannot be copied on the GPU", &error))?;
        }
        Ok(memory)
    }

    /// As many as were asked for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is of the same GPU.
    pub(super) fn is_of(&self, context: &Context) -> bool {
        self.context.primary.device == context.primary.device
    }
}

impl Remote for DeviceMemory {
    fn read(&self, to: &mut [u8]) -> Result<(), Diag> {
        if to.is_empty() {
            return Ok(());
        }
        self.context.enter()?;
        // SAFETY: the memory has as many bytes; work over it was waited for.
        let copied = unsafe { driver::copy_out(to, self.piece.pointer) };
        copied.map_err(|error| driver_error("an array cannot be copied from the GPU", &error))
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        self.context.leave();
        for piece in self.context.pool.keep(rounded(self.bytes), self.piece) {
            // SAFETY: it was allocated once; work over it was waited for. Nothing can be done about a driver that is gone.
            let _ = unsafe { driver::free(piece.pointer) };
        }
    }
}

/// A copy on the context's own stream, until it is done. The context is this thread's. The driver takes work for a stream from several
/// threads: some then wait for others' copies, too.
fn copy(context: &Context, enqueue: impl FnOnce(CUstream) -> Result<(), DriverError>) -> Result<(), DriverError> {
    enqueue(context.copies)?;
    // SAFETY: the stream lives as long as the context.
    unsafe { driver::wait(context.copies) }
}

/// From the driver. The context is this thread's.
fn allocate(context: &Context, bytes: usize) -> Result<Piece, Diag> {
    let pointer = context.making_room(|| driver::allocate(rounded(bytes)));
    pointer.map(Piece::new).map_err(|error| match (error.is(CUresult::CUDA_ERROR_OUT_OF_MEMORY), driver::memory()) {
        (true, Ok((left, whole))) => {
            Diag::new(format!("the GPU has no memory for {bytes} bytes: {left} of its {whole} are left"))
                .help("make the batch smaller, or let go of arrays and compiled programs that hold some")
        }
        _ => driver_error(&format!("no memory for {bytes} bytes on the GPU"), &error),
    })
}

/// At least so many bytes: more are allocated where there are fewer, and the old ones let go first.
pub(super) fn at_least<'a>(
    memory: &'a mut Option<DeviceMemory>,
    context: &Arc<Context>,
    bytes: usize,
) -> Result<&'a DeviceMemory, Error> {
    if memory.as_ref().is_none_or(|memory| rounded(memory.bytes) < bytes) {
        *memory = None;
    }
    match memory {
        Some(memory) => Ok(memory),
        None => Ok(memory.insert(DeviceMemory::new(context, bytes)?)),
    }
}

/// Pinned memory of the host.
#[derive(Debug)]
pub(super) struct HostMemory {
    pointer: *mut u8,
    /// What it is known by, besides its address.
    piece: Piece,
    len: usize,
    context: Arc<Context>,
}

// SAFETY: it is memory, owned.
unsafe impl Send for HostMemory {}

impl HostMemory {
    pub(super) fn new(context: &Arc<Context>, len: usize) -> Result<Self, Error> {
        context.enter()?;
        let pointer = context.making_room(|| driver::allocate_pinned(len.max(8)));
        let pointer = pointer.map_err(|error| driver_error(&format!("no pinned memory for {len} bytes"), &error))?.cast::<u8>();
        // SAFETY: as many bytes were allocated.
        unsafe { pointer.write_bytes(0, len.max(8)) };
        let piece = Piece::new(pointer.expose_provenance() as u64);
        Ok(Self { pointer, piece, len, context: Arc::clone(context) })
    }

    pub(super) fn piece(&self) -> Piece {
        self.piece
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
        self.context.leave();
        // SAFETY: it was allocated once; work over it was waited for.
        let _ = unsafe { driver::free_pinned(self.pointer.cast::<c_void>()) };
    }
}

/// As much on both sides.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) host: HostMemory,
    pub(super) device: DeviceMemory,
}

impl Mirror {
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, Error> {
        Ok(Self { host: HostMemory::new(context, bytes)?, device: DeviceMemory::new(context, bytes)? })
    }

    /// At least so many bytes, as [`at_least`].
    pub(super) fn at_least<'a>(
        mirror: &'a mut Option<Self>,
        context: &Arc<Context>,
        bytes: usize,
    ) -> Result<&'a mut Self, Error> {
        if mirror.as_ref().is_none_or(|mirror| mirror.host.bytes().len() < bytes) {
            *mirror = None;
        }
        match mirror {
            Some(mirror) => Ok(mirror),
            None => Ok(mirror.insert(Self::new(context, rounded(bytes))?)),
        }
    }
}
