//! Control flow: functions of the module applied once, or again and again.

use std::rc::Rc;

use graver_ir::op::{If, Scan, While, slice_of};
use graver_ir::{DType, Diag, Dim, FuncId, Op, Type};

use super::control::{Cx, call};
use super::sizes;
use crate::dense::{Data, Dense, on_data};

type Values = Vec<Rc<Dense>>;

/// The results of an operation that names functions; `None` for any other.
pub(super) fn apply(cx: &Cx<'_>, op: &Op, args: &[Rc<Dense>]) -> Option<Result<Values, Diag>> {
    if let Op::Call(callee) = op {
        return Some(function(cx, callee.func, args));
    }
    if let Op::If(op) = op {
        return Some(branch(cx, op, args));
    }
    if let Op::While(op) = op {
        return Some(repeat(cx, op, args));
    }
    if let Op::Scan(op) = op { Some(scan(cx, op, args)) } else { None }
}

fn function(cx: &Cx<'_>, func: FuncId, args: &[Rc<Dense>]) -> Result<Values, Diag> {
    call(cx, cx.module.function(func), args)
}

fn branch(cx: &Cx<'_>, op: &If, args: &[Rc<Dense>]) -> Result<Values, Diag> {
    let (condition, operands) = args.split_first().expect("I9: an `if` has a condition");
    function(cx, if holds(condition) { op.then } else { op.otherwise }, operands)
}

fn repeat(cx: &Cx<'_>, op: &While, args: &[Rc<Dense>]) -> Result<Values, Diag> {
    let most = op.most.as_ref().map(|most| self::number(cx, most)).transpose()?;
    let (mut values, mut count) = (args.to_vec(), 0i64);
    let counted = |count: i64| usize::try_from(count).unwrap_or(usize::MAX);
    let goes_on = |values: &[Rc<Dense>], count| cx.in_iteration(counted(count), || function(cx, op.cond, values));
    while most.is_none_or(|most| count < most) && holds(&goes_on(&values, count)?[0]) {
        let next = cx.in_iteration(counted(count), || function(cx, op.body, &values))?;
        values.splice(..op.carried, next);
        count += 1;
    }
    values.truncate(op.carried);
    Ok(values)
}

fn scan(cx: &Cx<'_>, op: &Scan, args: &[Rc<Dense>]) -> Result<Values, Diag> {
    let trip = usize::try_from(number(cx, &op.trip)?).map_err(|_| Diag::new(format!("{} iterations", op.trip)).op("scan"))?;
    let (carried, rest) = args.split_at(op.carried);
    let (scanned, closed) = rest.split_at(op.scanned);
    let mut carried = carried.to_vec();
    let mut stacks = Vec::new();
    for ty in &op.results[op.carried..] {
        stacks.push(Dense::filled(&sizes::constant(&sizes::shape(&ty.shape, &cx.sizes)?), graver_ir::Scalar::zero(ty.dtype)));
    }
    let order: Vec<usize> = if op.reverse { (0..trip).rev().collect() } else { (0..trip).collect() };
    for step in order {
        let slices = scanned.iter().map(|stack| Rc::new(slice(stack, step)));
        let operands: Values = carried.iter().cloned().chain(slices).chain(closed.iter().cloned()).collect();
        let results = cx.in_iteration(step, || function(cx, op.body, &operands))?;
        for (stack, slice) in stacks.iter_mut().zip(&results[op.carried..]) {
            place(stack, step, slice);
        }
        carried = results[..op.carried].to_vec();
    }
    Ok(carried.into_iter().chain(stacks.into_iter().map(Rc::new)).collect())
}

fn number(cx: &Cx<'_>, dim: &Dim) -> Result<i64, Diag> {
    dim.eval(&cx.sizes).map_err(|error| Diag::new(error.to_string()))
}

fn holds(condition: &Dense) -> bool {
    assert_eq!(condition.ty(), Type::scalar(DType::Bool), "I21: a condition is one bool");
    match &condition.data {
        Data::Int(values) => values[0] != 0,
        Data::Float(_) => unreachable!("bools are held as integers"),
    }
}

fn slice(stack: &Dense, step: usize) -> Dense {
    let shape = sizes::constant(&slice_of(&stack.ty()).shape);
    let len = shape.iter().product::<usize>();
    Dense { dtype: stack.dtype, shape, data: on_data!(&stack.data, x => x[step * len..(step + 1) * len].to_vec()) }
}

fn place(stack: &mut Dense, step: usize, slice: &Dense) {
    let len = slice.shape.iter().product::<usize>();
    let range = step * len..(step + 1) * len;
    match (&mut stack.data, &slice.data) {
        (Data::Float(stack), Data::Float(slice)) => stack[range].copy_from_slice(slice),
        (Data::Int(stack), Data::Int(slice)) => stack[range].copy_from_slice(slice),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("I22: a slice has its stack's type"),
    }
}
