//! What neighbouring rows read at all of their positions, each element once, and where that is inside.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use graver_ir::dim::Atom;
use graver_ir::kernel::{Access, Body, Bounds, Combine as Combining, Index, Inst, InstKind, Nest, Stage, ValueId};
use graver_ir::op::ReduceKind;
use graver_ir::{DType, Dim, ScalarFn};

use super::super::cx::{At, Cx};
use super::super::reduce::{combine, combine_arg, kinds};
use super::reads::Reads;
use crate::vector::{Compare, Elem, Pattern, TABLE_LANES, Val};

/// Where some axes stand.
pub(super) type Stand = Vec<(usize, i64)>;

/// Rows of a nest whose first stage combines, and what they read.
pub(super) struct Visits<'a> {
    pub(super) nest: Cow<'a, Nest>,
    /// The axis over lanes.
    pub(super) lane: usize,
    /// The axis of rows.
    pub(super) row: usize,
    /// Rows of blocks, the highest first.
    pub(super) heights: Vec<i64>,
    /// In the order in which they are made, which for each row is the same.
    pub(super) visits: Vec<Visit>,
    /// What visits read, each once.
    pub(super) reads: Vec<Read>,
    /// Loads that are packed, by their numbers, and where: from which byte on.
    pub(super) packed: Vec<(usize, Dim)>,
    /// Whether comparisons of positions ask for what is inside, as loads do: where axes are split.
    asks: bool,
}

/// A row at one of its positions: the body there, of a block's first row's axis.
pub(super) struct Visit {
    pub(super) row: i64,
    /// Of remainders, by number.
    pub(super) copy: usize,
    /// Its number.
    pub(super) position: i64,
    pub(super) body: Body,
    /// By instruction, which of the reads it is.
    pub(super) reads: Vec<Option<usize>>,
}

/// Something that is read.
pub(super) struct Read {
    /// The first row that reads it.
    pub(super) row: i64,
    /// The load, by its number.
    load: usize,
    arg: usize,
    index: Vec<Index>,
}

/// What is known of where rows are.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// By load, what is read instead where a row is outside.
    pub(super) lines: &'a [Option<Val>],
    pub(super) inside: Inside,
}

/// What need not be asked whether it is inside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    Nothing,
    /// Where lanes are.
    Lanes,
    /// Everything else.
    Rest,
}

/// From the height of a block of rows and what is carried before it to what is after it.
type Block<'a> = dyn FnMut(&mut Cx<'_>, i64, Vec<Val>) -> Vec<Val> + 'a;
/// The same of where a stretch of an axis begins and ends, and whether nothing need be asked there.
type Stretch<'a> = dyn FnMut(&mut Cx<'_>, (Val, Val), bool, Vec<Val>) -> Vec<Val> + 'a;

impl<'a> Visits<'a> {
    /// Of a nest's axes over lanes and of rows, for each of these remainders (of no axes, none: one), at these positions, which along an axis that
    /// is `bound` are so far from where that stands.
    pub(super) fn new(
        nest: Cow<'a, Nest>,
        ([lane, row], bound): ([usize; 2], Option<usize>),
        heights: Vec<i64>,
        (copies, positions): (&[Stand], &[Stand]),
    ) -> Self {
        let (visits, reads) = visits(&nest.stages[0], (row, bound), heights[0], (copies, positions));
        Self { nest, lane, row, heights, visits, reads, packed: Vec::new(), asks: copies.len() > 1 }
    }

    /// What must not be negative for a comparison of positions to hold, if that is what an instruction is, and it rises or falls with the lanes.
    pub(super) fn asked(&self, body: &Body, inst: &InstKind) -> Option<Dim> {
        let InstKind::Map(ScalarFn::Le, operands) = inst else { return None };
        let [x, y] = operands[..] else { return None };
        let need = as_position(body.inst(y))? - as_position(body.inst(x))?;
        let slope = need.along(self.lane).and_then(|(slope, _)| slope.as_const());
        slope.is_some_and(|slope| slope != 0 && self.asks).then_some(need)
    }

