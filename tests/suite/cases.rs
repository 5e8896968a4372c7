//! The programs that the nets are cast over: a sample of every operation and of every derivative, and random programs.

use std::sync::Arc;

use graver_interp::Precision;
use graver_ir::kernel::Program;
use graver_ir::{Array, Error, Module, Sink, text};
use graver_passes::{Cx, Pass, Silent, pipeline, runner};
use graver_runtime::{Backend, Invocation, Slot};
use graver_testkit::{Bound, RandomModule, Sample, check_close, random_program, samples, transform_samples};

/// Seeds of the random programs; `graver_testkit` asserts that far fewer cover the language.
const SEEDS: u64 = 80;

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
        apply(&mut module, &[named("inline"), named("grad")]);
        Case { name: sample.name, module, inputs: sample.inputs, state: Vec::new(), bounds }
    });
    let random = (0..SEEDS).map(|seed| {
        let RandomModule { module, inputs, state, bounds } = random_program(seed);
        Case { name: format!("random/{seed}"), module, inputs, state, bounds }
    });
    sampled.chain(random).collect()
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
        let (entry, _) = self.module.entry().expect("a case has an entry");
        let inputs: Vec<&Array> = self.inputs.iter().collect();
        let outcome = graver_interp::eval(&self.module, entry, &inputs, &self.state, Precision::Reference);
        let outcome = outcome.unwrap_or_else(|error| panic!("{}: {error}", self.show()));
        outcome.outputs.into_iter().chain(outcome.updates.into_iter().map(|(_, value)| value)).collect()
    }

    /// The program that the pipeline makes for a device.
    pub(crate) fn compile(&self, backend: &dyn Backend) -> Result<Program, Error> {
        pipeline::compile(self.module.clone(), &backend.describe(), &mut Silent)
    }

    /// A program run over this case's inputs and state: outputs, then updates.
    pub(crate) fn run(&self, backend: &dyn Backend, program: Program) -> Result<Vec<Array>, Error> {
        let executable = backend.compile(Arc::new(program))?;
        let mut state = self.state.clone();
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
