//! The typing rule of every operation, which is its shape inference and its verifier too.

mod contract;
mod control;
mod index;
mod map;
mod movement;
mod reduce;

use crate::error::Diag;
use crate::op::Op;
use crate::ty::Type;

pub(crate) type Inferred = Result<Vec<Type>, Diag>;

/// The types of an operation's results.
///
/// # Errors
/// If the operands do not satisfy its constraints.
pub fn infer(op: &Op, args: &[&Type]) -> Inferred {
    let outs = match op {
        Op::Map(function) => map::function(*function, args),
        Op::Cast(dtype) => map::cast(*dtype, args),
        Op::Bitcast(dtype) => map::bitcast(*dtype, args),
        Op::Const(array) => operands(args).map(|[]| vec![array.ty()]),
        Op::Size(_) => operands(args).map(|[]| vec![Type::scalar(crate::DType::I64)]),
        Op::Iota(iota) => index::iota(iota, args),
        Op::Gather(axes) => index::gather(*axes, args),
        Op::Scatter(of) => index::scatter(*of, args),
        Op::DynamicSlice(slice) => index::dynamic_slice(slice, args),
        Op::DynamicUpdate(axes) => index::dynamic_update(axes, args),
        Op::Sort(sort) => index::sort(*sort, args),
        Op::Philox(philox) => index::philox(philox, args),
        Op::Reshape(shape) => movement::reshape(shape, args),
        Op::Permute(perm) => movement::permute(perm, args),
        Op::Broadcast(broadcast) => movement::broadcast(broadcast, args),
        Op::Slice(axes) => movement::slice(axes, args),
        Op::Pad(axes) => movement::pad(axes, args),
        Op::Concat(axis) => movement::concat(*axis, args),
        Op::Reverse(axes) => movement::reverse(axes, args),
        Op::Reduce(reduce) => reduce::reduce(reduce, args),
        Op::ArgReduce(arg) => reduce::arg_reduce(*arg, args),
        Op::Prefix(prefix) => reduce::prefix(*prefix, args),
        Op::Window(window) => reduce::window(window, args),
        Op::WindowArg(window) => reduce::window_arg(window, args),
        Op::WindowTake(axes) => reduce::window_take(axes, args),
        Op::WindowPut(put) => reduce::window_put(put, args),
        Op::Dot(axes) => contract::dot(axes, args),
        Op::Conv(conv) => contract::conv(conv, args),
        Op::Param(ty) => operands(args).map(|[]| vec![ty.clone()]),
        Op::Alias | Op::StopGradient => operands(args).map(|[x]| vec![x.clone()]),
        Op::Call(call) => Ok(call.results.clone()),
        Op::If(op) => control::branch(op, args),
        Op::While(op) => control::repeat(op, args),
        Op::Scan(op) => control::scan(op, args),
        Op::Transform(transform) => control::transform(*transform, args),
    }?;
    match outs.iter().find(|ty| !ty.shape.is_valid()) {
        Some(ty) => Err(Diag::new(format!("the result {ty} has a negative size or more than 2^48 elements"))),
        None => Ok(outs),
    }
}

/// The operands, if there are `N`.
fn operands<'a, const N: usize>(args: &[&'a Type]) -> Result<[&'a Type; N], Diag> {
    <[&Type; N]>::try_from(args).map_err(|_| Diag::new(format!("takes {N} operands, got {}", args.len())))
}

/// `axis`, if the operand has it.
fn check_axis(axis: usize, ty: &Type) -> Result<(), Diag> {
    if axis < ty.rank() { Ok(()) } else { Err(Diag::new(format!("axis {axis} of {ty}, which has rank {}", ty.rank()))) }
}

/// Checks that axes are strictly increasing and the operand has them.
fn check_axes(axes: &[usize], ty: &Type) -> Result<(), Diag> {
    axes.iter().try_for_each(|axis| check_axis(*axis, ty))?;
    if axes.is_sorted_by(|x, y| x < y) { Ok(()) } else { Err(Diag::new(format!("axes {axes:?} are not strictly increasing"))) }
}

/// Checks that a list of attributes has one entry an axis.
fn check_rank(what: &str, entries: usize, ty: &Type) -> Result<(), Diag> {
    if entries == ty.rank() { Ok(()) } else { Err(Diag::new(format!("{entries} {what} for {ty}, which has rank {}", ty.rank()))) }
}
