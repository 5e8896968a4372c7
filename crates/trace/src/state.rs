//! The state of a program: parameters, buffers, optimisers' slots and the random key, by identity, each with a path.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;

use graver_ir::{Array, Diag, Error, StateDecl, StateId, StateKind};
use graver_runtime::Slot;

use crate::context::{Traced, with, wrong};
use crate::module::Module;
use crate::param::{Param, ParamId, Shared, check};
use crate::tensor::{Operand, Tensor};

/// What a slot of the state is, whichever program uses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKey {
    /// The random key.
    Rng,
    /// A parameter or a buffer.
    Param(ParamId),
    /// An optimiser's own beside a parameter.
    Slot(ParamId, String),
    /// An optimiser's own beside none: the number of steps.
    Named(String),
}

/// Where a slot's value comes from when no living state has it.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// The model's own, as it is then.
    Model(Shared),
    /// What it was made with.
    Fixed(Array),
}

impl Origin {
    pub(crate) fn value(&self) -> Array {
        match self {
            Self::Model(shared) => shared.value(),
            Self::Fixed(value) => value.clone(),
        }
    }
}

/// A slot of the state inside a trace: it is read, and left with another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateCell(pub(crate) StateId);

impl StateCell {
    /// The value, with what was set so far.
    #[must_use]
    pub fn get(self) -> Tensor {
        with(|trace| trace.state_value(self.0))
    }

    /// Whether the trace has set it already.
    #[must_use]
    pub fn is_set(self) -> bool {
        with(|trace| trace.is_updated(self.0))
    }

    /// Records that the step leaves this value; the type must be the slot's.
    #[track_caller]
    pub fn set(self, value: Tensor) {
        check("set", self.try_set(value));
    }

    #[track_caller]
    fn try_set(self, value: Tensor) -> Traced<()> {
        let ty = value.ty()?;
        with(|trace| {
            let decl = trace.module.state_decl(self.0);
            if ty != decl.ty {
                return wrong(format!("`{}` is {} and cannot become {ty}", decl.path, decl.ty));
            }
            if !trace.updates {
                return Err(Diag::new(format!("`{}` is updated in a function that keeps its state", decl.path))
                    .help("trace it with step, or read training() before")
                    .into());
            }
            trace.update_state(self.0, value);
            Ok(())
        })
    }
}

impl Operand for StateCell {
    fn beside(&self, _: Tensor) -> Tensor {
        self.get()
    }
}

/// An optimiser's own array beside a parameter, `initial` before the first step: moments.
#[must_use]
#[track_caller]
pub fn slot(param: &Param, name: &str, initial: impl FnOnce() -> Array) -> StateCell {
    let own = param.state();
    let path = with(|trace| format!("optim.{}.{name}", trace.module.state_decl(own.0).path));
    cell(StateKey::Slot(param.id(), name.to_owned()), path, initial)
}

/// An optimiser's own array beside no parameter, `initial` before the first step: the number of steps.
#[must_use]
#[track_caller]
pub fn named_slot(name: &str, initial: impl FnOnce() -> Array) -> StateCell {
    cell(StateKey::Named(name.to_owned()), format!("optim.{name}"), initial)
}

#[track_caller]
fn cell(key: StateKey, path: String, initial: impl FnOnce() -> Array) -> StateCell {
    let line = Location::caller();
    if let Some(known) = with(|trace| trace.state_ids.get(&key).copied()) {
        return StateCell(known);
    }
    let value = initial();
    with(|trace| {
        StateCell(trace.lift(key, StateDecl { path, ty: value.ty(), kind: StateKind::Slot }, Origin::Fixed(value), line))
    })
}

/// One slot of a [`TrainState`].
#[derive(Clone, Debug)]
pub struct StateEntry {
    /// The path, unique in its state: the checkpoint's key.
    pub path: String,
    /// What it holds.
    pub kind: StateKind,
    /// The value.
    pub value: Array,
}

/// A living state: what a training step reads and updates, and what any compiled function may read.
#[derive(Clone, Debug, Default)]
pub struct TrainState {
    entries: BTreeMap<StateKey, StateEntry>,
}

impl TrainState {
    pub(crate) fn insert(&mut self, key: StateKey, entry: StateEntry) {
        self.entries.insert(key, entry);
    }

    /// The slots, in a fixed order.
    pub fn entries(&self) -> impl Iterator<Item = &StateEntry> {
        self.entries.values()
    }

    /// The value of a slot.
    #[must_use]
    pub fn get(&self, key: &StateKey) -> Option<&Array> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value at a path.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Array> {
        self.entries().find(|entry| entry.path == path).map(|entry| &entry.value)
    }

