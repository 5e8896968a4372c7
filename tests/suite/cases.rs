//! The programs that the nets are cast over: a sample of every operation and of every derivative, and random programs.

use std::sync::Arc;

use graver_interp::Precision;
use graver_ir::kernel::Program;
use graver_ir::{Array, DType, Error, Module, ScalarFn, Sink, StateKind, Value, text};
use graver_passes::{Cx, Pass, Silent, pipeline, runner};
use graver_runtime::{Backend, Executable, Invocation, Slot};
use graver_testkit::{Bound, Build, RandomModule, Sample, check_close, random_program, samples, transform_samples};

/// Seeds of the random programs; `graver_testkit` asserts that far fewer cover the language.
const SEEDS: u64 = 80;

/// Seeds of programs that once went wrong: keys of random bits that were computed, padded random bits, an unaligned offset.
const ONCE_WRONG: &[u64] = &[1110, 1175, 1421, 1437, 1464, 1483];

/// A program with inputs and, in the order of its slots, the state.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) module: Module,
    pub(crate) inputs: Vec<Array>,
    pub(crate) state: Vec<Array>,
    /// How far each result may be from the reference: outputs first, then updates.
    pub(crate) bounds: Vec<Bound>,
}

/// Every case, derivatives written out, in a fixed order.
pub(crate) fn cases() -> Vec<Case> {
    let sampled = samples().into_iter().chain(transform_samples()).map(|sample: Sample| {
        let results = sample.module.entry().expect("a sample has an entry").1.results.len();
        let (mut module, bounds) = (sample.module, vec![sample.bound; results]);
        // Calls stay calls where they are what is sampled.
        if !sample.name.starts_with("call/") {
            apply(&mut module, &[named("inline"), named("grad")]);
        }
        Case { name: sample.name, module, inputs: sample.inputs, state: Vec::new(), bounds }
    });
    let random = (0..SEEDS).chain(ONCE_WRONG.iter().copied()).map(|seed| {
        let RandomModule { module, inputs, state, bounds } = random_program(seed);
        Case { name: format!("random/{seed}"), module, inputs, state, bounds }
    });
    sampled.chain(random).collect()
}

/// Cases that must fail for what their inputs hold: positions out of range, and integer divisions by zero. Each has state,
/// which must stay as it is.
pub(crate) fn failing_cases() -> Vec<Case> {
    let vector = |values: &[i64]| Array::from_vec([values.len()], values.to_vec()).expect("a vector");
    let case = |name: &str, body: fn(&mut Build, [Value; 2]) -> Value, inputs: [Array; 2]| {
        let mut b = Build::new("main");
        let (slot, state) = b.state("total", StateKind::Buffer, DType::I64, [3]);
        let args = ["x", "y"].map(|name| b.arg(name, DType::I64, [3]));
        let result = body(&mut b, args);
        let total = b.map(ScalarFn::Add, [state, result]);
        b.update(slot, total);
        Case {
            name: format!("fails/{name}"),
            module: b.finish([result]),
            inputs: inputs.to_vec(),
            state: vec![vector(&[1, 2, 3])],
            bounds: vec![Bound::EXACT; 2],
        }
    };
    let x = || vector(&[7, -8, 9]);
    vec![
        case("div", |b, args| b.map(ScalarFn::Div, args), [x(), vector(&[2, 0, 1])]),
        case("rem", |b, args| b.map(ScalarFn::Rem, args), [x(), vector(&[2, 3, 0])]),
        case("gather/above", |b, [x, index]| b.gather(x, index, 0, 0), [x(), vector(&[0, 3, 1])]),
        case("scatter/above", |b, [x, index]| b.scatter_add(x, index, x, 0, 0), [x(), vector(&[0, 3, 1])]),
        case("dynamic_slice/behind", of_block, [x(), vector(&[0, 2, 1])]),
        case("dynamic_slice/before", of_block, [x(), vector(&[0, -1, 1])]),
        case("dynamic_update/behind", to_block, [x(), vector(&[0, 2, 1])]),
        case("dynamic_update/before", to_block, [x(), vector(&[0, i64::MIN, 1])]),
        case("gather/below", |b, [x, index]| b.gather(x, index, 0, 0), [x(), vector(&[0, 1, -1])]),
    ]
}

