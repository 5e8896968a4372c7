//! The order of steps, and updates of the state and of what loops carry in place.
//!
//! Lowering computes a new value of the state aside and copies it at the end. Where the launch that computes it may come
//! after every reader of the old value and after everything that can fail, it writes the state itself and the copy goes
//! away; a cycle of such wishes leaves the copy. Of the program's own order and one that frees memory greedily, the one
//! with the lower peak is taken. Every list of steps is ordered by itself; a loop or a branch is one step of the list around it.
//! Never changes what a kernel computes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use graver_ir::kernel::{BufferId, Carry, Entry, Launch, Mode, Place, Program, Step, View};

use crate::lower::COPY;
use crate::prune;
use crate::reuse::are_alike;
use crate::update::Redirect;

/// Orders the steps of every entry.
pub(crate) fn run(program: &mut Program) {
    for entry in 0..program.entries.len() {
        let steps = std::mem::take(&mut program.entries[entry].steps);
        program.entries[entry].steps = ordered(program, entry, steps, List::Entry);
    }
    prune::run(program);
}

/// Whose list of steps it is.
enum List<'a> {
    /// The entry's.
    Entry,
    /// A branch's, or a loop's test.
    Inner,
    /// A loop's iteration, and what that leaves to the next.
    Body(&'a mut Vec<Carry>),
}

/// The steps of a list in a good order, and those inside of them. What an iteration leaves is written in place where that is possible, and
/// then no longer carried.
fn ordered(program: &mut Program, entry: usize, mut steps: Vec<Step>, list: List<'_>) -> Vec<Step> {
    for step in &mut steps {
        match step {
            Step::Launch(_) => {}
            Step::If(branch) => {
                for inner in [&mut branch.then, &mut branch.otherwise] {
                    *inner = ordered(program, entry, std::mem::take(inner), List::Inner);
                }
            }
            Step::Loop(of) => {
                if let Some(test) = of.trip.test_mut() {
                    *test = ordered(program, entry, std::mem::take(test), List::Inner);
                }
                of.body = ordered(program, entry, std::mem::take(&mut of.body), List::Body(&mut of.carry));
            }
        }
    }
    let mut schedule = Schedule::of(program, entry, steps);
    match list {
        List::Entry => {
            schedule.share_starts(program);
            schedule.update_in_place(program);
        }
        List::Inner => {}
        List::Body(carry) => carry.retain(|Carry { now, next }| !schedule.try_in_place(program, None, *next, *now)),
    }
    let order = schedule.order(&program.entries[entry]);
    schedule.into_steps(&order)
}

/// Steps of one list and what must come before what.
struct Schedule {
    redirect: Redirect,
    entry: usize,
    /// `None`: a copy that was not needed.
    steps: Vec<Option<Step>>,
    /// The steps that can fail.
    failing: Vec<usize>,
    /// By buffer, the steps that use it, in order.
    users: Vec<Vec<(usize, Mode)>>,
    /// Of each step; one that comes after another for two reasons is there twice, and so in `before`.
    after: Vec<Vec<usize>>,
    before: Vec<Vec<usize>>,
    /// Of each step, the number of the search that has met it last.
    met: Vec<u32>,
    searches: u32,
}

impl Schedule {
    fn of(program: &Program, entry: usize, steps: Vec<Step>) -> Self {
        let count = steps.len();
        let failing = (0..count).filter(|place| fails(program, &steps[*place])).collect();
        let mut users = vec![Vec::new(); program.entries[entry].buffers.len()];
        for (place, step) in steps.iter().enumerate() {
            uses(program, step).into_iter().for_each(|(buffer, mode)| users[buffer.0 as usize].push((place, mode)));
        }
        let steps = steps.into_iter().map(Some).collect();
        let edges = || vec![Vec::new(); count];
        let mut schedule = Self {
            redirect: Redirect::default(),
            entry,
            steps,
            failing,
            users,
            after: edges(),
            before: edges(),
            met: vec![0; count],
            searches: 0,
        };
        schedule.depend(program);
        schedule
    }

