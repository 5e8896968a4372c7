//! Products of numbers of 16 bits or less, summed in 32 bits: of whole ones, however they were made, over the types' whole range, where
//! sums wrap, and of `bf16`.

use graver_ir::op::DotAxes;
use graver_ir::{Array, DType, Dim, Scalar, ScalarFn, Symbol, Value};
use graver_testkit::{Bound, Build, Fill, Rng};

use crate::contractions::{Case, windows};

/// Every case.
pub(crate) fn cases() -> Vec<Case> {
    [products(), halves(), batches(), unknown_sizes(), long_products(), convolutions()].into_iter().flatten().collect()
}

/// What one side's elements are, and what is made of them before they are multiplied.
#[derive(Clone, Copy, Debug)]
enum Made {
    Plain(DType),
    /// Less the zero point, of the same type.
    Centred(DType),
    /// Half a byte, the lower one, less 8.
    Nibble,
}

impl Made {
    fn dtype(self) -> DType {
        match self {
            Self::Plain(dtype) | Self::Centred(dtype) => dtype,
            Self::Nibble => DType::U8,
        }
    }

    /// As 32 bits.
    fn widen(self, b: &mut Build, x: Value) -> Value {
        match self {
            Self::Plain(_) => b.cast(DType::I32, x),
            Self::Centred(dtype) => {
                let zero = b.full(dtype, b.ty(x).shape.0.clone(), 113.0);
                let [x, zero] = [x, zero].map(|value| b.cast(DType::I32, value));
                b.map(ScalarFn::Sub, [x, zero])
            }
            Self::Nibble => {
                let dims = b.ty(x).shape.0.clone();
                let low = b.full(DType::U8, dims.clone(), 15.0);
                let half = b.map(ScalarFn::And, [x, low]);
                let (half, eight) = (b.cast(DType::I32, half), b.full(DType::I32, dims, 8.0));
                b.map(ScalarFn::Sub, [half, eight])
            }
        }
    }

    /// Any of the type's numbers, its extremes often.
    fn array(self, rng: &mut Rng, shape: &[usize]) -> Array {
        let dtype = self.dtype();
        let (low, high) = (Scalar::lowest(dtype).as_i64(), Scalar::highest(dtype).as_i64());
        let numbers: Vec<i64> = (0..shape.iter().product())
            .map(|_| match rng.int(0, 7) {
                0 => low,
                1 => high,
                _ => rng.int(low, high),
            })
            .collect();
        Array::from_fn(dtype, shape, |place| Scalar::int(dtype, numbers[place]))
    }
}

const MADE: [[Made; 2]; 9] = [
    [Made::Centred(DType::U8), Made::Plain(DType::I8)],
    [Made::Plain(DType::I8), Made::Plain(DType::I8)],
    [Made::Plain(DType::I16), Made::Plain(DType::I16)],
    [Made::Plain(DType::U8), Made::Centred(DType::U8)],
    [Made::Plain(DType::I8), Made::Nibble],
    [Made::Plain(DType::U8), Made::Plain(DType::I8)],
    [Made::Plain(DType::I8), Made::Plain(DType::U8)],
    [Made::Plain(DType::U8), Made::Plain(DType::U8)],
    // Too wide for 16 bits.
    [Made::Plain(DType::U16), Made::Centred(DType::I16)],
];

/// Sizes that calls have, and those that are known.
type Sizes = [Option<usize>; 3];

