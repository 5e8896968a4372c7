//! Nests that keep nothing but the axis over lanes and combine over others, as sums of columns, norms over a batch and their
//! derivatives do. Memory is walked along its rows: stages run one after the other, each in parallel over blocks of rows, the
//! points of the axes that are combined. What a block combines waits in memory, one number a column; blocks are combined in order,
//! so that the number of threads does not matter.

use graver_ir::kernel::{Nest, Stage};
use graver_ir::{DType, Dim};

use super::body::{Given, Nothing};
use super::cx::{At, Cx};
use super::loops::{BLOCK, GRAIN, bind};
use super::nest::{block, small_unroll, stage_work};
use super::reduce::{Kind, combine, kinds};
use super::{Lowered, Phase};
use crate::vector::{Load, Op, Pattern, Val};

/// Rows of a block.
const ROWS: i64 = 256;
/// Fewer rows than this are better combined in registers, column by column.
const FEW: i64 = 64;
/// Rows that are visited at once.
const AT_ONCE: i64 = 4;
/// Bodies up to this many instructions are written out for several rows.
const SMALL_BODY: usize = 24;

/// Whether a nest, whose axis over lanes is the only one that all of its stages keep, is better run by rows.
pub(super) fn fits(nest: &Nest, lane: usize) -> bool {
    let by_rows = |stage: &Stage| {
        let inner = stage.over.iter().filter(|axis| *axis != lane);
        let rows = inner.map(|axis| nest.axes[axis].clone()).product::<Dim>();
        let long = rows.as_const().is_none_or(|rows| rows >= FEW);
        long && stage.keep.len() == 1 && kinds(stage).iter().all(|(_, has_position)| !has_position)
    };
    let mut reducing = nest.stages.iter().filter(|stage| !stage.reductions.is_empty()).peekable();
    reducing.peek().is_some() && reducing.all(by_rows)
}

pub(super) fn lower(cx: &Cx<'_>, nest: &Nest, lane: usize) -> Lowered {
    let mut columns = Columns { nest, lane, shared: Dim::ZERO, results: Vec::new() };
    let (mut phases, mut place) = (Vec::new(), 0);
    while place < nest.stages.len() {
        let own = cx.again(&place.to_string());
        let stage = &nest.stages[place];
        let (reduces, alone) = (!stage.reductions.is_empty(), stage.over.len() == 1);
        if reduces {
            let (phase, partial) = columns.blocks(own, stage);
            phases.push(phase);
            let (phase, done) = columns.ends(cx.again(&format!("{place}.end")), place, Some(partial));
            phases.push(phase);
            place += done;
        } else if alone {
            let (phase, done) = columns.ends(own, place, None);
            phases.push(phase);
            place += done;
        } else {
            phases.push(columns.points(own, stage));
            columns.results.push(Vec::new());
            place += 1;
        }
    }
    Lowered::new(phases, columns.shared)
}

struct Columns<'a> {
    nest: &'a Nest,
    lane: usize,
    /// Bytes of shared memory that are given out.
    shared: Dim,
    /// By stage and slot.
    results: Vec<Vec<Place>>,
}

/// Where a result is.
#[derive(Clone)]
enum Place {
    /// In registers, in the phase that ends its stage.
    Value(Val),
    /// In shared memory from this byte on, one a column.
    Memory(Dim, DType),
}

/// What blocks of rows leave in shared memory: by slot, from which byte on; a row of columns a block.
struct Partial(Vec<Dim>);

impl Given for Columns<'_> {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        match self.results[stage][slot].clone() {
            Place::Value(value) => value,
            Place::Memory(from, dtype) => {
                let (ptr, pattern) = self.column(cx, &from, None, dtype);
                cx.b.load(Load { ptr, dtype, pattern, mask: None })
            }
        }
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        Nothing.acc(cx)
    }
}

