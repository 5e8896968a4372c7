//! The same program with every float an `f64`: run by the interpreter, the reference that error bounds are measured from.
//!
//! Roundings to narrower floats inside the program vanish: they are what the bound is about.

use std::collections::BTreeMap;

use graver_ir::op::{Call, Iota};
use graver_ir::{Array, DType, Function, Module, Op, Param, Type, Value};

/// The module over `f64`.
///
/// # Panics
/// If the module is not well typed.
#[must_use]
pub fn widen(module: &Module) -> Module {
    let mut wide = module.clone();
    wide.functions.values_mut().for_each(|function| *function = widen_function(function));
    wide.state.iter_mut().for_each(|decl| decl.ty = widen_type(&decl.ty));
    wide
}

/// The array as `f64`, if it holds floats.
#[must_use]
pub fn widen_array(array: &Array) -> Array {
    array.cast(widen_dtype(array.dtype()))
}

const fn widen_dtype(dtype: DType) -> DType {
    if dtype.is_float() { DType::F64 } else { dtype }
}

fn widen_type(ty: &Type) -> Type {
    ty.with_dtype(widen_dtype(ty.dtype))
}

fn widen_function(function: &Function) -> Function {
    let mut wide = Function::new(&function.name);
    let mut moved = BTreeMap::new();
    for id in function.graph.topo() {
        let node = function.graph.node(id);
        let args: Vec<Value> = function.graph.args(id).iter().map(|arg| Value { node: moved[&arg.node], out: arg.out }).collect();
        let added = wide.graph.add(widen_op(&node.op), &args, node.loc.clone()).unwrap_or_else(|diag| panic!("widened: {diag}"));
        moved.insert(id, added);
    }
    wide.params = function.params.iter().map(|param| Param { node: moved[&param.node], role: param.role.clone() }).collect();
    for result in &function.results {
        wide.add_result(Value { node: moved[&result.value.node], out: result.value.out }, result.sink);
    }
    wide
}

fn widen_op(op: &Op) -> Op {
    match op {
        Op::Cast(dtype) => Op::Cast(widen_dtype(*dtype)),
        Op::Const(array) => Op::Const(widen_array(array)),
        Op::Iota(iota) => Op::Iota(Iota { dtype: widen_dtype(iota.dtype), ..iota.clone() }),
        Op::Param(ty) => Op::Param(widen_type(ty)),
        Op::Call(call) => Op::Call(Call { results: call.results.iter().map(widen_type).collect(), ..call.clone() }),
        Op::Map(_)
        | Op::Size(_)
        | Op::Gather(_)
        | Op::ScatterAdd(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Philox(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Transform(_) => op.clone(),
    }
}

#[cfg(test)]
mod tests {
    use graver_ir::DType::{BF16, F64, I32};
    use graver_ir::ScalarFn;

    use super::widen;
    use crate::Build;

    #[test]
    fn floats_widen_and_integers_stay() {
        let mut b = Build::new("main");
        let (x, i) = (b.arg("x", BF16, ("n", 3)), b.arg("i", I32, ("n", 3)));
        let half = b.full(BF16, ("n", 3), 0.5);
        let sum = b.map(ScalarFn::Add, [x, half]);
        let func = b.func("double", |b| {
            let x = b.arg("x", BF16, ("n", 3));
            vec![b.map(ScalarFn::Add, [x, x])]
        });
        let twice = b.call(func, &[sum]);
        let wide = widen(&b.finish([twice[0], i]));
        let (_, entry) = wide.entry().expect("one function");
        assert_eq!(entry.result_types().iter().map(|ty| ty.dtype).collect::<Vec<_>>(), [F64, I32]);
        assert_eq!(entry.params.len(), 2);
    }
}
