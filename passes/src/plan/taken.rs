//! What of the arena is taken, and the lowest place for more.
//!
//! What is placed at equal ranges is one slot, however often, and of two slots it is proved once that one ends no later than the other.

use graver_ir::kernel::Life;

use super::bytes::Bytes;

/// A range of the arena, for all sizes.
struct Slot<T> {
    start: T,
    end: T,
    /// Slots that are proved to end no later: a bit each.
    above: Vec<u64>,
}

impl<T> Slot<T> {
    fn is_above(&self, other: usize) -> bool {
        self.above.get(other / 64).is_some_and(|word| word & (1 << (other % 64)) != 0)
    }

    fn note_above(&mut self, other: usize) {
        if self.above.len() <= other / 64 {
            self.above.resize(other / 64 + 1, 0);
        }
        self.above[other / 64] |= 1 << (other % 64);
    }
}

/// Where something lies for usual sizes, and while what lives.
#[derive(Clone, Copy)]
struct Span {
    low: i64,
    high: i64,
    life: Life,
    slot: usize,
}

/// What is taken.
pub(super) struct Taken<T> {
    slots: Vec<Slot<T>>,
    /// Ascending; of equal ones, the one that was placed first.
    spans: Vec<Span>,
    /// Whether any is empty for usual sizes.
    any_empty: bool,
}

/// What wants a place.
struct Wanted<'a, T> {
    life: Life,
    size: &'a T,
    /// Of the size, for usual sizes.
    needed: i64,
    zero: &'a T,
}

/// Between what lives at the same time, for usual sizes: from where what is below ends, if anything is.
#[derive(Clone, Copy)]
struct Gap {
    cursor: i64,
    /// Its position among spans.
    below: Option<usize>,
}

impl<T: Bytes> Taken<T> {
    /// Nothing is taken.
    pub(super) fn nothing() -> Self {
        Self { slots: Vec::new(), spans: Vec::new(), any_empty: false }
    }

    /// Takes so many bytes at the lowest place where they are proved to meet nothing that lives at the same time; gives the slot.
    pub(super) fn take(&mut self, life: Life, zero: &T, size: &T) -> usize {
        let start = self.lowest(&Wanted { life, size, needed: size.nominal(), zero });
        self.add(start, life, size)
    }

    /// Where a slot ends.
    pub(super) fn end(&self, slot: usize) -> &T {
        &self.slots[slot].end
    }

