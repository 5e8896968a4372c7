//! Optimisers: rules from a parameter, its derivative and what was remembered to the parameter's next value.
//!
//! They record operations in the step that is traced, so forward, backward and update are one program. What they remember is
//! the state's: a slot beside each parameter, and the number of steps. Nothing is computed here.

mod adam;
mod clip;
mod common;
mod decay;
mod rules;
mod schedule;
mod sgd;
mod train;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::Location;

use graver_ir::Scalar;
use graver_trace::{Again, Array, DType, Diag, Grads, Level, Param, StateCell, Tensor, fail, named_slot, on_behalf_of, slot};

pub use adam::{Adam, AdamW};
pub use clip::{ClipNorm, ClipValue};
pub use decay::{InverseSqrt, LinearDecay, MultiStepDecay, OneCycle, PolynomialDecay};
pub use rules::Rules;
pub use schedule::{Cosine, Repeat, Schedule, StepDecay, Then, Warmup};
pub use sgd::Sgd;
pub use train::train_step;

/// A rule that makes parameters better.
///
/// ```
/// use graver_nn::{Optimizer, Update};
/// use graver_trace::Tensor;
///
/// /// Chen et al. (2023), "Symbolic discovery of optimization algorithms".
/// struct Lion {
///     rate: f64,
/// }
///
/// impl Optimizer for Lion {
///     fn step(&self, p: &Update<'_>) -> Tensor {
///         let m = p.slot("exp_avg");
///         let direction = (m.get() * 0.9 + p.grad * 0.1).sign();
///         m.set(m.get() * 0.99 + p.grad * 0.01);
///         p.value - direction * self.rate
///     }
///
///     // Where a parameter is says nothing: parameters of one type are updated by one function.
///     fn kind(&self, _path: &str) -> Option<String> {
///         Some(String::new())
///     }
/// }
/// ```
pub trait Optimizer {
    /// The next value of one parameter.
    fn step(&self, p: &Update<'_>) -> Tensor;

    /// What is done to all derivatives before: clipping.
    fn prepare(&self, grads: Grads) -> Grads {
        grads
    }

    /// What a parameter's path means to the rule: [`Optimizer::step`] is recorded once for all parameters of one type that it means the same
    /// to, and done again for each. `None`: it is recorded for every parameter anew.
    fn kind(&self, path: &str) -> Option<String> {
        let _ = path;
        None
    }

    /// Patterns of paths that are meant to match some parameter: [`train_step`] refuses those that match none.
    fn patterns(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is wrong with the rule's numbers: a program that it is a part of does not compile.
    fn check(&self) -> Vec<Diag> {
        Vec::new()
    }

    /// Updates parameters from their derivatives, once in a step: what [`train_step`] does, for steps of one's own.
    ///
    /// `name` tells this optimiser's count of steps (`<name>.step`) from those of others over the same state; it may be empty.
    ///
    /// ```
    /// use graver_nn::{Adam, Init, Linear, Optimizer};
    /// use graver_trace::{spec, step, value_and_grad};
    /// let model = Linear::new(4, 1).init(&mut Init::seed(0));
    /// let adam = Adam::new(1e-3).clip_norm(1.0);
    /// let traced = step(spec::<f32>(("n", 4)), |x| {
    ///     let (loss, grads) = value_and_grad(&model, |m| m.forward(x).square().mean(..));
    ///     let norm = grads.norm();
    ///     adam.update("", grads);
    ///     (loss, norm)
    /// })
    /// .model("", &model)
    /// .trace()?;
    /// # drop(traced);
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    #[track_caller]
    fn update(&self, name: &str, grads: Grads) {
        let _lines = on_behalf_of(Location::caller(), crate::SOURCES);
        for diag in self.check() {
            fail(diag.op("optimizer"));
        }
        let count = named_slot(&if name.is_empty() { "step".to_owned() } else { format!("{name}.step") }, || Array::scalar(0i64));
        if count.is_set() {
            let diag = Diag::new(format!("two optimisers in one step count their steps under the name `{name}`"));
            fail(diag.op("update").help("give each its own: `.update(\"gen\", grads)`"));
            return;
        }
        count.set(count.get() + 1);
        // 16-bit derivatives are clipped, squared and averaged as wider floats.
        let grads = self.prepare(grads.map(|_, grad| grad.cast(grad.dtype().compute())));
        let alike = Alike { level: Level::here(), known: RefCell::default() };
        let mut known: BTreeMap<(String, DType, Vec<usize>), Rule> = BTreeMap::new();
        for (path, param, grad) in grads.iter() {
            let given = [param.get(), grad];
            let Some(kind) = self.kind(path) else {
                param.set(next(self, Parameter { path, param, alike: &alike }, given, count).0);
                continue;
            };
            let initial = param.value();
            let key = (kind, initial.dtype(), initial.shape().to_vec());
            if !known.contains_key(&key) {
                let mut slots = Slots::default();
                let again = Again::record(&given, |given| {
                    let (value, used) = next(self, Parameter { path, param, alike: &alike }, [given[0], given[1]], count);
                    slots = used;
                    vec![value]
                });
                let Some(again) = again else { continue };
                known.insert(key.clone(), Rule::new(again, &slots));
            }
            param.set(known[&key].call(given, param));
        }
    }

    /// With derivatives scaled down to a common norm: see [`ClipNorm`].
    fn clip_norm(self, max: f64) -> ClipNorm<Self>
    where
        Self: Sized,
    {
        ClipNorm::new(self, max)
    }

    /// With the elements of derivatives cut off: see [`ClipValue`].
    fn clip_value(self, max: f64) -> ClipValue<Self>
    where
        Self: Sized,
    {
        ClipValue::new(self, max)
    }
}

/// What an optimiser knows of one parameter in one step. 16-bit parameters are updated as `f32` and rounded once.
#[derive(Debug)]
pub struct Update<'a> {
    /// The parameter's path: `encoder.0.weight`.
    pub path: &'a str,
    /// The parameter.
    pub value: Tensor,
    /// The loss' derivative with respect to it.
    pub grad: Tensor,
    /// The number of this step as a float scalar: 1 in the first.
    pub t: Tensor,
    param: &'a Param,
    alike: &'a Alike,
    dtype: DType,
    slots: RefCell<Slots>,
}

/// A parameter to be updated.
#[derive(Clone, Copy)]
struct Parameter<'a> {
    path: &'a str,
    param: &'a Param,
    alike: &'a Alike,
}

