//! Two GPUs: each has memory, streams and kernels of its own, and what is on one goes to the other by way of the host.

use graver::prelude::*;
use graver::trace::named_slot;

use crate::fake::{Cache, Driver, with_driver};

/// Both.
fn gpus(driver: &Driver) -> [Device; 2] {
    driver.gpus(2);
    [0, 1].map(|number| cuda(number).expect("there are two"))
}

#[test]
fn results_of_one_are_inputs_of_the_other() {
    with_driver("devices::results_of_one_are_inputs_of_the_other", Cache::Kept, |driver| {
        let next = |x: Tensor| x * 2.0 + 1.0;
        let programs = gpus(driver).map(|gpu| compile(next, spec::<f32>(["n"]), &gpu).expect("it is well typed"));
        for len in [3, 40_000] {
            let before = driver.counts();
            let mut x = Array::full([len], Scalar::float(DType::F32, 0.0));
            for turn in 1..=8 {
                for program in &programs {
                    x = program.call(&x).expect("it fits");
                }
                // 1, 3, 7 ..: twice a turn.
                assert_eq!(x.to_f64(), vec![f64::from((1u32 << (2 * turn)) - 1); len], "{turn}");
            }
            let after = driver.counts();
            // What is small is where it was, and recorded by each of them.
            if len == 3 {
                assert_eq!((after.captures - before.captures, after.replays - before.replays), (2, 14));
            }
            // In, and the status word and the result out, of each; a result is read once, here or for the other.
            assert_eq!((after.copied_in - before.copied_in, after.copied_out - before.copied_out), (16, 32));
        }
    });
}

#[test]
fn a_state_goes_from_one_to_the_other() {
    with_driver("devices::a_state_goes_from_one_to_the_other", Cache::Kept, |driver| {
        let adding = |gpu: Device| {
            let adding = graver::trace::step(spec::<f32>([2]), |x: Tensor| {
                let sum = named_slot("sum", || Array::full([2], Scalar::zero(DType::F32)));
                sum.set(sum.get() + x);
                x
            });
            adding.compile(&gpu).expect("it is well typed")
        };
        let [first, second] = gpus(driver).map(adding);
        let (x, mut steps) = (Array::full([2], Scalar::float(DType::F32, 1.0)), [first, second]);
        for turn in 0..6 {
            let [one, other] = &mut steps;
            let (from, to) = if turn % 2 == 0 { (one, other) } else { (other, one) };
            from.run(&x).expect("it fits");
            from.run(&x).expect("it fits");
            let sum = from.state().at("optim.sum").expect("it is there").clone();
            assert_eq!(sum.to_f64(), [f64::from(2 * (turn + 1)); 2]);
            to.state_mut().set("optim.sum", sum).expect("it is of the type");
        }
    });
}

/// A GPU that is stopped takes with it what it has, and the other works on.
#[test]
fn what_is_on_a_gpu_that_was_stopped_cannot_be_given_to_the_other() {
    let test = "devices::what_is_on_a_gpu_that_was_stopped_cannot_be_given_to_the_other";
    crate::fake::in_a_process(test, Cache::Kept, |driver| {
        let programs = gpus(driver).map(|gpu| compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &gpu).expect("it is well typed"));
        let [first, second] = &programs;
        let x = Array::full([3], Scalar::float(DType::F32, 1.0));
        let (lost, kept) = (first.call(&x).expect("it fits"), second.call(&x).expect("it fits"));
        driver.fault(0);
        first.call(&x).expect_err("its kernel faults");
        let error = second.call(&lost).expect_err("nobody knows it").to_string();
        assert!(error.contains("the GPU was stopped before"), "{error}");
        assert_eq!(second.call(&kept).expect("it fits").to_f64(), [4.0; 3]);
        let error = first.call(&kept).expect_err("it was stopped").to_string();
        assert!(error.contains("the GPU was stopped before"), "{error}");
        assert_eq!(cuda(2).expect_err("there are two").to_string(), "there is no GPU 2: the CUDA driver sees 2");
    });
}
