//! Loop nests that are run in ways of their own: sums of columns by blocks of rows, what lies across in tiles, dear values that wait
//! between stages. At every level, and for several numbers of threads.

mod levels;

use std::sync::Arc;

use graver_cpu::Cpu;
use graver_ir::op::ReduceKind;
use graver_ir::{Array, DType, Dim, Module, Scalar, ScalarFn, Symbol};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Invocation};
use graver_testkit::Build;

/// A size that is known at the call.
fn rows() -> Dim {
    Dim::sym(&Symbol::ranged("rows", 0, 1 << 20, 1))
}

/// Numbers whose sums are exact.
fn numbers(shape: &[usize]) -> Vec<f32> {
    let number = |place: usize| f32::from(i16::try_from(place * 7919 % 4093).expect("below")) / 8.0 - 200.0;
    (0..shape.iter().product()).map(number).collect()
}

fn array(shape: &[usize], data: Vec<f32>) -> Array {
    Array::from_vec(shape, data).expect("sizes agree")
}

/// The results at every level; the same for one thread and three.
fn results(module: &Module, inputs: &[Array]) -> Vec<Vec<Array>> {
    let run = |cpu: &Cpu| {
        let program = pipeline::compile(module.clone(), &cpu.describe(), &mut Silent).expect("it compiles");
        let executable = cpu.compile(Arc::new(program)).expect("it compiles");
        let (inputs, mut workspace) = (inputs.iter().collect::<Vec<_>>(), executable.workspace());
        let call = Invocation { entry: 0, inputs: &inputs, state: &mut [], workspace: &mut workspace };
        executable.run(call).expect("it runs")
    };
    let alike = |cpu: Cpu| {
        let alone = run(&cpu);
        let three = run(&Cpu::new(3).with_isa(cpu.isa()).expect("the machine runs it"));
        assert_eq!(alone, three, "level {}", cpu.isa());
        alone
    };
    levels::cpus(1).into_iter().map(alike).collect()
}

fn close(expected: &[f64], got: &Array, within: f64) {
    let got = got.to_f64();
    assert_eq!(expected.len(), got.len());
    let far = expected.iter().zip(&got).position(|(x, y)| (x - y).abs() > within * x.abs().max(1.0));
    assert!(far.is_none(), "element {far:?}: {} is not {}", got[far.unwrap_or(0)], expected[far.unwrap_or(0)]);
}

#[test]
fn sums_and_extremes_of_columns() {
    for (count, width) in [(0usize, 70usize), (1, 70), (5, 3), (257, 70), (1003, 16), (130, 4200)] {
        let mut b = Build::new("columns");
        let x = b.arg("x", DType::F32, [rows(), Dim::from(width)]);
        let (sum, most) = (b.reduce(ReduceKind::Sum, x, [0]), b.reduce(ReduceKind::Max, x, [0]));
        let module = b.finish([sum, most]);
        let data = numbers(&[count, width]);
        let column = |column: usize| data.iter().skip(column).step_by(width).copied();
        let sums = (0..width).map(|at| column(at).fold(0.0, |sum, x| sum + x)).collect();
        let extremes = (0..width).map(|at| column(at).fold(f32::NEG_INFINITY, f32::max)).collect();
        let expected = vec![array(&[width], sums), array(&[width], extremes)];
        for results in results(&module, &[array(&[count, width], data.clone())]) {
            assert!(results == expected, "{count} rows of {width}");
        }
    }
}

