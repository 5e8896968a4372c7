//! The order of launches, and updates of the state in place.
//!
//! Lowering computes a new value of the state aside and copies it at the end. Where the launch that computes it may come
//! after every reader of the old value and after everything that can fail, it writes the state itself and the copy goes
//! away; a cycle of such wishes leaves the copy. Of the program's own order and one that frees memory greedily, the one
//! with the lower peak is taken. Never changes what a kernel computes.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::kernel::{BufferId, Entry, Launch, Mode, Place, Program, Step};

use crate::plan::nominal;
use crate::prune;
use crate::update::{may_fail, redirected};

/// Orders the steps of every entry.
pub(crate) fn run(program: &mut Program) {
    for entry in 0..program.entries.len() {
        let mut schedule = Schedule::of(program, entry);
        schedule.update_in_place(program);
        let order = schedule.order(&program.entries[entry]);
        let steps = schedule.into_steps(&order);
        program.entries[entry].steps = steps;
    }
    prune::run(program);
}

/// Launches and what must come before what.
struct Schedule {
    entry: usize,
    /// `None`: a copy that was not needed.
    launches: Vec<Option<Launch>>,
    fails: Vec<bool>,
    after: Vec<BTreeSet<usize>>,
    before: Vec<BTreeSet<usize>>,
}

impl Schedule {
    fn of(program: &Program, entry: usize) -> Self {
        let launches: Vec<Launch> = program.entries[entry].steps.iter().map(|Step::Launch(launch)| launch.clone()).collect();
        let count = launches.len();
        let fails = launches.iter().map(|launch| may_fail(program.kernel(launch.kernel))).collect();
        let launches = launches.into_iter().map(Some).collect();
        let mut schedule =
            Self { entry, launches, fails, after: vec![BTreeSet::new(); count], before: vec![BTreeSet::new(); count] };
        schedule.depend(program);
        schedule
    }

    /// Reads after writes, writes after reads and writes; writes of the state after all that can fail.
    fn depend(&mut self, program: &Program) {
        let mut writers: BTreeMap<BufferId, usize> = BTreeMap::new();
        let mut readers: BTreeMap<BufferId, Vec<usize>> = BTreeMap::new();
        for place in 0..self.launches.len() {
            for (buffer, mode) in uses(program, self.launch(place)) {
                self.edges(writers.get(&buffer).copied(), place);
                if mode == Mode::Read {
                    readers.entry(buffer).or_default().push(place);
                } else {
                    self.edges(readers.remove(&buffer).unwrap_or_default(), place);
                    writers.insert(buffer, place);
                }
            }
            if writes_state(program, self.entry, self.launch(place)) {
                let failing: Vec<usize> =
                    (0..self.launches.len()).filter(|other| self.fails[*other] && *other != place).collect();
                self.edges(failing, place);
            }
        }
    }

    fn launch(&self, place: usize) -> &Launch {
        self.launches[place].as_ref().expect("S1: a launch that is named is there")
    }

    fn edges(&mut self, from: impl IntoIterator<Item = usize>, to: usize) {
        for from in from.into_iter().filter(|from| *from != to) {
            self.after[from].insert(to);
            self.before[to].insert(from);
        }
    }

