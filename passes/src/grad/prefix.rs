//! Derivatives of what is combined with all before it.

use graver_ir::dim::MAX_SIZE;
use graver_ir::op::{GatherAxes, Iota, Perm, Prefix, ReduceKind};
use graver_ir::{DType, Diag, Error, Graph, Module, Op, Scalar, ScalarFn, Value};

use super::linear::{Derivative, Step};
use super::reduce::delayed;
use crate::Changed;
use crate::build::Build;

/// The derivative of a prefix.
pub(super) fn prefix(b: &mut Build<'_>, of: Prefix, x: Value, out: Value) -> Result<Derivative, Diag> {
    match of.kind {
        ReduceKind::Sum => Ok(Derivative::step(Op::Prefix(of), &[], &[])),
        ReduceKind::Max | ReduceKind::Min => extreme(b, of, x, out),
        ReduceKind::Prod => panic!("G5: products of prefixes are written out before"),
    }
}

/// The cotangents of all that an element is in.
pub(super) fn transpose(b: &mut Build<'_>, of: Prefix, g: Value) -> Result<Value, Diag> {
    assert_eq!(of.kind, ReduceKind::Sum, "G1: only sums are linear");
    b.add(Op::Prefix(Prefix { reverse: !of.reverse, ..of }), &[g])
}

/// The tangent of the latest element that equals the extreme so far; where that is NaN, of the latest NaN: as PyTorch's `cummax`.
fn extreme(b: &mut Build<'_>, of: Prefix, x: Value, out: Value) -> Result<Derivative, Diag> {
    let ty = b.ty(x).clone();
    let (equal, nan) = (b.map(ScalarFn::Eq, &[x, out]), b.map(ScalarFn::IsNan, &[x]));
    let chosen = b.map(ScalarFn::Or, &[equal, nan]);
    let places = b.add(Op::Iota(Iota { dtype: DType::I64, shape: ty.shape.clone(), axis: of.axis }), &[])?;
    // The first element is always chosen: what stands elsewhere never wins against it.
    let (never, latest) = if of.reverse { (MAX_SIZE, ReduceKind::Min) } else { (-1, ReduceKind::Max) };
    let never = b.full(&ty.shape, Scalar::int(DType::I64, never));
    let places = b.map(ScalarFn::Select, &[chosen, places, never]);
    let places = b.add(Op::Prefix(Prefix { kind: latest, ..of }), &[places])?;

    let rank = ty.rank();
    let last = Perm::new((0..rank).filter(|axis| *axis != of.axis).chain([of.axis]).collect()).expect("one axis is moved");
    let places = b.add(Op::Permute(last.clone()), &[places])?;
    let take = GatherAxes { axis: rank - 1, batch: rank - 1 };
    Ok(Derivative::Linear(vec![
        Step::new(Op::Permute(last.clone()), &[], &[]),
        Step::new(Op::Gather(take), &[], &[places]),
        Step::new(Op::Permute(last.inverse()), &[], &[]),
    ]))
}

/// Products of floats by doubling, wherever a derivative is to be written out: a chain of linear steps cannot say what the derivative
/// of one is where elements may be zero, and that of its maps can.
pub(super) fn write_out(module: &mut Module) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    let holds_derivative = |graph: &Graph| graph.nodes().any(|node| matches!(graph.op(node), Op::Transform(_)));
    if !module.functions.values().any(|function| holds_derivative(&function.graph)) {
        return Ok(changed);
    }
    for function in module.functions.values_mut() {
        let graph = &function.graph;
        for node in graph.topo_of(|node| is_product(graph.op(node)) && graph.ty(node.into()).dtype.is_float()) {
            let Op::Prefix(of) = *function.graph.op(node) else { continue };
            let (x, loc) = (function.graph.args(node)[0], function.graph.loc(node).clone());
            let product = doubled(&mut Build::at(&mut function.graph, &loc), of, x)?;
            function.replace_all(&[(node.into(), product)]);
            function.graph.remove(node);
            changed = Changed::Yes;
        }
    }
    Ok(changed)
}

const fn is_product(op: &Op) -> bool {
    matches!(op, Op::Prefix(Prefix { kind: ReduceKind::Prod, .. }))
}

/// The product of each element and all before it: after step `k`, of the `2^k` elements up to it.
fn doubled(b: &mut Build<'_>, of: Prefix, x: Value) -> Result<Value, Diag> {
    let turned = |b: &mut Build<'_>, x| if of.reverse { b.add(Op::Reverse(vec![of.axis]), &[x]) } else { Ok(x) };
    let (dtype, longest) = (b.ty(x).dtype, b.ty(x).shape[of.axis].bounds().hi.min(MAX_SIZE));
    let x = turned(b, x)?;
    let mut product = b.add(Op::Cast(dtype.compute()), &[x])?;
    let one = Scalar::one(dtype.compute());
    let mut reach = 1;
    while reach < longest {
        let earlier = delayed(b, product, (of.axis, reach), one)?;
        product = b.mul(product, earlier);
        reach *= 2;
    }
    let product = b.add(Op::Cast(dtype), &[product])?;
    turned(b, product)
}
