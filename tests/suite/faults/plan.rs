//! Mistakes of scheduling and planning: the right kernels over the wrong memory, or in the wrong order.

use graver_ir::Dim;
use graver_ir::kernel::{BufferId, Entry, Kernel, Launch, Mode, Place, Program, Step, View, lives};

use super::{COMPILED, Compiled, Fault, all_are_caught};

const FAULTS: &[Fault<Program>] = &[
    Fault { name: "two buffers that live at once lie at one place", plant: |p| in_entry(p, |_, entry| one_place(entry)) },
    Fault { name: "two buffers that live at once overlap by an element", plant: |p| in_entry(p, |_, entry| overlapping(entry)) },
    Fault { name: "a buffer is not aligned", plant: |p| in_entry(p, |_, entry| misaligned(entry)) },
    Fault { name: "the arena is a byte too small", plant: |p| in_entry(p, |_, entry| arena_smaller(entry)) },
    Fault { name: "two launches are exchanged", plant: |p| in_entry(p, exchanged_dependent) },
    Fault { name: "what overwrites a buffer comes before its reader", plant: |p| in_entry(p, overwritten_early) },
    Fault { name: "a launch is forgotten", plant: |p| in_entry(p, |_, entry| entry.steps.pop().is_some()) },
    Fault { name: "a launch happens twice", plant: |p| in_entry(p, repeated_update) },
    Fault { name: "the state is written before its reader", plant: |p| in_entry(p, state_early) },
    Fault { name: "the state is written before a check", plant: |p| in_entry(p, state_before_check) },
    Fault { name: "a view is one element off", plant: |p| in_entry(p, |_, entry| view_moved(entry)) },
    Fault { name: "two operands of a launch are exchanged", plant: |p| in_entry(p, operands_exchanged) },
    Fault { name: "an output is written over an input", plant: |p| in_entry(p, output_is_input) },
    Fault { name: "an output lies at an input", plant: |p| in_entry(p, |_, entry| output_placed_at_input(entry)) },
    Fault { name: "two outputs are exchanged", plant: |p| in_entry(p, |_, entry| outputs_exchanged(entry)) },
    Fault { name: "a constant is another", plant: |p| in_entry(p, |_, entry| other_constant(entry)) },
];

#[test]
fn faults_in_plans_are_caught() {
    all_are_caught(FAULTS, &COMPILED, |compiled| &compiled.program, Compiled::judge);
}

fn in_entry(program: &mut Program, plant: fn(&[Kernel], &mut Entry) -> bool) -> bool {
    program.entries.first_mut().is_some_and(|entry| plant(&program.kernels, entry))
}

fn launches(entry: &mut Entry) -> impl Iterator<Item = &mut Launch> {
    entry.steps.iter_mut().filter_map(|step| if let Step::Launch(launch) = step { Some(launch) } else { None })
}

/// Which buffers a step touches, and how.
fn uses(kernels: &[Kernel], entry: &Entry, step: usize) -> Vec<(BufferId, Mode)> {
    // Faults are planted among launches; what control flow does is checked elsewhere.
    let Step::Launch(launch) = &entry.steps[step] else { return Vec::new() };
    let args = &kernels[launch.kernel.0 as usize].args;
    launch.args.iter().zip(args).map(|(view, arg)| (view.buffer, arg.mode)).collect()
}

fn touches(kernels: &[Kernel], entry: &Entry, step: usize, is: impl Fn(BufferId, Mode) -> bool) -> bool {
    uses(kernels, entry, step).into_iter().any(|(buffer, mode)| is(buffer, mode))
}

/// Two buffers in the arena that hold something at one step, with their offsets.
fn living_together(entry: &Entry) -> Option<[(usize, Dim); 2]> {
    let lives = lives(entry);
    let in_arena = |buffer: usize| match &entry.buffers[buffer].place {
        Place::Arena(offset) if !entry.buffers[buffer].bytes().is(0) => Some((buffer, offset.clone())),
        Place::Arena(_) | Place::Input(_) | Place::Output(_) | Place::State(_) | Place::Const(_) | Place::Unplaced => None,
    };
    let placed: Vec<(usize, Dim)> = (0..entry.buffers.len()).filter_map(in_arena).collect();
    let meet = |x: usize, y: usize| match (lives[x], lives[y]) {
        (Some(x), Some(y)) => x.first <= y.last && y.first <= x.last,
        (Some(_) | None, None) | (None, Some(_)) => false,
    };
    let mut pairs = placed.iter().flat_map(|x| placed.iter().map(move |y| (x, y)));
    pairs.find(|(x, y)| x.0 < y.0 && meet(x.0, y.0)).map(|(x, y)| [x.clone(), y.clone()])
}

