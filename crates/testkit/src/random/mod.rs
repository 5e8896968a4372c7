//! Random well-typed programs, whose results are known to be finite and comparable.
//!
//! Every value carries what is known of it ([`Numbers`]): how large it is, how far rounding may take it from the `f64`
//! reference, and whether it is exact. Functions that jump (`floor`, comparisons, arg-reductions, casts to integers) are
//! applied to exact values only, so that no rounding error ever becomes a whole number: what differs by more than the
//! bound is a bug. Inputs are multiples of 1/4 within 2, for which much of arithmetic is exact in every float type.
//!
//! Derivatives ([`graver_ir::Op::Transform`]) are not made here: programs run as they are.

mod contract;
mod control;
mod index;
mod loops;
mod map;
mod movement;
mod numbers;
mod reduce;
mod rng;

use graver_ir::op::Family;
use graver_ir::{Array, DType, Module, Op, Scalar, Shape, StateKind, Type, Value};

use crate::build::{Build, Dims};
use crate::close::Bound;
use crate::fill::{Fill, concrete};
use crate::rng::Rng;
use numbers::Numbers;

/// A random program with everything that it takes to run it and to judge its results.
#[derive(Clone, Debug)]
pub struct RandomModule {
    /// The program.
    pub module: Module,
    /// One array for each argument of the entry, in order; symbols are [`crate::sizes`].
    pub inputs: Vec<Array>,
    /// One array for each slot of the state: [`initial_state`].
    pub state: Vec<Array>,
    /// How far each result of the entry (to the caller or into the state) may be from that of the same program over `f64`.
    pub bounds: Vec<Bound>,
}

/// The random program of a seed: 5 to 40 operations, and its arguments.
#[must_use]
pub fn random_module(seed: u64) -> (Module, Vec<Array>) {
    let RandomModule { module, inputs, .. } = random_program(seed);
    (module, inputs)
}

/// The random program of a seed, with its state and the bounds of its results.
#[must_use]
pub fn random_program(seed: u64) -> RandomModule {
    let mut rng = Rng::new(seed);
    let (mut b, mut inputs) = (Build::new("main"), Vec::new());
    let target = 5 + rng.below(36);
    let mut generator = Gen { b: &mut b, rng: &mut rng, values: Vec::new(), inputs: Some(&mut inputs), ops: 0 };
    generator.first_args();
    let slots = generator.states();
    generator.grow(target);
    let mut results = generator.results();
    let updates = generator.updates(slots);
    for (slot, known) in &updates {
        b.update(*slot, known.value);
    }
    let values: Vec<Value> = results.iter().map(|known| known.value).collect();
    let module = b.finish_all(&values);
    results.extend(updates.into_iter().map(|(_, known)| known));
    let state = initial_state(&module);
    RandomModule { module, inputs, state, bounds: results.iter().map(|known| known.numbers.bound()).collect() }
}

/// A state for a module, a function of the slots' paths: multiples of 1/4 within 2; random bits for keys.
///
/// # Panics
/// If a slot has a size that is not a number.
#[must_use]
pub fn initial_state(module: &Module) -> Vec<Array> {
    let array = |decl: &graver_ir::StateDecl| {
        let shape = decl.ty.shape.as_const().expect("sizes of state are numbers");
        let fill = match decl.kind {
            StateKind::Rng => Fill::Bits,
            StateKind::Param | StateKind::Buffer | StateKind::Slot => Fill::Quarters,
        };
        fill.array(decl.ty.dtype, &shape, &mut Rng::named(&decl.path))
    };
    module.state.iter().map(array).collect()
}

/// A value and what is known of it.
#[derive(Clone, Debug)]
struct Known {
    value: Value,
    ty: Type,
    numbers: Numbers,
}

impl Known {
    fn dtype(&self) -> DType {
        self.ty.dtype
    }

    fn rank(&self) -> usize {
        self.ty.rank()
    }

    fn sizes(&self) -> Vec<usize> {
        concrete(&self.ty.shape)
    }
}

/// A function that grows.
struct Gen<'a> {
    b: &'a mut Build,
    rng: &'a mut Rng,
    values: Vec<Known>,
    /// The entry's arguments; a callee has only the parameters that it started with.
    inputs: Option<&'a mut Vec<Array>>,
    ops: usize,
}

/// A recipe adds an operation or a few, or nothing where it finds no operands.
type Recipe = fn(&mut Gen<'_>) -> Option<()>;

const FAMILIES: [Family; 7] =
    [Family::Map, Family::Index, Family::Movement, Family::Reduce, Family::Contract, Family::Random, Family::Control];

fn recipes(family: Family) -> &'static [Recipe] {
    match family {
        Family::Map => map::RECIPES,
        Family::Index => index::RECIPES,
        Family::Movement => movement::RECIPES,
        Family::Reduce => reduce::RECIPES,
        Family::Contract => contract::RECIPES,
        Family::Random => rng::RECIPES,
        Family::Control => control::RECIPES,
    }
}

/// No value has more elements: programs stay small.
const MAX_ELEMENTS: usize = 600;

