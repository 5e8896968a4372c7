//! Which nests are windows: which axis goes over lanes, which one is that of rows, and in which order rows visit their positions.

use std::borrow::Cow;
use std::cmp::Reverse;

use graver_ir::kernel::{Access, AxisSet, Body, Bounds, Index, Nest, Stage};
use graver_ir::{DType, Dim};

use super::super::cx::Cx;
use super::super::index::slope;
use super::super::nest::stage_work;
use super::super::reduce::kinds;
use super::points::Points;
use super::residues::{Divided, Split};
use super::visits::{Stand, Visits, depends, visits};
use super::weights::{Group, Taps, Weights};
use crate::vector::{ALONE_LANES, TABLE_LANES};

/// Positions that are combined at most: all are written out.
const MOST_POSITIONS: i64 = 64;
/// Positions of all remainders together at most.
const MOST_VISITS: usize = 256;
/// Rows of a block: as many sums as hide how long one takes.
const ROWS: i64 = 8;
/// Points along the lanes at least.
const LEAST_LANES: i64 = 4;
/// Elements from lane to lane at most.
const FARTHEST: i64 = 4;
/// Elements that are combined for each tap, at least so many times as many as there are taps.
const MORE: usize = 4;
/// Below so many visits a plain nest is as good.
const SMALL: i64 = 2048;

impl<'a> Points<'a> {
    /// A nest whose neighbours share what they combine, or of which axes are split.
    pub(super) fn find(cx: &Cx<'_>, nest: &'a Nest) -> Option<Self> {
        Self::by_remainders(cx, nest).or_else(|| {
            combining(nest)?;
            Self::of(cx, Cow::Borrowed(nest), None)
        })
    }

    /// A nest of which axes are split; one that combines nothing is one that does so at no position.
    fn by_remainders(cx: &Cx<'_>, nest: &'a Nest) -> Option<Self> {
        let mut split = Split::find(nest)?;
        if combining(nest).is_none() {
            let [stage] = nest.stages.as_slice() else { return None };
            let is_small = stage_work(nest, stage).as_const().is_some_and(|work| work < SMALL);
            if stage.body.has_checks() || is_small {
                return None;
            }
            let keep = split.nest.stages[0].keep;
            let nothing = Stage { over: keep, keep, body: Body::default(), reductions: Vec::new(), stores: Vec::new() };
            split.nest.stages.insert(0, nothing);
        }
        let nest = Cow::Owned(split.nest.clone());
        Self::of(cx, nest, Some(split))
    }

    fn of(cx: &Cx<'_>, nest: Cow<'a, Nest>, split: Option<Split>) -> Option<Self> {
        let sum = &nest.stages[0];
        let positions = positions(&nest, sum.over.minus(sum.keep))?;
        if positions.len() == 1 && !sum.reductions.is_empty() {
            return None;
        }
        let remainders: Vec<usize> = split.iter().flat_map(|split| &split.axes).map(|divided| divided.remainder).collect();
        let kept = || sum.keep.iter().filter(|axis| !remainders.contains(axis));
        let lanes = kept().filter_map(|axis| Along::find(cx, &nest, (axis, split.as_ref().and_then(|split| split.of(axis)))));
        let Along { axis: lane, far, .. } = lanes.max_by_key(|along| (along.is_stored, along.axis))?;
        let shared_row = best_row(&nest, kept().collect(), lane, &positions);
        let row = match &split {
            None => shared_row?,
            Some(split) => {
                let rows: Vec<usize> = kept().filter(|axis| *axis != lane).collect();
                let divided = rows.iter().rev().copied().find(|axis| split.of(*axis).is_some());
                if sum.reductions.is_empty() && split.of(lane).is_none() {
                    return None;
                }
                shared_row.or(divided).or_else(|| rows.last().copied())?
            }
        };
        let copies = split.as_ref().map_or_else(|| vec![Vec::new()], |split| split.copies(lane));
        if copies.len() > 1 && copies.len() * positions.len() > MOST_VISITS {
            return None;
        }
        let most = (ROWS / i64::try_from(copies.len()).expect("few remainders")).max(1);
        let heights = heights(&nest.axes[row], most);
        let mut visits = Visits::new(nest.clone(), ([lane, row], None), heights, (&copies, &positions));
        if !visits.is_ascending() && kinds(sum).iter().any(|(_, has_position)| *has_position) {
            return None;
        }
        let others = kept().filter(|axis| ![lane, row].contains(axis)).collect();
        let mut shared = Dim::ZERO;
        for load in far {
            let bytes = Dim::from(sum.body.insts[load].dtype.size());
            visits.packed.push((load, shared.clone()));
            let count = Dim::from(i64::try_from(positions.len()).expect("few positions"));
            shared = (shared + count * &nest.axes[lane] * bytes).round_up(64);
        }
        let in_turn = split.as_ref().and_then(|split| split.of(lane));
        let rests = split.map_or_else(Vec::new, |split| split.rests);
        Some(Self { visits, others, shared, copies, in_turn, rests })
    }
}

