//! Gradients of windows' weights: for each of a few taps, what is combined over all points.
//!
//! Taps have accumulators in registers, several neighbouring rows are visited together, and what any of them reads is read once. Parallel points are parts of
//! the lines that rows and lanes leave, and what is kept; their sums are added up in order by a nest. Parts depend on sizes only.
//!
//! Where lanes are kept, as channels that are the image's last axis, a block of rows goes all along them, and sums wait in memory from block to block. Where they
//! are not, as columns of the image, sums stay in the lanes of registers while a vector of columns goes over all rows, and lanes are combined last.

use graver_ir::Dim;
use graver_ir::kernel::{Access, Arg, Body, Bounds, Index, InstKind, Kernel, Mode, Nest, Reduction, Stage};

use super::super::columns::identity;
use super::super::cx::{At, Cx};
use super::super::loops::bind;
use super::super::nest::{self, block, stage_work};
use super::super::reduce::{Kind, combine, kinds};
use super::super::{Lowered, Phase};
use super::visits::{Inside, Place, Visit, Visits, move_index, moved};
use crate::vector::{Load, Op, Pattern, Val};

/// Elements of a part, for each tap and lane, more or less.
const PART: i64 = 1024;
/// The same where lanes are combined too: sixteen, which takes as long as some rows of products do.
const PART_OF_LANES: i64 = 4096;
/// Lanes of a point at most, where they are kept.
const LANES: i64 = 128;

/// Taps whose sums wait in registers at once.
pub(super) struct Taps {
    /// An axis that is bound to one start after the other, from 0 on: up to where, and how far apart.
    pub(super) starts: Option<(usize, i64, i64)>,
    /// Where the axes of each tap stand; that one from the start on.
    pub(super) places: Vec<Vec<(usize, i64)>>,
}

impl Taps {
    pub(super) fn bound(&self) -> Option<usize> {
        self.starts.map(|(axis, ..)| axis)
    }
}

/// Taps, and what they visit.
pub(super) struct Group<'a> {
    pub(super) visits: Visits<'a>,
    pub(super) taps: Taps,
}

/// Of a group, and what it reads where rows are outside.
type OfGroup<'a> = dyn FnMut(&mut Cx<'_>, &Group<'_>, &[Option<Val>]) + 'a;

/// Sums of taps, and how they are made.
pub(in super::super) struct Weights<'a> {
    nest: &'a Nest,
    groups: Vec<Group<'a>>,
    /// The kernel with one more argument, the sums of parts: the memory that all threads share begins with them.
    kernel: Kernel,
    /// That argument, and where a sum is in it.
    sums: (usize, Vec<Index>),
    bytes: Dim,
    /// What makes the results.
    results: Nest,
    /// The axis over lanes.
    lane: usize,
    /// The axis of rows.
    row: usize,
    /// Axes that are kept, but taps and lanes.
    others: Vec<usize>,
    /// Axes that are not, but rows and lanes.
    lines: Vec<usize>,
    /// The axis of parts, how many there are, and the lines of one.
    part: usize,
    parts: Dim,
    length: i64,
}

