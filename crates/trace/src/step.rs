//! Steps: compiled functions that update a living state in place.

use graver_check::{Checked, Suspect};
use graver_ir::Error;
use graver_runtime::Profile;

use crate::compile::{Device, Options, TracedModule, trace_with};
use crate::context::Mode;
use crate::engine::Engine;
use crate::module::Module;
use crate::spec::Spec;
use crate::state::TrainState;
use crate::tap::Taps;
use crate::tree::Tree;

/// A step to be compiled: inputs, a closure that may update parameters, buffers and slots, and the models it captures.
pub struct StepBuilder<'m, S, F> {
    spec: S,
    f: F,
    options: Options<'m>,
    state: Option<TrainState>,
}

impl<S: std::fmt::Debug, F> std::fmt::Debug for StepBuilder<'_, S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepBuilder").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// A step over these inputs, in training mode. What the closure sets is the state's once a call has succeeded.
///
/// ```
/// use graver_trace::{Array, Param, spec, step};
/// let weight = Param::new(Array::scalar(1.0f32));
/// let traced = step(spec::<f32>(["n"]), |x| {
///     let (loss, grad) = graver_trace::value_and_grad(weight.get(), |w| (x * w).square().mean(..));
///     weight.set(weight.get() - grad * 0.1);
///     loss
/// })
/// .model("weight", &weight)
/// .trace()?;
/// assert_eq!(traced.module().state[0].path, "weight");
/// # Ok::<(), graver_trace::Error>(())
/// ```
pub fn step<'m, S: Spec, Y: Tree, F: FnOnce(S::Traced) -> Y>(spec: S, f: F) -> StepBuilder<'m, S, F> {
    let options = Options { mode: Mode::Train, updates: true, seed: 0, models: Vec::new() };
    StepBuilder { spec, f, options, state: None }
}

impl<'m, S: Spec, F> StepBuilder<'m, S, F> {
    /// Names a model that the closure captures: its parameters are called by their paths, after `name` if that is not empty.
    #[must_use]
    pub fn model(mut self, name: &str, model: &'m dyn Module) -> Self {
        self.options.models.push((name.to_owned(), model));
        self
    }

    /// Traces in evaluation mode.
    #[must_use]
    pub fn eval(mut self) -> Self {
        self.options.mode = Mode::Eval;
        self
    }

    /// The seed of the random key, 0 if not given.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// Begins with what this state has, instead of the models' own values: another step over the same training.
    #[must_use]
    pub fn state(mut self, state: TrainState) -> Self {
        self.state = Some(state);
        self
    }

    /// Traces, and stops there.
    ///
    /// # Errors
    /// Everything that the closure's operations found wrong, at most twenty errors, each with its line.
    pub fn trace<Y: Tree>(self) -> Result<TracedModule<S, Y>, Error>
    where
        F: FnOnce(S::Traced) -> Y,
    {
        trace_with(&self.options, self.spec, self.f)
    }

    /// Compiles the step: forward, backward and update are one program.
    ///
    /// # Errors
    /// Everything that tracing found wrong, or what a pass or the device found.
    pub fn compile<Y: Tree>(mut self, device: &Device) -> Result<Step<S, Y>, Error>
    where
        F: FnOnce(S::Traced) -> Y,
    {
        let given = self.state.take();
        let mut traced = self.trace()?;
        let mut state = traced.living_state();
        // The state's arrays are nobody else's, so that a step writes to them and copies none.
        traced.origins.clear();
        if let Some(given) = given {
            state.take_over(given)?;
        }
        Ok(Step { function: StepFn { engine: Engine::new(traced, device)? }, state })
    }
}

/// A compiled step with its state.
#[derive(Debug)]
pub struct Step<S, Y> {
    function: StepFn<S, Y>,
    state: TrainState,
}

impl<S: Spec, Y: Tree> Step<S, Y> {
    /// Runs the step; the state is updated in place.
    ///
    /// # Errors
    /// If an argument does not fit (which, both types), or a data-dependent failure occurred (the line). The state is then as it was.
    pub fn run(&mut self, args: S::Args<'_>) -> Result<Y::Arrays, Error> {
        self.function.run(&mut self.state, args)
    }

