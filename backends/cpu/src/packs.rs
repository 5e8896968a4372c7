//! Packed operands that outlive a launch: which launches need not pack again, and how long.
//!
//! A weight that no call changes is packed once for all calls; what a loop leaves alone, once for all iterations. Sharing of
//! memory is not decided here: a buffer that a loop reads in every iteration keeps its memory as long as the loop goes on.

use std::collections::BTreeSet;

use graver_ir::kernel::{BufferId, Entry, KernelId, Launch, Loop, Place, Program, Step, View};
use graver_ir::{Dim, Symbol};
use graver_runtime::{writes, written_state};

use crate::compile::CompiledKernel;

/// The packings of an entry that are kept, each in memory of its own.
#[derive(Debug, Default)]
pub(crate) struct Packs {
    /// Those for all calls: the same for all sizes.
    pub(crate) for_calls: Vec<Pack>,
    /// Those for all iterations of a loop.
    pub(crate) for_loops: Vec<Pack>,
    /// By launch, in the order of [`graver_ir::kernel::launches`].
    pub(crate) of_launch: Vec<Option<PackId>>,
    /// What each loop packs anew, in the order in which loops begin.
    pub(crate) of_loop: Vec<Vec<usize>>,
}

/// A packing that is kept.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) bytes: Dim,
    /// The slots of the state that it is made of, where it is for all calls.
    pub(crate) slots: Vec<usize>,
    kernel: KernelId,
    views: Vec<View>,
}

/// Which packing it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PackId {
    /// Of [`Packs::for_calls`].
    Calls(usize),
    /// Of [`Packs::for_loops`].
    Loops(usize),
}

/// How long a packing is kept.
enum Home {
    /// As long as these slots of the state hold the same elements.
    Calls(Vec<usize>),
    /// While the loop of this number goes on.
    Loop(usize),
}

impl Packs {
    /// What is worth keeping of an entry.
    pub(crate) fn of(program: &Program, kernels: &[CompiledKernel], entry: &Entry) -> Self {
        let mut found = Self::default();
        let mut walk = Walk::new(program, entry);
        walk.steps(&entry.steps, &mut |walk, launch| {
            let place = found.add(walk, &kernels[launch.kernel.0 as usize], launch);
            found.of_launch.push(place);
        });
        found.of_loop.resize(walk.begun, Vec::new());
        found
    }

    /// The packing of a launch that is kept.
    fn add(&mut self, walk: &Walk<'_>, compiled: &CompiledKernel, launch: &Launch) -> Option<PackId> {
        let prepared = compiled.prepared.as_ref()?;
        let views: Vec<&View> = prepared.args.iter().map(|arg| &launch.args[*arg]).collect();
        let for_calls = if prepared.fixed { walk.for_calls(&views) } else { None };
        let home = for_calls.or_else(|| walk.home_loop(&views))?;
        let (kernel, views) = (launch.kernel, views.into_iter().cloned().collect());
        let pack = |slots: Vec<usize>| Pack { bytes: compiled.shared.clone(), slots, kernel, views };
        Some(match home {
            Home::Calls(slots) => PackId::Calls(listed(&mut self.for_calls, |_| true, pack(slots))),
            Home::Loop(of) => {
                self.of_loop.resize(self.of_loop.len().max(of + 1), Vec::new());
                let own = &self.of_loop[of];
                let number = listed(&mut self.for_loops, |number| own.contains(&number), pack(Vec::new()));
                if !own.contains(&number) {
                    self.of_loop[of].push(number);
                }
                PackId::Loops(number)
            }
        })
    }
}

/// The place of a packing in a list, to which it is added where there is none like it among those that may be it.
fn listed(packs: &mut Vec<Pack>, may_be: impl Fn(usize) -> bool, pack: Pack) -> usize {
    let same = |(number, other): (usize, &Pack)| other.kernel == pack.kernel && other.views == pack.views && may_be(number);
    packs.iter().enumerate().position(same).unwrap_or_else(|| {
        packs.push(pack);
        packs.len() - 1
    })
}

/// Buffers that a launch writes.
fn written<'a>(program: &'a Program, launch: &'a Launch) -> impl Iterator<Item = BufferId> + 'a {
    let args = program.kernel(launch.kernel).args.iter().zip(&launch.args);
    args.filter(|(arg, _)| writes(arg.mode)).map(|(_, view)| view.buffer)
}

