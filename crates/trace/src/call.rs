//! Composites: functions of the module, built once for each name and operands' types, and called.
//!
//! A body knows only its operands, reads no state, and its nodes have no place: inlining gives them the call's.

use std::panic::Location;

use graver_ir::op::{Call, Composite};
use graver_ir::{FuncId, Function, Op, Role, Sink, Type};

use crate::context::{CompositeKey, Frame, Traced, with, with_any};
use crate::tensor::Tensor;

/// What a composite is: a name with its attributes, which tells it from others, and a tag if a lowering may know it.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) tag: Option<Composite>,
}

/// Calls the function of this name and these operands' types, whose `body` is recorded if it is new.
#[track_caller]
pub(crate) fn call(named: Named, args: &[Tensor], body: impl FnOnce(&[Tensor]) -> Traced<Vec<Tensor>>) -> Traced<Vec<Tensor>> {
    call_with(named, None, args, body)
}

/// The same, with a derivative that the call brings.
#[track_caller]
pub(crate) fn call_with(
    named: Named,
    vjp: Option<FuncId>,
    args: &[Tensor],
    body: impl FnOnce(&[Tensor]) -> Traced<Vec<Tensor>>,
) -> Traced<Vec<Tensor>> {
    let line = Location::caller();
    let types = args.iter().map(|arg| arg.ty()).collect::<Traced<_>>()?;
    let func = function(named.name, types, body)?;
    with(|trace| {
        let results = trace.module.function(func).result_types();
        trace.emit(Op::Call(Call { func, tag: named.tag, vjp, results }), args, line)
    })
}

/// The function of this name and these operands' types, whose `body` is recorded if it is new.
#[track_caller]
pub(crate) fn function(name: String, types: Vec<Type>, body: impl FnOnce(&[Tensor]) -> Traced<Vec<Tensor>>) -> Traced<FuncId> {
    let (key, line) = ((name, types), Location::caller());
    match with(|trace| trace.composites.get(&key).copied()) {
        Some(func) => Ok(func),
        None => build(&key, line, body),
    }
}

/// Records a composite's body as a function of the module.
fn build(
    key: &CompositeKey,
    line: &'static Location<'static>,
    body: impl FnOnce(&[Tensor]) -> Traced<Vec<Tensor>>,
) -> Traced<FuncId> {
    struct Pop(usize);
    impl Drop for Pop {
        fn drop(&mut self) {
            with_any(|trace| trace.into_iter().for_each(|trace| trace.frames.truncate(self.0)));
        }
    }
    let (func, params, pop) = with(|trace| {
        let call = trace.frame().call.clone().unwrap_or_else(|| trace.loc(line));
        let func = trace.module.add(Function::new(""));
        // Numbered by its id: the same composite over other types is another function.
        trace.module.function_mut(func).name = format!("{}.{}", key.0, func.0);
        trace.frames.push(Frame { func, call: Some(call), body: None });
        let params: Vec<Tensor> =
            (0..).zip(&key.1).map(|(i, ty)| trace.param(ty.clone(), Role::Arg(format!("x{i}")), line)).collect();
        (func, params, Pop(trace.frames.len() - 1))
    });
    let built = body(&params).and_then(|results| with(|trace| trace.values(&results)));
    drop(pop);
    match built {
        Err(failed) => {
            // A half-built function is not part of the program.
            with(|trace| trace.module.functions.remove(&func));
            Err(failed)
        }
        Ok(values) => with(|trace| {
            let function = trace.module.function_mut(func);
            for value in values {
                function.add_result(value, Sink::Out);
            }
            trace.composites.insert(key.clone(), func);
            Ok(func)
        }),
    }
}
