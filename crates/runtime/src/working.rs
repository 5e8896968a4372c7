//! What a call works in: the arena of the plan, and what every launch needs besides (packed operands, partial results), which
//! lies in the arena's gaps at that launch where it fits, and behind the arena where it does not.

use graver_ir::kernel::{Entry, Place, launch_places, live_bytes, lives};
use graver_ir::{Dim, Error, Sizes};

/// What a call works in, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Working {
    /// Computed values: the plan's arena.
    pub arena: usize,
    /// What kernels need besides, as far as it does not lie in the arena.
    pub scratch: usize,
    /// The most that is needed at once: values that a later step reads, and what the kernel at work needs besides.
    pub live: usize,
}

impl Working {
    /// With the scratch memory of launches apart from the arena: as much as the launch that needs most.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub fn apart(entry: &Entry, sizes: &Sizes, needs: &[usize]) -> Result<Self, Error> {
        let live = most_live(entry, sizes, &launch_places(&entry.steps), needs)?;
        Ok(Self { arena: evaluated(&entry.arena, sizes)?, scratch: needs.iter().copied().max().unwrap_or(0), live })
    }

    /// The bytes that are allocated.
    #[must_use]
    pub const fn total(self) -> usize {
        self.arena.saturating_add(self.scratch)
    }
}

/// Where the scratch memory of every launch lies.
#[derive(Clone, Debug)]
pub struct Layout<const N: usize> {
    /// The amounts.
    pub working: Working,
    /// Where each piece of each launch begins, from the start of the arena, in the order of [`graver_ir::kernel::launches`].
    pub scratch: Vec<[usize; N]>,
}

impl<const N: usize> Layout<N> {
    /// For an entry whose launches, in order, need `needs` bytes each besides the arena, in `N` pieces.
    ///
    /// # Errors
    /// If a symbol has no size, or the sizes are too large for any memory.
    pub fn new(entry: &Entry, sizes: &Sizes, needs: &[[usize; N]], alignment: usize) -> Result<Self, Error> {
        let whole = |bytes: usize| bytes.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
        let arena = whole(evaluated(&entry.arena, sizes)?);
        let places = launch_places(&entry.steps);
        let totals: Vec<usize> = needs.iter().map(|need| need.iter().copied().fold(0, usize::saturating_add)).collect();
        let live = most_live(entry, sizes, &places, &totals)?;
        let buffers = placed(entry, sizes)?;
        let (mut scratch, mut total) = (Vec::with_capacity(needs.len()), arena);
        for (place, need) in places.iter().zip(needs) {
            if need.iter().all(|bytes| *bytes == 0) {
                scratch.push([0; N]);
                continue;
            }
            let taken = buffers.iter().filter(|buffer| buffer.first <= *place && *place <= buffer.last);
            let mut taken: Vec<(usize, usize)> = taken.map(|buffer| (buffer.start, buffer.end)).collect();
            // The largest piece first: the others find gaps more easily.
            let (mut starts, mut order) = ([0; N], std::array::from_fn::<usize, N, _>(|piece| piece));
            order.sort_by_key(|piece| std::cmp::Reverse(need[*piece]));
            for piece in order {
                let start = first_gap(&taken, need[piece], alignment);
                let end = start.saturating_add(need[piece]);
                taken.insert(taken.partition_point(|other| *other <= (start, end)), (start, end));
                starts[piece] = start;
                total = total.max(whole(end));
            }
            scratch.push(starts);
        }
        Ok(Self { working: Working { arena, scratch: total - arena, live }, scratch })
    }
}

/// The lowest multiple of the alignment from which so many bytes are free; what is taken is sorted.
fn first_gap(taken: &[(usize, usize)], need: usize, alignment: usize) -> usize {
    let mut start = 0usize;
    for (low, high) in taken.iter().copied() {
        if start.saturating_add(need) <= low {
            break;
        }
        start = start.max(high.checked_next_multiple_of(alignment).unwrap_or(usize::MAX));
    }
    start
}

fn most_live(entry: &Entry, sizes: &Sizes, places: &[usize], needs: &[usize]) -> Result<usize, Error> {
    let live = live_bytes(entry, sizes)?;
    let at = |place: usize| usize::try_from(live[place]).unwrap_or(usize::MAX);
    let launches = places.iter().zip(needs).map(|(place, need)| at(*place).saturating_add(*need));
    Ok(launches.chain((0..live.len()).map(at)).max().unwrap_or(0))
}

/// A buffer of the arena, with the places at which it is alive.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    start: usize,
    end: usize,
    first: usize,
    last: usize,
}

/// Ascending by where they lie.
fn placed(entry: &Entry, sizes: &Sizes) -> Result<Vec<Placed>, Error> {
    let mut found = Vec::new();
    for (buffer, life) in entry.buffers.iter().zip(lives(entry)) {
        if let (Place::Arena(offset), Some(life)) = (&buffer.place, life) {
            let start = evaluated(offset, sizes)?;
            let end = start.saturating_add(evaluated(&buffer.bytes(), sizes)?);
            found.push(Placed { start, end, first: life.first, last: life.last });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A number of bytes for these sizes.
///
/// # Errors
/// If a symbol has no size, or the number is too large for any memory.
pub fn evaluated(bytes: &Dim, sizes: &Sizes) -> Result<usize, Error> {
    let value = bytes.eval(sizes).map_err(|error| Error::new(error.to_string()))?;
    usize::try_from(value).map_err(|_| Error::new(format!("the size {bytes} is {value}")))
}

#[cfg(test)]
mod tests {
    use super::first_gap;

    #[test]
    fn scratch_lies_in_the_first_gap_that_holds_it() {
        let gap = |need: usize| first_gap(&[(0, 64), (128, 200), (1024, 2048)], need, 64);
        assert_eq!(gap(0), 0);
        assert_eq!(gap(64), 64);
        assert_eq!(gap(65), 256, "behind 200, aligned");
        assert_eq!(gap(1024 - 256), 256);
        assert_eq!(gap(1024 - 255), 2048);
    }
}