    /// Reads after writes, writes after reads and writes; writes of the state after all that can fail.
    fn depend(&mut self, program: &Program) {
        let mut edges: Vec<(usize, usize)> = Vec::new();
        for (users, buffer) in self.users.iter().zip(&program.entries[self.entry].buffers) {
            let is_state = matches!(buffer.place, Place::State(_));
            let (mut writer, mut readers) = (None, Vec::new());
            for (place, mode) in users {
                edges.extend(writer.map(|writer| (writer, *place)));
                if *mode == Mode::Read {
                    readers.push(*place);
                } else {
                    edges.extend(readers.drain(..).map(|reader| (reader, *place)));
                    edges.extend(self.failing.iter().filter(|_| is_state).map(|failing| (*failing, *place)));
                    writer = Some(*place);
                }
            }
        }
        edges.into_iter().for_each(|(from, to)| self.edge(from, to));
    }

    fn edge(&mut self, from: usize, to: usize) {
        if from != to {
            self.after[from].push(to);
            self.before[to].push(from);
        }
    }

    /// Those of the steps that were not removed.
    fn those<'a>(&'a self, places: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        places.iter().copied().filter(|place| self.steps[*place].is_some())
    }

    /// Whether one of some steps comes after another.
    fn is_before_any(&mut self, from: usize, others: &[usize]) -> bool {
        self.searches += 1;
        let (steps, met, search) = (&self.steps, &mut self.met, self.searches);
        let mut open = vec![from];
        while let Some(place) = open.pop() {
            let new = |next: &usize| steps[*next].is_some() && std::mem::replace(&mut met[*next], search) != search;
            open.extend(self.after[place].iter().copied().filter(new));
        }
        others.iter().any(|place| self.met[*place] == search)
    }

    fn update_in_place(&mut self, program: &mut Program) {
        for copy in 0..self.steps.len() {
            if let Some((from, to)) = self.update_copy(program, copy)
                && self.try_in_place(program, Some(copy), from, to)
            {
                self.remove(copy);
            }
        }
    }

    /// The buffers of a copy of a computed value into the state.
    fn update_copy(&self, program: &Program, place: usize) -> Option<(BufferId, BufferId)> {
        let Some(Step::Launch(launch)) = &self.steps[place] else { return None };
        let [from, to] = launch.args.as_slice() else { return None };
        let entry = &program.entries[self.entry];
        let is_update =
            matches!(entry.buffer(to.buffer).place, Place::State(_)) && entry.buffer(from.buffer).place == Place::Unplaced;
        (is_update && program.kernel(launch.kernel).name == COPY).then_some((from.buffer, to.buffer))
    }

    /// A computed value that is changed in places begins as a copy of another: where nobody needs that one as it was later, both are one
    /// buffer. Only in the entry's list, which sees every use of a buffer.
    fn share_starts(&mut self, program: &mut Program) {
        let carried: BTreeSet<BufferId> = self.steps.iter().flatten().flat_map(carried).collect();
        for place in 0..self.steps.len() {
            let Some(Step::Launch(launch)) = &self.steps[place] else { continue };
            let [from, to] = launch.args.as_slice() else { continue };
            let (from, to) = (from.buffer, to.buffer);
            let computed =
                |id: &BufferId| program.entries[self.entry].buffer(*id).place == Place::Unplaced && !carried.contains(id);
            if self.is_start(program, place, from, to) && [from, to].iter().all(computed) {
                self.try_in_place(program, None, to, from);
            }
        }
    }

    /// Whether the step copies all of `from` to `to`.
    fn is_start(&self, program: &Program, place: usize, from: BufferId, to: BufferId) -> bool {
        let Some(Step::Launch(launch)) = &self.steps[place] else { return false };
        let entry = &program.entries[self.entry];
        launch.args == [View::whole(from), View::whole(to)]
            && program.kernel(launch.kernel).name == COPY
            && are_alike(entry.buffer(from), entry.buffer(to))
    }

    /// Lets the launches that write `from` write `to` instead, after everybody who reads `to` as it was; `copy` is the step that becomes
    /// needless. Whether that is possible. If the first of them copies `to`, it becomes needless too: what the others store is all that is
    /// written. Only the first may read `to`, and only the elements that it stores.
    fn try_in_place(&mut self, program: &mut Program, copy: Option<usize>, from: BufferId, to: BufferId) -> bool {
        let touching = |buffer: BufferId, written: bool| -> Vec<usize> {
            let users = self.users[buffer.0 as usize].iter();
            let others = users.filter(|(place, _)| Some(*place) != copy && self.steps[*place].is_some());
            others.filter(|(_, mode)| (*mode != Mode::Read) == written).map(|(place, _)| *place).collect()
        };
        let mut writers = touching(from, true);
        let start = writers.first().copied().filter(|place| self.is_start(program, *place, to, from));
        writers.retain(|place| Some(*place) != start);
        let Some(writer) = writers.first().copied() else { return false };
        let state = matches!(program.entries[self.entry].buffer(to).place, Place::State(_));
        let (written, mut first) = (touching(to, true), touching(to, false));
        if writers[1..].iter().chain(start.is_some().then_some(&writer)).any(|place| first.contains(place)) {
            return false;
        }
        if state && (!written.is_empty() || writers.iter().any(|place| self.failing.contains(place))) {
            return false;
        }
        first.extend(written);
        first.extend(self.failing.iter().filter(|_| state));
        first.retain(|place| *place != writer && Some(*place) != start);
        if self.is_before_any(writer, &first) || first.iter().any(|place| writers.contains(place)) {
            return false;
        }
        let mut redirect = |place: &usize| match self.steps[*place].as_ref().expect("S1: a step that is named is there") {
            Step::Launch(launch) => self.redirect.launch(program, launch, from, to),
            Step::If(_) | Step::Loop(_) => None,
        };
        let Some(redirected) = writers.iter().map(&mut redirect).collect::<Option<Vec<_>>>() else { return false };
        for (place, redirected) in writers.iter().zip(redirected) {
            if let Some(Step::Launch(launch)) = &mut self.steps[*place] {
                redirected.apply(launch);
            }
        }
        first.into_iter().for_each(|first| self.edge(first, writer));
        if let Some(start) = start {
            self.bypass(start);
        }
        self.rename(from, to);
        true
    }

    /// Removes a step; what came before it still comes before what came after.
    fn bypass(&mut self, place: usize) {
        for after in self.after[place].clone() {
            for before in self.before[place].clone() {
                self.edge(before, after);
            }
        }
        self.remove(place);
    }

    /// Others keep it in their lists, where it counts no more.
    fn remove(&mut self, place: usize) {
        self.steps[place] = None;
    }

    /// Readers of the new value find it in the state.
    fn rename(&mut self, from: BufferId, to: BufferId) {
        let mut rename = |buffer: &mut BufferId| {
            if *buffer == from {
                *buffer = to;
            }
        };
        let renamed = std::mem::take(&mut self.users[from.0 as usize]);
        for (place, _) in &renamed {
            self.steps[*place].iter_mut().for_each(|step| step.for_each_buffer_mut(&mut rename));
        }
        let users = &mut self.users[to.0 as usize];
        users.extend(renamed);
        users.sort_by_key(|(place, mode)| (*place, *mode));
        // What a launch read and what it wrote is one argument now.
        users.dedup_by(|(next, _), (place, mode)| {
            *mode = if next == place { Mode::Update } else { *mode };
            next == place
        });
    }

    /// The better of two orders.
    fn order(&self, entry: &Entry) -> Vec<usize> {
        let memory = Memory::of(self, entry);
        let orders = [self.sorted(memory.clone(), false), self.sorted(memory.clone(), true)];
        let [own, greedy] = orders.map(|order| (memory.clone().peak(&order), order));
        if greedy.0 < own.0 { greedy.1 } else { own.1 }
    }

    /// Every step after what it needs; the first of the program's order, or what adds the least memory.
    fn sorted(&self, mut memory: Memory, greedy: bool) -> Vec<usize> {
        let mut missing: Vec<usize> = self.before.iter().map(|before| self.those(before).count()).collect();
        let mut ready: BTreeSet<usize> =
            (0..self.steps.len()).filter(|place| self.steps[*place].is_some() && missing[*place] == 0).collect();
        let mut order = Vec::new();
        let next = |ready: &BTreeSet<usize>, memory: &Memory| {
            let mut places = ready.iter().copied();
            if greedy { places.min_by_key(|place| (memory.growth(*place), *place)) } else { places.next() }
        };
        while let Some(next) = next(&ready, &memory) {
            ready.remove(&next);
            memory.run(next);
            order.push(next);
            for later in self.those(&self.after[next]) {
                missing[later] -= 1;
                if missing[later] == 0 {
                    ready.insert(later);
                }
            }
        }
        assert_eq!(order.len(), self.steps.iter().flatten().count(), "S2: updates in place make no cycle");
        order
    }

    fn into_steps(mut self, order: &[usize]) -> Vec<Step> {
        order.iter().map(|place| self.steps[*place].take().expect("S1: a step that is named is there")).collect()
    }
}

