//! Loop nests. The axes that every stage keeps are points that have nothing to do with one another. A point belongs to one
//! thread, or to a team: neighbouring threads where rows are contiguous, threads of different warps where columns are.
//! Neighbouring threads take neighbours along the axis along which most accesses are contiguous.

use graver_ir::kernel::{AxisSet, Index, Nest, Stage};
use graver_ir::{DType, Dim};

use super::body::{Given, Loaded};
use super::cx::Cx;
use super::reduce::{Ends, Results, Sum};
use super::rows::Rows;
use super::{Emitted, THREADS, finish, split, transpose, vector};

/// Inner points up to which a thread does a point alone, where points are neighbours and where they are rows.
const ALONE: (i64, i64) = (64, 16);
/// Inner points up to which a warp does a row.
const WARP_ROW: i64 = 1024;

/// How threads share points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// A point a thread.
    Alone,
    /// A point for so many neighbouring threads.
    Rows { members: i64 },
    /// A point for so many threads of different warps.
    Columns { members: i64 },
}

/// How a nest is run.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) outer: AxisSet,
    pub(super) sharing: Sharing,
    /// The outer axes, slowest first.
    pub(super) points: Vec<usize>,
    /// Whether a team does the groups of inner points `from..to` alone.
    in_shares: bool,
    /// By stage: the inner axis that neighbouring threads take.
    lanes: Vec<(AxisSet, Option<usize>)>,
}

pub(super) fn emit<'a>(mut cx: Cx<'a>, nest: &'a Nest) -> Emitted {
    let plan = Plan::new(&cx, nest);
    for how in [transpose::emit, vector::emit, vector::emit_flat] {
        if let Some(blocks) = how(&mut cx, nest, &plan) {
            return finish(cx, THREADS, blocks);
        }
    }
    if let Some(emitted) = split::emit(&cx, nest, &plan) {
        return emitted;
    }
    let count = count_of(nest, &plan.points);
    let (total, each) = (cx.dim(&count), plan.threads() / plan.members());
    match plan.sharing {
        Sharing::Alone => {
            cx.line("const i32 slot = gr_thread();");
            cx.open(format!(
                "for (idx point = gr_block() * {THREADS} + slot; point < {total}; point += gr_blocks() * {THREADS})"
            ));
            cx.bind_digits(&plan.points, &nest.axes, "point");
            stages(&mut cx, nest, &plan);
        }
        Sharing::Rows { .. } | Sharing::Columns { .. } => {
            plan.open_team(&mut cx);
            cx.open(format!("for (idx group = gr_block(); group * {each} < {total}; group += gr_blocks())"));
            // All threads go through all barriers: those without a point of their own do the first one again, and store nothing.
            cx.line(format!("const bool live = group * {each} + slot < {total};"));
            cx.line(format!("const idx point = live ? group * {each} + slot : 0;"));
            cx.bind_digits(&plan.points, &nest.axes, "point");
            stages(&mut cx, nest, &plan);
        }
    }
    cx.close();
    let threads = plan.threads();
    finish(cx, threads, count.ceil_div(&Dim::from(each)))
}

fn stages<'a>(cx: &mut Cx<'a>, nest: &'a Nest, plan: &Plan) {
    let (mut results, rows) = (Results::default(), Rows::new(cx, nest, plan));
    for (number, stage) in nest.stages.iter().enumerate() {
        let ends = if stage.reductions.is_empty() {
            map_stage(cx, nest, plan, number, &results, rows.as_ref());
            results.push_nothing();
            Ends::Apart
        } else {
            results.push_stage(cx, &Sum { nest, number, plan, rows: rows.as_ref() })
        };
        // After the last stage: what is in memory is read until then, and written anew for the team's next point.
        if ends == Ends::Apart && (number + 1 < nest.stages.len() || results.in_memory()) {
            plan.sync(cx);
        }
    }
}

