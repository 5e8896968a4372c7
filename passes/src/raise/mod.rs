//! Calls by their names what was written out in primitives: attention, softmax, GELU, normalisations of rows.
//!
//! Importers and users write these out in many forms; by its name, attention becomes a kernel, and the rest one form. Nothing is
//! raised of which anything else needs a value inside, and nothing in a body that has a name already. Runs after all derivatives are
//! written out, on simplified graphs: there is one form of repeating, of reshaping and of constants.
//!
//! Exact on paper; rounding differs as operations do: `x / sqrt(v)` becomes `x * rsqrt(v)`.

mod attention;
mod body;
mod gelu;
mod later;
mod norm;
mod pattern;
mod softmax;

use graver_ir::op::Call;
use graver_ir::{Error, Function, Module, NodeId, Op, ScalarFn, Value};

use crate::blocks::blocks;
use crate::build::Build;
use crate::{Changed, Cx, Pass};
use body::{Bodies, Body};
use pattern::Pattern;

/// The pass.
pub(crate) const PASS: Pass =
    Pass { name: "raise", about: "Calls by name what was written out: attention, softmax, GELU, normalisations.", run };

fn run(module: &mut Module, cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let (mut bodies, mut changed) = (Bodies::default(), Changed::No);
    let attends = cx.target.attends;
    for id in blocks(module) {
        let mut function = std::mem::take(module.function_mut(id));
        let wanted = wanted_by_callers(&function);
        // Reversed: the whole is met before its parts.
        for node in function.graph.topo().into_iter().rev() {
            if function.graph.contains(node)
                && let Some(found) = find(&function, node, &wanted, attends)
                && raise(&mut function, node, &found, module, &mut bodies)
            {
                changed = Changed::Yes;
            }
        }
        *module.function_mut(id) = function;
    }
    Ok(changed)
}

/// For each node, whether one of its values is a result of the function.
fn wanted_by_callers(function: &Function) -> Vec<bool> {
    let mut wanted = vec![false; function.graph.bound()];
    function.results.iter().for_each(|result| wanted[result.value.node.index()] = true);
    wanted
}

/// What a node is the last operation of.
enum Found {
    /// A call of this body.
    Call(Body, Vec<Value>),
    /// Attention.
    Attention(attention::Attention),
}

/// What may be found at a node.
type Rule = fn(&mut Pattern<'_>, Value) -> Option<Found>;

fn find(function: &Function, node: NodeId, wanted: &[bool], attends: bool) -> Option<Found> {
    let is = |op: Op| *function.graph.op(node) == op;
    let rules: &[Rule] = if attends && matches!(function.graph.op(node), Op::Dot(_)) {
        &[attention::attention]
    } else if is(Op::Map(ScalarFn::Div)) {
        &[softmax::softmax]
    } else if is(Op::Map(ScalarFn::Mul)) {
        &[gelu::gelu, norm::rms_norm]
    } else if is(Op::Map(ScalarFn::Add)) {
        &[norm::layer_norm]
    } else {
        &[]
    };
    rules.iter().find_map(|rule| {
        let mut pattern = Pattern::new(&function.graph);
        let found = rule(&mut pattern, node.into())?;
        pattern.is_closed(node, wanted).then_some(found)
    })
}

/// Puts the call in the node's place, unless it cannot be proved to be well typed.
fn raise(function: &mut Function, node: NodeId, found: &Found, module: &mut Module, bodies: &mut Bodies) -> bool {
    let loc = function.graph.loc(node).clone();
    let mut b = Build::at(&mut function.graph, &loc);
    let value = match found {
        Found::Call(body, args) => call(&mut b, *body, args, module, bodies).map(|results| results[0]),
        Found::Attention(attention) => attention.build(&mut b, module, bodies),
    };
    let added = std::mem::take(&mut b.added);
    match value {
        Some(value) => {
            function.replace(node.into(), value);
            remove_dead(function, node);
            true
        }
        None => {
            added.into_iter().rev().for_each(|node| function.graph.remove(node));
            false
        }
    }
}

/// A call of a body, which is made once for each type of operands.
fn call(b: &mut Build<'_>, body: Body, args: &[Value], module: &mut Module, bodies: &mut Bodies) -> Option<Vec<Value>> {
    let types: Vec<_> = args.iter().map(|arg| b.ty(*arg).clone()).collect();
    let func = bodies.function(module, body, &types)?;
    let results = module.function(func).result_types();
    let count = u16::try_from(results.len()).ok()?;
    let first = b.add(Op::Call(Call { func, tag: Some(body.tag()), vjp: None, results }), args).ok()?;
    Some((0..count).map(|out| first.node.out(out)).collect())
}

/// Removes the node and what only it needed.
fn remove_dead(function: &mut Function, node: NodeId) {
    let mut stack = vec![node];
    while let Some(node) = stack.pop() {
        let wanted = |graph: &graver_ir::Graph| graph.has_users(node) || matches!(graph.op(node), Op::Param(_));
        if !function.graph.contains(node)
            || wanted(&function.graph)
            || function.results.iter().any(|result| result.value.node == node)
        {
            continue;
        }
        stack.extend(function.graph.args(node).into_iter().map(|arg| arg.node));
        function.graph.remove(node);
    }
}
