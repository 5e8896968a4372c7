//! Few points of many inner points each: one block a point would leave a GPU idle. The inner points are cut into shares, whose number is
//! a function of sizes; every stage is a phase in which blocks take points and shares. What a stage reduces is left in memory, a result
//! a share, and the phases after it combine these in an order of their own: no bit depends on blocks or on time.

use graver_ir::Dim;
use graver_ir::kernel::{InstKind, Nest, Stage};

use super::cx::Cx;
use super::nest::{self, Plan, Sharing, count_of};
use super::reduce::{Partial, Results, Sum};
use super::rows::Rows;
use super::{Emitted, Part, THREADS, finish_all};

/// Teams of threads, whole blocks, from which on there is work for all of a GPU without shares.
pub(super) const ENOUGH: i64 = 64;
/// Shares at most.
const MOST: i64 = 128;
/// Inner points of a share at least, and of a stage that is cut: those of a row, and those above each other of a column.
const ROW: (i64, i64) = (8192, 32_768);
const COLUMN: (i64, i64) = (512, 2048);

/// How inner points are cut.
struct Split<'a> {
    nest: &'a Nest,
    plan: Plan,
    shares: Dim,
    /// Points of the outer axes.
    points: Dim,
    /// What is left in memory so far, by stage and slot.
    partials: Vec<Vec<Partial>>,
    /// Bytes of it.
    bytes: Dim,
}

/// Emits the nest if it is worth cutting.
pub(super) fn emit<'a>(cx: &Cx<'a>, nest: &'a Nest, plan: &Plan) -> Option<Emitted> {
    let mut split = Split::new(nest, plan)?;
    let parts = (0..nest.stages.len()).map(|stage| split.phase(Cx::new(cx.kernel), stage)).collect();
    Some(finish_all(parts, &split.bytes))
}

impl<'a> Split<'a> {
    fn new(nest: &'a Nest, plan: &Plan) -> Option<Self> {
        let (share, least) = match plan.sharing {
            Sharing::Rows { members: THREADS } => ROW,
            Sharing::Columns { .. } => COLUMN,
            Sharing::Alone | Sharing::Rows { .. } => return None,
        };
        let points = count_of(nest, &plan.points);
        let teams = points.ceil_div(&Dim::from(plan.threads() / plan.members()));
        let whole = nest.stages.iter().all(|stage| stage.reductions.is_empty() || stage.keep.minus(plan.outer).is_empty());
        let first = nest.stages.iter().find(|stage| !stage.reductions.is_empty())?;
        let inner = count_of(nest, &plan.inner(first));
        if !whole
            || teams.bounds().hi > ENOUGH
            || inner.bounds().hi < least
            || inner.as_const().is_some_and(|inner| inner < least)
        {
            return None;
        }
        let shares = inner.ceil_div(&Dim::from(share)).min_with(&Dim::from(MOST)).max_with(&Dim::ONE);
        let plan = plan.in_shares();
        Some(Self { nest, plan, shares, points, partials: Vec::new(), bytes: Dim::ZERO })
    }

    /// One stage, over points and shares; over points alone where it has no inner axes.
    fn phase(&mut self, mut cx: Cx<'a>, number: usize) -> Part<'a> {
        let (nest, plan, stage) = (self.nest, &self.plan, &self.nest.stages[number]);
        let each = plan.threads() / plan.members();
        let is_cut = !stage.over.minus(plan.outer).is_empty();
        let shares = if is_cut { self.shares.clone() } else { Dim::ONE };
        let units = self.points.ceil_div(&Dim::from(each)) * &shares;
        let (total, count, across) = (cx.dim(&units), cx.dim(&self.points), cx.dim(&shares));
        plan.open_team(&mut cx);
        cx.open(format!("for (idx unit = gr_block(); unit < {total}; unit += gr_blocks())"));
        cx.line(format!("const idx group = gr_quotient<idx>(unit, {across}), share = unit - group * {across};"));
        cx.line(format!("const bool live = group * {each} + slot < {count};"));
        cx.line(format!("const idx point = live ? group * {each} + slot : 0;"));
        cx.bind_digits(&plan.points, &nest.axes, "point");
        let rows = Rows::dealt(&cx, nest, plan);
        let mut results = Results::default();
        for (earlier, partials) in self.partials.iter().enumerate() {
            match is_used(stage, earlier) {
                true => results.push_recalled(&mut cx, &self.sum(earlier), partials, &self.shares),
                false => results.push_nothing(),
            }
        }
        if is_cut {
            let served = rows.as_ref().filter(|rows| rows.serve(plan, stage));
            let inner = served.map_or_else(|| count_of(nest, &plan.inner(stage)), Rows::count);
            let inner = cx.dim(&inner);
            cx.line(format!("const idx length = gr_quotient<idx>({inner} + {across} - 1, {across});"));
            cx.line(format!("const idx from = share * length, to = gr_lesser<idx>(from + length, {inner});"));
        }
        let mut partials = Vec::new();
        if stage.reductions.is_empty() {
            nest::map_stage(&mut cx, nest, plan, number, &results, rows.as_ref());
        } else {
            let sum = Sum { rows: rows.as_ref(), ..self.sum(number) };
            let (places, bytes) = sum.places(&(&self.points * &self.shares), &self.bytes);
            sum.leave_share(&mut cx, &results, &places, &self.shares);
            (partials, self.bytes) = (places, bytes);
        }
        cx.unbind(&plan.points);
        cx.close();
        let threads = plan.threads();
        self.partials.push(partials);
        Part { cx, threads, blocks: units }
    }

    fn sum(&self, stage: usize) -> Sum<'_> {
        Sum { nest: self.nest, number: stage, plan: &self.plan, rows: None }
    }
}

/// Whether a stage reads what another one reduced.
fn is_used(stage: &Stage, earlier: usize) -> bool {
    stage.body.insts.iter().any(|inst| matches!(inst.kind, InstKind::Reduced { stage, .. } if stage == earlier))
}
