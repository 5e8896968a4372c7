//! Windows about points, each of which has a result.
//!
//! A vector of points is visited together with its neighbours along another axis, the rows: what any of them combines is read once, and
//! each has its own accumulators in registers. All positions are written out. What lies outside, about the edges, is asked of each lane
//! there only; rows that lie outside are read from a line of what is there instead.
//!
//! Factors that are the same for all rows and lie far apart along the lanes, as channels of weights do where the image's channels are its
//! last axis, are packed before, once where they last.

use graver_ir::Dim;
use graver_ir::dim::Atom;
use graver_ir::kernel::{InstKind, Nest};

use super::super::body::{Given, Nothing};
use super::super::columns::identity;
use super::super::contract::number;
use super::super::cx::Cx;
use super::super::loops::bind;
use super::super::nest::{self, stage_work};
use super::super::reduce::{Kind, kinds};
use super::super::{Lowered, Passing, Phase, Prepared};
use super::residues::Divided;
use super::visits::{Inside, Place, Stand, Visit, Visits, move_index, moved, substituted};
use crate::vector::{Binary, Elem, Load, Op, Val};

/// Windows, and how they are run.
pub(in super::super) struct Points<'a> {
    pub(super) visits: Visits<'a>,
    /// Axes that are kept, but those over lanes and of rows.
    pub(super) others: Vec<usize>,
    /// Bytes of all that is packed.
    pub(super) shared: Dim,
    /// The remainders of all axes that are split, where each stands; of none, one.
    pub(super) copies: Vec<Stand>,
    /// The axis over lanes, if it is split.
    pub(super) in_turn: Option<Divided>,
    /// What splits leave.
    pub(super) rests: Vec<Nest>,
}

