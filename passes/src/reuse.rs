//! Results in the memory of what they are computed from.
//!
//! Where a launch is the last to touch a computed buffer and the first to touch another of the same element type and number
//! of elements, and every point of it reads of the one only the element that it stores in the other, the two become one
//! buffer, which the kernel updates. The heir may be an output of the entry: then the caller's memory holds both, and the
//! arena neither. No step is alive that was not before, so the peak of live bytes never rises.
//!
//! Only computed values are taken over: an input, a constant or the state is never overwritten here, even where nothing reads
//! it later. Inputs are the caller's arrays and stay as they are. Runs after schedule, since the last reader follows from
//! the order, and before plan, which gives the one buffer one place.

use std::collections::BTreeSet;

use graver_ir::kernel::{Buffer, BufferId, Entry, Launch, Life, Mode, Place, Program, Step, lives};

use crate::lower::COPY;
use crate::prune;
use crate::update::Redirect;

/// Merges buffers of every entry.
pub(crate) fn run(program: &mut Program) {
    for entry in 0..program.entries.len() {
        merge(program, entry);
    }
    prune::run(program);
}

fn merge(program: &mut Program, entry: usize) {
    let lives = lives(&program.entries[entry]);
    let mut steps = std::mem::take(&mut program.entries[entry].steps);
    let mut merge =
        Merge { program, redirect: Redirect::default(), entry, lives, carried: BTreeSet::new(), at: 0, merges: Vec::new() };
    carried(&steps, &mut merge.carried);
    merge.all(&mut steps);
    let merges = merge.merges;
    program.entries[entry].steps = steps;
    // Ids in later steps are still those of the schedule, which is what the lives are of.
    rename(&mut program.entries[entry], &merges);
}

/// What loops carry: its memory is exchanged, so that no other value may have it before or after.
fn carried(steps: &[Step], found: &mut BTreeSet<BufferId>) {
    for step in steps {
        if let Step::Loop(of) = step {
            found.extend(of.carry.iter().flat_map(|carry| [carry.now, carry.next]));
        }
        step.inner().into_iter().for_each(|inner| carried(inner, found));
    }
}

struct Merge<'a> {
    program: &'a mut Program,
    redirect: Redirect,
    entry: usize,
    lives: Vec<Option<Life>>,
    carried: BTreeSet<BufferId>,
    /// The place of the next step, as [`lives`] counts.
    at: usize,
    merges: Vec<(BufferId, BufferId)>,
}

impl Merge<'_> {
    fn all(&mut self, steps: &mut Vec<Step>) {
        for step in steps.iter_mut() {
            if let Step::Launch(launch) = step {
                self.launch(launch);
            }
            self.at += 1;
            step.inner_mut().into_iter().for_each(|inner| self.all(inner));
            self.at += usize::from(matches!(step, Step::Loop(_)));
        }
        steps.retain(|step| !is_copy_onto_itself(self.program, step));
    }

    fn launch(&mut self, launch: &mut Launch) {
        let place = self.at;
        for heir in born(self.program, self.entry, launch, &self.lives, place) {
            let mut candidates = dying(self.program, self.entry, launch, &self.lives, (place, heir));
            candidates.retain(|from| !self.carried.contains(from));
            let mut merged = |from| self.redirect.launch(self.program, launch, heir, from);
            let taken = candidates.into_iter().find_map(|from| Some((from, merged(from)?)));
            if let Some((from, merged)) = taken {
                self.merges.push((from, heir));
                let first = life(&self.lives, from).map(|life| life.first);
                let own = life(&self.lives, heir);
                self.lives[heir.0 as usize] = own.map(|life| Life { first: first.unwrap_or(life.first), ..life });
                merged.apply(launch);
            }
        }
    }
}

/// What is left of a copy whose two buffers became one.
fn is_copy_onto_itself(program: &Program, step: &Step) -> bool {
    let Step::Launch(launch) = step else { return false };
    launch.args.len() == 1 && program.kernel(launch.kernel).name == COPY
}

fn life(lives: &[Option<Life>], buffer: BufferId) -> Option<Life> {
    lives[buffer.0 as usize]
}

/// What the launch writes that nothing touched before, outside of the state.
fn born(program: &Program, entry: usize, launch: &Launch, lives: &[Option<Life>], place: usize) -> Vec<BufferId> {
    let is_new = |id: &BufferId| {
        let computed = matches!(program.entries[entry].buffer(*id).place, Place::Unplaced | Place::Output(_));
        computed && life(lives, *id).is_some_and(|life| life.first == place)
    };
    used(program, launch, Mode::Write).filter(is_new).collect()
}

/// What the launch is the last to read, and the heir might take over: what is alive longest first, for a heir that is an
/// output takes it out of the arena.
fn dying(
    program: &Program,
    entry: usize,
    launch: &Launch,
    lives: &[Option<Life>],
    (place, heir): (usize, BufferId),
) -> Vec<BufferId> {
    let entry = &program.entries[entry];
    let dies = |id: &BufferId| {
        let ends = life(lives, *id).is_some_and(|life| life.last == place);
        ends && entry.buffer(*id).place == Place::Unplaced && are_alike(entry.buffer(*id), entry.buffer(heir))
    };
    let mut found: Vec<BufferId> = used(program, launch, Mode::Read).filter(dies).collect();
    found.sort_by_key(|id| life(lives, *id).map(|life| life.first));
    found
}

fn used(program: &Program, launch: &Launch, mode: Mode) -> impl Iterator<Item = BufferId> {
    let args = program.kernel(launch.kernel).args.iter().zip(&launch.args);
    args.filter(move |(arg, _)| arg.mode == mode).map(|(_, view)| view.buffer)
}

/// Whether one buffer may hold either value, for all sizes.
pub(crate) fn are_alike(x: &Buffer, y: &Buffer) -> bool {
    // Most that are alike have one shape, and most that are not differ for usual sizes.
    x.dtype == y.dtype && (x.shape == y.shape || (x.usual_bytes() == y.usual_bytes() && x.bytes() == y.bytes()))
}

/// Every step names the last heir of what it named.
fn rename(entry: &mut Entry, merges: &[(BufferId, BufferId)]) {
    let mut last: Vec<usize> = (0..entry.buffers.len()).collect();
    // Backwards: a heir that is taken over itself is so later.
    for (from, heir) in merges.iter().rev() {
        last[from.0 as usize] = last[heir.0 as usize];
    }
    let mut rename =
        |buffer: &mut BufferId| *buffer = BufferId(u32::try_from(last[buffer.0 as usize]).expect("fewer than 2^32 buffers"));
    entry.steps.iter_mut().for_each(|step| step.for_each_buffer_mut(&mut rename));
}
