//! Derivatives of gather and scatter, and of dynamic slices and updates, which are each other's transposes.

use graver_ir::dim::MAX_SIZE;
use graver_ir::op::{Broadcast, DynamicSlice, GatherAxes, Iota, Scatter, ScatterKind, Sort};
use graver_ir::{DType, Diag, Dim, Op, Scalar, ScalarFn, Shape, Type, Value};

use super::linear::{Derivative, Step};
use super::reduce::delayed;
use crate::build::Build;

/// `scatter(x, index, update)`, in each of `x` and `update`. Where several meet in one element: the last that is set counts, extremes share
/// evenly, and factors are each other's derivatives, right for any number of zeros, in any order.
pub(super) fn scatter(b: &mut Build<'_>, of: Scatter, args: &[Value], out: Value, slot: usize) -> Result<Derivative, Diag> {
    let mut steps = match of.kind {
        ScatterKind::Set => return Ok(scatter_set(b, of, args, slot)),
        ScatterKind::Add => Vec::new(),
        ScatterKind::Max | ScatterKind::Min => share_of_extreme(b, of.at, args, out, slot)?,
        ScatterKind::Mul if slot == 0 => vec![Step::scale(product_of_updates(b, of.at, args)?)],
        ScatterKind::Mul => vec![Step::scale(product_of_others(b, of.at, args)?)],
    };
    if slot == 2 {
        let ty = b.ty(args[0]).clone();
        let zeros = b.zeros(&ty);
        steps.push(Step::new(add_at(of.at), &[zeros, args[1]], &[]));
    }
    Ok(Derivative::Linear(steps))
}

const fn add_at(at: GatherAxes) -> Op {
    Op::Scatter(Scatter { kind: ScatterKind::Add, at })
}

/// It is linear in both together: in one of them, the other being zero.
fn scatter_set(b: &mut Build<'_>, of: Scatter, args: &[Value], slot: usize) -> Derivative {
    let other = b.ty(args[2 - slot]).clone();
    let zeros = b.zeros(&other);
    if slot == 0 {
        Derivative::step(Op::Scatter(of), &[], &[args[1], zeros])
    } else {
        Derivative::step(Op::Scatter(of), &[zeros, args[1]], &[])
    }
}

/// The tangent where the operand is the extreme, divided by how many are.
fn share_of_extreme(b: &mut Build<'_>, at: GatherAxes, args: &[Value], out: Value, slot: usize) -> Result<Vec<Step>, Diag> {
    let picked = b.add(Op::Gather(at), &[out, args[1]])?;
    // What is NaN is an extreme, which equals nothing.
    let hits = [(args[0], out), (args[2], picked)].map(|(x, extreme)| {
        let (equal, nan) = (b.map(ScalarFn::Eq, &[x, extreme]), b.map(ScalarFn::IsNan, &[x]));
        b.map(ScalarFn::Or, &[equal, nan])
    });
    let count = count_at(b, at, args, hits)?;
    let (hit, count) = if slot == 0 { (hits[0], count) } else { (hits[1], b.add(Op::Gather(at), &[count, args[1]])?) };
    let ty = b.ty(args[slot]).clone();
    let zeros = b.zeros(&ty);
    Ok(vec![Step::where_true(hit, zeros), Step::divide(count)])
}

/// For every element of `x` the product of the updates that name it.
fn product_of_updates(b: &mut Build<'_>, at: GatherAxes, args: &[Value]) -> Result<Value, Diag> {
    let ones = b.like(args[0], 1.0);
    b.add(Op::Scatter(Scatter { kind: ScatterKind::Mul, at }), &[ones, args[1], args[2]])
}

