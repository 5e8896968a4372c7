//! Programs over smaller sizes: one size that is a number becomes another wherever it stands.

use std::collections::BTreeMap;

use graver_ir::op::{Broadcast, Call, DynamicSlice, If, Iota, Philox, Scan, SliceAxis, WindowPut};
use graver_ir::{Array, Dim, Function, Module, Op, Shape, Type, Value};

/// The module with `to` for every size `from`; `None` where the result is no program.
pub(crate) fn resized(module: &Module, from: i64, to: i64) -> Option<Module> {
    let size = |dim: &Dim| if dim.as_const() == Some(from) { Dim::from(to) } else { dim.clone() };
    let mut smaller = Module { functions: BTreeMap::new(), state: module.state.clone() };
    for decl in &mut smaller.state {
        decl.ty = of_type(&decl.ty, &size);
    }
    for (id, function) in &module.functions {
        smaller.functions.insert(*id, rebuilt(function, &|op| of_op(op, &size))?);
    }
    graver_ir::verify(&smaller).ok().map(|()| smaller)
}

/// The function with every operation another one.
fn rebuilt(function: &Function, replaced: &dyn Fn(&Op) -> Op) -> Option<Function> {
    let mut new = Function::new(function.name.clone());
    let mut values: BTreeMap<Value, Value> = BTreeMap::new();
    for param in &function.params {
        let Op::Param(ty) = replaced(function.graph.op(param.node)) else { return None };
        let node = new.add_param(ty, param.role.clone(), function.graph.loc(param.node).clone());
        values.insert(param.node.into(), node.into());
    }
    for node in function.graph.topo() {
        if matches!(function.graph.op(node), Op::Param(_)) {
            continue;
        }
        let args: Vec<Value> = function.graph.args(node).iter().map(|arg| values.get(arg).copied()).collect::<Option<_>>()?;
        let made = new.graph.add(replaced(function.graph.op(node)), &args, function.graph.loc(node).clone()).ok()?;
        for out in (0u16..).take(function.graph.node(node).outs.len()) {
            values.insert(node.out(out), made.out(out));
        }
    }
    for result in &function.results {
        new.add_result(*values.get(&result.value)?, result.sink);
    }
    Some(new)
}

fn of_shape(shape: &Shape, size: &dyn Fn(&Dim) -> Dim) -> Shape {
    Shape(shape.iter().map(size).collect())
}

fn of_type(ty: &Type, size: &dyn Fn(&Dim) -> Dim) -> Type {
    Type::new(ty.dtype, of_shape(&ty.shape, size))
}

fn of_types(types: &[Type], size: &dyn Fn(&Dim) -> Dim) -> Vec<Type> {
    types.iter().map(|ty| of_type(ty, size)).collect()
}

fn of_op(op: &Op, size: &dyn Fn(&Dim) -> Dim) -> Op {
    match op {
        Op::Param(ty) => Op::Param(of_type(ty, size)),
        Op::Const(array) => Op::Const(cut(array, &of_shape(&array.ty().shape, size))),
        Op::Size(dim) => Op::Size(size(dim)),
        Op::Iota(iota) => Op::Iota(Iota { shape: of_shape(&iota.shape, size), ..iota.clone() }),
        Op::Reshape(shape) => Op::Reshape(of_shape(shape, size)),
        Op::Broadcast(of) => Op::Broadcast(Broadcast { shape: of_shape(&of.shape, size), axes: of.axes.clone() }),
        Op::Slice(axes) => {
            let axis = |axis: &SliceAxis| SliceAxis { size: size(&axis.size), ..axis.clone() };
            Op::Slice(axes.iter().map(axis).collect())
        }
        Op::DynamicSlice(slice) => {
            let sizes = slice.sizes.iter().map(size).collect();
            Op::DynamicSlice(DynamicSlice { axes: slice.axes.clone(), sizes })
        }
        Op::WindowPut(put) => Op::WindowPut(WindowPut { axes: put.axes.clone(), shape: of_shape(&put.shape, size) }),
        Op::Philox(of) => Op::Philox(Philox { shape: of_shape(&of.shape, size), stream: of.stream }),
        Op::Call(call) => Op::Call(Call { results: of_types(&call.results, size), ..call.clone() }),
        Op::If(of) => Op::If(If { results: of_types(&of.results, size), ..of.clone() }),
        Op::Scan(scan) => Op::Scan(Scan { trip: size(&scan.trip), results: of_types(&scan.results, size), ..scan.clone() }),
        Op::Map(_)
        | Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Permute(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Alias
        | Op::StopGradient
        | Op::While(_)
        | Op::Transform(_) => op.clone(),
    }
}

/// The first elements along every axis, as many as the shape says; the array itself where it has fewer.
pub(crate) fn cut(array: &Array, shape: &Shape) -> Array {
    let Some(sizes) = shape.as_const() else { return array.clone() };
    let own = array.shape().to_vec();
    if sizes.len() != own.len() || sizes.iter().zip(&own).any(|(size, own)| size > own) {
        return array.clone();
    }
    Array::from_fn(array.dtype(), sizes.clone(), |place| {
        let (mut rest, mut at, mut step) = (place, 0, 1);
        for (size, own) in sizes.iter().zip(&own).rev() {
            at += rest % size * step;
            rest /= size;
            step *= own;
        }
        array.get(at)
    })
}
