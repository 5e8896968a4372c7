//! Loop nests. The axes that every stage keeps are outer loops and parallel; one axis, along which most accesses are
//! contiguous, goes over lanes: an outer one (every lane a point of its own), or in each stage one of its inner axes.

use graver_ir::Dim;
use graver_ir::kernel::{AxisSet, Body, Index, Mode, Nest, Stage};

use super::cx::Cx;
use super::loops::{BLOCK, GRAIN, NARROW, bind};
use super::memo::{Memos, has_slow};
use super::over_rows::OverRows;
use super::reduce::{ACCUMULATORS, Results, Rows, kinds};
use super::tiles::Across;
use super::windows::Windows;
use super::{Lowered, Passing, Phase, columns, tiles};
use crate::vector::{Binary, Elem, Op, TABLE_LANES, Val};

/// Bodies up to this many instructions are unrolled over lanes: their loops would cost as much as they do.
const SMALL_BODY: usize = 12;
/// Elements of a row at most for the next one to be fetched meanwhile: the second-level cache holds both.
pub(super) const LONGEST_AHEAD: i64 = 1 << 15;
/// Elements of a page of memory, of four bytes each.
const PAGE: i64 = 1024;
/// Elements by which what is fetched is ahead where rows are longer, or are none.
const FAR: i64 = 2 * PAGE;
/// As many visits as any more.
const MANY: i64 = 256;

pub(super) fn lower(cx: Cx<'_>, nest: &Nest) -> Lowered {
    if let Some(windows) = Windows::find(&cx, nest) {
        return windows.lower(cx);
    }
    let plan = Plan::new(&cx, nest);
    let lanes: Vec<Option<usize>> = plan.inner_lanes.iter().map(|lane| plan.outer_lane.or(*lane)).collect();
    let passing = passing(&cx, nest, &lanes);
    Lowered { passing, ..by_plan(cx, nest, &plan) }
}

fn by_plan(mut cx: Cx<'_>, nest: &Nest, plan: &Plan) -> Lowered {
    if let Some(rows) = OverRows::find(&cx, nest) {
        return rows.lower(cx);
    }
    if let Some(lane) = plan.outer_lane.filter(|lane| plan.rows.is_empty() && columns::fits(nest, *lane)) {
        return columns::lower(&cx, nest, lane);
    }
    if let Some((lane, (row, rest))) = plan.outer_lane.zip(plan.rows.split_last()).filter(|_| plan.crossed)
        && let Some(across) = Across::find(&cx, nest, [lane, *row])
    {
        return tiles::lower(cx, nest, &across, [lane, *row], rest);
    }
    let mut points = plan.points(nest);
    if points.is_empty() {
        points.push(Dim::ONE);
    }
    emit(&mut cx, nest, plan);
    let work = nest.stages.iter().map(|stage| stage_work(nest, stage)).sum();
    let phase = Phase { func: cx.b.finish(), extent: points.iter().product(), scratch: cx.scratch, work };
    Lowered::new(vec![phase], Dim::ZERO)
}

/// A nest as if it were none of windows.
pub(super) fn plainly(cx: Cx<'_>, nest: &Nest) -> Lowered {
    let plan = Plan::new(&cx, nest);
    by_plan(cx, nest, &plan)
}

/// How a nest is run.
struct Plan {
    /// Outer axes but the one over lanes; a crossed one last.
    rows: Vec<usize>,
    /// Whether some access that is strided over lanes is contiguous along the last of the rows.
    crossed: bool,
    outer: AxisSet,
    /// The axis over lanes, if it is an outer one.
    outer_lane: Option<usize>,
    /// The axis over lanes in each stage, if it is an inner one there.
    inner_lanes: Vec<Option<usize>>,
}

impl Plan {
    fn new(cx: &Cx<'_>, nest: &Nest) -> Self {
        let outer = nest.stages.iter().map(|stage| stage.keep).reduce(AxisSet::intersection).unwrap_or_default();
        let all = AxisSet::first(nest.axes.len());
        let best = best_lane(cx, nest, &nest.stages, all, outer);
        let outer_lane = best.filter(|axis| outer.contains(*axis));
        let inner = |stage: &Stage| match best {
            _ if outer_lane.is_some() => None,
            Some(axis) if stage.over.contains(axis) => Some(axis),
            Some(_) | None => best_lane(cx, nest, std::slice::from_ref(stage), stage.over.minus(outer), AxisSet::EMPTY),
        };
        let inner_lanes = nest.stages.iter().map(inner).collect();
        let mut rows: Vec<usize> = outer.iter().filter(|axis| Some(*axis) != outer_lane).collect();
        let crossing = outer_lane.and_then(|lane| rows.iter().copied().find(|row| crosses(cx, nest, lane, *row)));
        if let Some(crossing) = crossing {
            rows.retain(|axis| *axis != crossing);
            rows.push(crossing);
        }
        Self { rows, crossed: crossing.is_some(), outer, outer_lane, inner_lanes }
    }

