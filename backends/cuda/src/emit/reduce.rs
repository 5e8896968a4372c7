//! Reductions of a stage: each member of a team combines its points, then the members' results are combined in a fixed order.
//! Long runs of points are cut into chunks with accumulators of their own, so that rounding errors stay small.

use graver_ir::kernel::{Combine, Nest, Reduction, Stage};
use graver_ir::op::{Extreme, ReduceKind};
use graver_ir::{DType, Dim, Scalar};

use super::body::{Given, Loaded, constant};
use super::cx::{Cx, computed};
use super::nest::{Plan, Sharing, number};
use super::rows::Rows;

/// Points that one accumulator takes at most.
const CHUNK: i64 = 2048;

/// The results of stages, by stage and slot.
#[derive(Default)]
pub(super) struct Results {
    stages: Vec<Vec<Place>>,
}

/// Where a result is.
enum Place {
    /// One for all points of the stage's inner axes.
    Value(String),
    /// In the block's memory from `base` on, one a position of the kept inner axes.
    Memory { base: String, position: Dim, dtype: DType },
}

/// Where a reduction's results of shares are in the memory of the launch: one after the other at every point, from a byte on.
#[derive(Clone)]
pub(super) struct Partial {
    value: Dim,
    /// Of positions.
    at: Option<Dim>,
}

/// How the members of a team come out of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// By a barrier, behind which nothing was done: another one would be for nothing.
    Together,
    /// One before another.
    Apart,
}

/// A variable that values are combined in, and for positions the variable beside it.
struct Accumulator {
    value: String,
    at: Option<String>,
}

impl Results {
    /// The expression of a result at this point.
    pub(super) fn get(&self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> String {
        match &self.stages[stage][slot] {
            Place::Value(value) => value.clone(),
            Place::Memory { base, position, dtype } => element(cx, base, position, *dtype),
        }
    }

    /// Whether any result is in memory.
    pub(super) fn in_memory(&self) -> bool {
        self.stages.iter().flatten().any(|place| matches!(place, Place::Memory { .. }))
    }

    /// A stage without reductions.
    pub(super) fn push_nothing(&mut self) {
        self.stages.push(Vec::new());
    }

    /// The results of a stage whose shares were left in memory: combined anew, in an order that does not depend on time.
    pub(super) fn push_recalled(&mut self, cx: &mut Cx<'_>, sum: &Sum<'_>, partials: &[Partial], shares: &Dim) {
        let accumulators = sum.accumulators(cx);
        let (count, turn, members) = (cx.dim(shares), cx.fresh("turn"), sum.plan.members());
        cx.open(format!("for (i32 {turn} = member; {turn} < (i32){count}; {turn} += {members})"));
        for ((reduction, accumulator), partial) in sum.stage().reductions.iter().zip(&accumulators).zip(partials) {
            let number = format!("((i64)point * {count} + {turn})");
            let (value, at) = partial.elements(cx, sum.dtype(reduction), &number);
            combine(cx, reduction.combine, accumulator, &value, at.as_deref());
        }
        cx.close();
        sum.combine_members(cx, &accumulators);
        self.stages.push(accumulators.into_iter().map(Accumulator::place).collect());
    }

    /// Emits a stage with reductions.
    pub(super) fn push_stage(&mut self, cx: &mut Cx<'_>, sum: &Sum<'_>) -> Ends {
        let kept: Vec<usize> = sum.stage().keep.minus(sum.plan.outer).iter().collect();
        let (places, ends) = if kept.is_empty() { sum.of_team(cx, self) } else { sum.of_each(cx, self, &kept) };
        self.stages.push(places);
        ends
    }
}

fn element(cx: &mut Cx<'_>, base: &str, position: &Dim, dtype: DType) -> String {
    let offset = cx.dim(&(position * Dim::from(dtype.size())));
    format!("gr_place<{}>(scratch, {base} + {offset})", computed(dtype))
}

impl Partial {
    /// The expressions of a share's result, by its number.
    fn elements(&self, cx: &mut Cx<'_>, dtype: DType, number: &str) -> (String, Option<String>) {
        let mut element = |base: &Dim, ty: &str, size: usize| {
            let base = cx.dim(base);
            format!("gr_place<{ty}>(scratch, {base} + {number} * {size})")
        };
        let value = element(&self.value, computed(dtype), dtype.size());
        (value, self.at.as_ref().map(|at| element(at, "i64", 8)))
    }
}

impl Accumulator {
    fn place(self) -> Place {
        Place::Value(self.at.unwrap_or(self.value))
    }
}

/// The reductions of one stage.
pub(super) struct Sum<'a> {
    pub(super) nest: &'a Nest,
    /// Of the stage.
    pub(super) number: usize,
    pub(super) plan: &'a Plan,
    /// What earlier stages keep for it, or it for later ones.
    pub(super) rows: Option<&'a Rows<'a>>,
}

