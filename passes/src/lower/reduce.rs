//! Reductions: earlier stages, whose results are read at the axes that they keep.

use graver_ir::dim::Dim;
use graver_ir::kernel::{AxisSet, Combine, Index, InstKind, Reduction, Stage, ValueId};
use graver_ir::op::{ArgReduce, Reduce, ReduceKind};
use graver_ir::{DType, Scalar, ScalarFn, Value};

use super::map::wrapped;
use super::point::{Condition, Point, expression};
use super::pull::reduced;
use super::region::{Reduced, Region, axes_in, plain_axis};

/// What a reduction is over: its own axes, above those that it keeps.
pub(super) struct Sweep {
    /// Kept axes.
    pub(super) keep: AxisSet,
    /// The index along each reduced axis.
    pub(super) inner: Vec<Dim>,
}

impl Sweep {
    /// Axes for sizes that are reduced at a point of `keep`; ascending, so that positions are row-major over them.
    pub(super) fn over(region: &mut Region<'_>, keep: AxisSet, sizes: &[Dim]) -> Self {
        let (mut taken, mut above, mut inner) = (keep, None, Vec::new());
        for size in sizes {
            let index = region.axis_beside(size, taken, above);
            if let Some(axis) = plain_axis(&index) {
                (taken, above) = (taken.with(axis), Some(axis));
            }
            inner.push(index);
        }
        Self { keep, inner }
    }

    /// All axes of the stage.
    pub(super) fn axes(&self) -> AxisSet {
        self.keep.union(axes_in(&self.inner))
    }
}

/// The combined elements.
pub(super) fn reduce(region: &mut Region<'_>, at: &mut Point, reduce: &Reduce, value: Value, index: &[Index]) -> ValueId {
    along(region, at, Combine::Reduce(reduce.kind), &reduce.axes, (value, index))
}

/// The position of the extreme element.
pub(super) fn arg_reduce(region: &mut Region<'_>, at: &mut Point, arg: ArgReduce, value: Value, index: &[Index]) -> ValueId {
    along(region, at, Combine::Arg(arg.kind), &[arg.axis], (value, index))
}

fn along(region: &mut Region<'_>, at: &mut Point, combine: Combine, axes: &[usize], site: (Value, &[Index])) -> ValueId {
    let (value, index) = site;
    let x = region.graph().args(value.node)[0];
    let ty = region.graph().ty(x);
    let sizes: Vec<Dim> = axes.iter().map(|axis| ty.shape[*axis].clone()).collect();
    stage(region, at, (value, index), &sizes, |region, inside, outer, inner| {
        let (mut kept, mut swept) = (outer.iter(), inner.iter());
        let index: Vec<Index> = (0..ty.rank())
            .map(|axis| if axes.contains(&axis) { swept.next() } else { kept.next() })
            .map(|dim| Index::At(dim.expect("I4: a reduction removes its axes and no others").clone()))
            .collect();
        (combine, region.pull(inside, x, &index))
    })
}

