//! Windows: what is combined over a few positions about each point, as depthwise convolutions and pooling have it. Of two neighbouring
//! points most of it is the same.
//!
//! A vector of points is visited together with its neighbours along another axis, the rows: what any of them combines is read once, and
//! each has its own accumulators in registers. All positions are written out. What lies outside, about the edges, is asked of each lane
//! there only; rows that lie outside are read from a line of what is there instead.
//!
//! Factors that are the same for all rows and lie far apart along the lanes, as channels of weights do where the image's channels are its
//! last axis, are packed before, once where they last.

mod find;
mod reads;

use std::collections::BTreeMap;

use graver_ir::dim::Atom;
use graver_ir::kernel::{Access, Body, Bounds, Combine as Combining, Index, InstKind, Nest};
use graver_ir::op::ReduceKind;
use graver_ir::{Dim, ScalarFn};

use self::reads::Reads;
use super::body::{Given, Nothing};
use super::columns::identity;
use super::contract::number;
use super::cx::{At, Cx};
use super::loops::bind;
use super::nest::{passing, stage_work};
use super::reduce::{combine, kinds};
use super::{Lowered, Phase, Prepared};
use crate::vector::{Binary, Compare, Load, Op, Pattern, TABLE_LANES, Val};

/// A nest of windows, and how it is run.
pub(super) struct Windows<'a> {
    nest: &'a Nest,
    /// The axis over lanes.
    lane: usize,
    /// The axis of rows.
    row: usize,
    /// All other axes that are kept.
    others: Vec<usize>,
    /// Rows of blocks, the highest first.
    heights: Vec<i64>,
    /// In the order in which they are made, which for each row is the same.
    visits: Vec<Visit>,
    /// What visits read, each once.
    reads: Vec<Read>,
    /// Loads that are packed, by their numbers, and where: from which byte on.
    packed: Vec<(usize, Dim)>,
    /// Bytes of all that is packed.
    shared: Dim,
}

/// A row at one of its positions: the body there, of a block's first row's axis.
struct Visit {
    row: i64,
    /// Its number.
    position: i64,
    body: Body,
    /// By instruction, which of the reads it is.
    reads: Vec<Option<usize>>,
}

/// Something that is read.
struct Read {
    /// The first row that reads it.
    row: i64,
    /// The load, by its number.
    load: usize,
    arg: usize,
    index: Vec<Index>,
}

