//! Places in the arena: offsets as expressions, shared wherever lifetimes and proofs allow.
//!
//! Every computed buffer lives from the step that first writes it to the step that last touches it ([`lives`]). Large buffers are
//! placed first, each at the lowest offset where it is *proved*, for all sizes of symbols, to overlap no buffer that
//! lives at the same time. Never changes steps or kernels.

mod bytes;

use std::collections::BTreeMap;

use graver_ir::Target;
use graver_ir::dim::{Atom, Dim, Term};
use graver_ir::kernel::{Entry, Life, Place, Program, lives};

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

/// Gives every unplaced buffer its place.
pub(crate) fn run(program: &mut Program, target: &Target) {
    let alignment = i64::try_from(target.alignment).expect("alignments are small");
    for entry in &mut program.entries {
        plan(entry, alignment);
    }
}

fn plan(entry: &mut Entry, alignment: i64) {
    let unplaced = |(buffer, life): (usize, Option<Life>)| {
        let size = (entry.buffers[buffer].place == Place::Unplaced).then(|| entry.buffers[buffer].bytes())?;
        Some(Item { buffer, life: life?, size, start: Dim::ZERO })
    };
    let mut items: Vec<Item<Dim>> = lives(entry).into_iter().enumerate().filter_map(unplaced).collect();
    align(&mut items, alignment);
    items.sort_by_key(|item| (std::cmp::Reverse(item.size.nominal()), item.buffer));
    // Every pair of buffers that live at once is proved apart: of many, only what coefficients prove.
    let (places, arena) = if items.len() > MANY {
        let basis = Basis::of(items.iter().map(|item| &item.size));
        let (places, top) = best(&items.iter().map(|item| item.map(|dim| basis.plain(dim))).collect::<Vec<_>>(), &basis.zero());
        (places.iter().map(|item| item.map(Plain::dim)).collect(), top.dim())
    } else {
        best(&items, &Dim::ZERO)
    };
    entry.arena = arena;
    for item in places {
        entry.buffers[item.buffer].place = Place::Arena(item.start);
    }
}

/// Rounds sizes up: every coefficient, which keeps them polynomials that proofs are easy of, where that wastes little of a buffer or
/// of all bytes; else the value. Least waste first, equal sizes alike.
fn align(items: &mut [Item<Dim>], alignment: i64) {
    let total: i64 = items.iter().map(|item| item.size.nominal()).fold(0, i64::saturating_add);
    let mut sizes: BTreeMap<(i64, Dim), i64> = BTreeMap::new();
    for item in items.iter() {
        let rounded = rounded(&item.size, alignment);
        let waste = rounded.map_or(i64::MAX, |rounded| rounded.nominal() - item.size.nominal());
        *sizes.entry((waste, item.size.clone())).or_default() += 1;
    }
    let (mut left, mut aligned) = (total / WASTE, BTreeMap::new());
    for ((waste, size), count) in sizes {
        let small = waste <= size.nominal() / OWN_WASTE;
        let all = waste.saturating_mul(count);
        let exact = size.round_up(alignment);
        let new = if small || all <= left { rounded(&size, alignment).unwrap_or(exact) } else { exact };
        left -= if small { 0 } else { all.min(left) };
        aligned.insert(size, new);
    }
    items.iter_mut().for_each(|item| item.size = aligned[&item.size].clone());
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

/// The lower of two plans, with its height: in the order that was found for usual sizes, and by size, where that may be lower.
fn best<T: Bytes>(items: &[Item<T>], zero: &T) -> (Vec<Item<T>>, T) {
    let found = best_order(items);
    let searched = placed(&found.order, zero);
    if searched.1.nominal() <= found.by_size {
        return searched;
    }
    let by_size = placed(items, zero);
    if by_size.1.nominal() < searched.1.nominal() { by_size } else { searched }
}

/// The order of the lowest plan for usual sizes, and the height of that by size.
struct Found<T> {
    order: Vec<Item<T>>,
    by_size: i64,
}

/// Plans for usual sizes, with what stood highest placed first the next time.
fn best_order<T: Bytes>(items: &[Item<T>]) -> Found<T> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let sizes: Vec<Item<i64>> =
        items.iter().enumerate().map(|(place, item)| Item { buffer: place, ..item.map(T::nominal) }).collect();
    let mut best = (i64::MAX, order.clone());
    let mut by_size = None;
    let work = items.len() * items.len();
    for _ in 0..ROUNDS.min(WORK / (work + 1)) {
        let ordered: Vec<Item<i64>> = order.iter().map(|place| sizes[*place].clone()).collect();
        let (placed, height) = placed(&ordered, &0);
        by_size.get_or_insert(height);
        let Some(highest) = placed.iter().max_by_key(|item| (item.start + item.size, item.buffer)) else { break };
        if height < best.0 {
            best = (height, order.clone());
        }
        order.retain(|place| *place != highest.buffer);
        order.insert(0, highest.buffer);
    }
    Found { order: best.1.into_iter().map(|place| items[place].clone()).collect(), by_size: by_size.unwrap_or(i64::MAX) }
}

