//! How fast compiled kernels are on this machine: `cargo run --release -p graver-cpu --example speed [threads] [level] [dots] [group]`;
//! with the last word, `narrow` or `windows`, of products of narrow elements or of windows a channel alone.
//!
//! Code is generated at run time, so this program's own optimisation hardly matters. What the machine allows, `graver-bench
//! --roofline` measures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use graver_cpu::{Cpu, Dots, Isa, Parallel, Pool};
use graver_ir::kernel::Buffer;
use graver_ir::op::{Conv, ConvAxis, DotAxes, ReduceKind};
use graver_ir::{Array, DType, Dim, Module, Op, Scalar, ScalarFn, Value};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Invocation};
use graver_testkit::Build;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let threads = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1);
    let isa = words.iter().find_map(|word| word.parse::<Isa>().ok()).unwrap_or_else(Isa::detect);
    let dots = words.iter().find_map(|word| word.parse::<Dots>().ok()).unwrap_or_else(|| Dots::detect(isa));
    let cpu = Cpu::new(threads).with_isa(isa).and_then(|cpu| cpu.with_dots(dots)).expect("the machine has the level");
    println!("level {isa}, {dots}, {threads} threads");
    let pool = Pool::new(threads);
    let forked = fastest(|| pool.run(threads, &|_| {}));
    println!("{:<48} {:8.2} us", "a fork and a join of all threads", forked.as_secs_f64() * 1e6);
    for (name, group) in [("narrow", narrow as fn(&Cpu)), ("windows", windows)] {
        if words.iter().any(|word| word == name) {
            return group(&cpu);
        }
    }
    narrow(&cpu);
    for size in [64, 128, 256, 512, 1024] {
        product(&cpu, "nn", [size, size, size], (1, 0));
    }
    for sizes in [
        [512, 512, 512],
        [64, 512, 784],
        [64, 10, 512],
        [128, 2048, 512],
        [8, 512, 512],
        [1, 512, 512],
        [1, 16384, 4096],
        [4, 16384, 4096],
    ] {
        for (name, how) in [("nn", (1, 0)), ("nt", (1, 1)), ("tn", (0, 0))] {
            product(&cpu, name, sizes, how);
        }
    }
    let flops = 2.0 * 64.0 * 144.0 * 64.0 * 288.0;
    report(
        &cpu,
        "conv 3x3 32->64 on 64x12x12, channels first",
        &conv([0, 1, 2, 3], [64, 32, 12, 12], (64, 1), (3, 1)),
        flops,
        "GFLOP/s",
    );
    report(
        &cpu,
        "conv 3x3 32->64 on 64x12x12, channels last",
        &conv([0, 3, 1, 2], [64, 12, 12, 32], (64, 1), (3, 1)),
        flops,
        "GFLOP/s",
    );
    windows(&cpu);
    let elements = 64.0 * 1024.0;
    for (name, function) in [("relu", ScalarFn::Relu), ("exp", ScalarFn::Exp), ("tanh", ScalarFn::Tanh), ("erf", ScalarFn::Erf)] {
        report(&cpu, &format!("{name} of 64x1024"), &map(function, [64, 1024]), elements, "Gelem/s");
    }
    for (name, module) in [("gelu", gelu()), ("softmax", softmax()), ("layer norm", layer_norm())] {
        report(&cpu, &format!("{name} of 64x1024"), &module, elements, "Gelem/s");
    }
    report(&cpu, "relu of 4096x4096", &map(ScalarFn::Relu, [4096, 4096]), 4096.0 * 4096.0, "Gelem/s");
    for (name, axis) in [("rows", 1), ("columns", 0)] {
        report(&cpu, &format!("sums of {name} of 9216x64"), &sum([9216, 64], axis), 9216.0 * 64.0, "Gelem/s");
    }
    report(&cpu, "relu of one element", &map(ScalarFn::Relu, [1, 1]), 1e-3, "calls/us");
}

fn narrow(cpu: &Cpu) {
    for [m, n, k] in [[512, 512, 512], [1024, 1024, 1024], [8, 1024, 1024], [1, 1024, 1024]] {
        let flops = 2.0 * [m, n, k].map(f64::from).iter().product::<f64>();
        for dtype in [DType::I8, DType::BF16] {
            for (name, how) in [("nn", (1, 0)), ("nt", (1, 1)), ("tn", (0, 0))] {
                let module = dot(m, n, k, how.0, how.1, dtype);
                report(cpu, &format!("dot of {dtype} {name}, {m}x{n}x{k}"), &module, flops, "GFLOP/s");
            }
        }
    }
}

