//! Maps: instructions on the operands at the same index.

use graver_ir::kernel::{Index, InstKind, ValueId};
use graver_ir::{DType, Graph, Op, Scalar, ScalarFn, Type, Value};

use super::point::Point;
use super::region::Region;

/// The function of the operands. Integer division says where it divides by zero.
pub(super) fn function(region: &mut Region<'_>, at: &mut Point, function: ScalarFn, value: Value, index: &[Index]) -> ValueId {
    let args = region.graph().args(value.node);
    let operands: Vec<ValueId> = args.iter().map(|arg| region.pull(at, *arg, index)).collect();
    let dtype = region.graph().ty(value).dtype;
    let result = at.map(function, &operands);
    let result = if may_leave(function) { wrapped(at, result, dtype) } else { result };
    if dtype.is_int() && matches!(function, ScalarFn::Div | ScalarFn::Rem) {
        checked_division(region, at, value, operands[1], result)
    } else {
        result
    }
}

fn checked_division(region: &mut Region<'_>, at: &mut Point, value: Value, divisor: ValueId, result: ValueId) -> ValueId {
    if let InstKind::Const(divisor) = at.body.inst(divisor).kind
        && !divisor.is_zero()
    {
        return result;
    }
    let zero = at.constant(Scalar::zero(at.body.dtype(divisor)));
    let ok = at.map(ScalarFn::Ne, &[divisor, zero]);
    let node = region.graph().node(value.node);
    let message = format!("{}: division of {} by zero", node.op.name(), divided(region.graph(), value));
    at.check(region, ok, result, (node.loc.clone(), message))
}

/// The type of a quotient or remainder as the user has it: `u64` is divided as the `i64` of its bits.
fn divided(graph: &Graph, value: Value) -> Type {
    let (divisor, ty) = (graph.args(value.node)[1], graph.ty(value));
    let is_u64 = |node| matches!(graph.op(node), Op::Bitcast(_)) && graph.ty(graph.args(node)[0]).dtype == DType::U64;
    if is_u64(divisor.node) { ty.with_dtype(DType::U64) } else { ty.clone() }
}

/// Whether an integer function of values of a narrow type may give what that type does not hold.
const fn may_leave(function: ScalarFn) -> bool {
    matches!(
        function,
        ScalarFn::Neg
            | ScalarFn::Abs
            | ScalarFn::Not
            | ScalarFn::Add
            | ScalarFn::Sub
            | ScalarFn::Mul
            | ScalarFn::Div
            | ScalarFn::Shl
    )
}

/// A value as `dtype` holds it, where that is an integer that is computed in a wider one.
pub(super) fn wrapped(at: &mut Point, value: ValueId, dtype: DType) -> ValueId {
    if dtype.is_narrow() && at.body.dtype(value) == dtype.compute() { at.cast(value, dtype) } else { value }
}

/// The element converted: rounded to a 16-bit float, or wrapped to a narrow integer, where it becomes one.
pub(super) fn cast(region: &mut Region<'_>, at: &mut Point, x: Value, dtype: DType, index: &[Index]) -> ValueId {
    let value = region.pull(at, x, index);
    at.cast(value, dtype)
}

/// The element's bits as another type of the same size; of two integers, the same number but for wrapping.
pub(super) fn bitcast(region: &mut Region<'_>, at: &mut Point, x: Value, dtype: DType, index: &[Index]) -> ValueId {
    let value = region.pull(at, x, index);
    if region.graph().ty(x).dtype.is_float() || dtype.is_float() {
        at.body.push(InstKind::Bitcast(value), dtype.compute())
    } else {
        at.cast(value, dtype)
    }
}
