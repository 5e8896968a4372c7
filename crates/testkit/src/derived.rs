//! Derivatives of whole modules, recorded but not written out, and what it takes to hold them against differences.

use graver_ir::op::{Op, Transform};
use graver_ir::{Array, Function, Loc, Module, Role, Scalar, Sink, Type, Value};

use crate::rng::Rng;

/// The entry's parameters are `(inputs.., cotangents of float outputs..)`, its results the cotangents of the float inputs.
///
/// # Panics
/// If the module is empty.
#[must_use]
pub fn reverse(module: &Module) -> Module {
    derived(module, |function, outputs, aliases| {
        let seeds = params_like(function, &outputs);
        let transform = Transform::Vjp { outputs: outputs.len(), wrt: aliases.len() };
        (transform, [outputs, seeds, aliases].concat())
    })
}

/// The entry's parameters are `(inputs.., tangents of the float inputs..)`, its results the tangents of the float outputs.
///
/// # Panics
/// If the module is empty.
#[must_use]
pub fn forward(module: &Module) -> Module {
    derived(module, |function, outputs, aliases| {
        let seeds = params_like(function, &aliases);
        let transform = Transform::Jvp { outputs: outputs.len(), wrt: aliases.len() };
        (transform, [outputs, aliases, seeds].concat())
    })
}

fn derived(module: &Module, seeded: impl FnOnce(&mut Function, Vec<Value>, Vec<Value>) -> (Transform, Vec<Value>)) -> Module {
    let mut module = module.clone();
    let function = module.functions.values_mut().next().expect("a module that is differentiated has an entry");
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

/// Random arrays of the same float types, within one.
pub fn random_like<'a>(arrays: impl IntoIterator<Item = &'a Array>, rng: &mut Rng) -> Vec<Array> {
    let random = |array: &Array, rng: &mut Rng| {
        Array::from_fn(array.dtype(), array.shape(), |_| Scalar::float(array.dtype(), rng.float(-1.0, 1.0)))
    };
    arrays.into_iter().map(|array| random(array, rng)).collect()
}

/// The sum of products of all elements.
///
/// # Panics
/// If the lists differ in length.
#[must_use]
pub fn inner(x: &[Array], y: &[Array]) -> f64 {
    assert_eq!(x.len(), y.len(), "one array a factor");
    x.iter().zip(y).map(|(x, y)| x.to_f64().iter().zip(y.to_f64()).map(|(x, y)| x * y).sum::<f64>()).sum()
}
