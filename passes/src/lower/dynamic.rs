//! Blocks at run-time positions: read where they are, and stored in place.
//!
//! A start that is a size, and known to be inside, is an index like any other. Any other start is checked, and what is read or
//! stored is where the nearest block inside begins, so that nothing outside is touched whatever the start is. The check of an update
//! is a kernel of its own, which stores nothing: the one that stores cannot fail, and may write the state.

use graver_ir::dim::Dim;
use graver_ir::kernel::{Arg, AxisSet, Index, Kernel, KernelBody, Mode, Nest, Stage, Store, Trap, ValueId};
use graver_ir::op::DynamicSlice;
use graver_ir::{Function, Op, ScalarFn, Value};

use super::Kernels;
use super::index::{in_range, known_size};
use super::point::{Point, at as exact};
use super::region::{Region, Source, axes_in};
use super::scatter::{sources, start, types};

/// The element of `x` that lies so far behind the starts, which are checked.
pub(super) fn slice(region: &mut Region<'_>, at: &mut Point, slice: &DynamicSlice, value: Value, index: &[Index]) -> ValueId {
    let graph = region.graph();
    let (x, shape) = (graph.args(value.node)[0], &graph.ty(value).shape);
    let block = Block { value, axes: &slice.axes, starts: &graph.args(value.node)[1..], shape };
    let inner = block.moved(region, at, index);
    let result = region.pull(at, x, &inner);
    block.check(region, at, result)
}

/// The kernels of an update: the check, if one is needed, `x` in the result, and the update over it.
pub(super) fn update(function: &Function, value: Value, name: &str, traps: &mut Vec<Trap>) -> Kernels {
    let graph = &function.graph;
    let (args, Op::DynamicUpdate(axes)) = (graph.args(value.node), graph.op(value.node)) else {
        panic!("L4: an update in place is lowered as one")
    };
    let block = Block { value, axes, starts: &args[2..], shape: &graph.ty(args[1]).shape };
    let mut kernels = Vec::new();
    let mut region = Region::new(function, traps);
    let mut at = Point::default();
    let nothing = at.constant(graver_ir::Scalar::bool(true));
    if block.check(&mut region, &mut at, nothing) != nothing {
        let stage =
            Stage { over: AxisSet::EMPTY, keep: AxisSet::EMPTY, body: at.body, reductions: Vec::new(), stores: Vec::new() };
        let body = KernelBody::Nest(Nest { axes: Vec::new(), stages: vec![stage] });
        kernels.push((Kernel { name: format!("{name}_check"), args: types(&region), body }, sources(&region)));
    }
    kernels.push(start(function, args[0], name, traps));
    let mut region = Region::new(function, traps);
    let body = store(&mut region, &block, args[1]);
    kernels.push((Kernel { name: name.to_owned(), args: types(&region), body }, sources(&region)));
    kernels
}

/// The update stored in its place; the rest of the result stays as it is.
fn store(region: &mut Region<'_>, block: &Block<'_>, update: Value) -> KernelBody {
    let ty = region.graph().ty(block.value).clone();
    let index: Vec<Dim> = block.shape.iter().map(|size| region.axis(size)).collect();
    let mut at = Point::default();
    let value = region.pull(&mut at, update, &exact(index.clone()));
    let place = block.moved(region, &mut at, &exact(index.clone()));
    let arg = region.arg(Source::Result(0), Arg::dense(ty.dtype, ty.shape.0, Mode::Update));
    let over = axes_in(&index);
    let stores = vec![Store { arg, index: place, value }];
    let stage = Stage { over, keep: over, body: at.body, reductions: Vec::new(), stores };
    KernelBody::Nest(Nest { axes: region.axes.clone(), stages: vec![stage] })
}

/// A block of a value: where it begins, and its sizes.
struct Block<'a> {
    /// The slice or the update.
    value: Value,
    axes: &'a [usize],
    starts: &'a [Value],
    shape: &'a [Dim],
}

impl Block<'_> {
    /// The axes with their starts and the greatest start that is inside, which type inference has proved not to be negative.
    fn starts(&self, region: &Region<'_>) -> Vec<(usize, Value, Dim)> {
        let graph = region.graph();
        let x = &graph.ty(graph.args(self.value.node)[0]).shape;
        let axis = |(axis, start): (&usize, &Value)| (*axis, *start, &x[*axis] - &self.shape[*axis]);
        self.axes.iter().zip(self.starts).map(axis).collect()
    }

    /// The start as an expression, where it is known to be inside.
    fn known(region: &Region<'_>, start: Value, last: &Dim) -> Option<Dim> {
        known_size(region.graph(), start).filter(|start| start.is_nonneg() && (last - start).is_nonneg())
    }

    /// The place in the whole of what is at an index of the block.
    fn moved(&self, region: &mut Region<'_>, at: &mut Point, index: &[Index]) -> Vec<Index> {
        let mut inner = index.to_vec();
        for (axis, start, last) in self.starts(region) {
            inner[axis] = match (Self::known(region, start, &last), &index[axis]) {
                (Some(start), Index::At(dim)) => Index::At(start + dim),
                (Some(start), Index::Value(value, dim)) => Index::Value(*value, start + dim),
                (None, Index::At(dim)) => {
                    let start = region.pull(at, start, &[]);
                    Index::Value(at.clamped(start, &last), dim.clone())
                }
                (None, Index::Value(value, dim)) => {
                    let start = region.pull(at, start, &[]);
                    let start = at.clamped(start, &last);
                    Index::Value(at.map(ScalarFn::Add, &[start, *value]), dim.clone())
                }
            };
        }
        inner
    }

    /// `result`, if the block lies inside.
    fn check(&self, region: &mut Region<'_>, at: &mut Point, result: ValueId) -> ValueId {
        let graph = region.graph();
        let (node, x) = (self.value.node, graph.ty(graph.args(self.value.node)[0]));
        let mut result = result;
        for (axis, start, last) in self.starts(region) {
            if Self::known(region, start, &last).is_none() {
                let start = region.pull(at, start, &[]);
                let ok = in_range(at, start, &(last + Dim::ONE));
                let (name, size) = (graph.op(node).name(), &self.shape[axis]);
                let message = format!("{name}: a block of {size} along axis {axis} leaves {x}");
                result = at.check(region, ok, result, (graph.loc(node).clone(), message));
            }
        }
        result
    }
}
