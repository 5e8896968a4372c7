//! Values from positions, and positions from values.

use graver_ir::kernel::{Index, ValueId};
use graver_ir::op::{GatherAxes, Iota, Scatter};
use graver_ir::{Array, DType, Dim, Graph, Op, Scalar, ScalarFn, Type, Value};

use super::point::{Point, expression};
use super::region::Region;

/// The element that all elements of the array are; bit for bit.
pub(crate) fn splat(array: &Array) -> Option<Scalar> {
    let first = (array.numel() > 0).then(|| array.get(0))?;
    (1..array.numel()).all(|position| array.get(position) == first).then_some(first)
}

/// The size that an `i64` scalar is, where it is one or a number.
pub(crate) fn known_size(graph: &Graph, value: Value) -> Option<Dim> {
    if let Op::Size(size) = graph.op(value.node) {
        return Some(size.clone());
    }
    let Op::Const(array) = graph.op(value.node) else { return None };
    (array.numel() == 1).then(|| Dim::from(array.get(0).as_i64()))
}

/// A constant whose elements are one.
pub(super) fn constant(at: &mut Point, array: &Array) -> ValueId {
    // An empty array has no point at which its element is needed.
    let value = splat(array).unwrap_or_else(|| Scalar::zero(array.dtype()));
    assert!(array.numel() == 0 || splat(array).is_some(), "L3: fuse makes arrays of different elements operands of regions");
    at.constant(match value.dtype() {
        DType::F16 | DType::BF16 => Scalar::float(DType::F32, value.as_f64()),
        DType::I16 | DType::I8 | DType::U16 => Scalar::int(value.dtype().compute(), value.as_i64()),
        DType::U64 => Scalar::int(DType::I64, value.bits().cast_signed()),
        DType::F64 | DType::F32 | DType::I64 | DType::I32 | DType::U32 | DType::U8 | DType::Bool => value,
    })
}

/// The position along the axis.
pub(super) fn iota(at: &mut Point, iota: &Iota, index: &[Index]) -> ValueId {
    let position = at.position(&index[iota.axis]);
    at.cast(position, iota.dtype)
}

/// The element of `x` at a run-time position, which is checked.
pub(super) fn gather(region: &mut Region<'_>, at: &mut Point, axes: GatherAxes, value: Value, index: &[Index]) -> ValueId {
    let graph = region.graph();
    let args = graph.args(value.node);
    let (x, positions) = (graph.ty(args[0]), graph.ty(args[1]));
    let split = axes.axis + positions.rank() - axes.batch;
    let place: Vec<Index> = index[..axes.batch].iter().chain(&index[axes.axis..split]).cloned().collect();
    let position = region.pull(at, args[1], &place);
    let position = at.cast(position, DType::I64);
    let chosen = std::iter::once(Index::Value(position, Dim::ZERO));
    let inner: Vec<Index> = index[..axes.axis].iter().cloned().chain(chosen).chain(index[split..].iter().cloned()).collect();
    let result = region.pull(at, args[0], &inner);
    let ok = in_range(at, position, &x.shape[axes.axis]);
    let message = format!("gather: a position is out of range for axis {} of {x}", axes.axis);
    at.check(region, ok, result, (graph.loc(value.node).clone(), message))
}

pub(super) fn in_range(at: &mut Point, position: ValueId, size: &Dim) -> ValueId {
    let (zero, size) = (at.constant(Scalar::int(DType::I64, 0)), at.position(&Index::At(size.clone())));
    let (low, high) = (at.map(ScalarFn::Le, &[zero, position]), at.map(ScalarFn::Lt, &[position, size]));
    at.map(ScalarFn::And, &[low, high])
}

/// `result`, if the position of a scatter is in range.
pub(super) fn check_scatter(
    region: &mut Region<'_>,
    at: &mut Point,
    of: Scatter,
    value: Value,
    position: ValueId,
    result: ValueId,
) -> ValueId {
    let graph = region.graph();
    let x = graph.ty(value);
    let ok = in_range(at, position, &x.shape[of.at.axis]);
    let message = format!("{}: a position is out of range for axis {} of {x}", of.kind.name(), of.at.axis);
    at.check(region, ok, result, (graph.loc(value.node).clone(), message))
}

/// Whether at most one update can meet an element: then scattering is a choice at every element.
pub(crate) fn is_one_update(axes: GatherAxes, index: &Type) -> bool {
    index.shape[axes.batch..].iter().all(|size| size.is(1))
}

/// `x` combined with the update at the update's position, `x` elsewhere. A position that is out of range is an error of the call.
pub(super) fn scatter_one(region: &mut Region<'_>, at: &mut Point, of: Scatter, value: Value, index: &[Index]) -> ValueId {
    let axes = of.at;
    let args = region.graph().args(value.node);
    let positions = region.graph().ty(args[1]);
    assert!(is_one_update(axes, positions), "L4: a scatter of several updates is a kernel of its own");
    let zeros = || vec![Index::At(Dim::ZERO); positions.rank() - axes.batch];
    let place: Vec<Index> = index[..axes.batch].iter().cloned().chain(zeros()).collect();
    let from: Vec<Index> =
        index[..axes.axis].iter().cloned().chain(zeros()).chain(index[axes.axis + 1..].iter().cloned()).collect();
    let (x, position) = (region.pull(at, args[0], index), region.pull(at, args[1], &place));
    let (position, own) = (at.cast(position, DType::I64), at.position(&Index::At(expression(&index[axes.axis]).clone())));
    let (here, update) = (at.map(ScalarFn::Eq, &[position, own]), region.pull(at, args[2], &from));
    let new = of.kind.function().map_or(update, |function| at.map(function, &[x, update]));
    let result = at.map(ScalarFn::Select, &[here, new, x]);
    check_scatter(region, at, of, value, position, result)
}