    /// Blocks of rows of these heights: as many of the highest as there are, then of lower ones; what is carried after them.
    pub(super) fn blocks(
        &self,
        cx: &mut Cx<'_>,
        heights: &[i64],
        (begin, end): (Val, Val),
        state: Vec<Val>,
        block: &mut Block<'_>,
    ) -> Vec<Val> {
        let mut state: Vec<Val> = std::iter::once(begin).chain(state).collect();
        for height in heights {
            let more = cx.b.int(1 - height);
            let last = cx.b.add(end, more);
            let open = cx.b.open_loop(state[0], last, *height, state);
            cx.at[self.row] = At::One(open.var);
            let carried = block(cx, *height, open.params[1..].to_vec());
            cx.at[self.row] = At::Unbound;
            let height = cx.b.int(*height);
            let after = cx.b.add(open.var, height);
            state = cx.b.close_loop(open, std::iter::once(after).chain(carried).collect());
        }
        state.split_off(1)
    }

    /// Stretches of an axis: those inside, and those of which that is asked; what is carried after them.
    pub(super) fn stretches(
        &self,
        cx: &mut Cx<'_>,
        (axis, inside): (usize, Option<(Val, Val)>),
        state: Vec<Val>,
        stretch: &mut Stretch<'_>,
    ) -> Vec<Val> {
        let (zero, size) = (cx.b.int(0), cx.value(&self.nest.axes[axis]));
        let Some((from, to)) = inside else { return stretch(cx, (zero, size), false, state) };
        if from == zero {
            let state = stretch(cx, (from, to), true, state);
            return if to == size { state } else { stretch(cx, (to, size), false, state) };
        }
        // What is before and what is behind, by the same code.
        let (one, two) = (cx.b.int(1), cx.b.int(2));
        let open = cx.b.open_loop(zero, two, 1, state);
        let is_before = cx.b.compare(Compare::Lt, open.var, one);
        let (begin, end) = (cx.b.select(is_before, zero, to), cx.b.select(is_before, from, size));
        let carried = stretch(cx, (begin, end), false, open.params.clone());
        let end = cx.b.select(is_before, to, from);
        let carried = stretch(cx, (from, end), true, carried);
        cx.b.close_loop(open, carried)
    }

    /// Whether every result's positions come in order.
    pub(super) fn is_ascending(&self) -> bool {
        let mut last: BTreeMap<(i64, usize), i64> = BTreeMap::new();
        self.visits.iter().all(|visit| {
            let before = last.insert((visit.row, visit.copy), visit.position);
            before.is_none_or(|before| before < visit.position)
        })
    }

    /// Values that are read and wait at once, at most.
    pub(super) fn waiting(&self) -> usize {
        let mut last = vec![0; self.reads.len()];
        for (place, visit) in self.visits.iter().enumerate() {
            visit.reads.iter().flatten().for_each(|read| last[*read] = place);
        }
        let (mut waiting, mut most) = (BTreeSet::new(), 0);
        for (place, visit) in self.visits.iter().enumerate() {
            waiting.extend(visit.reads.iter().flatten().copied());
            most = most.max(waiting.len());
            waiting.retain(|read: &usize| last[*read] > place);
        }
        most
    }

