//! Where everything that a call works in lies: packings that loops keep, then the arena, in whose gaps scratch memory lies, and
//! what of that does not fit there. Packings for all calls lie in memory of their own, which workspaces share.

use graver_ir::kernel::{Entry, launches};
use graver_ir::{Error, Sizes};
use graver_runtime::{Layout, Working, evaluated};

use crate::compile::CompiledKernel;
use crate::memory::ALIGNMENT;
use crate::packs::{Pack, Packs};

/// See the file's header. Places are in bytes from the start of all memory, multiples of [`ALIGNMENT`].
#[derive(Debug)]
pub(crate) struct Room {
    /// The amounts.
    pub(crate) working: Working,
    /// Bytes of a workspace's own memory: all but packings for all calls.
    pub(crate) own: usize,
    /// Where each packing that a loop keeps lies.
    pub(crate) packs: Vec<usize>,
    /// Where each packing for all calls lies, from the start of the memory that they share, and how much that is.
    pub(crate) shared: (Vec<usize>, usize),
    /// Where the arena begins.
    pub(crate) arena: usize,
    /// By launch, in the order of [`launches`].
    pub(crate) scratch: Vec<Scratch>,
}

/// The scratch memory of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scratch {
    /// Where that of all threads together begins.
    pub(crate) shared: usize,
    /// Where that of the first thread begins.
    pub(crate) first: usize,
    /// How far it is to the next one's.
    pub(crate) each: usize,
}

impl Room {
    /// For an entry and sizes.
    pub(crate) fn new(
        entry: &Entry,
        kernels: &[CompiledKernel],
        packs: &Packs,
        sizes: &Sizes,
        threads: usize,
    ) -> Result<Self, Error> {
        let (places, arena) = in_a_row(&packs.for_loops, sizes)?;
        let (kept, kept_bytes) = in_a_row(&packs.for_calls, sizes)?;
        let needs = launches(&entry.steps).into_iter().zip(&packs.of_launch);
        let needs = needs.map(|(launch, pack)| Need::of(&kernels[launch.kernel.0 as usize], pack.is_some(), sizes));
        let needs = needs.collect::<Result<Vec<Need>, Error>>()?;
        let pieces: Vec<[usize; 2]> = needs.iter().map(|need| [need.shared, need.each.saturating_mul(threads)]).collect();
        let Layout { working, scratch } = Layout::new(entry, sizes, &pieces, ALIGNMENT)?;
        let scratch = scratch.into_iter().zip(needs).map(|(starts, need)| {
            let [shared, first] = starts.map(|start| arena.saturating_add(start));
            Scratch { shared, first, each: need.each }
        });
        let own = working.total().saturating_add(arena);
        // Packings that are kept are scratch too, and always in use.
        let with = |bytes: usize| bytes.saturating_add(arena).saturating_add(kept_bytes);
        let working = Working { scratch: with(working.scratch), live: with(working.live), ..working };
        Ok(Self { working, own, packs: places, shared: (kept, kept_bytes), arena, scratch: scratch.collect() })
    }
}

/// How much scratch memory a launch takes.
struct Need {
    shared: usize,
    each: usize,
}

impl Need {
    /// `kept`: what it packs is kept, and no scratch.
    fn of(kernel: &CompiledKernel, kept: bool, sizes: &Sizes) -> Result<Self, Error> {
        let mut each = 0;
        for phase in &kernel.phases {
            each = each.max(evaluated(&phase.scratch, sizes)?);
        }
        let shared = if kept { 0 } else { evaluated(&kernel.shared, sizes)? };
        Ok(Self { shared: whole(shared), each: whole(each) })
    }
}

/// Where packings lie one behind the other, and where the last ends.
fn in_a_row(packs: &[Pack], sizes: &Sizes) -> Result<(Vec<usize>, usize), Error> {
    let mut end = 0usize;
    let place = |pack: &Pack| {
        let begin = end;
        end = begin.saturating_add(whole(evaluated(&pack.bytes, sizes)?));
        Ok(begin)
    };
    let places = packs.iter().map(place).collect::<Result<_, Error>>()?;
    Ok((places, end))
}

fn whole(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX)
}
