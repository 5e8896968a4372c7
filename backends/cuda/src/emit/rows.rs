//! Rows of a team: how points are dealt out to threads, and what threads keep of them. Where rows are of whole such groups, a thread
//! takes neighbours that lie in 16 bytes, and reads and writes them at once. What several stages read, each thread keeps of its own
//! turns: of the first in registers, of the next in shared memory, as much as a launch is given. What lies beyond is read again.

use graver_ir::Dim;
use graver_ir::kernel::{Access, Bounds, Index, Mode, Nest, Stage, ValueId};

use super::body::Loaded;
use super::cx::{Cx, stored};
use super::nest::{Plan, Sharing, count_of, known_offset};
use super::vector::{self, is_aligned};

/// Words of a thread's registers for all that is kept.
const WORDS: i64 = 64;
/// Points of rows of unknown length.
const UNKNOWN: i64 = 8;
/// Instructions of a stage, over all points that are written out.
const INSTRUCTIONS: i64 = 1024;

/// A row, which stages have in common, as groups of neighbours.
pub(super) struct Rows<'a> {
    nest: &'a Nest,
    axes: Vec<usize>,
    /// By axis: how many positions, in groups along the last.
    sizes: Vec<Dim>,
    /// Neighbours of a group.
    width: i64,
    /// Turns whose elements are in registers.
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
    /// The same in shared memory for later turns.
    more: Option<String>,
}