    /// Replaces the value at a path: loading a checkpoint.
    ///
    /// # Errors
    /// If there is no such path, or the type differs.
    pub fn set(&mut self, path: &str, value: Array) -> Result<(), Diag> {
        let Some(entry) = self.entries.values_mut().find(|entry| entry.path == path) else {
            return Err(Diag::new(format!("the state has no `{path}`")).op("state"));
        };
        if entry.value.ty() != value.ty() {
            return Err(Diag::new(format!("`{path}` is {}, got {}", entry.value.ty(), value.ty())).op("state"));
        }
        entry.value = value;
        Ok(())
    }

    /// Writes parameters and buffers back to the model that they came from.
    ///
    /// # Errors
    /// If the state is of another model (also one of the same kind), or a parameter of the model has changed its type since.
    pub fn write_to<M: Module>(&self, model: &mut M) -> Result<(), Error> {
        let leaves = model.leaves();
        let keys: Vec<StateKey> = leaves.iter().map(|(_, leaf)| StateKey::Param(leaf.id())).collect();
        self.check_model(keys.iter().zip(leaves.iter().map(|(path, _)| path.as_str())))?;
        let mut diags = Vec::new();
        for ((path, leaf), key) in leaves.iter().zip(&keys) {
            if let Some(entry) = self.entries.get(key) {
                diags.extend(leaf.set_value(entry.value.clone()).err().map(|diag| diag.op(path)));
            }
        }
        Error::from_diags(diags).map_or(Ok(()), Err)
    }

    /// Replaces what `other` has too.
    pub(crate) fn take_over(&mut self, other: Self) -> Result<(), Error> {
        other.check_model(self.entries.iter().map(|(key, entry)| (key, entry.path.as_str())))?;
        let mut diags = Vec::new();
        for (key, entry) in other.entries {
            match self.entries.get_mut(&key) {
                Some(own) if own.value.ty() == entry.value.ty() => own.value = entry.value,
                Some(own) => {
                    let (own, given) = (own.value.ty(), entry.value.ty());
                    diags.push(Diag::new(format!("`{}` is {own} here, and {given} in the state given", entry.path)).op("state"));
                }
                None => {}
            }
        }
        Error::from_diags(diags).map_or(Ok(()), Err)
    }

    /// Whether these slots, each with its path, are those of the model that the state is of. A model that was built once more has
    /// the same paths, but parameters of its own, which the state says nothing of.
    pub(crate) fn check_model<'s>(&self, slots: impl Iterator<Item = (&'s StateKey, &'s str)> + Clone) -> Result<(), Error> {
        let is_known = |key: &StateKey| self.entries.contains_key(key);
        if slots.clone().all(|(key, _)| is_known(key)) {
            return Ok(());
        }
        let here: BTreeSet<&StateKey> = slots.clone().map(|(key, _)| key).collect();
        let unused = self.entries.iter().filter(|(key, _)| !here.contains(key));
        let paths: BTreeSet<&str> = unused.map(|(_, entry)| entry.path.as_str()).collect();
        let mut missing = slots.clone().filter(|(key, _)| !is_known(key)).map(|(_, path)| path);
        let twin = missing.clone().find(|path| paths.contains(path));
        let message = match (twin, missing.next()) {
            (Some(path), _) => format!("the state's `{path}` is of another model than this `{path}`"),
            (None, Some(path)) if !slots.clone().any(|(key, _)| is_known(key)) => {
                format!("the state has none of this model's parameters: not `{path}`")
            }
            (None, Some(_) | None) => return Ok(()),
        };
        let help =
            "use the model that was trained; another one of the same kind takes its values from a file: save one, load the other";
        Err(Diag::new(message).op("state").help(help).into())
    }

    /// The values of a program's slots, in the program's order.
    pub(crate) fn values(&self, keys: &[StateKey]) -> Result<Vec<Array>, Error> {
        keys.iter().map(|key| self.get(key).cloned().ok_or_else(lacking)).collect()
    }

    /// The slots of a program to be read and updated, in the program's order.
    pub(crate) fn write_slots(&mut self, keys: &[StateKey]) -> Result<Vec<Slot<'_>>, Error> {
        let mut places: BTreeMap<&StateKey, &mut Array> =
            self.entries.iter_mut().map(|(key, entry)| (key, &mut entry.value)).collect();
        keys.iter().map(|key| places.remove(key).map(Slot::Write).ok_or_else(lacking)).collect()
    }
}

fn lacking() -> Error {
    Error::new("the state is not this step's: it lacks a slot")
}
