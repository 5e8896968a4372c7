//! Derivatives of control flow, whole: the functions that it applies are differentiated, and a new operation applies the results.
//!
//! Forward mode carries, scans and closes over tangents beside values, and takes the place of the operation. Reverse mode of a
//! branch computes the arm again from the operands; that of a scan is in [`super::scan`]; a loop with a bound on its iterations is
//! such a scan, of branches.

use graver_ir::op::{If, Scan, While};
use graver_ir::{Diag, Dim, FuncId, Function, Graph, Loc, Module, NodeId, Op, Role, Type, Value};

use super::path::Path;
use super::{forward, reverse, scan};
use crate::bodies::{add, add_params, marked, outs, param_values, set_params, set_results};
use crate::build::Build;
use crate::dce::remove_dead_nodes;
use crate::inline::splice;

/// What takes the place of a node's results, and what was asked for beside them: by number of result or slot of operand.
pub(super) struct Replaced {
    pub(super) values: Vec<Value>,
    pub(super) derivatives: Vec<(usize, Value)>,
}

/// Whether a node is differentiated here.
pub(super) fn is_control(op: &Op) -> bool {
    matches!(op, Op::If(_) | Op::While(_) | Op::Scan(_))
}

/// The tangents of a node's results, by number, given those of its operands.
pub(super) fn push(module: &mut Module, graph: &mut Graph, node: NodeId, tangents: &[Option<Value>]) -> Result<Replaced, Diag> {
    let op = graph.op(node).clone();
    if let Op::If(op) = &op {
        return push_branch(module, graph, node, op, tangents);
    }
    if let Op::While(op) = &op {
        return push_while(module, graph, node, op, tangents);
    }
    let Op::Scan(op) = &op else { panic!("G4: `{}` is no control flow", op.name()) };
    push_scan(module, graph, node, op, tangents)
}

/// The cotangents of a node's operands that are wanted, by slot, given those of its results.
pub(super) fn pull(
    module: &mut Module,
    graph: &mut Graph,
    node: NodeId,
    cotangents: &[Option<Value>],
    wanted: &[bool],
) -> Result<Replaced, Diag> {
    let op = graph.op(node).clone();
    if let Op::If(op) = &op {
        return pull_branch(module, graph, node, op, cotangents, wanted);
    }
    if let Op::While(op) = &op {
        let by = bounded(module, graph, node, op)?;
        let Op::Scan(op) = graph.op(by).clone() else { panic!("G4: a bounded loop is a scan") };
        return scan::pull(module, graph, by, &op, cotangents, wanted);
    }
    let Op::Scan(op) = &op else { panic!("G4: `{}` is no control flow", op.name()) };
    scan::pull(module, graph, node, op, cotangents, wanted)
}

/// Which results depend on the parameters that are marked, by floats.
pub(super) fn active_results(function: &Function, params: &[bool]) -> Vec<bool> {
    let x: Vec<Value> = marked(&param_values(function), params);
    let y: Vec<Value> = function.results.iter().map(|result| result.value).collect();
    let path = Path::between(&function.graph, &x, &y);
    y.iter().map(|y| path.carries(&function.graph, *y)).collect()
}

/// The parameters that derivatives concern: those that are marked, and what is carried from one iteration to the next because of them.
pub(super) fn active_params(function: &Function, marked: &[bool], carried: usize) -> Vec<bool> {
    let mut params = marked.to_vec();
    loop {
        let results = active_results(function, &params);
        let news: Vec<usize> = (0..carried).filter(|place| results[*place] && !params[*place]).collect();
        if news.is_empty() {
            return params;
        }
        news.into_iter().for_each(|place| params[place] = true);
    }
}

/// Tangents for what is marked; zeros where there is none.
pub(super) fn given(graph: &mut Graph, values: &[Value], known: &[Option<Value>], marks: &[bool], loc: &Loc) -> Vec<Value> {
    let mut found = Vec::new();
    for (place, value) in values.iter().enumerate().filter(|(place, _)| marks[*place]) {
        let ty = graph.ty(*value).clone();
        found.push(known[place].unwrap_or_else(|| Build::at(graph, loc).zeros(&ty)));
    }
    found
}

