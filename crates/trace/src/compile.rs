//! From a closure to a program that runs: trace, passes, code. [`Compiled`] is a function that keeps its state.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use graver_check::{Checked, Suspect};
use graver_ir::{Array, Error, Module as Program, verify, verify_sizes};
use graver_runtime::{Backend, Profile, Slot};

use crate::context::{Guard, Mode, Quiet, Trace, Traced, nowhere, report, with};
use crate::engine::Engine;
use crate::module::{Module, declare};
use crate::ops::random;
use crate::spec::{Spec, inputs};
use crate::state::{Origin, StateEntry, StateKey, TrainState};
use crate::tap::{Tap, Taps};
use crate::tensor::Tensor;
use crate::tree::{Layout, Tree, tensors_of};

/// Where compiled functions run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Device(Arc<dyn Backend>);

impl Device {
    /// A device that a backend drives.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self(backend)
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        self.0.as_ref()
    }
}

/// What a trace is told besides its closure.
pub(crate) struct Options<'m> {
    pub(crate) mode: Mode,
    /// Whether state may be updated.
    pub(crate) updates: bool,
    pub(crate) seed: u64,
    pub(crate) models: Vec<(String, &'m dyn Module)>,
}

impl Options<'_> {
    /// A function of its inputs that keeps its state.
    pub(crate) const FUNCTION: Self = Self { mode: Mode::Eval, updates: false, seed: 0, models: Vec::new() };
}

/// A traced program before any pass: what `compile` begins with, for those who want to look or to evaluate it otherwise.
#[derive(Debug)]
pub struct TracedModule<S, Y> {
    pub(crate) module: Program,
    pub(crate) spec: S,
    pub(crate) layout: Layout,
    pub(crate) keys: Vec<StateKey>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) taps: Vec<Tap>,
    pub(crate) took: Duration,
    result: PhantomData<fn() -> Y>,
}

impl<S: Spec, Y: Tree> TracedModule<S, Y> {
    /// The program.
    #[must_use]
    pub fn module(&self) -> &Program {
        &self.module
    }

    /// The state before the first call, in the order of [`Program::state`].
    #[must_use]
    pub fn state(&self) -> Vec<Array> {
        self.origins.iter().map(Origin::value).collect()
    }

    /// The identities of the state's slots, in the same order.
    #[must_use]
    pub fn keys(&self) -> &[StateKey] {
        &self.keys
    }

    /// The names of values that [`Tensor::tap`] named, in their order.
    pub fn tap_names(&self) -> impl Iterator<Item = &str> {
        self.taps.iter().map(Tap::name)
    }

    /// The arrays of a call in the order of the program's parameters.
    ///
    /// # Errors
    /// If a vector or an option is not as long as the spec's.
    pub fn arguments<'a>(&self, args: S::Args<'a>) -> Result<Vec<&'a Array>, Error> {
        let mut arrays = Vec::new();
        self.spec.arrays(args, &mut arrays)?;
        Ok(arrays)
    }

    /// The program's results, in order, as the closure's nesting.
    ///
    /// # Panics
    /// If there are too few.
    #[must_use]
    pub fn results(&self, results: Vec<Array>) -> Y::Arrays {
        Y::arrays(&self.layout, &mut results.into_iter())
    }

    /// The state before the first call as a living one.
    pub(crate) fn living_state(&self) -> TrainState {
        let mut state = TrainState::default();
        for ((key, origin), decl) in self.keys.iter().zip(&self.origins).zip(&self.module.state) {
            let entry = StateEntry { path: decl.path.clone(), kind: decl.kind, value: origin.value() };
            state.insert(key.clone(), entry);
        }
        state
    }
}

/// Traces a closure. The trace leaves the thread whatever the closure does.
pub(crate) fn trace_with<S: Spec, Y: Tree>(
    options: &Options<'_>,
    spec: S,
    f: impl FnOnce(S::Traced) -> Y,
) -> Result<TracedModule<S, Y>, Error> {
    let start = Instant::now();
    let guard = Guard::begin(options.mode);
    with(|trace| {
        trace.updates = options.updates;
        trace.seed = options.seed;
        options.models.iter().for_each(|(prefix, model)| declare(trace, prefix, *model));
    });
    let ran = catch_unwind(AssertUnwindSafe(|| run(options, &spec, f)));
    let mut trace = guard.end();
    match ran {
        Ok((layout, results)) => {
            trace.finish(&results);
            finished(trace, spec, layout, start)
        }
        Err(payload) if payload.is::<Quiet>() => {
            Err(Error::from_diags(trace.errors).expect("a trace is given up after an error was recorded"))
        }
        Err(payload) => resume_unwind(payload),
    }
}