/// Several rows go by at once; what is left, one by one. A row's result is the same, to the last bit, whatever rows there are beside it.
#[test]
fn rows_at_once() {
    type Fold = fn(f64, f64) -> f64;
    let number = |place: usize| 1.0 + (f64::from(u32::try_from(place * 7919 % 4093).expect("below")) - 2046.0) / 300_000.0;
    let kinds: [(ReduceKind, Fold); 4] = [
        (ReduceKind::Sum, |x, y| x + y),
        (ReduceKind::Prod, |x, y| x * y),
        (ReduceKind::Max, f64::max),
        (ReduceKind::Min, f64::min),
    ];
    let widths = [(DType::F32, 5000usize), (DType::F32, 70), (DType::F64, 133), (DType::F32, 3)];
    for ((dtype, width), (kind, fold)) in widths.into_iter().flat_map(|width| kinds.map(|kind| (width, kind))) {
        let mut b = Build::new("rows");
        let x = b.arg("x", dtype, [rows(), Dim::from(2), Dim::from(width)]);
        let square = b.map(ScalarFn::Mul, [x, x]);
        let result = b.reduce(kind, square, [2]);
        let module = b.finish([result]);
        let make = |first: usize, count: usize| {
            Array::from_fn(dtype, [count, 2, width], |at| Scalar::float(dtype, number(first * 2 * width + at)))
        };
        let of = |first: usize, count: usize| {
            let levels = results(&module, &[make(first, count)]);
            levels.into_iter().map(|level| level[0].to_f64()).collect::<Vec<_>>()
        };
        let alone: Vec<Vec<Vec<f64>>> = (0..6).map(|row| of(row, 1)).collect();
        for count in 0..=6 {
            for (level, together) in of(0, count).into_iter().enumerate() {
                let rows: Vec<f64> = alone[..count].iter().flat_map(|row| row[level].clone()).collect();
                assert_eq!(together, rows, "{kind:?} of {count} rows of {width} {dtype}, level {level}");
            }
        }
        let squares: Vec<f64> = make(0, 1).to_f64().iter().map(|x| x * x).collect();
        let expected: Vec<f64> = squares.chunks(width).map(|row| row.iter().copied().reduce(fold).expect("elements")).collect();
        for level in &alone[0] {
            let far = level.iter().zip(&expected).any(|(x, y)| (x - y).abs() > 1e-4 * y);
            assert!(!far, "{kind:?} of {width} {dtype}: {level:?} is not {expected:?}");
        }
    }
}

#[test]
fn columns_over_several_axes() {
    let mut b = Build::new("columns");
    let x = b.arg("x", DType::F32, [rows(), Dim::from(9), Dim::from(11), Dim::from(20)]);
    let sum = b.reduce(ReduceKind::Sum, x, [0, 1, 2]);
    let module = b.finish([sum]);
    let data = numbers(&[7, 9, 11, 20]);
    let sums = array(&[20], (0..20).map(|at| data.iter().skip(at).step_by(20).sum()).collect());
    for results in results(&module, &[array(&[7, 9, 11, 20], data.clone())]) {
        assert_eq!(results, std::slice::from_ref(&sums));
    }
}

/// Mean, variance and what they are for: stages that depend on one another's columns.
#[test]
fn columns_that_are_normalised() {
    let (count, width) = (301usize, 37usize);
    let shape = [Dim::from(count), Dim::from(width)];
    let mut b = Build::new("norm");
    let x = b.arg("x", DType::F32, shape.clone());
    let mean = |b: &mut Build, x| {
        let (sum, scale) = (b.reduce(ReduceKind::Sum, x, [0]), b.full(DType::F32, [Dim::from(width)], 1.0 / 301.0));
        b.map(ScalarFn::Mul, [sum, scale])
    };
    let average = mean(&mut b, x);
    let wide = b.broadcast(average, shape.clone(), [1]);
    let centred = b.map(ScalarFn::Sub, [x, wide]);
    let square = b.map(ScalarFn::Mul, [centred, centred]);
    let variance = mean(&mut b, square);
    let inverse = b.map(ScalarFn::Rsqrt, [variance]);
    let wide = b.broadcast(inverse, shape, [1]);
    let result = b.map(ScalarFn::Mul, [centred, wide]);
    let module = b.finish([result, variance]);
    let data = numbers(&[count, width]);
    let column = |at: usize| data.iter().skip(at).step_by(width).map(|x| f64::from(*x));
    let means: Vec<f64> = (0..width).map(|at| column(at).sum::<f64>() / 301.0).collect();
    let variances: Vec<f64> = (0..width).map(|at| column(at).map(|x| (x - means[at]).powi(2)).sum::<f64>() / 301.0).collect();
    let normal = |(place, x): (usize, &f32)| (f64::from(*x) - means[place % width]) / variances[place % width].sqrt();
    let expected: Vec<f64> = data.iter().enumerate().map(normal).collect();
    for results in results(&module, &[array(&[count, width], data.clone())]) {
        close(&expected, &results[0], 1e-5);
        close(&variances, &results[1], 1e-5);
    }
}