    /// Where every slot begins.
    pub(super) fn starts(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|slot| &slot.start)
    }

    fn add(&mut self, start: T, life: Life, size: &T) -> usize {
        let end = start.plus(size);
        let (low, high) = (start.nominal(), end.nominal());
        let at = self.spans.partition_point(|other| (other.low, other.high) <= (low, high));
        let mut equal =
            self.spans[..at].iter().rev().take_while(|span| (span.low, span.high) == (low, high)).map(|span| span.slot);
        let known = equal.find(|slot| self.slots[*slot].start == start && self.slots[*slot].end == end);
        let slot = known.unwrap_or_else(|| {
            self.slots.push(Slot { start, end, above: Vec::new() });
            self.slots.len() - 1
        });
        self.any_empty |= low == high;
        self.spans.insert(at, Span { low, high, life, slot });
        slot
    }

    /// The first gap between what lives at the same time that is proved large enough for all sizes. Where it is not
    /// even for usual sizes, nothing is tried. Where none is proved, the place is above all of them.
    fn lowest(&mut self, wanted: &Wanted<'_, T>) -> T {
        let mut gap = Gap { cursor: 0, below: None };
        for at in 0..self.spans.len() {
            let span = self.spans[at];
            if !span.life.meets(wanted.life) {
                continue;
            }
            if span.low.saturating_sub(gap.cursor) >= wanted.needed && self.is_free(gap, wanted) {
                return self.begin(gap, wanted.zero).clone();
            }
            if span.high >= gap.cursor {
                gap = Gap { cursor: span.high, below: Some(at) };
            }
        }
        if self.is_free(gap, wanted) {
            return self.begin(gap, wanted.zero).clone();
        }
        let near = self.spans.iter().filter(|span| span.life.meets(wanted.life));
        near.fold(wanted.zero.clone(), |top, span| top.greater(&self.slots[span.slot].end))
    }

    /// Where a gap begins.
    fn begin<'a>(&'a self, gap: Gap, zero: &'a T) -> &'a T {
        gap.below.map_or(zero, |at| &self.slots[self.spans[at].slot].end)
    }

    /// Whether so many bytes from where a gap begins are proved to meet nothing.
    fn is_free(&mut self, gap: Gap, wanted: &Wanted<'_, T>) -> bool {
        if T::IS_NOMINAL {
            return true;
        }
        let end = self.begin(gap, wanted.zero).plus(wanted.size);
        let below = gap.below.map(|at| self.spans[at].slot);
        // If what is below is alive throughout, it meets all that this meets: of what is under it that was proved when the later of both was
        // placed.
        let outlives = |at: &usize| T::FOLLOWS && !self.any_empty && self.spans[*at].life.covers(wanted.life);
        let first = gap.below.filter(outlives).unwrap_or(0);
        for at in first..self.spans.len() {
            let other = self.spans[at];
            if !other.life.meets(wanted.life) {
                continue;
            }
            let proved = if other.low >= gap.cursor.saturating_add(wanted.needed) {
                self.slots[other.slot].start.is_at_least(&end)
            } else {
                self.ends_above(below, other.slot, wanted.zero)
            };
            if !proved {
                return false;
            }
        }
        true
    }

    /// Whether a slot, or the start of the arena, is proved to end no earlier than another slot.
    fn ends_above(&mut self, slot: Option<usize>, other: usize, zero: &T) -> bool {
        let Some(slot) = slot else { return zero.is_at_least(&self.slots[other].end) };
        let known = self.slots[slot].is_above(other);
        let proved = known || self.slots[slot].end.is_at_least(&self.slots[other].end);
        if proved && !known {
            self.slots[slot].note_above(other);
        }
        proved
    }
}

#[cfg(test)]
mod tests {
    use graver_ir::Symbol;
    use graver_ir::dim::Dim;
    use graver_ir::kernel::Life;
    use graver_testkit::Rng;

    use super::Taken;
    use crate::plan::bytes::Basis;

    /// Sizes of a few kinds and lives of all lengths, as deep models have them.
    fn wanted(rng: &mut Rng, count: usize) -> Vec<(Life, Dim)> {
        let [n, m] = ["n", "m"].map(|name| Dim::sym(&Symbol::new(name)));
        let mut one = || {
            let first = rng.below(100);
            let longest = if rng.once_in(3) { 100 } else { 4 };
            let last = first + rng.below(longest);
            let size = [&n * Dim::from(64), &m * Dim::from(128), &n * &m * Dim::from(4), Dim::from(256), Dim::ZERO][rng.below(5)]
                .clone();
            (Life { first, last }, size)
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn what_lives_at_once_is_apart_for_all_sizes() {
        for seed in 0..20 {
            let items = wanted(&mut Rng::named(&format!("plan {seed}")), 120);
            let basis = Basis::of(items.iter().map(|(_, size)| size));
            let (zero, mut taken) = (basis.zero(), Taken::nothing());
            let slots: Vec<usize> = items.iter().map(|(life, size)| taken.take(*life, &zero, &basis.plain(size))).collect();
            let places: Vec<(Dim, Dim)> = taken.slots.iter().map(|slot| (slot.start.dim(), slot.end.dim())).collect();
            assert!(places.len() < items.len(), "places are shared");
            for (x, (life, size)) in slots.iter().zip(&items) {
                assert_eq!(&places[*x].1 - &places[*x].0, *size);
                for (y, _) in slots.iter().zip(&items).filter(|(y, (other, _))| *y != x && other.meets(*life)) {
                    let [(start, end), (other_start, other_end)] = [&places[*x], &places[*y]];
                    assert!(
                        start.is_at_least(other_end) || other_start.is_at_least(end),
                        "seed {seed}: {start} and {other_start}"
                    );
                }
                let here = slots.iter().zip(&items).filter(|(y, (other, _))| *y == x && other.meets(*life)).count();
                assert!(here == 1 || *size == Dim::ZERO, "seed {seed}: two at once in one place");
            }
        }
    }
}
