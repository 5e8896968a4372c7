//! When buffers hold something. Steps are numbered in the order of the text: a launch has one place; a branch has one for its
//! condition, before both lists; a loop has one before and one after what is inside.
//!
//! A buffer that is touched inside of a loop and outside of it is alive in all of the loop: it comes from before, or is there
//! for what comes after. What is carried is alive in all of the loop too, and since both buffers of a pair exchange their
//! memory, they live equally long.

use std::ops::RangeInclusive;

use super::{BufferId, Carry, Entry, Place, Step};
use crate::dim::Sizes;
use crate::error::Error;

/// The places at which a buffer holds something, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first place that touches it.
    pub first: usize,
    /// The last place that touches it.
    pub last: usize,
}

impl Life {
    /// Whether both are alive at one place.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        (self.first <= other.last) & (other.first <= self.last)
    }

    /// Whether it is alive wherever the other is.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        (self.first <= other.first) & (other.last <= self.last)
    }

    /// The least that covers both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// When each buffer of the entry is alive; `None` where no step touches it.
#[must_use]
pub fn lives(entry: &Entry) -> Vec<Option<Life>> {
    let mut walk = Walk { at: 0, touches: vec![Vec::new(); entry.buffers.len()], loops: Vec::new(), carried: Vec::new() };
    walk.all(&entry.steps);
    let mut lives: Vec<Option<Life>> = walk.touches.iter().map(|touches| walk.life(touches)).collect();
    for (carry, range) in &walk.carried {
        let [now, next] = [carry.now, carry.next].map(|buffer| buffer.0 as usize);
        let whole = Life { first: *range.start(), last: *range.end() };
        let life = [lives[now], lives[next]].into_iter().flatten().fold(whole, Life::with);
        (lives[now], lives[next]) = (Some(life), Some(life));
    }
    lives
}

/// The bytes of computed buffers that are alive at every place, for these sizes. No plan is below the greatest.
///
/// # Errors
/// If a size has no value.
pub fn live_bytes(entry: &Entry, sizes: &Sizes) -> Result<Vec<i64>, Error> {
    let mut live = vec![0i64; places(&entry.steps)];
    for (buffer, life) in entry.buffers.iter().zip(lives(entry)) {
        if let (Place::Arena(_) | Place::Unplaced, Some(life)) = (&buffer.place, life) {
            let bytes = buffer.bytes().eval(sizes).map_err(|error| Error::new(error.to_string()))?;
            live[life.first..=life.last].iter_mut().for_each(|sum| *sum = sum.saturating_add(bytes));
        }
    }
    Ok(live)
}

/// The place of every launch, in the order of [`super::launches`].
#[must_use]
pub fn launch_places(steps: &[Step]) -> Vec<usize> {
    let (mut at, mut found) = (0, Vec::new());
    note_launches(steps, &mut at, &mut found);
    found
}

fn note_launches(steps: &[Step], at: &mut usize, found: &mut Vec<usize>) {
    for step in steps {
        match step {
            Step::Launch(_) => found.push(*at),
            Step::If(_) | Step::Loop(_) => {}
        }
        *at += 1;
        step.inner().into_iter().for_each(|inner| note_launches(inner, at, found));
        *at += own_places(step) - 1;
    }
}

/// How many places the steps have.
fn places(steps: &[Step]) -> usize {
    steps.iter().map(|step| own_places(step) + step.inner().into_iter().map(places).sum::<usize>()).sum()
}

fn own_places(step: &Step) -> usize {
    match step {
        Step::Launch(_) | Step::If(_) => 1,
        Step::Loop(_) => 2,
    }
}

struct Walk {
    at: usize,
    /// By buffer, ascending.
    touches: Vec<Vec<usize>>,
    loops: Vec<RangeInclusive<usize>>,
    carried: Vec<(Carry, RangeInclusive<usize>)>,
}

impl Walk {
    fn all(&mut self, steps: &[Step]) {
        for step in steps {
            let start = self.at;
            if let Step::Loop(of) = step {
                // Touched at the end too: the last test comes there.
                self.at += 1;
                step.inner().into_iter().for_each(|inner| self.all(inner));
                step.views().into_iter().for_each(|view| self.touch(view.buffer));
                self.loops.push(start..=self.at);
                self.carried.extend(of.carry.iter().map(|carry| (*carry, start..=self.at)));
                self.at += 1;
            } else {
                step.views().into_iter().for_each(|view| self.touch(view.buffer));
                self.at += 1;
                step.inner().into_iter().for_each(|inner| self.all(inner));
            }
        }
    }

    fn touch(&mut self, buffer: BufferId) {
        self.touches[buffer.0 as usize].push(self.at);
    }

    fn life(&self, touches: &[usize]) -> Option<Life> {
        let own = Life { first: *touches.first()?, last: *touches.last()? };
        let crosses = |range: &&RangeInclusive<usize>| {
            let inside = touches.iter().filter(|at| range.contains(at)).count();
            0 < inside && inside < touches.len()
        };
        let crossed = self.loops.iter().filter(crosses).map(|range| Life { first: *range.start(), last: *range.end() });
        Some(crossed.fold(own, Life::with))
    }
}
