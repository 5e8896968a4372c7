//! What the tests of graph passes share.

use graver_ir::op::Op;
use graver_ir::{DType, Function, Loc, Module, Role, ScalarFn, Sink, Target, Type, Value};
use graver_passes::{Cx, PASSES, Pass, Silent, runner};

/// A function under construction, without places.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) function: Function,
}

impl Draft {
    pub(crate) fn new(name: &str) -> Self {
        Self { function: Function::new(name) }
    }

    pub(crate) fn param(&mut self, dtype: DType, shape: &[i64]) -> Value {
        let ty = Type::new(dtype, graver_ir::Shape::new(shape.iter().copied()));
        let name = format!("p{}", self.function.params.len());
        self.function.add_param(ty, Role::Arg(name), Loc::UNKNOWN).into()
    }

    pub(crate) fn add(&mut self, op: Op, args: &[Value]) -> Value {
        self.function.graph.add(op, args, Loc::UNKNOWN).expect("the test's graph is well typed").into()
    }

    pub(crate) fn map(&mut self, function: ScalarFn, args: &[Value]) -> Value {
        self.add(Op::Map(function), args)
    }

    pub(crate) fn done(mut self, results: &[Value]) -> Function {
        for value in results {
            self.function.add_result(*value, Sink::Out);
        }
        self.function
    }
}

/// A module of these functions; the first is the entry.
pub(crate) fn module(functions: impl IntoIterator<Item = Function>) -> Module {
    let mut module = Module::default();
    for function in functions {
        module.add(function);
    }
    module
}

/// The module after these passes.
pub(crate) fn after(mut module: Module, names: &[&str]) -> Module {
    let passes: Vec<Pass> = names.iter().map(|name| *named(name)).collect();
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    runner::run(&mut module, &passes, &mut cx, &mut Silent, None).expect("the test's program is right");
    module
}

fn named(name: &str) -> &'static Pass {
    PASSES.iter().find(|pass| pass.name == name).expect("the pass exists")
}