/// Values and tangents of a function: its results, then the tangents of those that are marked.
pub(super) struct Pushed {
    pub(super) function: Function,
    /// Values, then tangents of those that are marked.
    pub(super) params: (Vec<Value>, Vec<Value>),
    pub(super) results: (Vec<Value>, Vec<Value>),
}

/// The function that computes tangents beside values.
pub(super) fn pushed(module: &mut Module, func: FuncId, params: &[bool], results: &[bool]) -> Result<Pushed, Diag> {
    let mut function = module.function(func).clone();
    let values = param_values(&function);
    let x = marked(&values, params);
    let tangents = add_params(&mut function, &x, "tangent");
    let y: Vec<Value> = function.results.iter().map(|result| result.value).collect();
    let y = forward::write_out_calls(module, &mut function, &x, &y);
    let dy = forward::expand(module, &mut function, &marked(&y, results), &x, &tangents)?;
    // What stands for control flow inside has taken its place among the results.
    let y = function.results.iter().map(|result| result.value).collect();
    Ok(Pushed { function, params: (values, tangents), results: (y, dy) })
}

/// Which are known.
pub(super) fn some(values: &[Option<Value>]) -> Vec<bool> {
    values.iter().map(Option::is_some).collect()
}

fn push_branch(
    module: &mut Module,
    graph: &mut Graph,
    node: NodeId,
    op: &If,
    tangents: &[Option<Value>],
) -> Result<Replaced, Diag> {
    let (args, loc) = (graph.args(node), graph.loc(node).clone());
    let params = some(&tangents[1..]);
    let arms = [op.then, op.otherwise];
    let either = arms.map(|arm| active_results(module.function(arm), &params));
    let results: Vec<bool> = either[0].iter().zip(&either[1]).map(|(x, y)| *x || *y).collect();
    let mut funcs = Vec::new();
    for arm in arms {
        let mut arm_pushed = pushed(module, arm, &params, &results)?;
        let all = [arm_pushed.results.0, arm_pushed.results.1].concat();
        set_results(&mut arm_pushed.function, &all);
        let name = arm_pushed.function.name.clone();
        funcs.push(add(module, arm_pushed.function, &name, "jvp"));
    }
    let extra = given(graph, &args[1..], &tangents[1..], &params, &loc);
    let types = module.function(funcs[0]).result_types();
    let new = Op::If(If { then: funcs[0], otherwise: funcs[1], results: types });
    let by = graph.add(new, &[&args[..], &extra].concat(), loc)?;
    Ok(Replaced { values: outs(by, 0..results.len()), derivatives: numbered(&results, results.len(), by) })
}

/// The number of each place that is marked, with a result of the node from `first` on.
pub(super) fn numbered(marks: &[bool], first: usize, node: NodeId) -> Vec<(usize, Value)> {
    let places: Vec<usize> = (0..marks.len()).filter(|place| marks[*place]).collect();
    let values = outs(node, first..first + places.len());
    places.into_iter().zip(values).collect()
}

fn push_while(
    module: &mut Module,
    graph: &mut Graph,
    node: NodeId,
    op: &While,
    tangents: &[Option<Value>],
) -> Result<Replaced, Diag> {
    let (args, loc) = (graph.args(node), graph.loc(node).clone());
    let params = active_params(module.function(op.body), &some(tangents), op.carried);
    let mut body = pushed(module, op.body, &params, &params[..op.carried])?;
    let order = interleaved(&body.params.0, &body.params.1, &params, &[0, op.carried, args.len()]);
    set_params(&mut body.function, &order);
    set_results(&mut body.function, &[body.results.0, body.results.1].concat());
    // The condition sees tangents and uses none.
    let mut cond = module.function(op.cond).clone();
    let values = param_values(&cond);
    let unused = add_params(&mut cond, &marked(&values, &params), "tangent");
    let order = interleaved(&values, &unused, &params, &[0, op.carried, args.len()]);
    set_params(&mut cond, &order);
    let names = [&module.function(op.cond).name, &module.function(op.body).name].map(Clone::clone);
    let (cond, body) = (add(module, cond, &names[0], "jvp"), add(module, body.function, &names[1], "jvp"));
    let extra = given(graph, &args, tangents, &params, &loc);
    let operands = interleaved(&args, &extra, &params, &[0, op.carried, args.len()]);
    let active = params[..op.carried].iter().filter(|mark| **mark).count();
    let new = Op::While(While { cond, body, carried: op.carried + active, most: op.most.clone() });
    let by = graph.add(new, &operands, loc)?;
    Ok(Replaced { values: outs(by, 0..op.carried), derivatives: numbered(&params[..op.carried], op.carried, by) })
}