fn one_place(entry: &mut Entry) -> bool {
    let Some([(_, offset), (other, _)]) = living_together(entry) else { return false };
    entry.buffers[other].place = Place::Arena(offset);
    true
}

fn overlapping(entry: &mut Entry) -> bool {
    let Some([(first, offset), (other, _)]) = living_together(entry) else { return false };
    let element = Dim::from(entry.buffers[first].dtype.size());
    entry.buffers[other].place = Place::Arena(offset + entry.buffers[first].bytes() - element);
    // Nothing else is to be wrong.
    entry.arena = entry.arena.max_with(&Dim::from(1 << 20));
    true
}

fn misaligned(entry: &mut Entry) -> bool {
    let wide = entry.buffers.iter_mut().filter(|buffer| buffer.dtype.size() > 1);
    let mut placed = wide.filter_map(|buffer| if let Place::Arena(offset) = &mut buffer.place { Some(offset) } else { None });
    let moved = placed.next().map(|offset| *offset = &*offset + Dim::ONE).is_some();
    entry.arena = &entry.arena + Dim::ONE;
    moved
}

/// The arena ends a byte before its last buffer does.
fn arena_smaller(entry: &mut Entry) -> bool {
    let ends = entry.buffers.iter().filter_map(|buffer| match &buffer.place {
        Place::Arena(offset) => Some(offset + buffer.bytes()),
        Place::Input(_) | Place::Output(_) | Place::State(_) | Place::Const(_) | Place::Unplaced => None,
    });
    let Some(end) = ends.reduce(|end, other| end.max_with(&other)) else { return false };
    entry.arena = end - Dim::ONE;
    true
}

/// Exchanges a launch with the next one, which reads what it writes.
fn exchanged_dependent(kernels: &[Kernel], entry: &mut Entry) -> bool {
    let feeds = |step: &usize| {
        let written: Vec<BufferId> =
            uses(kernels, entry, *step).into_iter().filter(|(_, mode)| *mode != Mode::Read).map(|(id, _)| id).collect();
        touches(kernels, entry, step + 1, |id, mode| mode != Mode::Write && written.contains(&id))
    };
    let found = (1..entry.steps.len()).map(|next| next - 1).find(feeds);
    found.inspect(|step| entry.steps.swap(*step, step + 1)).is_some()
}

/// Moves a launch whose result shares bytes of the arena with an earlier buffer before that buffer's last reader.
fn overwritten_early(kernels: &[Kernel], entry: &mut Entry) -> bool {
    let lives = lives(entry);
    let offset = |id: BufferId| if let Place::Arena(offset) = &entry.buffer(id).place { Some(offset.clone()) } else { None };
    let reuses = |id: BufferId, step: usize| {
        let earlier = (0u32..).zip(&lives).filter_map(|(other, life)| Some((BufferId(other), (*life)?)));
        let same = earlier.filter(|(other, _)| *other != id && offset(*other).is_some() && offset(*other) == offset(id));
        same.map(|(_, life)| life.last).filter(|last| *last < step).max()
    };
    let found = (0..entry.steps.len()).find_map(|step| {
        let written = uses(kernels, entry, step).into_iter().filter(|(_, mode)| *mode == Mode::Write);
        written.filter_map(|(id, _)| reuses(id, step)).max().map(|last| (step, last))
    });
    found.map(|(from, to)| move_before(entry, from, to)).is_some()
}

fn move_before(entry: &mut Entry, from: usize, to: usize) {
    let step = entry.steps.remove(from);
    entry.steps.insert(to, step);
}

/// A launch that adds to what is there happens once more.
fn repeated_update(kernels: &[Kernel], entry: &mut Entry) -> bool {
    let updates = |step: &usize| touches(kernels, entry, *step, |_, mode| mode == Mode::Update);
    let found = (0..entry.steps.len()).find(updates);
    found.map(|step| entry.steps.insert(step, entry.steps[step].clone())).is_some()
}

fn is_state(entry: &Entry, id: BufferId) -> bool {
    matches!(entry.buffer(id).place, Place::State(_))
}