fn run<S: Spec, Y: Tree>(options: &Options<'_>, spec: &S, f: impl FnOnce(S::Traced) -> Y) -> (Layout, Vec<Tensor>) {
    let y = f(inputs(spec));
    if options.updates {
        settle(nowhere(random::advance));
    }
    (y.layout(), tensors_of(&y))
}

fn settle(result: Traced<()>) {
    if let Err(failed) = result {
        report("rng", failed);
    }
}

fn finished<S, Y>(trace: Trace, spec: S, layout: Layout, start: Instant) -> Result<TracedModule<S, Y>, Error> {
    if let Some(error) = Error::from_diags(trace.errors) {
        return Err(error);
    }
    // The other invariants hold by construction, and after the passes they are looked after in every build.
    if cfg!(debug_assertions) {
        verify(&trace.module)?
    } else {
        verify_sizes(&trace.module)?
    }
    let (keys, origins) = trace.state.into_iter().map(|slot| (slot.key, slot.origin)).unzip();
    let (module, taps, took) = (trace.module, trace.taps, start.elapsed());
    Ok(TracedModule { module, spec, layout, keys, origins, taps, took, result: PhantomData })
}

/// Traces a function of its inputs as [`compile`] does, and stops there.
///
/// ```
/// use graver_trace::{spec, trace};
/// let error = trace(|(x, y)| x + y, (spec::<f32>(("n", 3)), spec::<f32>(("n", 4)))).expect_err("3 is not 4");
/// assert!(error.to_string().contains("shapes do not broadcast: f32[n, 3] and f32[n, 4] differ at axis -1, 3 and 4"));
/// ```
///
/// # Errors
/// Everything that the closure's operations found wrong, at most twenty errors, each with its line.
pub fn trace<S: Spec, Y: Tree>(f: impl FnOnce(S::Traced) -> Y, spec: S) -> Result<TracedModule<S, Y>, Error> {
    trace_with(&Options::FUNCTION, spec, f)
}

/// Compiles a function of its inputs, in evaluation mode. Models that the closure captures are read, and never updated.
///
/// # Errors
/// Everything that tracing found wrong, or what a pass or the device found.
pub fn compile<S: Spec, Y: Tree>(f: impl FnOnce(S::Traced) -> Y, spec: S, device: &Device) -> Result<Compiled<S, Y>, Error> {
    let mut traced = trace(f, spec)?;
    let origins = std::mem::take(&mut traced.origins);
    Ok(Compiled { engine: Engine::new(traced, device)?, origins })
}

/// A compiled function that keeps its state. Any number of threads may call it at once.
#[derive(Debug)]
pub struct Compiled<S, Y> {
    engine: Engine<S, Y>,
    origins: Vec<Origin>,
}

impl<S: Spec, Y: Tree> Compiled<S, Y> {
    /// Runs over the models' own parameters, as they are now.
    ///
    /// # Errors
    /// If an argument does not fit (which, both types), or a data-dependent failure occurred (the line).
    pub fn call(&self, args: S::Args<'_>) -> Result<Y::Arrays, Error> {
        self.call_over(None, args)
    }

    /// Runs over a living state: what a step trains. What is not in it is the models' own.
    ///
    /// # Errors
    /// As [`Compiled::call`]; if the state is of another model, also one of the same kind.
    pub fn call_with(&self, state: &TrainState, args: S::Args<'_>) -> Result<Y::Arrays, Error> {
        state.check_model(self.engine.slots())?;
        self.call_over(Some(state), args)
    }

    /// As [`Compiled::call`], with the time of every launch: where the call's time goes.
    ///
    /// # Errors
    /// As [`Compiled::call`].
    pub fn profile(&self, args: S::Args<'_>) -> Result<(Y::Arrays, Profile), Error> {
        let values = self.values(None);
        self.engine.profile(values.iter().map(Slot::Read).collect(), args)
    }