    /// Combines all that rows visit with sums, of which `of` says to which a visit belongs.
    pub(super) fn combine(
        &self,
        cx: &mut Cx<'_>,
        height: i64,
        place: Place<'_>,
        sums: &mut [Vec<Val>],
        of: &dyn Fn(&Visit) -> usize,
    ) {
        let sum = &self.nest.stages[0];
        let kinds = kinds(sum);
        // What is the same for all rows is kept in registers if there is room.
        let held = if cx.lanes == TABLE_LANES { 16 } else { 6 };
        let is_held = self.visits.iter().filter(|visit| visit.row == 0).count() <= held;
        let mut known = vec![None; self.reads.len()];
        for visit in self.visits.iter().filter(|visit| visit.row < height) {
            let mut reads = Reads { visits: self, visit, place, is_held, known: &mut known };
            let values = cx.body(&visit.body, &mut reads);
            let sums = &mut sums[of(visit)];
            let mut slot = 0;
            for (reduction, (kind, has_position)) in sum.reductions.iter().zip(&kinds) {
                let (value, is_sum) = (values[reduction.value.index()], reduction.combine == Combining::Reduce(ReduceKind::Sum));
                if *has_position {
                    let number = i32::try_from(visit.position).expect("few positions");
                    let (value, number) = (cx.b.lanes(value), cx.b.number(Elem::I32, number));
                    let best = combine_arg(cx, *kind, [sums[slot], sums[slot + 1]], [value, number]);
                    sums[slot..slot + 2].copy_from_slice(&best);
                    slot += 2;
                    continue;
                }
                sums[slot] = if let InstKind::Map(ScalarFn::Mul, factors) = &sum.body.inst(reduction.value).kind
                    && is_sum
                    && kind.elem.is_float()
                {
                    cx.b.fma(values[factors[0].index()], values[factors[1].index()], sums[slot])
                } else if is_sum && cx.b.is_zero(value) {
                    // A sum that began with 0 is not -0.
                    sums[slot]
                } else {
                    let value = cx.b.lanes(value);
                    combine(cx, *kind, sums[slot], value)
                };
                slot += 1;
            }
        }
    }

    /// Where a load's element of a position is, the lanes'.
    pub(super) fn place_packed(&self, cx: &mut Cx<'_>, load: usize, position: &Dim) -> (Val, Pattern) {
        let (_, from) = self.packed.iter().find(|(packed, _)| *packed == load).expect("it is packed");
        let (shared, from) = (cx.shared(), cx.value(from));
        let (base, size) = (cx.b.add(shared, from), &self.nest.axes[self.lane]);
        let lane = Dim::axis(u32::try_from(self.lane).expect("few axes"), size);
        cx.place(base, &(position * size + lane), None, self.nest.stages[0].body.insts[load].dtype)
    }

    /// From where to where along the lanes nothing need be asked of them; `None` where that is nowhere, or not known.
    pub(super) fn inside(&self, cx: &Cx<'_>, height: i64) -> Option<(Dim, Dim)> {
        let (size, lanes) = (&self.nest.axes[self.lane], i64::try_from(cx.lanes).expect("few lanes"));
        let mut needed = self.needed(cx, height, &|_, index| depends(index, self.lane));
        let visits = self.visits.iter().filter(|visit| visit.row < height);
        let asked = visits.flat_map(|visit| visit.body.insts.iter().filter_map(|inst| self.asked(&visit.body, &inst.kind)));
        needed.extend(asked.filter(|need| !need.is_nonneg()));
        let (from, to) = self.reach(self.lane, needed)?;
        let from = from.round_up(lanes).min_with(size);
        // Whole vectors, and what is left where that is inside too.
        let whole = to.floor_div(&Dim::from(lanes)) * Dim::from(lanes);
        let is_all = (&to - size + Dim::ONE).max_with(&Dim::ZERO);
        let to = (&whole + is_all * (size - &whole)).max_with(&from);
        (from != to).then_some((from, to))
    }

    /// From where to where, in blocks of the highest, rows are inside, lanes aside: nowhere where something else is not.
    pub(super) fn inside_rows(&self, cx: &mut Cx<'_>) -> Option<(Val, Val)> {
        let (size, height) = (&self.nest.axes[self.row], self.heights[0]);
        let is_of_rows = |index: &Index| depends(index, self.row);
        let is_rest = |index: &Index| !depends(index, self.lane);
        let (from, to) = self.reach(self.row, self.needed(cx, height, &|_, index| is_rest(index) && is_of_rows(index)))?;
        let from = from.round_up(height).min_with(size);
        let whole = size.floor_div(&Dim::from(height)) * Dim::from(height);
        let to = to.round_up(height).min_with(&whole).max_with(&from);
        if from == to {
            return None;
        }
        let (zero, [mut from, mut to]) = (cx.b.int(0), [from, to].map(|dim| cx.value(&dim)));
        for need in self.needed(cx, height, &|_, index| is_rest(index) && !is_of_rows(index)) {
            let need = cx.value(&need);
            let is_inside = cx.b.compare(Compare::Ge, need, zero);
            [from, to] = [from, to].map(|place| cx.b.select(is_inside, place, zero));
        }
        Some((from, to))
    }