/// A stage without reductions.
pub(super) fn map_stage(cx: &mut Cx<'_>, nest: &Nest, plan: &Plan, number: usize, results: &Results, rows: Option<&Rows<'_>>) {
    let stage = &nest.stages[number];
    let inner = plan.inner(stage);
    let turns = plan.opens_turns(&inner);
    // A stage without inner axes is one member's.
    let many = plan.members() > 1;
    let guard = [(many && plan.members() < plan.threads()).then_some("live"), (many && !turns).then_some("member == 0")];
    let guard = guard.into_iter().flatten().collect::<Vec<&str>>().join(" && ");
    let visit = |cx: &mut Cx<'_>, loaded: &Loaded| cx.body_with(&stage.body, Given::Reduced(results), loaded);
    if turns {
        let single = Rows::single(nest, inner);
        let rows = rows.filter(|rows| rows.serve(plan, stage)).unwrap_or(&single);
        rows.turns(cx, plan, number, &guard, visit);
        if let Some(from) = rows.rest(plan) {
            let (turn, members) = (cx.fresh("turn"), plan.members());
            let (first, end) = plan.turns(cx, &rows.count(), from);
            cx.open(format!("for (idx {turn} = {first} + member; {turn} < {end}; {turn} += {members})"));
            rows.group(cx, plan, (number, &turn), &guard, visit);
            cx.close();
        }
        return;
    }
    plan.open_turns(cx, nest, &inner);
    if !guard.is_empty() {
        cx.open(format!("if ({guard})"));
    }
    let values = visit(cx, &Loaded::default());
    stage.stores.iter().for_each(|store| cx.store(store, &values));
    if !guard.is_empty() {
        cx.close();
    }
    plan.close_turns(cx, &inner);
}

impl Plan {
    fn new(cx: &Cx<'_>, nest: &Nest) -> Self {
        let outer = nest.stages.iter().map(|stage| stage.keep).reduce(AxisSet::intersection).unwrap_or_default();
        let best = best_lane(cx, nest, &nest.stages, AxisSet::first(nest.axes.len()), outer);
        let outer_lane = best.filter(|axis| outer.contains(*axis));
        let lane = |stage: &Stage| {
            let inner = stage.over.minus(outer);
            let lane = best.filter(|axis| inner.contains(*axis));
            (inner, lane.or_else(|| best_lane(cx, nest, std::slice::from_ref(stage), inner, AxisSet::EMPTY)))
        };
        let lanes = nest.stages.iter().map(lane).collect();
        let mut points: Vec<usize> = outer.iter().filter(|axis| Some(*axis) != outer_lane).collect();
        points.extend(outer_lane);
        Self { outer, sharing: sharing(nest, outer, outer_lane.is_some()), points, in_shares: false, lanes }
    }

    /// The same, with a team doing the groups of inner points `from..to` alone.
    pub(super) fn in_shares(&self) -> Self {
        Self { in_shares: true, ..self.clone() }
    }

    /// Whether a team does a share of the inner points.
    pub(super) fn is_cut(&self) -> bool {
        self.in_shares
    }

    pub(super) fn members(&self) -> i64 {
        match self.sharing {
            Sharing::Alone => 1,
            Sharing::Rows { members } | Sharing::Columns { members } => members,
        }
    }

    /// Of a block.
    pub(super) fn threads(&self) -> i64 {
        match self.sharing {
            Sharing::Rows { members: 32 } => 128,
            Sharing::Alone | Sharing::Rows { .. } | Sharing::Columns { .. } => THREADS,
        }
    }

    /// The variables that tell a thread its place in a team.
    pub(super) fn open_team(&self, cx: &mut Cx<'_>) {
        let (members, teams) = (self.members(), self.threads() / self.members());
        cx.line("const i32 thread = gr_thread();");
        cx.line(match self.sharing {
            Sharing::Rows { .. } => format!("const i32 slot = thread / {members}, member = thread % {members};"),
            Sharing::Alone | Sharing::Columns { .. } => {
                format!("const i32 slot = thread % {teams}, member = thread / {teams};")
            }
        });
    }

    /// A stage's inner axes, in order.
    pub(super) fn inner(&self, stage: &Stage) -> Vec<usize> {
        self.ordered(stage, stage.over.minus(self.outer))
    }

    /// Axes of a stage, the one that neighbouring threads take last.
    pub(super) fn ordered(&self, stage: &Stage, axes: AxisSet) -> Vec<usize> {
        let inner = stage.over.minus(self.outer);
        let lane = self.lanes.iter().find(|(of, _)| *of == inner).and_then(|(_, lane)| *lane).filter(|lane| axes.contains(*lane));
        axes.iter().filter(|axis| Some(*axis) != lane).chain(lane).collect()
    }

    fn opens_turns(&self, axes: &[usize]) -> bool {
        self.members() > 1 && !axes.is_empty()
    }

