//! A concatenation of many operands: one kernel an operand, which stores it where it belongs in the result. One kernel for all of
//! them would look at every operand at every point.

use graver_ir::kernel::{Arg, Kernel, KernelBody, Mode, Nest, Stage, Store, Trap};
use graver_ir::{Dim, Function, Graph, NodeId, Op, Value};

use super::Kernels;
use super::point::{Point, at as exact};
use super::region::{Region, Source, axes_in};
use super::scatter::{sources, types};

/// The most operands among which a point chooses.
const FEW: usize = 8;

/// Whether a node is a concatenation of so many operands.
pub(crate) fn is_wide(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.op(id), Op::Concat(_)) && graph.args(id).len() > FEW
}

/// The kernels of a region whose result is the concatenation. Operands of one shape have one kernel, over other parts of the
/// result; the first one says that nothing was there before.
pub(super) fn lower(function: &Function, value: Value, axis: usize, name: &str, traps: &mut Vec<Trap>) -> Kernels {
    let graph = &function.graph;
    let result = graph.ty(value);
    let whole = Arg::dense(result.dtype, result.shape.0.clone(), Mode::Write);
    let (mut start, mut kernels) = (Dim::ZERO, Vec::new());
    for (place, operand) in graph.args(value.node).into_iter().enumerate() {
        let shape = graph.ty(operand).shape.clone();
        let mode = if place == 0 { Mode::Write } else { Mode::Update };
        let part = Arg { shape: shape.0.clone(), mode, ..whole.clone() };
        let mut region = Region::new(function, traps);
        let body = store(&mut region, operand, (Source::Part(0, &start * &whole.strides[axis]), part));
        kernels.push((Kernel { name: name.to_owned(), args: types(&region), body }, sources(&region)));
        start = start + shape[axis].clone();
    }
    kernels
}

fn store(region: &mut Region<'_>, operand: Value, (source, part): (Source, Arg)) -> KernelBody {
    let index: Vec<Dim> = part.shape.iter().map(|size| region.axis(size)).collect();
    let mut at = Point::default();
    let value = region.pull(&mut at, operand, &exact(index.clone()));
    let arg = region.arg(source, part);
    let over = axes_in(&index);
    let stores = vec![Store { arg, index: exact(index), value }];
    let stage = Stage { over, keep: over, body: at.body, reductions: Vec::new(), stores };
    KernelBody::Nest(Nest { axes: region.axes.clone(), stages: vec![stage] })
}
