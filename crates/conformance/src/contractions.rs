//! Contractions of sizes around those of tiles, in every arrangement of operands and results, with and without fused
//! neighbours: within the bounds of sums, and bit for bit the same in every guise.

use graver_interp::{Precision, eval};
use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{Array, DType, Dim, Module, Op, ScalarFn, Symbol};
use graver_runtime::Backend;
use graver_testkit::{Bound, Build, Fill, Rng, check_close};

use crate::{Compiled, report};

/// A contraction, and inputs of one or several sizes.
pub(crate) struct Case {
    pub(crate) what: String,
    pub(crate) module: Module,
    pub(crate) inputs: Vec<Vec<Array>>,
    pub(crate) bound: Bound,
}

/// Products, convolutions and sums of sizes around those of tiles, in every arrangement of operands and results.
///
/// # Panics
/// If any leaves its bounds, or has other bits on one of the backends in `alike`.
pub fn contractions(backend: &dyn Backend, alike: &[&dyn Backend]) {
    check_all(&cases(), backend, alike);
}

/// Products of numbers of 16 bits or less, summed in 32: what instructions that add up several products at once are for.
///
/// # Panics
/// As [`contractions`].
pub fn narrow_contractions(backend: &dyn Backend, alike: &[&dyn Backend]) {
    check_all(&crate::narrow::cases(), backend, alike);
}

/// Pooling of every kind, and its derivatives.
///
/// # Panics
/// As [`contractions`].
pub fn pools(backend: &dyn Backend, alike: &[&dyn Backend]) {
    check_all(&crate::pools::cases(), backend, alike);
}

fn check_all(cases: &[Case], backend: &dyn Backend, alike: &[&dyn Backend]) {
    let compiled: Vec<_> = cases.iter().map(|case| Compiled::new(&case.module, backend, alike)).collect();
    let wrong = cases.iter().zip(compiled).flat_map(|(case, compiled)| {
        let check = |inputs: &Vec<Array>| check(case, inputs, &compiled.as_ref().map_err(String::clone)?.run(inputs, &[])?);
        case.inputs
            .iter()
            .filter_map(|inputs| check(inputs).err().map(|error| format!("{}: {error}", case.what)))
            .collect::<Vec<_>>()
    });
    report("contractions", &wrong.collect::<Vec<_>>());
}

