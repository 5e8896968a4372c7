//! Regions to kernels, and the entry to launches.
//!
//! Runs after fuse: a block (the entry, or what control flow applies) holds parameters, constant arrays, control flow and
//! calls of regions, and nothing else. Control flow becomes steps around those of its blocks. Every region
//! becomes one kernel (a scatter and an update in place several: checks, the start, and what changes of it). The program that comes out is right but not
//! good: new values of the state are computed aside and copied at the end, steps are in the graph's order, and buffers
//! have no place in the arena yet.

mod attend;
pub(crate) mod concat;
mod contract;
mod control;
mod dynamic;
mod entry;
pub(crate) mod index;
mod lines;
mod map;
pub(crate) mod movement;
pub(crate) mod name;
mod nest;
mod point;
mod pull;
mod random;
mod reduce;
mod region;
mod scatter;
mod stores;
pub(crate) mod window;

use graver_ir::kernel::{Kernel, Program, Trap};
use graver_ir::{Function, Module, NodeId, Op, Value};

use crate::attend::attend_of_op;
use region::{Region, Source};

/// The name of the kernel that copies an array.
pub(crate) const COPY: &str = "copy";

/// What a region became, in order of launch, with the source of every argument.
type Kernels = Vec<(Kernel, Vec<Source>)>;

/// The program of a module's entry, not yet scheduled or planned.
///
/// # Panics
/// If fuse has not run.
#[must_use]
pub(crate) fn run(module: &Module) -> Program {
    entry::lower(module)
}

/// The kernels of one region.
fn region(function: &Function, traps: &mut Vec<Trap>) -> Kernels {
    let name = name::name(&function.graph);
    if let Some((value, of)) = scatter_of(function) {
        return scatter::lower(function, value, of, name, traps);
    }
    if let Some((call, of)) = attend_of(function) {
        let mut region = Region::new(function, traps);
        let body = attend::lower(&mut region, call, of);
        return vec![(Kernel { name: of.name().to_owned(), args: scatter::types(&region), body }, scatter::sources(&region))];
    }
    if let Some((value, of)) = sort_of(function) {
        let mut region = Region::new(function, traps);
        let body = lines::sort(&mut region, value, of);
        return vec![(Kernel { name, args: scatter::types(&region), body }, scatter::sources(&region))];
    }
    if let Some((value, of)) = prefix_of(function) {
        let mut region = Region::new(function, traps);
        let body = lines::prefix(&mut region, value, of);
        return vec![(Kernel { name, args: scatter::types(&region), body }, scatter::sources(&region))];
    }
    if let Some((value, axis)) = wide_concat_of(function) {
        return concat::lower(function, value, axis, &name, traps);
    }
    if let Some(update) = update_of(function) {
        return dynamic::update(function, update, &name, traps);
    }
    let mut region = Region::new(function, traps);
    let body = match contraction_of(function) {
        Some(contraction) => contract::lower(&mut region, contraction),
        None => nest::lower(&mut region),
    };
    vec![(Kernel { name, args: scatter::types(&region), body }, scatter::sources(&region))]
}

fn contraction_of(function: &Function) -> Option<Value> {
    let graph = &function.graph;
    graph.nodes().find(|id| matches!(graph.op(*id), Op::Dot(_) | Op::Conv(_))).map(Value::from)
}

/// The attention that the region is of, if it is of one.
fn attend_of(function: &Function) -> Option<(NodeId, graver_ir::op::Attend)> {
    let graph = &function.graph;
    graph.nodes().find_map(|id| Some((id, attend_of_op(graph.op(id))?)))
}

/// The result, where it is an order.
fn sort_of(function: &Function) -> Option<(Value, graver_ir::op::Sort)> {
    let value = stores::under_reshapes(&function.graph, function.results.first()?.value);
    if let Op::Sort(of) = function.graph.op(value.node) { Some((value, *of)) } else { None }
}

/// The result, where it is a prefix.
fn prefix_of(function: &Function) -> Option<(Value, graver_ir::op::Prefix)> {
    let value = stores::under_reshapes(&function.graph, function.results.first()?.value);
    if let Op::Prefix(of) = function.graph.op(value.node) { Some((value, *of)) } else { None }
}

/// The result, where it is a concatenation of many operands.
fn wide_concat_of(function: &Function) -> Option<(Value, usize)> {
    let value = stores::under_reshapes(&function.graph, function.results.first()?.value);
    let Op::Concat(axis) = function.graph.op(value.node) else { return None };
    concat::is_wide(&function.graph, value.node).then_some((value, *axis))
}

/// The result, where it is an update in place.
fn update_of(function: &Function) -> Option<Value> {
    let value = stores::under_reshapes(&function.graph, function.results.first()?.value);
    matches!(function.graph.op(value.node), Op::DynamicUpdate(_)).then_some(value)
}

/// The result, where it is a scatter that no choice at every element can stand for.
fn scatter_of(function: &Function) -> Option<(Value, graver_ir::op::Scatter)> {
    let graph = &function.graph;
    let value = stores::under_reshapes(graph, function.results.first()?.value);
    let Op::Scatter(of) = graph.op(value.node) else { return None };
    (!index::is_one_update(of.at, graph.ty(graph.args(value.node)[1]))).then_some((value, *of))
}
