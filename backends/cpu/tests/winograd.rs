//! Convolutions of 3x3 windows by transforms: against sums of products in `f64`, at every level and for several numbers of threads;
//! where they are chosen, and how exact they are.

mod levels;

use std::collections::BTreeSet;
use std::sync::Arc;

use graver_cpu::{Convolutions, Cpu};
use graver_ir::op::{Conv, ConvAxis};
use graver_ir::{Array, DType, Dim, Module, Op, ScalarFn, Symbol};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Executable, Invocation, Stage};
use graver_testkit::{Build, Rng};

/// A convolution of images `[batch, height, width, channels]` with weights `[outputs, channels, 3, 3]`.
#[derive(Clone)]
struct Shape {
    image: [usize; 4],
    outputs: usize,
    /// Padding before and after, along height and width.
    pads: [[usize; 2]; 2],
}

impl Shape {
    fn new(image: [usize; 4], outputs: usize, pads: [[usize; 2]; 2]) -> Self {
        Self { image, outputs, pads }
    }

    fn weights(&self) -> [usize; 4] {
        [self.outputs, self.image[3], 3, 3]
    }

    fn result(&self) -> [usize; 4] {
        let [batch, height, width, _] = self.image;
        let size = |size: usize, [low, high]: [usize; 2]| size + low + high - 2;
        [batch, size(height, self.pads[0]), size(width, self.pads[1]), self.outputs]
    }

    /// The convolution, of strides, dilations and groups that a case may change.
    fn conv(&self) -> Conv {
        let of = |size: usize| Dim::from(size);
        let axis =
            |[low, high]: [usize; 2]| ConvAxis { stride: 1, low: of(low), high: of(high), kernel_dilation: 1, input_dilation: 1 };
        Conv {
            input: vec![0, 3, 1, 2],
            kernel: vec![0, 1, 2, 3],
            output: vec![0, 3, 1, 2],
            axes: self.pads.map(axis).to_vec(),
            groups: 1,
            batch_groups: 1,
        }
    }

    /// Calls `each` with the places, in result, image and weights, of every product.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let ([_, height, width, channels], [batch, rows, columns, outputs]) = (self.image, self.result());
        let inside = |place: usize, tap: usize, low: usize, size: usize| (place + tap).checked_sub(low).filter(|at| *at < size);
        for result in 0..batch * rows * columns {
            let (of, row, column) = (result / (rows * columns), result / columns % rows, result % columns);
            for tap in 0..9 {
                let y = inside(row, tap / 3, self.pads[0][0], height);
                let Some((y, x)) = y.zip(inside(column, tap % 3, self.pads[1][0], width)) else { continue };
                for (output, channel) in (0..outputs).flat_map(|output| (0..channels).map(move |channel| (output, channel))) {
                    let image = ((of * height + y) * width + x) * channels + channel;
                    each(result * outputs + output, image, (output * channels + channel) * 9 + tap);
                }
            }
        }
    }

    fn reference(&self, image: &[f64], weights: &[f64]) -> Vec<f64> {
        let mut result = vec![0.0; self.result().iter().product()];
        self.products(|to, at, by| result[to] += image[at] * weights[by]);
        result
    }

    /// The derivative with respect to the weights.
    fn back_to_weights(&self, image: &[f64], cotangent: &[f64]) -> Vec<f64> {
        let mut result = vec![0.0; self.weights().iter().product()];
        self.products(|of, at, by| result[by] += image[at] * cotangent[of]);
        result
    }

    /// The derivative with respect to the image.
    fn back(&self, cotangent: &[f64], weights: &[f64]) -> Vec<f64> {
        let mut result = vec![0.0; self.image.iter().product()];
        self.products(|at, to, by| result[to] += cotangent[at] * weights[by]);
        result
    }
}

fn compile(cpu: &Cpu, module: &Module) -> Arc<dyn Executable> {
    let program = pipeline::compile(module.clone(), &cpu.describe(), &mut Silent).expect("it compiles");
    cpu.compile(Arc::new(program)).expect("it compiles")
}

fn run(executable: &dyn Executable, inputs: &[Array]) -> Vec<Array> {
    let (inputs, mut workspace) = (inputs.iter().collect::<Vec<_>>(), executable.workspace());
    let call = Invocation { entry: 0, inputs: &inputs, state: &mut [], workspace: &mut workspace };
    executable.run(call).expect("it runs")
}

/// Whether some kernel is computed by transforms: transforms weights, or gives windows.
fn transforms(executable: &dyn Executable) -> bool {
    has_func(executable, ".weights ") || has_func(executable, ".windows ")
}

