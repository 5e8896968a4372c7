//! Few results of many terms each, which a machine of many processors cuts into shares; and transposes, which it does in tiles.

use graver_ir::op::{DotAxes, Extreme, ReduceKind, ScatterKind};
use graver_ir::{Array, DType, Dim, Module, ScalarFn, Symbol, Value};
use graver_testkit::{Bound, Build, Fill, Rng};

use crate::contractions::{Case, integers};

/// Every case.
pub(crate) fn cases() -> Vec<Case> {
    [long_products(), rows(), columns(), softmaxes(), transposes(), prefixes(), scatters()].into_iter().flatten().collect()
}

/// Rows of an array combined with rows, some of them twice.
fn scatters() -> Vec<Case> {
    let mut rng = Rng::named("scatters");
    let mut one = |kind: ScatterKind, dtype: DType, symbolic: bool| {
        let sizes: &[usize] = if symbolic { &[0, 1, 5, 150, 300] } else { &[150] };
        let columns = if symbolic { Dim::sym(&Symbol::new("columns")) } else { Dim::from(sizes[0]) };
        let mut b = Build::new("scatter");
        let rows = |rows: usize| vec![Dim::from(2), Dim::from(rows), columns.clone()];
        let (x, update) = (b.arg("x", dtype, rows(9)), b.arg("update", dtype, rows(14)));
        let index = b.arg("index", DType::I64, vec![Dim::from(2), Dim::from(14)]);
        let z = b.scatter(kind, [x, index, update], 1, 1);
        let places = Array::from_vec([2, 14], (0..28).map(|place| place * 5 % 9).collect::<Vec<i64>>()).expect("sizes agree");
        let inputs = sizes.iter().map(|size| {
            let [x, update] = [9, 14].map(|rows| integers(&mut rng, dtype, &[2, rows, *size]));
            vec![x, update, places.clone()]
        });
        let what = format!("{} {dtype} {symbolic}", kind.name());
        case(what, b.finish([z]), inputs.collect(), Bound::EXACT)
    };
    let all = [
        (ScatterKind::Add, DType::F32, false),
        (ScatterKind::Add, DType::BF16, true),
        (ScatterKind::Set, DType::I64, true),
        (ScatterKind::Max, DType::F64, false),
        (ScatterKind::Mul, DType::I8, false),
        (ScatterKind::Min, DType::F16, true),
        (ScatterKind::Set, DType::Bool, false),
    ];
    all.map(|(kind, dtype, symbolic)| one(kind, dtype, symbolic)).into()
}

/// Products that are larger on the way than `f32` holds, of neighbours and of what threads and vectors have.
fn large() -> Case {
    let mut b = Build::new("prefix");
    let x = b.arg("x", DType::F32, vec![Dim::from(2), Dim::from(200)]);
    let z = b.prefix(ReduceKind::Prod, 1, false, x);
    let values: Vec<f32> = (0..400).map(|place| if [1, 2].contains(&(place % 4)) { 1e30 } else { 1e-30 }).collect();
    let far: Vec<f32> = (0..400).map(|place| if (25..75).contains(&(place % 100)) { 16.0 } else { 1.0 / 16.0 }).collect();
    let inputs = [values, far].map(|values| vec![Array::from_vec([2, 200], values).expect("sizes agree")]);
    case("large prefixes".to_owned(), b.finish([z]), inputs.into(), Bound { relative: 1e-5, absolute: 0.0 })
}