impl<'a> Weights<'a> {
    /// A nest that combines, for each of a few taps, what lies so far from what they are multiplied by.
    pub(super) fn find(cx: &Cx<'_>, nest: &'a Nest) -> Option<Self> {
        let sum = combining(nest)?;
        let [reduction] = sum.reductions.as_slice() else { return None };
        if kinds(sum)[0].1 {
            return None;
        }
        let reduced = sum.over.minus(sum.keep);
        let taps: AxisSet = sum.keep.iter().filter(|axis| nest.axes[*axis].as_const().is_some() && is_tap(sum, *axis)).collect();
        let positions = positions(nest, taps).filter(|positions| positions.len() > 1)?;
        let count = reduced.iter().map(|axis| nest.axes[axis].nominal()).fold(1, i64::saturating_mul);
        let is_long = usize::try_from(count).is_ok_and(|count| count >= MORE * positions.len());
        let lanes = sum.over.minus(taps).iter().filter(|axis| is_near(cx, nest, *axis));
        let lane = lanes.max_by_key(|axis| (sum.keep.contains(*axis), *axis)).filter(|_| is_long)?;
        let row = best_row(nest, reduced, lane, &positions)?;
        let words = reduction.dtype.compute().size().div_ceil(DType::F32.size());
        let all = if cx.lanes == TABLE_LANES { 32 } else { 16 };
        let registers = all / words;
        let first = taps.iter().next()?;
        let groups = Taps::groups(positions, (first, nest.axes[first].as_const()?), registers - registers / 4);
        let group = |taps: Taps| {
            let of = |rows: i64| {
                let places = (&[Vec::new()][..], &taps.places[..]);
                Visits::new(Cow::Borrowed(nest), ([lane, row], taps.bound()), heights(&nest.axes[row], rows), places)
            };
            let fits = |visits: &Visits<'_>| visits.waiting() + taps.places.len() < registers;
            let visits = [ROWS, ROWS / 2, ROWS / 4].into_iter().map(of).find(fits).unwrap_or_else(|| of(1));
            Group { visits, taps }
        };
        Some(Self::new(cx, nest, [lane, row], groups.into_iter().map(group).collect()))
    }
}

impl Taps {
    /// Groups of taps whose sums wait in registers at once, `most` or fewer: as many of the first axis' lines as do, if any.
    fn groups(positions: Vec<Stand>, (axis, lines): (usize, i64), most: usize) -> Vec<Self> {
        let all = usize::try_from(lines).expect("few taps");
        let line = positions.len() / all;
        let once = |places: &[Stand]| Self { starts: None, places: places.to_vec() };
        if line > most {
            let count = positions.len().div_ceil(positions.len().div_ceil(most));
            return positions.chunks(count).map(once).collect();
        }
        let at_once = all.div_ceil(all.div_ceil(most / line));
        let whole = all - all % at_once;
        if whole == at_once {
            return positions.chunks(at_once * line).map(once).collect();
        }
        let [to, step] = [whole, at_once].map(|number| i64::try_from(number).expect("few taps"));
        let several = Self { starts: Some((axis, to, step)), places: positions[..at_once * line].to_vec() };
        let rest = positions[whole * line..].chunks(line * at_once).map(once);
        std::iter::once(several).chain(rest).collect()
    }
}