/// `z[m, n]` of `x` and `y`, each either way round.
fn product(rng: &mut Rng, made: [Made; 2], (known, calls): (Sizes, &[[usize; 3]]), arrangement: usize) -> Case {
    let (x_last, y_last) = (arrangement & 1 == 1, arrangement & 2 == 2);
    let names = ["m", "n", "k"];
    let dim = |place: usize| known[place].map_or_else(|| Dim::sym(&Symbol::ranged(names[place], 0, 100_000, 1)), Dim::from);
    let mut b = Build::new("dot");
    let sized = |own: usize, last: bool| if last { [own, 2] } else { [2, own] };
    let sides = [sized(0, x_last), sized(1, y_last)];
    let mut args = [0, 1].map(|side: usize| {
        let dims: Vec<Dim> = sides[side].iter().map(|place| dim(*place)).collect();
        b.arg(["x", "y"][side], made[side].dtype(), dims)
    });
    for (arg, made) in args.iter_mut().zip(made) {
        *arg = made.widen(&mut b, *arg);
    }
    let axes = DotAxes {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![usize::from(x_last)],
        rhs_contract: vec![usize::from(y_last)],
    };
    let z = b.dot(args[0], args[1], axes);
    let one = b.map(ScalarFn::Neg, [z]);
    let shapes = |sizes: &[usize; 3]| sides.map(|side| side.map(|place| sizes[place]));
    let mut inputs =
        |sizes: &[usize; 3]| shapes(sizes).iter().zip(made).map(|(shape, made)| made.array(rng, shape)).collect::<Vec<Array>>();
    let inputs = calls.iter().map(&mut inputs).collect();
    let what = format!("{made:?} {known:?} arrangement {arrangement}");
    Case { what, module: b.finish([one]), inputs, bound: Bound::EXACT }
}

fn products() -> Vec<Case> {
    let mut rng = Rng::named("narrow products");
    let sizes = [[17, 40, 65], [33, 70, 34], [6, 50, 1_037], [70, 35, 2]];
    let mut cases = Vec::new();
    for (number, sizes) in sizes.into_iter().enumerate() {
        for (place, made) in MADE.into_iter().enumerate() {
            // Every arrangement with every type, and with every size.
            cases.push(product(&mut rng, made, (sizes.map(Some), &[sizes]), (number + place) % 4));
        }
    }
    cases
}

/// Small whole numbers, whose sums are exact, and any, within the bound of a sum.
fn halves() -> Vec<Case> {
    let mut rng = Rng::named("halves");
    let mut cases = Vec::new();
    for (number, [m, n, k]) in [[17usize, 40, 65], [33, 70, 130], [5, 50, 1_037], [70, 35, 32]].into_iter().enumerate() {
        for arrangement in 0..4 {
            let (x_last, y_last) = (arrangement & 1 == 1, arrangement & 2 == 2);
            let sized = |own: usize, k_last: bool| if k_last { [own, k] } else { [k, own] };
            let shapes = [sized(m, x_last), sized(n, y_last)];
            let mut b = Build::new("dot");
            let [x, y] = [0, 1].map(|side: usize| b.arg(["x", "y"][side], DType::BF16, shapes[side]));
            let [x, y] = [x, y].map(|side| b.cast(DType::F32, side));
            let axes = DotAxes {
                lhs_batch: vec![],
                rhs_batch: vec![],
                lhs_contract: vec![usize::from(x_last)],
                rhs_contract: vec![usize::from(y_last)],
            };
            let mut z = b.dot(x, y, axes);
            // Longer than what is written out.
            for _ in 0..if number == 2 { 6 } else { 0 } {
                let (twice, one) = (b.map(ScalarFn::Add, [z, z]), b.map(ScalarFn::Abs, [z]));
                z = b.map(ScalarFn::Sub, [twice, one]);
            }
            let exact = number % 2 == 0;
            let fill = if exact { Fill::Whole } else { Fill::Any };
            let inputs = shapes.map(|shape| fill.array(DType::BF16, &shape, &mut rng));
            // Numbers are within 2.
            let bound =
                if exact { Bound::EXACT } else { Bound::sum(DType::F32, k, 4.0 * f64::from(u32::try_from(k).expect("small"))) };
            let what = format!("bf16 in f32 {m} {n} {k}, arrangement {arrangement}");
            cases.push(Case { what, module: b.finish([z]), inputs: vec![inputs.to_vec()], bound });
        }
    }
    cases
}