pub(crate) fn cases() -> Vec<Case> {
    [products(), few_rows(), deep(), convolutions(), symbolic(), long_sums(), crate::shares::cases(), crate::windows::cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn check(case: &Case, inputs: &[Array], results: &[Array]) -> Result<(), String> {
    let inputs: Vec<&Array> = inputs.iter().collect();
    let entry = *case.module.functions.keys().next().ok_or("a module has a function")?;
    let expected = eval(&case.module, entry, &inputs, &[], Precision::Reference).map_err(|error| error.to_string())?;
    expected.outputs.iter().zip(results).try_for_each(|(expected, got)| check_close(expected, got, case.bound))
}

/// Integers from -3 to 3: their sums in any order are exact in every type but the smallest.
pub(crate) fn integers(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Array {
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

fn products() -> Vec<Case> {
    let mut rng = Rng::named("products");
    let sizes = [
        [5, 8, 64],
        [6, 9, 65],
        [64, 10, 33],
        [17, 3, 50],
        [3, 40, 40],
        [41, 33, 129],
        [1, 64, 64],
        [64, 1, 64],
        [50, 72, 96],
        [9, 50, 1100],
    ];
    let mut cases = Vec::new();
    for sizes in sizes {
        for arrangement in 0..8 {
            for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32] {
                let (module, shapes) = dot(dtype, sizes, arrangement);
                let inputs = shapes.iter().map(|shape| integers(&mut rng, dtype, shape)).collect();
                // 16-bit results round once.
                let bound = if dtype.size() == 2 { Bound::ulps(dtype, 1.0) } else { Bound::EXACT };
                cases.push(Case {
                    what: format!("{dtype} {sizes:?} arrangement {arrangement}"),
                    module,
                    inputs: vec![inputs],
                    bound,
                });
            }
        }
    }
    cases
}

/// Few rows against many columns, either way round, and so many rows as a call has.
fn few_rows() -> Vec<Case> {
    let mut rng = Rng::named("few rows");
    let (k, columns) = ([2usize, 67], 1_030usize);
    let mut case = |arrangement: usize, rows: Option<usize>, dtype: DType| {
        let (x_last, y_last, swapped) = (arrangement & 1 == 1, arrangement & 2 == 2, arrangement & 4 == 4);
        let shape = |own: Dim, k_last: bool| {
            let k = k.map(Dim::from);
            if k_last { [vec![own], k.to_vec()].concat() } else { [k.to_vec(), vec![own]].concat() }
        };
        let contracted = |k_last: bool| if k_last { vec![1, 2] } else { vec![0, 1] };
        let mut b = Build::new("few");
        let count = rows.map_or_else(|| Dim::sym(&Symbol::new("rows")), Dim::from);
        let (x_shape, y_shape) = (shape(count, x_last), shape(Dim::from(columns), y_last));
        let (x, y) = (b.arg("x", dtype, x_shape.clone()), b.arg("y", dtype, y_shape.clone()));
        let axes = |left: bool, right: bool| DotAxes {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: contracted(left),
            rhs_contract: contracted(right),
        };
        let z = if swapped { b.dot(y, x, axes(y_last, x_last)) } else { b.dot(x, y, axes(x_last, y_last)) };
        let z = b.map(ScalarFn::Neg, [z]);
        let sized = |shape: &[Dim], rows: usize| -> Vec<usize> {
            shape.iter().map(|dim| dim.as_const().map_or(rows, |size| usize::try_from(size).expect("a size"))).collect()
        };
        let counts = rows.map_or_else(|| vec![0, 1, 2, 3, 5, 13, 1], |rows| vec![rows]);
        let mut arrays = |rows: usize| [&x_shape, &y_shape].map(|shape| integers(&mut rng, dtype, &sized(shape, rows))).to_vec();
        let inputs = counts.into_iter().map(&mut arrays).collect();
        Case {
            what: format!("{rows:?} rows of {dtype}, arrangement {arrangement}"),
            module: b.finish([z]),
            inputs,
            bound: Bound::EXACT,
        }
    };
    let mut cases = Vec::new();
    for arrangement in 0..8 {
        for rows in [Some(1), Some(3), None] {
            cases.push(case(arrangement, rows, DType::F32));
        }
    }
    cases.extend([0, 2].map(|arrangement| case(arrangement, Some(2), DType::F64)));
    cases
}

/// Sums over two axes of more steps than a cache holds, which stand first, last or apart in either operand.
fn deep() -> Vec<Case> {
    let mut rng = Rng::named("deep");
    let (rows, columns, k) = (19usize, 70usize, [27usize, 41]);
    let places = [[0, 1], [1, 2], [0, 2]];
    let shape = |own: usize, [first, second]: [usize; 2]| {
        let mut shape = vec![own; 3];
        (shape[first], shape[second]) = (k[0], k[1]);
        shape
    };
    let mut case = |x: [usize; 2], y: [usize; 2], symbolic: bool| {
        let mut b = Build::new("dot");
        let outer = if symbolic { Dim::sym(&Symbol::new("k")) } else { Dim::from(k[0]) };
        let dims = |shape: &[usize], place: usize| {
            let mut dims: Vec<Dim> = shape.iter().map(|size| Dim::from(*size)).collect();
            dims[place] = outer.clone();
            dims
        };
        let shapes = [shape(rows, x), shape(columns, y)];
        let (left, right) = (b.arg("x", DType::F32, dims(&shapes[0], x[0])), b.arg("y", DType::F32, dims(&shapes[1], y[0])));
        let axes = DotAxes { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: x.to_vec(), rhs_contract: y.to_vec() };
        let z = b.dot(left, right, axes);
        let inputs = shapes.iter().map(|shape| integers(&mut rng, DType::F32, shape)).collect();
        let what = format!("deep, k at {x:?} and {y:?}{}", if symbolic { ", symbolic" } else { "" });
        Case { what, module: b.finish([z]), inputs: vec![inputs], bound: Bound::EXACT }
    };
    let pairs = places.iter().flat_map(|x| places.iter().map(move |y| (*x, *y)));
    pairs.flat_map(|(x, y)| [false, true].map(|symbolic| (x, y, symbolic))).map(|(x, y, symbolic)| case(x, y, symbolic)).collect()
}

/// A convolution by weights `[outputs, rows, columns, inputs]`.
pub(crate) fn windows(layout: [usize; 4], stride: i64, pad: i64) -> Op {
    let axis = ConvAxis { stride, low: Dim::from(pad), high: Dim::from(pad), kernel_dilation: 1, input_dilation: 1 };
    Op::Conv(Conv {
        input: layout.to_vec(),
        kernel: vec![0, 3, 1, 2],
        output: layout.to_vec(),
        axes: vec![axis.clone(), axis],
        groups: 1,
        batch_groups: 1,
    })
}

fn convolutions() -> Vec<Case> {
    let mut rng = Rng::named("convolutions");
    let layouts = [[0, 1, 2, 3], [0, 3, 1, 2]];
    let all = layouts.into_iter().flat_map(|layout| [(1, 1), (2, 1), (1, 0), (2, 2)].map(|how| (layout, how)));
    let case = |(layout, (stride, pad)): ([usize; 4], (i64, i64))| {
        let logical = [3usize, 5, 9, 7];
        let mut shape = [0; 4];
        layout.iter().zip(logical).for_each(|(place, size): (&usize, usize)| shape[*place] = size);
        let mut b = Build::new("conv");
        let x = b.arg("x", DType::F32, shape.map(Dim::from).to_vec());
        let w = b.arg("w", DType::F32, [6, 3, 3, 5]);
        let z = b.add(windows(layout, stride, pad), &[x, w]);
        let z = b.map(ScalarFn::Relu, [z]);
        let inputs = vec![integers(&mut rng, DType::F32, &shape), integers(&mut rng, DType::F32, &[6, 3, 3, 5])];
        let what = format!("layout {layout:?} stride {stride} pad {pad}");
        Case { what, module: b.finish([z]), inputs: vec![inputs], bound: Bound::EXACT }
    };
    all.map(case).collect()
}

/// Down to nothing.
fn symbolic() -> Vec<Case> {
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
    let inputs = [0usize, 1, 2, 5, 8, 23, 1030]
        .map(|size| vec![integers(&mut rng, DType::F32, &[size, 7]), integers(&mut rng, DType::F32, &[7, size])]);
    vec![Case { what: "symbolic".to_owned(), module: b.finish([outer, inner]), inputs: inputs.to_vec(), bound: Bound::EXACT }]
}

/// Partial sums keep errors far below those of a running sum.
fn long_sums() -> Vec<Case> {
    let mut b = Build::new("sum");
    let x = b.arg("x", DType::F32, [3, 100_003]);
    let rows = b.reduce(graver_ir::op::ReduceKind::Sum, x, [1]);
    let columns = b.reduce(graver_ir::op::ReduceKind::Sum, x, [0]);
    let inputs = vec![Fill::Any.array(DType::F32, &[3, 100_003], &mut Rng::named("long"))];
    let magnitude = inputs[0].to_f64().iter().map(|x| x.abs()).sum::<f64>() / 3.0;
    let bound = Bound::sum(DType::F32, 600, magnitude);
    vec![Case { what: "long sums".to_owned(), module: b.finish([rows, columns]), inputs: vec![inputs], bound }]
}