fn state_early(kernels: &[Kernel], entry: &mut Entry) -> bool {
    let found = (0..entry.steps.len()).find_map(|writer| {
        let written = uses(kernels, entry, writer).into_iter().filter(|(id, mode)| *mode != Mode::Read && is_state(entry, *id));
        let reader =
            |id: BufferId| (0..writer).find(|step| touches(kernels, entry, *step, |of, mode| of == id && mode == Mode::Read));
        written.filter_map(|(id, _)| reader(id)).next().map(|reader| (writer, reader))
    });
    found.map(|(writer, reader)| move_before(entry, writer, reader)).is_some()
}

fn state_before_check(kernels: &[Kernel], entry: &mut Entry) -> bool {
    let Some(Step::Launch(last)) = entry.steps.last() else { return false };
    let writes_state = last.args.iter().any(|view| is_state(entry, view.buffer));
    let fails = |step: &Step| matches!(step, Step::Launch(launch) if kernels[launch.kernel.0 as usize].body.may_fail());
    let check = entry.steps.iter().position(fails).filter(|_| writes_state);
    check.map(|check| move_before(entry, entry.steps.len() - 1, check)).is_some()
}

fn view_moved(entry: &mut Entry) -> bool {
    let view = launches(entry).flat_map(|launch| &mut launch.args).next();
    view.map(|view| view.offset = &view.offset + Dim::ONE).is_some()
}

/// Exchanges two operands of one type that are only read.
fn operands_exchanged(kernels: &[Kernel], entry: &mut Entry) -> bool {
    launches(entry).any(|launch| {
        let args = &kernels[launch.kernel.0 as usize].args;
        let alike = |x: usize, y: usize| args[x] == args[y] && args[x].mode == Mode::Read && launch.args[x] != launch.args[y];
        let pair = (0..args.len()).flat_map(|x| (0..x).map(move |y| (x, y))).find(|(x, y)| alike(*x, *y));
        pair.inspect(|(x, y)| launch.args.swap(*x, *y)).is_some()
    })
}

/// The launch that writes an output writes the input that it reads, which has the same type.
fn output_is_input(kernels: &[Kernel], entry: &mut Entry) -> bool {
    let places: Vec<Place> = entry.buffers.iter().map(|buffer| buffer.place.clone()).collect();
    let place = |view: &View| &places[view.buffer.0 as usize];
    launches(entry).any(|launch| {
        let args = &kernels[launch.kernel.0 as usize].args;
        let output = launch.args.iter().position(|view| matches!(place(view), Place::Output(_)));
        let input = launch.args.iter().position(|view| matches!(place(view), Place::Input(_)));
        let (Some(output), Some(input)) = (output, input) else { return false };
        let alike = args[output].dtype == args[input].dtype && args[output].shape == args[input].shape;
        launch.args[output] = if alike { launch.args[input].clone() } else { launch.args[output].clone() };
        alike
    })
}

fn output_placed_at_input(entry: &mut Entry) -> bool {
    let output = entry.outputs.first().filter(|_| !entry.inputs.is_empty()).copied();
    output.map(|output| entry.buffers[output.0 as usize].place = Place::Input(0)).is_some()
}

/// Exchanges two outputs of one type, consistently: only results can tell.
fn outputs_exchanged(entry: &mut Entry) -> bool {
    let ty = |id: BufferId| (entry.buffer(id).dtype, entry.buffer(id).shape.clone());
    let Some(other) = (1..entry.outputs.len()).find(|other| ty(entry.outputs[*other]) == ty(entry.outputs[0])) else {
        return false;
    };
    entry.outputs.swap(0, other);
    for place in [0, other] {
        let id = entry.outputs[place];
        entry.buffers[id.0 as usize].place = Place::Output(place);
    }
    true
}

/// Exchanges two constants of one type.
fn other_constant(entry: &mut Entry) -> bool {
    let constants: Vec<usize> =
        (0..entry.buffers.len()).filter(|buffer| matches!(entry.buffers[*buffer].place, Place::Const(_))).collect();
    let alike = |x: usize, y: usize| {
        let (x, y) = (&entry.buffers[x], &entry.buffers[y]);
        x.dtype == y.dtype && x.shape == y.shape
    };
    let pair = constants.iter().flat_map(|x| constants.iter().map(move |y| (*x, *y))).find(|(x, y)| x < y && alike(*x, *y));
    let Some((x, y)) = pair else { return false };
    let place = entry.buffers[x].place.clone();
    entry.buffers[x].place = std::mem::replace(&mut entry.buffers[y].place, place);
    true
}