/// What an optimiser remembers beside a parameter, by name.
type Slots = Vec<(String, StateCell)>;

/// The next value of a parameter from its value and derivative, and what the rule has remembered.
#[track_caller]
fn next<O: Optimizer + ?Sized>(rule: &O, of: Parameter<'_>, [value, grad]: [Tensor; 2], count: StateCell) -> (Tensor, Slots) {
    let Parameter { path, param, alike } = of;
    let own = value.dtype();
    let dtype = own.compute();
    let t = alike.once(dtype, "t", || count.get().cast(dtype));
    let update = Update { path, value: value.cast(dtype), grad, t, param, alike, dtype, slots: RefCell::default() };
    let next = rule.step(&update).cast(own);
    (next, update.slots.into_inner())
}

/// A rule that was recorded.
struct Rule {
    again: Again,
    cells: Vec<Cell>,
}

/// A slot that a rule takes.
enum Cell {
    /// That of this name beside the parameter.
    Beside(String),
    /// One that is none of the rule's own.
    Other(StateCell),
}

impl Rule {
    fn new(again: Again, slots: &Slots) -> Self {
        let beside = |cell: StateCell| slots.iter().find(|(_, own)| *own == cell).map(|(name, _)| Cell::Beside(name.clone()));
        let cells = again.cells().into_iter().map(|cell| beside(cell).unwrap_or(Cell::Other(cell))).collect();
        Self { cells, again }
    }

    #[track_caller]
    fn call(&self, given: [Tensor; 2], param: &Param) -> Tensor {
        let cell = |cell: &Cell| match cell {
            Cell::Beside(name) => zeros_beside(param, name),
            Cell::Other(cell) => *cell,
        };
        let cells: Vec<StateCell> = self.cells.iter().map(cell).collect();
        self.again.call(&given, &cells)[0]
    }
}

#[track_caller]
fn zeros_beside(param: &Param, name: &str) -> StateCell {
    slot(param, name, || {
        let value = param.value();
        Array::full(value.shape(), Scalar::zero(value.dtype().compute()))
    })
}

/// What is alike for all parameters of a step: scalars by element type and name.
#[derive(Debug)]
struct Alike {
    /// Where they are computed, whichever rule is recorded.
    level: Level,
    known: RefCell<BTreeMap<(DType, String), Tensor>>,
}

impl Alike {
    fn once(&self, dtype: DType, name: &str, value: impl FnOnce() -> Tensor) -> Tensor {
        let key = (dtype, name.to_owned());
        if let Some(known) = self.known.borrow().get(&key) {
            return *known;
        }
        let value = self.level.record(value);
        self.known.borrow_mut().insert(key, value);
        value
    }
}

impl Update<'_> {
    /// What is remembered from step to step beside this parameter, under a name of the optimiser's own; zeros at first.
    #[must_use]
    #[track_caller]
    pub fn slot(&self, name: &str) -> StateCell {
        let cell = zeros_beside(self.param, name);
        self.slots.borrow_mut().push((name.to_owned(), cell));
        cell
    }

    /// The number of steps before this one: 0 in the first. What a [`Schedule`] is a function of.
    #[must_use]
    #[track_caller]
    pub fn done(&self) -> Tensor {
        self.once("done", || self.t - 1)
    }

    /// What is alike for all parameters of an element type, a scalar of `t` and of numbers, which `name` tells from others: recorded for the
    /// first parameter that asks, outside of what is recorded for it. Compiling a model of many parameters takes less time so; what is computed
    /// stays.
    #[must_use]
    pub fn once(&self, name: &str, value: impl FnOnce() -> Tensor) -> Tensor {
        self.alike.once(self.dtype(), name, value)
    }

    /// The element type that the update is computed in.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}
