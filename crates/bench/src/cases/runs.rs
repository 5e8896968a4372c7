//! A compiled function or step with its arguments: what is called again and again.

use std::path::Path;
use std::time::Duration;

use graver::inspect;
use graver::prelude::*;
use graver::runtime::{Binding, Profile};
use graver::trace::{Engine, Sizes, Spec, TensorSpec};

use crate::numbers::elements;

/// What is known of a case before it runs.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Tracing and compiling.
    pub(crate) compile: Duration,
    pub(crate) kernels: usize,
    /// Bytes that a call works in.
    pub(crate) planned: usize,
    /// The values of symbols.
    pub(crate) sizes: Sizes,
}

/// Something compiled that can be called.
pub(crate) trait Runs {
    /// One call; what it gave is kept until the next.
    fn call(&mut self) -> Result<(), Error>;

    /// One call with the time of every launch.
    fn profile(&mut self) -> Result<Profile, Error>;

    /// Of the last call: the loss, or the mean magnitude of all results.
    fn seen(&self) -> Result<f64, Error>;

    /// All results of the last call, where they are kept.
    fn results(&self) -> &[Array] {
        &[]
    }

    fn facts(&self) -> Result<Facts, Error>;

    fn program(&self) -> &graver::ir::kernel::Program;

    /// Writes every stage of the compilation into a folder.
    fn dump(&self, folder: &Path) -> Result<(), Error>;
}

/// Specs of arguments that lie one after the other.
pub(crate) trait Specs: Spec {
    /// What a call takes.
    fn given(args: &[Array]) -> Self::Args<'_>;
}

impl<const N: usize> Specs for [TensorSpec; N] {
    fn given(args: &[Array]) -> [&Array; N] {
        std::array::from_fn(|place| &args[place])
    }
}

impl Specs for Vec<TensorSpec> {
    fn given(args: &[Array]) -> Vec<&Array> {
        args.iter().collect()
    }
}

/// A function of arguments.
pub(crate) struct Called<S> {
    pub(crate) compiled: Compiled<S, Vec<Tensor>>,
    pub(crate) compile: Duration,
    pub(crate) args: Vec<Array>,
    pub(crate) results: Vec<Array>,
}

/// A training step.
pub(crate) struct Trained<const N: usize> {
    pub(crate) step: Step<[TensorSpec; N], Tensor>,
    pub(crate) compile: Duration,
    pub(crate) args: [Array; N],
    pub(crate) loss: f64,
}

/// Of all elements of all results.
pub(super) fn mean_magnitude(results: &[Array]) -> Result<f64, Error> {
    let all = results.iter().flat_map(elements);
    Ok(all.map(f64::abs).sum::<f64>() / results.iter().map(Array::numel).sum::<usize>() as f64)
}

fn facts<S, Y>(engine: &Engine<S, Y>, args: &[Array], compile: Duration) -> Result<Facts, Error> {
    let sizes = Binding::new(engine.program(), 0, &args.iter().collect::<Vec<_>>())?.sizes;
    Ok(Facts { compile, kernels: engine.kernels().len(), planned: engine.peak_bytes(&sizes)?, sizes })
}

impl<S: Specs> Runs for Called<S> {
    fn call(&mut self) -> Result<(), Error> {
        self.results = self.compiled.call(S::given(&self.args))?;
        Ok(())
    }

    fn profile(&mut self) -> Result<Profile, Error> {
        Ok(self.compiled.profile(S::given(&self.args))?.1)
    }

    fn seen(&self) -> Result<f64, Error> {
        mean_magnitude(&self.results)
    }

    fn results(&self) -> &[Array] {
        &self.results
    }

    fn facts(&self) -> Result<Facts, Error> {
        facts(&self.compiled, &self.args, self.compile)
    }

    fn program(&self) -> &graver::ir::kernel::Program {
        self.compiled.program()
    }

    fn dump(&self, folder: &Path) -> Result<(), Error> {
        inspect::write_dumps(&self.compiled, folder)
    }
}

impl<const N: usize> Runs for Trained<N> {
    fn call(&mut self) -> Result<(), Error> {
        self.loss = self.step.run(self.args.each_ref())?.item()?;
        Ok(())
    }

    fn profile(&mut self) -> Result<Profile, Error> {
        Ok(self.step.profile(self.args.each_ref())?.1)
    }

    fn seen(&self) -> Result<f64, Error> {
        Ok(self.loss)
    }

    fn facts(&self) -> Result<Facts, Error> {
        facts(&self.step, &self.args, self.compile)
    }

    fn program(&self) -> &graver::ir::kernel::Program {
        self.step.program()
    }

    fn dump(&self, folder: &Path) -> Result<(), Error> {
        inspect::write_dumps(&self.step, folder)
    }
}
