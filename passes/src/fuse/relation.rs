//! How a node's operand is read: which element of its source, at a point of the node's operand space.

use graver_ir::op::GatherAxes;
use graver_ir::{Graph, NodeId, Op, Shape, Value};

use super::class::space;
use crate::lower::movement::groups;

/// Where one wide axis of a source comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// This wide axis of the reader's space, as it is.
    Axis(usize),
    /// An expression over these.
    Affine(Vec<usize>),
    /// Divisions and remainders of these.
    Split(Vec<usize>),
    /// A run-time position.
    Random,
}

/// One origin a wide axis of the source.
pub(super) type Relation = Vec<Origin>;

/// The same element.
pub(super) fn is_identity(relation: &Relation, rank: usize) -> bool {
    relation.len() == rank && is_prefix(relation)
}

/// The same element along the first axes, whatever the others.
pub(super) fn is_prefix(relation: &Relation) -> bool {
    relation.iter().enumerate().all(|(place, origin)| *origin == Origin::Axis(place))
}

/// The reader's axis of each of the source's, where they are all of the reader's in some order.
pub(super) fn permutation(relation: &Relation, rank: usize) -> Option<Vec<usize>> {
    let axes: Option<Vec<usize>> =
        relation.iter().map(|origin| if let Origin::Axis(axis) = origin { Some(*axis) } else { None }).collect();
    let axes = axes?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..rank).then_some(axes)
}

/// Whether some element is read more than once: an axis of the reader does not matter.
pub(super) fn repeats(relation: &Relation, rank: usize) -> bool {
    let matters = |axis: usize| {
        relation.iter().any(|origin| match origin {
            Origin::Axis(own) => *own == axis,
            Origin::Affine(own) | Origin::Split(own) => own.contains(&axis),
            Origin::Random => false,
        })
    };
    !(0..rank).all(matters)
}

/// Whether no position needs a division, or is known at run time only.
pub(super) fn is_affine(relation: &Relation) -> bool {
    relation.iter().all(|origin| matches!(origin, Origin::Axis(_) | Origin::Affine(_)))
}

/// Whether a position is known at run time only.
pub(super) fn is_random(relation: &Relation) -> bool {
    relation.contains(&Origin::Random)
}

/// The relation of one of a node's operands `args` to the node's operand space, before any movement.
pub(super) fn of_operand(graph: &Graph, id: NodeId, args: &[Value], slot: usize) -> Relation {
    let shape = &graph.ty(args[slot]).shape;
    match graph.op(id) {
        Op::Gather(axes) => of_gather(*axes, graph, args, slot),
        Op::Scatter(of) => of_scatter(of.at, graph, args, slot),
        Op::DynamicSlice(slice) if slot == 0 => {
            wide(shape, |own| if slice.axes.contains(&own) { Origin::Random } else { Origin::Axis(own) })
        }
        Op::DynamicUpdate(axes) if slot == 1 => {
            wide(shape, |own| if axes.contains(&own) { Origin::Affine(vec![own]) } else { Origin::Axis(own) })
        }
        // Of a contraction, a window or a concatenation: some elements, at shifted places.
        Op::Window(_) | Op::WindowArg(_) | Op::WindowTake(_) | Op::WindowPut(_) => split_all(shape),
        Op::Pad(_) if slot == 1 => Vec::new(),
        // Every word of the key is read at every point.
        Op::Philox(_) => vec![Origin::Random; space(shape).len()],
        Op::Pad(_) => through(graph, id, &wide(&graph.ty(id.into()).shape, Origin::Axis)),
        Op::Concat(axis) => wide(shape, |own| if own == *axis { Origin::Affine(vec![own]) } else { Origin::Axis(own) }),
        Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Reverse(_) | Op::Alias | Op::StopGradient => {
            through(graph, id, &wide(&graph.ty(id.into()).shape, Origin::Axis))
        }
        // A convolution's kernel, or everything else that is read at the point of the reader's space.
        Op::Map(_)
        | Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        // The operand of an update, and starts, which are scalars.
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::Param(_)
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => wide(shape, Origin::Axis),
    }
}

/// Origins of wide axes, for axes numbered among all; renumbered among wide ones.
fn wide(shape: &Shape, origin: impl Fn(usize) -> Origin) -> Relation {
    let number = numbering(shape);
    let kept = (0..shape.rank()).filter(|axis| !shape[*axis].is(1));
    kept.map(|axis| renumbered(origin(axis), &number)).collect()
}

fn renumbered(origin: Origin, number: &[usize]) -> Origin {
    match origin {
        Origin::Axis(axis) => Origin::Axis(number[axis]),
        Origin::Affine(axes) => Origin::Affine(axes.into_iter().map(|axis| number[axis]).collect()),
        Origin::Split(axes) => Origin::Split(axes.into_iter().map(|axis| number[axis]).collect()),
        Origin::Random => Origin::Random,
    }
}

