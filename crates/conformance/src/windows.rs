//! Windows: convolutions a channel and pooling, about whose edges some of what is read is outside, and their derivatives.

use graver_ir::op::{Conv, ConvAxis, ReduceKind, Window, WindowAxis};
use graver_ir::{DType, Dim, Module, Op, ScalarFn, Symbol, Target, Value};
use graver_passes::{Cx, Silent, pipeline, runner};
use graver_testkit::{Bound, Build, Rng};

use crate::contractions::{Case, integers};

/// Every case.
pub(crate) fn cases() -> Vec<Case> {
    [convolutions(), weights(), turned(), unknown_sizes(), pools(), of_lines()].into_iter().flatten().collect()
}

const FIRST: [usize; 4] = [0, 1, 2, 3];
const LAST: [usize; 4] = [0, 3, 1, 2];

/// A convolution a channel.
#[derive(Clone, Copy, Debug)]
struct Windows {
    /// Where batch, channels, rows and columns are.
    layout: [usize; 4],
    /// Batch, channels, rows and columns.
    sizes: [usize; 4],
    window: [usize; 2],
    stride: i64,
    /// Padding before and behind.
    pad: [i64; 2],
    dilation: i64,
    /// Distances between elements of the image.
    apart: i64,
    dtype: DType,
}

const PLAIN: Windows = Windows {
    layout: FIRST,
    sizes: [2, 5, 19, 37],
    window: [3, 3],
    stride: 1,
    pad: [1, 1],
    dilation: 1,
    apart: 1,
    dtype: DType::F32,
};

impl Windows {
    /// In the order of memory.
    fn shape<T: Clone>(&self, logical: [T; 4]) -> Vec<T> {
        let mut shape = logical.to_vec();
        self.layout.iter().zip(logical).for_each(|(place, size)| shape[*place] = size);
        shape
    }

    fn weights(&self) -> [usize; 4] {
        [self.sizes[1], 1, self.window[0], self.window[1]]
    }

    fn op(&self) -> Op {
        let [low, high] = self.pad.map(Dim::from);
        let axis = ConvAxis { stride: self.stride, low, high, kernel_dilation: self.dilation, input_dilation: self.apart };
        Op::Conv(Conv {
            input: self.layout.to_vec(),
            kernel: vec![0, 1, 2, 3],
            output: self.layout.to_vec(),
            axes: vec![axis.clone(), axis],
            groups: i64::try_from(self.sizes[1]).expect("few channels"),
            batch_groups: 1,
        })
    }

    /// The convolution with a bias a channel, what is negative being 0, and its derivatives.
    fn case(self, rng: &mut Rng) -> Case {
        let (shape, weights) = (self.shape(self.sizes), self.weights());
        let mut b = Build::new("windows");
        let x = b.arg("x", self.dtype, shape.iter().map(|size| Dim::from(*size)).collect::<Vec<Dim>>());
        let w = b.arg("w", self.dtype, weights.map(Dim::from).to_vec());
        let bias = b.arg("bias", self.dtype, vec![Dim::from(self.sizes[1])]);
        let z = b.add(self.op(), &[x, w]);
        let dims = b.ty(z).shape.0.clone();
        let spread = b.broadcast(bias, dims.clone(), [self.layout[1]]);
        let sum = b.map(ScalarFn::Add, [z, spread]);
        let relu = b.map(ScalarFn::Relu, [sum]);
        let mut inputs: Vec<_> = [&shape[..], &weights, &weights[..1]].map(|shape| integers(rng, self.dtype, shape)).to_vec();
        let mut results: Vec<Value> = vec![relu];
        if self.dtype == DType::F32 {
            let cotangent = b.arg("cotangent", self.dtype, dims.clone());
            results.extend(b.vjp(&[z], &[cotangent], &[x, w]));
            let sizes: Vec<usize> =
                dims.iter().map(|dim| usize::try_from(dim.as_const().expect("a number")).expect("a size")).collect();
            inputs.push(integers(rng, self.dtype, &sizes));
        }
        let module = differentiated(b.finish_all(&results));
        Case { what: format!("{self:?}"), module, inputs: vec![inputs], bound: Bound::EXACT }
    }
}

