//! Building, writing out and running derivatives of whole modules.

use graver_interp::{Precision, eval};
use graver_ir::op::{Op, Transform};
use graver_ir::{Array, Error, FuncId, Function, Loc, Module, Role, Scalar, Sink, Target, Type, Value};
use graver_passes::{Cx, PASSES, Pass, Silent, runner};
use graver_testkit::Rng;

pub(crate) const ENTRY: FuncId = FuncId(0);

/// The module with its derivatives written out.
pub(crate) fn expanded(module: &Module) -> Result<Module, Error> {
    let mut module = module.clone();
    let named = |name: &str| *PASSES.iter().find(|pass| pass.name == name).expect("the pass exists");
    let passes: Vec<Pass> = ["inline", "cse", "grad", "inline", "cse", "dce"].map(named).to_vec();
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    runner::run(&mut module, &passes, &mut cx, &mut Silent, None)?;
    Ok(module)
}

/// The outputs of a module, its derivatives written out before.
pub(crate) fn run(module: &Module, inputs: &[Array]) -> Vec<Array> {
    let module = expanded(module).expect("the test's program has derivatives");
    run_expanded(&module, inputs)
}

/// The outputs of a module without derivatives.
pub(crate) fn run_expanded(module: &Module, inputs: &[Array]) -> Vec<Array> {
    let inputs: Vec<&Array> = inputs.iter().collect();
    eval(module, ENTRY, &inputs, &[], Precision::Typed).expect("the test's program runs").outputs
}

/// `(inputs.., cotangents of outputs..) -> cotangents of the float inputs`
pub(crate) fn reverse(module: &Module) -> Module {
    derived(module, |function, outputs, aliases| {
        let seeds = params_like(function, &outputs);
        let transform = Transform::Vjp { outputs: outputs.len(), wrt: aliases.len() };
        (transform, [outputs, seeds, aliases].concat())
    })
}

/// `(inputs.., tangents of the float inputs..) -> tangents of outputs`
pub(crate) fn forward(module: &Module) -> Module {
    derived(module, |function, outputs, aliases| {
        let seeds = params_like(function, &aliases);
        let transform = Transform::Jvp { outputs: outputs.len(), wrt: aliases.len() };
        (transform, [outputs, aliases, seeds].concat())
    })
}

fn derived(module: &Module, seeded: impl FnOnce(&mut Function, Vec<Value>, Vec<Value>) -> (Transform, Vec<Value>)) -> Module {
    let mut module = module.clone();
    let function = module.function_mut(ENTRY);
    let aliases = alias_params(function);
    let outputs: Vec<Value> = function.results.drain(..).map(|result| result.value).collect();
    let outputs = outputs.into_iter().filter(|value| function.graph.ty(*value).dtype.is_float()).collect();
    let (transform, args) = seeded(function, outputs, aliases);
    let node = function.graph.add(Op::Transform(transform), &args, Loc::UNKNOWN).expect("all are floats");
    for out in (0u16..).take(function.graph.node(node).outs.len()) {
        function.add_result(node.out(out), Sink::Out);
    }
    module
}

fn params_like(function: &mut Function, values: &[Value]) -> Vec<Value> {
    let types: Vec<Type> = values.iter().map(|value| function.graph.ty(*value).clone()).collect();
    let mut param = |ty| function.add_param(ty, Role::Arg("seed".to_owned()), Loc::UNKNOWN).into();
    types.into_iter().map(&mut param).collect()
}

/// Puts a new name between every float parameter and its users.
fn alias_params(function: &mut Function) -> Vec<Value> {
    let params: Vec<Value> = function.params.iter().map(|param| Value::from(param.node)).collect();
    let mut aliases = Vec::new();
    for param in params.into_iter().filter(|param| function.graph.ty(*param).dtype.is_float()).collect::<Vec<_>>() {
        let users = function.graph.uses(param);
        let alias: Value = function.graph.add(Op::Alias, &[param], Loc::UNKNOWN).expect("an alias takes anything").into();
        users.into_iter().for_each(|user| function.graph.set_arg(user, alias));
        for result in function.results.iter_mut().filter(|result| result.value == param) {
            result.value = alias;
        }
        aliases.push(alias);
    }
    aliases
}

/// Random arrays of the same types.
pub(crate) fn random_like<'a>(arrays: impl IntoIterator<Item = &'a Array>, rng: &mut Rng) -> Vec<Array> {
    let random = |array: &Array, rng: &mut Rng| {
        Array::from_fn(array.dtype(), array.shape(), |_| Scalar::float(array.dtype(), rng.float(-1.0, 1.0)))
    };
    arrays.into_iter().map(|array| random(array, rng)).collect()
}

/// The sum of products of all elements.
pub(crate) fn inner(x: &[Array], y: &[Array]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter().zip(y).map(|(x, y)| x.to_f64().iter().zip(y.to_f64()).map(|(x, y)| x * y).sum::<f64>()).sum()
}
