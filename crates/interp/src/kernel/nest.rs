//! Nests: stages in order, each over all its points in row-major order.

use graver_ir::kernel::{AxisSet, Combine, Nest, Reduction, Stage};
use graver_ir::op::ReduceKind;
use graver_ir::{DType, Diag};

use super::body::{Code, Frame, Put, Scratch};
use super::expr::sizes_of;
use super::launch::Running;
use super::points::{each, position};
use crate::graph::{beats, combine};
use crate::scalar::{Num, Precision, finish};

/// Runs a nest.
pub(super) fn run(nest: &Nest, running: &mut Running<'_>) -> Result<(), Diag> {
    let axes = sizes_of(&nest.axes, running.sizes)?;
    let mut done: Vec<Reduced> = Vec::new();
    for stage in &nest.stages {
        let reduced = run_stage(stage, &axes, &done, running)?;
        done.push(reduced);
    }
    Ok(())
}

/// The reductions of a stage: one value a slot and point of the kept axes.
struct Reduced {
    keep: AxisSet,
    slots: Vec<Vec<Partial>>,
    dtypes: Vec<DType>,
}

/// What has been combined so far.
#[derive(Clone, Copy)]
enum Partial {
    Value(Num),
    /// The extreme and its position, if there was any.
    Arg(Option<(Num, i64)>),
}

impl Reduced {
    fn new(stage: &Stage, axes: &[i64]) -> Self {
        let points = stage.keep.iter().map(|axis| axes[axis]).product::<i64>();
        let start = |reduction: &Reduction| match reduction.combine {
            Combine::Reduce(kind) => Partial::Value(Num::of(kind.identity(reduction.dtype))),
            Combine::Arg(_) => Partial::Arg(None),
        };
        let points = usize::try_from(points).unwrap_or(0);
        Self {
            keep: stage.keep,
            slots: stage.reductions.iter().map(|reduction| vec![start(reduction); points]).collect(),
            dtypes: stage.reductions.iter().map(|reduction| reduction.dtype).collect(),
        }
    }

    /// The result of a slot, rounded once.
    fn result(&self, slot: usize, axes: &[i64], point: &[i64]) -> Result<Num, Diag> {
        let values = self.slots.get(slot).ok_or_else(|| Diag::new(format!("the stage has no reduction {slot}")))?;
        let place = position(self.keep, axes, point)?;
        Ok(match values[place] {
            Partial::Value(value) => finish(self.dtypes[slot], Precision::Typed, value),
            Partial::Arg(best) => Num::Int(best.map_or(0, |(_, position)| position)),
        })
    }
}

fn run_stage(stage: &Stage, axes: &[i64], done: &[Reduced], running: &mut Running<'_>) -> Result<Reduced, Diag> {
    let code = Code::new(&stage.body, running.sizes)?;
    let puts = Put::all(&stage.stores, running.sizes)?;
    let mut reduced = Reduced::new(stage, axes);
    let mut scratch = Scratch::default();
    each(stage.over, axes, |point| {
        let earlier = |stage: usize, slot: usize| match done.get(stage) {
            Some(reduced) => reduced.result(slot, axes, point),
            None => Err(Diag::new(format!("stage {stage} is not an earlier one"))),
        };
        code.run(&Frame { point, acc: None, reduced: &earlier }, running, &mut scratch)?;
        for (slot, reduction) in stage.reductions.iter().enumerate() {
            let place = position(stage.keep, axes, point)?;
            let at = position(stage.over.minus(stage.keep), axes, point)?;
            let partial = &mut reduced.slots[slot][place];
            *partial = advance(*partial, reduction.combine, scratch.value(reduction.value), at);
        }
        puts.iter().try_for_each(|put| put.store(point, running, &mut scratch))
    })?;
    Ok(reduced)
}

fn advance(partial: Partial, how: Combine, x: Num, at: usize) -> Partial {
    match (partial, how) {
        (Partial::Value(sum), Combine::Reduce(kind)) => Partial::Value(combine_nums(kind, sum, x)),
        (Partial::Arg(best), Combine::Arg(kind)) => {
            let wins = best.is_none_or(|(y, _)| match (x, y) {
                (Num::Float(x), Num::Float(y)) => beats(kind, x, y),
                (Num::Int(x), Num::Int(y)) => beats(kind, x, y),
                (Num::Float(_), Num::Int(_)) | (Num::Int(_), Num::Float(_)) => unreachable!("typed: one slot has one type"),
            });
            if wins { Partial::Arg(Some((x, at as i64))) } else { partial }
        }
        (Partial::Value(_), Combine::Arg(_)) | (Partial::Arg(_), Combine::Reduce(_)) => {
            unreachable!("partial results are made for their reductions")
        }
    }
}

pub(super) fn combine_nums(kind: ReduceKind, x: Num, y: Num) -> Num {
    match (x, y) {
        (Num::Float(x), Num::Float(y)) => Num::Float(combine(kind, x, y)),
        (Num::Int(x), Num::Int(y)) => Num::Int(combine(kind, x, y)),
        (Num::Float(_), Num::Int(_)) | (Num::Int(_), Num::Float(_)) => unreachable!("typed: a reduction keeps the type"),
    }
}
