//! What NVRTC makes of the names in `text/device.cuh`, and what its machine code is.

use graver_cuda::{Nvrtc, is_whole};

use crate::ARCHITECTURES;

/// Pairs of places in order, then others, then the first again: what a thread reads at the end others may have written.
const SWAPS: &str = "
GR_KERNEL(swaps, 32)(GR_IN(float) keys, OUT(i32) places) {
    const i32 t = gr_thread();
    const i32 a = places[2 * t], b = places[2 * t + 1];
    if (keys[b] < keys[a]) { places[2 * t] = b; places[2 * t + 1] = a; }
    gr_sync();
    if (t < 8) {
        const i32 x = places[4 * t], y = places[4 * t + 3];
        if (keys[y] < keys[x]) { places[4 * t] = y; places[4 * t + 3] = x; }
    }
    gr_sync();
    const i32 c = places[2 * t], d = places[2 * t + 1];
    if (keys[d] < keys[c]) { places[2 * t] = d; places[2 * t + 1] = c; }
}
";

/// Loads of places behind the last barrier: those of keys, which nobody writes, are marked.
fn loads_at_the_end(ptx: &str) -> usize {
    let (_, end) = ptx.rsplit_once("bar.sync").expect("it has barriers");
    end.lines().filter(|line| line.contains("ld.global.b32") || line.contains("ld.global.u32")).count()
}

/// What threads hand to one another by memory is loaded again behind a barrier. A pointer of which the compiler is told that nothing else leads
/// there is not, which is why there are two declarations.
#[test]
#[ignore = "NVRTC comes from backends/cuda/setup-nvrtc.sh"]
fn what_threads_exchange_by_memory_is_loaded_behind_barriers() {
    let nvrtc = Nvrtc::find().expect("NVRTC");
    for architecture in ARCHITECTURES {
        let loads = |declaration: &str| {
            let kernels = SWAPS.replace("OUT(i32)", declaration);
            loads_at_the_end(&nvrtc.compile_kernels(&kernels, architecture).expect("it compiles").ptx)
        };
        assert_eq!(loads("GR_EXCHANGE(i32)"), 2, "{architecture}");
        assert!(loads("GR_OUT(i32)") < 2, "{architecture}: both declarations are alike");
    }
}

#[test]
#[ignore = "NVRTC comes from backends/cuda/setup-nvrtc.sh"]
fn machine_code_is_known_to_be_whole_by_its_end() {
    let nvrtc = Nvrtc::find().expect("NVRTC");
    for architecture in ARCHITECTURES {
        let cubin = nvrtc.compile_kernels(&SWAPS.replace("OUT", "GR_OUT"), architecture).expect("it compiles").cubin;
        assert!(is_whole(&cubin), "{architecture}: {} bytes", cubin.len());
        for less in [1, 8, 300, cubin.len() / 2, cubin.len() - 4, cubin.len()] {
            assert!(!is_whole(&cubin[..cubin.len() - less]), "{architecture}: without {less} of {} bytes", cubin.len());
        }
    }
}
