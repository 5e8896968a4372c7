//! Reductions: where they go over lanes, several accumulators and the lanes are combined in an order that depends on sizes
//! only; long axes are cut into chunks, each with accumulators of its own, so that rounding errors stay small.

use graver_ir::kernel::{AxisSet, Combine as Combining, Nest, Reduction, Stage};
use graver_ir::op::{Extreme, ReduceKind};
use graver_ir::{DType, Dim};

use super::body::{Given, Nothing};
use super::cx::{At, Cx};
use super::loops::bind;
use super::memo::Memos;
use crate::vector::{Binary, Combine, Compare, Elem, Load, Val, Width};

/// Vectors that a sum over lanes has accumulators for.
pub(super) const ACCUMULATORS: usize = 4;
/// Positions of an axis that one chunk holds.
const CHUNK: i64 = 2048;
/// An axis of at most so many positions is written out.
const WRITTEN_OUT: i64 = 4;

/// The results of stages, by stage and slot.
pub(super) struct Results {
    /// Of those that are done.
    stages: Vec<Vec<Place>>,
    memos: Memos,
}

/// Where a result is.
#[derive(Clone)]
enum Place {
    /// One for all points of the stage's inner axes.
    Value(Val),
    /// In scratch memory, one a position of these inner axes (with their row-major strides).
    Memory { base: Val, offset: Dim, dtype: DType, lanes: bool },
}

/// A reduction as vector IR combines it.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) combine: Combine,
    /// The type of what is compared or summed.
    pub(super) elem: Elem,
}

/// The reductions of a stage, and whether they give a position too.
pub(super) fn kinds(stage: &Stage) -> Vec<(Kind, bool)> {
    let kind = |reduction: &Reduction| {
        let elem = Elem::of(stage.body.dtype(reduction.value).compute());
        let (combine, has_position) = match reduction.combine {
            Combining::Reduce(ReduceKind::Sum) => (Combine::Sum, false),
            Combining::Reduce(ReduceKind::Prod) => (Combine::Prod, false),
            Combining::Reduce(ReduceKind::Max) => (Combine::Max, false),
            Combining::Reduce(ReduceKind::Min) => (Combine::Min, false),
            Combining::Arg(Extreme::Max) => (Combine::ArgMax, true),
            Combining::Arg(Extreme::Min) => (Combine::ArgMin, true),
        };
        (Kind { combine, elem }, has_position)
    };
    stage.reductions.iter().map(kind).collect()
}

impl Given for Results {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        match self.stages[stage][slot].clone() {
            Place::Value(value) => value,
            Place::Memory { base, offset, dtype, lanes } => {
                let (ptr, pattern) = cx.place_result(base, &offset, dtype, lanes);
                cx.b.load_now(Load { ptr, dtype, pattern, mask: None })
            }
        }
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        Nothing.acc(cx)
    }

    fn known(&mut self, cx: &mut Cx<'_>, value: usize) -> Option<Val> {
        self.memos.known(cx, self.stages.len(), value)
    }
}

impl Results {
    /// Of no stage yet.
    pub(super) fn new(memos: Memos) -> Self {
        Self { stages: Vec::new(), memos }
    }

    /// A stage without reductions.
    pub(super) fn push_nothing(&mut self) {
        self.stages.push(Vec::new());
    }

    /// Emits a stage of several rows at once that combines all of each; `lane` is its axis over lanes.
    pub(super) fn push_rows(results: &mut [Self], cx: &mut Cx<'_>, (nest, stage): (&Nest, &Stage), lane: usize, rows: &Rows<'_>) {
        let reduced: Vec<usize> = stage.over.minus(stage.keep).iter().collect();
        let sum = Sum { nest, stage, lane: Some(lane), rows };
        let values = sum.over(cx, results, &reduced);
        for (results, values) in results.iter_mut().zip(values) {
            results.stages.push(values.into_iter().map(Place::Value).collect());
        }
    }