/// For every update the product of all others that name the same element, and of the element itself: nothing is divided, so zeros are like
/// other numbers. In the order of their positions, updates of one element stand together, and the products before and after each are taken by
/// doubling.
fn product_of_others(b: &mut Build<'_>, at: GatherAxes, args: &[Value]) -> Result<Value, Diag> {
    let (x, index, update) = (args[0], args[1], args[2]);
    let (positions, shape) = (b.ty(index).shape.clone(), b.ty(update).shape.clone());
    let picks: Dim = positions[at.batch..].iter().product();
    let lines = Shape([&positions[..at.batch], std::slice::from_ref(&picks)].concat());
    let behind = at.axis + positions.rank() - at.batch;
    let rows = Shape([&shape[..at.axis], &[picks], &shape[behind..]].concat());

    let index = b.add(Op::Cast(DType::I64), &[index])?;
    let flat = b.add(Op::Reshape(lines.clone()), &[index])?;
    let factors = b.add(Op::Reshape(rows.clone()), &[update])?;
    let order = b.add(Op::Sort(Sort { axis: at.batch, descending: false }), &[flat])?;
    let (own, along) = (GatherAxes { axis: at.batch, batch: at.batch }, GatherAxes { axis: at.axis, batch: at.batch });
    let sorted = b.add(Op::Gather(own), &[flat, order])?;
    let factors = b.add(Op::Gather(along), &[factors, order])?;

    let before = product_before(b, at, factors, sorted)?;
    let backwards = [(factors, at.axis), (sorted, at.batch)].map(|(x, axis)| b.add(Op::Reverse(vec![axis]), &[x]));
    let [factors, sorted] = backwards;
    let after = product_before(b, at, factors?, sorted?)?;
    let after = b.add(Op::Reverse(vec![at.axis]), &[after])?;
    let others = b.mul(before, after);

    // The order of an order undoes it.
    let back = b.add(Op::Sort(Sort { axis: at.batch, descending: false }), &[order])?;
    let others = b.add(Op::Gather(along), &[others, back])?;
    let others = b.add(Op::Reshape(shape), &[others])?;
    let own = b.add(Op::Gather(at), &[x, args[1]])?;
    Ok(b.mul(own, others))
}

/// The product of the factors before each, as far as their positions are the same: after step `k`, of the `2^k` before it.
fn product_before(b: &mut Build<'_>, at: GatherAxes, factors: Value, positions: Value) -> Result<Value, Diag> {
    let shape = b.ty(factors).shape.clone();
    let longest = shape[at.axis].bounds().hi.min(MAX_SIZE);
    let axes: Vec<usize> = (0..at.batch).chain([at.axis]).collect();
    let ones = b.like(factors, 1.0);
    let near = |b: &mut Build<'_>, x: Value, reach: i64| -> Result<Value, Diag> {
        let earlier = delayed(b, positions, (at.batch, reach), Scalar::int(DType::I64, -1))?;
        let same = b.map(ScalarFn::Eq, &[positions, earlier]);
        let same = b.add(Op::Broadcast(Broadcast { shape: shape.clone(), axes: axes.clone() }), &[same])?;
        let one = Scalar::one(b.ty(x).dtype);
        let moved = delayed(b, x, (at.axis, reach), one)?;
        Ok(b.map(ScalarFn::Select, &[same, moved, ones]))
    };
    let mut product = near(b, factors, 1)?;
    let mut reach = 1;
    while reach + 1 < longest {
        let earlier = near(b, product, reach)?;
        product = b.mul(product, earlier);
        reach *= 2;
    }
    Ok(product)
}

/// For every element of `x` how many of it and of the updates that name it are marked.
fn count_at(b: &mut Build<'_>, at: GatherAxes, args: &[Value], marks: [Value; 2]) -> Result<Value, Diag> {
    let [own, others] = [number(b, marks[0], args[0]), number(b, marks[1], args[2])];
    b.add(add_at(at), &[own, args[1], others])
}

/// 1 where the condition holds, else 0, of the type of `like`.
fn number(b: &mut Build<'_>, condition: Value, like: Value) -> Value {
    let (one, zero) = (b.like(like, 1.0), b.like(like, 0.0));
    b.map(ScalarFn::Select, &[condition, one, zero])
}

/// The cotangents added at the positions that they were gathered from.
pub(super) fn transpose_gather(b: &mut Build<'_>, axes: GatherAxes, step: &Step, x: &Type, g: Value) -> Result<Value, Diag> {
    let zeros = b.zeros(x);
    b.add(add_at(axes), &[zeros, step.after[0], g])
}

