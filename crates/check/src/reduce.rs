//! Makes a program small while it still shows what it is to show: fewer results, values that were computed become arguments, bodies of loops
//! become the program, sizes shrink, numbers become round.
//!
//! Greedy, from the largest cuts to the smallest, again as long as something helps; every candidate is a program that verifies. How often the
//! program is tried is bounded, so a large one is made smaller and not smallest.

use graver_interp::{Precision, eval};
use graver_ir::op::Scan;
use graver_ir::{Array, Dim, Function, Loc, NodeId, Op, Role, Scalar, Shape, Sink, Value, bind};

use crate::case::Case;
use crate::finite;
use crate::resize::{cut, resized};

/// How many more programs may be tried.
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(600)
    }
}

impl Budget {
    fn spend(&mut self) -> bool {
        let left = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        left
    }
}

/// What a program says that shows what it is to show.
type Said = (String, Loc);

/// The smallest program found, and what it says, if it is another one than the first.
pub(crate) fn reduced(start: &Case, still: &dyn Fn(&Case) -> Option<Said>, budget: &mut Budget) -> (Case, Option<Said>) {
    let (mut case, mut said) = (start.clone(), None);
    loop {
        let mut helped = false;
        for step in STEPS {
            // Again as long as it helps: each candidate begins from the last that did.
            while let Some((smaller, words)) = first_that_shows(&case, step(&case), still, budget) {
                (case, said) = (smaller, Some(words));
                helped = true;
            }
        }
        if !helped {
            return (case, said);
        }
    }
}

/// Ways to make a program smaller, in the order in which they are tried.
const STEPS: [fn(&Case) -> Candidates; 8] =
    [without_state, one_result, end_at_values, cut_at_values, into_bodies, smaller_symbols, smaller_sizes, rounder_numbers];

/// Programs to be tried, made when they are asked for.
type Candidates = Vec<Box<dyn FnOnce() -> Option<Case>>>;

fn first_that_shows(
    case: &Case,
    candidates: Candidates,
    still: &dyn Fn(&Case) -> Option<Said>,
    budget: &mut Budget,
) -> Option<(Case, Said)> {
    let cost = cost(case);
    candidates.into_iter().find_map(|candidate| {
        let smaller = candidate().map(tidied).filter(|smaller| self::cost(smaller) < cost)?;
        budget.spend().then(|| still(&smaller)).flatten().map(|said| (smaller, said))
    })
}

/// Operations, then elements, then digits.
fn cost(case: &Case) -> (usize, usize, usize) {
    let of = |op: &Op| usize::from(!matches!(op, Op::Param(_)));
    let ops = |function: &Function| function.graph.nodes().map(|node| of(function.graph.op(node))).sum::<usize>();
    let constants = |function: &Function| {
        function
            .graph
            .nodes()
            .filter_map(|node| if let Op::Const(array) = function.graph.op(node) { Some(array.numel()) } else { None })
            .sum::<usize>()
    };
    let arrays = || case.inputs.iter().chain(&case.state);
    let functions = case.module.functions.values();
    let digits = |array: &Array| (0..array.numel()).map(|place| array.get(place).to_string().len()).sum::<usize>();
    let elements = arrays().map(Array::numel).sum::<usize>() + functions.clone().map(constants).sum::<usize>();
    let results = case.module.entry().map_or(0, |(_, main)| main.results.len());
    (functions.map(ops).sum::<usize>() + case.module.state.len() + results, elements, arrays().map(digits).sum())
}

/// Without what no result needs: operations, functions, parameters with their arguments.
fn tidied(mut case: Case) -> Case {
    let _ = finite::run(&mut case.module, &["dce"]);
    let Some((id, main)) = case.module.entry() else { return case };
    let used = |node: NodeId| main.graph.has_users(node) || main.results.iter().any(|result| result.value.node == node);
    let dead: Vec<(usize, NodeId)> = arguments(main).into_iter().enumerate().filter(|(_, node)| !used(*node)).collect();
    let mut inputs = Vec::new();
    for (place, input) in case.inputs.drain(..).enumerate() {
        if dead.iter().all(|(own, _)| *own != place) {
            inputs.push(input);
        }
    }
    case.inputs = inputs;
    let main = case.module.function_mut(id);
    for (_, node) in dead {
        main.params.retain(|param| param.node != node);
        main.graph.remove(node);
    }
    case
}

/// The parameters that the caller passes.
fn arguments(function: &Function) -> Vec<NodeId> {
    let own = function.params.iter().filter(|param| matches!(param.role, Role::Arg(_)));
    own.map(|param| param.node).collect()
}

