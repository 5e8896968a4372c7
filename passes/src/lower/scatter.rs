//! Scatters: a nest puts `x` in the result, then updates are combined with it in place.

use graver_ir::kernel::{Arg, Index, Kernel, KernelBody, Mode, Nest, Scatter, Stage, Store, Trap};
use graver_ir::op;
use graver_ir::{DType, Dim, Function, Value};

use super::Kernels;
use super::entry::copy;
use super::index::check_scatter;
use super::point::{Point, at as exact};
use super::region::{Region, Source, axes_in};
use super::stores::under_reshapes;

/// Both kernels of a region whose result is a scatter.
pub(super) fn lower(function: &Function, value: Value, of: op::Scatter, name: String, traps: &mut Vec<Trap>) -> Kernels {
    let args = function.graph.args(value.node);
    let init = start(function, args[0], &name, traps);
    let mut region = Region::new(function, traps);
    let body = combine(&mut region, of, value);
    vec![init, (Kernel { name, args: types(&region), body }, sources(&region))]
}

/// The kernel that puts `x` in the result. A copy where `x` is there: then it goes away with the last other use of `x`.
pub(super) fn start(function: &Function, x: Value, name: &str, traps: &mut Vec<Trap>) -> (Kernel, Vec<Source>) {
    let graph = &function.graph;
    if let Some(param) = function.params.iter().position(|param| Value::from(param.node) == under_reshapes(graph, x)) {
        return (copy(graph.ty(x)), vec![Source::Param(param), Source::Result(0)]);
    }
    let mut region = Region::new(function, traps);
    let body = fill(&mut region, x);
    (Kernel { name: format!("{name}_init"), args: types(&region), body }, sources(&region))
}

fn fill(region: &mut Region<'_>, x: Value) -> KernelBody {
    let shape = region.graph().ty(x).shape.clone();
    let index: Vec<_> = shape.iter().map(|size| region.axis(size)).collect();
    let mut at = Point::default();
    let value = region.pull(&mut at, x, &exact(index.clone()));
    let over = axes_in(&index);
    let stores = vec![region.store(0, &shape, exact(index), value)];
    region.stages.push(Stage { over, keep: over, body: at.body, reductions: Vec::new(), stores });
    KernelBody::Nest(Nest { axes: region.axes.clone(), stages: region.stages.clone() })
}

fn combine(region: &mut Region<'_>, of: op::Scatter, scatter: Value) -> KernelBody {
    let axes = of.at;
    let graph = region.graph();
    let args = graph.args(scatter.node);
    let (positions, update, ty) = (args[1], args[2], graph.ty(scatter));
    let shape = graph.ty(update).shape.clone();
    let index: Vec<_> = shape.iter().map(|size| region.axis(size)).collect();
    let split = axes.axis + graph.ty(positions).rank() - axes.batch;
    let free = axes_in(index[..axes.axis].iter().chain(&index[split..]));
    let place: Vec<_> = index[..axes.batch].iter().chain(&index[axes.axis..split]).cloned().collect();
    let mut at = Point::default();
    let position = region.pull(&mut at, positions, &exact(place));
    let position = at.cast(position, DType::I64);
    let position = check_scatter(region, &mut at, of, scatter, position, position);
    let value = region.pull(&mut at, update, &exact(index.clone()));
    let outer = exact(index[..axes.axis].to_vec()).into_iter();
    let target = outer.chain([Index::Value(position, Dim::ZERO)]).chain(exact(index[split..].to_vec())).collect();
    let arg = region.arg(Source::Result(0), Arg::dense(ty.dtype, ty.shape.0.clone(), Mode::Update));
    let to = Store { arg, index: target, value };
    KernelBody::Scatter(Scatter { axes: region.axes.clone(), free, body: at.body, kind: of.kind, to, when: None })
}

pub(super) fn types(region: &Region<'_>) -> Vec<Arg> {
    region.args.iter().map(|(_, arg)| arg.clone()).collect()
}

pub(super) fn sources(region: &Region<'_>) -> Vec<Source> {
    region.args.iter().map(|(source, _)| source.clone()).collect()
}