/// Values in groups that begin at `starts`, the marked ones' companions after each group.
fn interleaved(values: &[Value], companions: &[Value], marks: &[bool], starts: &[usize]) -> Vec<Value> {
    let mut companions = companions.iter().copied();
    let mut all = Vec::new();
    for range in starts.windows(2).map(|pair| pair[0]..pair[1]) {
        all.extend(&values[range.clone()]);
        all.extend(companions.by_ref().take(marks[range].iter().filter(|mark| **mark).count()));
    }
    all
}

fn push_scan(
    module: &mut Module,
    graph: &mut Graph,
    node: NodeId,
    op: &Scan,
    tangents: &[Option<Value>],
) -> Result<Replaced, Diag> {
    let (args, loc) = (graph.args(node), graph.loc(node).clone());
    let starts = [0, op.carried, op.carried + op.scanned, args.len()];
    let params = active_params(module.function(op.body), &some(tangents), op.carried);
    let mut results = active_results(module.function(op.body), &params);
    results[..op.carried].copy_from_slice(&params[..op.carried]);
    let mut body = pushed(module, op.body, &params, &results)?;
    let order = interleaved(&body.params.0, &body.params.1, &params, &starts);
    set_params(&mut body.function, &order);
    let ends = [0, op.carried, results.len()];
    let given_back = interleaved(&body.results.0, &body.results.1, &results, &ends);
    set_results(&mut body.function, &given_back);
    let name = module.function(op.body).name.clone();
    let body = add(module, body.function, &name, "jvp");
    let extra = given(graph, &args, tangents, &params, &loc);
    let operands = interleaved(&args, &extra, &params, &starts);
    let count = |range: std::ops::Range<usize>| params[range].iter().filter(|mark| **mark).count();
    let (active, scanned) = (count(0..op.carried), count(op.carried..op.carried + op.scanned));
    let (kept, stacked) = op.results.split_at(op.carried);
    let (kept_active, stacked_active) = (marked(kept, &results[..op.carried]), marked(stacked, &results[op.carried..]));
    let types = [kept, &kept_active, stacked, &stacked_active].concat();
    let new = Scan { body, carried: op.carried + active, scanned: op.scanned + scanned, results: types, ..op.clone() };
    let by = graph.add(Op::Scan(new), &operands, loc)?;
    let first = op.carried + active;
    let values = [outs(by, 0..op.carried), outs(by, first..first + stacked.len())].concat();
    let mut derivatives = numbered(&results[..op.carried], op.carried, by);
    let of_stacked = numbered(&results[op.carried..], first + stacked.len(), by);
    derivatives.extend(of_stacked.into_iter().map(|(place, value)| (op.carried + place, value)));
    Ok(Replaced { values, derivatives })
}

