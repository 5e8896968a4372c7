//! Checks one entry: K3, K4, K17 to K21. Steps around others are checked in [`super::control`].

use std::collections::{BTreeMap, BTreeSet};

use super::kernel::extent;
use super::note;
use super::program::{no_axes, wrong_dim};
use crate::dim::{Atom, Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::{Buffer, BufferId, Entry, Launch, Mode, Place, Program, View};
use crate::ty::{Shape, Type};
use crate::verify::Findings;

pub(super) fn check(program: &Program, entry: &Entry, found: &mut Findings) {
    let name = &entry.name;
    note(found, || format!("entry `{name}`, arena"), wrong_dim(program, &entry.arena, &no_axes));
    // Most buffers have the type of another.
    let mut known: BTreeMap<(&[Dim], DType), Known> = BTreeMap::new();
    for (id, buffer) in entry.buffers.iter().enumerate() {
        let known = known.entry((&buffer.shape, buffer.dtype)).or_insert_with(|| Known::of(program, buffer));
        note(found, || format!("entry `{name}`, b{id}"), wrong_buffer(program, entry, id, buffer, known));
    }
    let inputs = entry.inputs.iter().map(|(id, _)| id).enumerate().map(|(at, id)| (Place::Input(at), id));
    let outputs = entry.outputs.iter().enumerate().map(|(at, id)| (Place::Output(at), id));
    for (place, id) in inputs.chain(outputs) {
        let right = entry.buffers.get(id.0 as usize).is_some_and(|buffer| buffer.place == place);
        let wrong = (!right).then(|| format!("K18: the list says {place:?}, the buffer does not"));
        note(found, || format!("entry `{name}`, b{}", id.0), wrong);
    }
    // Steps compute with the sizes of buffers, which must be simple for that.
    if found.is_empty() {
        let mut walk = Steps {
            program,
            entry,
            reaches: program.kernels.iter().map(|kernel| kernel.args.iter().map(extent).collect()).collect(),
            numels: entry.buffers.iter().map(|buffer| known[&(&*buffer.shape, buffer.dtype)].numel.clone()).collect(),
            written: vec![false; entry.buffers.len()],
            writes_state: false,
            counters: Vec::new(),
            carried: BTreeSet::new(),
        };
        walk.all(&entry.steps, &format!("entry `{name}`, step "), found);
    }
}

/// What holds of every buffer of a type.
struct Known {
    ty: Type,
    numel: Dim,
    bytes: Dim,
    /// For usual sizes.
    usual_bytes: i64,
    wrong: Option<String>,
}

impl Known {
    fn of(program: &Program, buffer: &Buffer) -> Self {
        let shape = Shape(buffer.shape.clone());
        let dims = buffer.shape.iter().find_map(|dim| wrong_dim(program, dim, &no_axes));
        let wrong = dims.or_else(|| (!shape.is_valid()).then(|| format!("K18: no array has the shape {shape}")));
        // Computed with only where sizes are simple.
        let [numel, bytes] = if wrong.is_some() { [Dim::ZERO, Dim::ZERO] } else { [shape.iter().product(), buffer.bytes()] };
        Self { ty: Type { dtype: buffer.dtype, shape }, numel, usual_bytes: bytes.nominal(), bytes, wrong }
    }
}

fn wrong_buffer(program: &Program, entry: &Entry, id: usize, buffer: &Buffer, known: &Known) -> Option<String> {
    if known.wrong.is_some() {
        return known.wrong.clone();
    }
    let ty = &known.ty;
    let declared = |there: Option<Type>| match there {
        None => Some(format!("K18: {:?} is not there", buffer.place)),
        Some(there) => (there != *ty).then(|| format!("K18: the buffer is {ty}, what is at its place is {there}")),
    };
    let named = |right: bool| (!right).then(|| format!("K18: {:?} is another buffer", buffer.place));
    match &buffer.place {
        Place::Input(at) => named(entry.inputs.get(*at).is_some_and(|(of, _)| of.0 as usize == id)),
        Place::Output(at) => named(entry.outputs.get(*at).is_some_and(|of| of.0 as usize == id)),
        Place::State(slot) => declared(program.state.get(slot.0 as usize).map(|decl| decl.ty.clone())),
        Place::Const(at) => declared(program.consts.get(*at).map(crate::Array::ty)),
        Place::Arena(offset) => wrong_dim(program, offset, &no_axes).or_else(|| wrong_arena(entry, buffer, offset, known)),
        Place::Unplaced => None,
    }
}

fn wrong_arena(entry: &Entry, buffer: &Buffer, offset: &Dim, known: &Known) -> Option<String> {
    let size = i64::try_from(buffer.dtype.size()).unwrap_or(i64::MAX);
    if offset.known_multiple() % size != 0 {
        return Some(format!("K19: the offset {offset} is not known to be aligned to {size} bytes"));
    }
    // Most lie inside for usual sizes, and what does so is not outside for all: see `is_negative`.
    let (start, bytes) = (offset.nominal(), &known.bytes);
    let end = start.checked_add(known.usual_bytes).filter(|end| *end < i64::MAX);
    if start >= 0 && end.is_some_and(|end| end <= entry.arena.nominal()) {
        return None;
    }
    let outside = is_negative(offset) || is_negative(&(&entry.arena - offset - bytes));
    outside.then(|| format!("K19: {bytes} bytes from {offset} on do not lie in {}", entry.arena))
}

/// Whether the value is below zero for all sizes of one or more.
fn is_negative(dim: &Dim) -> bool {
    // Most are not for usual sizes, which takes little to see.
    !(0..i64::MAX).contains(&dim.nominal()) && (-nonempty(dim) - Dim::ONE).is_nonneg()
}

/// With every symbol at least one: what is wrong then is wrong, although nothing happens where a size is zero.
fn nonempty(dim: &Dim) -> Dim {
    dim.substitute(&|atom| match atom {
        Atom::Sym(symbol) if symbol.decl().lo == 0 && symbol.decl().hi >= 1 => {
            let decl = symbol.decl();
            Some(Dim::sym(&Symbol::ranged(decl.name.clone(), 1, decl.hi, decl.multiple)))
        }
        Atom::Sym(_) | Atom::Axis(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
    })
}

/// What earlier steps did.
pub(super) struct Steps<'a> {
    pub(super) program: &'a Program,
    pub(super) entry: &'a Entry,
    /// How far each argument of each kernel reaches.
    reaches: Vec<Vec<Dim>>,
    /// The elements of each buffer.
    numels: Vec<Dim>,
    /// By buffer.
    pub(super) written: Vec<bool>,
    pub(super) writes_state: bool,
    /// Of the loops around.
    pub(super) counters: Vec<Symbol>,
    /// By any loop so far.
    pub(super) carried: BTreeSet<BufferId>,
}

impl Steps<'_> {
    pub(super) fn wrong_launch(&mut self, launch: &Launch) -> Option<String> {
        let Some(kernel) = self.program.kernels.get(launch.kernel.0 as usize) else {
            return Some(format!("K3: there is no kernel k{}", launch.kernel.0));
        };
        if kernel.args.len() != launch.args.len() {
            return Some(format!("K3: {} views for the {} arguments of `{}`", launch.args.len(), kernel.args.len(), kernel.name));
        }
        let mut uses = Vec::new();
        let reaches = &self.reaches[launch.kernel.0 as usize];
        for ((arg, view), reach) in kernel.args.iter().zip(&launch.args).zip(reaches) {
            let Some(buffer) = self.entry.buffers.get(view.buffer.0 as usize) else {
                return Some(format!("K4: there is no buffer b{}", view.buffer.0));
            };
            if let Some(wrong) = self.wrong_view(view, buffer, arg.dtype, reach).or_else(|| self.wrong_use(view.buffer, arg.mode))
            {
                return Some(wrong);
            }
            uses.push((view, buffer, arg.mode, reach));
        }
        for (view, buffer, mode, _) in &uses {
            if *mode != Mode::Read {
                self.written[view.buffer.0 as usize] = true;
                self.writes_state |= matches!(buffer.place, Place::State(_));
            }
        }
        if self.writes_state && kernel.body.may_fail() {
            return Some("K21: it may set the status word, and state is written before or by it".to_owned());
        }
        let spans: Vec<Span<'_>> = uses.iter().map(|(view, buffer, _, reach)| Span::of(view, buffer, reach)).collect();
        let written = |at: usize| uses[at].2 != Mode::Read;
        let pairs = (0..uses.len()).flat_map(|x| (x + 1..uses.len()).map(move |y| (x, y)));
        pairs.filter(|(x, y)| written(*x) || written(*y)).find_map(|(x, y)| {
            let [x, y] = [&spans[x], &spans[y]];
            x.meets(y).then(|| format!("K17: b{} and b{} overlap, and one is written", x.view.buffer.0, y.view.buffer.0))
        })
    }

    pub(super) fn wrong_view(&self, view: &View, buffer: &Buffer, dtype: crate::DType, reach: &Dim) -> Option<String> {
        if dtype != buffer.dtype {
            return Some(format!("K3: b{} holds {}, the kernel takes {dtype}", view.buffer.0, buffer.dtype));
        }
        let numel = &self.numels[view.buffer.0 as usize];
        let is_whole = view.offset == Dim::ZERO && reach == numel;
        let outside = !is_whole && (is_negative(&view.offset) || is_negative(&(numel - &view.offset - reach)));
        let outside =
            outside.then(|| format!("K4: {reach} elements from {} on leave b{} of {numel}", view.offset, view.buffer.0));
        self.wrong_offset(&view.offset).or(outside)
    }

    pub(super) fn wrong_use(&self, id: BufferId, mode: Mode) -> Option<String> {
        let written = self.written[id.0 as usize];
        let (given, fixed) = match self.entry.buffers[id.0 as usize].place {
            Place::Input(_) | Place::Const(_) => (true, true),
            Place::State(_) => (true, false),
            Place::Output(_) | Place::Arena(_) | Place::Unplaced => (false, false),
        };
        if mode != Mode::Read && fixed {
            return Some(format!("K20: b{} is written", id.0));
        }
        (mode != Mode::Write && !given && !written).then(|| format!("K20: b{} is read before it is written", id.0))
    }
}