impl Columns<'_> {
    fn width(&self) -> &Dim {
        &self.nest.axes[self.lane]
    }

    /// The axes of a stage that are rows, and their sizes.
    fn rows(&self, stage: &Stage) -> (Vec<usize>, Vec<Dim>) {
        let axes: Vec<usize> = stage.over.iter().filter(|axis| *axis != self.lane).collect();
        let sizes = axes.iter().map(|axis| self.nest.axes[*axis].clone()).collect();
        (axes, sizes)
    }

    /// How many blocks of rows a stage has.
    fn count(&self, stage: &Stage) -> Dim {
        self.rows(stage).1.iter().product::<Dim>().ceil_div(&Dim::from(ROWS))
    }

    /// Bytes of shared memory for `count` rows of columns: from which one on.
    fn take(&mut self, count: &Dim, dtype: DType) -> Dim {
        let from = self.shared.clone();
        self.shared = (&from + &(count * self.width() * Dim::from(dtype.size()))).round_up(64);
        from
    }

    /// Where this column's number is, in shared memory from byte `from` on, of the row of this number if there are several.
    fn column(&self, cx: &mut Cx<'_>, from: &Dim, row: Option<Val>, dtype: DType) -> (Val, Pattern) {
        let (shared, from) = (cx.shared(), cx.value(from));
        let mut base = cx.b.add(shared, from);
        if let Some(row) = row {
            let bytes = cx.value(&(self.width() * Dim::from(dtype.size())));
            let offset = cx.b.mul(row, bytes);
            base = cx.b.add(base, offset);
        }
        let column = Dim::axis(u32::try_from(self.lane).expect("few axes"), self.width());
        cx.place(base, &column, None, dtype)
    }

    /// Combines every block of rows, a number a column: into shared memory.
    fn blocks(&mut self, mut cx: Cx<'_>, stage: &Stage) -> (Phase, Partial) {
        let count = self.count(stage);
        let dtypes: Vec<DType> = stage.reductions.iter().map(|reduction| reduction.dtype.compute()).collect();
        let partial = Partial(dtypes.iter().map(|dtype| self.take(&count, *dtype)).collect());
        let points = [count, self.width().ceil_div(&Dim::from(BLOCK))];
        let (axes, sizes) = self.rows(stage);
        let total: Dim = sizes.iter().product();
        let at_once = if stage.body.insts.len() <= SMALL_BODY { AT_ONCE } else { 1 };
        cx.parallel(&points, &mut |cx, digits| {
            let (number, one) = (digits[0], cx.b.int(1));
            let (next, next_columns) = (cx.b.add(number, one), cx.b.add(digits[1], one));
            let columns = block(cx, digits[1], next_columns, BLOCK, &self.nest.axes[self.lane]);
            let (first, last) = block(cx, number, next, ROWS, &total);
            let sums = Sums { stage, axes: &axes, dtypes: &dtypes, partial: &partial, number, columns };
            sums.start(cx, self);
            let sizes: Vec<Val> = sizes.iter().map(|size| cx.value(size)).collect();
            let mut digits = cx.digits(first, &sizes);
            let mut from = first;
            if at_once > 1 {
                let behind = cx.b.int(1 - at_once);
                let end = cx.b.add(last, behind);
                digits = sums.add(cx, self, (from, end, at_once), digits, &sizes);
                let (rows, groups) = (cx.b.sub(last, first), cx.b.int(-at_once));
                let whole = cx.b.and(rows, groups);
                from = cx.b.add(first, whole);
            }
            sums.add(cx, self, (from, last, 1), digits, &sizes);
        });
        let phase = Phase {
            func: cx.b.finish(),
            extent: points.iter().product(),
            scratch: cx.scratch,
            work: stage_work(self.nest, stage),
        };
        (phase, partial)
    }

    /// Combines what blocks of rows left of stage `first`, if anything, and runs the stages after it that visit nothing but columns; how
    /// many stages these are.
    fn ends(&mut self, mut cx: Cx<'_>, first: usize, partial: Option<Partial>) -> (Phase, usize) {
        let nest = self.nest;
        let stages = &nest.stages[first..];
        let after = usize::from(partial.is_some());
        let alone = |stage: &&Stage| stage.reductions.is_empty() && stage.over.len() == 1;
        let done = after + stages[after..].iter().take_while(alone).count();
        let more = first + done < self.nest.stages.len();
        let count = self.count(&stages[0]);
        let (begin, end) = (cx.b.op(Op::Begin), cx.b.op(Op::End));
        let (begin, end) = block(&mut cx, begin, end, GRAIN, self.width());
        let mut kept = Vec::new();
        cx.swept(self.lane, begin, end, 1, &mut |cx| {
            if let Some(partial) = &partial {
                let values = self.combined(cx, &stages[0], partial, &count);
                kept = if more { self.keep(cx, &stages[0], &values) } else { Vec::new() };
                self.results.push(values.into_iter().map(Place::Value).collect());
            }
            for stage in &stages[after..done] {
                let values = cx.body(&stage.body, self);
                stage.stores.iter().for_each(|store| cx.store(store, &values));
                self.results.push(Vec::new());
            }
        });
        if more && partial.is_some() {
            self.results[first] = kept;
        }
        let rows = if partial.is_some() { count } else { Dim::ONE };
        let work = rows * self.width() + stages[after..done].iter().map(|stage| stage_work(self.nest, stage)).sum::<Dim>();
        let extent = self.width().ceil_div(&Dim::from(GRAIN));
        (Phase { func: cx.b.finish(), extent, scratch: cx.scratch, work }, done)
    }

    /// What all blocks of rows left, combined in order.
    fn combined(&self, cx: &mut Cx<'_>, stage: &Stage, partial: &Partial, count: &Dim) -> Vec<Val> {
        let kinds = kinds(stage);
        let inits = kinds.iter().map(|(kind, _)| identity(cx, *kind)).collect();
        let (zero, count) = (cx.b.int(0), cx.value(count));
        let open = cx.b.open_loop(zero, count, 1, inits);
        let (number, before) = (open.var, open.params.clone());
        let mut next = Vec::new();
        for (slot, (kind, _)) in kinds.iter().enumerate() {
            let dtype = stage.reductions[slot].dtype.compute();
            let (ptr, pattern) = self.column(cx, &partial.0[slot], Some(number), dtype);
            let value = cx.b.load(Load { ptr, dtype, pattern, mask: None });
            next.push(combine(cx, *kind, before[slot], value));
        }
        cx.b.close_loop(open, next)
    }

    /// Stores results where later phases find them.
    fn keep(&mut self, cx: &mut Cx<'_>, stage: &Stage, values: &[Val]) -> Vec<Place> {
        let mut places = Vec::new();
        for (reduction, value) in stage.reductions.iter().zip(values) {
            let dtype = reduction.dtype.compute();
            let from = self.take(&Dim::ONE, dtype);
            let (ptr, pattern) = self.column(cx, &from, None, dtype);
            cx.b.store(ptr, dtype, pattern, *value);
            places.push(Place::Memory(from, dtype));
        }
        places
    }

    /// A stage that stores at every point.
    fn points(&mut self, mut cx: Cx<'_>, stage: &Stage) -> Phase {
        let (axes, mut points) = self.rows(stage);
        points.push(self.width().ceil_div(&Dim::from(BLOCK)));
        cx.parallel(&points, &mut |cx, digits| {
            let (number, one) = (digits[axes.len()], cx.b.int(1));
            let next = cx.b.add(number, one);
            let (begin, end) = block(cx, number, next, BLOCK, &self.nest.axes[self.lane]);
            bind(cx, &axes, digits);
            cx.swept(self.lane, begin, end, small_unroll(&stage.body), &mut |cx| {
                let values = cx.body(&stage.body, self);
                stage.stores.iter().for_each(|store| cx.store(store, &values));
            });
        });
        Phase { func: cx.b.finish(), extent: points.iter().product(), scratch: cx.scratch, work: stage_work(self.nest, stage) }
    }
}