impl Gen<'_> {
    fn grow(&mut self, target: usize) {
        // A recipe may find nothing to do; after so many attempts the program is as large as it gets.
        for _ in 0..20 * target {
            if self.ops >= target {
                return;
            }
            // Half of all operations are maps, as in real programs.
            let family = if self.rng.once_in(2) { Family::Map } else { *self.rng.pick(&FAMILIES) };
            let recipe = *self.rng.pick(recipes(family));
            recipe(self);
        }
    }

    /// Adds an operation of one result, if its numbers stay within reach.
    fn emit(&mut self, op: Op, args: &[Value], numbers: Numbers) -> Option<Known> {
        let known = self.emit_hidden(op, args, numbers)?;
        self.values.push(known.clone());
        Some(known)
    }

    /// As [`Gen::emit`], but only the caller may use the result.
    fn emit_hidden(&mut self, op: Op, args: &[Value], numbers: Numbers) -> Option<Known> {
        if !numbers.is_tame() {
            return None;
        }
        let value = self.b.add(op, args);
        self.ops += 1;
        let ty = self.b.ty(value).clone();
        let known = Known { value, numbers: numbers.stored(ty.dtype), ty };
        assert!(known.sizes().iter().product::<usize>() <= 4 * MAX_ELEMENTS, "recipes keep values small");
        Some(known)
    }

    /// A constant of a shape, every element the same.
    fn splat(&mut self, dtype: DType, shape: &Shape, value: f64) -> Value {
        self.ops += 2;
        self.b.full(dtype, shape, value)
    }

    /// Any value for which `admits` holds, more often one that has no user yet, so that little of a program is dead.
    fn any(&mut self, admits: impl Fn(&Known) -> bool) -> Option<Known> {
        let fitting: Vec<&Known> = self.values.iter().filter(|known| admits(known)).collect();
        let unused: Vec<&Known> = fitting.iter().copied().filter(|known| !self.b.is_used(known.value)).collect();
        let from = if unused.is_empty() || self.rng.once_in(2) { fitting } else { unused };
        if from.is_empty() { None } else { Some((*self.rng.pick(&from)).clone()) }
    }

    /// A value of the type: one that there is (`like` itself among them), or a constant.
    fn alike(&mut self, like: &Known, admits: impl Fn(&Known) -> bool) -> Option<Known> {
        if self.rng.once_in(5) {
            let (value, dtype) = (f64::from(u8::from(self.rng.once_in(2))) + 1.0, like.dtype());
            let splat = self.splat(dtype, &like.ty.shape, value);
            let known = Known { value: splat, ty: like.ty.clone(), numbers: Numbers::constant(dtype, value) };
            return Some(known);
        }
        self.any(|known| known.ty == like.ty && admits(known))
    }

    /// A new argument of the entry, or a constant array in a callee.
    fn fresh(&mut self, dtype: DType, shape: impl Dims, fill: Fill) -> Known {
        let shape = shape.shape();
        let array = fill.array(dtype, &concrete(&shape), self.rng);
        let numbers = Numbers::of(&array);
        let value = match &mut self.inputs {
            Some(inputs) if self.rng.once_in(2) || shape.as_const().is_none() => {
                inputs.push(array);
                self.b.arg(&format!("x{}", inputs.len() - 1), dtype, &shape)
            }
            Some(_) | None => {
                assert!(shape.as_const().is_some(), "a constant has sizes that are numbers");
                self.ops += 1;
                self.b.constant(array)
            }
        };
        Known { value, ty: Type::new(dtype, shape), numbers }
    }

    /// Two or three arguments, the first of them with the program's symbols.
    fn first_args(&mut self) {
        let full = [("n", 3).shape(), ("n", "m").shape(), [3, 5].shape(), [7].shape(), (2, "n", 3).shape()];
        let more = [().shape(), [17].shape(), ["s"].shape(), (1, 2, "m").shape(), (3, "k").shape(), [1, 33].shape()];
        let empty = [("z", 3).shape(), [3, 0].shape()];
        let shapes = [&full[..], &more, &empty].concat();
        let (shape, main) =
            (self.rng.pick(&shapes).clone(), *self.rng.pick(&[DType::F32, DType::F32, DType::F64, DType::F16, DType::BF16]));
        for dtype in [main, main, *self.rng.pick(&DType::ALL)] {
            let array = Fill::Quarters.array(dtype, &concrete(&shape), self.rng);
            let numbers = Numbers::of(&array);
            let inputs = self.inputs.as_mut().expect("the entry has arguments");
            inputs.push(array);
            let value = self.b.arg(&format!("x{}", inputs.len() - 1), dtype, &shape);
            self.values.push(Known { value, ty: Type::new(dtype, shape.clone()), numbers });
        }
    }

    /// Up to ten results: those without users first, floats before others, and some value that is used.
    fn results(&mut self) -> Vec<Known> {
        let mut unused: Vec<Known> = self.values.iter().filter(|known| !self.b.is_used(known.value)).cloned().collect();
        unused.sort_by_key(|known| (!known.dtype().is_float(), known.sizes().contains(&0)));
        unused.truncate(2 + self.rng.below(8));
        unused.push(self.rng.pick(&self.values).clone());
        unused
    }
}

/// The constant as an element of any type.
fn scalar(dtype: DType, value: f64) -> Array {
    Array::full([], Scalar::float(dtype, value))
}

#[cfg(test)]
mod tests;