/// How often a plan is tried.
const ROUNDS: usize = 32;
/// Pairs of buffers that all tries together look at.
const WORK: usize = 8_000_000;

/// Every item at the lowest place where it is proved to meet none of those before it, and the height of all.
fn placed<T: Bytes>(items: &[Item<T>], zero: &T) -> (Vec<Item<T>>, T) {
    let mut placed: Vec<Item<T>> = Vec::with_capacity(items.len());
    let (mut all, mut top): (Vec<Taken<T>>, T) = (Vec::with_capacity(items.len()), zero.clone());
    // Ascending for usual sizes: numbers, for what is taken is large to be moved.
    let mut order: Vec<usize> = Vec::with_capacity(items.len());
    for item in items {
        let taken: Vec<&Taken<T>> = order.iter().map(|place| &all[*place]).filter(|other| other.life.meets(item.life)).collect();
        let item = Item { start: lowest(&taken, zero, &item.size), ..item.clone() };
        let own = Taken::of(&item);
        top = top.greater(&own.end);
        let key = |place: &usize| (all[*place].low, all[*place].high);
        order.insert(order.partition_point(|place| key(place) <= (own.low, own.high)), all.len());
        all.push(own);
        placed.push(item);
    }
    (placed, top)
}

/// A range that is taken, and where it lies for usual sizes.
struct Taken<T> {
    life: Life,
    start: T,
    end: T,
    low: i64,
    high: i64,
}

impl<T: Bytes> Taken<T> {
    fn of(item: &Item<T>) -> Self {
        let end = item.start.plus(&item.size);
        Self { life: item.life, start: item.start.clone(), low: item.start.nominal(), high: end.nominal(), end }
    }
}

/// The first gap between what is taken (ascending for usual sizes) that is proved large enough for all sizes. Where it is not
/// even for usual sizes, nothing is tried. Where none is proved, the place is above all of them.
fn lowest<T: Bytes>(taken: &[&Taken<T>], zero: &T, size: &T) -> T {
    let needed = size.nominal();
    let (mut cursor, mut start) = (0, zero);
    let free = |cursor: i64, start: &T| {
        if T::IS_NOMINAL {
            return true;
        }
        let end = start.plus(size);
        let apart = |other: &&Taken<T>| {
            if other.low >= cursor.saturating_add(needed) { other.start.is_at_least(&end) } else { start.is_at_least(&other.end) }
        };
        taken.iter().all(apart)
    };
    for other in taken {
        if other.low.saturating_sub(cursor) >= needed && free(cursor, start) {
            return start.clone();
        }
        if other.high >= cursor {
            (cursor, start) = (other.high, &other.end);
        }
    }
    if free(cursor, start) { start.clone() } else { taken.iter().fold(zero.clone(), |top, other| top.greater(&other.end)) }
}