fn has_func(executable: &dyn Executable, name: &str) -> bool {
    let texts = (0..executable.program().kernels.len()).filter_map(|kernel| executable.dump(kernel, Stage::Vector));
    texts.into_iter().any(|text| text.lines().any(|line| line.starts_with("func ") && line.contains(name)))
}

/// Whole numbers from -3 to 3: transforms to two results at once are exact.
fn integers(rng: &mut Rng, shape: &[usize]) -> Array {
    Array::from_fn(DType::F32, shape, |_| graver_ir::Scalar::int(DType::F32, rng.int(-3, 3)))
}

/// Normal numbers.
fn normal(rng: &mut Rng, shape: &[usize]) -> Array {
    let mut number = || (-2.0 * rng.float(1e-9, 1.0).ln()).sqrt() * (std::f64::consts::TAU * rng.float(0.0, 1.0)).cos();
    Array::from_fn(DType::F32, shape, |_| graver_ir::Scalar::float(DType::F32, number()))
}

/// How far from the first numbers the second are.
fn greatest_error(expected: &[f64], got: &[f64]) -> f64 {
    assert_eq!(expected.len(), got.len());
    assert!(got.iter().all(|x| x.is_finite()), "every result is stored");
    expected.iter().zip(got).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

/// At every level, one thread and three, with results of two and of four at once: those of two are exact, those of four nearly.
fn check(module: &Module, calls: &[(Vec<Array>, Vec<f64>)]) {
    for (cpu, way) in
        levels::cpus(1).into_iter().flat_map(|cpu| [(cpu.clone(), Convolutions::Winograd2), (cpu, Convolutions::Winograd4)])
    {
        let (isa, cpu) = (cpu.isa(), cpu.with_convolutions(way));
        let three = Cpu::new(3).with_isa(isa).expect("the machine runs it").with_convolutions(way);
        let [alone, three] = [cpu, three].map(|cpu| compile(&cpu, module));
        assert!(transforms(alone.as_ref()), "{isa}, {way}: a convolution is transformed");
        let vectors = (0..alone.program().kernels.len()).filter_map(|kernel| alone.dump(kernel, Stage::Vector));
        let is_fetched = vectors.into_iter().any(|text| text.contains("prefetch"));
        assert!(is_fetched || !has_func(alone.as_ref(), ".weights "), "{isa}, {way}: the next weights are fetched");
        for (inputs, expected) in calls {
            let results = run(alone.as_ref(), inputs);
            assert!(results == run(three.as_ref(), inputs), "{isa}, {way}: threads change bits");
            let error = greatest_error(expected, &results[0].to_f64());
            let most = if way == Convolutions::Winograd2 { 0.0 } else { 1e-2 };
            assert!(error <= most, "{isa}, {way}, {:?}: {error}", inputs[0].shape());
        }
    }
}

#[test]
fn odd_sizes_and_paddings() {
    let mut rng = Rng::named("paddings");
    let shapes = [
        Shape::new([2, 9, 7, 36], 40, [[1, 1], [1, 1]]),
        Shape::new([1, 8, 11, 33], 70, [[0, 0], [0, 0]]),
        Shape::new([3, 4, 5, 64], 16, [[2, 0], [0, 2]]),
        Shape::new([5, 6, 6, 130], 129, [[2, 2], [1, 1]]),
        Shape::new([9, 3, 4, 40], 40, [[1, 0], [0, 1]]),
    ];
    for shape in shapes {
        let mut b = Build::new("conv");
        let (x, w) = (b.arg("x", DType::F32, shape.image), b.arg("w", DType::F32, shape.weights()));
        let y = b.add(Op::Conv(shape.conv()), &[x, w]);
        let (x, w) = (integers(&mut rng, &shape.image), integers(&mut rng, &shape.weights()));
        let expected = shape.reference(&x.to_f64(), &w.to_f64());
        check(&b.finish([y]), &[(vec![x, w], expected)]);
    }
}

/// Sizes that are known at the call, weights that are packed for all calls, and all that comes after a sum.
#[test]
fn symbolic_sizes_and_epilogues() {
    let mut rng = Rng::named("epilogues");
    let of = |image: [usize; 3]| Shape::new([image[0], image[1], image[2], 24], 40, [[1, 1], [1, 1]]);
    let weights = integers(&mut rng, &of([1, 1, 1]).weights());
    let size = |name: &str| Dim::sym(&Symbol::ranged(name, 0, 1 << 12, 1));
    let image =
        [size("batch"), Dim::sym(&Symbol::ranged("height", 1, 1 << 12, 1)), Dim::sym(&Symbol::ranged("width", 1, 1 << 12, 1))];
    let dims = |last: usize| image.iter().cloned().chain([Dim::from(last)]).collect::<Vec<Dim>>();
    let mut b = Build::new("conv");
    let (x, bias, residual) =
        (b.arg("x", DType::F32, dims(24)), b.arg("bias", DType::F32, [40]), b.arg("residual", DType::F32, dims(40)));
    let w = b.constant(weights.clone());
    let y = b.add(Op::Conv(of([1, 1, 1]).conv()), &[x, w]);
    let bias = b.broadcast(bias, dims(40), [3]);
    let y = b.map(ScalarFn::Add, [y, bias]);
    let y = b.map(ScalarFn::Add, [y, residual]);
    let y = b.map(ScalarFn::Relu, [y]);
    let module = b.finish([y]);
    let mut call = |image: [usize; 3]| {
        let shape = of(image);
        let (x, bias, residual) =
            (integers(&mut rng, &shape.image), integers(&mut rng, &[40]), integers(&mut rng, &shape.result()));
        let mut expected = shape.reference(&x.to_f64(), &weights.to_f64());
        let (added, each) = (residual.to_f64(), bias.to_f64());
        for (place, y) in expected.iter_mut().enumerate() {
            *y = (*y + each[place % 40] + added[place]).max(0.0);
        }
        (vec![x, bias, residual], expected)
    };
    let calls = [[1, 1, 1], [0, 5, 5], [3, 2, 2], [1, 13, 6], [4, 8, 9], [1, 1, 30]].map(&mut call);
    check(&module, &calls);
}

/// The derivative with respect to the image is a convolution with windows turned round.
#[test]
fn derivatives_of_images() {
    let mut rng = Rng::named("derivatives");
    for pads in [[[1, 1], [1, 1]], [[0, 0], [2, 1]]] {
        let shape = Shape::new([3, 7, 10, 36], 48, pads);
        let mut b = Build::new("conv");
        let (x, w) = (b.arg("x", DType::F32, shape.image), b.arg("w", DType::F32, shape.weights()));
        let g = b.arg("g", DType::F32, shape.result());
        let y = b.add(Op::Conv(shape.conv()), &[x, w]);
        let derivative = b.vjp(&[y], &[g], &[x])[0];
        let arrays =
            vec![integers(&mut rng, &shape.image), integers(&mut rng, &shape.weights()), integers(&mut rng, &shape.result())];
        let expected = shape.back(&arrays[2].to_f64(), &arrays[1].to_f64());
        check(&b.finish([derivative]), &[(arrays, expected)]);
    }
}

/// The derivative with respect to weights is a sum over patches: in one part or several, of blocks that are not whole, for any batch.
#[test]
fn derivatives_of_weights() {
    let mut rng = Rng::named("weights");
    let shapes = [
        Shape::new([2, 9, 7, 36], 40, [[1, 1], [1, 1]]),
        Shape::new([1, 8, 11, 33], 70, [[0, 0], [0, 0]]),
        Shape::new([3, 4, 5, 64], 16, [[2, 0], [0, 2]]),
        Shape::new([5, 6, 6, 130], 129, [[2, 2], [1, 1]]),
        Shape::new([40, 14, 13, 24], 24, [[1, 1], [0, 1]]),
    ];
    for shape in shapes {
        let batch = Dim::sym(&Symbol::ranged("batch", 0, 1 << 12, 1));
        let of_batch = |sizes: [usize; 4]| [batch.clone(), sizes[1].into(), sizes[2].into(), sizes[3].into()];
        let mut b = Build::new("conv");
        let (x, w) = (b.arg("x", DType::F32, of_batch(shape.image)), b.arg("w", DType::F32, shape.weights()));
        let g = b.arg("g", DType::F32, of_batch(shape.result()));
        let y = b.add(Op::Conv(shape.conv()), &[x, w]);
        let derivative = b.vjp(&[y], &[g], &[w])[0];
        // As an optimiser does.
        let next = b.map(ScalarFn::Sub, [w, derivative]);
        let module = b.finish([next]);
        let calls = [shape.image[0], 0, 1, 7].map(|batch| {
            let shape = Shape { image: [batch, shape.image[1], shape.image[2], shape.image[3]], ..shape.clone() };
            let [x, w, g] = [&shape.image, &shape.weights(), &shape.result()].map(|sizes| integers(&mut rng, sizes));
            let derivative = shape.back_to_weights(&x.to_f64(), &g.to_f64());
            let expected = w.to_f64().into_iter().zip(derivative).map(|(w, by)| w - by).collect();
            (vec![x, w, g], expected)
        });
        check(&module, &calls);
    }
}

/// Weights that are stored `[3, 3, inputs, outputs]`: results are neighbours along outputs.
#[test]
fn derivatives_of_weights_by_outputs() {
    let mut rng = Rng::named("by outputs");
    let shape = Shape::new([6, 10, 9, 24], 40, [[1, 1], [1, 1]]);
    let sizes = [3, 3, 24, 40];
    let mut b = Build::new("conv");
    let (x, w) = (b.arg("x", DType::F32, shape.image), b.arg("w", DType::F32, sizes));
    let g = b.arg("g", DType::F32, shape.result());
    let y = b.add(Op::Conv(Conv { kernel: vec![3, 2, 0, 1], ..shape.conv() }), &[x, w]);
    let derivative = b.vjp(&[y], &[g], &[w])[0];
    let [x, w, g] = [&shape.image[..], &sizes, &shape.result()].map(|sizes| integers(&mut rng, sizes));
    let by_weights = shape.back_to_weights(&x.to_f64(), &g.to_f64());
    let place = |place: usize| (place % 40 * 24 + place / 40 % 24) * 9 + place / (40 * 24);
    let expected = (0..by_weights.len()).map(|at| by_weights[place(at)]).collect();
    check(&b.finish([derivative]), &[(vec![x, w, g], expected)]);
}

/// Only where a caller allows it and it is less work: windows of 3x3 that slide by one, over channels enough, in `f32`.
#[test]
fn chosen_where_it_is_less_work() {
    let shape = Shape::new([2, 16, 16, 64], 64, [[1, 1], [1, 1]]);
    let of = |shape: &Shape, conv: Conv, window: usize, dtype: DType| {
        let mut b = Build::new("conv");
        let channels = shape.image[conv.input[1]] / usize::try_from(conv.groups).expect("few groups");
        let (x, w) = (b.arg("x", dtype, shape.image), b.arg("w", dtype, [shape.outputs, channels, window, window]));
        let y = b.add(Op::Conv(conv), &[x, w]);
        b.finish([y])
    };
    let changed = |change: &dyn Fn(&mut ConvAxis)| {
        let mut conv = shape.conv();
        conv.axes.iter_mut().for_each(change);
        conv
    };
    let grouped = Conv { groups: 2, ..shape.conv() };
    let few = Shape::new([2, 16, 16, 2], 64, [[1, 1], [1, 1]]);
    let by_planes = Conv { input: vec![0, 1, 2, 3], output: vec![0, 1, 2, 3], ..shape.conv() };
    let planes = Shape::new([2, 64, 16, 16], 64, [[1, 1], [1, 1]]);
    let cases = [
        ("3x3", of(&shape, shape.conv(), 3, DType::F32), true),
        ("bf16", of(&shape, shape.conv(), 3, DType::BF16), true),
        ("channels before planes", of(&planes, by_planes, 3, DType::F32), false),
        ("stride 2", of(&shape, changed(&|axis| axis.stride = 2), 3, DType::F32), false),
        ("dilation 2", of(&shape, changed(&|axis| axis.kernel_dilation = 2), 3, DType::F32), false),
        ("input dilation 2", of(&shape, changed(&|axis| axis.input_dilation = 2), 3, DType::F32), false),
        ("two groups", of(&shape, grouped, 3, DType::F32), false),
        ("5x5", of(&shape, shape.conv(), 5, DType::F32), false),
        ("1x1", of(&shape, shape.conv(), 1, DType::F32), false),
        ("two channels", of(&few, few.conv(), 3, DType::F32), false),
        ("f64", of(&shape, shape.conv(), 3, DType::F64), false),
    ];
    for (what, module, expected) in cases {
        for way in Convolutions::ALL {
            let chosen = transforms(compile(&Cpu::new(1).with_convolutions(way), &module).as_ref());
            assert_eq!(chosen, expected && way != Convolutions::Direct, "{what}, {way}");
        }
    }
    assert_eq!(Cpu::new(1).convolutions(), Convolutions::Direct, "nobody gets other rounding who does not ask for it");
}

/// Of two results at once, an infinity reaches those whose windows hold it, as it does directly; of four, others of its patches too.
#[test]
fn infinities_stay_in_their_patches() {
    let shape = Shape::new([1, 12, 12, 32], 32, [[1, 1], [1, 1]]);
    let mut b = Build::new("conv");
    let (x, w) = (b.arg("x", DType::F32, shape.image), b.arg("w", DType::F32, shape.weights()));
    let y = b.add(Op::Conv(shape.conv()), &[x, w]);
    let module = b.finish([y]);
    let ones = |shape: &[usize]| vec![1.0f32; shape.iter().product()];
    let mut image = ones(&shape.image);
    image[(3 * 12 + 5) * 32] = f32::INFINITY;
    let inputs = [(shape.image, image), (shape.weights(), ones(&shape.weights()))];
    let inputs = inputs.map(|(shape, data)| Array::from_vec(shape, data).expect("sizes agree"));
    for way in Convolutions::ALL {
        let results = run(compile(&Cpu::new(1).with_convolutions(way), &module).as_ref(), &inputs);
        let infinite = results[0].to_f64().into_iter().enumerate().filter(|(_, y)| !y.is_finite());
        let found: BTreeSet<[usize; 2]> = infinite.map(|(place, _)| [place / (12 * 32), place / 32 % 12]).collect();
        let windows: BTreeSet<[usize; 2]> = (2..5).flat_map(|row| (4..7).map(move |column| [row, column])).collect();
        if way == Convolutions::Winograd4 {
            assert!(found.is_superset(&windows) && found.len() > windows.len(), "{found:?}");
            assert!(found.iter().all(|[row, column]| *row < 8 && (4..8).contains(column)), "{found:?}");
        } else {
            assert_eq!(found, windows, "{way}");
        }
    }
}

/// The greatest error, in units of the results' root mean square, of 576 and 2304 products of normal numbers: what `docs/numerics.md` says.
#[test]
fn exact_enough() {
    let mut rng = Rng::named("normal");
    for channels in [64, 256] {
        let shape = Shape::new([1, 14, 14, channels], 32, [[1, 1], [1, 1]]);
        let mut b = Build::new("conv");
        let (x, w) = (b.arg("x", DType::F32, shape.image), b.arg("w", DType::F32, shape.weights()));
        let y = b.add(Op::Conv(shape.conv()), &[x, w]);
        let module = b.finish([y]);
        let inputs = [normal(&mut rng, &shape.image), normal(&mut rng, &shape.weights())];
        let expected = shape.reference(&inputs[0].to_f64(), &inputs[1].to_f64());
        errors(&format!("{channels} channels"), &module, &inputs, &expected, [1e-5, 3e-6, 5e-5]);
    }
}

/// The same of weights' derivatives, of 1568 and 6272 products.
#[test]
fn derivatives_of_weights_are_exact_enough() {
    let mut rng = Rng::named("normal weights");
    for images in [8, 32] {
        let shape = Shape::new([images, 14, 14, 32], 64, [[1, 1], [1, 1]]);
        let mut b = Build::new("conv");
        let (x, w) = (b.arg("x", DType::F32, shape.image), b.arg("w", DType::F32, shape.weights()));
        let g = b.arg("g", DType::F32, shape.result());
        let y = b.add(Op::Conv(shape.conv()), &[x, w]);
        let derivative = b.vjp(&[y], &[g], &[w])[0];
        let module = b.finish([derivative]);
        let inputs = [normal(&mut rng, &shape.image), normal(&mut rng, &shape.weights()), normal(&mut rng, &shape.result())];
        let expected = shape.back_to_weights(&inputs[0].to_f64(), &inputs[2].to_f64());
        errors(&format!("weights, {images} images"), &module, &inputs, &expected, [3e-5, 1e-5, 5e-5]);
    }
}

/// The greatest error of every way at every level, in units of the results' root mean square, is at most so much.
fn errors(what: &str, module: &Module, inputs: &[Array], expected: &[f64], most: [f64; 3]) {
    let squares: f64 = expected.iter().map(|x| x * x).sum();
    let unit = (squares / f64::from(u32::try_from(expected.len()).expect("few results"))).sqrt();
    for cpu in levels::cpus(1) {
        for (way, most) in Convolutions::ALL.into_iter().zip(most) {
            let isa = cpu.isa();
            let executable = compile(&cpu.clone().with_convolutions(way), module);
            assert_eq!(transforms(executable.as_ref()), way != Convolutions::Direct);
            let error = greatest_error(expected, &run(executable.as_ref(), inputs)[0].to_f64()) / unit;
            println!("{what}, {isa}, {way}: {error:.1e}");
            assert!(error <= most, "{what}, {isa}, {way}: {error:e}");
        }
    }
}
