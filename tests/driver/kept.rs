//! Kernels to machine code: once for every text, by as many threads as there are, and not again while it is on disk as it was written.

use graver::prelude::*;

use crate::fake::{Cache, Driver, with_driver, with_environment};

/// Doubles a number on the GPU; how often NVRTC was called so far.
fn doubled(driver: &Driver, device: &Device) -> u64 {
    let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), device).expect("it is well typed");
    assert_eq!(double.call(&Array::full([1], Scalar::float(DType::F32, 1.0))).expect("it fits").to_f64(), [2.0]);
    driver.compilations()
}

#[test]
fn kernels_are_compiled_once_and_what_is_broken_again() {
    with_driver("kept::kernels_are_compiled_once_and_what_is_broken_again", Cache::Fresh, |driver| {
        let device = cuda(0).expect("there is a driver");
        let check = || doubled(driver, &device);
        assert_eq!([check(), check()], [1, 1]);
        let cubin = std::fs::read_dir(driver.cubins()).expect("it was made").next().expect("one was written");
        let path = cubin.expect("it can be read").path();
        let whole = std::fs::read(&path).expect("it can be read");
        // A number in the middle, which nobody else would miss: the file is as long as it was, and a module that the driver loads.
        let mut other = whole.clone();
        let at = other.windows(8).position(|bytes| bytes == b"fake_run").expect("it names its kernels") - 1;
        other[at] ^= 1;
        let cases = [&whole[..whole.len() / 2], &[], b"what is this?", &whole[..whole.len() - 1], &other];
        for (broken, compilations) in cases.into_iter().zip(2..) {
            std::fs::write(&path, broken).expect("it can be written");
            assert_eq!([check(), check()], [compilations; 2]);
        }
    });
}

/// What the driver refuses for another reason than the code, other code would not help.
#[test]
fn what_the_driver_does_not_take_for_what_it_is_is_compiled_again() {
    let test = "kept::what_the_driver_does_not_take_for_what_it_is_is_compiled_again";
    with_driver(test, Cache::Fresh, |driver| {
        let device = cuda(0).expect("there is a driver");
        let (out_of_memory, of_another_gpu) = (2, 209);
        assert_eq!(doubled(driver, &device), 1);
        driver.fail("cuModuleLoadData", 0, of_another_gpu);
        assert_eq!(doubled(driver, &device), 2);
        driver.fail_always("cuModuleLoadData", out_of_memory);
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &device);
        let error = double.expect_err("there is no room").to_string();
        assert!(error.contains("out of memory"), "{error}");
        assert_eq!(driver.compilations(), 2);
        driver.fail_always("cuModuleLoadData", 0);
    });
}

#[test]
fn nothing_is_kept_where_there_is_to_be_nothing() {
    let (test, none) = ("kept::nothing_is_kept_where_there_is_to_be_nothing", [("GRAVER_CUBIN_MIB", "0")]);
    with_environment(test, Cache::Fresh, &none, |driver| {
        let device = cuda(0).expect("there is a driver");
        assert_eq!([doubled(driver, &device), doubled(driver, &device)], [1, 2]);
        assert!(!driver.cubins().exists());
    });
}

#[test]
fn a_bound_that_is_no_number_is_told() {
    let (test, wrong) = ("kept::a_bound_that_is_no_number_is_told", [("GRAVER_CUBIN_MIB", "1 GiB")]);
    with_environment(test, Cache::Kept, &wrong, |_| {
        let error = cuda(0).expect_err("it is no number").to_string();
        assert!(
            error.contains("GRAVER_CUBIN_MIB is \"1 GiB\"; it says how many MiB of compiled kernels are kept, 1024"),
            "{error}"
        );
    });
}

/// As many MiB as there are, and no more: what was not used for longest is compiled again.
#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let (test, least) = ("kept::no_more_is_kept_than_there_is_room_for", [("GRAVER_CUBIN_MIB", "1")]);
    with_environment(test, Cache::Fresh, &least, |driver| {
        let device = cuda(0).expect("there is a driver");
        doubled(driver, &device);
        let own = std::fs::read_dir(driver.cubins()).expect("it was made").flatten().next().expect("one was written").path();
        let old = |name: &str, seconds: u64| {
            let path = driver.cubins().join(name);
            std::fs::write(&path, vec![0; 700 << 10]).expect("it can be written");
            let file = std::fs::File::options().append(true).open(&path).expect("it was written");
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(seconds)).expect("it is our own");
            path
        };
        let (older, newer) = (old("older", 20), old("newer", 10));
        compile(|x: Tensor| x * 3.0, spec::<f32>(["n"]), &device).expect("it is well typed");
        assert_eq!([older.exists(), newer.exists(), own.exists()], [false, true, true]);
    });
}

/// Kernels that are several only because their arguments have other sizes, of which no text says anything.
#[test]
fn kernels_of_one_text_are_compiled_once() {
    with_driver("kept::kernels_of_one_text_are_compiled_once", Cache::Fresh, |driver| {
        // More texts than one compilation has, twice.
        let heads = |xs: [Tensor; 20]| -> [Tensor; 20] { std::array::from_fn(|at| xs[at].narrow(0, 0, 8) + (at % 10) as f64) };
        let specs = std::array::from_fn(|at| spec::<f32>([16 + at]));
        let heads = compile(heads, specs, &cuda(0).expect("there is a driver")).expect("it is well typed");
        assert_eq!(heads.program().kernels.len(), 20);
        assert_eq!((driver.compilations(), driver.counts().modules_loaded), (2, 2));
        let ramps: [Array; 20] = std::array::from_fn(|at| {
            let ramp = (0u16..).take(16 + at).map(f32::from).collect();
            Array::from_vec([16 + at], ramp).expect("sizes agree")
        });
        let ys = heads.call(ramps.each_ref()).expect("it fits");
        for (at, y) in ys.iter().enumerate() {
            assert_eq!(y.to_f64(), (0..8).map(|x| (x + at % 10) as f64).collect::<Vec<f64>>(), "{at}");
        }
    });
}

/// What NVRTC is told besides makes other machine code.
#[test]
fn options_of_the_environment_are_nvrtcs() {
    let (test, lines) = ("kept::options_of_the_environment_are_nvrtcs", [("GRAVER_NVRTC_OPTIONS", " --generate-line-info  ")]);
    with_environment(test, Cache::Fresh, &lines, |driver| {
        let device = || cuda(0).expect("there is a driver");
        assert_eq!([doubled(driver, &device()), doubled(driver, &device())], [1, 1]);
        // SAFETY: no other thread of this process reads the environment now.
        unsafe { std::env::remove_var("GRAVER_NVRTC_OPTIONS") };
        assert_eq!([doubled(driver, &device()), doubled(driver, &device())], [2, 2]);
        // SAFETY: as above.
        unsafe { std::env::set_var("GRAVER_NVRTC_OPTIONS", "--generate-line-info --no-such-option") };
        let error = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &device()).expect_err("there is none").to_string();
        assert!(error.contains("--no-such-option"), "{error}");
    });
}