/// Slots of the state as arguments and results.
fn without_state(case: &Case) -> Candidates {
    if case.module.state.is_empty() {
        return Vec::new();
    }
    let case = case.clone();
    vec![Box::new(move || {
        let id = case.module.entry()?.0;
        let mut new = case.clone();
        let state = std::mem::take(&mut new.module.state);
        let main = new.module.function_mut(id);
        let (mut params, mut inputs, mut given) = (Vec::new(), Vec::new(), case.inputs.iter());
        for mut param in std::mem::take(&mut main.params) {
            match &param.role {
                Role::Arg(_) => inputs.push(given.next()?.clone()),
                Role::State(slot) => {
                    let place = slot.0 as usize;
                    inputs.push(case.state.get(place)?.clone());
                    param.role = Role::Arg(state[place].path.clone());
                }
            }
            params.push(param);
        }
        main.params = params;
        main.results.iter_mut().for_each(|result| result.sink = Sink::Out);
        Some(Case { inputs, state: Vec::new(), ..new })
    })]
}

/// Each result alone.
fn one_result(case: &Case) -> Candidates {
    let Some((id, main)) = case.module.entry() else { return Vec::new() };
    if main.results.len() < 2 {
        return Vec::new();
    }
    let alone = |place: usize| -> Box<dyn FnOnce() -> Option<Case>> {
        let mut new = case.clone();
        Box::new(move || {
            let main = new.module.function_mut(id);
            main.results = vec![main.results[place]];
            Some(new)
        })
    };
    (0..main.results.len()).map(alone).collect()
}

/// Each computed value as the only result: what is computed from it goes away. The first values first, which leave the least.
fn end_at_values(case: &Case) -> Candidates {
    let Some((id, main)) = case.module.entry() else { return Vec::new() };
    let end = |value: Value| -> Box<dyn FnOnce() -> Option<Case>> {
        let mut new = case.clone();
        Box::new(move || {
            let main = new.module.function_mut(id);
            main.results.clear();
            main.add_result(value, Sink::Out);
            Some(new)
        })
    };
    let graph = &main.graph;
    let computed = graph.topo().into_iter().filter(|node| !matches!(graph.op(*node), Op::Param(_) | Op::Const(_)));
    computed.flat_map(|node| (0u16..).take(graph.node(node).outs.len()).map(move |out| node.out(out))).map(end).collect()
}

/// Each computed value as an argument: what it was computed from goes away. The last values first, which cut off the most.
fn cut_at_values(case: &Case) -> Candidates {
    let Some((_, main)) = case.module.entry() else { return Vec::new() };
    let graph = &main.graph;
    let worth = |node: &NodeId| {
        !matches!(graph.op(*node), Op::Param(_) | Op::Const(_) | Op::Alias)
            && main.results.iter().any(|result| result.value.node != *node)
    };
    let nodes: Vec<NodeId> = graph.topo().into_iter().rev().filter(worth).collect();
    let cut = |node: NodeId| -> Box<dyn FnOnce() -> Option<Case>> {
        let case = case.clone();
        Box::new(move || cut_at(case, node))
    };
    nodes.into_iter().map(cut).collect()
}

fn cut_at(mut case: Case, node: NodeId) -> Option<Case> {
    let id = case.module.entry()?.0;
    let outs: Vec<Value> = (0u16..).take(case.module.function(id).graph.node(node).outs.len()).map(|out| node.out(out)).collect();
    let arrays = values(&case, &outs)?;
    let main = case.module.function_mut(id);
    for (out, array) in outs.into_iter().zip(arrays) {
        let (ty, loc) = (main.graph.ty(out).clone(), main.graph.loc(node).clone());
        let name = format!("v{}", main.params.len());
        let param = main.add_param(ty, Role::Arg(name), loc);
        main.replace(out, param.into());
        case.inputs.push(array);
    }
    Some(case)
}

/// What values of the entry are.
fn values(case: &Case, wanted: &[Value]) -> Option<Vec<Array>> {
    let mut module = case.module.clone();
    let id = module.entry()?.0;
    let main = module.function_mut(id);
    main.results.clear();
    wanted.iter().for_each(|value| main.add_result(*value, Sink::Out));
    finite::run(&mut module, &["dce", "inline", "grad"]).ok()?;
    let inputs: Vec<&Array> = case.inputs.iter().collect();
    eval(&module, id, &inputs, &case.state, Precision::Typed).ok().map(|outcome| outcome.outputs)
}

/// The body of a loop, a branch or a call as the program, over what it is given first.
fn into_bodies(case: &Case) -> Candidates {
    let Some((_, main)) = case.module.entry() else { return Vec::new() };
    let mut candidates: Candidates = Vec::new();
    for node in main.graph.topo() {
        for place in 0..main.graph.op(node).functions().len() {
            let case = case.clone();
            candidates.push(Box::new(move || into_body(&case, node, place)));
        }
    }
    candidates
}

