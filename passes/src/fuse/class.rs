//! What fusion must know of an op.

use graver_ir::{Dim, Function, Graph, NodeId, Op, ScalarFn, Shape, Type, Value};

use crate::attend::is_attend;
use crate::blocks::is_block;
use crate::lower::concat::is_wide;
use crate::lower::index::{is_one_update, splat};
use crate::lower::name::is_notable_function;
use crate::lower::window::tiles;

/// How an op takes part in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// There without computing: parameters, and arrays of different elements.
    Given,
    /// Nothing but its index: constants, sizes, positions, random bits.
    Source,
    /// The operand's elements elsewhere, each at most once or repeated.
    Move,
    /// One result an element; operands at indices of their own.
    Map,
    /// Elements combined over axes.
    Reduce,
    /// Elements combined over windows.
    Window,
    /// A sum of products.
    Contract,
    /// Stores and additions at run-time positions.
    Scatter,
    /// Elements in order: every element is compared with others.
    Sort,
    /// Every element combined with all before it.
    Prefix,
    /// Attention: every row reads all columns.
    Attend,
    /// Functions applied: what they take and give is in memory.
    Control,
}

/// The class of a node.
pub(super) fn class(graph: &Graph, id: NodeId) -> Class {
    match graph.op(id) {
        Op::Param(_) => Class::Given,
        Op::Const(array) if splat(array).is_none() => Class::Given,
        Op::Const(_) | Op::Size(_) | Op::Iota(_) | Op::Philox(_) => Class::Source,
        Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Reverse(_) => Class::Move,
        Op::Alias | Op::StopGradient => Class::Move,
        // Zeros between elements cost a division at every point.
        Op::Pad(axes) => {
            if axes.iter().all(|axis| axis.interior == 0) {
                Class::Move
            } else {
                Class::Map
            }
        }
        Op::Concat(_) if is_wide(graph, id) => Class::Scatter,
        Op::Map(_) | Op::Cast(_) | Op::Bitcast(_) | Op::Concat(_) | Op::Gather(_) | Op::DynamicSlice(_) => Class::Map,
        Op::DynamicUpdate(_) => Class::Scatter,
        Op::Sort(_) => Class::Sort,
        Op::Prefix(_) => Class::Prefix,
        Op::Scatter(of) => {
            let index = graph.ty(graph.args(id)[1]);
            if is_one_update(of.at, index) { Class::Map } else { Class::Scatter }
        }
        Op::Reduce(_) | Op::ArgReduce(_) => Class::Reduce,
        Op::Window(_) | Op::WindowArg(_) | Op::WindowTake(_) => Class::Window,
        Op::WindowPut(put) => {
            if tiles(&put.axes) {
                Class::Map
            } else {
                Class::Window
            }
        }
        Op::Dot(_) | Op::Conv(_) => Class::Contract,
        Op::If(_) | Op::While(_) | Op::Scan(_) => Class::Control,
        Op::Call(_) if is_attend(graph.op(id)) => Class::Attend,
        op @ Op::Call(_) if is_block(op) => Class::Control,
        Op::Call(_) | Op::Transform(_) => panic!("F3: calls and derivatives are gone before fusion"),
    }
}

/// Whether evaluating it once more costs less than a load.
pub(super) fn is_cheap(graph: &Graph, id: NodeId) -> bool {
    match class(graph, id) {
        Class::Move => true,
        Class::Source => !matches!(graph.op(id), Op::Philox(_)),
        Class::Map => is_cheap_map(graph.op(id)),
        Class::Given
        | Class::Reduce
        | Class::Window
        | Class::Contract
        | Class::Scatter
        | Class::Sort
        | Class::Prefix
        | Class::Attend
        | Class::Control => false,
    }
}

fn is_cheap_map(op: &Op) -> bool {
    if let Op::Map(function) = op {
        return !is_notable_function(*function) || *function == ScalarFn::Relu;
    }
    matches!(op, Op::Cast(_) | Op::Bitcast(_))
}

/// The sizes that are not one: a region's index space. Axes of size one come and go without cost.
pub(super) fn space(shape: &Shape) -> Vec<Dim> {
    shape.iter().filter(|size| !size.is(1)).cloned().collect()
}

/// The space over which a node reads its operands.
pub(super) fn operand_space(graph: &Graph, id: NodeId) -> Vec<Dim> {
    match class(graph, id) {
        Class::Reduce => space(&graph.ty(graph.args(id)[0]).shape),
        Class::Control => Vec::new(),
        Class::Given
        | Class::Source
        | Class::Move
        | Class::Map
        | Class::Window
        | Class::Contract
        | Class::Scatter
        | Class::Sort
        | Class::Prefix
        | Class::Attend => space(&result(graph, id).shape),
    }
}

/// The type of a node's only result.
pub(super) fn result(graph: &Graph, id: NodeId) -> &Type {
    graph.ty(Value::from(id))
}

/// How many kept sizes a reduction has, where they come first.
pub(super) fn kept_prefix(graph: &Graph, id: NodeId) -> Option<usize> {
    let x = &graph.ty(graph.args(id)[0]).shape;
    let reduced = |axis: usize| {
        if let Op::Reduce(reduce) = graph.op(id) {
            return reduce.axes.contains(&axis);
        }
        matches!(graph.op(id), Op::ArgReduce(arg) if arg.axis == axis)
    };
    let wide: Vec<bool> = (0..x.rank()).filter(|axis| !x[*axis].is(1)).map(reduced).collect();
    let kept = wide.iter().take_while(|reduced| !**reduced).count();
    wide[kept..].iter().all(|reduced| *reduced).then_some(kept)
}

/// Whether a node combines elements over the first axes of a space, so many, and keeps all others.
pub(super) fn combines_first(graph: &Graph, id: NodeId, count: usize) -> bool {
    let Op::Reduce(reduce) = graph.op(id) else { return false };
    let x = &graph.ty(graph.args(id)[0]).shape;
    let wide = (0..x.rank()).filter(|axis| !x[*axis].is(1));
    wide.enumerate().all(|(place, axis)| reduce.axes.contains(&axis) == (place < count))
}

/// Which axes of its first operand a node reads at positions that are known at run time only.
pub(super) fn random_axes(graph: &Graph, id: NodeId) -> Option<Vec<bool>> {
    let x = *graph.args(id).first()?;
    let axes = if let Op::Gather(axes) = graph.op(id) {
        vec![axes.axis]
    } else if let Op::DynamicSlice(slice) = graph.op(id) {
        slice.axes.clone()
    } else {
        return None;
    };
    Some((0..graph.ty(x).rank()).map(|axis| axes.contains(&axis)).collect())
}

/// Whether windows do not overlap, so that every element is read at most once.
pub(super) fn reads_once(graph: &Graph, id: NodeId) -> bool {
    if let Op::Window(window) | Op::WindowArg(window) = graph.op(id) {
        return tiles(&window.axes);
    }
    matches!(graph.op(id), Op::WindowTake(axes) if tiles(axes))
}

/// The nodes that results follow from, in topological order.
pub(super) fn live(function: &Function) -> Vec<NodeId> {
    let graph = &function.graph;
    let mut alive = vec![false; graph.bound()];
    for result in &function.results {
        alive[result.value.node.index()] = true;
    }
    let mut order = graph.topo();
    for id in order.iter().rev() {
        if alive[id.index()] {
            for arg in graph.args(*id) {
                alive[arg.node.index()] = true;
            }
        }
    }
    order.retain(|id| alive[id.index()]);
    order
}
