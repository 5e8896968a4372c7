//! What flows back to tapped values: derivatives with respect to other names of them, which transforms that are there give too.
//!
//! A value of a body that is differentiated as a whole is not one of the function that its derivative is taken in. There the body takes one operand more,
//! zeros, and adds it to the value: what flows back to the operand flows back to the value.

use std::collections::BTreeSet;

use graver_ir::op::{Broadcast, Transform, stack_of};
use graver_ir::{Array, FuncId, Function, Graph, Loc, Module, NodeId, Op, Role, Scalar, ScalarFn, Type, Use, Value};

use super::{Tap, user_of};

/// What a derivative may be taken with respect to.
struct Wanted {
    /// Which tap it is of.
    tap: usize,
    func: FuncId,
    value: Value,
    /// The node that a derivative must pass through.
    through: NodeId,
}

/// The taps, and the cotangent of each that has one, with its function.
type Gradients = (Vec<Tap>, Vec<Option<(FuncId, Value)>>);

/// Makes what flows back to tapped values results of the derivatives that pass through them.
pub(super) fn differentiated(module: &mut Module, taps: &[Tap]) -> Gradients {
    let (mut taps, mut wanted) = (taps.to_vec(), Vec::new());
    for tap in 0..taps.len() {
        let Tap { func, value, .. } = taps[tap];
        if !module.function(func).graph.ty(value).dtype.is_float() {
            continue;
        }
        if passes(&module.function(func).graph, value.node) {
            wanted.push(Wanted { tap, func, value, through: value.node });
        } else if let Some(around) = around(module, func) {
            let found = added(module, &mut taps, &mut wanted, tap, &around);
            wanted.push(found);
        }
    }
    let mut gradients = vec![None; taps.len()];
    let functions: BTreeSet<FuncId> = wanted.iter().map(|wanted| wanted.func).collect();
    for func in functions {
        by_more_names(module.function_mut(func), func, (&mut taps, &mut wanted), &mut gradients);
    }
    (taps, gradients)
}

/// Takes the derivatives of a function by other names of the values that are wanted, too.
fn by_more_names(
    function: &mut Function,
    func: FuncId,
    (taps, wanted): (&mut [Tap], &mut [Wanted]),
    gradients: &mut [Option<(FuncId, Value)>],
) {
    // In order: an inner derivative precedes the outer one.
    for node in function.graph.topo() {
        let Op::Transform(Transform::Vjp { outputs, wrt }) = *function.graph.op(node) else { continue };
        let between = between(&function.graph, node, outputs);
        let through =
            |wanted: &&Wanted| wanted.func == func && gradients[wanted.tap].is_none() && between.contains(&wanted.through);
        let concerned: Vec<&Wanted> = wanted.iter().filter(through).collect();
        if concerned.is_empty() {
            continue;
        }
        let name = |wanted: &&Wanted| renamed(&mut function.graph, wanted.value, &taps[wanted.tap].loc);
        let names: Vec<Value> = concerned.iter().map(name).collect();
        let (mut args, loc) = (function.graph.args(node), function.graph.loc(node).clone());
        args.extend(names);
        let op = Op::Transform(Transform::Vjp { outputs, wrt: wrt + concerned.len() });
        let by = function.graph.add(op, &args, loc).expect("a derivative by more names is one");
        replace(function, node, by, wrt);
        concerned.iter().enumerate().for_each(|(place, wanted)| gradients[wanted.tap] = Some((func, out(by, wrt + place))));
        // A derivative may be tapped itself.
        moved((taps, wanted), func, node, by);
    }
}

fn out(node: NodeId, place: usize) -> Value {
    node.out(u16::try_from(place).expect("I8: a node has fewer than 65536 results"))
}

/// Puts the results of one node in the place of another's, which goes.
fn replace(function: &mut Function, node: NodeId, by: NodeId, results: usize) {
    (0..results).for_each(|place| function.replace(out(node, place), out(by, place)));
    function.graph.remove(node);
}

/// Says that a node of a function is another now.
fn moved((taps, wanted): (&mut [Tap], &mut [Wanted]), func: FuncId, node: NodeId, by: NodeId) {
    let of_taps = taps.iter_mut().filter(|tap| tap.func == func).map(|tap| &mut tap.value.node);
    let of_wanted = wanted.iter_mut().filter(|wanted| wanted.func == func);
    let of_wanted = of_wanted.flat_map(|wanted| [&mut wanted.value.node, &mut wanted.through]);
    of_taps.chain(of_wanted).filter(|own| **own == node).for_each(|own| *own = by);
}

/// Whether a derivative that is taken in the graph passes through a node.
fn passes(graph: &Graph, through: NodeId) -> bool {
    graph.nodes().any(|node| {
        let Op::Transform(Transform::Vjp { outputs, .. }) = *graph.op(node) else { return false };
        between(graph, node, outputs).contains(&through)
    })
}

/// The nodes by which what a transform differentiates depends on what it is differentiated by.
fn between(graph: &Graph, transform: NodeId, outputs: usize) -> BTreeSet<NodeId> {
    let args = graph.args(transform);
    let mut from: BTreeSet<NodeId> = args[2 * outputs..].iter().map(|x| x.node).collect();
    let mut to: BTreeSet<NodeId> = args[..outputs].iter().map(|y| y.node).collect();
    let order = graph.topo();
    for node in &order {
        if graph.args(*node).iter().any(|arg| from.contains(&arg.node)) {
            from.insert(*node);
        }
    }
    // Reversed: whether a node is needed is known before its operands are looked at.
    for node in order.iter().rev() {
        if to.contains(node) {
            to.extend(graph.args(*node).iter().map(|arg| arg.node));
        }
    }
    from.intersection(&to).copied().collect()
}