fn into_body(case: &Case, node: NodeId, place: usize) -> Option<Case> {
    let (id, main) = case.module.entry()?;
    let (op, args) = (main.graph.op(node).clone(), main.graph.args(node));
    let operands = values(case, &args)?;
    let inputs = if let Op::Scan(scan) = &op {
        first_slices(scan, operands)?
    } else if matches!(op, Op::If(_)) {
        operands.get(1..)?.to_vec()
    } else {
        // A derivative that a call brings takes other operands, which the verifier finds.
        operands
    };
    let func = op.functions()[place];
    let mut module = case.module.clone();
    let body = module.functions.remove(&func)?;
    module.functions.insert(id, body);
    // A body of which another is applied again is needed where it was.
    module.state.clear();
    graver_ir::verify(&module).ok()?;
    Some(Case { module, inputs, state: Vec::new(), pass: case.pass.clone() })
}

fn first_slices(scan: &Scan, operands: Vec<Array>) -> Option<Vec<Array>> {
    let scanned = scan.carried..scan.carried + scan.scanned;
    let slice = |(place, array): (usize, Array)| {
        if !scanned.contains(&place) {
            return Some(array);
        }
        let rest = array.shape().get(1..)?.to_vec();
        let count = rest.iter().product::<usize>();
        (array.shape()[0] > 0).then(|| {
            Array::from_fn(array.dtype(), rest, |at| array.get(if scan.reverse { array.numel() - count } else { 0 } + at))
        })
    };
    operands.into_iter().enumerate().map(slice).collect()
}

/// Numbers of elements to try for one that has so many.
fn lesser(size: i64) -> Vec<i64> {
    let mut found = vec![1, 2, size / 2, size - 1];
    found.retain(|less| (1..size).contains(less));
    found.dedup();
    found
}

/// Fewer elements along the axes of a symbol.
fn smaller_symbols(case: &Case) -> Candidates {
    let Some((_, main)) = case.module.entry() else { return Vec::new() };
    let types: Vec<graver_ir::Type> = arguments(main).iter().map(|node| main.graph.ty((*node).into()).clone()).collect();
    let params: Vec<(&str, &graver_ir::Type)> = types.iter().map(|ty| ("", ty)).collect();
    let Ok(sizes) = bind(&params, &case.inputs.iter().collect::<Vec<_>>()) else { return Vec::new() };
    let mut candidates: Candidates = Vec::new();
    for (name, size) in &sizes {
        for less in lesser(*size) {
            let (mut sizes, case, types) = (sizes.clone(), case.clone(), types.clone());
            sizes.insert(name.clone(), less);
            candidates.push(Box::new(move || {
                let shape = |ty: &graver_ir::Type| {
                    ty.shape.iter().map(|dim| dim.eval(&sizes).ok().map(Dim::from)).collect::<Option<Vec<_>>>()
                };
                let cut_to = |(array, ty): (&Array, &graver_ir::Type)| Some(cut(array, &Shape(shape(ty)?)));
                let inputs = case.inputs.iter().zip(&types).map(cut_to).collect::<Option<_>>()?;
                Some(Case { inputs, ..case })
            }));
        }
    }
    candidates
}

/// A size that is a number, made less everywhere.
fn smaller_sizes(case: &Case) -> Candidates {
    let mut sizes: Vec<i64> =
        case.inputs.iter().flat_map(|input| input.shape().to_vec()).filter_map(|size| i64::try_from(size).ok()).collect();
    sizes.sort_unstable_by(|x, y| y.cmp(x));
    sizes.dedup();
    let mut candidates: Candidates = Vec::new();
    for size in sizes {
        for less in lesser(size) {
            let case = case.clone();
            candidates.push(Box::new(move || {
                let module = resized(&case.module, size, less)?;
                let (_, main) = module.entry()?;
                let shrunk = |(array, node): (&Array, NodeId)| cut(array, &fixed(&main.graph.ty(node.into()).shape, array));
                let inputs = case.inputs.iter().zip(arguments(main)).map(shrunk).collect();
                let state = case.state.iter().zip(&module.state).map(|(array, decl)| cut(array, &decl.ty.shape)).collect();
                Some(Case { inputs, state, module, pass: case.pass })
            }));
        }
    }
    candidates
}

/// The shape with the array's own sizes for symbols.
fn fixed(shape: &Shape, array: &Array) -> Shape {
    let size = |(dim, own): (&Dim, &usize)| if dim.as_const().is_some() { dim.clone() } else { Dim::from(*own) };
    Shape(shape.iter().zip(array.shape()).map(size).collect())
}

/// Numbers of fewer digits.
fn rounder_numbers(case: &Case) -> Candidates {
    let rounder = |digits: f64| -> Box<dyn FnOnce() -> Option<Case>> {
        let case = case.clone();
        Box::new(move || {
            let round = |array: &Array| {
                Array::from_fn(array.dtype(), array.shape().to_vec(), |place| {
                    let x = array.get(place);
                    if x.dtype().is_float() { Scalar::float(x.dtype(), (x.as_f64() * digits).round() / digits) } else { x }
                })
            };
            Some(Case { inputs: case.inputs.iter().map(round).collect(), state: case.state.iter().map(round).collect(), ..case })
        })
    };
    [1.0, 4.0, 64.0].into_iter().map(rounder).collect()
}