    /// Opens loops over the axes: this thread's alone, or in turns with the other members.
    pub(super) fn open_turns(&self, cx: &mut Cx<'_>, nest: &Nest, axes: &[usize]) {
        if !self.opens_turns(axes) {
            axes.iter().for_each(|axis| cx.open_axis(*axis, &nest.axes[*axis]));
            return;
        }
        let (turn, members) = (cx.fresh("turn"), self.members());
        let (first, end) = self.turns(cx, &count_of(nest, axes), 0);
        cx.open(format!("for (idx {turn} = {first} + member; {turn} < {end}; {turn} += {members})"));
        cx.bind_digits(axes, &nest.axes, &turn);
    }

    /// The first of the team's so many points or groups, from a number on where it does all of them, and where they end.
    pub(super) fn turns(&self, cx: &mut Cx<'_>, count: &Dim, from: i64) -> (String, String) {
        match self.in_shares {
            true => ("from".to_owned(), "to".to_owned()),
            false => (from.to_string(), cx.dim(count)),
        }
    }

    pub(super) fn close_turns(&self, cx: &mut Cx<'_>, axes: &[usize]) {
        if self.opens_turns(axes) {
            cx.unbind(axes);
            cx.close();
        } else {
            axes.iter().rev().for_each(|axis| cx.close_axis(*axis));
        }
    }

    /// A barrier, where members see what others wrote.
    pub(super) fn sync(&self, cx: &mut Cx<'_>) {
        if self.members() > 1 {
            cx.sync();
        }
    }

    /// Memory of this point's team for `count` elements: an expression of its first byte.
    pub(super) fn room(&self, cx: &mut Cx<'_>, count: &Dim, dtype: DType) -> String {
        let bytes = (count * Dim::from(dtype.size())).round_up(16);
        let offset = cx.take_scratch(&(&bytes * Dim::from(self.threads() / self.members())));
        let (bytes, offset) = (cx.dim(&bytes), cx.dim(&offset));
        cx.define("i64", "room", format!("mine + {offset} + slot * {bytes}"))
    }
}

/// Points over some axes.
pub(super) fn count_of(nest: &Nest, axes: &[usize]) -> Dim {
    axes.iter().map(|axis| nest.axes[*axis].clone()).product()
}

/// The row-major number of a point over some axes, the first slowest.
pub(super) fn number(nest: &Nest, axes: &[usize]) -> Dim {
    let (mut number, mut stride) = (Dim::ZERO, Dim::ONE);
    for axis in axes.iter().rev() {
        let size = &nest.axes[*axis];
        number = number + Dim::axis(u32::try_from(*axis).expect("few axes"), size) * &stride;
        stride = stride * size;
    }
    number
}

/// Few inner points are done alone; of many, rows are shared by neighbours, and columns by threads that have neighbours.
fn sharing(nest: &Nest, outer: AxisSet, columns: bool) -> Sharing {
    let inner = |stage: &Stage| -> Dim { stage.over.minus(outer).iter().map(|axis| nest.axes[axis].clone()).product() };
    let most = nest.stages.iter().map(|stage| inner(stage).as_const().unwrap_or(i64::MAX)).max().unwrap_or(1);
    match (most, columns) {
        (most, true) if most <= ALONE.0 => Sharing::Alone,
        (_, true) => Sharing::Columns { members: 8 },
        (most, false) if most <= ALONE.1 => Sharing::Alone,
        (most, false) if most <= WARP_ROW => Sharing::Rows { members: 32 },
        (_, false) => Sharing::Rows { members: THREADS },
    }
}

/// The axis of `candidates` along which accesses are best; the last of equals, of outer and inner ones an outer one.
fn best_lane(cx: &Cx<'_>, nest: &Nest, stages: &[Stage], candidates: AxisSet, outer: AxisSet) -> Option<usize> {
    let usable = candidates.iter().filter(|axis| nest.axes[*axis].as_const().is_none_or(|size| size > 1));
    let score = |axis: usize| {
        let accesses: i64 = stages.iter().filter(|stage| stage.over.contains(axis)).map(|stage| score(cx, stage, axis)).sum();
        let short = nest.axes[axis].as_const().is_some_and(|size| size < 8);
        4 * accesses + i64::from(outer.contains(axis)) - if short { 1000 } else { 0 }
    };
    usable.max_by_key(|axis| score(*axis))
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

/// The distance from an argument's first element, where no position is computed.
pub(super) fn known_offset(cx: &Cx<'_>, arg: usize, index: &[Index]) -> Option<Dim> {
    index.iter().zip(&cx.arg(arg).strides).try_fold(Dim::ZERO, |sum, (index, stride)| match index {
        Index::At(dim) => Some(sum + dim * stride),
        Index::Value(..) => None,
    })
}