#[test]
fn what_lies_across() {
    for [count, width] in [[37usize, 53], [64, 16], [100, 130], [16, 200], [1, 65]] {
        let mut b = Build::new("across");
        let x = b.arg("x", DType::F32, [Dim::from(width), rows()]);
        let y = b.arg("y", DType::F32, [rows(), Dim::from(width)]);
        let z = b.arg("z", DType::I32, [Dim::from(width), rows()]);
        let (x_across, z_across) = (b.permute(x, [1, 0]), b.permute(z, [1, 0]));
        let z_float = b.cast(DType::F32, z_across);
        let sum = b.map(ScalarFn::Add, [x_across, y]);
        let sum = b.map(ScalarFn::Sub, [sum, z_float]);
        let back = b.permute(sum, [1, 0]);
        let module = b.finish([sum, back]);
        let (x, y) = (numbers(&[width, count]), numbers(&[count, width]));
        let z: Vec<i32> = (0i32..).take(width * count).collect();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let at = |row: usize, column: usize| x[column * count + row] + y[row * width + column] - z[column * count + row] as f32;
        let by_rows = (0..count * width).map(|place| at(place / width, place % width)).collect();
        let by_columns = (0..count * width).map(|place| at(place % count, place / count)).collect();
        let expected = vec![array(&[count, width], by_rows), array(&[width, count], by_columns)];
        let z = Array::from_vec([width, count], z.clone()).expect("sizes agree");
        for results in results(&module, &[array(&[width, count], x.clone()), array(&[count, width], y.clone()), z]) {
            assert!(results == expected, "{count} rows of {width}");
        }
    }
}

#[test]
fn dear_values_wait_for_later_stages() {
    let (count, width) = (5, 1001);
    let shape = [Dim::from(5), Dim::from(1001)];
    let mut b = Build::new("softmax");
    let x = b.arg("x", DType::F32, shape.clone());
    let most = b.reduce(ReduceKind::Max, x, [1]);
    let most = b.broadcast(most, shape.clone(), [0]);
    let behind = b.map(ScalarFn::Sub, [x, most]);
    let e = b.map(ScalarFn::Exp, [behind]);
    let total = b.reduce(ReduceKind::Sum, e, [1]);
    let total = b.broadcast(total, shape, [0]);
    let result = b.map(ScalarFn::Div, [e, total]);
    let module = b.finish([result]);
    let data: Vec<f32> = numbers(&[count, width]).into_iter().map(|x| x / 64.0).collect();
    let mut expected = Vec::new();
    for row in data.chunks(width) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f64> = row.iter().map(|x| (f64::from(*x) - f64::from(most)).exp()).collect();
        let total: f64 = shares.iter().sum();
        expected.extend(shares.into_iter().map(|share| share / total));
    }
    for results in results(&module, &[array(&[count, width], data.clone())]) {
        close(&expected, &results[0], 1e-6);
    }
}

/// Results that no cache holds: rows that are whole vectors, and rows that are not.
#[test]
fn large_results() {
    for width in [4112usize, 4099] {
        let count = 2100;
        let mut b = Build::new("large");
        let x = b.arg("x", DType::F32, [rows(), Dim::from(width)]);
        let y = b.arg("y", DType::F32, [Dim::from(width)]);
        let wide = b.broadcast(y, [rows(), Dim::from(width)], [1]);
        let sum = b.map(ScalarFn::Add, [x, wide]);
        let module = b.finish([sum]);
        let (x, y) = (numbers(&[count, width]), numbers(&[width]));
        let sums: Vec<f32> = x.chunks(width).flat_map(|row| row.iter().zip(&y).map(|(x, y)| x + y)).collect();
        let expected = vec![array(&[count, width], sums)];
        let inputs = [array(&[count, width], x), array(&[width], y)];
        assert!(results(&module, &inputs).into_iter().all(|results| results == expected), "rows of {width}");
    }
}