/// One block's numbers.
struct Sums<'a> {
    stage: &'a Stage,
    axes: &'a [usize],
    /// By slot, as are the places.
    dtypes: &'a [DType],
    partial: &'a Partial,
    /// The block.
    number: Val,
    columns: (Val, Val),
}

impl Sums<'_> {
    fn place(&self, cx: &mut Cx<'_>, of: &Columns<'_>, slot: usize) -> (Val, Pattern) {
        of.column(cx, &self.partial.0[slot], Some(self.number), self.dtypes[slot])
    }

    /// Every number becomes what changes nothing.
    fn start(&self, cx: &mut Cx<'_>, of: &Columns<'_>) {
        cx.swept(of.lane, self.columns.0, self.columns.1, 1, &mut |cx| {
            for (slot, (kind, _)) in kinds(self.stage).into_iter().enumerate() {
                let ((ptr, pattern), value) = (self.place(cx, of, slot), identity(cx, kind));
                cx.b.store(ptr, self.dtypes[slot], pattern, value);
            }
        });
    }

    /// Combines rows, as many at once as the step says; `digits` are those of the first, and what is given those of the row after the
    /// last.
    fn add(
        &self,
        cx: &mut Cx<'_>,
        of: &mut Columns<'_>,
        (from, to, step): (Val, Val, i64),
        digits: Vec<Val>,
        sizes: &[Val],
    ) -> Vec<Val> {
        let open = cx.b.open_loop(from, to, step, digits);
        let mut rows = vec![open.params.clone()];
        for _ in 0..step {
            rows.push(cx.next_digits(&rows[rows.len() - 1], sizes));
        }
        let after = rows.pop().expect("the row after the last");
        cx.swept(of.lane, self.columns.0, self.columns.1, 1, &mut |cx| {
            let mut sums: Vec<Vec<Val>> = rows.iter().map(|digits| self.point(cx, of, digits)).collect();
            while sums.len() > 1 {
                let pairs: Vec<Vec<Val>> = sums.chunks(2).map(|pair| self.both(cx, &pair[0], &pair[1])).collect();
                sums = pairs;
            }
            let places: Vec<(Val, Pattern)> = (0..self.dtypes.len()).map(|slot| self.place(cx, of, slot)).collect();
            let load = |(ptr, pattern): (Val, Pattern), dtype: DType| Load { ptr, dtype, pattern, mask: None };
            let before: Vec<Val> =
                places.iter().zip(self.dtypes).map(|(place, dtype)| cx.b.load_now(load(*place, *dtype))).collect();
            let now = self.both(cx, &before, &sums[0]);
            for ((value, (ptr, pattern)), dtype) in now.into_iter().zip(places).zip(self.dtypes) {
                cx.b.store(ptr, *dtype, pattern, value);
            }
        });
        self.axes.iter().for_each(|axis| cx.at[*axis] = At::Unbound);
        cx.b.close_loop(open, after)
    }

    /// What a row adds.
    fn point(&self, cx: &mut Cx<'_>, of: &mut Columns<'_>, digits: &[Val]) -> Vec<Val> {
        bind(cx, self.axes, digits);
        let values = cx.body(&self.stage.body, of);
        self.stage.reductions.iter().map(|reduction| values[reduction.value.index()]).collect()
    }

    fn both(&self, cx: &mut Cx<'_>, x: &[Val], y: &[Val]) -> Vec<Val> {
        let slots = kinds(self.stage).into_iter().zip(x.iter().zip(y));
        slots.map(|((kind, _), (x, y))| combine(cx, kind, *x, *y)).collect()
    }
}

/// The value that changes nothing, in every lane.
pub(super) fn identity(cx: &mut Cx<'_>, kind: Kind) -> Val {
    let value = cx.b.constant(kind.elem, kind.combine.identity(kind.elem));
    cx.b.lanes(value)
}