impl<'a> Sum<'a> {
    fn stage(&self) -> &'a Stage {
        &self.nest.stages[self.number]
    }

    fn reduced(&self) -> Vec<usize> {
        self.stage().over.minus(self.stage().keep).iter().collect()
    }

    /// One result for the whole team: members take turns at the points.
    fn of_team(&self, cx: &mut Cx<'_>, results: &Results) -> (Vec<Place>, Ends) {
        let accumulators = self.accumulators(cx);
        let reduced = self.plan.ordered(self.stage(), self.stage().over.minus(self.stage().keep));
        let ends = match self.plan.sharing {
            Sharing::Alone => {
                self.serial(cx, results, &reduced, &accumulators);
                Ends::Apart
            }
            Sharing::Rows { .. } | Sharing::Columns { .. } => {
                self.taking_turns(cx, results, reduced, &accumulators);
                self.combine_members(cx, &accumulators)
            }
        };
        (accumulators.into_iter().map(Accumulator::place).collect(), ends)
    }

    /// Places for so many results of each reduction behind `bytes` of the launch's memory, and where they end.
    pub(super) fn places(&self, count: &Dim, bytes: &Dim) -> (Vec<Partial>, Dim) {
        let mut end = bytes.clone();
        let mut take = |size: usize| {
            let start = end.clone();
            end = (&end + count * Dim::from(size)).round_up(16);
            start
        };
        let place = |reduction: &Reduction| Partial {
            value: take(self.dtype(reduction).size()),
            at: matches!(reduction.combine, Combine::Arg(_)).then(|| take(8)),
        };
        (self.stage().reductions.iter().map(place).collect(), end)
    }

    /// The results of a share, left in memory.
    pub(super) fn leave_share(&self, cx: &mut Cx<'_>, results: &Results, places: &[Partial], shares: &Dim) {
        let accumulators = self.accumulators(cx);
        let reduced = self.plan.ordered(self.stage(), self.stage().over.minus(self.stage().keep));
        self.taking_turns(cx, results, reduced, &accumulators);
        self.combine_members(cx, &accumulators);
        let count = cx.dim(shares);
        cx.open("if (live && member == 0)");
        for ((reduction, accumulator), place) in self.stage().reductions.iter().zip(&accumulators).zip(places) {
            let number = format!("((i64)point * {count} + share)");
            let (value, at) = place.elements(cx, self.dtype(reduction), &number);
            cx.line(format!("{value} = {};", accumulator.value));
            if let (Some(at), Some(position)) = (at, &accumulator.at) {
                cx.line(format!("{at} = {position};"));
            }
        }
        cx.close();
    }

    /// A result for every position of some inner axes, in memory: members take turns at the positions.
    fn of_each(&self, cx: &mut Cx<'_>, results: &Results, kept: &[usize]) -> (Vec<Place>, Ends) {
        let position = number(self.nest, kept);
        let count: Dim = kept.iter().map(|axis| self.nest.axes[*axis].clone()).product();
        let places: Vec<(String, DType)> = self
            .stage()
            .reductions
            .iter()
            .map(|reduction| (self.plan.room(cx, &count, reduction.dtype), reduction.dtype))
            .collect();
        self.plan.open_turns(cx, self.nest, kept);
        let accumulators = self.accumulators(cx);
        self.serial(cx, results, &self.reduced(), &accumulators);
        for (accumulator, (base, dtype)) in accumulators.iter().zip(&places) {
            let (element, value) = (element(cx, base, &position, *dtype), accumulator.at.as_ref().unwrap_or(&accumulator.value));
            cx.line(format!("{element} = {value};"));
        }
        self.plan.close_turns(cx, kept);
        self.plan.sync(cx);
        let place = |(base, dtype)| Place::Memory { base, position: position.clone(), dtype };
        (places.into_iter().map(place).collect(), Ends::Together)
    }

    fn accumulators(&self, cx: &mut Cx<'_>) -> Vec<Accumulator> {
        let one = |reduction: &Reduction| {
            let (identity, has_position) = match reduction.combine {
                Combine::Reduce(kind) => (kind.identity(reduction.dtype), false),
                Combine::Arg(Extreme::Max) => (Scalar::lowest(self.dtype(reduction)), true),
                Combine::Arg(Extreme::Min) => (Scalar::highest(self.dtype(reduction)), true),
            };
            let value = cx.fresh("sum");
            cx.line(format!("{} {value} = {};", computed(identity.dtype()), constant(identity)));
            let at = has_position.then(|| {
                let at = cx.fresh("at");
                cx.line(format!("i64 {at} = 0;"));
                at
            });
            Accumulator { value, at }
        };
        self.stage().reductions.iter().map(one).collect()
    }

    /// The type of what is compared or summed.
    fn dtype(&self, reduction: &Reduction) -> DType {
        self.stage().body.dtype(reduction.value).compute()
    }

    /// Loops of this thread over the axes, the first outermost.
    fn serial(&self, cx: &mut Cx<'_>, results: &Results, axes: &[usize], into: &[Accumulator]) {
        let Some((axis, rest)) = axes.split_first() else {
            self.point(cx, results, into, &Loaded::default());
            return;
        };
        let size = &self.nest.axes[*axis];
        if size.as_const().is_some_and(|size| size <= CHUNK) {
            cx.open_axis(*axis, size);
            self.serial(cx, results, rest, into);
            cx.close_axis(*axis);
            return;
        }
        let (chunk, name, end) = (cx.fresh("chunk"), cx.fresh("a"), cx.dim(size));
        cx.open(format!("for (idx {chunk} = 0; {chunk} < {end}; {chunk} += {CHUNK})"));
        let parts = self.accumulators(cx);
        cx.open(format!("for (idx {name} = {chunk}; {name} < gr_lesser<idx>({chunk} + {CHUNK}, {end}); {name}++)"));
        cx.at[*axis] = Some(name);
        self.serial(cx, results, rest, &parts);
        cx.close_axis(*axis);
        self.merge(cx, into, &parts);
        cx.close();
    }

    /// Points of all axes together, dealt out to the members in groups.
    fn taking_turns(&self, cx: &mut Cx<'_>, results: &Results, axes: Vec<usize>, into: &[Accumulator]) {
        let (single, plan, members) = (Rows::single(self.nest, axes), self.plan, self.plan.members());
        let rows = self.rows.filter(|rows| rows.serve(plan, self.stage())).unwrap_or(&single);
        rows.turns(cx, plan, self.number, "", |cx, loaded| self.point(cx, results, into, loaded));
        let Some(from) = rows.rest(plan) else { return };
        let count = rows.count();
        let (turn, (first, end)) = (cx.fresh("turn"), plan.turns(cx, &count, from));
        let whole = members * (CHUNK / rows.width());
        if !plan.is_cut() && count.as_const().is_some_and(|count| count - from <= whole) {
            cx.open(format!("for (idx {turn} = {first} + member; {turn} < {end}; {turn} += {members})"));
            rows.group(cx, plan, (self.number, &turn), "", |cx, loaded| self.point(cx, results, into, loaded));
        } else {
            let start = cx.fresh("start");
            cx.open(format!("for (idx {start} = {first}; {start} < {end}; {start} += {whole})"));
            let parts = self.accumulators(cx);
            let limit = format!("gr_lesser<idx>({start} + {whole}, {end})");
            cx.open(format!("for (idx {turn} = {start} + member; {turn} < {limit}; {turn} += {members})"));
            rows.group(cx, plan, (self.number, &turn), "", |cx, loaded| self.point(cx, results, &parts, loaded));
            cx.close();
            self.merge(cx, into, &parts);
        }
        cx.close();
    }

    /// One point's values, combined.
    fn point(&self, cx: &mut Cx<'_>, results: &Results, into: &[Accumulator], loaded: &Loaded) -> Vec<String> {
        let values = cx.body_with(&self.stage().body, Given::Reduced(results), loaded);
        let position = number(self.nest, &self.reduced());
        for (reduction, accumulator) in self.stage().reductions.iter().zip(into) {
            let at = accumulator.at.is_some().then(|| cx.dim(&position));
            combine(cx, reduction.combine, accumulator, &values[reduction.value.index()], at.as_deref());
        }
        values
    }

    fn merge(&self, cx: &mut Cx<'_>, into: &[Accumulator], parts: &[Accumulator]) {
        for ((reduction, accumulator), part) in self.stage().reductions.iter().zip(into).zip(parts) {
            combine(cx, reduction.combine, accumulator, &part.value, part.at.as_deref());
        }
    }

    /// Each member's results combined into those of all, which every member has afterwards. Of a warp they come by shuffles; those of more
    /// threads by slots, and a barrier behind each, since the next one, of this stage, of another or of another point, uses them again.
    fn combine_members(&self, cx: &mut Cx<'_>, accumulators: &[Accumulator]) -> Ends {
        let (threads, members) = (self.plan.threads(), self.plan.members());
        let mut ends = Ends::Apart;
        for (reduction, accumulator) in self.stage().reductions.iter().zip(accumulators) {
            let (dtype, op) = (self.dtype(reduction), operation(reduction.combine));
            let (ty, value) = (computed(dtype), &accumulator.value);
            // Of rows, warps are combined first.
            let rows = matches!(self.plan.sharing, Sharing::Rows { .. });
            if rows {
                match &accumulator.at {
                    None => cx.line(format!("{value} = gr_of_warp<{op}>({value});")),
                    Some(at) => cx.line(format!("gr_arg_of_warp<{op}>(&{value}, &{at});")),
                }
                if members == 32 {
                    continue;
                }
            }
            let slots = usize::try_from(if rows { threads / 32 } else { threads }).expect("few threads");
            let values = (slots * dtype.size()).next_multiple_of(16);
            let place = cx.take_slots(values + if accumulator.at.is_some() { slots * 8 } else { 0 });
            let slots_of = |ty: &str, place: usize| format!("gr_local<{ty}>(shared, {place}, {slots})");
            let slot = if rows {
                format!("thread / 32, thread % 32 == 0, 0, 1, {slots}")
            } else {
                format!("thread, true, thread % {}, {}, {members}", threads / members, threads / members)
            };
            match &accumulator.at {
                None => cx.line(format!("{value} = gr_of_team<{op}, {ty}>({}, {value}, {slot});", slots_of(ty, place))),
                Some(at) => {
                    let places = slots_of("i64", place + values);
                    cx.line(format!("gr_arg_of_team<{op}, {ty}>({}, {places}, &{value}, &{at}, {slot});", slots_of(ty, place)));
                }
            }
            cx.barriers = true;
            ends = Ends::Together;
        }
        cx.barriers |= members > 1;
        ends
    }
}

/// How two values of a reduction are combined.
pub(super) const fn reduction(kind: ReduceKind) -> &'static str {
    match kind {
        ReduceKind::Sum => "gr_sum",
        ReduceKind::Prod => "gr_prod",
        ReduceKind::Max => "gr_most",
        ReduceKind::Min => "gr_least_of",
    }
}

const fn operation(combine: Combine) -> &'static str {
    match combine {
        Combine::Reduce(kind) => reduction(kind),
        Combine::Arg(Extreme::Max) => "gr_arg_max",
        Combine::Arg(Extreme::Min) => "gr_arg_min",
    }
}

fn combine(cx: &mut Cx<'_>, how: Combine, into: &Accumulator, value: &str, at: Option<&str>) {
    let (sum, op) = (&into.value, operation(how));
    match (&into.at, at) {
        (Some(best), Some(at)) => cx.line(format!("gr_choose<{op}>(&{sum}, &{best}, {value}, (i64)({at}));")),
        (None, None) => cx.line(format!("{sum} = {op}::of({sum}, {value});")),
        (Some(_), None) | (None, Some(_)) => unreachable!("K12: positions have positions"),
    }
}