/// The stage that combines, of a nest of one that does so over all of its axes and one that makes results of what is kept.
fn combining(nest: &Nest) -> Option<&Stage> {
    let [sum, end] = nest.stages.as_slice() else { return None };
    let is_whole = sum.over == AxisSet::first(nest.axes.len()) && end.over == sum.keep;
    let is_plain = [sum, end].iter().all(|stage| !stage.body.has_checks());
    let is_small = stage_work(nest, sum).as_const().is_some_and(|work| work < SMALL);
    let combines = !sum.reductions.is_empty() && end.reductions.is_empty();
    (is_whole && is_plain && combines && !is_small).then_some(sum)
}

/// Every position of some axes, row-major: where each axis stands.
fn positions(nest: &Nest, axes: AxisSet) -> Option<Vec<Stand>> {
    let mut positions = vec![Vec::new()];
    for axis in axes.iter() {
        let size = nest.axes[axis].as_const()?;
        if i64::try_from(positions.len()).ok()?.saturating_mul(size) > MOST_POSITIONS {
            return None;
        }
        let with = |position: &Stand, number: i64| position.iter().copied().chain([(axis, number)]).collect();
        positions = positions.iter().flat_map(|position| (0..size).map(move |number| with(position, number))).collect();
    }
    Some(positions)
}

/// The axis of rows, of those of a set: of a row and the next, the fewer different elements, the better; of equals the last, whose elements are the
/// nearest. `None` where neighbours share nothing.
fn best_row(nest: &Nest, of: AxisSet, lane: usize, positions: &[Stand]) -> Option<usize> {
    let sum = &nest.stages[0];
    let rows = of.iter().filter(|axis| *axis != lane && !nest.axes[*axis].is(1));
    let reads = |row: usize| visits(sum, (row, None), 2, (&[Vec::new()], positions)).1.len();
    let (reads, row) = rows.map(|row| (reads(row), row)).min_by_key(|(reads, row)| (*reads, Reverse(*row)))?;
    (reads < 2 * positions.len() * sum.body.loads().count()).then_some(row)
}

/// Whether an axis that is kept moves what is read along one that is not.
fn is_tap(sum: &Stage, axis: usize) -> bool {
    let reduced = sum.over.minus(sum.keep);
    let moves = |index: &Index| depends(index, axis) && reduced.iter().any(|other| depends(index, other));
    sum.body.loads().any(|(_, access)| access.index.iter().any(moves))
}

/// Whether all that a nest combines lies side by side along an axis, or nearly so.
fn is_near(cx: &Cx<'_>, nest: &Nest, axis: usize) -> bool {
    let slopes = nest.stages[0].body.loads().map(|(_, access)| slope(cx, access.arg, &access.index, axis)?.as_const());
    let slopes: Vec<Option<i64>> = slopes.collect();
    let is_near = |slope: &Option<i64>| slope.is_some_and(|slope| (0..=FARTHEST).contains(&slope));
    slopes.iter().all(is_near) && slopes.contains(&Some(1)) && !is_short(&nest.axes[axis])
}

