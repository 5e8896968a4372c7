//! Places in the arena: offsets as expressions, shared wherever lifetimes and proofs allow.
//!
//! Every computed buffer lives from the step that first writes it to the step that last touches it ([`lives`]). Large buffers are
//! placed first, each at the lowest offset where it is *proved*, for all sizes of symbols, to overlap no buffer that
//! lives at the same time. Never changes steps or kernels.

mod bytes;

use graver_ir::Target;
use graver_ir::dim::{Atom, Dim, Term};
use graver_ir::kernel::{Entry, Life, Place, Program, lives};
use rustc_hash::FxHashMap;

use bytes::{Basis, Bytes, Plain};

/// A buffer to be placed, or with its place.
#[derive(Clone)]
struct Item<T> {
    buffer: usize,
    life: Life,
    size: T,
    start: T,
}

impl<T> Item<T> {
    fn map<U>(&self, of: impl Fn(&T) -> U) -> Item<U> {
        Item { buffer: self.buffer, life: self.life, size: of(&self.size), start: of(&self.start) }
    }
}

/// A size of bytes, and how many buffers have it.
struct Size {
    bytes: Dim,
    count: i64,
}

/// A buffer, while it lives, and which [`Size`] it has.
struct Unplaced {
    buffer: usize,
    life: Life,
    size: usize,
}

/// Gives every unplaced buffer its place.
pub(crate) fn run(program: &mut Program, target: &Target) {
    let alignment = i64::try_from(target.alignment).expect("alignments are small");
    for entry in &mut program.entries {
        plan(entry, alignment);
    }
}

fn plan(entry: &mut Entry, alignment: i64) {
    let (mut sizes, mut unplaced) = unplaced(entry);
    align(&mut sizes, alignment);
    let usual: Vec<i64> = sizes.iter().map(|size| size.bytes.nominal()).collect();
    unplaced.sort_by_key(|of| (std::cmp::Reverse(usual[of.size]), of.buffer));
    // Every pair of buffers that live at once is proved apart: of many, only what coefficients prove.
    let (places, arena) = if unplaced.len() > MANY {
        let basis = Basis::of(sizes.iter().map(|size| &size.bytes));
        let (places, top) = best(&items(&unplaced, &sizes, &basis.zero(), |bytes| basis.plain(bytes)), &basis.zero());
        (places.iter().map(|item| item.map(Plain::dim)).collect(), top.dim())
    } else {
        best(&items(&unplaced, &sizes, &Dim::ZERO, Dim::clone), &Dim::ZERO)
    };
    entry.arena = arena;
    for item in places {
        entry.buffers[item.buffer].place = Place::Arena(item.start);
    }
}

/// The buffers that want a place, and the sizes that they have, each once.
fn unplaced(entry: &Entry) -> (Vec<Size>, Vec<Unplaced>) {
    let mut sizes: Vec<Size> = Vec::new();
    let (mut of_shape, mut of_bytes) = (FxHashMap::default(), FxHashMap::default());
    let mut found = Vec::new();
    for (buffer, life) in lives(entry).into_iter().enumerate() {
        let of = &entry.buffers[buffer];
        let (Some(life), Place::Unplaced) = (life, &of.place) else { continue };
        let size = *of_shape.entry((&of.shape, of.dtype)).or_insert_with(|| {
            let bytes = of.bytes();
            *of_bytes.entry(bytes.clone()).or_insert_with(|| {
                sizes.push(Size { bytes, count: 0 });
                sizes.len() - 1
            })
        });
        sizes[size].count += 1;
        found.push(Unplaced { buffer, life, size });
    }
    (sizes, found)
}

/// What is to be placed, at 0, with sizes as a plan computes with them.
fn items<T: Clone>(unplaced: &[Unplaced], sizes: &[Size], zero: &T, of: impl Fn(&Dim) -> T) -> Vec<Item<T>> {
    let sizes: Vec<T> = sizes.iter().map(|size| of(&size.bytes)).collect();
    let item = |of: &Unplaced| Item { buffer: of.buffer, life: of.life, size: sizes[of.size].clone(), start: zero.clone() };
    unplaced.iter().map(item).collect()
}