/// What a view reaches.
pub(super) struct Span<'a> {
    view: &'a View,
    buffer: &'a Buffer,
    reach: &'a Dim,
    /// The bytes of the arena for usual sizes, if they are there: the first, and the first after them.
    usual: Option<(i64, i64)>,
}

impl<'a> Span<'a> {
    /// So many elements from the view's first on.
    pub(super) fn of(view: &'a View, buffer: &'a Buffer, reach: &'a Dim) -> Self {
        let usual = match &buffer.place {
            Place::Arena(from) => {
                let size = i64::try_from(buffer.dtype.size()).expect("elements are a few bytes");
                let bytes = |elements: &Dim| elements.nominal().saturating_mul(size);
                let start = from.nominal().saturating_add(bytes(&view.offset));
                Some((start, start.saturating_add(bytes(reach))))
            }
            Place::Input(_) | Place::Output(_) | Place::State(_) | Place::Const(_) | Place::Unplaced => None,
        };
        Self { view, buffer, reach, usual }
    }

    /// Whether both are known to share an element: from the same element on, or in the same bytes of the arena.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let known = |dim: &Dim| nonempty(dim).is_positive();
        if self.view.buffer == other.view.buffer {
            return self.view.offset == other.view.offset && known(self.reach) && known(other.reach);
        }
        let (Some(usual), Some(other_usual)) = (self.usual, other.usual) else {
            return self.buffer.place == other.buffer.place && self.buffer.place != Place::Unplaced;
        };
        // Most are apart for usual sizes, which takes little to see.
        let apart = usual.1 <= other_usual.0 || other_usual.1 <= usual.0;
        !apart && {
            let ((start, end), (other_start, other_end)) = (self.bytes(), other.bytes());
            known(&(end - other_start)) && known(&(other_end - start))
        }
    }

    /// The first byte of the arena, and the first after them.
    fn bytes(&self) -> (Dim, Dim) {
        let Place::Arena(from) = &self.buffer.place else { unreachable!("K19: only what lies in the arena has bytes there") };
        let size = Dim::from(self.buffer.dtype.size());
        let start = from + &self.view.offset * &size;
        let end = &start + self.reach * &size;
        (start, end)
    }
}
