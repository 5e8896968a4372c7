//! Memory that lies idle is everybody's who uses the GPU, whatever the GPU is short of it for.

use graver::prelude::*;

use crate::fake::{Cache, with_driver};

const OUT_OF_MEMORY: i32 = 2;

fn gpu() -> Device {
    cuda(0).expect("there is a driver")
}

/// The outer sum of a vector with itself: `len * len` elements.
fn outer(device: &Device) -> Compiled<graver::trace::TensorSpec, Tensor> {
    compile(|x: Tensor| x.unsqueeze(0) + x.unsqueeze(1), spec::<f32>(["n"]), device).expect("it is well typed")
}

fn call(outer: &Compiled<graver::trace::TensorSpec, Tensor>, len: usize) {
    let x = Array::full([len], Scalar::float(DType::F32, 1.0));
    assert_eq!(outer.call(&x).expect("there is memory").to_f64(), vec![2.0; len * len]);
}

#[test]
fn a_gpu_that_is_asked_for_twice_has_one_store_of_idle_memory() {
    with_driver("memory::a_gpu_that_is_asked_for_twice_has_one_store_of_idle_memory", Cache::Kept, |driver| {
        let (first, second) = (outer(&gpu()), outer(&gpu()));
        [&first, &second].into_iter().for_each(|outer| call(outer, 10));
        call(&first, 1000);
        // What one has let go of the other takes.
        let before = driver.counts().live.bytes;
        call(&second, 1010);
        let more = driver.counts().live.bytes - before;
        assert!(more < 100_000, "{more} bytes, which its input is not");
        // And where it is of another size it is given back.
        driver.limit(driver.counts().live.bytes + (1 << 20));
        call(&second, 1100);
        call(&first, 1000);
        // A GPU that nobody uses is let go of, and may be asked for again.
        drop((first, second));
        assert_eq!(driver.counts().live.contexts, 0);
        call(&outer(&gpu()), 900);
    });
}

/// What the driver has no memory for, once, is there when what lies idle was given back.
#[test]
fn idle_memory_is_given_back_for_whatever_needs_some() {
    with_driver("memory::idle_memory_is_given_back_for_whatever_needs_some", Cache::Kept, |driver| {
        let device = gpu();
        for function in [
            "cuMemAlloc_v2",
            "cuMemHostAlloc",
            "cuStreamCreate",
            "cuModuleLoadData",
            "cuModuleGetFunction",
            "cuLaunchKernel",
            "cuGraphInstantiateWithFlags",
            "cuGraphLaunch",
        ] {
            call(&outer(&device), 1000);
            let idle = driver.counts().live.bytes;
            assert!(idle > 4_000_000, "{idle}");
            let loads = driver.counts().modules_loaded;
            driver.fail(function, 0, OUT_OF_MEMORY);
            // Compiled, launched as it comes, recorded and replayed.
            let known = outer(&device);
            (0..4).for_each(|_| call(&known, 10));
            assert_eq!(driver.failures(), 0, "{function} is not called");
            let left = driver.counts().live.bytes;
            assert!(left + 4_000_000 <= idle, "{function}: {left} of {idle} bytes");
            assert_eq!(driver.counts().modules_loaded - loads, 1, "{function}");
        }
    });
}

/// What is refused again is told.
#[test]
fn what_there_is_no_memory_for_is_told() {
    with_driver("memory::what_there_is_no_memory_for_is_told", Cache::Kept, |driver| {
        let device = gpu();
        for (function, what) in [
            ("cuStreamCreate", "the GPU gives no stream: out of memory"),
            ("cuModuleLoadData", "kernels cannot be loaded on the GPU: out of memory"),
            ("cuLaunchKernel", "cannot be launched: out of memory"),
        ] {
            driver.fail_always(function, OUT_OF_MEMORY);
            let error = told(&device).expect_err("there is none").to_string();
            assert!(error.contains(what), "{function}: {error}");
            driver.fail(function, 0, 0);
            call(&outer(&device), 10);
        }
    });
}

fn told(device: &Device) -> Result<(), Error> {
    let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), device)?;
    double.call(&Array::full([3], Scalar::float(DType::F32, 1.0))).map(drop)
}