    /// From where to where along an axis nothing that is needed is negative.
    fn reach(&self, axis: usize, needed: Vec<Dim>) -> Option<(Dim, Dim)> {
        let (mut from, mut to) = (Dim::ZERO, self.nest.axes[axis].clone());
        for need in needed {
            let (slope, rest) = need.along(axis)?;
            match slope.as_const()? {
                0 => return None,
                slope @ 1.. => from = from.max_with(&(Dim::ZERO - rest).ceil_div(&Dim::from(slope))),
                slope => to = to.min_with(&(rest.floor_div(&Dim::from(-slope)) + Dim::ONE)),
            }
        }
        Some((from, to))
    }

    /// What must not be negative where positions of what may be outside are inside: those of loads, by their numbers, for which `of` holds.
    fn needed(&self, cx: &Cx<'_>, height: i64, of: &dyn Fn(usize, &Index) -> bool) -> Vec<Dim> {
        // By what varies, the least constant.
        let mut needed: BTreeMap<Dim, i64> = BTreeMap::new();
        let body = &self.nest.stages[0].body;
        let may_be_outside =
            |load: usize| matches!(&body.insts[load].kind, InstKind::Load(Access { bounds: Bounds::Fill(_), .. }));
        for read in self.reads.iter().filter(|read| read.row < height && may_be_outside(read.load)) {
            let each = read.index.iter().zip(&cx.arg(read.arg).shape);
            for (index, size) in each.filter(|(index, _)| of(read.load, index)) {
                for need in [index.dim().clone(), size - index.dim() - Dim::ONE] {
                    let (varies, constant) = need.apart();
                    needed.entry(varies).and_modify(|least| *least = constant.min(*least)).or_insert(constant);
                }
            }
        }
        let needed = needed.into_iter().map(|(varies, constant)| varies + Dim::from(constant));
        needed.filter(|need| !need.is_nonneg()).collect()
    }

    /// By load, what is read instead where a row is outside: as long a line of what is there.
    pub(super) fn lines(&self, cx: &mut Cx<'_>) -> Vec<Option<Val>> {
        let body = &self.nest.stages[0].body;
        let mut lines = vec![None; body.insts.len()];
        for (number, access) in body.loads() {
            let of = |load: usize, index: &Index| load == number.index() && !depends(index, self.lane);
            let Bounds::Fill(fill) = access.bounds else { continue };
            if self.needed(cx, self.heights[0], &of).is_empty() {
                continue;
            }
            let arg = cx.arg(access.arg);
            let along = access.index.iter().zip(&arg.shape).zip(&arg.strides).filter(|((index, _), _)| depends(index, self.lane));
            let last: Dim = along.map(|((_, size), stride)| (size - Dim::ONE) * stride).sum();
            let (size, elements) = (Dim::from(arg.dtype.size()), last + Dim::ONE);
            let line = cx.take_scratch(&(&elements * &size));
            let (zero, end, size) = (cx.b.int(0), cx.value(&elements), cx.value(&size));
            let fill = cx.scalar(fill);
            let open = cx.b.open_sweep(zero, end, 1);
            let offset = cx.b.mul(open.var, size);
            let ptr = cx.b.add(line, offset);
            cx.b.store(ptr, arg.dtype, Pattern::Contiguous, fill);
            cx.b.close_sweep(open, Vec::new());
            lines[number.index()] = Some(line);
        }
        lines
    }
}

/// The expression that an instruction is the value of.
fn as_position(inst: &Inst) -> Option<Dim> {
    match &inst.kind {
        InstKind::Index(dim) => Some(dim.clone()),
        InstKind::Const(number) if inst.dtype == DType::I64 => Some(Dim::from(number.as_i64())),
        InstKind::Const(_) | InstKind::Load(_) | InstKind::Map(..) | InstKind::Cast(_) | InstKind::Bitcast(_) => None,
        InstKind::Reduced { .. } | InstKind::Acc | InstKind::Check { .. } | InstKind::Philox { .. } => None,
    }
}

/// Whether a position depends on an axis.
pub(super) fn depends(index: &Index, axis: usize) -> bool {
    index.dim().axes().iter().any(|var| var.id as usize == axis)
}

