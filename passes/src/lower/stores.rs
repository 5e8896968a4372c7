//! Where results go. A reshape at the end is nothing: the buffer is dense, and is written under the inner shape.

use graver_ir::kernel::{Index, Store};
use graver_ir::{Graph, Op, Shape, Value};

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
    let results: Vec<Value> = region.function.results.iter().map(|result| result.value).collect();
    let store = |(position, value): (usize, Value)| {
        let outer = under_reshapes(region.graph(), value);
        let moves = moves_to(region.graph(), outer, contraction);
        let inner = moves.last().map_or(outer, |last| region.graph().args(last.node)[0]);
        let value = region.pull(at, inner, index);
        let (shape, place) = moved(region.graph(), inner, index, &moves);
        region.store(position, &shape, place, value)
    };
    results.into_iter().enumerate().map(store).collect()
}

/// The permutations and reshapes at the end of a result, outermost first.
fn moves_to(graph: &Graph, mut value: Value, contraction: Value) -> Vec<Value> {
    let mut moves = Vec::new();
    while value != contraction
        && let Op::Permute(_) | Op::Reshape(_) = graph.op(value.node)
    {
        moves.push(value);
        value = graph.args(value.node)[0];
    }
    moves
}

/// Shape and index after the moves of what is at `index` before them.
fn moved(graph: &Graph, inner: Value, index: &[Index], moves: &[Value]) -> (Shape, Vec<Index>) {
    let start = (graph.ty(inner).shape.clone(), index.to_vec());
    moves.iter().rev().fold(start, |(from, index), value| {
        let to = graph.ty(*value).shape.clone();
        let index = if let Op::Permute(perm) = graph.op(value.node) {
            perm.axes().iter().map(|axis| index[*axis].clone()).collect()
        } else {
            reshaped(&from, &to, &index)
        };
        (to, index)
    })
}