/// By kernel and argument: whether all launches find there what other launches of theirs have found.
///
/// What is packed of such an argument may be kept, so that its packing costs next to nothing.
pub(crate) fn lasting(program: &Program) -> Vec<Vec<bool>> {
    let mut lasting: Vec<Vec<bool>> = program.kernels.iter().map(|kernel| vec![true; kernel.args.len()]).collect();
    for entry in &program.entries {
        Walk::new(program, entry).steps(&entry.steps, &mut |walk, launch| {
            for (view, lasts) in launch.args.iter().zip(&mut lasting[launch.kernel.0 as usize]) {
                *lasts = *lasts && (walk.for_calls(&[view]).is_some() || walk.home_loop(&[view]).is_some());
            }
        });
    }
    lasting
}

/// A walk over launches, with what is known where each stands.
struct Walk<'a> {
    program: &'a Program,
    entry: &'a Entry,
    /// Slots of the state that the entry writes.
    written: Vec<usize>,
    /// Loops that have begun.
    begun: usize,
    /// Those around, outermost first.
    loops: Vec<Around>,
}

/// A loop around a launch.
struct Around {
    number: usize,
    counter: Symbol,
    /// Buffers whose elements differ from iteration to iteration.
    changes: BTreeSet<BufferId>,
}

impl Around {
    fn leaves_alone(&self, view: &View) -> bool {
        !self.changes.contains(&view.buffer) && !view.offset.symbols().contains(&self.counter)
    }
}

/// What is done at a launch.
type Visit<'v, 'a> = dyn FnMut(&Walk<'a>, &Launch) + 'v;

impl<'a> Walk<'a> {
    fn new(program: &'a Program, entry: &'a Entry) -> Self {
        Self { program, entry, written: written_state(program, entry, &entry.steps), begun: 0, loops: Vec::new() }
    }

    fn steps(&mut self, steps: &[Step], visit: &mut Visit<'_, 'a>) {
        for step in steps {
            match step {
                Step::Launch(launch) => visit(self, launch),
                Step::If(branch) => {
                    self.steps(&branch.then, visit);
                    self.steps(&branch.otherwise, visit);
                }
                Step::Loop(of) => self.repeat(step, of, visit),
            }
        }
    }

    fn repeat(&mut self, step: &Step, of: &Loop, visit: &mut Visit<'_, 'a>) {
        let mut changes = BTreeSet::new();
        step.for_each_launch(&mut |launch| changes.extend(written(self.program, launch)));
        carried(of, &mut changes);
        self.loops.push(Around { number: self.begun, counter: of.counter.clone(), changes });
        self.begun += 1;
        self.steps(of.trip.test(), visit);
        self.steps(&of.body, visit);
        self.loops.pop();
    }

    /// The slots that the views are of, if no call changes what they see.
    fn for_calls(&self, views: &[&View]) -> Option<Home> {
        let mut slots = Vec::new();
        for view in views {
            match self.entry.buffer(view.buffer).place {
                Place::Const(_) => {}
                Place::State(slot) if !self.written.contains(&(slot.0 as usize)) => slots.push(slot.0 as usize),
                Place::State(_) | Place::Input(_) | Place::Output(_) | Place::Arena(_) | Place::Unplaced => return None,
            }
            view.offset.as_const()?;
        }
        Some(Home::Calls(slots))
    }

    /// The outermost loop around that, with all loops inside of it, leaves the views alone.
    fn home_loop(&self, views: &[&View]) -> Option<Home> {
        let alone = |around: &&Around| views.iter().all(|view| around.leaves_alone(view));
        self.loops.iter().rev().take_while(alone).last().map(|around| Home::Loop(around.number))
    }
}

/// What a loop and loops inside of it carry.
fn carried(of: &Loop, changes: &mut BTreeSet<BufferId>) {
    changes.extend(of.carry.iter().flat_map(|carry| [carry.now, carry.next]));
    let inner = |steps: &[Step], changes: &mut BTreeSet<BufferId>| each_loop(steps, &mut |of| carried(of, changes));
    inner(of.trip.test(), changes);
    inner(&of.body, changes);
}

/// The loops among steps and in branches, not those in loops.
fn each_loop(steps: &[Step], visit: &mut dyn FnMut(&Loop)) {
    for step in steps {
        match step {
            Step::Launch(_) => {}
            Step::If(branch) => [&branch.then, &branch.otherwise].into_iter().for_each(|steps| each_loop(steps, visit)),
            Step::Loop(of) => visit(of),
        }
    }
}
