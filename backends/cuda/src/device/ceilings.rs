//! What a GPU does in kernels of nothing else, measured: bytes that it copies, products and sums that it makes. Times of programs are told
//! beside these.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graver_ir::Error;

use super::Context;
use super::compile::load;
use super::driver::{self, DriverError};
use super::fault::driver_error;
use super::memory::DeviceMemory;
use super::space::Stream;
use crate::nvrtc::Nvrtc;
use crate::text::device_prelude;

/// Bytes of one copy.
const COPY: usize = 1 << 30;
/// Threads of a block, blocks of a multiprocessor, rounds of a loop, and multiplications in a round by a thread (`f32`) or a warp (tensor
/// instructions, each 16 x 8 x 16).
const THREADS: u32 = 256;
const BLOCKS: usize = 8;
const ROUNDS: u32 = 4096;
const CHAINS: usize = 8;
/// A measurement is the best of so many.
const REPEATS: usize = 10;

/// Kernels that do nothing but multiply and add, in chains that do not wait for one another.
const TEXT: &str = "
GR_KERNEL(gr_ceiling_f32, 256)(float* out, u32 rounds) {
    float sum[8];
    for (i32 i = 0; i < 8; i++) sum[i] = (float)(gr_thread() + i);
    for (u32 round = 0; round < rounds; round++) {
        GR_UNROLL
        for (i32 i = 0; i < 8; i++) sum[i] = gr_fma(sum[i], 0.999f, 1e-3f);
    }
    float all = 0.0f;
    for (i32 i = 0; i < 8; i++) all += sum[i];
    if (all == 1234.5f) out[gr_block()] = all;
}
GR_KERNEL(gr_ceiling_bf16, 256)(float* out, u32 rounds) {
    float sum[8][4] = {};
    const u32 one = 0x3f803f80u, a[4] = {one, one, one, one}, b[2] = {one, one};
    for (u32 round = 0; round < rounds; round++) {
        GR_UNROLL
        for (i32 i = 0; i < 8; i++) gr_mma_bf16(sum[i], a, b);
    }
    float all = 0.0f;
    for (i32 i = 0; i < 8; i++) all += sum[i][0] + sum[i][1] + sum[i][2] + sum[i][3];
    if (all == 1234.5f) out[gr_block()] = all;
}
";

/// Measured rates of copying within the GPU, and of kernels that do nothing but multiply and add. They are no bounds of the machine: what fits its
/// caches is read faster, and a Hopper multiplies 16-bit floats faster by `wgmma`, which no kernel here uses, than by `mma.sync`.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Bytes a second, read and written.
    pub copied: f64,
    /// Operations a second in `f32`, a multiplication and an addition being two.
    pub f32_operations: f64,
    /// The same by tensor instructions of `bf16` (`mma.sync`), summed in `f32`.
    pub bf16_operations: f64,
}

/// What stands before these kernels and they: for NVRTC.
pub(crate) fn text() -> String {
    device_prelude() + TEXT
}

impl Ceilings {
    pub(super) fn measure(context: &Arc<Context>, nvrtc: &Nvrtc, shrink: u32) -> Result<Self, Error> {
        context.enter()?;
        let shrink = shrink.max(1);
        let (bytes, rounds) = ((COPY / shrink as usize).max(1), (ROUNDS / shrink).max(1));
        let failed = |error: DriverError| driver_error("the GPU's ceilings cannot be measured", &error);
        let (from, to) = (DeviceMemory::new(context, bytes)?, DeviceMemory::new(context, bytes)?);
        let stream = Stream::new(context)?;
        let copy = best(&stream, || {
            // SAFETY: both have so many bytes, and live until the stream was waited for.
            unsafe { driver::enqueue_copy_within(to.piece.pointer, from.piece.pointer, bytes, stream.handle) }
        });
        let module = load(&nvrtc.compile(&text(), &context.architecture)?.cubin, context)?;
        let multiply = |name: &str| {
            // SAFETY: the module is loaded.
            let handle = unsafe { driver::function(module.handle(), name) }.map_err(failed)?;
            let blocks = u32::try_from(context.processors * BLOCKS).unwrap_or(u32::MAX);
            best(&stream, || {
                let (mut out, mut rounds) = (to.piece.pointer, rounds);
                let mut parameters: [*mut c_void; 2] = [(&raw mut out).cast(), (&raw mut rounds).cast()];
                // SAFETY: the parameters are those that the kernels declare; a block writes its own element at most.
                unsafe { driver::launch(handle, (blocks, THREADS, 0), stream.handle, &mut parameters) }
            })
            .map_err(failed)
        };
        let threads = (context.processors * BLOCKS) as f64 * f64::from(THREADS);
        let chained = f64::from(rounds) * CHAINS as f64;
        let (single, tensor) = (multiply("gr_ceiling_f32")?, multiply("gr_ceiling_bf16")?);
        Ok(Self {
            copied: 2.0 * bytes as f64 / copy.map_err(failed)?.as_secs_f64(),
            f32_operations: 2.0 * threads * chained / single.as_secs_f64(),
            bf16_operations: 2.0 * threads / 32.0 * chained * 16.0 * 8.0 * 16.0 / tensor.as_secs_f64(),
        })
    }
}

/// The least time that work on a stream takes until the GPU has done it.
fn best(stream: &Stream, mut work: impl FnMut() -> Result<(), DriverError>) -> Result<Duration, DriverError> {
    let mut least = Duration::MAX;
    for _ in 0..REPEATS {
        stream.wait()?;
        let start = Instant::now();
        work()?;
        stream.wait()?;
        least = least.min(start.elapsed());
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_compile_where_there_is_nvrtc() {
        let Ok(nvrtc) = crate::nvrtc::Nvrtc::find() else { return };
        for architecture in ["sm_80", "sm_90a", "sm_100"] {
            let compiled = nvrtc.compile(&super::text(), architecture).expect("it compiles");
            assert!(compiled.ptx.contains("mma.sync") && compiled.ptx.contains("fma.rn.f32"), "{architecture}");
        }
    }
}