/// The cotangents at the positions that the update was added to, or was the last to be set at; of what is set elsewhere, the cotangent elsewhere.
pub(super) fn transpose_scatter(b: &mut Build<'_>, of: Scatter, step: &Step, x: &Type, g: Value) -> Result<Value, Diag> {
    match (of.kind, step.slot()) {
        (ScatterKind::Add, 2) => b.add(Op::Gather(of.at), &[g, step.before[1]]),
        (ScatterKind::Set, 0) => b.add(step.op.clone(), &[g, step.after[0], step.after[1]]),
        (ScatterKind::Set, 2) => {
            let picked = b.add(Op::Gather(of.at), &[g, step.before[1]])?;
            let (last, zeros) = (is_last(b, of.at, step.before[0], step.before[1], x)?, b.zeros(x));
            Ok(b.map(ScalarFn::Select, &[last, picked, zeros]))
        }
        (ScatterKind::Add | ScatterKind::Set | ScatterKind::Mul | ScatterKind::Max | ScatterKind::Min, _) => {
            panic!("G1: a scatter is a step of what it adds, or sets, or sets in")
        }
    }
}

/// Whether no later update names the same element: every update leaves its number there, and looks whose is left.
fn is_last(b: &mut Build<'_>, at: GatherAxes, x: Value, index: Value, update: &Type) -> Result<Value, Diag> {
    let (shape, positions) = (b.ty(x).shape.clone(), b.ty(index).shape.clone());
    let picks: Dim = positions[at.batch..].iter().product();
    let numbers = b.add(Op::Iota(Iota { dtype: DType::I64, shape: Shape(vec![picks]), axis: 0 }), &[])?;
    let numbers = b.add(Op::Reshape(Shape(positions[at.batch..].to_vec())), &[numbers])?;
    let axes = (at.batch..positions.rank()).collect();
    let numbers = b.add(Op::Broadcast(Broadcast { shape: positions.clone(), axes }), &[numbers])?;
    let lines = Shape(shape[..at.batch].iter().chain([&shape[at.axis]]).cloned().collect());
    let (nobody, own) = (b.full(&lines, Scalar::int(DType::I64, -1)), GatherAxes { axis: at.batch, batch: at.batch });
    let left = b.add(Op::Scatter(Scatter { kind: ScatterKind::Set, at: own }), &[nobody, index, numbers])?;
    let left = b.add(Op::Gather(own), &[left, index])?;
    let last = b.map(ScalarFn::Eq, &[left, numbers]);
    let axes = (0..at.batch).chain(at.axis..at.axis + positions.rank() - at.batch).collect();
    b.add(Op::Broadcast(Broadcast { shape: update.shape.clone(), axes }), &[last])
}

/// `dynamic_update(x, update, start..)`, which is linear in both together: in one of them, the other being zero.
pub(super) fn dynamic_update(b: &mut Build<'_>, op: &Op, args: &[Value], slot: usize) -> Derivative {
    let other = b.ty(args[1 - slot]).clone();
    let zeros = b.zeros(&other);
    let (before, after) = if slot == 0 { (vec![], vec![zeros]) } else { (vec![zeros], vec![]) };
    Derivative::step(op.clone(), &before, &[&after, &args[2..]].concat())
}

/// The cotangent in its place among zeros.
pub(super) fn transpose_dynamic_slice(
    b: &mut Build<'_>,
    slice: &DynamicSlice,
    step: &Step,
    x: &Type,
    g: Value,
) -> Result<Value, Diag> {
    let zeros = b.zeros(x);
    b.add(Op::DynamicUpdate(slice.axes.clone()), &[&[zeros, g], &step.after[..]].concat())
}

/// Of the operand: the cotangent but for the block, which is zero; of the update: the block.
pub(super) fn transpose_dynamic_update(
    b: &mut Build<'_>,
    axes: &[usize],
    step: &Step,
    x: &Type,
    g: Value,
) -> Result<Value, Diag> {
    if step.slot() == 0 {
        return b.add(step.op.clone(), &[&[g], &step.after[..]].concat());
    }
    let sizes = axes.iter().map(|axis| x.shape[*axis].clone()).collect();
    b.add(Op::DynamicSlice(DynamicSlice { axes: axes.to_vec(), sizes }), &[&[g], &step.after[..]].concat())
}