    /// The stage that has what it reads be fetched ahead, along which axis, and by how much: the machine's own fetching ends at every page, and stands still
    /// while a row is in a cache or functions of many instructions are computed. The only stage, if it computes such; of several the first later one that does, else
    /// the last.
    fn ahead(&self, nest: &Nest) -> Option<(usize, (usize, i64))> {
        let next = |lane: usize| {
            let row = self.rows.last().filter(|_| nest.axes[lane].nominal() <= LONGEST_AHEAD);
            row.map_or((lane, FAR), |row| (*row, 1))
        };
        if let Some(lane) = self.outer_lane {
            let long = nest.axes[lane].as_const().is_none_or(|size| size >= PAGE);
            let dear = nest.stages.len() == 1 && has_slow(&nest.stages[0].body);
            return (long && dear).then(|| (0, next(lane)));
        }
        let swept = nest.stages.iter().zip(&self.inner_lanes).enumerate();
        let later = || swept.clone().skip(1).filter_map(|(number, (stage, lane))| lane.map(|lane| (number, stage, lane)));
        let dear = later().find(|(_, stage, _)| has_slow(&stage.body));
        let (number, _, lane) = dear.or_else(|| later().next_back())?;
        Some((number, next(lane))).filter(|(_, (axis, _))| *axis != lane)
    }

    /// The only stage that visits more than a point of each row, and its axis over lanes, if it combines all that it visits.
    fn swept_once<'n>(&self, nest: &'n Nest) -> Option<(&'n Stage, usize)> {
        let inner = nest.stages.iter().zip(&self.inner_lanes).filter(|(stage, _)| !stage.over.minus(self.outer).is_empty());
        let [(stage, lane)] = inner.collect::<Vec<_>>()[..] else { return None };
        let all = !stage.reductions.is_empty() && stage.keep == self.outer;
        let others = nest.stages.iter().filter(|other| !std::ptr::eq(*other, stage));
        lane.filter(|_| all && others.into_iter().all(|other| other.reductions.is_empty())).map(|lane| (stage, lane))
    }

    /// The sizes that a parallel point is made of.
    fn points(&self, nest: &Nest) -> Vec<Dim> {
        let mut points: Vec<Dim> = self.rows.iter().map(|axis| nest.axes[*axis].clone()).collect();
        if let Some(axis) = self.outer_lane
            && let Some((place, length)) = self.blocks(nest)
        {
            points.insert(place, nest.axes[axis].ceil_div(&Dim::from(length)));
        }
        points
    }

    /// Where the axis over lanes is cut into blocks: which of the sizes counts them, and their length.
    fn blocks(&self, nest: &Nest) -> Option<(usize, i64)> {
        let size = &nest.axes[self.outer_lane?];
        let longer = |length: i64| size.as_const().is_none_or(|size| size > length);
        if self.rows.is_empty() {
            Some((0, GRAIN))
        } else if self.crossed {
            longer(NARROW).then_some((self.rows.len() - 1, NARROW))
        } else {
            longer(BLOCK).then_some((self.rows.len(), BLOCK))
        }
    }
}

/// An argument that may be stored past the caches: written by one store side by side over lanes, read by none. `lanes` are the axes over lanes, by
/// stage.
pub(super) fn passing(cx: &Cx<'_>, nest: &Nest, lanes: &[Option<usize>]) -> Option<Passing> {
    let stores =
        || nest.stages.iter().zip(lanes).flat_map(|(stage, lane)| stage.stores.iter().map(move |store| (stage, lane, store)));
    let of = |arg: usize| stores().filter(move |(_, _, store)| store.arg == arg).count();
    let is_loaded = |arg: usize| nest.stages.iter().any(|stage| stage.body.loads().any(|(_, access)| access.arg == arg));
    stores().find_map(|(stage, lane, store)| {
        let (arg, size) = (cx.arg(store.arg), Dim::from(cx.arg(store.arg).dtype.size()));
        let plain = arg.mode == Mode::Write && arg.dtype.size() == 4 && of(store.arg) == 1 && !is_loaded(store.arg);
        if !plain || store.index.iter().any(|index| matches!(index, Index::Value(..))) {
            return None;
        }
        let offset: Dim = store.index.iter().zip(&arg.strides).map(|(index, stride)| index.dim() * stride).sum();
        let (slope, mut rest) = offset.along((*lane)?)?;
        let mut apart = Vec::new();
        for axis in stage.over.iter() {
            let (stride, without) = rest.along(axis)?;
            apart.push(stride * &size);
            rest = without;
        }
        apart.push(rest * &size);
        let bytes = arg.shape.iter().product::<Dim>() * size;
        slope.is(1).then_some(Passing { arg: store.arg, bytes, apart })
    })
}

