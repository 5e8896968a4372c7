//! Places in the arena: offsets as expressions, shared wherever lifetimes and proofs allow.
//!
//! Every computed buffer lives from the step that first writes it to the step that last touches it ([`lives`]). Large buffers are
//! placed first, each at the lowest offset where it is *proved*, for all sizes of symbols, to overlap no buffer that
//! lives at the same time. Never changes steps or kernels.

mod bytes;
mod taken;

use graver_ir::Target;
use graver_ir::dim::{Atom, Dim, Term};
use graver_ir::kernel::{Entry, Life, Place, Program, lives};
use rustc_hash::FxHashMap;

use bytes::{Basis, Bytes, Plain};
use taken::Taken;

/// A buffer to be placed.
#[derive(Clone)]
struct Item<T> {
    buffer: usize,
    life: Life,
    size: T,
}

/// What was placed.
struct Placed<T> {
    taken: Taken<T>,
    /// Of every buffer, its slot there.
    slots: Vec<(usize, usize)>,
    /// Where all of it ends.
    top: T,
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
    if unplaced.len() > MANY {
        let basis = Basis::of(sizes.iter().map(|size| &size.bytes));
        let zero = basis.zero();
        put(entry, &best(&items(&unplaced, &sizes, |bytes| basis.plain(bytes)), &zero), Plain::dim);
    } else {
        put(entry, &best(&items(&unplaced, &sizes, Dim::clone), &Dim::ZERO), Dim::clone);
    }
}

/// Writes places down.
fn put<T: Bytes>(entry: &mut Entry, placed: &Placed<T>, of: impl Fn(&T) -> Dim) {
    entry.arena = of(&placed.top);
    let starts: Vec<Dim> = placed.taken.starts().map(of).collect();
    for (buffer, slot) in &placed.slots {
        entry.buffers[*buffer].place = Place::Arena(starts[*slot].clone());
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

/// What is to be placed, with sizes as a plan computes with them.
fn items<T: Clone>(unplaced: &[Unplaced], sizes: &[Size], of: impl Fn(&Dim) -> T) -> Vec<Item<T>> {
    let sizes: Vec<T> = sizes.iter().map(|size| of(&size.bytes)).collect();
    unplaced.iter().map(|of| Item { buffer: of.buffer, life: of.life, size: sizes[of.size].clone() }).collect()
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

/// The lower of two plans: by size, and in an order that is better for usual sizes, where there is one.
fn best<T: Bytes>(items: &[Item<T>], zero: &T) -> Placed<T> {
    let Some(found) = better_order(items) else { return placed(items, zero) };
    let searched = placed(&found.order, zero);
    if searched.top.nominal() <= found.by_size {
        return searched;
    }
    let by_size = placed(items, zero);
    if by_size.top.nominal() < searched.top.nominal() { by_size } else { searched }
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
    let usual = |(place, item): (usize, &Item<T>)| Item { buffer: place, life: item.life, size: item.size.nominal() };
    let sizes: Vec<Item<i64>> = items.iter().enumerate().map(usual).collect();
    let (mut by_size, mut best) = (i64::MAX, None);
    for round in 0..rounds {
        let ordered: Vec<Item<i64>> = order.iter().map(|place| sizes[*place].clone()).collect();
        let Placed { taken, slots, top } = placed(&ordered, &0);
        if round == 0 {
            by_size = top;
        } else if best.as_ref().map_or(by_size, |(lowest, _)| *lowest) > top {
            best = Some((top, order.clone()));
        }
        let (highest, _) = *slots.iter().max_by_key(|(place, slot)| (*taken.end(*slot), *place))?;
        order.retain(|place| *place != highest);
        order.insert(0, highest);
    }
    best.map(|(_, order)| Found { order: order.into_iter().map(|place| items[place].clone()).collect(), by_size })
}

/// Fewer tries find little.
const FEWEST: usize = 8;
/// How often a plan is tried.
const ROUNDS: usize = 32;
/// Pairs of buffers that all tries together look at.
const WORK: usize = 2_000_000;

/// Every item at the lowest place where it is proved to meet none of those before it.
fn placed<T: Bytes>(items: &[Item<T>], zero: &T) -> Placed<T> {
    let mut placed = Placed { taken: Taken::nothing(), slots: Vec::with_capacity(items.len()), top: zero.clone() };
    for item in items {
        let slot = placed.taken.take(item.life, zero, &item.size);
        placed.top = placed.top.greater(placed.taken.end(slot));
        placed.slots.push((item.buffer, slot));
    }
    placed
}
