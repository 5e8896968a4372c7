//! The greatest or least elements in order.

use graver_ir::op::{GatherAxes, Sort};
use graver_ir::{Dim, Op};

use super::Values;
use crate::node::Node;
use crate::problem::wrong;

pub(super) fn top_k(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let rank = n.b.rank(x);
    let axis = n.axis(n.int("axis", -1), rank)?;
    let count = if n.has("k") { vec![Dim::from(n.int("k", 0))] } else { n.dims(1, "the count")? };
    let [count] = count.as_slice() else { return wrong("the count is one number") };
    let rows = n.b.swap(x, axis, rank - 1)?;
    let order = n.b.emit(Op::Sort(Sort { axis: rank - 1, descending: n.flag("largest", true) }), &[rows])?;
    let index = n.b.part(order, rank - 1, &Dim::ZERO, count)?;
    let values = n.b.emit(Op::Gather(GatherAxes { axis: rank - 1, batch: rank - 1 }), &[rows, index])?;
    Ok(vec![n.b.swap(values, axis, rank - 1)?, n.b.swap(index, axis, rank - 1)?])
}
