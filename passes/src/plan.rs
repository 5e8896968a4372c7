//! Places in the arena: offsets as expressions, shared wherever lifetimes and proofs allow.
//!
//! Every computed buffer lives from the step that first writes it to the step that last touches it. Large buffers are
//! placed first, each at the lowest offset where it is *proved*, for all sizes of symbols, to overlap no buffer that
//! lives at the same time. Never changes steps or kernels.

use graver_ir::dim::{Atom, Dim, Sizes};
use graver_ir::kernel::{Entry, Place, Program, Step};
use graver_ir::{Error, Target};

/// The steps at which a buffer holds something, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first step that touches it.
    pub first: usize,
    /// The last step that touches it.
    pub last: usize,
}

impl Life {
    fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// A buffer that has its place.
struct Placed {
    life: Life,
    start: Dim,
    end: Dim,
}

/// Gives every unplaced buffer its place.
pub(crate) fn run(program: &mut Program, target: &Target) {
    let alignment = i64::try_from(target.alignment).expect("alignments are small");
    for entry in &mut program.entries {
        plan(entry, alignment);
    }
}

fn plan(entry: &mut Entry, alignment: i64) {
    let lives = lives(entry);
    let mut order: Vec<usize> =
        (0..entry.buffers.len()).filter(|buffer| entry.buffers[*buffer].place == Place::Unplaced).collect();
    order.sort_by_key(|buffer| (std::cmp::Reverse(nominal(&entry.buffers[*buffer].bytes())), *buffer));
    let mut placed: Vec<Placed> = Vec::new();
    for buffer in order {
        let Some(life) = lives[buffer] else {
            entry.buffers[buffer].place = Place::Arena(Dim::ZERO);
            continue;
        };
        let size = entry.buffers[buffer].bytes().round_up(alignment);
        let start = lowest(&placed, life, &size);
        entry.buffers[buffer].place = Place::Arena(start.clone());
        let end = &start + &size;
        entry.arena = entry.arena.max_with(&end);
        placed.push(Placed { life, start, end });
    }
}

/// The lowest offset that is proved free while the buffer lives.
fn lowest(placed: &[Placed], life: Life, size: &Dim) -> Dim {
    let others: Vec<&Placed> = placed.iter().filter(|other| other.life.meets(life)).collect();
    let mut starts: Vec<&Dim> = others.iter().map(|other| &other.end).collect();
    starts.sort_by_key(|start| nominal(start));
    let zero = Dim::ZERO;
    let free = |start: &&Dim| {
        let end = *start + size;
        others.iter().all(|other| (&other.start - &end).is_nonneg() || (*start - &other.end).is_nonneg())
    };
    let found = std::iter::once(&zero).chain(starts.iter().copied()).find(free);
    found.cloned().unwrap_or_else(|| others.iter().fold(Dim::ZERO, |top, other| top.max_with(&other.end)))
}

/// When each buffer of the entry is alive; `None` where no step touches it.
#[must_use]
pub fn lives(entry: &Entry) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; entry.buffers.len()];
    for (place, step) in entry.steps.iter().enumerate() {
        let Step::Launch(launch) = step;
        for view in &launch.args {
            let life = &mut lives[view.buffer.0 as usize];
            *life = Some(Life { first: life.map_or(place, |life| life.first), last: place });
        }
    }
    lives
}

/// The most bytes of computed buffers that are alive at one step, for these sizes: no plan is below it.
///
/// # Errors
/// If a size has no value.
pub fn live_peak(entry: &Entry, sizes: &Sizes) -> Result<i64, Error> {
    let lives = lives(entry);
    let mut live = vec![0i64; entry.steps.len()];
    for (buffer, life) in entry.buffers.iter().zip(lives) {
        if let (Place::Arena(_) | Place::Unplaced, Some(life)) = (&buffer.place, life) {
            let bytes = buffer.bytes().eval(sizes).map_err(|error| Error::new(error.to_string()))?;
            live[life.first..=life.last].iter_mut().for_each(|sum| *sum += bytes);
        }
    }
    Ok(live.into_iter().max().unwrap_or(0))
}

/// A number to compare sizes by: every symbol is taken as 64, within its range. Decides order, never correctness.
pub(crate) fn nominal(dim: &Dim) -> i64 {
    let value = dim.eval_with(&mut |atom| match atom {
        Atom::Sym(symbol) => Some(64.clamp(symbol.decl().lo, symbol.decl().hi)),
        Atom::Axis(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
    });
    value.unwrap_or(i64::MAX)
}