/// Another name of a value, which all users take in its place, other than those that are differentiated by it.
fn renamed(graph: &mut Graph, value: Value, loc: &Loc) -> Value {
    let uses = graph.uses(value);
    let name: Value = graph.add(Op::Alias, &[value], loc.clone()).expect("any value has another name").into();
    for user in uses {
        let by =
            matches!(graph.op(user.node), Op::Transform(Transform::Vjp { outputs, .. }) if usize::from(user.slot) >= 2 * outputs);
        if !by {
            graph.set_arg(user, name);
        }
    }
    name
}

// ---- values of bodies

/// From the inside out, what applies a body and its function, up to where a derivative passes through it.
fn around(module: &Module, body: FuncId) -> Option<Vec<(FuncId, NodeId)>> {
    let (mut around, mut inner) = (Vec::new(), body);
    loop {
        let (caller, node) = user_of(module, inner)?;
        let graph = &module.function(caller).graph;
        place_of_one_more(graph.op(node), 0)?;
        around.push((caller, node));
        if passes(graph, node) {
            return Some(around);
        }
        inner = caller;
    }
}

/// At which place an operation, and its body, may take one operand more; `None` if it may not.
fn place_of_one_more(op: &Op, operands: usize) -> Option<usize> {
    if let Op::Scan(scan) = op {
        Some(scan.carried + scan.scanned)
    } else if let Op::Call(call) = op {
        call.vjp.is_none().then_some(operands)
    } else {
        None
    }
}

/// Adds zeros to a tapped value. They come from the function that its derivative is taken in: by what they are given to there.
fn added(module: &mut Module, taps: &mut [Tap], wanted: &mut [Wanted], tap: usize, around: &[(FuncId, NodeId)]) -> Wanted {
    let Tap { func, value, ref loc, .. } = taps[tap];
    let (loc, mut ty) = (loc.clone(), module.function(func).graph.ty(value).clone());
    let place = |module: &Module, (caller, node): (FuncId, NodeId)| {
        let graph = &module.function(caller).graph;
        place_of_one_more(graph.op(node), graph.args(node).len()).expect("all that is around takes one operand more")
    };
    let at = place(module, around[0]);
    let body = module.function_mut(func);
    let param = one_more_param(body, &ty, at, &loc);
    add_to(body, value, param, &loc);
    let mut last = None;
    for (depth, (caller, node)) in around.iter().copied().enumerate() {
        if let Op::Scan(scan) = module.function(caller).graph.op(node) {
            ty = stack_of(&scan.trip, &ty);
        }
        let at = place(module, (caller, node));
        let outer = around.get(depth + 1).map(|outer| place(module, *outer));
        let function = module.function_mut(caller);
        let operand = match outer {
            Some(at) => one_more_param(function, &ty, at, &loc),
            None => zeros(&mut function.graph, &ty, &loc),
        };
        let by = with_operand(function, node, at, operand);
        moved((taps, wanted), caller, node, by);
        last = Some(Wanted { tap, func: caller, value: operand, through: by });
    }
    last.expect("a body is applied by something")
}

fn one_more_param(function: &mut Function, ty: &Type, place: usize, loc: &Loc) -> Value {
    let node = function.add_param(ty.clone(), Role::Arg("added".to_owned()), loc.clone());
    let own = function.params.len() - 1;
    function.params[place..=own].rotate_right(1);
    node.into()
}

/// `x + zeros` in the place of `x`.
fn add_to(function: &mut Function, x: Value, zeros: Value, loc: &Loc) {
    let sum = function.graph.add(Op::Map(ScalarFn::Add), &[x, zeros], loc.clone()).expect("both are of one type");
    function.replace(x, sum.into());
    function.graph.set_arg(Use { node: sum, slot: 0 }, x);
}

/// Zeros which, added to anything, leave it as it is: they are negative.
fn zeros(graph: &mut Graph, ty: &Type, loc: &Loc) -> Value {
    let zero = Op::Const(Array::full([], Scalar::float(ty.dtype, -0.0)));
    let zero = graph.add(zero, &[], loc.clone()).expect("a constant has no constraint");
    let repeated = Op::Broadcast(Broadcast { shape: ty.shape.clone(), axes: Vec::new() });
    graph.add(repeated, &[zero.into()], loc.clone()).expect("a scalar may be repeated to any shape").into()
}

/// The node with one operand more in its place.
fn with_operand(function: &mut Function, node: NodeId, place: usize, operand: Value) -> NodeId {
    let (mut op, mut args, loc) = (function.graph.op(node).clone(), function.graph.args(node), function.graph.loc(node).clone());
    if let Op::Scan(scan) = &mut op {
        scan.scanned += 1;
    }
    args.insert(place, operand);
    let results = function.graph.node(node).outs.len();
    let by = function.graph.add(op, &args, loc).expect("what was well typed is, with an operand that its body takes");
    replace(function, node, by, results);
    by
}