impl Windows {
    /// A step of the weights by their gradient, for images of these batches, rows and columns.
    fn step(self, rng: &mut Rng, [n, h, w]: [Dim; 3], calls: &[[usize; 3]]) -> Case {
        let mut b = Build::new("step");
        let x = b.arg("x", self.dtype, self.shape([n, Dim::from(self.sizes[1]), h, w]));
        let k = b.arg("k", self.dtype, self.weights().map(Dim::from).to_vec());
        let z = b.add(self.op(), &[x, k]);
        let relu = b.map(ScalarFn::Relu, [z]);
        let dims = b.ty(z).shape.0.clone();
        let cotangent = b.arg("cotangent", self.dtype, dims.clone());
        let gradient = b.vjp(&[relu], &[cotangent], &[k])[0];
        let next = b.map(ScalarFn::Sub, [k, gradient]);
        let inputs = calls.iter().map(|[n, h, w]| {
            let logical = [*n, self.sizes[1], *h, *w];
            let results = self.shape([*n, self.sizes[1], self.results(*h, 0), self.results(*w, 1)]);
            [&self.shape(logical)[..], &self.weights(), &results].map(|shape| integers(rng, self.dtype, shape)).to_vec()
        });
        let inputs = inputs.collect();
        Case { what: format!("step, {self:?}"), module: differentiated(b.finish([next])), inputs, bound: Bound::EXACT }
    }

    /// Results along an axis of so many elements.
    fn results(&self, size: usize, axis: usize) -> usize {
        let number = |size: usize| i64::try_from(size).expect("a size");
        let reach = (number(self.window[axis]) - 1) * self.dilation;
        let padded = (number(size) - 1) * self.apart + 1 + self.pad[0] + self.pad[1];
        usize::try_from((padded - reach - 1).div_euclid(self.stride) + 1).expect("some results")
    }
}

/// Gradients of weights, of batches down to none.
fn weights() -> Vec<Case> {
    let mut rng = Rng::named("weights of windows");
    let last = Windows { layout: LAST, sizes: [0, 37, 9, 11], ..PLAIN };
    let known = [
        PLAIN,
        last,
        Windows { stride: 2, pad: [0, 1], ..PLAIN },
        Windows { stride: 2, pad: [0, 1], ..last },
        Windows { window: [5, 2], dilation: 2, pad: [4, 3], ..PLAIN },
        Windows { window: [5, 2], dilation: 2, pad: [4, 3], ..last },
        // More taps than registers.
        Windows { sizes: [0, 6, 14, 30], window: [7, 7], pad: [3, 3], ..PLAIN },
        Windows { sizes: [0, 20, 10, 9], window: [5, 5], pad: [2, 2], ..last },
        Windows { sizes: [0, 20, 9, 21], window: [7, 7], pad: [3, 3], ..last },
        Windows { sizes: [0, 6, 5, 40], window: [1, 29], pad: [3, 3], ..PLAIN },
        Windows { sizes: [0, 20, 5, 40], window: [1, 29], pad: [3, 3], ..last },
        // Fewer columns than lanes, fewer channels, and more than a point has.
        Windows { sizes: [0, 40, 7, 7], ..PLAIN },
        Windows { sizes: [0, 5, 9, 11], ..last },
        Windows { sizes: [0, 150, 5, 18], ..last },
        // Nothing is outside; more is outside than a window has; elements are left out, or apart.
        Windows { pad: [0, 0], ..PLAIN },
        Windows { pad: [0, 0], ..last },
        Windows { pad: [5, 4], ..PLAIN },
        Windows { pad: [5, 4], ..last },
        Windows { pad: [-1, -2], ..PLAIN },
        Windows { pad: [-1, -2], ..last },
        Windows { apart: 2, pad: [1, 2], ..PLAIN },
        Windows { apart: 2, pad: [1, 2], ..last },
        Windows { dtype: DType::F64, ..PLAIN },
        Windows { dtype: DType::F64, ..last },
        Windows { dtype: DType::BF16, ..PLAIN },
        Windows { dtype: DType::BF16, ..last },
        Windows { dtype: DType::F16, ..PLAIN },
        Windows { dtype: DType::F16, ..last },
    ];
    let batch = || Dim::sym(&Symbol::ranged("n", 0, 1000, 1));
    let mut cases: Vec<Case> = known
        .into_iter()
        .map(|windows| {
            let [_, _, h, w] = windows.sizes;
            // The last has several parts.
            let calls = [0, 1, 13].map(|n| [n, h, w]);
            windows.step(&mut rng, [batch(), Dim::from(h), Dim::from(w)], &calls)
        })
        .collect();
    let unknown = [PLAIN, last, Windows { stride: 2, ..PLAIN }, Windows { stride: 2, ..last }];
    cases.extend(unknown.map(|windows| {
        let [h, w] = ["h", "w"].map(|name| Dim::sym(&Symbol::ranged(name, 1, 1000, 1)));
        windows.step(&mut rng, [batch(), h, w], &[[0, 4, 4], [1, 1, 1], [2, 9, 33], [1, 16, 16], [3, 8, 70], [1, 31, 5]])
    }));
    cases
}

