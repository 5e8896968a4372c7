//! Parameters and buffers: arrays with an identity, which a trace lifts to slots of the state when they are read.
//!
//! The identity is an `Arc`: moving a model keeps it, and the value and flags of tied parameters are one.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use graver_ir::{Array, DType, Diag, Scalar, StateDecl, StateKind};

use crate::context::{Trace, Traced, fail, report, with};
use crate::state::{Origin, StateCell, StateKey};
use crate::tensor::{Operand, Tensor};

/// The identity of a parameter or buffer, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(u64);

#[derive(Debug)]
struct Cell {
    id: ParamId,
    value: RwLock<Array>,
    frozen: AtomicBool,
    /// Why there is no value, which is then an empty array.
    refused: Option<Diag>,
}

/// What parameters and buffers share.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Cell>);

impl Shared {
    fn new(value: Array, refused: Option<Diag>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = ParamId(NEXT.fetch_add(1, Ordering::Relaxed));
        Self(Arc::new(Cell { id, value: RwLock::new(value), frozen: AtomicBool::new(false), refused }))
    }

    pub(crate) fn id(&self) -> ParamId {
        self.0.id
    }

    pub(crate) fn value(&self) -> Array {
        self.0.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_value(&self, value: Array) -> Result<(), Diag> {
        let mut held = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        if held.ty() != value.ty() {
            return Err(Diag::new(format!("holds {}, and cannot become {}", held.ty(), value.ty())).op("parameter"));
        }
        *held = value;
        Ok(())
    }

    /// The slot of the state, which is made if the trace has not met it.
    #[track_caller]
    fn cell(&self, kind: StateKind) -> StateCell {
        let line = Location::caller();
        let key = StateKey::Param(self.id());
        with(|trace| {
            let known = trace.state_ids.get(&key).copied();
            StateCell(known.unwrap_or_else(|| {
                let ty = self.value().ty();
                let path = path_of(trace, self.id(), kind);
                trace.lift(key, StateDecl { path, ty, kind }, Origin::Model(self.clone()), line)
            }))
        })
    }
}

/// The path of a walked model's parameter; else the scope's with a number.
fn path_of(trace: &Trace, id: ParamId, kind: StateKind) -> String {
    if let Some(path) = trace.paths.get(&id) {
        return path.clone();
    }
    let what = match kind {
        StateKind::Param => "param",
        StateKind::Buffer => "buffer",
        StateKind::Slot | StateKind::Rng => "slot",
    };
    let scope = trace.scope_path();
    if scope.is_empty() { what.to_owned() } else { format!("{scope}.{what}") }
}

/// A parameter of a model: what training changes.
///
/// ```
/// use graver_trace::{Array, Param};
/// let weight = Param::new(Array::from_vec([2], vec![1.0f32, 2.0])?);
/// let tied = weight.tie();
/// tied.set_value(Array::from_vec([2], vec![3.0f32, 4.0])?)?;
/// assert_eq!(weight.value().to_f64(), [3.0, 4.0]);
/// # Ok::<(), graver_trace::Diag>(())
/// ```
#[derive(Debug)]
pub struct Param(pub(crate) Shared);

impl Param {
    /// A parameter of its own identity.
    #[must_use]
    pub fn new(value: Array) -> Self {
        Self(Shared::new(value, None))
    }

    /// A parameter that cannot be: programs that read it do not compile, for this reason, at the line that does. Its value is empty.
    ///
    /// ```
    /// use graver_trace::{DType, Diag, Param, spec, trace};
    /// let weight = Param::refused(DType::F32, Diag::new("the layer has no features"));
    /// let error = trace(|x| x * weight.get(), spec::<f32>(["n"])).expect_err("it has no value");
    /// assert!(error.to_string().ends_with("the layer has no features"), "{error}");
    /// ```
    #[must_use]
    pub fn refused(dtype: DType, why: Diag) -> Self {
        Self(Shared::new(Array::full([0], Scalar::zero(dtype)), Some(why)))
    }

    /// The same parameter in another place of a model: one identity, one value, one summed gradient.
    #[must_use]
    pub fn tie(&self) -> Self {
        Self(self.0.clone())
    }