/// The buffers whose memory a step exchanges.
fn carried(step: &Step) -> Vec<BufferId> {
    let own = if let Step::Loop(of) = step { buffers_of(&of.carry).collect() } else { Vec::new() };
    step.inner().into_iter().flatten().flat_map(carried).chain(own).collect()
}

fn buffers_of(carry: &[Carry]) -> impl Iterator<Item = BufferId> {
    carry.iter().flat_map(|Carry { now, next }| [*now, *next])
}

/// What a step uses, those inside of it together. What a loop or a branch writes it may read before.
fn uses(program: &Program, step: &Step) -> Vec<(BufferId, Mode)> {
    if let Step::Launch(launch) = step {
        return arguments(program, launch);
    }
    let mut found: BTreeMap<BufferId, Mode> = BTreeMap::new();
    let mut note = |buffer: BufferId, mode: Mode| {
        let known = found.entry(buffer).or_insert(mode);
        *known = if *known == Mode::Read && mode == Mode::Read { Mode::Read } else { Mode::Update };
    };
    step.views().into_iter().for_each(|view| note(view.buffer, Mode::Read));
    if let Step::Loop(of) = step {
        buffers_of(&of.carry).for_each(|buffer| note(buffer, Mode::Update));
    }
    let inside = step.inner().into_iter().flatten().flat_map(|inner| uses(program, inner));
    inside.for_each(|(buffer, mode)| note(buffer, mode));
    found.into_iter().collect()
}

