//! Axes that expressions divide by a small number, as what was spread over windows does when it is collected: each becomes two, of quotients
//! and of remainders. Remainders are written out. Divisions are gone then, what a remainder rules out is too, and what neighbours along a
//! quotient read lies side by side. Results of all remainders are stored in turn.

use std::cell::RefCell;

use graver_ir::Dim;
use graver_ir::dim::Atom;
use graver_ir::kernel::{AxisSet, Index, InstKind, Nest, Stage};

use super::visits::{Stand, depends, move_index, substituted};

/// Remainders of all axes together at most: all are written out.
const MOST_COPIES: i64 = 16;
/// The largest divisor.
const MOST: i64 = 4;

/// A nest of which some axes are split.
pub(super) struct Split {
    /// Over the quotients, as far as they have all remainders: each split axis has so many points, the remainders are axes of their own.
    pub(super) nest: Nest,
    /// What is divided.
    pub(super) axes: Vec<Divided>,
    /// What is left, in parts.
    pub(super) rests: Vec<Nest>,
}

/// An axis that is split.
#[derive(Clone, Copy)]
pub(super) struct Divided {
    pub(super) axis: usize,
    pub(super) by: i64,
    /// The axis of its remainders.
    pub(super) remainder: usize,
}

impl Split {
    /// A nest's axes that can be split, of those that all of its stages keep.
    pub(super) fn find(nest: &Nest) -> Option<Self> {
        let keep = nest.stages.iter().map(|stage| stage.keep).reduce(AxisSet::intersection)?;
        let divided = |axis: usize| divisor(nest, axis).map(|by| (axis, by));
        let mut divided: Vec<(usize, i64)> = keep.iter().filter_map(divided).collect();
        let copies = |divided: &[(usize, i64)]| divided.iter().map(|(_, by)| by).product::<i64>();
        while copies(&divided) > MOST_COPIES {
            divided.remove(0);
        }
        let free = AxisSet::MAX - nest.axes.len().min(AxisSet::MAX);
        if divided.is_empty() || divided.len() > free {
            return None;
        }
        let of =
            |(number, (axis, by)): (usize, &(usize, i64))| Divided { axis: *axis, by: *by, remainder: nest.axes.len() + number };
        let axes: Vec<Divided> = divided.iter().enumerate().map(of).collect();
        let rests = axes.iter().enumerate().filter_map(|(number, axis)| rest(nest, &axes[..number], *axis)).collect();
        Some(Self { nest: main(nest, &axes), axes, rests })
    }

    /// The split of an axis.
    pub(super) fn of(&self, axis: usize) -> Option<Divided> {
        self.axes.iter().copied().find(|divided| divided.axis == axis)
    }

    /// Every remainder of all axes, where each axis stands; those of `last` are neighbours.
    pub(super) fn copies(&self, last: usize) -> Vec<Stand> {
        let mut axes = self.axes.clone();
        axes.sort_by_key(|divided| divided.axis == last);
        axes.iter().fold(vec![Vec::new()], |copies, divided| {
            let with = |copy: &Stand, number: i64| copy.iter().copied().chain([(divided.remainder, number)]).collect();
            copies.iter().flat_map(|copy| (0..divided.by).map(move |number| with(copy, number))).collect()
        })
    }
}

/// What an axis is divided by wherever it is: one small number.
fn divisor(nest: &Nest, axis: usize) -> Option<i64> {
    let found = RefCell::new(Vec::new());
    let note = |dim: &Dim| {
        // Nothing is replaced: every atom is looked at.
        let _ = dim.substitute(&|atom| {
            if let Atom::FloorDiv(x, y) | Atom::Mod(x, y) = atom
                && depends(&Index::At(x.clone()), axis)
            {
                found.borrow_mut().push(y.as_const());
            }
            None
        });
    };
    nest.stages.iter().for_each(|stage| each_dim(stage, &note));
    let found = found.into_inner();
    let by = (*found.first()?)?;
    (found.iter().all(|other| *other == Some(by)) && (2..=MOST).contains(&by)).then_some(by)
}

fn each_dim(stage: &Stage, visit: &dyn Fn(&Dim)) {
    for inst in &stage.body.insts {
        match &inst.kind {
            InstKind::Index(dim) => visit(dim),
            InstKind::Load(access) => access.index.iter().for_each(|index| visit(index.dim())),
            InstKind::Const(_) | InstKind::Map(..) | InstKind::Cast(_) | InstKind::Bitcast(_) => {}
            InstKind::Reduced { .. } | InstKind::Acc | InstKind::Check { .. } | InstKind::Philox { .. } => {}
        }
    }
    stage.stores.iter().flat_map(|store| &store.index).for_each(|index| visit(index.dim()));
}

/// The points that have all remainders.
fn whole(nest: &Nest, divided: Divided) -> Dim {
    nest.axes[divided.axis].floor_div(&Dim::from(divided.by))
}

fn axis(number: usize, size: &Dim) -> Dim {
    Dim::axis(u32::try_from(number).expect("few axes"), size)
}

/// The nest with other expressions for some axes.
fn replaced(nest: &Nest, by: &[(usize, Dim)]) -> Nest {
    let at = |dim: &Dim| {
        dim.substitute(&|atom| match atom {
            Atom::Axis(var) => by.iter().find(|(axis, _)| *axis == var.id as usize).map(|(_, dim)| dim.clone()),
            Atom::Sym(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
        })
    };
    let mut nest = nest.clone();
    for stage in &mut nest.stages {
        stage.body = substituted(&stage.body, &at);
        stage.stores.iter_mut().flat_map(|store| &mut store.index).for_each(|index| move_index(index, &at));
    }
    nest
}

fn main(nest: &Nest, axes: &[Divided]) -> Nest {
    let position = |divided: &Divided| {
        let (quotient, by) = (axis(divided.axis, &whole(nest, *divided)), Dim::from(divided.by));
        (divided.axis, quotient * &by + axis(divided.remainder, &by))
    };
    let mut main = replaced(nest, &axes.iter().map(position).collect::<Vec<_>>());
    for divided in axes {
        main.axes[divided.axis] = whole(nest, *divided);
        main.axes.push(Dim::from(divided.by));
        for stage in &mut main.stages {
            stage.over = stage.over.with(divided.remainder);
            stage.keep = stage.keep.with(divided.remainder);
        }
    }
    main
}

/// The points behind those of an axis that have all remainders, where axes `before` it have all; `None` if there is none.
fn rest(nest: &Nest, before: &[Divided], divided: Divided) -> Option<Nest> {
    let covered = |divided: Divided| whole(nest, divided) * Dim::from(divided.by);
    let from = covered(divided);
    let left = &nest.axes[divided.axis] - &from;
    if left.is(0) {
        return None;
    }
    let mut by: Vec<(usize, Dim)> = before.iter().map(|before| (before.axis, axis(before.axis, &covered(*before)))).collect();
    by.push((divided.axis, axis(divided.axis, &left) + from));
    let mut rest = replaced(nest, &by);
    before.iter().for_each(|before| rest.axes[before.axis] = covered(*before));
    rest.axes[divided.axis] = left;
    Some(rest)
}
