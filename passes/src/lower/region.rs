//! What the bodies of one kernel share: axes, arguments, finished stages, and where failures are described.

use std::collections::BTreeMap;

use graver_ir::dim::{Atom, Dim};
use graver_ir::kernel::{Access, Arg, AxisSet, Bounds, Index, InstKind, Mode, Stage, Store, Trap, TrapId, ValueId};
use graver_ir::{Function, Graph, Loc, NodeId, Shape, Value};

use super::point::{Condition, Point};

/// Where an argument of a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// This parameter of the region.
    Param(usize),
    /// This result of the region.
    Result(usize),
    /// This result, from so many elements on.
    Part(usize, Dim),
}

/// A reduction that has its stage.
#[derive(Debug)]
pub(super) struct Reduced {
    /// What is reduced.
    pub(super) value: Value,
    /// Where.
    pub(super) index: Vec<Dim>,
    /// Under what guard.
    pub(super) guard: Vec<Condition>,
    /// Stage and slot.
    pub(super) place: (usize, usize),
}

/// A region on its way to a kernel.
#[derive(Debug)]
pub(super) struct Region<'a> {
    /// What is computed.
    pub(super) function: &'a Function,
    /// The size of each axis.
    pub(super) axes: Vec<Dim>,
    /// Stages that are complete.
    pub(super) stages: Vec<Stage>,
    /// The arguments.
    pub(super) args: Vec<(Source, Arg)>,
    /// Reductions that were lowered.
    pub(super) reduced: Vec<Reduced>,
    /// Where each value was first needed.
    pub(super) visited: BTreeMap<Value, Vec<Index>>,
    params: BTreeMap<NodeId, usize>,
    traps: &'a mut Vec<Trap>,
}

impl<'a> Region<'a> {
    /// Nothing lowered yet.
    pub(super) fn new(function: &'a Function, traps: &'a mut Vec<Trap>) -> Self {
        let params = function.params.iter().enumerate().map(|(position, param)| (param.node, position)).collect();
        Self {
            function,
            axes: Vec::new(),
            stages: Vec::new(),
            args: Vec::new(),
            reduced: Vec::new(),
            visited: BTreeMap::new(),
            params,
            traps,
        }
    }

    /// The graph.
    pub(super) fn graph(&self) -> &'a Graph {
        &self.function.graph
    }

    /// A new axis, as an index; an axis of one step is 0 and takes no place.
    pub(super) fn axis(&mut self, size: &Dim) -> Dim {
        if size.is(1) {
            return Dim::ZERO;
        }
        self.axes.push(size.clone());
        axis_of(self.axes.len() - 1, size)
    }

    /// New axes for a shape, as indices, and which of them is along `along`, which takes a place even of one step.
    pub(super) fn axes_along(&mut self, shape: &Shape, along: usize) -> (Vec<Dim>, usize) {
        let mut number = 0;
        let place = |(axis, size): (usize, &Dim)| {
            if axis != along {
                return self.axis(size);
            }
            number = self.axes.len();
            self.axes.push(size.clone());
            axis_of(number, size)
        };
        let places = shape.iter().enumerate().map(place).collect();
        (places, number)
    }

    /// An axis of this size that is not in `taken`, after `above`; the least there is, or a new one.
    pub(super) fn axis_beside(&mut self, size: &Dim, taken: AxisSet, above: Option<usize>) -> Dim {
        if size.is(1) {
            return Dim::ZERO;
        }
        let first = above.map_or(0, |above| above + 1);
        let fits = |axis: &usize| self.axes[*axis] == *size && !taken.contains(*axis);
        match (first..self.axes.len()).find(fits) {
            Some(axis) => axis_of(axis, size),
            None => self.axis(size),
        }
    }

    /// The description of a failure; equal ones are one.
    pub(super) fn trap(&mut self, (loc, message): (Loc, String)) -> TrapId {
        let trap = Trap { loc, message };
        let place = self.traps.iter().position(|other| *other == trap).unwrap_or_else(|| {
            self.traps.push(trap);
            self.traps.len() - 1
        });
        TrapId(u32::try_from(place).expect("fewer than 2^32 traps"))
    }

    /// An element of a parameter seen under `shape`; outside of it there is `fill`, if that is given.
    pub(super) fn load(
        &mut self,
        at: &mut Point,
        param: NodeId,
        view: (&Shape, &[Index]),
        fill: Option<graver_ir::Scalar>,
    ) -> ValueId {
        let (shape, index) = view;
        let dtype = self.graph().ty(param.into()).dtype;
        let arg = self.arg(Source::Param(self.params[&param]), Arg::dense(dtype, shape.0.clone(), Mode::Read));
        let bounds = match fill {
            _ if at.is_inside(index, shape) => Bounds::Proven,
            Some(fill) => Bounds::Fill(fill),
            // An index inside its range at every point that is used: where the array is empty there is no such point.
            None if at.guard.is_empty() && index.iter().all(Index::is_known) => Bounds::Clamp,
            None if at.guard.is_empty() && shape.iter().all(Dim::is_positive) => Bounds::Clamp,
            None => Bounds::Fill(graver_ir::Scalar::zero(dtype)),
        };
        let value = at.body.push(InstKind::Load(Access { arg, index: index.to_vec(), bounds }), dtype);
        at.cast(value, dtype)
    }

    /// Stores a value as an element of a result seen under `shape`.
    pub(super) fn store(&mut self, result: usize, shape: &Shape, index: Vec<Index>, value: ValueId) -> Store {
        let dtype = self.graph().ty(self.function.results[result].value).dtype;
        let arg = self.arg(Source::Result(result), Arg::dense(dtype, shape.0.clone(), Mode::Write));
        Store { arg, index, value }
    }

    /// The argument, added unless it is there.
    pub(super) fn arg(&mut self, source: Source, arg: Arg) -> usize {
        let wanted = (source, arg);
        self.args.iter().position(|other| *other == wanted).unwrap_or_else(|| {
            self.args.push(wanted);
            self.args.len() - 1
        })
    }
}

/// An axis as an index.
pub(super) fn axis_of(axis: usize, size: &Dim) -> Dim {
    Dim::axis(u32::try_from(axis).expect("K2: a kernel has at most 32 axes"), size)
}

/// The axes that positions depend on.
pub(super) fn axes_in<'d>(dims: impl IntoIterator<Item = &'d Dim>) -> AxisSet {
    dims.into_iter().flat_map(Dim::axes).map(|axis| axis.id as usize).collect()
}

/// The axis that an index is, if it is one and nothing more.
pub(super) fn plain_axis(index: &Dim) -> Option<usize> {
    let [axis] = index.axes().try_into().ok()?;
    (*index == Dim::atom(Atom::Axis(axis.clone()))).then_some(axis.id as usize)
}