impl<'a> Weights<'a> {
    /// Of a nest's axes over lanes and of rows.
    pub(super) fn new(cx: &Cx<'_>, nest: &'a Nest, [lane, row]: [usize; 2], groups: Vec<Group<'a>>) -> Self {
        let (sum, part) = (&nest.stages[0], nest.axes.len());
        let taps: Vec<usize> = groups[0].taps.places[0].iter().map(|(axis, _)| *axis).collect();
        let others: Vec<usize> = sum.keep.iter().filter(|axis| *axis != lane && !taps.contains(axis)).collect();
        let lines: Vec<usize> = sum.over.minus(sum.keep).iter().filter(|axis| ![lane, row].contains(axis)).collect();
        let is_kept = sum.keep.contains(lane);
        let (elements, line) = if is_kept {
            (PART, nest.axes[row].nominal())
        } else {
            (PART_OF_LANES, nest.axes[row].nominal().saturating_mul(nest.axes[lane].nominal()))
        };
        let length = (elements / line.max(1)).max(1);
        let parts = lines.iter().map(|axis| nest.axes[*axis].clone()).product::<Dim>().ceil_div(&Dim::from(length));
        let axes: Vec<Dim> = nest.axes.iter().chain([&parts]).cloned().collect();
        let order = [part].into_iter().chain(taps).chain(others.iter().copied()).chain(is_kept.then_some(lane));
        let order: Vec<usize> = order.collect();
        let shape: Vec<Dim> = order.iter().map(|axis| axes[*axis].clone()).collect();
        let place = |axis: &usize| Dim::axis(u32::try_from(*axis).expect("few axes"), &axes[*axis]);
        let index: Vec<Index> = order.iter().map(place).map(Index::At).collect();
        let (arg, dtype) = (cx.kernel.args.len(), sum.reductions[0].dtype.compute());
        let bytes = (shape.iter().product::<Dim>() * Dim::from(dtype.size())).round_up(64);
        let mut kernel = cx.kernel.clone();
        kernel.args.push(Arg::dense(dtype, shape, Mode::Write));
        let mut body = Body::default();
        let value = body.push(InstKind::Load(Access { arg, index: index.clone(), bounds: Bounds::Proven }), dtype);
        let reductions = vec![Reduction { value, ..sum.reductions[0].clone() }];
        let added = Stage { over: sum.keep.with(part), keep: sum.keep, body, reductions, stores: Vec::new() };
        let results = Nest { axes, stages: vec![added, nest.stages[1].clone()] };
        Self { nest, groups, kernel, sums: (arg, index), bytes, results, lane, row, others, lines, part, parts, length }
    }

    /// The phases of the sums of parts, and of the results.
    pub(in super::super) fn lower(&self, cx: Cx<'_>) -> Lowered {
        let shared = (cx.kernel.args.len(), self.bytes.clone());
        let cx = Cx { shared, ..Cx::new(&self.kernel, cx.symbols, cx.how) };
        let results = nest::lower(cx.again("results"), &self.results);
        let phases = std::iter::once(self.parts(cx)).chain(results.phases).collect();
        Lowered::new(phases, &self.bytes + results.shared)
    }

    fn kind(&self) -> Kind {
        kinds(&self.nest.stages[0])[0].0
    }

    /// The phase of the sums.
    fn parts(&self, mut cx: Cx<'_>) -> Phase {
        let (sum, lanes) = (&self.nest.stages[0], &self.nest.axes[self.lane]);
        let is_kept = sum.keep.contains(self.lane);
        let mut points = vec![self.parts.clone()];
        points.extend(self.others.iter().map(|axis| self.nest.axes[*axis].clone()));
        points.extend((is_kept && !self.is_one_block()).then(|| lanes.ceil_div(&Dim::from(LANES))));
        let filled: Vec<Vec<Option<Val>>> = self.groups.iter().map(|group| group.visits.lines(&mut cx)).collect();
        let lines: Dim = self.lines.iter().map(|axis| self.nest.axes[*axis].clone()).product();
        cx.parallel(&points, &mut |cx, digits| {
            let (number, (others, blocks)) = (digits[0], digits[1..].split_at(self.others.len()));
            let one = cx.b.int(1);
            let next = cx.b.add(number, one);
            let span = block(cx, number, next, self.length, &lines);
            cx.at[self.part] = At::One(number);
            bind(cx, &self.others, others);
            if !is_kept {
                return self.by_lanes(cx, span, &filled);
            }
            let lanes = if let [first] = blocks {
                let next = cx.b.add(*first, one);
                block(cx, *first, next, LANES, lanes)
            } else {
                (cx.b.int(0), cx.value(lanes))
            };
            self.by_lines(cx, span, lanes, &filled);
        });
        let work = stage_work(self.nest, sum);
        Phase { func: cx.b.finish(), extent: points.iter().product(), scratch: cx.scratch, work }
    }