/// The place of each axis among the wide ones.
fn numbering(shape: &Shape) -> Vec<usize> {
    (0..shape.rank()).map(|axis| shape[..axis].iter().filter(|size| !size.is(1)).count()).collect()
}

fn split_all(shape: &Shape) -> Relation {
    let axes: Vec<usize> = (0..space(shape).len()).collect();
    axes.iter().map(|_| Origin::Split(axes.clone())).collect()
}

fn of_gather(axes: GatherAxes, graph: &Graph, args: &[Value], slot: usize) -> Relation {
    let (x, index) = (&graph.ty(args[0]).shape, &graph.ty(args[1]).shape);
    let result = Shape(x[..axes.axis].iter().chain(&index[axes.batch..]).chain(&x[axes.axis + 1..]).cloned().collect());
    let number = numbering(&result);
    let place = |own: usize| -> Origin {
        let after = index.rank() - axes.batch;
        match slot {
            0 if own < axes.axis => Origin::Axis(own),
            0 if own == axes.axis => Origin::Random,
            0 => Origin::Axis(own + after - 1),
            _ if own < axes.batch => Origin::Axis(own),
            _ => Origin::Axis(axes.axis + own - axes.batch),
        }
    };
    let shape = &graph.ty(args[slot]).shape;
    (0..shape.rank()).filter(|axis| !shape[*axis].is(1)).map(|axis| renumbered(place(axis), &number)).collect()
}

/// Of a scatter of one update an element, in the space of its result.
fn of_scatter(axes: GatherAxes, graph: &Graph, args: &[Value], slot: usize) -> Relation {
    let (shape, index) = (&graph.ty(args[slot]).shape, &graph.ty(args[1]).shape);
    let number = numbering(&graph.ty(args[0]).shape);
    let after = index.rank() - axes.batch;
    let place = |own: usize| if slot == 2 && own > axes.axis { Origin::Axis(own + 1 - after) } else { Origin::Axis(own) };
    (0..shape.rank()).filter(|axis| !shape[*axis].is(1)).map(|axis| renumbered(place(axis), &number)).collect()
}

/// The relation to a movement's operand, from that to its result.
pub(super) fn through(graph: &Graph, id: NodeId, relation: &Relation) -> Relation {
    let args = graph.args(id);
    let (Some(x), y) = (args.first(), &graph.ty(Value::from(id)).shape) else { return Vec::new() };
    let x = &graph.ty(*x).shape;
    let number = numbering(y);
    let own = |axis: usize| relation[number[axis]].clone();
    let pick = |from: &dyn Fn(usize) -> Origin| (0..x.rank()).filter(|axis| !x[*axis].is(1)).map(from).collect();
    match graph.op(id) {
        Op::Permute(perm) => pick(&|axis| own(perm.inverse().axes()[axis])),
        Op::Broadcast(broadcast) => pick(&|axis| own(broadcast.axes[axis])),
        Op::Reverse(axes) => pick(&|axis| if axes.contains(&axis) { affine(own(axis)) } else { own(axis) }),
        Op::Reshape(_) => reshaped(x, y, relation),
        Op::Slice(_) | Op::Pad(_) => pick(&|axis| match () {
            () if x[axis] == y[axis] => own(axis),
            () if y[axis].is(1) => Origin::Affine(Vec::new()),
            () => affine(own(axis)),
        }),
        Op::Alias | Op::StopGradient => relation.clone(),
        Op::Map(_)
        | Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Concat(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Philox(_)
        | Op::Param(_)
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => panic!("F5: {} is no movement", graph.op(id).name()),
    }
}

fn affine(origin: Origin) -> Origin {
    if let Origin::Axis(axis) = origin { Origin::Affine(vec![axis]) } else { origin }
}

/// Of each group of axes of equal size: one to one where both are a single axis, affine where the operand's is.
fn reshaped(x: &Shape, y: &Shape, relation: &Relation) -> Relation {
    let (number, mut result) = (numbering(y), Vec::new());
    for (outer, inner) in groups(y, x) {
        let from: Vec<&Origin> = outer.filter(|axis| !y[*axis].is(1)).map(|axis| &relation[number[axis]]).collect();
        let to = inner.filter(|axis| !x[*axis].is(1)).count();
        let all = || from.iter().flat_map(|origin| axes_of(origin)).collect();
        let random = from.contains(&&Origin::Random);
        match (from.as_slice(), to) {
            ([only], 1) => result.push((*only).clone()),
            (_, 1) if !random && from.iter().all(|origin| !matches!(origin, Origin::Split(_))) => {
                result.push(Origin::Affine(all()))
            }
            _ => result.extend((0..to).map(|_| if random { Origin::Random } else { Origin::Split(all()) })),
        }
    }
    result
}

fn axes_of(origin: &Origin) -> Vec<usize> {
    match origin {
        Origin::Axis(axis) => vec![*axis],
        Origin::Affine(axes) | Origin::Split(axes) => axes.clone(),
        Origin::Random => Vec::new(),
    }
}
