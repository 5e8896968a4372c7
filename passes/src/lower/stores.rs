//! Where results go. A reshape at the end is nothing: the buffer is dense, and is written under the inner shape.

use std::collections::BTreeMap;

use graver_ir::kernel::{Index, Store};
use graver_ir::{Graph, Op, Value};

use super::movement::reshaped;
use super::point::Point;
use super::region::Region;

/// The value under the reshapes at the end.
pub(super) fn under_reshapes(graph: &Graph, mut value: Value) -> Value {
    while let Op::Reshape(_) | Op::Alias | Op::StopGradient = graph.op(value.node) {
        value = graph.args(value.node)[0];
    }
    value
}

/// Stores of every result at the point of a contraction's sum. Permutations and reshapes after it are in the stores' indices.
pub(super) fn at_sum(region: &mut Region<'_>, at: &mut Point, contraction: Value, index: &[Index]) -> Vec<Store> {
    let graph = region.graph();
    let known = indices(graph, contraction, index);
    let results: Vec<Value> = region.function.results.iter().map(|result| result.value).collect();
    let store = |(position, value): (usize, Value)| {
        let outer = under_reshapes(graph, value);
        let inner = under_moves(graph, outer, contraction);
        let value = region.pull(at, inner, &known[&inner]);
        region.store(position, &graph.ty(outer).shape, known[&outer].clone(), value)
    };
    results.into_iter().enumerate().map(store).collect()
}

/// The index of every value that follows from the sum, when the sum is at `index`.
fn indices(graph: &Graph, contraction: Value, index: &[Index]) -> BTreeMap<Value, Vec<Index>> {
    let mut known = BTreeMap::from([(contraction, index.to_vec())]);
    for id in graph.topo() {
        let args = graph.args(id);
        let Some((arg, index)) = args.iter().find_map(|arg| Some((*arg, known.get(arg)?.clone()))) else { continue };
        let op = graph.op(id);
        let index = if let Op::Permute(perm) = op {
            perm.axes().iter().map(|axis| index[*axis].clone()).collect()
        } else if let Op::Reshape(to) = op {
            reshaped(&graph.ty(arg).shape, to, &index)
        } else {
            assert!(
                matches!(op, Op::Map(_) | Op::Cast(_) | Op::Bitcast(_) | Op::Alias | Op::StopGradient),
                "L9: {} after a sum",
                op.name()
            );
            index
        };
        known.insert(id.into(), index);
    }
    beside(graph, &mut known);
    known
}

/// A value that does not follow from the sum, and that maps of the sum read, is computed at their point: its index is theirs. So
/// is that of a map of such values, which the region gives because it has computed what the map needs.
fn beside(graph: &Graph, known: &mut BTreeMap<Value, Vec<Index>>) {
    for id in graph.topo().into_iter().rev() {
        let (Op::Map(_) | Op::Cast(_) | Op::Bitcast(_)) = graph.op(id) else { continue };
        let Some(index) = known.get(&id.into()).cloned() else { continue };
        for arg in graph.args(id) {
            known.entry(arg).or_insert_with(|| index.clone());
        }
    }
    for id in graph.topo() {
        let (Op::Map(_) | Op::Cast(_) | Op::Bitcast(_)) = graph.op(id) else { continue };
        if let Some(index) = graph.args(id).iter().find_map(|arg| known.get(arg)).cloned() {
            known.entry(id.into()).or_insert(index);
        }
    }
}

/// The value under the permutations and reshapes at the end, the sum itself at the latest.
fn under_moves(graph: &Graph, mut value: Value, contraction: Value) -> Value {
    while value != contraction && matches!(graph.op(value.node), Op::Permute(_) | Op::Reshape(_)) {
        value = graph.args(value.node)[0];
    }
    value
}
