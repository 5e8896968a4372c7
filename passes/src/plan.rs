//! Places in the arena: offsets as expressions, shared wherever lifetimes and proofs allow.
//!
//! Every computed buffer lives from the step that first writes it to the step that last touches it ([`lives`]). Large buffers are
//! placed first, each at the lowest offset where it is *proved*, for all sizes of symbols, to overlap no buffer that
//! lives at the same time. Never changes steps or kernels.

use std::collections::BTreeMap;

use graver_ir::Target;
use graver_ir::dim::{Atom, Dim, Term};
use graver_ir::kernel::{Entry, Life, Place, Program, lives};

/// A buffer to be placed, or with its place.
#[derive(Clone)]
struct Item<T> {
    buffer: usize,
    life: Life,
    size: T,
    start: T,
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
    // Every pair of buffers that live at once is proved apart: of many, only what little work proves.
    let not_below = if items.len() > MANY { Dim::is_plainly_at_least } else { Dim::is_at_least };
    let chosen = [best_order(&items), items].map(|order| placed(&order, &not_below));
    let [searched, by_size] = chosen.map(|placed| (top(&placed).nominal(), placed));
    let placed = if by_size.0 < searched.0 { by_size.1 } else { searched.1 };
    entry.arena = top(&placed);
    for item in placed {
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
/// So many that live at once are.
const MANY_AT_ONCE: usize = 64;

/// One part in so many of all bytes may be lost to alignment.
const WASTE: i64 = 24;
/// Or one part in so many of a buffer's own.
const OWN_WASTE: i64 = 16;

fn top(placed: &[Item<Dim>]) -> Dim {
    placed.iter().fold(Dim::ZERO, |top, item| top.greater(&(&item.start + &item.size)))
}

/// Plans for usual sizes, with what stood highest placed first the next time: the order of the lowest plan.
fn best_order(items: &[Item<Dim>]) -> Vec<Item<Dim>> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let sizes: Vec<Item<i64>> = items
        .iter()
        .enumerate()
        .map(|(place, item)| Item { buffer: place, life: item.life, size: item.size.nominal(), start: 0 })
        .collect();
    let mut best = (i64::MAX, order.clone());
    for _ in 0..ROUNDS.min(WORK / (items.len() + 1)) {
        let ordered: Vec<Item<i64>> = order.iter().map(|place| sizes[*place].clone()).collect();
        let placed = placed(&ordered, &|to, from| to >= from);
        let Some(highest) = placed.iter().max_by_key(|item| (item.start + item.size, item.buffer)) else { break };
        let height = highest.start + highest.size;
        if height < best.0 {
            best = (height, order.clone());
        }
        order.retain(|place| *place != highest.buffer);
        order.insert(0, highest.buffer);
    }
    best.1.into_iter().map(|place| items[place].clone()).collect()
}

/// How often a plan is tried.
const ROUNDS: usize = 32;
/// Bounds the rounds for many buffers.
const WORK: usize = 20_000;

/// How deep maxima may nest in an offset: proofs look into both sides of each, so their cost doubles with every level.
const DEEPEST: usize = 2;

fn nesting(dim: &Dim) -> usize {
    let of = |atom: &Atom| match atom {
        Atom::Max(x, y) => 1 + nesting(x).max(nesting(y)),
        Atom::Min(x, y) | Atom::FloorDiv(x, y) | Atom::Mod(x, y) => nesting(x).max(nesting(y)),
        Atom::Sym(_) | Atom::Axis(_) => 0,
    };
    dim.terms().iter().flat_map(|term| &term.atoms).map(of).max().unwrap_or(0)
}

/// An offset, of positive terms, without maxima: not below it.
fn flat(dim: &Dim) -> Dim {
    dim.substitute(&|atom| match atom {
        Atom::Max(x, y) => Some(bound(&flat(x), &flat(y))),
        Atom::Sym(_) | Atom::Axis(_) | Atom::Min(..) | Atom::FloorDiv(..) | Atom::Mod(..) => None,
    })
}

/// The greater coefficient of every term: not below either, since sizes are not negative.
fn bound(x: &Dim, y: &Dim) -> Dim {
    let mut greatest: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
    for term in x.terms().into_iter().chain(y.terms()) {
        let coeff = greatest.entry(term.atoms).or_insert(0);
        *coeff = term.coeff.max(*coeff);
    }
    let product = |(atoms, coeff): (Vec<Atom>, i64)| atoms.into_iter().fold(Dim::from(coeff), |x, atom| x * Dim::atom(atom));
    greatest.into_iter().map(product).sum()
}

/// A size as the plan computes with it.
trait Bytes: Clone {
    fn zero() -> Self;
    fn plus(&self, other: &Self) -> Self;
    fn greater(&self, other: &Self) -> Self;
    fn rank(&self) -> i64;
}

impl Bytes for Dim {
    fn zero() -> Self {
        Self::ZERO
    }

    fn plus(&self, other: &Self) -> Self {
        self + other
    }

    fn greater(&self, other: &Self) -> Self {
        if self.is_plainly_at_least(other) {
            return self.clone();
        }
        if other.is_plainly_at_least(self) {
            return other.clone();
        }
        let exact = self.max_with(other);
        if nesting(&exact) <= DEEPEST { exact } else { bound(&flat(self), &flat(other)) }
    }

    fn rank(&self) -> i64 {
        self.nominal()
    }
}

impl Bytes for i64 {
    fn zero() -> Self {
        0
    }

    fn plus(&self, other: &Self) -> Self {
        self.saturating_add(*other)
    }

    fn greater(&self, other: &Self) -> Self {
        *self.max(other)
    }

    fn rank(&self) -> i64 {
        *self
    }
}

/// Every item at the lowest place where it is proved to meet none of those before it.
fn placed<T: Bytes>(items: &[Item<T>], not_below: &dyn Fn(&T, &T) -> bool) -> Vec<Item<T>> {
    let mut placed: Vec<Item<T>> = Vec::with_capacity(items.len());
    let (mut all, mut top): (Vec<Taken<T>>, T) = (Vec::with_capacity(items.len()), T::zero());
    for item in items {
        let taken: Vec<&Taken<T>> = all.iter().filter(|other| other.life.meets(item.life)).collect();
        let item = Item { start: lowest(&taken, &top, &item.size, not_below), ..item.clone() };
        let own = Taken::of(&item);
        top = top.greater(&own.end);
        all.insert(all.partition_point(|other| (other.low, other.high) <= (own.low, own.high)), own);
        placed.push(item);
    }
    placed
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
        Self { life: item.life, start: item.start.clone(), low: item.start.rank(), high: end.rank(), end }
    }
}

/// The first gap between what is taken (ascending for usual sizes) that is proved large enough for all sizes. Where it is not
/// even for usual sizes, nothing is tried. Where none is proved, the place is above all of them; of many, above everything, which is known.
fn lowest<T: Bytes>(taken: &[&Taken<T>], top: &T, size: &T, not_below: &dyn Fn(&T, &T) -> bool) -> T {
    let (needed, zero) = (size.rank(), T::zero());
    let (mut cursor, mut start) = (0, &zero);
    let free = |cursor: i64, start: &T| {
        let end = start.plus(size);
        let apart = |other: &&Taken<T>| {
            if other.low >= cursor.saturating_add(needed) { not_below(&other.start, &end) } else { not_below(start, &other.end) }
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
    if free(cursor, start) {
        start.clone()
    } else if taken.len() > MANY_AT_ONCE {
        top.clone()
    } else {
        taken.iter().fold(zero.clone(), |top, other| top.greater(&other.end))
    }
}
