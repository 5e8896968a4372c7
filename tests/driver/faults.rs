//! Kernels that stop the GPU: what the user is told, of the call and of whatever comes later.

use graver::prelude::*;

use crate::fake::{Cache, Driver, with_environment};

/// Of the program of [`third_call_faults`].
const LINE: u32 = line!() + 5;

/// A call of a few kernels, whose second stops the GPU when the call comes for the third time: what is told, and what was compiled.
fn third_call_faults(driver: &Driver) -> (String, Compiled<graver::trace::TensorSpec, Tensor>, Array) {
    // The second kernel is the sum's.
    let program = |x: Tensor| (x.softmax(-1).cumsum(0) * x.sum(0)).matmul(x.t());
    let program = compile(program, spec::<f32>(("n", 4)), &cuda(0).expect("there is a driver")).expect("it is well typed");
    let x = Array::from_vec([3, 4], vec![0.5f32; 12]).expect("sizes agree");
    let kept = program.call(&x).expect("it fits");
    assert_eq!(program.call(&x).expect("it fits").to_f64(), kept.to_f64());
    let kept = program.call(&x).expect("it fits");
    driver.fault(1);
    (program.call(&x).expect_err("its second kernel faults").to_string(), program, kept)
}

#[test]
fn a_fault_names_the_entry_and_how_to_learn_more() {
    with_environment("faults::a_fault_names_the_entry_and_how_to_learn_more", Cache::Kept, &[], |driver| {
        let other = cuda(0).expect("there is a driver");
        let (error, program, kept) = third_call_faults(driver);
        println!("{error}");
        let told = ["entry `main` failed on the GPU in one of its kernels, ", "faults.rs:", "CUDA_ERROR_ILLEGAL_ADDRESS"];
        let told = told.iter().chain(&["CUDA_LAUNCH_BLOCKING=1", "this process cannot use it any more"]);
        told.for_each(|what| assert!(error.contains(what), "{what}: {error}"));
        assert!(program.kernels().iter().all(|kernel| error.contains(&kernel.name)), "{error}");
        // Nothing is a panic afterwards, and everything says what came first.
        let x = Array::from_vec([3, 4], vec![0.5f32; 12]).expect("sizes agree");
        let double = |device: Device| compile(|x: Tensor| x * 2.0, spec::<f32>(("n", 4)), &device)?.call(&x).map(drop);
        let later = [program.call(&x).map(drop), kept.fetch().map(drop).map_err(Error::from)];
        // Also to whoever asked for the GPU apart from that, before or after.
        let later = later.into_iter().chain([double(other), cuda(0).and_then(double)]);
        for error in later.map(|later| later.expect_err("the GPU is gone").to_string()) {
            assert!(error.contains("the GPU was stopped before: entry `main` failed on the GPU in one of its"), "{error}");
        }
    });
}

#[test]
fn a_fault_names_the_kernel_where_launches_are_waited_for() {
    let variables = [("CUDA_LAUNCH_BLOCKING", "1")];
    with_environment("faults::a_fault_names_the_kernel_where_launches_are_waited_for", Cache::Kept, &variables, |driver| {
        let (error, ..) = third_call_faults(driver);
        println!("{error}");
        let told = format!("faults.rs:{LINE}:60: kernel sum failed on the GPU: an illegal memory access was encountered");
        assert!(error.contains(&told), "{error}");
        assert!(!error.contains("CUDA_LAUNCH_BLOCKING"), "{error}");
        assert_eq!(driver.counts().captures, 0);
    });
}

/// What a launch is refused for may be an earlier one's fault.
#[test]
fn a_launch_is_not_blamed_for_a_fault_before_it() {
    with_environment("faults::a_launch_is_not_blamed_for_a_fault_before_it", Cache::Kept, &[], |driver| {
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &cuda(0).expect("there is a driver"));
        let (double, x) = (double.expect("it is well typed"), Array::from_vec([1], vec![1.0f32]).expect("sizes agree"));
        // A failed launch; an error of memory that was not corrected, and an MPS client that was ended, which are no kernel's.
        for (code, of_a_kernel) in [(719, true), (214, false), (810, false)] {
            driver.fail("cuLaunchKernel", 0, code);
            let error = double.call(&x).expect_err("it is refused").to_string();
            assert_eq!(error.contains("a kernel that was launched before has stopped the GPU"), of_a_kernel, "{code}: {error}");
            assert!(error.contains("this process cannot use it any more"), "{code}: {error}");
        }
        // A wait that fails otherwise is no end.
        driver.fail("cuStreamSynchronize", 0, 999);
        let error = double.call(&x).expect_err("it is refused").to_string();
        assert!(error.contains("in its kernel ") && error.contains("CUDA_LAUNCH_BLOCKING=1"), "{error}");
        assert!(!error.contains("cannot use it any more"), "{error}");
        assert_eq!(double.call(&x).expect("it fits").to_f64(), [2.0]);
    });
}