/// Windows a channel (depthwise convolutions), and their largest elements.
fn windows(cpu: &Cpu) {
    for ([batch, channels, size], window, stride) in [
        ([8, 32, 112], 3, 1),
        ([1, 32, 56], 3, 1),
        ([1, 512, 14], 3, 1),
        ([1, 960, 7], 3, 1),
        ([1, 64, 56], 3, 2),
        ([1, 96, 56], 7, 1),
        ([1, 384, 14], 7, 1),
        ([1, 100, 25], 5, 1),
    ] {
        let products = [batch, channels, size, size].map(f64::from).iter().product::<f64>() / f64::from(stride * stride);
        let flops = 2.0 * products * f64::from(window * window);
        for (name, layout, input) in
            [("first", [0, 1, 2, 3], [batch, channels, size, size]), ("last", [0, 3, 1, 2], [batch, size, size, channels])]
        {
            let what = format!("{window}x{window} by {stride} of {batch}x{channels}x{size}x{size}, channels {name}");
            report(cpu, &what, &conv(layout, input, (channels, channels), (window, stride)), flops, "GFLOP/s");
        }
    }
}

fn product(cpu: &Cpu, name: &str, [m, n, k]: [i32; 3], (x, y): (usize, usize)) {
    let flops = 2.0 * [m, n, k].map(f64::from).iter().product::<f64>();
    report(cpu, &format!("dot {name} {m}x{n}x{k}"), &dot(m, n, k, x, y, DType::F32), flops, "GFLOP/s");
}

fn report(cpu: &Cpu, name: &str, module: &Module, work: f64, unit: &str) {
    let program = pipeline::compile(module.clone(), &cpu.describe(), &mut Silent).expect("it compiles");
    let program = Arc::new(program);
    let start = Instant::now();
    let executable = cpu.compile(Arc::clone(&program)).expect("it compiles");
    let compiled = start.elapsed();
    let entry = &program.entries[0];
    let inputs: Vec<Array> = entry.inputs.iter().map(|(buffer, _)| random(entry.buffer(*buffer))).collect();
    let inputs: Vec<&Array> = inputs.iter().collect();
    let mut workspace = executable.workspace();
    let best = fastest(|| {
        let call = Invocation { entry: 0, inputs: &inputs, state: &mut [], workspace: &mut workspace };
        executable.run(call).expect("it runs");
    });
    let rate = work / best.as_secs_f64() / 1e9;
    let kernels = executable.program().kernels.len();
    println!(
        "{name:<48} {rate:8.2} {unit:<8} {:>10.1} us, {kernels} kernels in {:.1} ms",
        best.as_secs_f64() * 1e6,
        compiled.as_secs_f64() * 1e3
    );
}

/// The time of a call in the fastest of many samples, each some calls of a millisecond or more: other programs, which may share
/// the processor, leave some samples alone.
fn fastest(mut call: impl FnMut()) -> Duration {
    let (mut best, begin) = (Duration::MAX, Instant::now());
    while best == Duration::MAX || begin.elapsed() < Duration::from_millis(400) {
        let (mut count, sample) = (0, Instant::now());
        while count == 0 || sample.elapsed() < Duration::from_millis(1) {
            call();
            count += 1;
        }
        best = best.min(sample.elapsed() / count);
    }
    best
}

fn random(Buffer { dtype, shape, .. }: &Buffer) -> Array {
    let shape: Vec<usize> = shape.iter().map(|dim| usize::try_from(dim.as_const().expect("a number")).expect("a size")).collect();
    let value = |place: usize| {
        let number = u16::try_from(place * 7919 % 4096).expect("below");
        if dtype.is_float() {
            Scalar::float(*dtype, f64::from(number) / 2048.0 - 1.0)
        } else {
            Scalar::int(*dtype, i64::from(number % 255) - 127)
        }
    };
    Array::from_fn(*dtype, shape, value)
}

/// Products of elements of a type; those of integers are summed up in 32 bits.
fn dot(m: i32, n: i32, k: i32, x: usize, y: usize, dtype: DType) -> Module {
    let mut b = Build::new("dot");
    let sized = |own: i32, contracted: usize| if contracted == 1 { [own, k] } else { [k, own] };
    let mut side = |name: &str, sizes: [i32; 2]| {
        let side = b.arg(name, dtype, sizes);
        if dtype == DType::I8 { b.cast(DType::I32, side) } else { side }
    };
    let (left, right) = (side("x", sized(m, x)), side("y", sized(n, y)));
    let axes = DotAxes { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![x], rhs_contract: vec![y] };
    let result = b.dot(left, right, axes);
    b.finish([result])
}

