//! Pooling and its derivatives: along lines, planes and volumes, with windows that overlap or leave elements out, of sizes that distances
//! between windows divide and others, of numbers among which are equals, infinities and what is no number.

use graver_ir::op::{ReduceKind, Window, WindowAxis, WindowPut};
use graver_ir::{Array, DType, Dim, Op, ScalarFn, Symbol, Value};
use graver_testkit::{Bound, Build, Rng};

use crate::contractions::{Case, integers};
use crate::windows::differentiated;

/// Every case.
pub(crate) fn cases() -> Vec<Case> {
    let mut rng = Rng::named("pools");
    let mut cases = Vec::new();
    let some = [(ReduceKind::Max, POOLS), (ReduceKind::Sum, POOLS), (ReduceKind::Min, &POOLS[..4])];
    cases.extend(
        some.into_iter()
            .flat_map(|(kind, pools)| pools.iter().map(move |pool| (kind, pool)))
            .map(|(kind, pool)| pool.case(kind, DType::F32, &mut rng)),
    );
    for (dtype, kind) in
        [DType::F64, DType::BF16, DType::F16].into_iter().flat_map(|dtype| [(dtype, ReduceKind::Max), (dtype, ReduceKind::Sum)])
    {
        cases.extend(POOLS[..3].iter().map(|pool| pool.case(kind, dtype, &mut rng)));
    }
    cases.extend(POOLS.iter().map(|pool| pool.of_integers(&mut rng)));
    cases.extend(repeated(&mut rng));
    cases
}

/// Windows along the last axes of an array, or along those before the last.
#[derive(Clone, Copy, Debug)]
struct Pool {
    sizes: &'static [usize],
    /// Axes behind those of the windows.
    behind: usize,
    /// Of each axis that has windows.
    windows: &'static [[i64; 5]],
}

/// Size, distance, distance of elements, padding before and behind.
const HALVES: [i64; 5] = [2, 2, 1, 0, 0];
const THIRDS: [i64; 5] = [3, 2, 1, 1, 1];

const POOLS: &[Pool] = &[
    Pool { sizes: &[2, 3, 18, 44], behind: 0, windows: &[THIRDS; 2] },
    Pool { sizes: &[2, 3, 17, 75], behind: 0, windows: &[HALVES; 2] },
    Pool { sizes: &[2, 18, 13, 19], behind: 1, windows: &[THIRDS; 2] },
    Pool { sizes: &[2, 9, 140], behind: 0, windows: &[THIRDS] },
    Pool { sizes: &[3, 36, 70], behind: 0, windows: &[HALVES; 2] },
    Pool { sizes: &[3, 35, 71], behind: 0, windows: &[THIRDS; 2] },
    Pool { sizes: &[900], behind: 0, windows: &[THIRDS] },
    Pool { sizes: &[2, 9, 12, 34], behind: 0, windows: &[THIRDS; 3] },
    Pool { sizes: &[2, 7, 8, 66], behind: 0, windows: &[HALVES, HALVES, HALVES] },
    Pool { sizes: &[4, 30, 64], behind: 0, windows: &[[3, 3, 1, 0, 0]; 2] },
    Pool { sizes: &[4, 31, 65], behind: 0, windows: &[[2, 3, 1, 1, 0]; 2] },
    Pool { sizes: &[4, 32, 66], behind: 0, windows: &[[5, 4, 1, 2, 2]; 2] },
    Pool { sizes: &[4, 30, 63], behind: 0, windows: &[[3, 1, 1, 1, 1]; 2] },
    Pool { sizes: &[4, 33, 65], behind: 0, windows: &[[3, 2, 2, 2, 1]; 2] },
    Pool { sizes: &[4, 20, 65], behind: 0, windows: &[[2, 2, 1, 3, 4]; 2] },
    Pool { sizes: &[4, 20, 65], behind: 0, windows: &[[1, 2, 1, 1, 0], [4, 2, 1, 1, 2]] },
    Pool { sizes: &[2, 16, 12, 20], behind: 1, windows: &[HALVES; 2] },
    Pool { sizes: &[50, 8, 8], behind: 0, windows: &[HALVES; 2] },
];

impl Pool {
    fn axes(&self) -> Vec<WindowAxis> {
        let mut axes = vec![WindowAxis::IDENTITY; self.sizes.len()];
        let first = self.sizes.len() - self.behind - self.windows.len();
        for (axis, [size, stride, dilation, low, high]) in axes[first..].iter_mut().zip(self.windows) {
            *axis =
                WindowAxis { size: *size, stride: *stride, dilation: *dilation, low: Dim::from(*low), high: Dim::from(*high) };
        }
        axes
    }

