//! Nests: every result is stored over its own axes, after the stages that it needs. Results that are indexed by the same
//! axes share a stage.

use std::collections::BTreeMap;

use graver_ir::dim::Dim;
use graver_ir::kernel::{AxisSet, Index, KernelBody, Nest, Stage, Store};
use graver_ir::{Shape, Value};

use super::point::{Point, at as exact};
use super::region::{Region, axes_in, plain_axis};
use super::stores::under_reshapes;

/// The kernel of a region of maps, movement and reductions.
pub(super) fn lower(region: &mut Region<'_>) -> KernelBody {
    let graph = region.graph();
    let results = region.function.results.iter().map(|result| under_reshapes(graph, result.value));
    let mut order: Vec<(usize, Value)> = results.enumerate().collect();
    // The largest index space first: it names the axes that the others are found among.
    order.sort_by_key(|(_, value)| std::cmp::Reverse(graph.ty(*value).rank()));
    let mut points: BTreeMap<AxisSet, (Point, Vec<Store>)> = BTreeMap::new();
    for (position, value) in order {
        let shape = &graph.ty(value).shape;
        let index = index_for(region, value, shape);
        let (point, stores) = points.entry(axes_in(&index)).or_default();
        let element = region.pull(point, value, &exact(index.clone()));
        stores.push(region.store(position, shape, exact(index), element));
    }
    for (over, (point, stores)) in points {
        region.stages.push(Stage { over, keep: over, body: point.body, reductions: Vec::new(), stores });
    }
    KernelBody::Nest(Nest { axes: region.axes.clone(), stages: region.stages.clone() })
}

/// The index at which a result is computed: where another result needed it, or a value of its shape; else axes of its sizes.
fn index_for(region: &mut Region<'_>, value: Value, shape: &Shape) -> Vec<Dim> {
    let own = region.visited.get(&value).and_then(|index| plain(index));
    let graph = region.graph();
    let alike =
        || region.visited.iter().filter(|(other, _)| graph.ty(**other).shape == *shape).find_map(|(_, index)| plain(index));
    if let Some(index) = own.or_else(alike) {
        return index;
    }
    let (mut taken, mut above) = (AxisSet::EMPTY, None);
    let axis = |size: &Dim| {
        let index = region.axis_beside(size, taken, above);
        if let Some(axis) = plain_axis(&index) {
            (taken, above) = (taken.with(axis), Some(axis));
        }
        index
    };
    shape.iter().map(axis).collect()
}

/// The expressions of an index whose positions are different axes, or 0.
fn plain(index: &[Index]) -> Option<Vec<Dim>> {
    let mut taken = AxisSet::EMPTY;
    let axis = |index: &Index| {
        let Index::At(dim) = index else { return None };
        if dim.is(0) {
            return Some(dim.clone());
        }
        let axis = plain_axis(dim).filter(|axis| !taken.contains(*axis))?;
        taken = taken.with(axis);
        Some(dim.clone())
    };
    index.iter().map(axis).collect()
}