/// With derivatives written out, as the interpreter wants them.
pub(crate) fn differentiated(mut module: Module) -> Module {
    let last = pipeline::GRAPH.iter().position(|pass| pass.name == "grad").expect("the pipeline differentiates");
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    runner::run(&mut module, &pipeline::GRAPH[..=last], &mut cx, &mut Silent, None).expect("a good program");
    module
}

fn convolutions() -> Vec<Case> {
    let mut rng = Rng::named("windows");
    let last = Windows { layout: LAST, sizes: [2, 37, 9, 11], ..PLAIN };
    let all = [
        PLAIN,
        last,
        Windows { stride: 2, pad: [0, 1], ..PLAIN },
        Windows { stride: 2, pad: [0, 1], ..last },
        Windows { window: [5, 2], dilation: 2, pad: [4, 3], ..PLAIN },
        Windows { window: [5, 2], dilation: 2, pad: [4, 3], ..last },
        Windows { sizes: [1, 20, 14, 14], window: [7, 7], pad: [3, 3], ..PLAIN },
        Windows { sizes: [1, 20, 14, 14], window: [7, 7], pad: [3, 3], ..last },
        // Fewer columns than lanes, and fewer than a window has.
        Windows { sizes: [1, 40, 7, 7], ..PLAIN },
        Windows { sizes: [3, 20, 20, 2], window: [5, 5], pad: [2, 4], ..PLAIN },
        // Nothing is outside; more is outside than a window has; elements are left out.
        Windows { pad: [0, 0], ..PLAIN },
        Windows { pad: [5, 4], ..PLAIN },
        Windows { pad: [5, 4], ..last },
        Windows { pad: [-1, -2], ..PLAIN },
        Windows { apart: 2, pad: [1, 2], ..PLAIN },
        Windows { apart: 2, pad: [1, 2], ..last },
        Windows { dtype: DType::F64, ..PLAIN },
        Windows { dtype: DType::F64, ..last },
        Windows { dtype: DType::BF16, ..PLAIN },
        Windows { dtype: DType::BF16, ..last },
        Windows { dtype: DType::F16, ..PLAIN },
        Windows { dtype: DType::I32, ..PLAIN },
        Windows { dtype: DType::I32, ..last },
    ];
    all.map(|windows| windows.case(&mut rng)).into()
}

/// Channels first in the image and last in the results, and the other way round.
fn turned() -> Vec<Case> {
    let mut rng = Rng::named("turned windows");
    let last = Windows { layout: LAST, sizes: [2, 37, 9, 11], ..PLAIN };
    let wide = Windows { sizes: [1, 20, 14, 14], window: [7, 7], pad: [3, 3], ..PLAIN };
    let case = |windows: Windows| {
        let (shape, weights) = (windows.shape(windows.sizes), windows.weights());
        let mut b = Build::new("windows");
        let x = b.arg("x", windows.dtype, shape.iter().map(|size| Dim::from(*size)).collect::<Vec<Dim>>());
        let w = b.arg("w", windows.dtype, weights.map(Dim::from).to_vec());
        let bias = b.arg("bias", windows.dtype, vec![Dim::from(windows.sizes[1])]);
        let z = b.add(windows.op(), &[x, w]);
        let dims = b.ty(z).shape.0.clone();
        let spread = b.broadcast(bias, dims, [windows.layout[1]]);
        let z = b.map(ScalarFn::Add, [z, spread]);
        let z = b.permute(z, if windows.layout == FIRST { [0, 2, 3, 1] } else { [0, 3, 1, 2] });
        let inputs = [&shape[..], &weights, &weights[..1]].map(|shape| integers(&mut rng, windows.dtype, shape)).to_vec();
        Case { what: format!("turned, {windows:?}"), module: b.finish([z]), inputs: vec![inputs], bound: Bound::EXACT }
    };
    [PLAIN, last, wide].map(case).into()
}

