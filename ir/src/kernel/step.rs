//! What an entry does: launches of kernels over views of buffers, one of two lists of steps, steps again and again.
//!
//! Loops are structured: nothing jumps, and nothing is unrolled. Views inside of a loop may depend on its counter, so that an
//! iteration reads and writes slices in place. What is carried from one iteration to the next is in two buffers that exchange
//! their memory at the end of every iteration, so that it is never copied.

use serde::{Deserialize, Serialize};

use super::program::{BufferId, KernelId};
use crate::dim::{Dim, MAX_SIZE, Symbol};
use crate::location::Loc;

/// One thing that an entry does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// A kernel over buffers.
    Launch(Launch),
    /// One of two lists of steps.
    If(Branch),
    /// Steps again and again.
    Loop(Loop),
}

/// A kernel applied to buffers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The kernel.
    pub kernel: KernelId,
    /// One view an argument.
    pub args: Vec<View>,
    /// The user's lines that it computes.
    pub locs: Vec<Loc>,
}

/// A part of a buffer, laid out as the kernel's argument says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// The first element, counted from the buffer's first.
    pub offset: Dim,
}

/// One of two lists of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    /// One bool.
    pub cond: View,
    /// What happens where it holds.
    pub then: Vec<Step>,
    /// What happens where it does not.
    pub otherwise: Vec<Step>,
}

/// Steps again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// How often.
    pub trip: Trip,
    /// The number of the iteration, from 0; it stands in offsets of views inside: [`Trip::counter`].
    pub counter: Symbol,
    /// What one iteration leaves to the next.
    pub carry: Vec<Carry>,
    /// An iteration.
    pub body: Vec<Step>,
}

/// How often a loop's body happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Trip {
    /// So often.
    Times(Dim),
    /// As long as a bool holds.
    While {
        /// Steps before every iteration, and before the end.
        test: Vec<Step>,
        /// The bool that they leave.
        holds: View,
        /// Not more often than this.
        most: Option<Dim>,
    },
}

/// Two buffers of one type that exchange their memory at the end of every iteration. After the loop `now` holds what the last
/// iteration left in `next`, or what it held before; what `next` holds is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Carry {
    /// What the iteration starts from.
    pub now: BufferId,
    /// What it leaves.
    pub next: BufferId,
}

impl View {
    /// The whole buffer.
    #[must_use]
    pub const fn whole(buffer: BufferId) -> Self {
        Self { buffer, offset: Dim::ZERO }
    }
}

impl Trip {
    /// The counter of this name.
    #[must_use]
    pub fn counter(&self, name: impl Into<String>) -> Symbol {
        let most = match self {
            Self::Times(trip) | Self::While { most: Some(trip), .. } => trip.bounds().hi.saturating_sub(1),
            Self::While { most: None, .. } => MAX_SIZE,
        };
        Symbol::ranged(name, 0, most.max(0), 1)
    }

    /// The steps before every iteration.
    #[must_use]
    pub fn test(&self) -> &[Step] {
        match self {
            Self::Times(_) => &[],
            Self::While { test, .. } => test,
        }
    }

    /// The steps before every iteration, for rewriting.
    pub fn test_mut(&mut self) -> Option<&mut Vec<Step>> {
        match self {
            Self::Times(_) => None,
            Self::While { test, .. } => Some(test),
        }
    }
}

impl Step {
    /// The lists of steps inside, in the order in which they happen.
    #[must_use]
    pub fn inner(&self) -> Vec<&[Step]> {
        match self {
            Self::Launch(_) => Vec::new(),
            Self::If(branch) => vec![&branch.then, &branch.otherwise],
            Self::Loop(of) => vec![of.trip.test(), &of.body],
        }
    }

    /// The lists of steps inside, for rewriting.
    pub fn inner_mut(&mut self) -> Vec<&mut Vec<Step>> {
        match self {
            Self::Launch(_) => Vec::new(),
            Self::If(branch) => vec![&mut branch.then, &mut branch.otherwise],
            Self::Loop(of) => of.trip.test_mut().into_iter().chain([&mut of.body]).collect(),
        }
    }

    /// The views that the step itself names, not those of steps inside.
    #[must_use]
    pub fn views(&self) -> Vec<&View> {
        match self {
            Self::Launch(launch) => launch.args.iter().collect(),
            Self::If(branch) => vec![&branch.cond],
            Self::Loop(Loop { trip: Trip::While { holds, .. }, .. }) => vec![holds],
            Self::Loop(Loop { trip: Trip::Times(_), .. }) => Vec::new(),
        }
    }

    /// Every buffer that the step or a step inside names, for renaming.
    pub fn for_each_buffer_mut(&mut self, visit: &mut dyn FnMut(&mut BufferId)) {
        match self {
            Self::Launch(launch) => launch.args.iter_mut().for_each(|view| visit(&mut view.buffer)),
            Self::If(branch) => visit(&mut branch.cond.buffer),
            Self::Loop(of) => {
                if let Trip::While { holds, .. } = &mut of.trip {
                    visit(&mut holds.buffer);
                }
                of.carry.iter_mut().for_each(|Carry { now, next }| [now, next].into_iter().for_each(&mut *visit));
            }
        }
        self.inner_mut().into_iter().flatten().for_each(|step| step.for_each_buffer_mut(visit));
    }

    /// Every launch of the step and of steps inside, in order.
    pub fn for_each_launch<'s>(&'s self, visit: &mut dyn FnMut(&'s Launch)) {
        if let Self::Launch(launch) = self {
            visit(launch);
        }
        self.inner().into_iter().flatten().for_each(|step| step.for_each_launch(visit));
    }

    /// As [`Step::for_each_launch`], for rewriting.
    pub fn for_each_launch_mut(&mut self, visit: &mut dyn FnMut(&mut Launch)) {
        if let Self::Launch(launch) = self {
            visit(launch);
        }
        self.inner_mut().into_iter().flatten().for_each(|step| step.for_each_launch_mut(visit));
    }
}

/// Every launch of the steps, those inside of other steps too, in order.
#[must_use]
pub fn launches(steps: &[Step]) -> Vec<&Launch> {
    let mut found = Vec::new();
    steps.iter().for_each(|step| step.for_each_launch(&mut |launch| found.push(launch)));
    found
}