/// Whether some access that is strided along `lane` is contiguous along `row`, which is long enough for that to matter.
fn crosses(cx: &Cx<'_>, nest: &Nest, lane: usize, row: usize) -> bool {
    let long = nest.axes[row].as_const().is_none_or(|size| size >= i64::try_from(cx.lanes).unwrap_or(i64::MAX));
    let in_stage = |stage: &Stage| {
        let axes = stage.body.axes();
        let crossing = |arg: usize, index: &[Index]| {
            let score = |axis: usize| access_score(cx, arg, (index, &axes), axis);
            score(lane) == -2 && score(row) == 3
        };
        stage.body.loads().any(|(_, access)| crossing(access.arg, &access.index))
            || stage.stores.iter().any(|store| crossing(store.arg, &store.index))
    };
    long && nest.stages.iter().any(in_stage)
}

fn emit(cx: &mut Cx<'_>, nest: &Nest, plan: &Plan) {
    let unroll = unroll(nest);
    let points = plan.points(nest);
    match plan.outer_lane {
        Some(axis) if plan.rows.is_empty() => {
            let (begin, end) = (cx.b.op(Op::Begin), cx.b.op(Op::End));
            let (begin, end) = block(cx, begin, end, GRAIN, &nest.axes[axis]);
            cx.swept(axis, begin, end, unroll, &mut |cx| stages(cx, nest, plan));
        }
        Some(axis) => cx.parallel(&points, &mut |cx, digits| {
            let mut rows = digits.to_vec();
            let (begin, end) = match plan.blocks(nest) {
                Some((place, length)) => {
                    let (number, one) = (rows.remove(place), cx.b.int(1));
                    let next = cx.b.add(number, one);
                    block(cx, number, next, length, &nest.axes[axis])
                }
                None => (cx.b.int(0), cx.value(&nest.axes[axis])),
            };
            bind(cx, &plan.rows, &rows);
            cx.swept(axis, begin, end, unroll, &mut |cx| stages(cx, nest, plan));
        }),
        None if points.is_empty() => stages(cx, nest, plan),
        None => {
            let swept = plan.swept_once(nest);
            let count = swept.map_or(1, |(stage, _)| at_once(cx, stage));
            cx.parallel_by(count, &points, &mut |cx, digits| match swept.filter(|_| digits.len() > 1) {
                Some(swept) => rows_at_once(cx, nest, swept, &Rows { axes: &plan.rows, at: digits }),
                None => {
                    bind(cx, &plan.rows, &digits[0]);
                    stages(cx, nest, plan);
                }
            });
        }
    }
}

/// How many rows of a stage go by at once: what a machine fetches by itself is one stream of memory, as far as its page goes, which several rows are
/// several of. Each has the accumulators that it has alone; as many as fit half of the registers, of which machines with 16 lanes have 32, others 16.
fn at_once(cx: &Cx<'_>, stage: &Stage) -> usize {
    let registers = if cx.lanes == TABLE_LANES { 32 } else { 16 };
    let of = |elem: Elem| if matches!(elem, Elem::F64 | Elem::I64) { 2 } else { 1 };
    let needed: usize =
        kinds(stage).iter().map(|(kind, has_position)| of(kind.elem) + if *has_position { of(Elem::I64) } else { 0 }).sum();
    if stage.body.insts.len() > SMALL_BODY { 1 } else { (registers / (2 * ACCUMULATORS * needed)).max(1) }
}

/// A nest of rows that are swept once, of several rows at once.
fn rows_at_once(cx: &mut Cx<'_>, nest: &Nest, (swept, lane): (&Stage, usize), rows: &Rows<'_>) {
    let mut results: Vec<Results> = rows.at.iter().map(|_| Results::new(Memos::default())).collect();
    for stage in &nest.stages {
        if std::ptr::eq(stage, swept) {
            Results::push_rows(&mut results, cx, (nest, stage), lane, rows);
            continue;
        }
        for (row, results) in rows.at.iter().zip(&mut results) {
            bind(cx, rows.axes, row);
            let values = cx.body(&stage.body, results);
            for store in &stage.stores {
                cx.store(store, &values);
            }
            results.push_nothing();
        }
    }
}

