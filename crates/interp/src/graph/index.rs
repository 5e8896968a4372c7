//! Values from positions, and positions from values.

use graver_ir::op::{GatherAxes, Scatter, ScatterKind, Sort};
use graver_ir::{DType, Diag, unravel};

use super::Out;
use super::map::collect;
use crate::dense::{Arith, Data, Dense};
use crate::scalar::{Num, Precision, cast_num, compare};

/// A size as a value.
pub(super) fn size(value: i64, out: Out) -> Dense {
    out.of(Data::Int(vec![value]))
}

/// The position along one axis, converted as by a cast.
pub(super) fn iota(axis: usize, out: Out, precision: Precision) -> Dense {
    let (size, inner) = (out.shape[axis], out.shape[axis + 1..].iter().product::<usize>());
    let positions = (0..out.shape.iter().product()).map(|place: usize| Num::Int((place / inner % size) as i64));
    let data = collect(positions.map(|position| cast_num(position, DType::I64, out.dtype, precision)), &out);
    out.of(data)
}

/// Elements of `x` at run-time positions along one axis.
pub(super) fn gather(axes: GatherAxes, x: &Dense, index: &Dense, out: Out) -> Result<Dense, Diag> {
    let sources = sources(axes, x, index)?;
    let data = x.data.pick(sources.into_iter());
    Ok(out.of(data))
}

/// `x` with each update put at its position or combined with what is there, in order; rounded once.
pub(super) fn scatter(of: Scatter, x: &Dense, index: &Dense, update: &Dense, out: Out) -> Result<Dense, Diag> {
    let sources = sources(of.at, x, index)?;
    let mut data = x.data.clone();
    match (&mut data, &update.data) {
        (Data::Float(to), Data::Float(updates)) => combine_at(of.kind, to, &sources, updates),
        (Data::Int(to), Data::Int(updates)) => combine_at(of.kind, to, &sources, updates),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => {
            unreachable!("typed: updates are of the operand's type")
        }
    }
    Ok(out.of(data))
}

/// The block of `x` at run-time starts.
pub(super) fn dynamic_slice(axes: &[usize], x: &Dense, starts: &[&Dense], out: Out) -> Result<Dense, Diag> {
    let data = x.data.pick(block(axes, x, &out.shape, starts)?.into_iter());
    Ok(out.of(data))
}

/// `x` with the block at run-time starts replaced.
pub(super) fn dynamic_update(axes: &[usize], x: &Dense, update: &Dense, starts: &[&Dense], out: Out) -> Result<Dense, Diag> {
    let places = block(axes, x, &update.shape, starts)?;
    let mut data = x.data.clone();
    match (&mut data, &update.data) {
        (Data::Float(to), Data::Float(from)) => places.iter().zip(from).for_each(|(place, value)| to[*place] = *value),
        (Data::Int(to), Data::Int(from)) => places.iter().zip(from).for_each(|(place, value)| to[*place] = *value),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => {
            unreachable!("typed: the update is of the operand's type")
        }
    }
    Ok(out.of(data))
}

/// For every element of a block in order, its place in `x`.
fn block(axes: &[usize], x: &Dense, shape: &[usize], starts: &[&Dense]) -> Result<Vec<usize>, Diag> {
    let mut first = vec![0; shape.len()];
    for (axis, start) in axes.iter().zip(starts) {
        let (start, last) = (start.data.ints()[0], x.shape[*axis] - shape[*axis]);
        let inside = usize::try_from(start).ok().filter(|start| *start <= last);
        first[*axis] = inside
            .ok_or_else(|| Diag::new(format!("a block of {} from {start} along axis {axis} leaves {}", shape[*axis], x.ty())))?;
    }
    let numel = shape.iter().product();
    let place = |position: usize| {
        let axis = |(rest, place, stride): (usize, usize, usize), axis: usize| {
            let position = first[axis] + rest % shape[axis];
            (rest / shape[axis], place + position * stride, stride * x.shape[axis])
        };
        (0..shape.len()).rev().fold((position, 0, 1), axis).1
    };
    Ok((0..numel).map(place).collect())
}

/// The positions along the axis in the order of their elements.
pub(super) fn sort(sort: Sort, x: &Dense, out: Out) -> Dense {
    let (size, inner) = (x.shape[sort.axis], x.shape[sort.axis + 1..].iter().product::<usize>());
    let outer: usize = x.shape[..sort.axis].iter().product();
    let mut places = vec![0; x.data.len()];
    for line in 0..outer * inner {
        let at = |position: usize| (line / inner * size + position) * inner + line % inner;
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|a, b| compare(x.data.get(at(*a)), x.data.get(at(*b)), sort.descending));
        order.into_iter().enumerate().for_each(|(place, position)| places[at(place)] = position as i64);
    }
    out.of(Data::Int(places))
}

fn combine_at<A: Arith>(kind: ScatterKind, to: &mut [A], places: &[usize], updates: &[A]) {
    for (place, update) in places.iter().zip(updates) {
        let there = to[*place];
        to[*place] = match kind {
            ScatterKind::Set => *update,
            ScatterKind::Add => there.add(*update),
            ScatterKind::Mul => there.mul(*update),
            ScatterKind::Max => there.maximum(*update),
            ScatterKind::Min => there.minimum(*update),
        };
    }
}

/// For every element of a gather's result in order, its place in `x`.
fn sources(axes: GatherAxes, x: &Dense, index: &Dense) -> Result<Vec<usize>, Diag> {
    let GatherAxes { axis, batch } = axes;
    let numel = |sizes: &[usize]| sizes.iter().product::<usize>();
    let (batches, middle, inner) = (numel(&x.shape[..batch]), numel(&x.shape[batch..axis]), numel(&x.shape[axis + 1..]));
    let (size, picks) = (x.shape[axis], numel(&index.shape[batch..]));
    let positions = positions(axis, x, index)?;
    let mut sources = Vec::with_capacity(batches * middle * picks * inner);
    for b in 0..batches {
        for m in 0..middle {
            for position in &positions[b * picks..][..picks] {
                let first = ((b * middle + m) * size + position) * inner;
                sources.extend(first..first + inner);
            }
        }
    }
    Ok(sources)
}

/// The positions, each of which must be in range.
fn positions(axis: usize, x: &Dense, index: &Dense) -> Result<Vec<usize>, Diag> {
    let size = x.shape[axis];
    let check = |(place, position): (usize, &i64)| {
        let inside = usize::try_from(*position).ok().filter(|position| *position < size);
        inside.ok_or_else(|| {
            let place = unravel(place, &index.shape);
            Diag::new(format!("position {position} is out of range for axis {axis} of {}: it stands at {place:?}", x.ty()))
        })
    };
    index.data.ints().iter().enumerate().map(check).collect()
}