/// What is combined with all before it along few long lines, and across many.
fn prefixes() -> Vec<Case> {
    let mut rng = Rng::named("prefixes");
    let mut one =
        |dtype: DType, [rows, columns]: [Dim; 2], sizes: &[[usize; 2]], (kind, axis, reverse): (ReduceKind, usize, bool)| {
            let mut b = Build::new("prefix");
            let x = b.arg("x", dtype, vec![rows, columns]);
            let y = b.map(ScalarFn::Neg, [x]);
            let z = b.prefix(kind, axis, reverse, y);
            let inputs = sizes.iter().map(|size| vec![integers(&mut rng, dtype, size)]).collect();
            let what = format!("prefix {} {dtype} {sizes:?} {axis}", kind.name());
            case(what, b.finish([z]), inputs, Bound::EXACT)
        };
    let (known, n) = (|sizes: [usize; 2]| sizes.map(Dim::from), Dim::sym(&Symbol::ranged("n", 40_000, 300_000, 1)));
    vec![
        one(DType::F32, known([2, 262_151]), &[[2, 262_151]], (ReduceKind::Sum, 1, false)),
        one(DType::I32, known([1, 262_149]), &[[1, 262_149]], (ReduceKind::Max, 1, true)),
        one(DType::I64, [Dim::from(3), n.clone()], &[[3, 40_000], [3, 41_003]], (ReduceKind::Sum, 1, true)),
        one(DType::F32, [n, Dim::from(2)], &[[40_001, 2]], (ReduceKind::Sum, 0, false)),
        one(DType::F32, known([40, 4100]), &[[40, 4100]], (ReduceKind::Sum, 0, true)),
        large(),
    ]
}

/// Numbers for a shape that one symbol may stand in.
type Inputs = Vec<Vec<Array>>;

fn case(what: String, module: Module, inputs: Inputs, bound: Bound) -> Case {
    Case { what, module, inputs, bound }
}

/// `z[b, m, n]`, summed over a `k` that is far longer than either, of known size or not.
fn long_products() -> Vec<Case> {
    let mut rng = Rng::named("long products");
    let mut one = |dtype: DType, [m, n]: [usize; 2], symbolic: bool, k_last: bool| {
        let sizes: &[usize] = if symbolic { &[0, 1, 700, 4129] } else { &[2200] };
        let k = if symbolic { Dim::sym(&Symbol::ranged("k", 0, 100_000, 1)) } else { Dim::from(sizes[0]) };
        let mut b = Build::new("dot");
        let shape = |own: usize, k: usize| if k_last { [2, own, k] } else { [2, k, own] };
        let dims = |own: usize| {
            if k_last { vec![Dim::from(2), Dim::from(own), k.clone()] } else { vec![Dim::from(2), k.clone(), Dim::from(own)] }
        };
        let (x, y) = (b.arg("x", dtype, dims(m)), b.arg("y", dtype, dims(n)));
        let contract = vec![if k_last { 2 } else { 1 }];
        let axes = DotAxes { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: contract.clone(), rhs_contract: contract };
        let z = b.dot(x, y, axes);
        let z = b.map(ScalarFn::Relu, [z]);
        let inputs =
            sizes.iter().map(|k| vec![integers(&mut rng, dtype, &shape(m, *k)), integers(&mut rng, dtype, &shape(n, *k))]);
        let bound = if dtype.size() == 2 { Bound::ulps(dtype, 1.0) } else { Bound::EXACT };
        case(format!("long product {dtype} {m} {n}, {symbolic} {k_last}"), b.finish([z]), inputs.collect(), bound)
    };
    let all = [
        (DType::F32, [9, 70], false, true),
        (DType::F32, [70, 9], true, false),
        (DType::F32, [65, 66], true, true),
        (DType::F64, [9, 20], true, false),
        (DType::I32, [5, 6], false, false),
        (DType::BF16, [16, 40], false, true),
        (DType::BF16, [70, 24], true, true),
        (DType::F16, [16, 72], true, false),
    ];
    all.map(|(dtype, sizes, symbolic, k_last)| one(dtype, sizes, symbolic, k_last)).into()
}

/// Sums, extremes and their positions along long rows.
fn rows() -> Vec<Case> {
    let mut rng = Rng::named("long rows");
    let cases: [(bool, &[usize]); 3] = [(false, &[40_007]), (false, &[40_008]), (true, &[0, 5, 32_768, 40_007])];
    let cases = cases.into_iter().map(|(symbolic, sizes)| {
        let mut b = Build::new("rows");
        let length = if symbolic { Dim::sym(&Symbol::ranged("n", 0, 100_000, 1)) } else { Dim::from(sizes[0]) };
        let x = b.arg("x", DType::I32, vec![Dim::from(3), length]);
        let squared = b.map(ScalarFn::Mul, [x, x]);
        let results =
            [b.reduce(ReduceKind::Sum, squared, [1]), b.reduce(ReduceKind::Max, x, [1]), b.reduce(ReduceKind::Sum, x, [0, 1])];
        let inputs = sizes.iter().map(|size| vec![Fill::Any.array(DType::I32, &[3, *size], &mut rng)]).collect();
        case(format!("long rows {sizes:?}, {symbolic}"), b.finish(results), inputs, Bound::EXACT)
    });
    let mut all: Vec<Case> = cases.collect();
    let mut b = Build::new("places");
    let x = b.arg("x", DType::F32, [2, 33_001]);
    let places = [Extreme::Max, Extreme::Min].map(|extreme| b.arg_reduce(extreme, x, 1));
    let inputs = vec![vec![integers(&mut rng, DType::F32, &[2, 33_001])]];
    all.push(case("places in long rows".to_owned(), b.finish(places), inputs, Bound::EXACT));
    all
}