/// Rounds sizes up: every coefficient, which keeps them polynomials that proofs are easy of, where that wastes little of a buffer or
/// of all bytes; else the value. Least waste first.
fn align(sizes: &mut [Size], alignment: i64) {
    let total = sizes.iter().map(|size| size.bytes.nominal().saturating_mul(size.count)).fold(0, i64::saturating_add);
    let rounded: Vec<Option<Dim>> = sizes.iter().map(|size| rounded(&size.bytes, alignment)).collect();
    let waste =
        |place: usize| rounded[place].as_ref().map_or(i64::MAX, |rounded| rounded.nominal() - sizes[place].bytes.nominal());
    let mut order: Vec<(i64, usize)> = (0..sizes.len()).map(|place| (waste(place), place)).collect();
    order.sort_by(|(x, a), (y, b)| (x, &sizes[*a].bytes).cmp(&(y, &sizes[*b].bytes)));
    let mut left = total / WASTE;
    for (waste, place) in order {
        let Size { bytes, count } = &mut sizes[place];
        let small = waste <= bytes.nominal() / OWN_WASTE;
        let all = waste.saturating_mul(*count);
        let fits = small || all <= left;
        // What does not fit leaves nothing to those that waste more.
        left -= if small { 0 } else { all.min(left) };
        *bytes = rounded[place].clone().filter(|_| fits).unwrap_or_else(|| bytes.round_up(alignment));
    }
}

/// Every coefficient of a polynomial rounded up, if the result is never less.
fn rounded(bytes: &Dim, alignment: i64) -> Option<Dim> {
    let round = |term: Term| {
        let coeff = term.coeff.checked_add(alignment - 1).map_or(term.coeff, |coeff| coeff / alignment * alignment);
        term.atoms.into_iter().fold(Dim::from(coeff), |product, atom| product * Dim::atom(atom))
    };
    let terms = bytes.terms();
    let grows = terms.iter().all(|term| term.coeff > 0 && term.atoms.iter().all(|atom| matches!(atom, Atom::Sym(_))));
    grows.then(|| terms.into_iter().map(round).sum())
}

/// So many buffers are many.
const MANY: usize = 256;

/// One part in so many of all bytes may be lost to alignment.
const WASTE: i64 = 24;
/// Or one part in so many of a buffer's own.
const OWN_WASTE: i64 = 16;

/// The lower of two plans, with its height: by size, and in an order that is better for usual sizes, where there is one.
fn best<T: Bytes>(items: &[Item<T>], zero: &T) -> (Vec<Item<T>>, T) {
    let Some(found) = better_order(items) else { return placed(items, zero) };
    let searched = placed(&found.order, zero);
    if searched.1.nominal() <= found.by_size {
        return searched;
    }
    let by_size = placed(items, zero);
    if by_size.1.nominal() < searched.1.nominal() { by_size } else { searched }
}

/// An order whose plan is lower for usual sizes than that by size, and the height of that one.
struct Found<T> {
    order: Vec<Item<T>>,
    by_size: i64,
}

