//! What a call copies, records and replays.

use std::sync::Arc;

use graver::prelude::*;
use graver::runtime::Backend;
use graver_conformance::calls;
use graver_cuda::Cuda;

use crate::errors::ask_all;
use crate::fake::{Counts, Driver, in_a_process};
use crate::planted::while_a_stream_records;
use crate::{Cache, with_driver};

fn gpu() -> Device {
    cuda(0).expect("there is a driver")
}

fn ramp(len: usize) -> Array {
    Array::from_vec([len], (0u16..).take(len).map(f32::from).collect()).expect("sizes agree")
}

/// What work does to some counts.
fn change<const N: usize>(driver: &Driver, of: impl Fn(&Counts) -> [u64; N], work: impl FnOnce()) -> [u64; N] {
    let before = of(&driver.counts());
    work();
    let after = of(&driver.counts());
    std::array::from_fn(|place| after[place] - before[place])
}

/// In, within, out; the status word of a call goes out.
fn copies(counts: &Counts) -> [u64; 3] {
    [counts.copied_in, counts.copied_within, counts.copied_out]
}

fn graphs(counts: &Counts) -> [u64; 2] {
    [counts.captures, counts.replays]
}

#[test]
fn sizes_are_recorded_when_they_come_again() {
    with_driver("calls::sizes_are_recorded_when_they_come_again", Cache::Kept, |driver| {
        let double = compile(|x: Tensor| x * 2.0 + 1.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        let call = |len: usize| {
            let y = double.call(&ramp(len)).expect("it fits");
            assert!(y.to_f64().iter().enumerate().all(|(at, y)| *y == 2.0 * at as f64 + 1.0), "{y:?}");
        };
        // There is memory for all that follows, so that it stays where it is.
        call(300);
        // A text that grows.
        assert_eq!(change(driver, graphs, || (1..40).for_each(call)), [0, 0]);
        assert_eq!(change(driver, graphs, || call(39)), [1, 1]);
        assert_eq!(change(driver, graphs, || (0..3).for_each(|_| call(39))), [0, 3]);
        // Eight sizes are remembered, the latest.
        assert_eq!(change(driver, graphs, || (100..107).for_each(call)), [0, 0]);
        assert_eq!(change(driver, graphs, || call(39)), [0, 1]);
        assert_eq!(change(driver, graphs, || (200..208).for_each(call)), [0, 0]);
        assert_eq!(change(driver, graphs, || (call(39), call(207)).1), [1, 1]);
        assert!(driver.counts().live.graphs <= 8, "graphs are let go of");
    });
}

/// A call of which the driver makes no graph runs launch by launch, and is not recorded again.
#[test]
fn a_graph_that_cannot_be_made_ends_nothing() {
    with_driver("calls::a_graph_that_cannot_be_made_ends_nothing", Cache::Kept, |driver| {
        // Captures that are made, and calls that fail: a graph is there when its launch is refused.
        for (function, captures, told) in [
            ("cuGraphInstantiateWithFlags", 1, 0),
            ("cuStreamBeginCapture_v2", 0, 0),
            ("cuStreamEndCapture", 0, 0),
            ("cuGraphLaunch", 1, 1),
        ] {
            let double = compile(|x: Tensor| x * 2.0 + 1.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
            let call =
                |len: usize| double.call(&ramp(len)).map(|y| assert_eq!(y.to_f64()[len - 1], 2.0 * (len - 1) as f64 + 1.0));
            call(9).expect("nothing fails");
            driver.fail_always(function, 2);
            let mut failed = 0;
            let work = || failed = (0..7).filter(|_| call(5).is_err()).count();
            assert_eq!(change(driver, graphs, work), [captures, 0], "{function}");
            assert_eq!(failed, told, "{function}");
            driver.fail(function, 0, 0);
            // Whoever looks at the program sees why it is slow.
            let why = "launched one by one: a call cannot be recorded for the GPU: out of memory (CUDA_ERROR_OUT_OF_MEMORY)";
            assert_eq!(format!("{double:?}").contains(why), told == 0, "{function}: {double:?}");
            assert_eq!(change(driver, graphs, || (0..3).for_each(|_| call(5).expect("nothing fails"))), [0, 0], "{function}");
            // Other sizes are another matter.
            assert_eq!(change(driver, graphs, || (0..3).for_each(|_| call(6).expect("nothing fails"))), [1, 2], "{function}");
        }
    });
}

/// A graph takes memory of the GPU: what lies idle is given back before there is none.
#[test]
fn idle_memory_is_given_back_for_a_graph() {
    with_driver("calls::idle_memory_is_given_back_for_a_graph", Cache::Kept, |driver| {
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        let call = |len: usize| assert_eq!(double.call(&ramp(len)).expect("nothing fails").to_f64()[1], 2.0);
        [1000, 5].into_iter().for_each(call);
        driver.fail("cuGraphInstantiateWithFlags", 0, 2);
        let before = driver.counts().live.bytes;
        assert_eq!(change(driver, graphs, || call(5)), [1, 1]);
        assert!(driver.counts().live.bytes + 4000 <= before, "{} of {before} bytes", driver.counts().live.bytes);
        assert_eq!(driver.failures(), 0);
    });
}

/// Graphs are of memory, not of addresses: a GPU's memory that was let go of may be given out again where it was, and what was recorded over it
/// is not over that.
#[test]
fn graphs_are_not_replayed_over_other_memory_at_their_places() {
    with_driver("calls::graphs_are_not_replayed_over_other_memory_at_their_places", Cache::Kept, |driver| {
        // All that grows with its input is the copy of that.
        let first = compile(|x: Tensor| x.narrow(0, 0, 1) + 1.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        let call = |len: usize| assert_eq!(first.call(&ramp(len)).expect("nothing fails").to_f64(), [1.0]);
        (0..3).for_each(|_| call(5));
        // Where there is no memory for a larger one, what lies idle, as the smaller one, is given back before it is found.
        driver.fail("cuMemAlloc_v2", 0, 2);
        call(1000);
        assert_eq!(driver.failures(), 0);
        assert_eq!(change(driver, graphs, || call(5)), [0, 0]);
        assert_eq!(change(driver, graphs, || (0..2).for_each(|_| call(5))), [1, 2]);
    });
}

#[test]
fn memory_of_growing_calls_is_asked_for_seldom() {
    with_driver("calls::memory_of_growing_calls_is_asked_for_seldom", Cache::Kept, |driver| {
        let sum = compile(|x: Tensor| (x * 2.0).sum(..) + x, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        let grow = |from: usize, to: usize| (from..to).step_by(8).for_each(|len| drop(sum.call(&ramp(len)).expect("it fits")));
        grow(1000, 1001);
        let allocations = |counts: &Counts| [counts.allocations];
        let [asked] = change(driver, allocations, || grow(1008, 2000));
        assert!(asked <= 40, "{asked} allocations in 124 calls");
        assert_eq!(change(driver, allocations, || grow(1800, 2000)), [0]);
    });
}

#[test]
fn results_stay_until_somebody_reads_them() {
    with_driver("calls::results_stay_until_somebody_reads_them", Cache::Kept, |driver| {
        let device = gpu();
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &device).expect("it is well typed");
        let both = compile(|(x, y): (Tensor, Tensor)| x + y, (spec::<f32>(["n"]), spec::<f32>(["n"])), &device);
        let both = both.expect("it is well typed");
        // Small results are handed over by a copy on the device, large ones are written where they are to be.
        for (len, within) in [(100, 1), (40_000, 0)] {
            let x = ramp(len);
            let mut y = double.call(&x).expect("it fits");
            assert!(driver.counts().live.pinned >= 2, "its input, and the status word: {:?}", driver.counts().live);
            assert_eq!(change(driver, copies, || y = double.call(&x).expect("it fits")), [1, within, 1]);
            assert!(!y.is_on_host());
            let mut z = y.clone();
            assert_eq!(change(driver, copies, || z = double.call(&y).expect("it fits")), [0, within, 1]);
            assert_eq!(change(driver, copies, || z = both.call((&z, &y)).expect("it fits")), [0, within, 1]);
            assert_eq!(change(driver, copies, || assert_eq!(z.to_f64()[99], 99.0 * 6.0)), [0, 0, 1]);
            assert_eq!(change(driver, copies, || assert_eq!(z.to_f64()[1], 6.0)), [0, 0, 0]);
            // What the host changes is copied again.
            let mut changed = z.clone();
            changed.as_mut_slice::<f32>().expect("they are floats")[1] = 50.0;
            assert_eq!(change(driver, copies, || y = double.call(&changed).expect("it fits")), [1, within, 1]);
            assert_eq!((y.to_f64()[1], z.to_f64()[1]), (100.0, 6.0));
        }
    });
}

#[test]
fn results_that_are_kept_are_their_own() {
    with_driver("calls::results_that_are_kept_are_their_own", Cache::Kept, |driver| {
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        for len in [10, 30_000] {
            let inputs: Vec<Array> =
                (0..6u8).map(|number| Array::full([len], Scalar::float(DType::F32, f64::from(number)))).collect();
            let kept: Vec<Array> = inputs.iter().map(|x| double.call(x).expect("it fits")).collect();
            assert!(kept.iter().zip(0..).all(|(y, number)| y.to_f64().iter().all(|y| *y == 2.0 * f64::from(number))), "{len}");
        }
        // Pieces that were let go of are used again.
        let x = ramp(30_000);
        let again = || (0..5).for_each(|_| drop(double.call(&x).expect("it fits")));
        assert_eq!(change(driver, |counts| [counts.allocations], again), [0]);
    });
}

#[derive(Module)]
struct Line {
    fc: Linear,
}

#[test]
fn state_stays_and_two_programs_share_it() {
    with_driver("calls::state_stays_and_two_programs_share_it", Cache::Kept, |driver| {
        let (device, model) = (gpu(), Line { fc: Linear::new(4, 2).init(&mut Init::seed(0)) });
        let inputs = (spec::<f32>(("n", 4)), spec::<f32>(("n", 2)));
        let step = |device: &Device| {
            let step = train_step(&model, Sgd::new(0.1).momentum(0.9), inputs.clone(), |m, (x, y)| {
                let error = m.fc.forward(x) - y;
                (error * error).mean(..)
            });
            step.compile(device).expect("it is well typed")
        };
        let eval = compile(|x| model.fc.forward(x), spec::<f32>(("n", 4)), &device).expect("it is well typed");
        let (mut train, mut plain) = (step(&device), step(&cpu_with_threads(1)));
        let x = Array::from_vec([2, 4], vec![0.5f32, -1.0, 2.0, 0.0, 1.0, 1.5, -0.5, 0.25]).expect("sizes agree");
        let y = Array::from_vec([2, 2], vec![1.0f32, 0.0, -1.0, 0.5]).expect("sizes agree");
        let slots = u64::try_from(train.state().entries().count()).expect("few");
        let mut loss = train.run((&x, &y)).expect("it fits");
        plain.run((&x, &y)).expect("it fits");
        for _ in 0..4 {
            let [within, ..] = change(driver, copies, || loss = train.run((&x, &y)).expect("it fits"));
            assert_eq!(within, 2, "the inputs, and nothing of the {slots} slots");
            let expected = plain.run((&x, &y)).expect("it fits").item().expect("a scalar");
            assert!((loss.item().expect("a scalar") - expected).abs() < 1e-6);
        }
        let mut out = loss.clone();
        assert_eq!(change(driver, copies, || out = eval.call_with(train.state(), &x).expect("it fits")), [1, 1, 1]);
        let weight = |step: &Step<_, Tensor>| step.state().entries().map(|entry| entry.value.to_f64()).collect::<Vec<_>>();
        let close = |(x, y): (&Vec<f64>, &Vec<f64>)| x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-5);
        let mut got = Vec::new();
        assert_eq!(change(driver, copies, || got = weight(&train)), [0, 0, slots]);
        assert!(got.iter().zip(&weight(&plain)).all(close));
        // The state outlives the program that trained it.
        let kept = train.state().clone();
        drop(train);
        assert_eq!(eval.call_with(&kept, &x).expect("it fits"), out);
    });
}

/// What a GPU runs, too, where there is one (`backends/cuda/tests/device.rs`).
fn shared(test: &str, check: fn(Arc<dyn Backend>), count: impl FnOnce(&Counts)) {
    with_driver(&format!("calls::{test}"), Cache::Kept, |driver| {
        check(Arc::new(Cuda::new(0).expect("there is a driver")));
        count(&driver.counts());
    });
}

#[test]
fn values_decide_how_often() {
    shared("values_decide_how_often", calls::values_that_decide_how_often, |counts| assert_eq!(graphs(counts), [0, 0]));
}

#[test]
fn threads_call_at_once() {
    let record = |counts: &Counts| assert!(counts.captures >= 4 && counts.replays >= 60, "{counts:?}");
    shared("threads_call_at_once", calls::threads_that_call_at_once, record);
}

/// The writer's state is there from its second step on; the reader's results, its arguments and the writer's lie where they lay.
#[test]
fn two_programs_share_a_state() {
    let record = |counts: &Counts| assert!(counts.captures >= 2 && counts.replays >= 12, "{counts:?}");
    shared("two_programs_share_a_state", calls::a_state_that_two_programs_share, record);
}

#[test]
fn a_check_fails_now_and_then() {
    let record = |counts: &Counts| assert_eq!(graphs(counts), [1, 7]);
    shared("a_check_fails_now_and_then", calls::a_check_that_fails_now_and_then, record);
}

/// Constants and state are copied to the GPU, and on it, and ceilings measured, while another thread records.
#[test]
fn nothing_ends_what_another_thread_records() {
    in_a_process("calls::nothing_ends_what_another_thread_records", Cache::Kept, |driver| {
        assert_eq!(while_a_stream_records(driver, much_else), 0, "what was recorded is good");
    });
}

fn much_else() {
    ask_all().expect("nothing fails");
    Cuda::new(0).and_then(|cuda| cuda.ceilings(1 << 16)).expect("it is measured");
}

/// The same while a call is recorded, whose graph is there afterwards.
#[test]
fn nothing_ends_the_recording_of_a_call() {
    extern "C" fn meanwhile() {
        std::thread::spawn(much_else).join().expect("nothing fails");
    }
    with_driver("calls::nothing_ends_the_recording_of_a_call", Cache::Kept, |driver| {
        let double = compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &gpu()).expect("it is well typed");
        let call = || assert_eq!(double.call(&ramp(5)).expect("it fits").to_f64()[4], 8.0);
        call();
        driver.meanwhile(meanwhile);
        call();
        assert!(driver.counts().captures > 1, "the other thread has recorded something, too");
        assert_eq!(change(driver, graphs, || (0..3).for_each(|_| call())), [0, 3]);
    });
}

#[test]
fn rows_that_registers_do_not_hold_are_granted_shared_memory() {
    // Beyond 16,384 points in registers, whole turns of 256 threads and four points: once as it comes, and once when it is recorded.
    let granted = |counts: &Counts| assert_eq!((counts.granted, graphs(counts)), (2 * 8 * 256 * 16, [1, 3]));
    shared("rows_that_registers_do_not_hold_are_granted_shared_memory", calls::long_rows, granted);
}