    /// As [`Compiled::call`], with the values that [`Tensor::tap`] named. The first call that asks compiles the program once more.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use graver_trace::{Array, Device, compile, spec};
    /// # let device = Device::new(Arc::new(graver_interp::Interp::default()));
    /// let f = compile(|x| (x * 2.0).tap("twice").sum(..), spec::<f32>(["n"]), &device)?;
    /// let x = Array::from_vec([2], vec![1.0f32, 3.0])?;
    /// let (sum, taps) = f.call_tapped(&x)?;
    /// assert_eq!((sum.item()?, taps.get("twice")?.to_f64()), (8.0, vec![2.0, 6.0]));
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Compiled::call`], and what compiling the program with its taps finds.
    pub fn call_tapped(&self, args: S::Args<'_>) -> Result<(Y::Arrays, Taps), Error> {
        let values = self.values(None);
        self.engine.run_tapped(values.iter().map(Slot::Read).collect(), args)
    }

    /// As [`Compiled::call_with`], with the values that [`Tensor::tap`] named.
    ///
    /// # Errors
    /// As [`Compiled::call_with`] and [`Compiled::call_tapped`].
    pub fn call_tapped_with(&self, state: &TrainState, args: S::Args<'_>) -> Result<(Y::Arrays, Taps), Error> {
        state.check_model(self.engine.slots())?;
        let values = self.values(Some(state));
        self.engine.run_tapped(values.iter().map(Slot::Read).collect(), args)
    }

    /// Names the first operation that makes a NaN or, by [`Suspect::NanOrInfinity`], an infinity: its line and module path, the element, and
    /// what that was made of. In derivatives and loops too. The program is interpreted operation by operation, which is slow; results of
    /// operations are rounded to their types, also where a kernel would keep more digits.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use graver_trace::{Array, Device, Suspect, compile, spec};
    /// # let device = Device::new(Arc::new(graver_interp::Interp::default()));
    /// let f = compile(|x| x.log().sum(..), spec::<f32>(["n"]), &device)?;
    /// let x = Array::from_vec([2], vec![1.0f32, -1.0])?;
    /// let error = f.check_finite(&x, Suspect::Nan).expect_err("the logarithm of -1");
    /// assert!(error.to_string().contains("log: gives nan at [1] of f32[2], made of -1.0"));
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first such value; or as [`Compiled::call`].
    pub fn check_finite(&self, args: S::Args<'_>, suspect: Suspect) -> Result<(), Error> {
        self.engine.check_finite(&self.values(None), args, suspect)
    }

    /// As [`Compiled::check_finite`], over a living state.
    ///
    /// # Errors
    /// As [`Compiled::check_finite`] and [`Compiled::call_with`].
    pub fn check_finite_with(&self, state: &TrainState, args: S::Args<'_>, suspect: Suspect) -> Result<(), Error> {
        state.check_model(self.engine.slots())?;
        self.engine.check_finite(&self.values(Some(state)), args, suspect)
    }

    /// Checks a call against the interpreter: the graph as it was traced, every launch of a kernel on the device, and the whole. On a
    /// difference the guilty pass, stage or kernel is named, and the smallest program that still shows it is given as a `.gir` text
    /// ([`graver_check::Finding::to_gir`]), which `graver check` runs. Slow: everything is interpreted, several times.
    ///
    /// # Errors
    /// As [`Compiled::call`]. A difference is no error.
    pub fn check(&self, args: S::Args<'_>) -> Result<Checked, Error> {
        self.engine.check(self.values(None), args)
    }

    /// As [`Compiled::check`], over a living state.
    ///
    /// # Errors
    /// As [`Compiled::call_with`].
    pub fn check_with(&self, state: &TrainState, args: S::Args<'_>) -> Result<Checked, Error> {
        state.check_model(self.engine.slots())?;
        self.engine.check(self.values(Some(state)), args)
    }

    /// A value for each slot of the state: what a living one has, else the models' own.
    fn values(&self, living: Option<&TrainState>) -> Vec<Array> {
        let known = |key: &StateKey| living.and_then(|state| state.get(key)).cloned();
        self.engine.keys().iter().zip(&self.origins).map(|(key, origin)| known(key).unwrap_or_else(|| origin.value())).collect()
    }

    fn call_over(&self, living: Option<&TrainState>, args: S::Args<'_>) -> Result<Y::Arrays, Error> {
        let values = self.values(living);
        self.engine.run(values.iter().map(Slot::Read).collect(), args)
    }

    /// What can be asked of the compiled program.
    #[must_use]
    pub fn engine(&self) -> &Engine<S, Y> {
        &self.engine
    }
}

impl<S, Y> std::ops::Deref for Compiled<S, Y> {
    type Target = Engine<S, Y>;

    fn deref(&self) -> &Engine<S, Y> {
        &self.engine
    }
}