/// Plans for usual sizes, first by size, with what stood highest placed first the next time.
fn better_order<T: Bytes>(items: &[Item<T>]) -> Option<Found<T>> {
    let rounds = ROUNDS.min(WORK / (items.len() * items.len() + 1));
    if rounds < FEWEST {
        return None;
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    let sizes: Vec<Item<i64>> =
        items.iter().enumerate().map(|(place, item)| Item { buffer: place, ..item.map(T::nominal) }).collect();
    let (mut by_size, mut best) = (i64::MAX, None);
    for round in 0..rounds {
        let ordered: Vec<Item<i64>> = order.iter().map(|place| sizes[*place].clone()).collect();
        let (placed, height) = placed(&ordered, &0);
        if round == 0 {
            by_size = height;
        } else if best.as_ref().map_or(by_size, |(lowest, _)| *lowest) > height {
            best = Some((height, order.clone()));
        }
        let highest = placed.iter().max_by_key(|item| (item.start + item.size, item.buffer))?;
        order.retain(|place| *place != highest.buffer);
        order.insert(0, highest.buffer);
    }
    best.map(|(_, order)| Found { order: order.into_iter().map(|place| items[place].clone()).collect(), by_size })
}

/// Fewer tries find little.
const FEWEST: usize = 8;
/// How often a plan is tried.
const ROUNDS: usize = 32;
/// Pairs of buffers that all tries together look at.
const WORK: usize = 2_000_000;

/// Every item at the lowest place where it is proved to meet none of those before it, and the height of all.
fn placed<T: Bytes>(items: &[Item<T>], zero: &T) -> (Vec<Item<T>>, T) {
    let mut placed: Vec<Item<T>> = Vec::with_capacity(items.len());
    let mut top = zero.clone();
    let mut taken = Taken { ends: Vec::with_capacity(items.len()), spans: Vec::with_capacity(items.len()), any_empty: false };
    let mut near = Vec::new();
    for item in items {
        let start = taken.lowest(&mut near, &placed, item.life, zero, &item.size);
        let item = Item { start, ..item.clone() };
        top = top.greater(taken.add(&item));
        placed.push(item);
    }
    (placed, top)
}

/// What is taken.
struct Taken<T> {
    /// By place in the order of placing.
    ends: Vec<T>,
    /// Ascending.
    spans: Vec<Span>,
    /// Whether any of them is empty for usual sizes.
    any_empty: bool,
}

/// Where a range that is taken lies for usual sizes, and while what lives.
#[derive(Clone, Copy)]
struct Span {
    low: i64,
    high: i64,
    life: Life,
    /// In the order of placing.
    place: usize,
}

impl<T: Bytes> Taken<T> {
    /// Takes what an item covers, and gives its end.
    fn add(&mut self, item: &Item<T>) -> &T {
        let (place, end) = (self.ends.len(), item.start.plus(&item.size));
        let span = Span { low: item.start.nominal(), high: end.nominal(), life: item.life, place };
        let before = |other: &Span| (other.low, other.high) <= (span.low, span.high);
        self.any_empty |= span.low == span.high;
        self.spans.insert(self.spans.partition_point(before), span);
        self.ends.push(end);
        &self.ends[place]
    }

    /// Which spans live at the same time: without a branch that nobody could foresee, for every item asks this of all before it.
    fn meeting<'a>(&self, life: Life, near: &'a mut Vec<usize>) -> &'a [usize] {
        near.resize(near.len().max(self.spans.len()), 0);
        let mut count = 0;
        for (at, span) in self.spans.iter().enumerate() {
            near[count] = at;
            count += usize::from(span.life.meets(life));
        }
        &near[..count]
    }

    /// The first gap between what lives at the same time that is proved large enough for all sizes. Where it is not
    /// even for usual sizes, nothing is tried. Where none is proved, the place is above all of them.
    fn lowest(&self, near: &mut Vec<usize>, placed: &[Item<T>], life: Life, zero: &T, size: &T) -> T {
        let needed = size.nominal();
        let others = self.meeting(life, near);
        let span = |place: usize| &self.spans[others[place]];
        // `below` ends where the gap starts.
        let free = |cursor: i64, start: &T, below: Option<usize>| {
            if T::IS_NOMINAL {
                return true;
            }
            let end = start.plus(size);
            // If `below` is alive throughout, it meets all that this meets: of what is under it that was proved when the later of both was placed.
            let outlives = |below: &usize| T::FOLLOWS && !self.any_empty && span(*below).life.covers(life);
            let first = below.filter(outlives).unwrap_or(0);
            let below = below.map(span);
            // Of what `below` lives with, and which is below it and not empty for usual sizes, that was proved when the later of both was
            // placed.
            let is_known = |other: &Span| {
                let lies_below = |below: &Span| other.low < other.high && other.high <= below.low;
                T::FOLLOWS && below.is_some_and(|below| lies_below(below) && other.life.meets(below.life))
            };
            let apart = |other: &Span| {
                let is_above = other.low >= cursor.saturating_add(needed);
                if is_above {
                    placed[other.place].start.is_at_least(&end)
                } else {
                    is_known(other) || start.is_at_least(&self.ends[other.place])
                }
            };
            (first..others.len()).all(|place| apart(span(place)))
        };
        let (mut cursor, mut start, mut below) = (0, zero, None);
        for (place, other) in others.iter().map(|at| &self.spans[*at]).enumerate() {
            if other.low.saturating_sub(cursor) >= needed && free(cursor, start, below) {
                return start.clone();
            }
            if other.high >= cursor {
                (cursor, start, below) = (other.high, &self.ends[other.place], Some(place));
            }
        }
        if free(cursor, start, below) {
            start.clone()
        } else {
            others.iter().fold(zero.clone(), |top, at| top.greater(&self.ends[self.spans[*at].place]))
        }
    }
}