/// Windows of 3x3.
fn conv(layout: [usize; 4], input: [i32; 4], (outputs, groups): (i32, i32), (window, stride): (i32, i32)) -> Module {
    let mut b = Build::new("conv");
    let x = b.arg("x", DType::F32, input);
    let kernel = b.arg("w", DType::F32, [outputs, window, window, input[layout[1]] / groups]);
    let (low, high) = (Dim::from(window / 2), Dim::from(window / 2));
    let axis = ConvAxis { stride: i64::from(stride), low, high, kernel_dilation: 1, input_dilation: 1 };
    let conv = Conv {
        input: layout.to_vec(),
        kernel: vec![0, 3, 1, 2],
        output: layout.to_vec(),
        axes: vec![axis.clone(), axis],
        groups: i64::from(groups),
        batch_groups: 1,
    };
    let result = b.add(Op::Conv(conv), &[x, kernel]);
    b.finish([result])
}

fn map(function: ScalarFn, shape: [i32; 2]) -> Module {
    let mut b = Build::new("map");
    let x = b.arg("x", DType::F32, shape);
    let result = b.map(function, [x]);
    b.finish([result])
}

fn sum(shape: [i32; 2], axis: usize) -> Module {
    let mut b = Build::new("sum");
    let x = b.arg("x", DType::F32, shape);
    let result = b.reduce(ReduceKind::Sum, x, [axis]);
    b.finish([result])
}

/// `x (1 + erf(x / sqrt(2))) / 2`
fn gelu() -> Module {
    let mut b = Build::new("gelu");
    let x = b.arg("x", DType::F32, [64, 1024]);
    let constant = |b: &mut Build, value: f64| {
        let value = b.scalar(DType::F32, value);
        b.broadcast(value, [64, 1024], [])
    };
    let (root, one, half) = (constant(&mut b, std::f64::consts::FRAC_1_SQRT_2), constant(&mut b, 1.0), constant(&mut b, 0.5));
    let scaled = b.map(ScalarFn::Mul, [x, root]);
    let erf = b.map(ScalarFn::Erf, [scaled]);
    let sum = b.map(ScalarFn::Add, [erf, one]);
    let product = b.map(ScalarFn::Mul, [x, sum]);
    let result = b.map(ScalarFn::Mul, [product, half]);
    b.finish([result])
}

/// `(x - mean) / sqrt(variance + eps)` of rows.
fn layer_norm() -> Module {
    let mut b = Build::new("norm");
    let x = b.arg("x", DType::F32, [64, 1024]);
    let mean = row_mean(&mut b, x);
    let mean = b.broadcast(mean, [64, 1024], [0]);
    let centred = b.map(ScalarFn::Sub, [x, mean]);
    let square = b.map(ScalarFn::Mul, [centred, centred]);
    let variance = row_mean(&mut b, square);
    let eps = b.scalar(DType::F32, 1e-5);
    let eps = b.broadcast(eps, [64], []);
    let sum = b.map(ScalarFn::Add, [variance, eps]);
    let inverse = b.map(ScalarFn::Rsqrt, [sum]);
    let inverse = b.broadcast(inverse, [64, 1024], [0]);
    let result = b.map(ScalarFn::Mul, [centred, inverse]);
    b.finish([result])
}

fn row_mean(b: &mut Build, x: Value) -> Value {
    let total = b.reduce(ReduceKind::Sum, x, [1]);
    let scale = b.scalar(DType::F32, 1.0 / 1024.0);
    let scale = b.broadcast(scale, [64], []);
    b.map(ScalarFn::Mul, [total, scale])
}

fn softmax() -> Module {
    let mut b = Build::new("softmax");
    let x = b.arg("x", DType::F32, [64, 1024]);
    let greatest = b.reduce(ReduceKind::Max, x, [1]);
    let greatest = b.broadcast(greatest, [64, 1024], [0]);
    let shifted = b.map(ScalarFn::Sub, [x, greatest]);
    let e = b.map(ScalarFn::Exp, [shifted]);
    let total = b.reduce(ReduceKind::Sum, e, [1]);
    let total = b.broadcast(total, [64, 1024], [0]);
    let result = b.map(ScalarFn::Div, [e, total]);
    b.finish([result])
}