/// Batches of products, of bytes and of `bf16`, of a known length and not.
fn batches() -> Vec<Case> {
    let mut rng = Rng::named("narrow batches");
    let mut case = |dtype: DType, sum: DType, symbolic: bool| {
        let (batch, m, n, k) = (3usize, 19usize, 37usize, 45usize);
        let length = if symbolic { Dim::sym(&Symbol::ranged("k", 0, 1000, 1)) } else { Dim::from(k) };
        let mut b = Build::new("dot");
        let x = b.arg("x", dtype, vec![Dim::from(batch), Dim::from(m), length.clone()]);
        let y = b.arg("y", dtype, vec![Dim::from(batch), Dim::from(n), length]);
        let [left, right] = [x, y].map(|side| b.cast(sum, side));
        let axes = DotAxes { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![2], rhs_contract: vec![2] };
        let z = b.dot(left, right, axes);
        let array = |rng: &mut Rng, own: usize| {
            let shape = [batch, own, k];
            if dtype == DType::BF16 { Fill::Whole.array(dtype, &shape, rng) } else { Made::Plain(dtype).array(rng, &shape) }
        };
        let inputs = vec![array(&mut rng, m), array(&mut rng, n)];
        Case { what: format!("batches of {dtype}, {symbolic}"), module: b.finish([z]), inputs: vec![inputs], bound: Bound::EXACT }
    };
    let all = [(DType::BF16, DType::F32), (DType::I8, DType::I32), (DType::I16, DType::I32)];
    all.into_iter()
        .flat_map(|(dtype, sum)| [false, true].map(|symbolic| (dtype, sum, symbolic)))
        .map(|(dtype, sum, symbolic)| case(dtype, sum, symbolic))
        .collect()
}

/// Odd and even, and none.
fn unknown_sizes() -> Vec<Case> {
    let mut rng = Rng::named("narrow symbols");
    let calls = [[9, 21, 0], [40, 50, 1], [1, 64, 33], [17, 33, 1_028], [7, 3, 255], [0, 5, 8], [16, 40, 64]];
    let of = [0, 1, 5, 6].into_iter().zip(0..4);
    of.map(|(made, arrangement)| product(&mut rng, MADE[made], ([None; 3], &calls), arrangement)).collect()
}

/// Sums that parts are made of.
fn long_products() -> Vec<Case> {
    let mut rng = Rng::named("narrow long");
    let sizes = [5, 33, 8_301];
    (0..2).map(|arrangement| product(&mut rng, MADE[arrangement], (sizes.map(Some), &[sizes]), arrangement)).collect()
}

/// Of centred bytes, beside which is the zero point, and so nothing, and of others.
fn convolutions() -> Vec<Case> {
    let mut rng = Rng::named("narrow convolutions");
    let layouts = [[0usize, 1, 2, 3], [0, 3, 1, 2]];
    let all = layouts.into_iter().flat_map(|layout| [(1, 1, 0), (2, 1, 5), (1, 0, 6)].map(|how| (layout, how)));
    let case = |(layout, (stride, pad, made)): ([usize; 4], (i64, i64, usize))| {
        let logical = [2usize, 5, 9, 11];
        let mut shape = [0; 4];
        layout.iter().zip(logical).for_each(|(place, size)| shape[*place] = size);
        let [image, kernel] = MADE[made];
        let mut b = Build::new("conv");
        let (x, w) = (b.arg("x", image.dtype(), shape), b.arg("w", kernel.dtype(), [18, 3, 3, 5]));
        let (x, w) = (image.widen(&mut b, x), kernel.widen(&mut b, w));
        let z = b.add(windows(layout, stride, pad), &[x, w]);
        let inputs = vec![image.array(&mut rng, &shape), kernel.array(&mut rng, &[18, 3, 3, 5])];
        let what = format!("narrow, layout {layout:?} stride {stride} pad {pad}");
        Case { what, module: b.finish([z]), inputs: vec![inputs], bound: Bound::EXACT }
    };
    all.map(case).collect()
}