    /// Everything that comes after a launch.
    fn reachable(&self, from: usize) -> BTreeSet<usize> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(place) = open.pop() {
            open.extend(self.after[place].iter().filter(|next| seen.insert(**next)));
        }
        seen
    }

    fn update_in_place(&mut self, program: &mut Program) {
        for copy in 0..self.launches.len() {
            if let Some((from, to)) = self.update_copy(program, copy) {
                self.try_in_place(program, copy, from, to);
            }
        }
    }

    /// The buffers of a copy of a computed value into the state.
    fn update_copy(&self, program: &Program, place: usize) -> Option<(BufferId, BufferId)> {
        let launch = self.launches[place].as_ref()?;
        let [from, to] = launch.args.as_slice() else { return None };
        let entry = &program.entries[self.entry];
        let is_update =
            matches!(entry.buffer(to.buffer).place, Place::State(_)) && entry.buffer(from.buffer).place == Place::Unplaced;
        (is_update && program.kernel(launch.kernel).name == "copy").then_some((from.buffer, to.buffer))
    }

    fn try_in_place(&mut self, program: &mut Program, copy: usize, from: BufferId, to: BufferId) {
        let others = |place: &usize| *place != copy && self.launches[*place].is_some();
        let touching = |buffer: BufferId, written: bool| -> Vec<usize> {
            let touches = |place: &usize| {
                uses(program, self.launch(*place))
                    .into_iter()
                    .any(|(used, mode)| used == buffer && (mode != Mode::Read) == written)
            };
            (0..self.launches.len()).filter(others).filter(touches).collect()
        };
        let [writer] = touching(from, true)[..] else { return };
        if self.fails[writer] || !touching(to, true).is_empty() {
            return;
        }
        let mut first = touching(to, false);
        first.extend((0..self.launches.len()).filter(|place| self.fails[*place]));
        first.retain(|place| *place != writer);
        let later = self.reachable(writer);
        if first.iter().any(|place| later.contains(place)) {
            return;
        }
        let Some(launch) = redirected(program, self.launch(writer), from, to) else { return };
        self.launches[writer] = Some(launch);
        self.edges(first, writer);
        self.remove(copy);
        self.rename(from, to);
    }

    fn remove(&mut self, place: usize) {
        for other in std::mem::take(&mut self.before[place]) {
            self.after[other].remove(&place);
        }
        for other in std::mem::take(&mut self.after[place]) {
            self.before[other].remove(&place);
        }
        self.launches[place] = None;
    }

    /// Readers of the new value find it in the state.
    fn rename(&mut self, from: BufferId, to: BufferId) {
        for view in self.launches.iter_mut().flatten().flat_map(|launch| &mut launch.args) {
            if view.buffer == from {
                view.buffer = to;
            }
        }
    }

    /// The better of two orders.
    fn order(&self, entry: &Entry) -> Vec<usize> {
        let orders = [self.sorted(entry, false), self.sorted(entry, true)];
        let [own, greedy] = orders.map(|order| (self.peak(entry, &order), order));
        if greedy.0 < own.0 { greedy.1 } else { own.1 }
    }

    /// Every launch after what it needs; the first of the program's order, or what adds the least memory.
    fn sorted(&self, entry: &Entry, greedy: bool) -> Vec<usize> {
        let mut missing: Vec<usize> = self.before.iter().map(BTreeSet::len).collect();
        let mut memory = Memory::of(self, entry);
        let mut ready: BTreeSet<usize> =
            (0..self.launches.len()).filter(|place| self.launches[*place].is_some() && missing[*place] == 0).collect();
        let mut order = Vec::new();
        while let Some(next) = ready
            .iter()
            .copied()
            .min_by_key(|place| if greedy { (memory.growth(self.launch(*place)), *place) } else { (0, *place) })
        {
            ready.remove(&next);
            memory.run(self.launch(next));
            order.push(next);
            for later in &self.after[next] {
                missing[*later] -= 1;
                if missing[*later] == 0 {
                    ready.insert(*later);
                }
            }
        }
        assert_eq!(order.len(), self.launches.iter().flatten().count(), "S2: updates in place make no cycle");
        order
    }

    fn peak(&self, entry: &Entry, order: &[usize]) -> i64 {
        let mut memory = Memory::of(self, entry);
        order.iter().map(|place| memory.run(self.launch(*place))).max().unwrap_or(0)
    }

    fn into_steps(mut self, order: &[usize]) -> Vec<Step> {
        order
            .iter()
            .map(|place| Step::Launch(self.launches[*place].take().expect("S1: a launch that is named is there")))
            .collect()
    }
}

fn uses(program: &Program, launch: &Launch) -> Vec<(BufferId, Mode)> {
    let modes = program.kernel(launch.kernel).args.iter().map(|arg| arg.mode);
    launch.args.iter().map(|view| view.buffer).zip(modes).collect()
}

fn writes_state(program: &Program, entry: usize, launch: &Launch) -> bool {
    let is_state = |buffer: BufferId| matches!(program.entries[entry].buffer(buffer).place, Place::State(_));
    uses(program, launch).into_iter().any(|(buffer, mode)| mode != Mode::Read && is_state(buffer))
}

/// Bytes of computed values that are alive while launches run.
struct Memory {
    bytes: Vec<i64>,
    uses: Vec<usize>,
    born: Vec<bool>,
    live: i64,
}

impl Memory {
    fn of(schedule: &Schedule, entry: &Entry) -> Self {
        let bytes =
            |buffer: &graver_ir::kernel::Buffer| if buffer.place == Place::Unplaced { nominal(&buffer.bytes()) } else { 0 };
        let mut uses = vec![0; entry.buffers.len()];
        for buffer in schedule.launches.iter().flatten().flat_map(buffers) {
            uses[buffer] += 1;
        }
        Self { bytes: entry.buffers.iter().map(bytes).collect(), uses, born: vec![false; entry.buffers.len()], live: 0 }
    }

    /// Bytes that become alive, less those that die.
    fn growth(&self, launch: &Launch) -> i64 {
        let change = |buffer: usize| {
            let born = if self.born[buffer] { 0 } else { self.bytes[buffer] };
            born - if self.uses[buffer] == 1 { self.bytes[buffer] } else { 0 }
        };
        buffers(launch).into_iter().map(change).sum()
    }

    /// The bytes alive during the launch.
    fn run(&mut self, launch: &Launch) -> i64 {
        for buffer in buffers(launch) {
            if !std::mem::replace(&mut self.born[buffer], true) {
                self.live += self.bytes[buffer];
            }
        }
        let during = self.live;
        for buffer in buffers(launch) {
            self.uses[buffer] -= 1;
            if self.uses[buffer] == 0 {
                self.live -= self.bytes[buffer];
            }
        }
        during
    }
}

/// The buffers of a launch, each once.
fn buffers(launch: &Launch) -> BTreeSet<usize> {
    launch.args.iter().map(|view| view.buffer.0 as usize).collect()
}
