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

use graver_ir::kernel::{Buffer, BufferId, Entry, Launch, Mode, Place, Program, Step};

use crate::plan::{Life, lives};
use crate::prune;
use crate::update::redirected;

/// Merges buffers of every entry.
pub(crate) fn run(program: &mut Program) {
    for entry in 0..program.entries.len() {
        merge(program, entry);
    }
    prune::run(program);
}

fn merge(program: &mut Program, entry: usize) {
    let mut lives = lives(&program.entries[entry]);
    let mut merges: Vec<(BufferId, BufferId)> = Vec::new();
    for place in 0..program.entries[entry].steps.len() {
        let Step::Launch(launch) = &program.entries[entry].steps[place];
        let mut launch = launch.clone();
        for heir in born(program, entry, &launch, &lives, place) {
            let candidates = dying(program, entry, &launch, &lives, (place, heir));
            let taken = candidates.into_iter().find_map(|from| Some((from, redirected(program, &launch, heir, from)?)));
            if let Some((from, merged)) = taken {
                merges.push((from, heir));
                let first = life(&lives, from).map(|life| life.first);
                lives[heir.0 as usize] = life(&lives, heir).map(|life| Life { first: first.unwrap_or(life.first), ..life });
                launch = merged;
            }
        }
        program.entries[entry].steps[place] = Step::Launch(launch);
    }
    // Ids in later steps are still those of the schedule, which is what the lives are of.
    rename(&mut program.entries[entry], &merges);
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
fn are_alike(x: &Buffer, y: &Buffer) -> bool {
    x.dtype == y.dtype && x.bytes() == y.bytes()
}

/// Every step names the last heir of what it named.
fn rename(entry: &mut Entry, merges: &[(BufferId, BufferId)]) {
    let mut last: Vec<usize> = (0..entry.buffers.len()).collect();
    // Backwards: a heir that is taken over itself is so later.
    for (from, heir) in merges.iter().rev() {
        last[from.0 as usize] = last[heir.0 as usize];
    }
    for view in entry.steps.iter_mut().flat_map(|Step::Launch(launch)| &mut launch.args) {
        view.buffer = BufferId(u32::try_from(last[view.buffer.0 as usize]).expect("fewer than 2^32 buffers"));
    }
}