fn arguments(program: &Program, launch: &Launch) -> Vec<(BufferId, Mode)> {
    let modes = program.kernel(launch.kernel).args.iter().map(|arg| arg.mode);
    launch.args.iter().map(|view| view.buffer).zip(modes).collect()
}

fn fails(program: &Program, step: &Step) -> bool {
    let mut found = false;
    step.for_each_launch(&mut |launch| found |= program.kernel(launch.kernel).body.may_fail());
    found
}

/// Bytes of computed values that are alive while steps run.
#[derive(Clone)]
struct Memory {
    /// Of each step.
    buffers: Rc<[Vec<usize>]>,
    bytes: Rc<[i64]>,
    uses: Vec<usize>,
    born: Vec<bool>,
    live: i64,
}

impl Memory {
    fn of(schedule: &Schedule, entry: &Entry) -> Self {
        let bytes = |buffer: &graver_ir::kernel::Buffer| if buffer.place == Place::Unplaced { buffer.usual_bytes() } else { 0 };
        let buffers: Rc<[Vec<usize>]> =
            schedule.steps.iter().map(|step| step.as_ref().map(buffers).unwrap_or_default()).collect();
        let mut uses = vec![0; entry.buffers.len()];
        buffers.iter().flatten().for_each(|buffer| uses[*buffer] += 1);
        let bytes = entry.buffers.iter().map(bytes).collect();
        Self { buffers, bytes, uses, born: vec![false; entry.buffers.len()], live: 0 }
    }

    /// Bytes that become alive, less those that die.
    fn growth(&self, place: usize) -> i64 {
        let change = |buffer: &usize| {
            let born = if self.born[*buffer] { 0 } else { self.bytes[*buffer] };
            born - if self.uses[*buffer] == 1 { self.bytes[*buffer] } else { 0 }
        };
        self.buffers[place].iter().map(change).sum()
    }

    /// The most bytes that are alive when steps run in this order.
    fn peak(mut self, order: &[usize]) -> i64 {
        order.iter().map(|place| self.run(*place)).max().unwrap_or(0)
    }

    /// The bytes alive during the step.
    fn run(&mut self, place: usize) -> i64 {
        for buffer in &self.buffers[place] {
            if !std::mem::replace(&mut self.born[*buffer], true) {
                self.live += self.bytes[*buffer];
            }
        }
        let during = self.live;
        for buffer in &self.buffers[place] {
            self.uses[*buffer] -= 1;
            if self.uses[*buffer] == 0 {
                self.live -= self.bytes[*buffer];
            }
        }
        during
    }
}

/// The buffers of a step and of those inside, each once.
fn buffers(step: &Step) -> Vec<usize> {
    let mut found: Vec<usize> = step.views().iter().map(|view| view.buffer.0 as usize).collect();
    if let Step::Loop(of) = step {
        found.extend(buffers_of(&of.carry).map(|buffer| buffer.0 as usize));
    }
    found.extend(step.inner().into_iter().flatten().flat_map(buffers));
    found.sort_unstable();
    found.dedup();
    found
}