/// A stage that combines what `body` gives, and its result at `index`.
///
/// `body` gets the kept index and the reduced one. Without an axis to reduce over, the element itself is the result.
pub(super) fn stage(
    region: &mut Region<'_>,
    at: &mut Point,
    (value, index): (Value, &[Index]),
    sizes: &[Dim],
    body: impl FnOnce(&mut Region<'_>, &mut Point, &[Dim], &[Dim]) -> (Combine, ValueId),
) -> ValueId {
    let outer: Vec<Dim> = index.iter().map(|index| expression(index).clone()).collect();
    if sizes.iter().all(|size| size.is(1)) {
        return single(region, at, &outer, sizes, body);
    }
    let place = known(region, value, &outer, &at.guard).unwrap_or_else(|| {
        let keep = axes_in(outer.iter().chain(at.guard.iter().map(|(position, _)| position)));
        let sweep = Sweep::over(region, keep, sizes);
        let mut inside = Point::guarded(at.guard.clone());
        let (combine, element) = body(region, &mut inside, &outer, &sweep.inner);
        let dtype = match combine {
            Combine::Reduce(_) => inside.body.dtype(element),
            Combine::Arg(_) => DType::I64,
        };
        let place = push(region, &sweep, inside, Reduction { combine, value: element, dtype });
        region.reduced.push(Reduced { value, index: outer.clone(), guard: at.guard.clone(), place });
        place
    });
    let Reduction { combine, dtype, .. } = region.stages[place.0].reductions[place.1];
    let result = reduced(at, place, dtype);
    let of = region.graph().ty(region.graph().args(value.node)[0]).dtype;
    settled(at, result, combine, of)
}

/// What came of elements of a narrow integer: a sum wraps, and the extreme of nothing is the least or greatest that there is.
fn settled(at: &mut Point, result: ValueId, combine: Combine, dtype: DType) -> ValueId {
    let narrow = dtype.is_narrow() && at.body.dtype(result) == dtype.compute();
    let mut limited = |function: ScalarFn, limit: Scalar| {
        let limit = at.constant(Scalar::int(dtype.compute(), limit.as_i64()));
        at.map(function, &[result, limit])
    };
    match combine {
        Combine::Reduce(_) | Combine::Arg(_) if !narrow => result,
        Combine::Reduce(ReduceKind::Sum | ReduceKind::Prod) => wrapped(at, result, dtype),
        Combine::Reduce(ReduceKind::Max) => limited(ScalarFn::Max, Scalar::lowest(dtype)),
        Combine::Reduce(ReduceKind::Min) => limited(ScalarFn::Min, Scalar::highest(dtype)),
        Combine::Arg(_) => result,
    }
}

/// One element is its own sum and extreme, at position 0.
fn single(
    region: &mut Region<'_>,
    at: &mut Point,
    outer: &[Dim],
    sizes: &[Dim],
    body: impl FnOnce(&mut Region<'_>, &mut Point, &[Dim], &[Dim]) -> (Combine, ValueId),
) -> ValueId {
    let (combine, element) = body(region, at, outer, &vec![Dim::ZERO; sizes.len()]);
    match combine {
        Combine::Reduce(_) => element,
        Combine::Arg(_) => at.constant(Scalar::int(DType::I64, 0)),
    }
}

fn known(region: &Region<'_>, value: Value, outer: &[Dim], guard: &[Condition]) -> Option<(usize, usize)> {
    let same = |other: &&Reduced| other.value == value && other.index == outer && other.guard == guard;
    region.reduced.iter().find(same).map(|reduced| reduced.place)
}

/// Adds the reduction to an earlier stage over the same axes that it does not follow from, else as a stage of its own.
fn push(region: &mut Region<'_>, sweep: &Sweep, inside: Point, reduction: Reduction) -> (usize, usize) {
    let (over, keep) = (sweep.axes(), sweep.keep);
    let first = needs(&inside).map_or(0, |last| last + 1);
    let joins = |stage: &Stage| stage.over == over && stage.keep == keep && !stage.reductions.is_empty();
    if let Some(place) = (first..region.stages.len()).find(|place| joins(&region.stages[*place])) {
        let stage = &mut region.stages[place];
        let moved = append(&mut stage.body, &inside.body);
        stage.reductions.push(Reduction { value: moved[reduction.value.index()], ..reduction });
        return (place, stage.reductions.len() - 1);
    }
    region.stages.push(Stage { over, keep, body: inside.body, reductions: vec![reduction], stores: Vec::new() });
    (region.stages.len() - 1, 0)
}

/// The last stage whose results a body reads.
fn needs(point: &Point) -> Option<usize> {
    let stages = point
        .body
        .insts
        .iter()
        .filter_map(|inst| if let InstKind::Reduced { stage, .. } = inst.kind { Some(stage) } else { None });
    stages.max()
}

/// Copies instructions; where each one went.
fn append(body: &mut graver_ir::kernel::Body, other: &graver_ir::kernel::Body) -> Vec<ValueId> {
    let mut moved: Vec<ValueId> = Vec::new();
    for inst in &other.insts {
        let kind = inst.kind.clone().map_operands(|value| moved[value.index()]);
        moved.push(body.push(kind, inst.dtype));
    }
    moved
}