    /// Emits a stage with reductions; `lane` is its own axis over lanes, if no outer one is.
    pub(super) fn push_stage(&mut self, cx: &mut Cx<'_>, nest: &Nest, stage: &Stage, outer: AxisSet, lane: Option<usize>) {
        let kept = stage.keep.minus(outer);
        let reduced: Vec<usize> = stage.over.minus(stage.keep).iter().collect();
        let inner_lane = lane.filter(|axis| !kept.contains(*axis));
        let sum = Sum { nest, stage, lane: inner_lane, rows: &Rows::BOUND };
        if kept.is_empty() {
            let values = sum.over_one(cx, self, &reduced);
            self.stages.push(values.into_iter().map(Place::Value).collect());
            return;
        }
        let lanes = cx.lane_axis().is_some();
        let memory: Vec<Place> = stage.reductions.iter().map(|reduction| room(cx, nest, kept, reduction, lanes)).collect();
        let kept_lane = lane.filter(|axis| kept.contains(*axis));
        let serial: Vec<usize> = kept.iter().filter(|axis| Some(*axis) != kept_lane).collect();
        cx.nested(&nest.axes, &serial, kept_lane, 1, &mut |cx| {
            let results = sum.over_one(cx, self, &reduced);
            for (result, place) in results.into_iter().zip(&memory) {
                if let Place::Memory { base, offset, dtype, lanes } = place {
                    let (ptr, pattern) = cx.place_result(*base, offset, *dtype, *lanes);
                    cx.b.store(ptr, *dtype, pattern, result);
                }
            }
        });
        self.stages.push(memory);
    }
}

/// Scratch memory for a result at every position of `kept`, for every lane if `lanes`.
fn room(cx: &mut Cx<'_>, nest: &Nest, kept: AxisSet, reduction: &Reduction, lanes: bool) -> Place {
    let (mut offset, mut count) = (Dim::ZERO, Dim::ONE);
    for axis in kept.iter().collect::<Vec<_>>().into_iter().rev() {
        offset = offset + Dim::axis(u32::try_from(axis).expect("few axes"), &nest.axes[axis]) * &count;
        count = count * &nest.axes[axis];
    }
    let dtype = reduction.dtype.compute();
    let each = dtype.size() * if lanes { cx.lanes } else { 1 };
    let base = cx.take_scratch(&(count * Dim::from(each)));
    Place::Memory { base, offset, dtype, lanes }
}

impl Cx<'_> {
    /// Where a stored result lies.
    fn place_result(&mut self, base: Val, offset: &Dim, dtype: DType, lanes: bool) -> (Val, crate::vector::Pattern) {
        if !lanes {
            return self.place(base, offset, None, dtype);
        }
        let bytes = self.value(&(offset * Dim::from(dtype.size() * self.lanes)));
        (self.b.add(base, bytes), crate::vector::Pattern::Contiguous)
    }
}

/// From a range and the accumulators before it to those after it.
type Chunk<'a> = dyn FnMut(&mut Cx<'_>, Val, Val, Vec<Val>) -> Vec<Val> + 'a;

/// Rows that go by at once.
pub(super) struct Rows<'a> {
    /// The axes of which each row is a point.
    pub(super) axes: &'a [usize],
    /// Where each row is along them.
    pub(super) at: &'a [Vec<Val>],
}

impl Rows<'static> {
    /// One row, whose axes stand where they do.
    const BOUND: Self = Self { axes: &[], at: &[Vec::new()] };
}

/// The reductions of one stage, of some rows. What a row's elements are combined in, and in which order, does not depend on how many there are.
struct Sum<'a> {
    nest: &'a Nest,
    stage: &'a Stage,
    /// The reduced axis over lanes.
    lane: Option<usize>,
    rows: &'a Rows<'a>,
}