/// An expression with axes so much further on, and others where they stand.
pub(super) fn moved(dim: &Dim, by: &[(usize, i64)], position: &[(usize, i64)]) -> Dim {
    let of = |list: &[(usize, i64)], axis: u32| list.iter().find(|(other, _)| *other == axis as usize).map(|(_, number)| *number);
    dim.substitute(&|atom| match atom {
        Atom::Axis(var) => {
            let by = of(by, var.id).map(|number| Dim::atom(atom.clone()) + Dim::from(number));
            by.or_else(|| of(position, var.id).map(Dim::from))
        }
        Atom::Sym(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
    })
}

/// A body with other expressions.
pub(super) fn substituted(body: &Body, at: &dyn Fn(&Dim) -> Dim) -> Body {
    let mut body = body.clone();
    for inst in &mut body.insts {
        match &mut inst.kind {
            InstKind::Index(dim) => *dim = at(dim),
            InstKind::Load(access) => access.index.iter_mut().for_each(|index| move_index(index, at)),
            InstKind::Const(_) | InstKind::Map(..) | InstKind::Cast(_) | InstKind::Bitcast(_) => {}
            InstKind::Reduced { .. } | InstKind::Acc | InstKind::Check { .. } | InstKind::Philox { .. } => {}
        }
    }
    body
}

pub(super) fn move_index(index: &mut Index, at: &dyn Fn(&Dim) -> Dim) {
    match index {
        Index::At(dim) | Index::Value(_, dim) => *dim = at(dim),
    }
}

/// Every row at every position, in the order of what they read: what is read once is used by all rows that want it, and then no more. Each
/// row's positions have the same order.
pub(super) fn visits(
    sum: &Stage,
    (row, bound): (usize, Option<usize>),
    height: i64,
    (copies, positions): (&[Stand], &[Stand]),
) -> (Vec<Visit>, Vec<Read>) {
    let (mut visits, mut reads) = (Vec::new(), Vec::new());
    let mut numbers: BTreeMap<(usize, Vec<Dim>), usize> = BTreeMap::new();
    let is_along = |access: &Access, axis: usize| access.index.iter().any(|index| depends(index, axis));
    let is_of_position = |load: ValueId, position: &[(usize, i64)]| {
        let InstKind::Load(access) = &sum.body.inst(load).kind else { unreachable!("a load is one in either body") };
        position.iter().any(|(axis, _)| is_along(access, *axis))
    };
    let all = (0..height).flat_map(|number| copies.iter().enumerate().map(move |copy| (number, copy)));
    for (number, (copy_number, copy)) in all {
        for (position_number, position) in (0..).zip(positions) {
            let mut by = vec![(row, number)];
            by.extend(position.iter().filter(|(axis, _)| bound == Some(*axis)));
            let stands: Vec<(usize, i64)> = position.iter().chain(copy).copied().collect();
            let body = substituted(&sum.body, &|dim| moved(dim, &by, &stands));
            let mut moving: Vec<(ValueId, &Access)> = body.loads().filter(|(_, access)| is_along(access, row)).collect();
            // Of what is read at several positions more waits than of what is not.
            moving.sort_by_key(|(load, _)| !is_of_position(*load, position));
            let place: Vec<i64> =
                moving.iter().flat_map(|(_, access)| access.index.iter().map(|index| index.dim().apart().1)).collect();
            let mut of_inst = vec![None; body.insts.len()];
            for (load, access) in body.loads() {
                let new = reads.len();
                let index = access.index.iter().map(|index| index.dim().clone()).collect();
                let known = *numbers.entry((load.index(), index)).or_insert(new);
                if known == new {
                    reads.push(Read { row: number, load: load.index(), arg: access.arg, index: access.index.clone() });
                }
                of_inst[load.index()] = Some(known);
            }
            visits.push((place, Visit { row: number, copy: copy_number, position: position_number, body, reads: of_inst }));
        }
    }
    visits.sort_by(|(x, _), (y, _)| x.cmp(y));
    (visits.into_iter().map(|(_, visit)| visit).collect(), reads)
}
