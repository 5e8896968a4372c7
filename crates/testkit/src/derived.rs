//! Derivatives of whole modules, recorded but not written out, and what it takes to hold them against differences.

use graver_ir::op::{Op, Scan, Transform, stack_of};
use graver_ir::{Array, Dim, Function, Loc, Module, Role, Scalar, Sink, Type, Value};

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

/// The entry over a batch of `size` instances: its marked parameters have one more axis, the first one, and so have its results. Recorded, as
/// a scan whose iterations are to be taken at once.
///
/// # Panics
/// If the module is empty, or no parameter is marked.
#[must_use]
pub fn mapped(module: &Module, marked: &[bool], size: &Dim) -> Module {
    let mut module = module.clone();
    let (id, entry) = module.entry().map(|(id, entry)| (id, entry.clone())).expect("a module that is mapped has an entry");
    let mut main = Function::new(entry.name.clone());
    let (mut scanned, mut closed, mut order) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    for (param, marked) in entry.params.iter().zip(marked) {
        let ty = entry.graph.ty(param.node.into());
        let ty = if *marked { stack_of(size, ty) } else { ty.clone() };
        let value = main.add_param(ty, param.role.clone(), Loc::UNKNOWN).into();
        if *marked {
            scanned.push(value)
        } else {
            closed.push(value)
        }
        order[usize::from(!marked)].push(param.clone());
    }
    assert!(!scanned.is_empty(), "something is mapped");
    let body = Function { name: format!("{}.mapped", entry.name), params: order.concat(), ..entry };
    let results = body.result_types().iter().map(|ty| stack_of(size, ty)).collect();
    let body = module.add(body);
    let trip = size.clone();
    let op = Scan { body, trip, carried: 0, scanned: scanned.len(), reverse: false, at_once: true, results };
    let node = main.graph.add(Op::Scan(op), &[scanned, closed].concat(), Loc::UNKNOWN).expect("slices fit");
    for out in (0u16..).take(main.graph.node(node).outs.len()) {
        main.add_result(node.out(out), Sink::Out);
    }
    *module.function_mut(id) = main;
    module
}

/// The same with maps as loops: what a batch means.
#[must_use]
pub fn one_by_one(module: &Module) -> Module {
    let mut module = module.clone();
    for function in module.functions.values_mut() {
        for node in function.graph.topo() {
            let Op::Scan(scan) = function.graph.op(node).clone() else { continue };
            if !scan.at_once {
                continue;
            }
            let (args, loc) = (function.graph.args(node), function.graph.loc(node).clone());
            let op = Op::Scan(Scan { at_once: false, ..scan });
            let new = function.graph.add(op, &args, loc).expect("the same operands");
            for out in (0u16..).take(function.graph.node(node).outs.len()) {
                function.replace(node.out(out), new.out(out));
            }
            function.graph.remove(node);
        }
    }
    module
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
