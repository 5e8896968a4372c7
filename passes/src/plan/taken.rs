//! What of the arena is taken, and the lowest place for more.
//!
//! What is placed at equal ranges is one slot, however often, and of two slots it is proved once that one ends no later than the other.

use graver_ir::kernel::Life;

use super::bytes::Bytes;

/// A range of the arena, for all sizes, with the lives of what is placed there.
struct Slot<T> {
    start: T,
    end: T,
    /// In order of time, no two of which meet unless the range is empty for usual sizes: then there is one.
    lives: Vec<Life>,
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

    /// The first of its lives that ends no earlier than another begins.
    fn at(&self, life: Life) -> Option<Life> {
        self.lives.get(self.lives.partition_point(|own| own.last < life.first)).copied()
    }
}

/// Where a slot lies for usual sizes.
#[derive(Clone, Copy)]
struct Span {
    low: i64,
    high: i64,
    /// The first and the last place of its lives.
    hull: Life,
    /// Whether those are several.
    pauses: bool,
    slot: usize,
}

/// What is taken.
pub(super) struct Taken<T> {
    slots: Vec<Slot<T>>,
    /// Ascending.
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
        let equal = self.spans[..at].iter_mut().rev().take_while(|span| (span.low, span.high) == (low, high) && low < high);
        let slots = &mut self.slots;
        if let Some(span) = equal.into_iter().find(|span| slots[span.slot].start == start && slots[span.slot].end == end) {
            let lives = &mut slots[span.slot].lives;
            lives.insert(lives.partition_point(|own| own.first < life.first), life);
            (span.hull, span.pauses) = (span.hull.with(life), true);
            return span.slot;
        }
        self.any_empty |= low == high;
        self.spans.insert(at, Span { low, high, hull: life, pauses: false, slot: slots.len() });
        slots.push(Slot { start, end, lives: vec![life], above: Vec::new() });
        slots.len() - 1
    }

    /// Whether anything in it lives at the same time.
    fn meets(&self, span: &Span, life: Life) -> bool {
        span.hull.meets(life) && (!span.pauses || self.slots[span.slot].at(life).is_some_and(|own| own.meets(life)))
    }

    /// The first gap between what lives at the same time that is proved large enough for all sizes. Where it is not
    /// even for usual sizes, nothing is tried. Where none is proved, the place is above all of them.
    fn lowest(&mut self, wanted: &Wanted<'_, T>) -> T {
        let mut gap = Gap { cursor: 0, below: None };
        for at in 0..self.spans.len() {
            let span = self.spans[at];
            if !self.meets(&span, wanted.life) {
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
        let near = self.spans.iter().filter(|span| self.meets(span, wanted.life));
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
        let outlives = |slot: usize| self.slots[slot].at(wanted.life).is_some_and(|own| own.covers(wanted.life));
        let is_known = T::FOLLOWS && !self.any_empty && below.is_some_and(outlives);
        let first = gap.below.filter(|_| is_known).unwrap_or(0);
        for at in first..self.spans.len() {
            let other = self.spans[at];
            if !self.meets(&other, wanted.life) {
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
