//! Modules and programs as JSON, for tools in other languages. What is read is inferred and verified again, as texts are.
//!
//! A module is `{"graver": 1, "state": [..], "functions": [..]}`. A function's values are numbered as its nodes are listed:
//! first the parameters' `0, 1, ..`, then every result of every node in turn. Functions are known by their position.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Diag, Error};
use crate::graph::{Graph, NodeId, Value};
use crate::kernel::{self, Program};
use crate::location::Loc;
use crate::module::{FuncId, FuncResult, Function, Module, Role, Sink, StateDecl};
use crate::op::Op;
use crate::text::VERSION;
use crate::ty::Type;
use crate::verify::verify;

/// The JSON of a module. It must verify.
///
/// # Panics
/// If the module names functions or values that it does not have.
#[must_use]
pub fn print(module: &Module) -> String {
    let position: BTreeMap<FuncId, u32> = module.functions.keys().copied().zip(0..).collect();
    let functions = module.functions.values().map(|function| flat(function, &position)).collect();
    let module = FlatModule { graver: VERSION, state: module.state.clone(), functions };
    serde_json::to_string(&module).expect("nothing in a module fails to serialize")
}

/// The module of a JSON text.
///
/// # Errors
/// Where the text is no JSON or not of this form; what inference says of an operation; an invariant that [`verify`]
/// finds violated.
pub fn parse(text: &str) -> Result<Module, Error> {
    let flat: FlatModule = serde_json::from_str(text).map_err(|error| Error::new(format!("JSON: {error}")))?;
    if flat.graver != VERSION {
        return Err(Error::new(format!("this is a module of version {}; only version {VERSION} can be read", flat.graver)));
    }
    let mut module = Module { state: flat.state, ..Module::default() };
    for function in flat.functions {
        let name = function.name.clone();
        let function =
            graph(function).map_err(|diag| Diag { message: format!("function `{name}`: {}", diag.message), ..diag })?;
        module.add(function);
    }
    verify(&module)?;
    Ok(module)
}

/// The JSON of a program.
///
/// # Panics
/// Never: nothing in a program fails to serialize.
#[must_use]
pub fn print_program(program: &Program) -> String {
    serde_json::to_string(program).expect("nothing in a program fails to serialize")
}

/// The program of a JSON text.
///
/// # Errors
/// Where the text is no JSON or not of this form; an invariant that [`kernel::verify`] finds violated.
pub fn parse_program(text: &str) -> Result<Program, Error> {
    let program = serde_json::from_str(text).map_err(|error| Error::new(format!("JSON: {error}")))?;
    kernel::verify(&program)?;
    Ok(program)
}

#[derive(Serialize, Deserialize)]
struct FlatModule {
    graver: u32,
    state: Vec<StateDecl>,
    functions: Vec<FlatFunction>,
}

#[derive(Serialize, Deserialize)]
struct FlatFunction {
    name: String,
    params: Vec<FlatParam>,
    nodes: Vec<FlatNode>,
    results: Vec<(usize, Sink)>,
}

#[derive(Serialize, Deserialize)]
struct FlatParam {
    ty: Type,
    role: Role,
    loc: Loc,
}

#[derive(Serialize, Deserialize)]
struct FlatNode {
    op: Op,
    args: Vec<usize>,
    outs: Vec<Type>,
    loc: Loc,
}

fn flat(function: &Function, position: &BTreeMap<FuncId, u32>) -> FlatFunction {
    let graph = &function.graph;
    let mut first = vec![usize::MAX; graph.bound()];
    let mut next = 0;
    let mut number = |id: NodeId| {
        first[id.index()] = next;
        next += graph.node(id).outs.len();
    };
    let params: BTreeSet<NodeId> = function.params.iter().map(|param| param.node).collect();
    let order: Vec<NodeId> = graph.topo().into_iter().filter(|id| !params.contains(id)).collect();
    function.params.iter().map(|param| param.node).chain(order.iter().copied()).for_each(&mut number);
    let value = |value: Value| first[value.node.index()] + usize::from(value.out);
    let nodes = order.into_iter().map(|id| {
        let node = graph.node(id);
        let args = graph.args(id).into_iter().map(value).collect();
        FlatNode { op: with_functions(&node.op, position), args, outs: node.outs.clone(), loc: node.loc.clone() }
    });
    FlatFunction {
        name: function.name.clone(),
        params: function.params.iter().map(|param| flat_param(graph, param.node, &param.role)).collect(),
        nodes: nodes.collect(),
        results: function.results.iter().map(|result| (value(result.value), result.sink)).collect(),
    }
}

fn flat_param(graph: &Graph, node: NodeId, role: &Role) -> FlatParam {
    FlatParam { ty: graph.ty(node.into()).clone(), role: role.clone(), loc: graph.loc(node).clone() }
}

/// The operation with functions by their position.
fn with_functions(op: &Op, position: &BTreeMap<FuncId, u32>) -> Op {
    op.with_functions(|id| FuncId(*position.get(&id).expect("I6: a function id names a function of its module")))
}

fn graph(flat: FlatFunction) -> Result<Function, Diag> {
    let mut function = Function::new(flat.name);
    let mut values: Vec<Value> = Vec::new();
    for FlatParam { ty, role, loc } in flat.params {
        values.push(function.add_param(ty, role, loc).into());
    }
    for (position, node) in flat.nodes.into_iter().enumerate() {
        let args: Option<Vec<Value>> = node.args.iter().map(|arg| values.get(*arg).copied()).collect();
        let most = usize::from(u16::MAX);
        let args = args.filter(|args| args.len() <= most && node.outs.len() <= most).ok_or_else(|| {
            Diag::new(format!("node {position} uses what is not before it, or has too many operands or results"))
        })?;
        if matches!(node.op, Op::Param(_)) {
            return Err(Diag::new(format!("node {position} is a parameter, which stands in the list of those")));
        }
        let id = function.graph.add(node.op, &args, node.loc)?;
        if function.graph.node(id).outs != node.outs {
            return Err(Diag::new(format!("the results of node {position} are not those that inference gives"))
                .at(function.graph.loc(id)));
        }
        values.extend((0..=u16::MAX).take(node.outs.len()).map(|out| id.out(out)));
    }
    for (value, sink) in flat.results {
        let value = *values.get(value).ok_or_else(|| Diag::new(format!("there is no value {value}, which is a result")))?;
        function.results.push(FuncResult { value, sink });
    }
    Ok(function)
}
