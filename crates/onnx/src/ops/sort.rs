//! The greatest or least elements in order. Every element's rank is counted, so the work grows with the square of the axis.

use graver_ir::op::{GatherAxes, ReduceKind};
use graver_ir::{DType, Dim, Op, ScalarFn, Shape, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// The longest axis that is ranked.
const MAX_RANKED: i64 = 1 << 16;

pub(super) fn top_k(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let rank = n.b.rank(x);
    let axis = n.axis(n.int("axis", -1), rank)?;
    let count = if n.has("k") { vec![Dim::from(n.int("k", 0))] } else { n.dims(1, "the count")? };
    let [count] = count.as_slice() else { return wrong("the count is one number") };
    let rows = n.b.swap(x, axis, rank - 1)?;
    if n.b.shape(rows)[rank - 1].as_const().is_some_and(|size| size > MAX_RANKED) {
        return unsupported(format!("ranking more than {MAX_RANKED} elements"));
    }
    let places = ranked(n.b, rows, n.flag("largest", true))?;
    let index = chosen(n.b, places, count)?;
    let values = n.b.emit(Op::Gather(GatherAxes { axis: rank - 1, batch: rank - 1 }), &[rows, index])?;
    Ok(vec![n.b.swap(values, axis, rank - 1)?, n.b.swap(index, axis, rank - 1)?])
}

/// The place of every element of the last axis in sorted order: how many come before it. NaN is the greatest; equals keep their order.
fn ranked(b: &mut Builder, x: Value, largest: bool) -> Result<Value> {
    let rank = b.rank(x);
    let (own, other) = (b.unsqueeze(x, &[rank])?, b.unsqueeze(x, &[rank - 1])?);
    let (high, low) = if largest { (other, own) } else { (own, other) };
    let mut before = b.map(ScalarFn::Gt, &[high, low])?;
    let mut equal = b.map(ScalarFn::Eq, &[own, other])?;
    if b.dtype(x).is_float() {
        let (high, low) = (b.map(ScalarFn::IsNan, &[high])?, b.map(ScalarFn::IsNan, &[low])?);
        let both = b.map(ScalarFn::And, &[high, low])?;
        let number = b.map(ScalarFn::Not, &[low])?;
        let above = b.map(ScalarFn::And, &[high, number])?;
        before = b.map(ScalarFn::Or, &[before, above])?;
        equal = b.map(ScalarFn::Or, &[equal, both])?;
    }
    let size = b.shape(x)[rank - 1].clone();
    let square = Shape(vec![size.clone(), size]);
    let (place, earlier) = (b.iota(DType::I64, &square, 0)?, b.iota(DType::I64, &square, 1)?);
    let earlier = b.map(ScalarFn::Lt, &[earlier, place])?;
    let tie = b.map(ScalarFn::And, &[equal, earlier])?;
    let before = b.map(ScalarFn::Or, &[before, tie])?;
    let before = b.cast(before, DType::I64)?;
    b.reduce(ReduceKind::Sum, before, &[rank], false)
}

/// The positions of the elements with the first places.
fn chosen(b: &mut Builder, places: Value, count: &Dim) -> Result<Value> {
    let rank = b.rank(places);
    let mut shape = b.shape(places);
    let size = std::mem::replace(&mut shape.0[rank - 1], count.clone());
    shape.0.push(size);
    let wanted = b.iota(DType::I64, &shape, rank - 1)?;
    let position = b.iota(DType::I64, &shape, rank)?;
    let places = b.unsqueeze(places, &[rank - 1])?;
    let hit = b.map(ScalarFn::Eq, &[places, wanted])?;
    let none = b.number(DType::I64, 0.0)?;
    let position = b.select(hit, position, none)?;
    b.reduce(ReduceKind::Sum, position, &[rank], false)
}
