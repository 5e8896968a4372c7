//! Rows that several stages of a GPU's kernel read come from memory once, as far as registers hold them.

use std::path::Path;
use std::sync::Arc;

use graver::prelude::*;
use graver::trace::TensorSpec;
use graver_cuda::{Copies, Shim};

/// As many as a block of warps has.
const ROWS: usize = 4;

type Rows = fn(Tensor, Tensor) -> Tensor;

fn shim() -> Shim {
    Shim::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim")).expect("a C++ compiler")
}

fn array(rows: usize, columns: usize, step: f32) -> Array {
    let values = (0..=250u8).cycle().take(rows * columns).map(|at| (f32::from(at) * step).sin()).collect();
    Array::from_vec([rows, columns], values).expect("sizes agree")
}

fn softmax(x: Tensor, _: Tensor) -> Tensor {
    x.softmax(-1)
}

fn normalised(x: Tensor, _: Tensor) -> Tensor {
    let centred = x - x.mean_keepdim(-1);
    centred / ((centred * centred).mean_keepdim(-1) + 1e-5).sqrt()
}

fn softmax_derivative(x: Tensor, g: Tensor) -> Tensor {
    grad(x, |x| (x.softmax(-1) * g).sum(..))
}

/// How often a program reads each element of what it is given, over rows of this length; the results are held to the CPU's.
fn readings(copies: &Copies, device: &Device, f: Rows, spec: (TensorSpec, TensorSpec), columns: usize) -> f64 {
    let program = |device: &Device| compile(|(x, g)| f(x, g), spec.clone(), device).expect("it is well typed");
    let (x, g) = (array(ROWS, columns, 0.37), array(ROWS, columns, 0.11));
    let (gpu, cpu) = (program(device), program(&cpu_with_threads(1)));
    let before = copies.read();
    let got = gpu.call((&x, &g)).expect("it fits").to_f64();
    let read = copies.read() - before;
    let expected = cpu.call((&x, &g)).expect("it fits").to_f64();
    let close = |(x, y): (&f64, &f64)| (x - y).abs() < 2e-5 * (1.0 + y.abs());
    assert!(got.iter().zip(&expected).all(close), "rows of {columns}");
    read as f64 / (4 * ROWS * columns) as f64
}

#[test]
fn rows_of_known_length_are_read_once() {
    let shim = shim();
    let (copies, device) = (shim.copies().clone(), Device::new(Arc::new(shim)));
    let twice: [(Rows, f64); 3] = [(softmax, 1.0), (normalised, 1.0), (softmax_derivative, 2.0)];
    for (f, once) in twice {
        // A warp a row, and a block a row; whole turns, and some that end early.
        for columns in [100, 1024, 3000, 4096] {
            let spec = || spec::<f32>(("n", columns));
            let times = readings(&copies, &device, f, (spec(), spec()), columns);
            assert!(times <= once + 0.1, "{times} times, in rows of {columns}");
        }
    }
}

#[test]
fn of_longer_rows_and_unknown_ones_what_shared_memory_holds_is_read_once() {
    let shim = shim();
    let (copies, device) = (shim.copies().clone(), Device::new(Arc::new(shim)));
    for (columns, least, most) in [(40_000, 1.0, 1.1), (100_000, 1.2, 2.0)] {
        let known = || spec::<f32>(("n", columns));
        let times = readings(&copies, &device, softmax, (known(), known()), columns);
        assert!(times >= least && times <= most, "{times} times, in rows of {columns}");
    }
    let unknown = || spec::<f32>(("n", "m"));
    for (columns, least, most) in [(1, 1.0, 1.1), (700, 1.0, 1.1), (2048, 1.0, 1.1), (8192, 1.0, 1.1)] {
        let times = readings(&copies, &device, softmax, (unknown(), unknown()), columns);
        assert!(times >= least && times <= most, "{times} times, in rows of {columns}");
    }
}

/// What two devices give for a program, which is held to be the same to rounding.
fn as_on_the_cpu(make: impl Fn(&Device) -> Vec<Array>, name: &str) {
    let (got, expected) = (make(&Device::new(Arc::new(shim()))), make(&cpu_with_threads(1)));
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        let close = |(x, y): (f64, f64)| (x - y).abs() < 1e-4 * (1.0 + y.abs());
        assert!(got.to_f64().into_iter().zip(expected.to_f64()).all(close), "{name}");
    }
}

/// Groups of two elements of 8 bytes, beside groups of two of one byte, which no access of 4 bytes may take.
#[test]
fn rows_of_elements_of_several_sizes_are_kept() {
    as_on_the_cpu(
        |device| {
            let masked = |(x, m): (Tensor, Tensor)| (x + (m.cast(DType::F64) - 1.0) * 1e9).softmax(-1);
            let masked =
                compile(masked, (spec::<f64>(("n", 8192)), spec::<bool>(("n", 8192))), device).expect("it is well typed");
            let (x, m) = (array(ROWS, 8192, 0.37).cast(DType::F64), array(ROWS, 8192, 0.11));
            let m = Array::from_vec([ROWS, 8192], m.to_f64().into_iter().map(|x| x > 0.0).collect()).expect("sizes agree");
            vec![masked.call((&x, &m)).expect("it fits")]
        },
        "masked",
    );
}

/// A warp a row, whose rows are more than its registers hold.
#[test]
fn rows_of_a_warp_are_kept_in_shared_memory() {
    as_on_the_cpu(
        |device| {
            let of = || spec::<f32>(("n", 1000));
            let sum = compile(|(x, y, z): (Tensor, Tensor, Tensor)| (x + y + z).softmax(-1), (of(), of(), of()), device);
            let [x, y, z] = [0.37, 0.11, 0.23].map(|step| array(64, 1000, step));
            vec![sum.expect("it is well typed").call((&x, &y, &z)).expect("it fits")]
        },
        "three",
    );
}

/// Reductions hand shared memory over to the next: sixty of them take no more than one.
#[test]
fn many_sums_share_their_memory() {
    as_on_the_cpu(
        |device| {
            let sums = |x: Tensor| (0..60).map(|times| (x * f64::from(times)).sum(0)).collect::<Vec<_>>();
            let sums = compile(sums, spec::<f32>([512, 100]), device).expect("it is well typed");
            assert_eq!(sums.program().kernels.len(), 1);
            sums.call(&array(512, 100, 0.37)).expect("it fits")
        },
        "sums",
    );
}
