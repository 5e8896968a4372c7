//! Contractions of sizes around those of tiles, in every arrangement of operands and results, with and without fused
//! neighbours: within the bounds of sums, and bit for bit the same on any number of threads.

mod levels;

use std::sync::Arc;

use graver_cpu::Cpu;
use graver_interp::{Precision, eval};
use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{Array, DType, Dim, Module, Op, ScalarFn, Symbol};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Invocation};
use graver_testkit::{Bound, Build, Fill, Rng, check_close};

fn run(cpu: &Cpu, module: &Module, inputs: &[&Array]) -> Vec<Array> {
    let program = pipeline::compile(module.clone(), &cpu.describe(), &mut Silent).expect("it compiles");
    let executable = cpu.compile(Arc::new(program)).expect("it compiles");
    let mut workspace = executable.workspace();
    let call = Invocation { entry: 0, inputs, state: &mut [], workspace: &mut workspace };
    executable.run(call).expect("it runs")
}

/// Inputs are integers from -3 to 3, so that sums of any order are exact in every type but the smallest.
fn check(what: &str, module: &Module, inputs: &[Array], bound: Bound) {
    let inputs: Vec<&Array> = inputs.iter().collect();
    let entry = *module.functions.keys().next().expect("a function");
    let expected = eval(module, entry, &inputs, &[], Precision::Reference).expect("it runs");
    for cpu in levels::cpus(1) {
        let isa = cpu.isa();
        let got = run(&cpu, module, &inputs);
        for (expected, got) in expected.outputs.iter().zip(&got) {
            check_close(expected, got, bound).unwrap_or_else(|error| panic!("{what}, {isa}: {error}"));
        }
        for threads in [2, 3] {
            let cpu = Cpu::new(threads).with_isa(isa).expect("it ran on one thread");
            assert_eq!(got, run(&cpu, module, &inputs), "{what}, {isa}: {threads} threads give other bits");
        }
    }
}

fn integers(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Array {
    let values: Vec<i64> = (0..shape.iter().product()).map(|_| rng.int(-3, 3)).collect();
    Array::from_fn(dtype, shape, |place| graver_ir::Scalar::int(dtype, values[place]))
}

/// `z[m, n] = x . y` with each operand either way round, and the result transposed or not.
fn dot(dtype: DType, [m, n, k]: [usize; 3], arrangement: usize) -> (Module, Vec<Vec<usize>>) {
    let (x_last, y_last, transposed) = (arrangement & 1 == 1, arrangement & 2 == 2, arrangement & 4 == 4);
    let sized = |own: usize, k_last: bool| if k_last { [own, k] } else { [k, own] };
    let (x_shape, y_shape) = (sized(m, x_last), sized(n, y_last));
    let mut b = Build::new("dot");
    let dims = |shape: [usize; 2]| shape.map(Dim::from).to_vec();
    let (x, y) = (b.arg("x", dtype, dims(x_shape)), b.arg("y", dtype, dims(y_shape)));
    let axes = DotAxes {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![usize::from(x_last)],
        rhs_contract: vec![usize::from(y_last)],
    };
    let mut z = b.dot(x, y, axes);
    if transposed {
        z = b.permute(z, [1, 0]);
    }
    // A fused prologue and epilogue would change no integer.
    let z = b.map(ScalarFn::Neg, [z]);
    (b.finish([z]), vec![x_shape.to_vec(), y_shape.to_vec()])
}

#[test]
fn products_of_every_arrangement() {
    let mut rng = Rng::named("products");
    for (case, sizes) in [[5, 8, 64], [6, 9, 65], [64, 10, 33], [17, 3, 50], [3, 40, 40], [41, 33, 129], [1, 64, 64], [64, 1, 64]]
        .into_iter()
        .enumerate()
    {
        for arrangement in 0..8 {
            for dtype in [DType::F32, DType::F64, DType::BF16, DType::I32] {
                let (module, shapes) = dot(dtype, sizes, arrangement);
                let inputs: Vec<Array> = shapes.iter().map(|shape| integers(&mut rng, dtype, shape)).collect();
                // 16-bit results round once.
                let bound = if dtype == DType::BF16 { Bound::ulps(dtype, 1.0) } else { Bound::EXACT };
                check(&format!("case {case} {dtype} {sizes:?} arrangement {arrangement}"), &module, &inputs, bound);
            }
        }
    }
}

#[test]
fn convolutions_in_both_layouts() {
    let mut rng = Rng::named("convolutions");
    let layouts = [[0, 1, 2, 3], [0, 3, 1, 2]];
    for (layout, (stride, pad)) in
        layouts.into_iter().flat_map(|layout| [(1, 1), (2, 1), (1, 0), (2, 2)].map(|how| (layout, how)))
    {
        let logical = [3usize, 5, 9, 7];
        let mut shape = [0; 4];
        layout.iter().zip(logical).for_each(|(place, size): (&usize, usize)| shape[*place] = size);
        let mut b = Build::new("conv");
        let x = b.arg("x", DType::F32, shape.map(Dim::from).to_vec());
        let w = b.arg("w", DType::F32, [6, 3, 3, 5]);
        let axis = ConvAxis { stride, low: Dim::from(pad), high: Dim::from(pad), kernel_dilation: 1, input_dilation: 1 };
        let conv = Conv {
            input: layout.to_vec(),
            kernel: vec![0, 3, 1, 2],
            output: layout.to_vec(),
            axes: vec![axis.clone(), axis],
            groups: 1,
            batch_groups: 1,
        };
        let z = b.add(Op::Conv(conv), &[x, w]);
        let z = b.map(ScalarFn::Relu, [z]);
        let module = b.finish([z]);
        let inputs = [integers(&mut rng, DType::F32, &shape), integers(&mut rng, DType::F32, &[6, 3, 3, 5])];
        check(&format!("layout {layout:?} stride {stride} pad {pad}"), &module, &inputs, Bound::EXACT);
    }
}

#[test]
fn symbolic_sizes_down_to_zero() {
    let mut rng = Rng::named("symbolic");
    let n = Dim::sym(&Symbol::new("n"));
    let mut b = Build::new("dot");
    let (x, y) = (b.arg("x", DType::F32, vec![n.clone(), Dim::from(7)]), b.arg("y", DType::F32, vec![Dim::from(7), n]));
    let axes = |contract: usize, other: usize| DotAxes {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![contract],
        rhs_contract: vec![other],
    };
    let (outer, inner) = (b.dot(x, y, axes(1, 0)), b.dot(x, y, axes(0, 1)));
    let module = b.finish([outer, inner]);
    for size in [0usize, 1, 2, 5, 8, 23] {
        let inputs = [integers(&mut rng, DType::F32, &[size, 7]), integers(&mut rng, DType::F32, &[7, size])];
        check(&format!("n = {size}"), &module, &inputs, Bound::EXACT);
    }
}

#[test]
fn long_sums_are_accurate() {
    let mut b = Build::new("sum");
    let x = b.arg("x", DType::F32, [3, 100_003]);
    let rows = b.reduce(graver_ir::op::ReduceKind::Sum, x, [1]);
    let columns = b.reduce(graver_ir::op::ReduceKind::Sum, x, [0]);
    let module = b.finish([rows, columns]);
    let inputs = [Fill::Any.array(DType::F32, &[3, 100_003], &mut Rng::named("long"))];
    // Chunks keep errors far below those of a running sum.
    let magnitude = inputs[0].to_f64().iter().map(|x| x.abs()).sum::<f64>() / 3.0;
    check("sums", &module, &inputs, Bound::sum(DType::F32, 600, magnitude));
}