/// Sums and extremes down long columns.
fn columns() -> Vec<Case> {
    let mut rng = Rng::named("long columns");
    let mut b = Build::new("columns");
    let length = Dim::sym(&Symbol::ranged("n", 0, 100_000, 1));
    let x = b.arg("x", DType::F32, vec![length, Dim::from(45)]);
    let results = [b.reduce(ReduceKind::Sum, x, [0]), b.reduce(ReduceKind::Min, x, [0]), b.arg_reduce(Extreme::Max, x, 0)];
    let inputs = [1usize, 511, 3000].map(|size| vec![integers(&mut rng, DType::F32, &[size, 45])]);
    vec![case("long columns".to_owned(), b.finish(results), inputs.into(), Bound::EXACT)]
}

/// Stages that read what earlier ones reduced: shares of long rows and columns.
fn softmaxes() -> Vec<Case> {
    let mut rng = Rng::named("long softmax");
    let mut one = |shape: [usize; 2], axis: usize| {
        let mut b = Build::new("softmax");
        let x = b.arg("x", DType::F32, shape);
        let spread = |b: &mut Build, x: Value| b.broadcast(x, shape, [1 - axis]);
        let most = b.reduce(ReduceKind::Max, x, [axis]);
        let most = spread(&mut b, most);
        let below = b.map(ScalarFn::Sub, [x, most]);
        let share = b.map(ScalarFn::Exp, [below]);
        let sum = b.reduce(ReduceKind::Sum, share, [axis]);
        let sum = spread(&mut b, sum);
        let y = b.map(ScalarFn::Div, [share, sum]);
        let inputs = vec![vec![Fill::Quarters.array(DType::F32, &shape, &mut rng)]];
        let bound = Bound { relative: 1e-5, absolute: 1e-12 };
        case(format!("long softmax {shape:?} {axis}"), b.finish([y]), inputs, bound)
    };
    // The last of more rows than are cut.
    vec![one([2, 33_000], 1), one([2500, 40], 0), one([70, 20_000], 1)]
}

/// Axes in another order, of every size of element, alone and with what is read straight.
fn transposes() -> Vec<Case> {
    let mut rng = Rng::named("transposes");
    let mut cases = Vec::new();
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::U8] {
        for symbolic in [false, true] {
            let mut b = Build::new("transpose");
            let n = if symbolic { Dim::sym(&Symbol::ranged("n", 0, 1000, 1)) } else { Dim::from(33) };
            let x = b.arg("x", dtype, vec![Dim::from(3), n.clone(), Dim::from(70)]);
            let y = b.arg("y", dtype, vec![Dim::from(3), Dim::from(70), n]);
            let turned = b.permute(x, [0, 2, 1]);
            let (sum, moved) = (b.map(ScalarFn::Max, [turned, y]), b.permute(x, [2, 1, 0]));
            let sizes: &[usize] = if symbolic { &[0, 1, 64, 33] } else { &[33] };
            let mut array =
                |shape: [usize; 3]| integers(&mut rng, if dtype == DType::U8 { DType::I32 } else { dtype }, &shape).cast(dtype);
            let inputs = sizes.iter().map(|n| vec![array([3, *n, 70]), array([3, 70, *n])]).collect();
            cases.push(case(format!("transpose {dtype} {symbolic}"), b.finish([sum, moved]), inputs, Bound::EXACT));
        }
    }
    cases
}