    /// Another parameter of the same value.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::new(self.value())
    }

    /// The identity.
    #[must_use]
    pub fn id(&self) -> ParamId {
        self.0.id()
    }

    /// The parameter in the traced program.
    #[must_use]
    #[track_caller]
    pub fn get(&self) -> Tensor {
        if let Some(why) = &self.0.0.refused {
            return fail(why.clone());
        }
        let bound = with(|trace| trace.bindings.iter().rev().find_map(|bound| bound.get(&self.id()).copied()));
        match bound {
            Some(tensor) => tensor,
            None => self.0.cell(StateKind::Param).get(),
        }
    }

    /// Records that the step leaves this value: what optimisers do.
    #[track_caller]
    pub fn set(&self, value: Tensor) {
        self.0.cell(StateKind::Param).set(value);
    }

    /// The value on the host.
    #[must_use]
    pub fn value(&self) -> Array {
        self.0.value()
    }

    /// Replaces the value on the host.
    ///
    /// # Errors
    /// If the type differs.
    pub fn set_value(&self, value: Array) -> Result<(), Diag> {
        self.0.set_value(value)
    }

    /// Takes the parameter out of what is differentiated, and so out of training; tied ones too.
    pub fn freeze(&self) {
        self.0.0.frozen.store(true, Ordering::Relaxed);
    }

    /// Undoes [`Param::freeze`].
    pub fn unfreeze(&self) {
        self.0.0.frozen.store(false, Ordering::Relaxed);
    }

    /// Whether the parameter is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.0.0.frozen.load(Ordering::Relaxed)
    }

    /// The value as the step found it, which bindings do not change: what a derivative names.
    #[track_caller]
    pub(crate) fn state(&self) -> StateCell {
        self.0.cell(StateKind::Param)
    }

    /// Reads parameters as `bound` while `f` runs.
    pub(crate) fn bind<R>(bound: Vec<(ParamId, Tensor)>, f: impl FnOnce() -> R) -> R {
        struct Unbind;
        impl Drop for Unbind {
            fn drop(&mut self) {
                if crate::context::is_tracing() {
                    with(|trace| trace.bindings.pop());
                }
            }
        }
        with(|trace| trace.bindings.push(bound.into_iter().collect()));
        let _unbind = Unbind;
        f()
    }
}

impl Operand for Param {
    #[track_caller]
    fn beside(&self, _: Tensor) -> Tensor {
        self.get()
    }
}

/// A value that forward passes update themselves: running statistics, caches. No gradient reaches it.
#[derive(Debug)]
pub struct Buffer(pub(crate) Shared);

impl Buffer {
    /// A buffer of its own identity.
    #[must_use]
    pub fn new(value: Array) -> Self {
        Self(Shared::new(value, None))
    }

    /// The same buffer in another place of a model.
    #[must_use]
    pub fn tie(&self) -> Self {
        Self(self.0.clone())
    }

    /// The identity.
    #[must_use]
    pub fn id(&self) -> ParamId {
        self.0.id()
    }

    /// The buffer in the traced program, with what was set so far.
    #[must_use]
    #[track_caller]
    pub fn get(&self) -> Tensor {
        self.0.cell(StateKind::Buffer).get()
    }

    /// Records that the step leaves this value. Call it where [`crate::training`] says so: a function without updates refuses it.
    #[track_caller]
    pub fn set(&self, value: Tensor) {
        self.0.cell(StateKind::Buffer).set(value.stop_gradient());
    }

    /// The value on the host.
    #[must_use]
    pub fn value(&self) -> Array {
        self.0.value()
    }

    /// Replaces the value on the host.
    ///
    /// # Errors
    /// If the type differs.
    pub fn set_value(&self, value: Array) -> Result<(), Diag> {
        self.0.set_value(value)
    }
}

impl Operand for Buffer {
    #[track_caller]
    fn beside(&self, _: Tensor) -> Tensor {
        self.get()
    }
}

/// Records a failure of something that gives no tensor.
#[track_caller]
pub(crate) fn check(name: &str, result: Traced<()>) {
    if let Err(failed) = result {
        report(name, failed);
    }
}