impl Points<'_> {
    pub(in super::super) fn lower(&self, cx: Cx<'_>) -> Lowered {
        let passing = self.passing(&cx);
        let rest = |(number, nest): (usize, &Nest)| {
            let cx = Cx { passing: None, ..cx.again(&format!("rest{number}")) };
            nest::plainly(cx, nest).phases
        };
        let rests: Vec<Phase> = self.rests.iter().enumerate().flat_map(rest).collect();
        if self.visits.packed.is_empty() {
            let phases = std::iter::once(self.all(cx)).chain(rests).collect();
            return Lowered { passing, ..Lowered::new(phases, Dim::ZERO) };
        }
        let body = &self.visits.nest.stages[0].body;
        let (pack, all) = (self.pack(cx.again("pack")), self.all(cx));
        let is_packed = |load: usize| self.visits.packed.iter().any(|(packed, _)| *packed == load);
        let mut args: Vec<usize> =
            body.loads().filter(|(load, _)| is_packed(load.index())).map(|(_, access)| access.arg).collect();
        args.sort_unstable();
        args.dedup();
        let fixed = pack.func.dims().is_empty() && pack.extent.as_const().is_some() && self.shared.as_const().is_some();
        let prepared = Some(Prepared { args, fixed });
        let phases = [pack, all].into_iter().chain(rests).collect();
        Lowered { phases, shared: self.shared.clone(), prepared, passing }
    }

    /// As [`nest::passing`].
    fn passing(&self, cx: &Cx<'_>) -> Option<Passing> {
        let lanes = [Some(self.visits.lane); 2];
        match self.in_turn {
            None => nest::passing(cx, &self.visits.nest, &lanes),
            Some(divided) if divided.by == 2 => {
                // As one axis, which both are where they are stored.
                let one = |dim: &Dim| {
                    dim.substitute(&|atom| match atom {
                        Atom::Axis(var) if var.id as usize == divided.axis => Some(Dim::ZERO),
                        Atom::Axis(var) if var.id as usize == divided.remainder => {
                            let size = &self.visits.nest.axes[divided.axis] * Dim::from(divided.by);
                            Some(Dim::axis(u32::try_from(divided.axis).expect("few axes"), &size))
                        }
                        Atom::Axis(_) | Atom::Sym(_) => None,
                        Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
                    })
                };
                let mut nest = self.visits.nest.clone().into_owned();
                for stage in &mut nest.stages {
                    stage.stores.iter_mut().flat_map(|store| &mut store.index).for_each(|index| move_index(index, &one));
                }
                nest::passing(cx, &nest, &lanes)
            }
            Some(_) => None,
        }
    }

    /// The phase that packs, a position a point.
    fn pack(&self, mut cx: Cx<'_>) -> Phase {
        let stage = &self.visits.nest.stages[0];
        let axes: Vec<usize> = stage.over.minus(stage.keep).iter().collect();
        let points: Vec<Dim> = axes.iter().map(|axis| self.visits.nest.axes[*axis].clone()).collect();
        let size = &self.visits.nest.axes[self.visits.lane];
        cx.parallel(&points, &mut |cx, digits| {
            bind(cx, &axes, digits);
            let (zero, end) = (cx.b.int(0), cx.value(size));
            cx.swept(self.visits.lane, zero, end, 1, &mut |cx| {
                for (load, _) in &self.visits.packed {
                    let InstKind::Load(access) = &stage.body.insts[*load].kind else { unreachable!("a load is packed") };
                    let (offset, _) = cx.offset(access.arg, &access.index, &[]);
                    let (arg, base) = (cx.arg(access.arg), cx.b.op(Op::Arg(access.arg)));
                    let (ptr, pattern) = cx.place(base, &offset, None, arg.dtype);
                    let value = cx.load_from(arg.mode, Load { ptr, dtype: arg.dtype, pattern, mask: None });
                    let (ptr, pattern) = self.visits.place_packed(cx, *load, &number(&self.visits.nest.axes, &axes));
                    cx.b.store(ptr, arg.dtype, pattern, value);
                }
            });
        });
        let extent: Dim = points.iter().product();
        Phase { func: cx.b.finish(), work: &extent * size, extent, scratch: cx.scratch }
    }

    /// The phase of everything else.
    fn all(&self, mut cx: Cx<'_>) -> Phase {
        let size = &self.visits.nest.axes[self.visits.row];
        let mut points: Vec<Dim> = self.others.iter().map(|axis| self.visits.nest.axes[*axis].clone()).collect();
        points.push(size.ceil_div(&Dim::from(self.visits.heights[0])));
        let lines = self.visits.lines(&mut cx);
        cx.parallel(&points, &mut |cx, digits| {
            let (block, others) = digits.split_last().expect("a block is the last digit");
            bind(cx, &self.others, others);
            let (height, size) = (cx.b.int(self.visits.heights[0]), cx.value(size));
            let begin = cx.b.mul(*block, height);
            let end = cx.b.add(begin, height);
            let end = cx.b.binary(Binary::Min, end, size);
            self.visits.blocks(cx, &self.visits.heights, (begin, end), Vec::new(), &mut |cx, height, _| {
                self.rows(cx, &lines, height);
                Vec::new()
            });
        });
        let work = self.visits.nest.stages.iter().map(|stage| stage_work(&self.visits.nest, stage)).sum();
        Phase { func: cx.b.finish(), extent: points.iter().product(), scratch: cx.scratch, work }
    }

    /// Some rows, all along the lanes.
    fn rows(&self, cx: &mut Cx<'_>, lines: &[Option<Val>], height: i64) {
        let lane = self.visits.lane;
        let inside = self.visits.inside(cx, height).map(|(from, to)| (cx.value(&from), cx.value(&to)));
        self.visits.stretches(cx, (lane, inside), Vec::new(), &mut |cx, (begin, end), is_inside, _| {
            let place = Place { lines, inside: if is_inside { Inside::Lanes } else { Inside::Nothing } };
            cx.swept(lane, begin, end, 1, &mut |cx| self.points(cx, place, height));
            Vec::new()
        });
    }

    /// The points of the lanes, in some rows.
    fn points(&self, cx: &mut Cx<'_>, place: Place<'_>, height: i64) {
        let [sum, end] = self.visits.nest.stages.as_slice() else { unreachable!("two stages were found") };
        let mut begin = Vec::new();
        for (kind, has_position) in kinds(sum) {
            begin.push(identity(cx, kind));
            if has_position {
                let first = cx.b.number(Elem::I32, 0);
                begin.push(cx.b.lanes(first));
            }
        }
        let copies = self.copies.len();
        let mut sums = vec![begin; usize::try_from(height).expect("few rows") * copies];
        let number = |visit: &Visit| usize::try_from(visit.row).expect("few rows") * copies + visit.copy;
        self.visits.combine(cx, height, place, &mut sums, &number);
        let in_turn = self.in_turn.map_or(1, |divided| usize::try_from(divided.by).expect("few remainders"));
        let places = (0..height).flat_map(|row| self.copies.iter().map(move |copy| (row, copy)));
        let places: Vec<(i64, &Stand)> = places.collect();
        let mut sums = sums.into_iter();
        for places in places.chunks(in_turn) {
            let at = |(row, copy): (i64, &Stand), dim: &Dim| moved(dim, &[(self.visits.row, row)], copy);
            let of = |place| {
                let sums = sums.next().expect("sums a place");
                cx.body(&substituted(&end.body, &|dim| at(place, dim)), &mut Sums { kinds: kinds(sum), sums })
            };
            let values: Vec<Vec<Val>> = places.iter().copied().map(of).collect();
            for store in &end.stores {
                let mut store = store.clone();
                store.index.iter_mut().for_each(|index| move_index(index, &|dim| at(places[0], dim)));
                match values.as_slice() {
                    [values] => cx.store(&store, values),
                    values => cx.store_in_turn(&store, values),
                }
            }
        }
    }
}

/// What was combined at a point.
struct Sums {
    kinds: Vec<(Kind, bool)>,
    /// By slot, positions behind their values.
    sums: Vec<Val>,
}

impl Given for Sums {
    fn reduced(&mut self, cx: &mut Cx<'_>, _: usize, slot: usize) -> Val {
        let before = self.kinds[..slot].iter().filter(|(_, has_position)| *has_position).count();
        let place = slot + before;
        if self.kinds[slot].1 { cx.b.cast(self.sums[place + 1], Elem::I64) } else { self.sums[place] }
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        Nothing.acc(cx)
    }
}
