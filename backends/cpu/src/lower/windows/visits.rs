//! What neighbouring rows read at all of their positions, each element once, and where that is inside.

use std::collections::BTreeMap;

use graver_ir::dim::Atom;
use graver_ir::kernel::{Access, Body, Bounds, Combine as Combining, Index, InstKind, Nest, Stage};
use graver_ir::op::ReduceKind;
use graver_ir::{Dim, ScalarFn};

use super::super::cx::Cx;
use super::super::reduce::{combine, kinds};
use super::reads::Reads;
use crate::vector::{Pattern, TABLE_LANES, Val};

/// Rows of a nest whose first stage combines, and what they read.
pub(super) struct Visits<'a> {
    pub(super) nest: &'a Nest,
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
}

/// A row at one of its positions: the body there, of a block's first row's axis.
pub(super) struct Visit {
    pub(super) row: i64,
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
    /// Whether nothing need be asked of lanes.
    pub(super) is_inside: bool,
}

impl<'a> Visits<'a> {
    /// Of a nest's axes over lanes and of rows, at these positions.
    pub(super) fn new(nest: &'a Nest, [lane, row]: [usize; 2], heights: Vec<i64>, positions: &[Vec<(usize, i64)>]) -> Self {
        let (visits, reads) = visits(&nest.stages[0], row, heights[0], positions);
        Self { nest, lane, row, heights, visits, reads, packed: Vec::new() }
    }

    /// Combines all that rows visit with sums, of which `of` says to which a visit belongs.
    pub(super) fn combine(&self, cx: &mut Cx<'_>, height: i64, place: Place<'_>, sums: &mut [Vec<Val>], of: fn(&Visit) -> i64) {
        let sum = &self.nest.stages[0];
        let kinds = kinds(sum);
        // What is the same for all rows is kept in registers if there is room.
        let held = if cx.lanes == TABLE_LANES { 16 } else { 6 };
        let is_held = self.visits.iter().filter(|visit| visit.row == 0).count() <= held;
        let mut known = vec![None; self.reads.len()];
        for visit in self.visits.iter().filter(|visit| visit.row < height) {
            let mut reads = Reads { visits: self, visit, place, is_held, known: &mut known };
            let values = cx.body(&visit.body, &mut reads);
            let sums = &mut sums[usize::try_from(of(visit)).expect("few sums")];
            for (slot, (reduction, (kind, _))) in sum.reductions.iter().zip(&kinds).enumerate() {
                let is_sum = reduction.combine == Combining::Reduce(ReduceKind::Sum) && kind.elem.is_float();
                sums[slot] = if let (InstKind::Map(ScalarFn::Mul, factors), true) = (&sum.body.inst(reduction.value).kind, is_sum)
                {
                    cx.b.fma(values[factors[0].index()], values[factors[1].index()], sums[slot])
                } else {
                    let value = cx.b.lanes(values[reduction.value.index()]);
                    combine(cx, *kind, sums[slot], value)
                };
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
        let size = &self.nest.axes[self.lane];
        let (mut from, mut to) = (Dim::ZERO, size.clone());
        for need in self.needed(cx, height, &|_, index| depends(index, self.lane)) {
            let (slope, rest) = need.along(self.lane)?;
            match slope.as_const()? {
                0 => return None,
                slope @ 1.. => from = from.max_with(&(Dim::ZERO - rest).ceil_div(&Dim::from(slope))),
                slope => to = to.min_with(&(rest.floor_div(&Dim::from(-slope)) + Dim::ONE)),
            }
        }
        let lanes = i64::try_from(cx.lanes).expect("few lanes");
        let from = from.round_up(lanes).min_with(size);
        // Whole vectors, and what is left where that is inside too.
        let whole = to.floor_div(&Dim::from(lanes)) * Dim::from(lanes);
        let is_all = (&to - size + Dim::ONE).max_with(&Dim::ZERO);
        let to = (&whole + is_all * (size - &whole)).max_with(&from);
        (from != to).then_some((from, to))
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

/// Whether a position depends on an axis.
pub(super) fn depends(index: &Index, axis: usize) -> bool {
    index.dim().axes().iter().any(|var| var.id as usize == axis)
}

/// An expression so many rows further on, with other axes where they stand.
pub(super) fn moved(dim: &Dim, (row, by): (usize, i64), position: &[(usize, i64)]) -> Dim {
    dim.substitute(&|atom| match atom {
        Atom::Axis(var) if var.id as usize == row => Some(Dim::atom(atom.clone()) + Dim::from(by)),
        Atom::Axis(var) => position.iter().find(|(axis, _)| *axis == var.id as usize).map(|(_, number)| Dim::from(*number)),
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
pub(super) fn visits(sum: &Stage, row: usize, height: i64, positions: &[Vec<(usize, i64)>]) -> (Vec<Visit>, Vec<Read>) {
    let (mut visits, mut reads) = (Vec::new(), Vec::new());
    let mut numbers: BTreeMap<(usize, Vec<Dim>), usize> = BTreeMap::new();
    for number in 0..height {
        for (position_number, position) in (0..).zip(positions) {
            let body = substituted(&sum.body, &|dim| moved(dim, (row, number), position));
            let moving = body.loads().filter(|(_, access)| access.index.iter().any(|index| depends(index, row)));
            let place: Vec<i64> = moving.flat_map(|(_, access)| access.index.iter().map(|index| index.dim().apart().1)).collect();
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
            visits.push((place, Visit { row: number, position: position_number, body, reads: of_inst }));
        }
    }
    visits.sort_by(|(x, _), (y, _)| x.cmp(y));
    (visits.into_iter().map(|(_, visit)| visit).collect(), reads)
}