    /// The combined elements and their derivative, alone and times the elements; all sizes are known, then none is.
    fn case(&self, kind: ReduceKind, dtype: DType, rng: &mut Rng) -> Case {
        let mut b = Build::new("pool");
        let is_known = rng.once_in(2) || dtype != DType::F32;
        let size = |(axis, size): (usize, &usize)| {
            if is_known { Dim::from(*size) } else { Dim::sym(&Symbol::ranged(format!("s{axis}"), 1, 1000, 1)) }
        };
        let x = b.arg("x", dtype, self.sizes.iter().enumerate().map(size).collect::<Vec<Dim>>());
        let z = b.add(Op::Window(Window { kind, axes: self.axes() }), &[x]);
        let cotangent = b.arg("cotangent", dtype, b.ty(z).shape.0.clone());
        let gradient = b.vjp(&[z], &[cotangent], &[x])[0];
        let scaled = b.map(ScalarFn::Mul, [gradient, x]);
        let inputs = vec![self.numbers(kind, dtype, rng), integers(rng, dtype, &self.counts())];
        let what = format!("pool {kind:?} of {dtype}, known: {is_known}, {self:?}");
        let results: &[Value] = if rng.once_in(2) { &[z, gradient] } else { &[z, scaled] };
        Case { what, module: differentiated(b.finish_all(results)), inputs: vec![inputs], bound: Bound::EXACT }
    }

    /// Places of integers, the elements there, and these put back.
    fn of_integers(&self, rng: &mut Rng) -> Case {
        let dtype = *rng.pick(&[DType::I32, DType::I64, DType::I16, DType::I8]);
        let mut b = Build::new("pool");
        let shape: Vec<Dim> = self.sizes.iter().map(|size| Dim::from(*size)).collect();
        let x = b.arg("x", dtype, shape.clone());
        let kind = *rng.pick(&[ReduceKind::Max, ReduceKind::Min]);
        let place = b.add(Op::WindowArg(Window { kind, axes: self.axes() }), &[x]);
        let taken = b.add(Op::WindowTake(self.axes()), &[x, place]);
        let put = b.add(Op::WindowPut(WindowPut { axes: self.axes(), shape: shape.into() }), &[taken, place]);
        let inputs = vec![integers(rng, dtype, self.sizes)];
        let what = format!("places {kind:?} of {dtype}, {self:?}");
        Case { what, module: b.finish([place, taken, put]), inputs: vec![inputs], bound: Bound::EXACT }
    }

    fn counts(&self) -> Vec<usize> {
        let count = |(axis, size): (WindowAxis, &usize)| axis.count(&Dim::from(*size)).as_const().expect("a number");
        self.axes().into_iter().zip(self.sizes).map(count).map(|count| usize::try_from(count).expect("windows")).collect()
    }

    /// Few numbers, so that there are equals. Of extremes: infinities beside padding, and NaN.
    fn numbers(&self, kind: ReduceKind, dtype: DType, rng: &mut Rng) -> Array {
        let numbers = integers(rng, DType::F64, self.sizes);
        let special = |number: f64| match rng.int(0, 30) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2..=6 => f64::NEG_INFINITY,
            _ => number,
        };
        let is_sum = kind == ReduceKind::Sum;
        let numbers = if is_sum { numbers.to_f64() } else { numbers.to_f64().into_iter().map(special).collect() };
        Array::from_vec(self.sizes, numbers).expect("sizes agree").cast(dtype)
    }
}

/// Elements that are repeated along both axes.
fn repeated(rng: &mut Rng) -> Vec<Case> {
    let mut case = |dtype: DType, [rows, columns]: [usize; 2], by: usize| {
        let mut b = Build::new("repeated");
        let (x, y) = (b.arg("x", dtype, [rows, columns]), b.arg("y", dtype, [rows * by, columns * by]));
        let spread = b.broadcast(x, [rows, by, columns, by].map(Dim::from).to_vec(), [0, 2]);
        let large = b.reshape(spread, [rows * by, columns * by]);
        let sum = b.map(ScalarFn::Add, [large, y]);
        let inputs = [[rows, columns], [rows * by, columns * by]].map(|shape| integers(rng, dtype, &shape)).to_vec();
        let what = format!("repeated {by} times of {dtype}, {rows} by {columns}");
        Case { what, module: b.finish([sum]), inputs: vec![inputs], bound: Bound::EXACT }
    };
    let types = [DType::F32, DType::F64, DType::BF16, DType::I32, DType::I8];
    let all =
        types.into_iter().flat_map(|dtype| [(2, [20, 60]), (3, [33, 17]), (4, [9, 64])].map(|(by, size)| (dtype, size, by)));
    all.map(|(dtype, size, by)| case(dtype, size, by)).collect()
}