/// Sizes of which nothing is known, down to one.
fn unknown_sizes() -> Vec<Case> {
    let mut rng = Rng::named("windows of unknown sizes");
    let case = |windows: Windows| {
        let names = ["n", "c", "h", "w"].map(|name| Dim::sym(&Symbol::ranged(name, 1, 1000, 1)));
        let [n, _, h, w] = names;
        let channels = Dim::from(windows.sizes[1]);
        let mut b = Build::new("windows");
        let x = b.arg("x", windows.dtype, windows.shape([n, channels, h, w]));
        let k = b.arg("k", windows.dtype, windows.weights().map(Dim::from).to_vec());
        let z = b.add(windows.op(), &[x, k]);
        let calls = [[1, 1, 1], [2, 9, 33], [1, 16, 16], [3, 8, 70], [1, 31, 5]];
        let inputs = calls.map(|[n, h, w]| {
            let shape = windows.shape([n, windows.sizes[1], h, w]);
            vec![integers(&mut rng, windows.dtype, &shape), integers(&mut rng, windows.dtype, &windows.weights())]
        });
        let what = format!("of unknown sizes, {windows:?}");
        Case { what, module: b.finish([z]), inputs: inputs.to_vec(), bound: Bound::EXACT }
    };
    let last = Windows { layout: LAST, sizes: [1, 21, 0, 0], ..PLAIN };
    [PLAIN, last, Windows { stride: 2, ..PLAIN }, Windows { window: [5, 5], pad: [2, 2], ..last }].map(case).into()
}

fn pools() -> Vec<Case> {
    let mut rng = Rng::named("pools");
    let mut cases = Vec::new();
    for kind in [ReduceKind::Max, ReduceKind::Min, ReduceKind::Sum] {
        for (layout, shape) in [(FIRST, [2usize, 3, 17, 45]), (LAST, [2, 17, 13, 19])] {
            for stride in [1, 2] {
                let axis = WindowAxis { size: 3, stride, dilation: 1, low: Dim::ONE, high: Dim::ONE };
                let mut axes = vec![WindowAxis::IDENTITY; 4];
                layout[2..].iter().for_each(|place: &usize| axes[*place] = axis.clone());
                let mut b = Build::new("pool");
                let x = b.arg("x", DType::F32, shape.map(Dim::from).to_vec());
                let z = b.add(Op::Window(Window { kind, axes }), &[x]);
                let inputs = vec![vec![integers(&mut rng, DType::F32, &shape)]];
                let what = format!("pool {kind:?} by {stride} of {shape:?}");
                cases.push(Case { what, module: b.finish([z]), inputs, bound: Bound::EXACT });
            }
        }
    }
    cases
}

/// Windows along rows of what is the same for all lanes.
fn of_lines() -> Vec<Case> {
    let mut rng = Rng::named("windows of lines");
    let mut b = Build::new("pool");
    let (x, y) = (b.arg("x", DType::F32, vec![Dim::from(67)]), b.arg("y", DType::F32, vec![Dim::from(37)]));
    let [x, y] = [(x, 0), (y, 1)].map(|(value, axis)| b.broadcast(value, [67, 37], [axis]));
    let sum = b.map(ScalarFn::Mul, [x, y]);
    let axis = WindowAxis { size: 5, stride: 1, dilation: 1, low: Dim::from(2), high: Dim::from(2) };
    let z = b.add(Op::Window(Window { kind: ReduceKind::Sum, axes: vec![axis, WindowAxis::IDENTITY] }), &[sum]);
    let inputs = vec![[67, 37].map(|size| integers(&mut rng, DType::F32, &[size])).to_vec()];
    vec![Case { what: "windows of lines".to_owned(), module: b.finish([z]), inputs, bound: Bound::EXACT }]
}