    /// Whether a point has all lanes.
    fn is_one_block(&self) -> bool {
        self.nest.axes[self.lane].as_const().is_some_and(|lanes| lanes <= LANES)
    }

    /// The sums of some lines where lanes are kept.
    fn by_lines(&self, cx: &mut Cx<'_>, span: (Val, Val), (begin, end): (Val, Val), filled: &[Vec<Option<Val>>]) {
        let dtype = self.kernel.args[self.sums.0].dtype;
        let begun = identity(cx, self.kind());
        self.each_group(cx, filled, &mut |cx, group, _| {
            cx.swept(self.lane, begin, end, 1, &mut |cx| {
                for tap in &group.taps.places {
                    let (ptr, pattern) = self.place(cx, group, tap);
                    cx.b.store(ptr, dtype, pattern, begun);
                }
            });
        });
        self.each_line(cx, span, Vec::new(), &mut |cx, _| {
            self.each_group(cx, filled, &mut |cx, group, lines| {
                let (visits, row) = (&group.visits, (self.row, group.visits.inside_rows(cx)));
                visits.stretches(cx, row, Vec::new(), &mut |cx, rows, is_inside, _| {
                    let place = Place { lines, inside: if is_inside { Inside::Rest } else { Inside::Nothing } };
                    let heights = if is_inside { &visits.heights[..1] } else { &visits.heights[..] };
                    visits.blocks(cx, heights, rows, Vec::new(), &mut |cx, height, _| {
                        cx.swept(self.lane, begin, end, 1, &mut |cx| self.add(cx, group, place, height));
                        Vec::new()
                    })
                });
            });
            Vec::new()
        });
    }

    /// Adds what some rows combine to sums in memory.
    fn add(&self, cx: &mut Cx<'_>, group: &Group<'_>, place: Place<'_>, height: i64) {
        let dtype = self.kernel.args[self.sums.0].dtype;
        let places: Vec<(Val, Pattern)> = group.taps.places.iter().map(|tap| self.place(cx, group, tap)).collect();
        let load = |(ptr, pattern): &(Val, Pattern)| Load { ptr: *ptr, dtype, pattern: *pattern, mask: None };
        let mut sums: Vec<Vec<Val>> = places.iter().map(|place| vec![cx.b.load_now(load(place))]).collect();
        group.visits.combine(cx, height, place, &mut sums, &of_position);
        for ((ptr, pattern), sum) in places.into_iter().zip(sums.concat()) {
            cx.b.store(ptr, dtype, pattern, sum);
        }
    }

    /// The sums of some lines where lanes are combined too.
    fn by_lanes(&self, cx: &mut Cx<'_>, span: (Val, Val), filled: &[Vec<Option<Val>>]) {
        let (kind, dtype) = (self.kind(), self.kernel.args[self.sums.0].dtype);
        self.each_group(cx, filled, &mut |cx, group, lines| {
            let begun = cx.b.constant(kind.elem, kind.combine.identity(kind.elem));
            // What depends on rows as well as lanes is asked everywhere.
            let of_lanes = |(from, to): &(Dim, Dim)| from.axes().is_empty() && to.axes().is_empty();
            let inside = group.visits.inside(cx, group.visits.heights[0]).filter(of_lanes);
            let inside = inside.map(|(from, to)| (cx.value(&from), cx.value(&to)));
            let begun = vec![begun; group.taps.places.len()];
            let sums = group.visits.stretches(cx, (self.lane, inside), begun, &mut |cx, lanes, is_inside, before| {
                let place = Place { lines, inside: if is_inside { Inside::Lanes } else { Inside::Nothing } };
                let sums = self.swept(cx, group, place, span, lanes);
                before.into_iter().zip(sums).map(|(before, sum)| combine(cx, kind, before, sum)).collect()
            });
            for (tap, sum) in group.taps.places.iter().zip(sums) {
                let (ptr, pattern) = self.place(cx, group, tap);
                cx.b.store(ptr, dtype, pattern, sum);
            }
        });
    }

