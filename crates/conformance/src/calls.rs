//! Calls as users make them, again and again, of programs that ask more of a device than the suite's: rows that registers do not hold, a state
//! that two programs share, a check that fails, values that decide how often, several threads. For devices that record what comes again.

use std::sync::Arc;

use graver_interp::Interp;
use graver_ir::{Array, DType, Scalar};
use graver_runtime::Backend;
use graver_trace::{Compiled, Device, Tensor, TensorSpec, TrainState, compile, named_slot, spec, step, while_loop};

/// How often: as it comes, recorded, and twice replayed.
const TIMES: usize = 4;

fn ramp(shape: impl Into<Vec<usize>>) -> Array {
    Array::from_fn(DType::F32, shape, |at| Scalar::float(DType::F32, (at * 7 % 311) as f64 / 64.0))
}

fn interpreter() -> Device {
    Device::new(Arc::new(Interp::default()))
}

/// A softmax of rows of 24,000 elements, which are more than a block of threads has in registers.
///
/// # Panics
/// If it is wrong, or has other bits when it is called again.
pub fn long_rows(backend: Arc<dyn Backend>) {
    let shares = |device: &Device| {
        let shares = compile(|x: Tensor| x.softmax(-1), spec::<f32>(("n", 24_000)), device).expect("it is well typed");
        (0..TIMES).map(|_| shares.call(&ramp([2, 24_000])).expect("it fits").to_f64()).collect::<Vec<_>>()
    };
    let (got, expected) = (shares(&Device::new(backend)), shares(&interpreter()));
    assert!(got.iter().all(|again| *again == got[0]), "other bits when it is called again");
    assert!(got[0].iter().zip(&expected[0]).all(|(x, y)| (x - y).abs() <= 1e-5 * y));
}

/// Sums of what a program was given: all of it so far, and its last.
const SUM: &str = "sum";

fn sum_of(width: usize) -> graver_trace::StateCell {
    named_slot(SUM, || Array::full([width], Scalar::zero(DType::F32)))
}

fn state_at(state: &TrainState) -> Vec<f64> {
    state.at("optim.sum").expect("the slot has a name").to_f64()
}

/// A program that writes a state, and another one that reads it, in turns; the state outlives the program that writes it, and a copy of it is
/// left alone.
///
/// # Panics
/// If either finds something else than the other left.
pub fn a_state_that_two_programs_share(backend: Arc<dyn Backend>) {
    const WIDTH: usize = 300;
    let device = Device::new(backend);
    let adding = step(spec::<f32>([WIDTH]), |x: Tensor| {
        sum_of(WIDTH).set(sum_of(WIDTH).get() + x);
        x.sum(..)
    });
    let mut adding = adding.compile(&device).expect("it is well typed");
    let reading = compile(|x: Tensor| sum_of(WIDTH).get() * x, spec::<f32>([WIDTH]), &device).expect("it is well typed");
    let x = ramp([WIDTH]);
    let times = |times: usize| x.to_f64().into_iter().map(|x| x * times as f64).collect::<Vec<f64>>();
    let two = Array::full([WIDTH], Scalar::float(DType::F32, 2.0));
    for number in 1..=2 * TIMES {
        adding.run(&x).expect("it fits");
        let read = reading.call_with(adding.state(), &two).expect("it is of this state");
        assert_eq!(read.to_f64(), times(2 * number), "after {number} steps");
    }
    let kept = adding.state().clone();
    adding.run(&x).expect("it fits");
    assert_eq!((state_at(&kept), state_at(adding.state())), (times(2 * TIMES), times(2 * TIMES + 1)));
    drop(adding);
    assert_eq!(reading.call_with(&kept, &two).expect("it is of this state").to_f64(), times(4 * TIMES));
}

/// A step whose check fails every other time: the error has the line, and the state stays.
///
/// # Panics
/// If it does not fail, or fails otherwise, or writes the state all the same.
pub fn a_check_that_fails_now_and_then(backend: Arc<dyn Backend>) {
    let adding = step((spec::<f32>([3]), spec::<i64>([2])), |(x, places): (Tensor, Tensor)| {
        let taken = x.index_select(0, places);
        sum_of(2).set(sum_of(2).get() + taken);
        taken
    });
    let mut adding = adding.compile(&Device::new(backend)).expect("it is well typed");
    let x = Array::from_vec([3], vec![1.0f32, 2.0, 4.0]).expect("sizes agree");
    let places = |places: [i64; 2]| Array::from_vec([2], places.to_vec()).expect("sizes agree");
    for number in 1..=TIMES {
        adding.run((&x, &places([0, 2]))).expect("the places are there");
        let error = adding.run((&x, &places([0, 3]))).expect_err("there is no place 3").to_string();
        assert!(error.contains("calls.rs"), "{error}");
        assert_eq!(state_at(adding.state()), [number as f64, 4.0 * number as f64]);
    }
}

/// Roots by iterations until they are close: how many there are the values say.
///
/// # Panics
/// If they are not.
pub fn values_that_decide_how_often(backend: Arc<dyn Backend>) {
    let close = |x: Tensor| while_loop(x, |y| (y * y - x).abs().gt(1e-4).any(..), |y| (y + x / y) * 0.5);
    let root = compile(close, spec::<f32>(["n"]), &Device::new(backend)).expect("it is well typed");
    for values in [[4.0f32, 9.0, 2.0], [1.0, 1.0, 1.0], [400.0, 9.0, 2.0], [4.0, 9.0, 2.0]] {
        let y = root.call(&Array::from_vec([3], values.to_vec()).expect("sizes agree")).expect("it fits").to_f64();
        assert!(y.iter().zip(values).all(|(y, x)| (y - f64::from(x).sqrt()).abs() < 1e-3), "{y:?} of {values:?}");
    }
}

/// One program, called by several threads at once, each with sizes of its own.
///
/// # Panics
/// If a thread gets something else than what it asked for.
pub fn threads_that_call_at_once(backend: Arc<dyn Backend>) {
    let double: Compiled<TensorSpec, Tensor> =
        compile(|x: Tensor| x * 2.0, spec::<f32>(["n"]), &Device::new(backend)).expect("it is well typed");
    std::thread::scope(|scope| {
        for len in 1..5usize {
            let double = &double;
            scope.spawn(move || {
                for number in 0..20 {
                    let x = Array::full([1000 * len], Scalar::float(DType::F32, f64::from(number)));
                    let y = double.call(&x).expect("it fits").to_f64();
                    assert!(y.len() == 1000 * len && y.iter().all(|y| *y == 2.0 * f64::from(number)), "thread {len}");
                }
            });
        }
    });
}