impl Sum<'_> {
    /// The results of one row.
    fn over_one(&self, cx: &mut Cx<'_>, results: &mut Results, reduced: &[usize]) -> Vec<Val> {
        self.over(cx, std::slice::from_mut(results), reduced).remove(0)
    }

    /// Each row's results over the reduced axes, at this point of all others.
    fn over(&self, cx: &mut Cx<'_>, results: &mut [Results], reduced: &[usize]) -> Vec<Vec<Val>> {
        let serial: Vec<usize> = reduced.iter().copied().filter(|axis| Some(*axis) != self.lane).collect();
        let inits = self.identities(cx);
        let mut accumulators = self.serial(cx, results, &serial, inits).into_iter();
        let mut outcome = |reduction: &Reduction| {
            let value = accumulators.next().expect("an accumulator a reduction");
            match reduction.combine {
                Combining::Reduce(_) => value,
                Combining::Arg(_) => accumulators.next().expect("a position beside its value"),
            }
        };
        self.rows.at.iter().map(|_| self.stage.reductions.iter().map(&mut outcome).collect()).collect()
    }

    /// What is combined, row by row.
    fn kinds(&self) -> Vec<(Kind, bool)> {
        self.rows.at.iter().flat_map(|_| kinds(self.stage)).collect()
    }

    fn identities(&self, cx: &mut Cx<'_>) -> Vec<Val> {
        let width = if cx.lane_axis().is_some() { Width::Lanes } else { Width::One };
        let mut values = Vec::new();
        for (kind, has_position) in self.kinds() {
            let value = cx.b.constant(kind.elem, kind.combine.identity(kind.elem));
            values.push(cx.b.with_width(value, width));
            if has_position {
                let zero = cx.b.int(0);
                values.push(cx.b.with_width(zero, width));
            }
        }
        values
    }

    /// The accumulators after loops over these axes, the first outermost.
    fn serial(&self, cx: &mut Cx<'_>, results: &mut [Results], axes: &[usize], state: Vec<Val>) -> Vec<Val> {
        let Some((axis, rest)) = axes.split_first() else { return self.innermost(cx, results, state) };
        let size = &self.nest.axes[*axis];
        if let Some(count) = size.as_const().filter(|count| (0..=WRITTEN_OUT).contains(count)) {
            let mut state = state;
            for position in 0..count {
                cx.at[*axis] = At::One(cx.b.int(position));
                state = self.serial(cx, results, rest, state);
            }
            cx.at[*axis] = At::Unbound;
            return state;
        }
        self.chunked(cx, size, state, &mut |cx, begin, end, state| {
            let open = cx.b.open_loop(begin, end, 1, state);
            cx.at[*axis] = At::One(open.var);
            let params = open.params.clone();
            let next = self.serial(cx, results, rest, params);
            cx.at[*axis] = At::Unbound;
            cx.b.close_loop(open, next)
        })
    }

    /// One point, or all points of the axis over lanes.
    fn innermost(&self, cx: &mut Cx<'_>, results: &mut [Results], state: Vec<Val>) -> Vec<Val> {
        let Some(axis) = self.lane else {
            let point = self.point(cx, results);
            return self.combine(cx, &state, &point);
        };
        let size = &self.nest.axes[axis];
        self.chunked(cx, size, state, &mut |cx, begin, end, state| {
            let point = self.sweep(cx, results, axis, begin, end);
            self.combine(cx, &state, &point)
        })
    }

    /// The body over `0..size`, in chunks if that is long.
    fn chunked(&self, cx: &mut Cx<'_>, size: &Dim, state: Vec<Val>, body: &mut Chunk<'_>) -> Vec<Val> {
        let (zero, end) = (cx.b.int(0), cx.value(size));
        if size.as_const().is_some_and(|size| size <= CHUNK) {
            return body(cx, zero, end, state);
        }
        let open = cx.b.open_loop(zero, end, CHUNK, state);
        let chunk = cx.b.int(CHUNK);
        let limit = cx.b.add(open.var, chunk);
        let limit = cx.b.binary(Binary::Min, limit, end);
        let (var, params) = (open.var, open.params.clone());
        let inits = self.identities(cx);
        let part = body(cx, var, limit, inits);
        let next = self.combine(cx, &params, &part);
        cx.b.close_loop(open, next)
    }

    fn sweep(&self, cx: &mut Cx<'_>, results: &mut [Results], axis: usize, begin: Val, end: Val) -> Vec<Val> {
        let open = cx.b.open_sweep(begin, end, ACCUMULATORS);
        cx.at[axis] = At::Lane(open.var);
        let mut point = self.point(cx, results).into_iter();
        cx.at[axis] = At::Unbound;
        let mut folds = Vec::new();
        for (kind, has_position) in self.kinds() {
            let value = point.next().expect("a value a reduction");
            let position = has_position.then(|| point.next().expect("a position beside its value"));
            folds.push((kind.combine, value, position));
        }
        let folded = cx.b.close_sweep(open, folds);
        folded.into_iter().flat_map(|(value, position)| [Some(value), position]).flatten().collect()
    }

    /// The values (and positions) of one point of each row.
    fn point(&self, cx: &mut Cx<'_>, results: &mut [Results]) -> Vec<Val> {
        let mut point = Vec::new();
        for (row, results) in self.rows.at.iter().zip(results) {
            bind(cx, self.rows.axes, row);
            let values = cx.body(&self.stage.body, results);
            results.memos.leave(cx, results.stages.len(), &values);
            for (reduction, (_, has_position)) in self.stage.reductions.iter().zip(kinds(self.stage)) {
                point.push(values[reduction.value.index()]);
                if has_position {
                    point.push(cx.value(&self.position()));
                }
            }
        }
        point
    }

    /// The row-major position over the reduced axes.
    fn position(&self) -> Dim {
        let (mut position, mut count) = (Dim::ZERO, Dim::ONE);
        let reduced: Vec<usize> = self.stage.over.minus(self.stage.keep).iter().collect();
        for axis in reduced.into_iter().rev() {
            let size = &self.nest.axes[axis];
            position = position + Dim::axis(u32::try_from(axis).expect("few axes"), size) * &count;
            count = count * size;
        }
        position
    }

    fn combine(&self, cx: &mut Cx<'_>, x: &[Val], y: &[Val]) -> Vec<Val> {
        let (mut combined, mut place) = (Vec::new(), 0);
        for (kind, has_position) in self.kinds() {
            if has_position {
                combined.extend(combine_arg(cx, kind, [x[place], x[place + 1]], [y[place], y[place + 1]]));
                place += 2;
            } else {
                combined.push(combine(cx, kind, x[place], y[place]));
                place += 1;
            }
        }
        combined
    }
}