    /// What a stretch of lanes combines in some lines: all rows by each vector.
    fn swept(
        &self,
        cx: &mut Cx<'_>,
        group: &Group<'_>,
        place: Place<'_>,
        span: (Val, Val),
        (begin, end): (Val, Val),
    ) -> Vec<Val> {
        let (kind, visits) = (self.kind(), &group.visits);
        let all = (cx.b.int(0), cx.value(&self.nest.axes[self.row]));
        let open = cx.b.open_sweep(begin, end, 1);
        cx.at[self.lane] = At::Lane(open.var);
        let begun = vec![identity(cx, kind); group.taps.places.len()];
        let sums = self.each_line(cx, span, begun, &mut |cx, sums| {
            visits.blocks(cx, &visits.heights, all, sums, &mut |cx, height, sums| {
                let mut sums: Vec<Vec<Val>> = sums.into_iter().map(|sum| vec![sum]).collect();
                visits.combine(cx, height, place, &mut sums, &of_position);
                sums.concat()
            })
        });
        cx.at[self.lane] = At::Unbound;
        let folds = sums.into_iter().map(|sum| (kind.combine, sum, None)).collect();
        cx.b.close_sweep(open, folds).into_iter().map(|(sum, _)| sum).collect()
    }

    /// Every line of a span, with what is carried from each to the next.
    fn each_line(
        &self,
        cx: &mut Cx<'_>,
        (first, last): (Val, Val),
        state: Vec<Val>,
        line: &mut dyn FnMut(&mut Cx<'_>, Vec<Val>) -> Vec<Val>,
    ) -> Vec<Val> {
        let sizes: Vec<Val> = self.lines.iter().map(|axis| cx.value(&self.nest.axes[*axis])).collect();
        let mut inits = cx.digits(first, &sizes);
        inits.extend(state);
        let open = cx.b.open_loop(first, last, 1, inits);
        let (digits, state) = open.params.split_at(sizes.len());
        let (digits, state) = (digits.to_vec(), state.to_vec());
        bind(cx, &self.lines, &digits);
        let carried = line(cx, state);
        self.lines.iter().for_each(|axis| cx.at[*axis] = At::Unbound);
        let mut next = cx.next_digits(&digits, &sizes);
        next.extend(carried);
        cx.b.close_loop(open, next).split_off(sizes.len())
    }

    /// Every group, from each of its starts on.
    fn each_group(&self, cx: &mut Cx<'_>, filled: &[Vec<Option<Val>>], body: &mut OfGroup<'_>) {
        for (group, lines) in self.groups.iter().zip(filled) {
            let Some((axis, to, step)) = group.taps.starts else {
                body(cx, group, lines);
                continue;
            };
            let (begin, end) = (cx.b.int(0), cx.b.int(to));
            let open = cx.b.open_loop(begin, end, step, Vec::new());
            cx.at[axis] = At::One(open.var);
            body(cx, group, lines);
            cx.at[axis] = At::Unbound;
            cx.b.close_loop(open, Vec::new());
        }
    }

    /// Where a tap's sum is.
    fn place(&self, cx: &mut Cx<'_>, group: &Group<'_>, tap: &[(usize, i64)]) -> (Val, Pattern) {
        let (arg, mut index) = self.sums.clone();
        let by: Vec<(usize, i64)> = tap.iter().copied().filter(|(axis, _)| group.taps.bound() == Some(*axis)).collect();
        index.iter_mut().for_each(|index| move_index(index, &|dim| moved(dim, &by, tap)));
        let (offset, _) = cx.offset(arg, &index, &[]);
        let base = cx.b.op(Op::Arg(arg));
        cx.place(base, &offset, None, self.kernel.args[arg].dtype)
    }
}

fn of_position(visit: &Visit) -> usize {
    usize::try_from(visit.position).expect("few positions")
}
