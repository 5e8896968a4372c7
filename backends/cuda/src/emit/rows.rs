//! Rows that several stages read: each thread keeps in registers what it read of its turns first, as many as registers hold. What lies
//! beyond, in long rows and in those of unknown length, is read again.

use graver_ir::kernel::{Access, Bounds, Index, Mode, Nest, Stage};

use super::body::Loaded;
use super::cx::{Cx, stored};
use super::nest::{Plan, count_of};

/// Words of a thread's registers for all that is kept.
const WORDS: i64 = 64;
/// Turns of rows of unknown length.
const UNKNOWN: i64 = 8;
/// Instructions of a stage, over all turns that are written out.
const INSTRUCTIONS: i64 = 1024;

/// The first turns of a row, which its stages have in common.
pub(super) struct Rows<'a> {
    axes: Vec<usize>,
    turns: i64,
    /// Whether there are no others.
    whole: bool,
    /// Whether every member has all of them.
    full: bool,
    kept: Vec<Kept<'a>>,
}

/// What is read in several stages.
struct Kept<'a> {
    access: &'a Access,
    /// The stage that reads it from memory.
    first: usize,
    /// The array that holds it from then on, by turn.
    array: String,
}

impl<'a> Rows<'a> {
    /// What members of a team can keep; declares the arrays that hold it.
    pub(super) fn new(cx: &mut Cx<'a>, nest: &'a Nest, plan: &Plan) -> Option<Self> {
        let axes = nest.stages.iter().map(|stage| plan.inner(stage)).find(|axes| !axes.is_empty())?;
        if plan.members() == 1 {
            return None;
        }
        let stages = nest.stages.iter().enumerate().filter(|(_, stage)| goes_through(plan, &axes, stage));
        let all: Vec<(usize, &Access)> =
            stages.clone().flat_map(|(at, stage)| loads(cx, stage, &axes).map(move |load| (at, load))).collect();
        let is_again = |(at, access): &(usize, &Access)| all.iter().any(|(other, same)| other != at && same == access);
        let mut kept: Vec<(usize, &Access)> = Vec::new();
        for (at, access) in all.iter().filter(|load| is_again(load)) {
            if kept.iter().all(|(_, known)| known != access) {
                kept.push((*at, access));
            }
        }
        let words: i64 = kept.iter().map(|(_, access)| if cx.arg(access.arg).dtype.size() > 4 { 2 } else { 1 }).sum();
        let longest = stages.map(|(_, stage)| stage.body.insts.len()).max().and_then(|count| i64::try_from(count).ok())?;
        let (count, members) = (count_of(nest, &axes).as_const(), plan.members());
        let needed = count.map_or(UNKNOWN, |count| (count + members - 1) / members);
        let turns = needed.min(WORDS.checked_div(words)?).min(INSTRUCTIONS / longest.max(1));
        if turns < 1 {
            return None;
        }
        let declare = |(first, access): (usize, &'a Access)| {
            let array = cx.fresh("row");
            cx.line(format!("{} {array}[{turns}];", stored(cx.arg(access.arg).dtype)));
            Kept { access, first, array }
        };
        let kept = kept.into_iter().map(declare).collect();
        let (whole, full) =
            (count.is_some_and(|count| count <= turns * members), count.is_some_and(|count| count >= turns * members));
        Some(Self { axes, turns, whole, full, kept })
    }

    /// Whether a stage goes through the row.
    pub(super) fn serve(&self, plan: &Plan, stage: &Stage) -> bool {
        goes_through(plan, &self.axes, stage)
    }

    /// The points that a member has in the first turns, each with what is kept of it.
    pub(super) fn turns(
        &self,
        cx: &mut Cx<'_>,
        nest: &Nest,
        plan: &Plan,
        number: usize,
        visit: impl FnOnce(&mut Cx<'_>, &Loaded),
    ) {
        let (turn, point) = (cx.fresh("j"), cx.fresh("i"));
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 {turn} = 0; {turn} < {}; {turn}++)", self.turns));
        cx.line(format!("const idx {point} = member + {turn} * {};", plan.members()));
        if !self.full {
            let end = cx.dim(&count_of(nest, &self.axes));
            cx.open(format!("if ({point} < {end})"));
        }
        cx.bind_digits(&self.axes, &nest.axes, &point);
        let mut loaded = Loaded::default();
        for (id, access) in nest.stages[number].body.loads() {
            let Some(kept) = self.kept.iter().find(|kept| kept.access == access) else { continue };
            let element = format!("{}[{turn}]", kept.array);
            if kept.first == number {
                let offset = cx.offset(access.arg, &access.index, &[]);
                cx.line(format!("{element} = p{}[{offset}];", access.arg));
            }
            loaded.elements.push((id, element));
        }
        visit(cx, &loaded);
        cx.unbind(&self.axes);
        if !self.full {
            cx.close();
        }
        cx.close();
    }

    /// The first point of a member behind those turns, as an offset; nothing, if there is none.
    pub(super) fn rest(&self, plan: &Plan) -> Option<i64> {
        (!self.whole).then(|| self.turns * plan.members())
    }
}

/// Whether a stage visits just these inner axes, and combines all of them.
fn goes_through(plan: &Plan, axes: &[usize], stage: &Stage) -> bool {
    plan.inner(stage) == axes && (stage.reductions.is_empty() || stage.keep == plan.outer)
}

/// What a stage reads along these axes where no position is computed, of what no kernel writes meanwhile.
fn loads<'a>(cx: &Cx<'a>, stage: &'a Stage, axes: &[usize]) -> impl Iterator<Item = &'a Access> {
    let along = stage.body.axes();
    let is_known = |index: &Index| matches!(index, Index::At(_));
    let (kernel, axes) = (cx.kernel, axes.to_vec());
    stage.body.loads().filter_map(move |(id, access)| {
        let varies = axes.iter().any(|axis| along[id.index()].contains(*axis));
        let reads = kernel.args[access.arg].mode == Mode::Read && access.bounds == Bounds::Proven;
        (varies && reads && access.index.iter().all(is_known)).then_some(access)
    })
}