/// Two elements of `x` from the second of the positions on, and the positions' first.
fn of_block(b: &mut Build, [x, index]: [Value; 2]) -> Value {
    let start = position(b, index);
    let block = b.dynamic_slice(x, &[0], [2], &[start]);
    let rest = b.slice(index, [(0, 1, 1)]);
    b.concat(0, [block, rest])
}

/// `x` with its own first two elements from the second of the positions on.
fn to_block(b: &mut Build, [x, index]: [Value; 2]) -> Value {
    let (start, block) = (position(b, index), b.slice(x, [(0, 2, 1)]));
    b.dynamic_update(x, block, &[0], &[start])
}

/// The second of the positions.
fn position(b: &mut Build, index: Value) -> Value {
    let second = b.slice(index, [(1, 1, 1)]);
    b.reshape(second, ())
}

pub(crate) fn named(name: &str) -> Pass {
    *graver_passes::PASSES.iter().find(|pass| pass.name == name).expect("a pass of the table")
}

/// Runs passes as the pipeline does.
pub(crate) fn apply(module: &mut Module, passes: &[Pass]) {
    let target = graver_ir::Target::generic();
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    runner::run(module, passes, &mut cx, &mut Silent, None).expect("a case has every derivative that it asks for");
}

impl Case {
    /// What the graph means, floats of every type being `f64`: outputs, then updates.
    pub(crate) fn reference(&self) -> Vec<Array> {
        self.outcome().unwrap_or_else(|error| panic!("{}: {error}", self.show()))
    }

    /// As [`Case::reference`], or why the case must fail.
    pub(crate) fn outcome(&self) -> Result<Vec<Array>, Error> {
        let (entry, _) = self.module.entry().expect("a case has an entry");
        let inputs: Vec<&Array> = self.inputs.iter().collect();
        let outcome = graver_interp::eval(&self.module, entry, &inputs, &self.state, Precision::Reference)?;
        Ok(outcome.outputs.into_iter().chain(outcome.updates.into_iter().map(|(_, value)| value)).collect())
    }

    /// The program that the pipeline makes for a device.
    pub(crate) fn compile(&self, backend: &dyn Backend) -> Result<Program, Error> {
        pipeline::compile(self.module.clone(), &backend.describe(), &mut Silent)
    }

    /// A program run over this case's inputs and state: outputs, then updates.
    pub(crate) fn run(&self, backend: &dyn Backend, program: Program) -> Result<Vec<Array>, Error> {
        self.run_over(&mut self.state.clone(), backend, program)
    }

    /// As [`Case::run`], over a state that may be looked at afterwards.
    pub(crate) fn run_over(&self, state: &mut [Array], backend: &dyn Backend, program: Program) -> Result<Vec<Array>, Error> {
        self.run_compiled(state, backend.compile(Arc::new(program))?.as_ref())
    }

    /// As [`Case::run_over`], of a program that is compiled.
    pub(crate) fn run_compiled(&self, state: &mut [Array], executable: &dyn Executable) -> Result<Vec<Array>, Error> {
        let mut results = executable.run(Invocation {
            entry: 0,
            inputs: &self.inputs.iter().collect::<Vec<_>>(),
            state: &mut state.iter_mut().map(Slot::Write).collect::<Vec<_>>(),
            workspace: &mut executable.workspace(),
        })?;
        let (_, entry) = self.module.entry().expect("a case has an entry");
        results.extend(entry.results.iter().filter_map(|result| match result.sink {
            Sink::Out => None,
            Sink::Update(slot) => Some(state[slot.0 as usize].clone()),
        }));
        Ok(results)
    }

    /// Which result lies outside its bound, if any.
    pub(crate) fn judge(&self, expected: &[Array], got: &[Array]) -> Result<(), String> {
        if expected.len() != got.len() || got.len() != self.bounds.len() {
            return Err(format!("{}: {} results, expected {}", self.name, got.len(), expected.len()));
        }
        let compared = expected.iter().zip(got).zip(&self.bounds).enumerate();
        compared.into_iter().try_for_each(|(position, ((expected, got), bound))| {
            check_close(expected, got, *bound).map_err(|wrong| format!("{}: result {position}: {wrong}", self.name))
        })
    }

    /// The case as a reader can reproduce it.
    pub(crate) fn show(&self) -> String {
        format!("{}\n{}inputs: {:?}", self.name, text::print(&self.module), self.inputs)
    }
}