/// The arm is computed again, from the operands, and its derivative with it.
fn pull_branch(
    module: &mut Module,
    graph: &mut Graph,
    node: NodeId,
    op: &If,
    cotangents: &[Option<Value>],
    wanted: &[bool],
) -> Result<Replaced, Diag> {
    let (args, loc) = (graph.args(node), graph.loc(node).clone());
    let params = &wanted[1..];
    let arms = [op.then, op.otherwise];
    let either = arms.map(|arm| active_results(module.function(arm), params));
    let known = |place: usize| cotangents[place].is_some() && (either[0][place] || either[1][place]);
    let results: Vec<bool> = (0..op.results.len()).map(known).collect();
    let mut pulled = Vec::new();
    for arm in arms {
        let mut function = module.function(arm).clone();
        let (x, y) = (param_values(&function), function.results.iter().map(|result| result.value).collect::<Vec<_>>());
        let y = marked(&y, &results);
        let seeds = add_params(&mut function, &y, "cotangent");
        let dx = reverse::expand(module, &mut function, &y, &seeds, &marked(&x, params))?;
        set_results(&mut function, &dx);
        let _ = remove_dead_nodes(&mut function);
        pulled.push(function);
    }
    let cotangents: Vec<Value> = marked(cotangents, &results).into_iter().flatten().collect();
    let operands = needed_operands(&mut pulled, &[&args[1..], &cotangents].concat());
    let types = pulled[0].result_types();
    let [then, otherwise] = [0, 1].map(|place| std::mem::take(&mut pulled[place]));
    let names = [then.name.clone(), otherwise.name.clone()];
    let (then, otherwise) = (add(module, then, &names[0], "vjp"), add(module, otherwise, &names[1], "vjp"));
    let new = Op::If(If { then, otherwise, results: types });
    let by = graph.add(new, &[&args[..1], &operands].concat(), loc)?;
    let slots = numbered(params, 0, by).into_iter().map(|(place, value)| (place + 1, value)).collect();
    Ok(Replaced { values: outs(node, 0..op.results.len()), derivatives: slots })
}

/// The operands that either function uses; parameters that neither does go away.
pub(super) fn needed_operands<T: Clone>(functions: &mut [Function], operands: &[T]) -> Vec<T> {
    let used = |function: &Function, place: usize| {
        let param = function.params[place].node;
        function.graph.has_users(param) || function.results.iter().any(|result| result.value.node == param)
    };
    let kept: Vec<bool> = (0..operands.len()).map(|place| functions.iter().any(|function| used(function, place))).collect();
    for function in functions.iter_mut() {
        let order = marked(&param_values(function), &kept);
        set_params(function, &order);
        let _ = remove_dead_nodes(function);
    }
    marked(operands, &kept)
}

/// What is said of a loop whose iterations nobody counts.
fn unbounded(loc: &Loc) -> Diag {
    let message = "reverse mode saves what every iteration leaves, so it needs a bound on their number";
    Diag::new(message).op("while").at(loc).help("give the loop the most iterations that it takes")
}

/// Why a node has no derivative in reverse mode, if it has none.
pub(super) fn refusal(graph: &Graph, node: NodeId) -> Option<Diag> {
    matches!(graph.op(node), Op::While(While { most: None, .. })).then(|| unbounded(graph.loc(node)))
}

/// A loop of at most so many iterations as a scan of exactly so many: an iteration keeps what is carried once the condition no longer
/// holds, which it then does not again.
fn bounded(module: &mut Module, graph: &mut Graph, node: NodeId, op: &While) -> Result<NodeId, Diag> {
    let (args, loc) = (graph.args(node), graph.loc(node).clone());
    // Less than none is none.
    let Some(trip) = op.most.as_ref().map(|most| most.max_with(&Dim::ZERO)) else { return Err(unbounded(&loc)) };
    let mut step = Function::new("");
    for (place, arg) in args.iter().enumerate() {
        step.add_param(graph.ty(*arg).clone(), Role::Arg(format!("x{place}")), loc.clone());
    }
    let params = param_values(&step);
    let mut keep = step.clone();
    set_results(&mut keep, &params[..op.carried]);
    let holds = splice(&mut step.graph, module.function(op.cond), &params, &loc);
    let name = module.function(op.body).name.clone();
    let results: Vec<Type> = args[..op.carried].iter().map(|arg| graph.ty(*arg).clone()).collect();
    let otherwise = add(module, keep, &name, "keep");
    let branch = Op::If(If { then: op.body, otherwise, results: results.clone() });
    let branch = step.graph.add(branch, &[&holds[..], &params].concat(), loc.clone())?;
    set_results(&mut step, &outs(branch, 0..op.carried));
    let body = add(module, step, &name, "step");
    graph.add(Op::Scan(Scan { body, trip, carried: op.carried, scanned: 0, reverse: false, at_once: false, results }), &args, loc)
}
