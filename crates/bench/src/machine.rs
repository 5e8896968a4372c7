//! What this machine allows, measured now: multiply-adds of its vector units and bytes copied through its memory.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use graver::Isa;

/// Rates of all threads together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Operations a second, of which a multiply-add is two; 0 where it is not known how to ask.
    pub(crate) flops: f64,
    /// Bytes a second, read and written, of a copy that no cache holds.
    pub(crate) bytes: f64,
}

impl Limits {
    /// The least time for so much work.
    pub(crate) fn floor(self, flops: f64, bytes: f64) -> Duration {
        let of = |work: f64, rate: f64| if rate > 0.0 { work / rate } else { 0.0 };
        Duration::from_secs_f64(of(flops, self.flops).max(of(bytes, self.bytes)))
    }
}

/// The threads of the machine.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Measures them, a fifth of a second each.
pub(crate) fn limits(threads: usize, isa: Isa) -> Limits {
    Limits { flops: on_all(threads, || peak(isa)), bytes: on_all(threads, copied) }
}

/// The sum of what every thread finds at the same time.
fn on_all(threads: usize, rate: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(&rate)).collect();
        all.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum()
    })
}

/// The seconds of the fastest of many runs.
fn fastest(mut run: impl FnMut()) -> f64 {
    let (mut best, begin) = (f64::INFINITY, Instant::now());
    while begin.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// One thread's copy of 64 MiB.
fn copied() -> f64 {
    const WORDS: usize = 8 << 20;
    let from = vec![1u64; WORDS];
    let mut to = vec![0u64; WORDS];
    let seconds = fastest(|| {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
    });
    (2 * 8 * WORDS) as f64 / seconds
}

/// One thread's multiply-adds of `f32` at the level's width.
#[cfg(target_arch = "x86_64")]
fn peak(isa: Isa) -> f64 {
    const STEPS: u32 = 20_000;
    let (run, lanes): (unsafe fn(u32) -> f32, f64) = match isa {
        Isa::V4 => (fused_512, 16.0),
        // The baseline is judged by the same units: what it cannot use of them is its loss.
        Isa::V3 | Isa::Baseline if Isa::V3.is_available() => (fused_256, 8.0),
        Isa::V3 | Isa::Baseline => return 0.0,
    };
    // SAFETY: the machine has what the function uses: a level that it lacks was refused before.
    let seconds = fastest(|| _ = std::hint::black_box(unsafe { run(STEPS) }));
    f64::from(STEPS) * 12.0 * lanes * 2.0 / seconds
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_: Isa) -> f64 {
    0.0
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn fused_512(steps: u32) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (x, y) = (_mm512_set1_ps(std::hint::black_box(0.5)), _mm512_set1_ps(std::hint::black_box(0.25)));
    let mut sums = [y; 12];
    for _ in 0..steps {
        sums.iter_mut().for_each(|sum| *sum = _mm512_fmadd_ps(x, *sum, y));
    }
    sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fused_256(steps: u32) -> f32 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (x, y) = (_mm256_set1_ps(std::hint::black_box(0.5)), _mm256_set1_ps(std::hint::black_box(0.25)));
    let mut sums = [y; 12];
    for _ in 0..steps {
        sums.iter_mut().for_each(|sum| *sum = _mm256_fmadd_ps(x, *sum, y));
    }
    sums.into_iter().map(|sum| _mm256_cvtss_f32(sum)).sum()
}
