//! What is recorded once and done again, with other tensors and other slots of state: an optimiser's rule, parameter by parameter.

use graver_ir::{Diag, Type};

use super::body::{self, KeyAtEnd};
use super::build::Called;
use super::{settle, types_of};
use crate::context::{Frame, Traced, report, with, with_any};
use crate::state::StateCell;
use crate::tensor::Tensor;

/// Operations that were recorded once, as a function of the program that may be called with other tensors and other slots of state of the same
/// types. A program of many equal parts is traced and compiled in less time so; what it computes stays.
///
/// ```
/// use graver_trace::{Again, spec, trace};
/// let traced = trace(
///     |(x, y)| {
///         let softplus = Again::record(&[x], |given| vec![given[0].exp().log1p()]).expect("it is right");
///         (softplus.call(&[x], &[])[0], softplus.call(&[y], &[])[0])
///     },
///     (spec::<f32>(["n"]), spec::<f32>(["n"])),
/// )?;
/// assert_eq!(traced.module().functions.len(), 2);
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[derive(Debug)]
pub struct Again {
    called: Called,
    /// The types of what its closure was given.
    types: Vec<Type>,
    /// The number of results that it gave.
    count: usize,
}

impl Again {
    /// Records what `f` computes of `given`, the slots of state that it reads and sets, and what it closes over, which is the same in every
    /// call; what random numbers it draws, each call draws for itself. Nothing is done yet. `None`: it is wrong, and the errors are recorded.
    #[track_caller]
    pub fn record(given: &[Tensor], f: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> Option<Self> {
        let recorded = types_of(given).and_then(|types| {
            let body = body::record("again", &types, KeyAtEnd::Stays, |given| (f(given), ())).map_err(|(failed, ())| failed)?;
            Ok(Self { called: Called::of(&body), types, count: body.results.len() })
        });
        match recorded {
            Ok(again) => Some(again),
            Err(failed) => {
                report("again", failed);
                None
            }
        }
    }

    /// The slots of state that were read or set, in the order in which [`Again::call`] takes others for them.
    #[must_use]
    pub fn cells(&self) -> Vec<StateCell> {
        self.called.states().map(StateCell).collect()
    }

    /// Does it with these tensors, and one slot for each of [`Again::cells`].
    ///
    /// # Errors
    /// The trace fails if there are more or fewer of either, or they have other types.
    #[track_caller]
    pub fn call(&self, given: &[Tensor], cells: &[StateCell]) -> Vec<Tensor> {
        settle("again", self.try_call(given, cells), self.count)
    }

    #[track_caller]
    fn try_call(&self, given: &[Tensor], cells: &[StateCell]) -> Traced<Vec<Tensor>> {
        let known = self.cells();
        let slots = |cells: &[StateCell]| -> Vec<Type> {
            with(|trace| cells.iter().map(|cell| trace.module.state_decl(cell.0).ty.clone()).collect())
        };
        for (what, recorded, got) in [("tensors", &self.types, types_of(given)?), ("slots", &slots(&known), slots(cells))] {
            if *recorded != got {
                let [recorded, got] =
                    [recorded, &got].map(|types| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", "));
                return Err(Diag::new(format!("what was recorded with the {what} [{recorded}] is called with [{got}]")).into());
            }
        }
        let slot = |id| known.iter().zip(cells).find(|(known, _)| known.0 == id).map_or(id, |(_, other)| other.0);
        self.called.call(None, given, slot)
    }
}

/// The function or body of control flow that a trace stands in.
///
/// ```
/// use graver_trace::{Level, cond, spec, trace};
/// let traced = trace(
///     |x| {
///         let level = Level::here();
///         // Computed in any case, and once.
///         cond(x.gt(0.0), || level.record(|| x.exp()), || x)
///     },
///     spec::<f32>(()),
/// )?;
/// let (_, main) = traced.module().entry().expect("a traced module has an entry");
/// assert!(main.graph.nodes().any(|node| main.graph.op(node).name() == "exp"));
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Level(usize);

impl Level {
    /// Where the trace stands now; outside of a trace, nowhere.
    #[must_use]
    pub fn here() -> Self {
        Self(with_any(|trace| trace.map_or(0, |trace| trace.frames.len())))
    }

    /// Records what `f` does at this level, as if no body had begun since. The bodies that have close over it.
    pub fn record<R>(self, f: impl FnOnce() -> R) -> R {
        struct Back(Vec<Frame>);
        impl Drop for Back {
            fn drop(&mut self) {
                with_any(|trace| trace.into_iter().for_each(|trace| trace.frames.append(&mut self.0)));
            }
        }
        let _back = Back(with(|trace| trace.frames.split_off(self.0.clamp(1, trace.frames.len()))));
        f()
    }
}
