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
