//! A sample of every operation, at every element type that it admits, over shapes that are easily got wrong.
//!
//! A new operation has no sample until its family's file gives one, and the coverage test says so.

mod contract;
mod control;
mod index;
mod loops;
mod map;
mod movement;
mod random;
mod reduce;

use graver_ir::{Array, DType, Module, Shape, Value};

use crate::build::{Build, Dims};
use crate::close::{Bound, eps};
use crate::fill::{Fill, concrete};
use crate::rng::Rng;

/// A program of one operation (or of the few that it cannot do without), with inputs.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What is sampled: `conv/f32/strided_dilated`; unique.
    pub name: String,
    /// One entry function; every parameter is an argument.
    pub module: Module,
    /// One array a parameter, symbols being [`crate::sizes`].
    pub inputs: Vec<Array>,
    /// Whether results are smooth functions of the float inputs at these inputs and precise enough for central differences:
    /// floats are `f64`, away from kinks and ties. At least one input and every result are floats.
    pub differentiable: bool,
    /// How far results may be from those of the same program over `f64`.
    pub bound: Bound,
}

impl Sample {
    fn smooth(&mut self) -> &mut Self {
        self.differentiable = self.inputs.iter().filter(|input| input.dtype().is_float()).all(|x| x.dtype() == DType::F64);
        self
    }

    fn within(&mut self, bound: Bound) -> &mut Self {
        self.bound = bound;
        self
    }

    /// The greatest `sum |x| * |y| ..` that any sum over inputs can reach: a condition for [`Bound::sum`].
    fn magnitude(&self) -> f64 {
        let greatest = |array: &Array| array.to_f64().into_iter().map(f64::abs).fold(0.0, f64::max);
        self.inputs.iter().filter(|input| input.dtype().is_float()).map(greatest).fold(1.0, |x, y| x * y.max(1.0))
    }

    /// As `sums`, but of operations of the program, each of which may round to `dtype`: a product and a sum for each term.
    fn rounded_sums(&mut self, dtype: DType, terms: usize) -> &mut Self {
        #[expect(clippy::cast_precision_loss, reason = "an error bound")]
        let magnitude = self.magnitude() * terms as f64;
        let rounded = Bound { relative: 0.0, absolute: eps(dtype) * magnitude };
        self.within(Bound::sum(dtype, terms, magnitude).plus(rounded))
    }

    /// Each result is a sum of up to `terms` products of one element of every input.
    fn sums(&mut self, dtype: DType, terms: usize) -> &mut Self {
        #[expect(clippy::cast_precision_loss, reason = "an error bound")]
        let magnitude = self.magnitude() * terms as f64;
        self.within(Bound::sum(dtype, terms, magnitude))
    }
}

/// Samples of every operation but [`graver_ir::Op::Transform`], which only the grad pass understands: see [`transform_samples`].
#[must_use]
pub fn samples() -> Vec<Sample> {
    let mut cases = Cases::default();
    map::add(&mut cases);
    index::add(&mut cases);
    movement::add(&mut cases);
    reduce::add(&mut cases);
    contract::add(&mut cases);
    random::add(&mut cases);
    control::add(&mut cases);
    loops::add(&mut cases);
    cases.0
}

/// Samples of derivatives recorded in the graph, to be expanded before they are run.
#[must_use]
pub fn transform_samples() -> Vec<Sample> {
    let mut cases = Cases::default();
    control::add_transforms(&mut cases);
    cases.0
}

#[derive(Default)]
struct Cases(Vec<Sample>);

impl Cases {
    fn add<const N: usize>(&mut self, name: impl Into<String>, body: impl FnOnce(&mut Case) -> [Value; N]) -> &mut Sample {
        let name = name.into();
        let mut case = Case { b: Build::new("main"), inputs: Vec::new(), rng: Rng::named(&name) };
        let results = body(&mut case);
        let module = case.b.finish(results);
        self.0.push(Sample { name, module, inputs: case.inputs, differentiable: false, bound: Bound::EXACT });
        self.0.last_mut().expect("just pushed")
    }
}

/// A sample under construction.
struct Case {
    b: Build,
    inputs: Vec<Array>,
    rng: Rng,
}

impl Case {
    fn arg(&mut self, dtype: DType, dims: impl Dims, fill: Fill) -> Value {
        let shape = dims.shape();
        self.inputs.push(fill.array(dtype, &concrete(&shape), &mut self.rng));
        self.b.arg(&format!("x{}", self.inputs.len() - 1), dtype, shape)
    }
}

const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];
/// Every type but `bool`.
pub(crate) const NUMBERS: [DType; 12] = [
    DType::F64,
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U64,
    DType::U32,
    DType::U16,
    DType::U8,
];
/// The integers.
pub(crate) const INTS: [DType; 8] =
    [DType::I64, DType::I32, DType::I16, DType::I8, DType::U64, DType::U32, DType::U16, DType::U8];

/// Shapes that are easily got wrong, with names: rank 0 to 4, odd sizes on both sides of a vector's, zero sizes, symbols.
fn shapes() -> Vec<(&'static str, Shape)> {
    vec![
        ("5", [5].shape()),
        ("scalar", ().shape()),
        ("33", [33].shape()),
        ("3x5", [3, 5].shape()),
        ("n", ["n"].shape()),
        ("7", [7].shape()),
        ("n_3", ("n", 3).shape()),
        ("2x3x7", [2, 3, 7].shape()),
        ("17", [17].shape()),
        ("3_m", (3, "m").shape()),
        ("1x3x2x5", [1, 3, 2, 5].shape()),
        ("1", [1].shape()),
        ("n_m", ("n", "m").shape()),
        ("3", [3].shape()),
        ("2_n_1_3", (2, "n", 1, 3).shape()),
        ("1x7", [1, 7].shape()),
        ("s", ["s"].shape()),
        ("0", [0].shape()),
        ("3x0", [3, 0].shape()),
        ("z_3", ("z", 3).shape()),
        ("2x0x3", [2, 0, 3].shape()),
    ]
}

/// How many of [`shapes`], the first ones, have elements.
const NONEMPTY: usize = 17;

#[cfg(test)]
mod tests;