impl<'a> Rows<'a> {
    /// The first inner axes that a stage has, and what members of a team can keep; declares the arrays that hold it.
    pub(super) fn new(cx: &mut Cx<'a>, nest: &'a Nest, plan: &Plan) -> Option<Self> {
        let mut rows = Self::dealt(cx, nest, plan)?;
        let stages = nest.stages.iter().enumerate().filter(|(_, stage)| rows.serve(plan, stage));
        let all: Vec<(usize, &Access)> =
            stages.clone().flat_map(|(at, stage)| rows.loads(cx, stage).into_iter().map(move |load| (at, load))).collect();
        let is_again = |(at, access): &(usize, &Access)| all.iter().any(|(other, same)| other != at && same == access);
        let mut kept: Vec<(usize, &'a Access)> = Vec::new();
        for (at, access) in all.iter().filter(|load| is_again(load)) {
            if kept.iter().all(|(_, known)| known != access) {
                kept.push((*at, access));
            }
        }
        let bytes = |access: &Access| rows.width * i64::try_from(cx.arg(access.arg).dtype.size()).expect("few bytes");
        let words: i64 = kept.iter().map(|(_, access)| (bytes(access) + 3) / 4).sum();
        let longest = stages.map(|(_, stage)| stage.body.insts.len()).max().and_then(|count| i64::try_from(count).ok())?;
        let (count, members) = (rows.count().as_const(), plan.members());
        let needed = count.map_or((UNKNOWN / rows.width).max(1), |count| (count + members - 1) / members);
        let most = INSTRUCTIONS / (longest.max(1) * rows.width);
        rows.turns = needed.min(WORDS.checked_div(words).unwrap_or(0)).min(most);
        rows.whole = count.is_some_and(|count| count <= rows.turns * members);
        rows.full = count.is_some_and(|count| count >= rows.turns * members);
        let each: i64 = kept.iter().map(|(_, access)| bytes(access)).sum();
        let in_memory = !rows.whole && each > 0 && matches!(plan.sharing, Sharing::Rows { .. });
        rows.kept = kept.into_iter().map(|kept| rows.declare(cx, kept)).collect();
        if in_memory {
            rows.keep_more(cx, plan, each);
        }
        Some(rows)
    }

    /// The same where nothing is kept.
    pub(super) fn dealt(cx: &Cx<'_>, nest: &'a Nest, plan: &Plan) -> Option<Self> {
        let axes = nest.stages.iter().map(|stage| plan.inner(stage)).find(|axes| !axes.is_empty())?;
        if plan.members() == 1 {
            return None;
        }
        let width = width(cx, nest, plan, &axes);
        let mut rows = Self::single(nest, axes);
        let lane = *rows.axes.last()?;
        (rows.width, rows.sizes[lane]) = (width, rows.sizes[lane].exact_div(&Dim::from(width))?);
        Some(rows)
    }

    /// Points of some axes one by one.
    pub(super) fn single(nest: &'a Nest, axes: Vec<usize>) -> Self {
        let sizes = nest.axes.clone();
        Self { nest, axes, sizes, width: 1, turns: 0, whole: false, full: false, kept: Vec::new() }
    }

    /// Neighbours of a group.
    pub(super) fn width(&self) -> i64 {
        self.width
    }

    /// Groups.
    pub(super) fn count(&self) -> Dim {
        self.axes.iter().map(|axis| self.sizes[*axis].clone()).product()
    }

    /// Whether a stage goes through the row.
    pub(super) fn serve(&self, plan: &Plan, stage: &Stage) -> bool {
        goes_through(plan, &self.axes, stage)
    }

    /// The first group of a member behind those in registers, as an offset; nothing, if there is none.
    pub(super) fn rest(&self, plan: &Plan) -> Option<i64> {
        (!self.whole).then(|| self.turns * plan.members())
    }

    fn declare(&self, cx: &mut Cx<'a>, (first, access): (usize, &'a Access)) -> Kept<'a> {
        let array = cx.fresh("row");
        if self.turns > 0 {
            let ty = self.group_of(cx, access);
            cx.line(format!("{ty} {array}[{}];", self.turns));
        }
        Kept { access, first, array, more: None }
    }

    /// Shared memory for the turns behind those in registers, `each` bytes of a group: as many turns as a launch is given room for.
    fn keep_more(&mut self, cx: &mut Cx<'a>, plan: &Plan, each: i64) {
        let threads = plan.threads();
        let left = self.count().ceil_div(&Dim::from(plan.members())) - Dim::from(self.turns);
        cx.dynamic = left.max_with(&Dim::ZERO) * Dim::from(threads * each);
        cx.line(format!("const i32 held = gr_dynamic_bytes() / {} * {threads};", threads * each));
        let mut before = 0;
        for kept in &mut self.kept {
            let (name, dtype) = (cx.fresh("more"), cx.arg(kept.access.arg).dtype);
            let ty = stored(dtype);
            cx.line(format!("GR_LOCAL({ty}) {name} = gr_local<{ty}>(dynamic, held * {before}, held * {});", self.width));
            before += self.width * i64::try_from(dtype.size()).expect("few bytes");
            kept.more = Some(name);
        }
    }

    /// The type of a group.
    fn group_of(&self, cx: &Cx<'_>, access: &Access) -> String {
        let ty = stored(cx.arg(access.arg).dtype);
        if self.width == 1 { ty.to_owned() } else { format!("gr_pack<{ty}, {}>", self.width) }
    }

    /// A group of an argument from some place on.
    fn read(&self, cx: &Cx<'_>, access: &Access, offset: &str) -> String {
        let (ty, from, width) = (stored(cx.arg(access.arg).dtype), access.arg, self.width);
        if width == 1 {
            format!("p{from}[{offset}]")
        } else {
            format!("gr_read<{ty}, {width}>(gr_at(p{from}, {offset}, {width}))")
        }
    }

    /// One that is kept in shared memory.
    fn recall(&self, cx: &Cx<'_>, access: &Access, more: &str, place: &str) -> String {
        let (ty, width) = (stored(cx.arg(access.arg).dtype), self.width);
        if width == 1 {
            format!("{more}[{place}]")
        } else {
            format!("gr_read_aligned<{ty}, {width}>(gr_at({more}, {place}, {width}))")
        }
    }

    /// The points that a member has in the turns whose elements are in registers.
    pub(super) fn turns(
        &self,
        cx: &mut Cx<'_>,
        plan: &Plan,
        number: usize,
        guard: &str,
        visit: impl FnOnce(&mut Cx<'_>, &Loaded) -> Vec<String>,
    ) {
        if self.turns == 0 {
            return;
        }
        let (turn, group) = (cx.fresh("j"), cx.fresh("turn"));
        cx.open_unrolled(&turn, self.turns);
        cx.line(format!("const idx {group} = member + {turn} * {};", plan.members()));
        if !self.full {
            let end = cx.dim(&self.count());
            cx.open(format!("if ({group} < {end})"));
        }
        let first = self.bind(cx, &group);
        let mut known = Loaded::default();
        for (id, kept) in self.kept_of(number) {
            let element = format!("{}[{turn}]", kept.array);
            if kept.first == number {
                let offset = cx.offset(kept.access.arg, &kept.access.index, &[]);
                let read = self.read(cx, kept.access, &offset);
                cx.line(format!("{element} = {read};"));
            }
            known.elements.push((id, self.element(&element)));
        }
        self.points(cx, number, (guard, &first), known, visit);
        if !self.full {
            cx.close();
        }
        cx.close();
    }

    /// The points of a group behind those in registers: of the member's number in this turn.
    pub(super) fn group(
        &self,
        cx: &mut Cx<'_>,
        plan: &Plan,
        (number, group): (usize, &str),
        guard: &str,
        visit: impl FnOnce(&mut Cx<'_>, &Loaded) -> Vec<String>,
    ) {
        let first = self.bind(cx, group);
        let mut known = Loaded::default();
        for (id, kept) in self.kept_of(number) {
            let Some(more) = &kept.more else { continue };
            let offset = cx.offset(kept.access.arg, &kept.access.index, &[]);
            let read = self.read(cx, kept.access, &offset);
            let slot = format!("((i32)({group} / {}) - {}) * {} + thread", plan.members(), self.turns, plan.threads());
            let slot = cx.define("i32", "slot", slot);
            let place = if self.width == 1 { slot.clone() } else { format!("{slot} * {}", self.width) };
            let name = cx.fresh("v");
            let (ty, kept_there) = (self.group_of(cx, kept.access), self.recall(cx, kept.access, more, &place));
            if kept.first == number {
                cx.line(format!("const {ty} {name} = {read};"));
                let (element, width) = (stored(cx.arg(kept.access.arg).dtype), self.width);
                cx.line(match width {
                    1 => format!("if ({slot} < held) {more}[{place}] = {name};"),
                    _ => format!(
                        "if ({slot} < held) gr_write_aligned<{element}, {width}>(gr_at({more}, {place}, {width}), {name});"
                    ),
                });
            } else {
                cx.line(format!("{ty} {name};"));
                cx.line(format!("if ({slot} < held) {name} = {kept_there};"));
                cx.line(format!("else {name} = {read};"));
            }
            known.elements.push((id, self.element(&name)));
        }
        self.points(cx, number, (guard, &first), known, visit);
    }

    /// The element of a group at the point that is visited.
    fn element(&self, group: &str) -> String {
        if self.width == 1 { group.to_owned() } else { format!("{group}.at[j]") }
    }

    /// What a stage reads of what is kept.
    fn kept_of(&self, number: usize) -> impl Iterator<Item = (ValueId, &Kept<'a>)> {
        let loads = self.nest.stages[number].body.loads();
        loads.filter_map(|(id, access)| Some((id, self.kept.iter().find(|kept| kept.access == access)?)))
    }

    /// Sets the axes to a group's first point; gives its position along the last.
    fn bind(&self, cx: &mut Cx<'_>, group: &str) -> String {
        cx.bind_digits(&self.axes, &self.sizes, group);
        let lane = self.lane();
        let digit = cx.at[lane].clone().expect("it was bound");
        if self.width == 1 {
            return digit;
        }
        let first = cx.define("idx", "first", format!("{digit} * {}", self.width));
        cx.at[lane] = Some(first.clone());
        first
    }

    fn lane(&self) -> usize {
        *self.axes.last().expect("a row has an axis")
    }

    /// Visits the points of a group, and stores what the stage stores.
    fn points(
        &self,
        cx: &mut Cx<'_>,
        number: usize,
        (guard, first): (&str, &str),
        known: Loaded,
        visit: impl FnOnce(&mut Cx<'_>, &Loaded) -> Vec<String>,
    ) {
        let stage = &self.nest.stages[number];
        if self.width > 1 {
            vector::points(cx, stage, (self.lane(), self.width, first), known, guard, visit);
        } else {
            if !guard.is_empty() {
                cx.open(format!("if ({guard})"));
            }
            let values = visit(cx, &known);
            stage.stores.iter().for_each(|store| cx.store(store, &values));
            if !guard.is_empty() {
                cx.close();
            }
        }
        cx.unbind(&self.axes);
    }

    /// What a stage reads along the row where no position is computed, of what no kernel writes meanwhile, a group at once.
    fn loads<'s>(&self, cx: &Cx<'_>, stage: &'s Stage) -> Vec<&'s Access> {
        let along = stage.body.axes();
        let one = |(id, access): (ValueId, &'s Access)| {
            let varies = self.axes.iter().any(|axis| along[id.index()].contains(*axis));
            let reads = cx.arg(access.arg).mode == Mode::Read && access.bounds == Bounds::Proven;
            let at_once = self.width == 1 || is_aligned(cx, access.arg, &access.index, self.lane(), self.width);
            (varies && reads && at_once && access.index.iter().all(Index::is_known)).then_some(access)
        };
        stage.body.loads().filter_map(one).collect()
    }
}

/// Whether a stage visits just these inner axes, and combines all of them.
fn goes_through(plan: &Plan, axes: &[usize], stage: &Stage) -> bool {
    plan.inner(stage) == axes && (stage.reductions.is_empty() || stage.keep == plan.outer)
}

/// Neighbours along a row that threads take at once: those in 16 bytes of the widest element that is contiguous there, if all that is lies
/// in whole groups. Fewer, where threads would have no group.
fn width(cx: &Cx<'_>, nest: &Nest, plan: &Plan, axes: &[usize]) -> i64 {
    let (Sharing::Rows { members }, Some(&lane)) = (plan.sharing, axes.last()) else { return 1 };
    let stages = || nest.stages.iter().filter(|stage| goes_through(plan, axes, stage));
    let loads = stages().flat_map(|stage| vector::loads(&stage.body)).map(|(_, arg, index)| (arg, index));
    let stores = stages().flat_map(|stage| &stage.stores).map(|store| (store.arg, store.index.as_slice()));
    let is_contiguous = |(arg, index): &(usize, &[Index])| {
        known_offset(cx, *arg, index).and_then(|offset| offset.along(lane)).is_some_and(|(slope, _)| slope.is(1))
    };
    let rows: Vec<(usize, &[Index])> = loads.chain(stores).filter(is_contiguous).collect();
    let widest = rows.iter().map(|(arg, _)| cx.arg(*arg).dtype.size()).max().unwrap_or(16);
    let count = count_of(nest, axes).as_const();
    let fits = |width: &i64| {
        nest.axes[lane].known_multiple() % width == 0
            && count.is_none_or(|count| count >= width * members)
            && rows.iter().all(|(arg, index)| is_aligned(cx, *arg, index, lane, *width))
    };
    [16, 8, 4, 2].into_iter().filter(|width| *width <= 16 / widest.cast_signed() as i64).find(fits).unwrap_or(1)
}