pub(super) fn combine(cx: &mut Cx<'_>, kind: Kind, x: Val, y: Val) -> Val {
    let op = match kind.combine {
        Combine::Sum => Binary::Add,
        Combine::Prod => Binary::Mul,
        Combine::Max | Combine::ArgMax => Binary::Max,
        Combine::MaxFast => Binary::MaxFast,
        Combine::Min | Combine::ArgMin => Binary::Min,
    };
    cx.b.binary(op, x, y)
}

/// The better value and its position, where all positions of `x` are before those of `y`: NaN first, then the extreme.
pub(super) fn combine_arg(cx: &mut Cx<'_>, kind: Kind, x: [Val; 2], y: [Val; 2]) -> [Val; 2] {
    let (beyond, within) = if kind.combine == Combine::ArgMax { (Compare::Gt, Compare::Le) } else { (Compare::Lt, Compare::Ge) };
    let better = if kind.elem.is_float() {
        // NaN is not within, and nothing is better than NaN.
        let (within, x_number) = (cx.b.compare(within, y[0], x[0]), cx.b.compare(Compare::Eq, x[0], x[0]));
        cx.b.compare(Compare::Lt, within, x_number)
    } else {
        cx.b.compare(beyond, y[0], x[0])
    };
    [cx.b.select(better, y[0], x[0]), cx.b.select(better, y[1], x[1])]
}