impl Windows<'_> {
    pub(super) fn lower(&self, cx: Cx<'_>) -> Lowered {
        let passing = passing(&cx, self.nest, &[Some(self.lane); 2]);
        if self.packed.is_empty() {
            return Lowered { passing, ..Lowered::new(vec![self.all(cx)], Dim::ZERO) };
        }
        let body = &self.nest.stages[0].body;
        let (pack, all) = (self.pack(cx.again("pack")), self.all(cx));
        let is_packed = |load: usize| self.packed.iter().any(|(packed, _)| *packed == load);
        let mut args: Vec<usize> =
            body.loads().filter(|(load, _)| is_packed(load.index())).map(|(_, access)| access.arg).collect();
        args.sort_unstable();
        args.dedup();
        let fixed = pack.func.dims().is_empty() && pack.extent.as_const().is_some() && self.shared.as_const().is_some();
        let prepared = Some(Prepared { args, fixed });
        Lowered { phases: vec![pack, all], shared: self.shared.clone(), prepared, passing }
    }

    /// The phase that packs, a position a point.
    fn pack(&self, mut cx: Cx<'_>) -> Phase {
        let stage = &self.nest.stages[0];
        let axes: Vec<usize> = stage.over.minus(stage.keep).iter().collect();
        let points: Vec<Dim> = axes.iter().map(|axis| self.nest.axes[*axis].clone()).collect();
        let size = &self.nest.axes[self.lane];
        cx.parallel(&points, &mut |cx, digits| {
            bind(cx, &axes, digits);
            let (zero, end) = (cx.b.int(0), cx.value(size));
            cx.swept(self.lane, zero, end, 1, &mut |cx| {
                for (load, _) in &self.packed {
                    let InstKind::Load(access) = &stage.body.insts[*load].kind else { unreachable!("a load is packed") };
                    let (offset, _) = cx.offset(access.arg, &access.index, &[]);
                    let (arg, base) = (cx.arg(access.arg), cx.b.op(Op::Arg(access.arg)));
                    let (ptr, pattern) = cx.place(base, &offset, None, arg.dtype);
                    let value = cx.load_from(arg.mode, Load { ptr, dtype: arg.dtype, pattern, mask: None });
                    let (ptr, pattern) = self.place_packed(cx, *load, &number(&self.nest.axes, &axes));
                    cx.b.store(ptr, arg.dtype, pattern, value);
                }
            });
        });
        let extent: Dim = points.iter().product();
        Phase { func: cx.b.finish(), work: &extent * size, extent, scratch: cx.scratch }
    }

    /// Where a load's element of a position is, the lanes'.
    fn place_packed(&self, cx: &mut Cx<'_>, load: usize, position: &Dim) -> (Val, Pattern) {
        let (_, from) = self.packed.iter().find(|(packed, _)| *packed == load).expect("it is packed");
        let (shared, from) = (cx.shared(), cx.value(from));
        let (base, size) = (cx.b.add(shared, from), &self.nest.axes[self.lane]);
        let lane = Dim::axis(u32::try_from(self.lane).expect("few axes"), size);
        cx.place(base, &(position * size + lane), None, self.nest.stages[0].body.insts[load].dtype)
    }

    /// The phase of everything else.
    fn all(&self, mut cx: Cx<'_>) -> Phase {
        let size = &self.nest.axes[self.row];
        let mut points: Vec<Dim> = self.others.iter().map(|axis| self.nest.axes[*axis].clone()).collect();
        points.push(size.ceil_div(&Dim::from(self.heights[0])));
        let lines = self.lines(&mut cx);
        cx.parallel(&points, &mut |cx, digits| {
            let (block, others) = digits.split_last().expect("a block is the last digit");
            bind(cx, &self.others, others);
            let (height, size) = (cx.b.int(self.heights[0]), cx.value(size));
            let begin = cx.b.mul(*block, height);
            let end = cx.b.add(begin, height);
            let end = cx.b.binary(Binary::Min, end, size);
            // As many of the highest as there are, then of lower ones.
            let mut next = begin;
            for height in &self.heights {
                let more = cx.b.int(1 - height);
                let last = cx.b.add(end, more);
                let open = cx.b.open_loop(next, last, *height, vec![next]);
                cx.at[self.row] = At::One(open.var);
                self.rows(cx, &lines, *height);
                cx.at[self.row] = At::Unbound;
                let height = cx.b.int(*height);
                let after = cx.b.add(open.var, height);
                next = cx.b.close_loop(open, vec![after])[0];
            }
        });
        let work = self.nest.stages.iter().map(|stage| stage_work(self.nest, stage)).sum();
        Phase { func: cx.b.finish(), extent: points.iter().product(), scratch: cx.scratch, work }
    }

    /// Some rows, all along the lanes.
    fn rows(&self, cx: &mut Cx<'_>, lines: &[Option<Val>], height: i64) {
        let (zero, size) = (cx.b.int(0), cx.value(&self.nest.axes[self.lane]));
        let swept = |cx: &mut Cx<'_>, begin: Val, end: Val, is_inside: bool| {
            cx.swept(self.lane, begin, end, 1, &mut |cx| self.points(cx, lines, height, is_inside));
        };
        let Some((from, to)) = self.inside(cx, height) else { return swept(cx, zero, size, false) };
        let (is_from_first, [from, to]) = (from.is(0), [from, to].map(|dim| cx.value(&dim)));
        if is_from_first {
            swept(cx, from, to, true);
            if to != size {
                swept(cx, to, size, false);
            }
            return;
        }
        // What is before and what is behind, by the same code.
        let (one, two) = (cx.b.int(1), cx.b.int(2));
        let open = cx.b.open_loop(zero, two, 1, Vec::new());
        let is_before = cx.b.compare(Compare::Lt, open.var, one);
        let (begin, end) = (cx.b.select(is_before, zero, to), cx.b.select(is_before, from, size));
        swept(cx, begin, end, false);
        let end = cx.b.select(is_before, to, from);
        swept(cx, from, end, true);
        cx.b.close_loop(open, Vec::new());
    }

    /// The points of the lanes, in some rows.
    fn points(&self, cx: &mut Cx<'_>, lines: &[Option<Val>], height: i64, is_inside: bool) {
        let [sum, end] = self.nest.stages.as_slice() else { unreachable!("two stages were found") };
        let kinds = kinds(sum);
        let begin: Vec<Val> = kinds.iter().map(|(kind, _)| identity(cx, *kind)).collect();
        let mut sums = vec![begin; usize::try_from(height).expect("few rows")];
        // What is the same for all rows is kept in registers if there is room.
        let held = if cx.lanes == TABLE_LANES { 16 } else { 6 };
        let is_held = self.visits.iter().filter(|visit| visit.row == 0).count() <= held;
        let mut known = vec![None; self.reads.len()];
        for visit in self.visits.iter().filter(|visit| visit.row < height) {
            let mut reads = Reads { windows: self, visit, lines, is_inside, is_held, known: &mut known };
            let values = cx.body(&visit.body, &mut reads);
            let of_row = &mut sums[usize::try_from(visit.row).expect("few rows")];
            for (slot, (reduction, (kind, _))) in sum.reductions.iter().zip(&kinds).enumerate() {
                let is_sum = reduction.combine == Combining::Reduce(ReduceKind::Sum) && kind.elem.is_float();
                of_row[slot] =
                    if let (InstKind::Map(ScalarFn::Mul, factors), true) = (&sum.body.inst(reduction.value).kind, is_sum) {
                        cx.b.fma(values[factors[0].index()], values[factors[1].index()], of_row[slot])
                    } else {
                        let value = cx.b.lanes(values[reduction.value.index()]);
                        combine(cx, *kind, of_row[slot], value)
                    };
            }
        }
        for (number, sums) in (0..).zip(sums) {
            let at = |dim: &Dim| moved(dim, (self.row, number), &[]);
            let values = cx.body(&substituted(&end.body, &at), &mut Sums(sums));
            for store in &end.stores {
                let mut store = store.clone();
                store.index.iter_mut().for_each(|index| move_index(index, &at));
                cx.store(&store, &values);
            }
        }
    }

    /// From where to where along the lanes nothing need be asked of them; `None` where that is nowhere, or not known.
    fn inside(&self, cx: &Cx<'_>, height: i64) -> Option<(Dim, Dim)> {
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
    fn lines(&self, cx: &mut Cx<'_>) -> Vec<Option<Val>> {
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
fn depends(index: &Index, axis: usize) -> bool {
    index.dim().axes().iter().any(|var| var.id as usize == axis)
}

/// What was combined at a point.
struct Sums(Vec<Val>);

impl Given for Sums {
    fn reduced(&mut self, _: &mut Cx<'_>, _: usize, slot: usize) -> Val {
        self.0[slot]
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        Nothing.acc(cx)
    }
}

/// An expression so many rows further on, with other axes where they stand.
fn moved(dim: &Dim, (row, by): (usize, i64), position: &[(usize, i64)]) -> Dim {
    dim.substitute(&|atom| match atom {
        Atom::Axis(var) if var.id as usize == row => Some(Dim::atom(atom.clone()) + Dim::from(by)),
        Atom::Axis(var) => position.iter().find(|(axis, _)| *axis == var.id as usize).map(|(_, number)| Dim::from(*number)),
        Atom::Sym(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
    })
}

/// A body with other expressions.
fn substituted(body: &Body, at: &dyn Fn(&Dim) -> Dim) -> Body {
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

fn move_index(index: &mut Index, at: &dyn Fn(&Dim) -> Dim) {
    match index {
        Index::At(dim) | Index::Value(_, dim) => *dim = at(dim),
    }
}