/// Elements a few apart, with and without padding that is not read.
#[test]
fn what_lies_a_few_apart() {
    for (width, step) in [1usize, 5, 16, 33, 64, 101].into_iter().flat_map(|width| (2..=5usize).map(move |step| (width, step))) {
        let (padded, count) = (width + 5, |size: usize| size.div_ceil(step));
        let taken = |b: &mut Build, x, size: usize| {
            let step = i64::try_from(step).expect("small");
            let slice = b.slice(x, [(0, 3, 1), (0, i32::try_from(count(size)).expect("small"), step)]);
            b.map(ScalarFn::Add, [slice, slice])
        };
        let mut b = Build::new("apart");
        let (x, y) = (b.arg("x", DType::F32, [Dim::from(3), width.into()]), b.arg("y", DType::I32, [Dim::from(3), width.into()]));
        let seven = b.scalar(DType::F32, 7.0);
        let wide = b.pad(x, seven, [(0, 0, 0), (3, 2, 0)]);
        let all = [taken(&mut b, x, width), taken(&mut b, y, width), taken(&mut b, wide, padded)];
        let module = b.finish(all);
        let data = numbers(&[3, width]);
        let whole: Vec<i32> = (0..).take(3 * width).map(|place: i32| place * 7919 % 4093).collect();
        let rows = |width: usize| (0..3).flat_map(move |row| (0..count(width)).map(move |place| (row, place * step)));
        let floats = rows(width).map(|(row, at)| 2.0 * data[row * width + at]).collect();
        let wholes = rows(width).map(|(row, at)| 2 * whole[row * width + at]).collect();
        let inside = |at: usize| at.checked_sub(3).filter(|at| *at < width);
        let wides = rows(padded).map(|(row, at)| 2.0 * inside(at).map_or(7.0, |at| data[row * width + at])).collect();
        let expected = [
            array(&[3, count(width)], floats),
            Array::from_vec([3, count(width)], wholes).expect("sizes agree"),
            array(&[3, count(padded)], wides),
        ];
        let inputs = [array(&[3, width], data.clone()), Array::from_vec([3, width], whole.clone()).expect("sizes agree")];
        for results in results(&module, &inputs) {
            assert!(results == expected, "every {step}th of {width}");
        }
    }
}

/// What rows compute, stored, and combined over the rows: blocks of rows that are none, part of one, and several; columns along two axes.
#[test]
fn rows_and_then_over_rows() {
    for (count, tall, wide) in
        [(0usize, 1usize, 70usize), (1, 1, 70), (5, 3, 2), (32, 1, 300), (33, 3, 16), (257, 2, 37), (1003, 1, 5)]
    {
        let shape = [rows(), Dim::from(tall), Dim::from(wide)];
        let mut b = Build::new("over_rows");
        let x = b.arg("x", DType::F32, shape.clone());
        let most = b.reduce(ReduceKind::Max, x, [1, 2]);
        let spread = b.broadcast(most, shape, [0]);
        let below = b.map(ScalarFn::Sub, [x, spread]);
        let (sum, greatest) = (b.reduce(ReduceKind::Sum, below, [0]), b.reduce(ReduceKind::Max, below, [0]));
        let twice = b.map(ScalarFn::Add, [sum, sum]);
        let module = b.finish([most, below, twice, greatest]);
        let program = pipeline::compile(module.clone(), &Cpu::new(1).describe(), &mut Silent).expect("it compiles");
        assert_eq!(program.kernels.len(), 1);
        let (data, width) = (numbers(&[count, tall, wide]), tall * wide);
        let greatest_of = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mosts: Vec<f32> = data.chunks(width).map(greatest_of).collect();
        let belows: Vec<f32> = data.iter().enumerate().map(|(place, x)| x - mosts[place / width]).collect();
        let column = |at: usize| belows.iter().skip(at).step_by(width).copied();
        let twices = (0..width).map(|at| 2.0 * column(at).fold(0.0, |sum, x| sum + x)).collect();
        let greatests = (0..width).map(|at| column(at).fold(f32::NEG_INFINITY, f32::max)).collect();
        let expected = vec![
            array(&[count], mosts.clone()),
            array(&[count, tall, wide], belows.clone()),
            array(&[tall, wide], twices),
            array(&[tall, wide], greatests),
        ];
        for results in results(&module, &[array(&[count, tall, wide], data.clone())]) {
            assert!(results == expected, "{count} rows of {tall}x{wide}");
        }
    }
}