/// From blocks to positions: `begin * grain .. min(end * grain, size)`.
pub(super) fn block(cx: &mut Cx<'_>, begin: Val, end: Val, grain: i64, size: &Dim) -> (Val, Val) {
    let (grain, size) = (cx.b.int(grain), cx.value(size));
    let (begin, end) = (cx.b.mul(begin, grain), cx.b.mul(end, grain));
    (begin, cx.b.binary(Binary::Min, end, size))
}

fn stages(cx: &mut Cx<'_>, nest: &Nest, plan: &Plan) {
    let memos = if plan.outer_lane.is_none() { Memos::find(nest, plan.outer, &plan.inner_lanes) } else { Memos::default() };
    let mut results = Results::new(memos);
    let ahead = plan.ahead(nest);
    for (number, (stage, lane)) in nest.stages.iter().zip(&plan.inner_lanes).enumerate() {
        cx.ahead = ahead.filter(|(stage, _)| *stage == number).map(|(_, along)| along);
        let inner = stage.over.minus(plan.outer);
        if stage.reductions.is_empty() {
            let serial: Vec<usize> = inner.iter().filter(|axis| Some(*axis) != *lane).collect();
            cx.nested(&nest.axes, &serial, *lane, small_unroll(&stage.body), &mut |cx| {
                let values = cx.body(&stage.body, &mut results);
                for store in &stage.stores {
                    cx.store(store, &values);
                }
            });
            results.push_nothing();
        } else {
            results.push_stage(cx, nest, stage, plan.outer, *lane);
        }
    }
    cx.ahead = None;
}

fn unroll(nest: &Nest) -> usize {
    match nest.stages.as_slice() {
        [stage] if stage.reductions.is_empty() => small_unroll(&stage.body),
        _ => 1,
    }
}

pub(super) fn small_unroll(body: &Body) -> usize {
    if body.insts.len() <= SMALL_BODY { 2 } else { 1 }
}

pub(super) fn stage_work(nest: &Nest, stage: &Stage) -> Dim {
    let points: Dim = stage.over.iter().map(|axis| nest.axes[axis].clone()).product();
    points * Dim::from(stage.body.insts.len().max(1))
}

/// The axis of `candidates` along which accesses are best; the last of equals. An `outer` one is a little better, since
/// nothing is combined across lanes.
pub(super) fn best_lane(cx: &Cx<'_>, nest: &Nest, stages: &[Stage], candidates: AxisSet, outer: AxisSet) -> Option<usize> {
    let usable = candidates.iter().filter(|axis| nest.axes[*axis].as_const().is_none_or(|size| size > 1));
    let score = |axis: usize| {
        let over = stages.iter().filter(|stage| stage.over.contains(axis));
        let accesses: i64 = over.map(|stage| visits(nest, stage.over.minus(outer)) * score(cx, stage, axis)).sum();
        let short = nest.axes[axis].as_const().is_some_and(|size| size < i64::try_from(cx.lanes).unwrap_or(i64::MAX));
        4 * accesses + i64::from(outer.contains(axis)) - if short { 1_000_000 } else { 0 }
    };
    usable.max_by_key(|axis| score(*axis))
}

/// How often a stage's accesses happen at a point of the outer axes, as far as it matters.
fn visits(nest: &Nest, inner: AxisSet) -> i64 {
    inner.iter().map(|axis| nest.axes[axis].as_const().unwrap_or(MANY)).fold(1, |all, size| (all * size.clamp(1, MANY)).min(MANY))
}

fn score(cx: &Cx<'_>, stage: &Stage, axis: usize) -> i64 {
    let axes = stage.body.axes();
    let score = |arg: usize, index: &[Index]| access_score(cx, arg, (index, &axes), axis);
    let loads = stage.body.loads().map(|(_, access)| score(access.arg, &access.index));
    let stores = stage.stores.iter().map(|store| 2 * score(store.arg, &store.index));
    loads.chain(stores).sum()
}

/// Contiguous 3, the same element 1, anywhere -1 or -4, strided -2. `axes` are those that computed positions depend on.
fn access_score(cx: &Cx<'_>, arg: usize, (index, axes): (&[Index], &[AxisSet]), axis: usize) -> i64 {
    let computed = |index: &Index| match index {
        Index::At(_) => false,
        Index::Value(value, _) => axes[value.index()].contains(axis),
    };
    let offset: Dim = index.iter().zip(&cx.arg(arg).strides).map(|(index, stride)| index.dim() * stride).sum();
    match offset.along(axis) {
        _ if index.iter().any(computed) => -1,
        Some((slope, _)) if slope.is(1) => 3,
        Some((slope, _)) if slope.is(0) => 1,
        Some(_) => -2,
        None => -4,
    }
}