fn is_short(size: &Dim) -> bool {
    size.as_const().is_some_and(|size| size < LEAST_LANES)
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
    fn find(cx: &Cx<'_>, nest: &Nest, (axis, divided): (usize, Option<Divided>)) -> Option<Self> {
        let [sum, end] = nest.stages.as_slice() else { return None };
        let slope = |arg: usize, index: &[Index]| slope(cx, arg, index, axis).and_then(|slope| slope.as_const());
        let of = |access: &Access| slope(access.arg, &access.index);
        let is_near = |access: &Access| of(access).is_some_and(|slope| (0..=FARTHEST).contains(&slope));
        let is_stored = end.stores.iter().all(|store| {
            let own = slope(store.arg, &store.index);
            divided.map_or(own == Some(1), |divided| is_in_turn(cx, (store.arg, &store.index), divided))
        });
        if divided.is_some() && !(is_stored && end.body.loads().all(|(_, access)| is_read_near(cx, access, of(access)))) {
            return None;
        }
        // Where results lie apart, what is read must not.
        let is_read =
            sum.body.loads().any(|(_, access)| of(access) == Some(1)) && end.body.loads().all(|(_, access)| of(access).is_some());
        if is_short(&nest.axes[axis]) || !(is_stored && end.body.loads().all(|(_, access)| is_near(access)) || is_read) {
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

/// Whether what is stored for all remainders lies side by side.
fn is_in_turn(cx: &Cx<'_>, (arg, index): (usize, &[Index]), divided: Divided) -> bool {
    let along = |axis: usize| slope(cx, arg, index, axis).and_then(|slope| slope.as_const());
    along(divided.axis) == Some(divided.by) && along(divided.remainder) == Some(1) && cx.arg(arg).dtype != DType::Bool
}

/// Whether lanes of a load are read as whole vectors.
fn is_read_near(cx: &Cx<'_>, access: &Access, slope: Option<i64>) -> bool {
    let most = match cx.lanes {
        TABLE_LANES => FARTHEST,
        ALONE_LANES => 1,
        _ => 2,
    };
    let is_proven = access.bounds == Bounds::Proven;
    let is_word = cx.arg(access.arg).dtype.size() == 4;
    slope.is_some_and(|slope| (0..=1).contains(&slope) || (2..=most).contains(&slope) && is_word && is_proven)
}

/// Rows of blocks, `most` or fewer: all alike where some number of them that is hardly lower divides them, else the last ones are lower.
fn heights(size: &Dim, most: i64) -> Vec<i64> {
    let Some(size) = size.as_const() else { return if most == 1 { vec![1] } else { vec![most, 1] } };
    let up = |x: i64, y: i64| (x + y - 1) / y;
    let even = (most / 2 + 1..=most).rev().find(|rows| size % rows == 0);
    let high = even.unwrap_or_else(|| up(size, up(size, most)));
    [high, size % high].into_iter().filter(|rows| *rows > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_rows_are_alike_where_they_can_be() {
        let known = |size: i64| heights(&Dim::from(size), ROWS);
        assert_eq!([1, 3, 7, 8].map(known), [vec![1], vec![3], vec![7], vec![8]]);
        assert_eq!([112, 56, 28, 14, 25].map(known), [vec![8], vec![8], vec![7], vec![7], vec![5]]);
        assert_eq!([9, 13, 17, 19].map(known), [vec![5, 4], vec![7, 6], vec![6, 5], vec![7, 5]]);
        let unknown = Dim::sym(&graver_ir::Symbol::new("rows"));
        assert_eq!([8, 4, 1].map(|most| heights(&unknown, most)), [vec![8, 1], vec![4, 1], vec![1]]);
        assert_eq!([4, 2, 1].map(|most| heights(&Dim::from(7), most)), [vec![4, 3], vec![2, 1], vec![1]]);
    }

    #[test]
    fn taps_are_in_groups_of_whole_lines() {
        let groups = |sizes: [i64; 2], most: usize| {
            let place = |first: i64| (0..sizes[1]).map(move |second| vec![(0, first), (1, second)]);
            let groups = Taps::groups((0..sizes[0]).flat_map(place).collect(), (0, sizes[0]), most);
            groups.into_iter().map(|group| (group.starts, group.places.len())).collect::<Vec<_>>()
        };
        // For 32 registers, then for 16.
        assert_eq!(groups([3, 3], 24), [(None, 9)]);
        assert_eq!(groups([7, 7], 24), [(Some((0, 6, 3)), 21), (None, 7)]);
        assert_eq!(groups([5, 5], 24), [(None, 15), (None, 10)]);
        assert_eq!(groups([5, 5], 12), [(Some((0, 4, 2)), 10), (None, 5)]);
        assert_eq!(groups([7, 7], 12), [(Some((0, 7, 1)), 7)]);
        assert_eq!(groups([31, 1], 24), [(None, 16), (None, 15)]);
        assert_eq!(groups([1, 31], 24), [(None, 16), (None, 15)]);
    }
}