    /// As [`Step::run`], with the time of every launch: where the step's time goes.
    ///
    /// # Errors
    /// As [`Step::run`].
    pub fn profile(&mut self, args: S::Args<'_>) -> Result<(Y::Arrays, Profile), Error> {
        let engine = &self.function.engine;
        engine.profile(self.state.write_slots(engine.keys())?, args)
    }

    /// As [`Step::run`], with the values that [`Tensor::tap`](crate::Tensor::tap) named. The first step that asks compiles once more.
    ///
    /// # Errors
    /// As [`Step::run`], and what compiling the program with its taps finds.
    pub fn run_tapped(&mut self, args: S::Args<'_>) -> Result<(Y::Arrays, Taps), Error> {
        let engine = &self.function.engine;
        engine.run_tapped(self.state.write_slots(engine.keys())?, args)
    }

    /// Names the first operation that makes a NaN or an infinity in a step over the state as it is, which stays: see
    /// [`Compiled::check_finite`](crate::Compiled::check_finite).
    ///
    /// # Errors
    /// The first such value; or as [`Step::run`].
    pub fn check_finite(&self, args: S::Args<'_>, suspect: Suspect) -> Result<(), Error> {
        let engine = &self.function.engine;
        engine.check_finite(&self.state.values(engine.keys())?, args, suspect)
    }

    /// Checks a step over the state as it is, which stays, against the interpreter: see [`Compiled::check`](crate::Compiled::check).
    ///
    /// # Errors
    /// As [`Step::run`]. A difference is no error.
    pub fn check(&self, args: S::Args<'_>) -> Result<Checked, Error> {
        let engine = &self.function.engine;
        engine.check(self.state.values(engine.keys())?, args)
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &TrainState {
        &self.state
    }

    /// The state to be changed: loading a checkpoint.
    pub fn state_mut(&mut self) -> &mut TrainState {
        &mut self.state
    }

    /// Writes parameters and buffers back to a model.
    ///
    /// # Errors
    /// As [`TrainState::write_to`].
    pub fn write_to<M: Module>(&self, model: &mut M) -> Result<(), Error> {
        self.state.write_to(model)
    }

    /// The function and the state apart.
    #[must_use]
    pub fn split(self) -> (StepFn<S, Y>, TrainState) {
        (self.function, self.state)
    }
}

/// What a call gave, and how long every launch took.
type Profiled<Y> = (<Y as Tree>::Arrays, Profile);

impl<S, Y> std::ops::Deref for Step<S, Y> {
    type Target = Engine<S, Y>;

    fn deref(&self) -> &Engine<S, Y> {
        &self.function.engine
    }
}

/// A compiled step without its state.
#[derive(Debug)]
pub struct StepFn<S, Y> {
    engine: Engine<S, Y>,
}

impl<S: Spec, Y: Tree> StepFn<S, Y> {
    /// Runs the step over a state, which always comes back: updated, or as it was beside the error.
    ///
    /// # Errors
    /// As [`Step::run`].
    pub fn call(&self, mut state: TrainState, args: S::Args<'_>) -> Result<(TrainState, Y::Arrays), (TrainState, Error)> {
        match self.run(&mut state, args) {
            Ok(results) => Ok((state, results)),
            Err(error) => Err((state, error)),
        }
    }

    /// As [`StepFn::call`], with the time of every launch.
    ///
    /// # Errors
    /// As [`Step::run`].
    pub fn profile(&self, mut state: TrainState, args: S::Args<'_>) -> Result<(TrainState, Profiled<Y>), (TrainState, Error)> {
        match state.write_slots(self.engine.keys()).and_then(|slots| self.engine.profile(slots, args)) {
            Ok(results) => Ok((state, results)),
            Err(error) => Err((state, error)),
        }
    }

    fn run(&self, state: &mut TrainState, args: S::Args<'_>) -> Result<Y::Arrays, Error> {
        self.engine.run(state.write_slots(self.engine.keys())?, args)
    }
}

impl<S, Y> std::ops::Deref for StepFn<S, Y> {
    type Target = Engine<S, Y>;

    fn deref(&self) -> &Engine<S, Y> {
        &self.engine
    }
}
