//! Which nests are windows: which axis goes over lanes, which one is that of rows, and in which order rows visit their positions.

use std::cmp::Reverse;

use graver_ir::Dim;
use graver_ir::kernel::{Access, AxisSet, Bounds, Index, Nest, Stage};

use super::super::cx::Cx;
use super::super::index::slope;
use super::super::nest::stage_work;
use super::super::reduce::kinds;
use super::points::Points;
use super::visits::{Visits, depends, visits};

/// Positions that are combined at most: all are written out.
const MOST_POSITIONS: i64 = 64;
/// Rows of a block: as many sums as hide how long one takes.
const ROWS: i64 = 8;
/// Points along the lanes at least.
const LEAST_LANES: i64 = 4;
/// Elements from lane to lane at most.
const FARTHEST: i64 = 4;
/// Below so many visits a plain nest is as good.
const SMALL: i64 = 2048;

impl<'a> Points<'a> {
    /// A nest whose neighbours share what they combine.
    pub(super) fn find(cx: &Cx<'_>, nest: &'a Nest) -> Option<Self> {
        let [sum, end] = nest.stages.as_slice() else { return None };
        let is_whole = sum.over == AxisSet::first(nest.axes.len()) && end.over == sum.keep;
        let is_plain =
            [sum, end].iter().all(|stage| !stage.body.has_checks()) && kinds(sum).iter().all(|(_, position)| !position);
        if !is_whole || !is_plain || sum.reductions.is_empty() || !end.reductions.is_empty() {
            return None;
        }
        let positions = positions(nest, sum)?;
        let work = stage_work(nest, sum);
        let lanes = sum.keep.iter().filter_map(|axis| Along::find(cx, nest, axis));
        let Along { axis: lane, far, .. } = lanes.max_by_key(|along| (along.is_stored, along.axis))?;
        if work.as_const().is_some_and(|work| work < SMALL) || positions.len() < 2 {
            return None;
        }
        // Of a row and the next: the fewer different elements, the better; of equals the last, whose elements are the nearest.
        let rows = sum.keep.iter().filter(|axis| *axis != lane && !nest.axes[*axis].is(1));
        let reads = |row: usize| visits(sum, row, 2, &positions).1.len();
        let (reads, row) = rows.map(|row| (reads(row), row)).min_by_key(|(reads, row)| (*reads, Reverse(*row)))?;
        if reads >= 2 * positions.len() * sum.body.loads().count() {
            return None;
        }
        let mut visits = Visits::new(nest, [lane, row], heights(&nest.axes[row]), &positions);
        let others = sum.keep.iter().filter(|axis| ![lane, row].contains(axis)).collect();
        let mut shared = Dim::ZERO;
        for load in far {
            let bytes = Dim::from(sum.body.insts[load].dtype.size());
            visits.packed.push((load, shared.clone()));
            let count = Dim::from(i64::try_from(positions.len()).expect("few positions"));
            shared = (shared + count * &nest.axes[lane] * bytes).round_up(64);
        }
        Some(Self { visits, others, shared })
    }
}

/// Every position that a stage combines, row-major: where each axis stands.
fn positions(nest: &Nest, stage: &Stage) -> Option<Vec<Vec<(usize, i64)>>> {
    let mut positions = vec![Vec::new()];
    for axis in stage.over.minus(stage.keep).iter() {
        let size = nest.axes[axis].as_const()?;
        if i64::try_from(positions.len()).ok()?.saturating_mul(size) > MOST_POSITIONS {
            return None;
        }
        let with = |position: &Vec<(usize, i64)>, number: i64| position.iter().copied().chain([(axis, number)]).collect();
        positions = positions.iter().flat_map(|position| (0..size).map(move |number| with(position, number))).collect();
    }
    Some(positions)
}

/// An axis that may go over lanes: what is read along it lies side by side or nearly so, or is the same for all else that is kept, so that it can
/// be packed.
struct Along {
    axis: usize,
    /// Whether results lie side by side.
    is_stored: bool,
    /// Loads that lie far apart.
    far: Vec<usize>,
}

impl Along {
    fn find(cx: &Cx<'_>, nest: &Nest, axis: usize) -> Option<Self> {
        let [sum, end] = nest.stages.as_slice() else { return None };
        let slope = |arg: usize, index: &[Index]| slope(cx, arg, index, axis).and_then(|slope| slope.as_const());
        let of = |access: &Access| slope(access.arg, &access.index);
        let is_near = |access: &Access| of(access).is_some_and(|slope| (0..=FARTHEST).contains(&slope));
        let is_stored = end.stores.iter().all(|store| slope(store.arg, &store.index) == Some(1));
        // Where results lie apart, what is read must not.
        let is_read =
            sum.body.loads().any(|(_, access)| of(access) == Some(1)) && end.body.loads().all(|(_, access)| of(access).is_some());
        let is_short = nest.axes[axis].as_const().is_some_and(|size| size < LEAST_LANES);
        if is_short || !(is_stored && end.body.loads().all(|(_, access)| is_near(access)) || is_read) {
            return None;
        }
        let is_packable = |access: &Access| {
            let of_axis_alone = |index: &Index| sum.keep.iter().all(|kept| kept == axis || !depends(index, kept));
            access.bounds == Bounds::Proven
                && access.index.iter().all(|index| matches!(index, Index::At(_)) && of_axis_alone(index))
                && of(access).is_some()
        };
        let far = sum.body.loads().filter(|(_, access)| !is_near(access));
        let far = far.map(|(load, access)| is_packable(access).then_some(load.index())).collect::<Option<Vec<usize>>>()?;
        Some(Self { axis, is_stored, far })
    }
}

/// Rows of blocks: all alike where some number of them that is hardly lower divides them, else the last ones are lower.
fn heights(size: &Dim) -> Vec<i64> {
    let Some(size) = size.as_const() else { return vec![ROWS, 1] };
    let up = |x: i64, y: i64| (x + y - 1) / y;
    let even = (ROWS - 3..=ROWS).rev().find(|rows| size % rows == 0);
    let most = even.unwrap_or_else(|| up(size, up(size, ROWS)));
    [most, size % most].into_iter().filter(|rows| *rows > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_rows_are_alike_where_they_can_be() {
        let known = |size: i64| heights(&Dim::from(size));
        assert_eq!([1, 3, 7, 8].map(known), [vec![1], vec![3], vec![7], vec![8]]);
        assert_eq!([112, 56, 28, 14, 25].map(known), [vec![8], vec![8], vec![7], vec![7], vec![5]]);
        assert_eq!([9, 13, 17, 19].map(known), [vec![5, 4], vec![7, 6], vec![6, 5], vec![7, 5]]);
        assert_eq!(heights(&Dim::sym(&graver_ir::Symbol::new("rows"))), [8, 1]);
    }
}
