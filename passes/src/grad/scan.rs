//! Reverse mode of a scan: the scan that also stacks what its derivative needs of every iteration, and a scan in the other direction.
//!
//! One body is differentiated where it stands, which gives a graph of early nodes (the body's own and factors of derivatives) and late
//! ones (what depends on cotangents). The late ones become the body of the backward scan; early values that they use are residuals.
//! [`super::residual`] says which of them are stacked and which are computed again. Sums over iterations, which are what closed-over
//! values get, are taken after the loop, in one contraction, where [`super::total`] can.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::op::{Scan, SliceAxis, stack_of};
use graver_ir::{DType, Diag, Dim, Function, Graph, Loc, Module, NodeId, Op, Role, Type, Value};

use super::loops::{Replaced, active_params, active_results};
use super::residual::{Residuals, Times};
use super::reverse;
use super::total::Totals;
use crate::bodies::{add, add_params, marked, outs, param_values, set_params, set_results};
use crate::build::Build;
use crate::dce::remove_dead_nodes;

/// The cotangents of the operands that are wanted; the scan that stacks residuals takes the place of the node.
pub(super) fn pull(
    module: &mut Module,
    graph: &mut Graph,
    node: NodeId,
    op: &Scan,
    cotangents: &[Option<Value>],
    wanted: &[bool],
) -> Result<Replaced, Diag> {
    let body = Body::differentiate(module, op, cotangents, wanted)?;
    let totals = Totals::plan(&body.function.graph, &body.times, &body.gradients_of(Group::Closed));
    let residuals = body.residuals(&totals);
    let saved = save(module, graph, node, op, &body, &residuals)?;
    let backward = body.backward(module, graph, (op, graph.loc(node).clone()), &totals, (&residuals, &saved), cotangents)?;
    let derivatives = backward.derivatives(graph, &body, &totals, &saved)?;
    Ok(Replaced { values: saved.values, derivatives })
}

/// Which operands of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Carried,
    Scanned,
    Closed,
}

/// A scan's body, and its derivative in the same graph.
struct Body {
    function: Function,
    carried: usize,
    scanned: usize,
    /// The scan's own parameters.
    params: Vec<Value>,
    active: Vec<bool>,
    /// The body's results.
    results: Vec<Value>,
    /// The cotangents of carried results that are active, and of stacked ones that have one, with the result's number.
    seeds: Vec<(usize, Value)>,
    /// The cotangents of active parameters, by number.
    gradients: BTreeMap<usize, Value>,
    times: Times,
}

impl Body {
    fn differentiate(module: &mut Module, op: &Scan, cotangents: &[Option<Value>], wanted: &[bool]) -> Result<Self, Diag> {
        let mut function = module.function(op.body).clone();
        let params = param_values(&function);
        let active = active_params(&function, wanted, op.carried);
        let mut seeded = active_results(&function, &active);
        for (place, seeded) in seeded.iter_mut().enumerate() {
            *seeded = if place < op.carried { active[place] } else { *seeded && cotangents[place].is_some() };
        }
        let y: Vec<Value> = marked(&function.results.iter().map(|result| result.value).collect::<Vec<_>>(), &seeded);
        let seeds = add_params(&mut function, &y, "cotangent");
        let x = marked(&params, &active);
        let dx = reverse::expand(module, &mut function, &y, &seeds, &x)?;
        let places = |marks: &[bool]| (0..marks.len()).filter(|place| marks[*place]).collect::<Vec<_>>();
        let results = function.results.iter().map(|result| result.value).collect();
        let closed = params[op.carried + op.scanned..].iter().copied().collect();
        let times = Times::of(&function.graph, (&params, op.carried), &closed, &seeds);
        Ok(Self {
            carried: op.carried,
            scanned: op.scanned,
            seeds: places(&seeded).into_iter().zip(seeds).collect(),
            gradients: places(&active).into_iter().zip(dx).collect(),
            function,
            params,
            active,
            results,
            times,
        })
    }

    fn group(&self, place: usize) -> Group {
        match place {
            _ if place < self.carried => Group::Carried,
            _ if place < self.carried + self.scanned => Group::Scanned,
            _ => Group::Closed,
        }
    }

    /// The cotangents of a group's active parameters.
    fn gradients_of(&self, group: Group) -> Vec<(usize, Value)> {
        self.gradients.iter().filter(|(place, _)| self.group(**place) == group).map(|(place, value)| (*place, *value)).collect()
    }

    /// What an iteration of the backward scan leaves: cotangents of what is carried and scanned, terms of sums, what is stacked for sums.
    fn roots(&self, totals: &Totals) -> Vec<Value> {
        let own = [Group::Carried, Group::Scanned].map(|group| self.gradients_of(group).into_iter().map(|(_, value)| value));
        let stacked = totals.stacked.iter().copied().filter(|value| self.times.is_late(*value));
        own.into_iter().flatten().chain(totals.terms.iter().copied()).chain(stacked).collect()
    }

    fn residuals(&self, totals: &Totals) -> Residuals {
        let forced = totals.stacked.iter().copied().filter(|value| !self.times.is_late(*value)).collect();
        Residuals::choose(&self.function.graph, &self.times, &self.roots(totals), forced)
    }
}

/// The forward scan, and where residuals are in the graph around it.
struct Saved {
    node: NodeId,
    /// The scan's own results.
    values: Vec<Value>,
    /// Stacks of early values of the body.
    stacks: BTreeMap<Value, Value>,
}

/// The scan with residuals among what it stacks. What the iteration finds in a carried value the one before left there.
fn save(
    module: &mut Module,
    graph: &mut Graph,
    node: NodeId,
    op: &Scan,
    body: &Body,
    residuals: &Residuals,
) -> Result<Saved, Diag> {
    let (args, loc) = (graph.args(node), graph.loc(node).clone());
    let mut results = body.results.clone();
    let place_of = |param: Value| body.params.iter().position(|own| *own == param);
    let mut added = |value: Value| {
        let there = (op.carried..results.len()).find(|place| results[*place] == value);
        there.unwrap_or_else(|| {
            results.push(value);
            results.len() - 1
        })
    };
    let mut stacked = Vec::new();
    for value in &residuals.saved {
        match place_of(*value) {
            Some(place) if body.group(place) == Group::Scanned => {}
            Some(place) => stacked.push((*value, added(body.results[place]), Some(place))),
            None => stacked.push((*value, added(*value), None)),
        }
    }
    let mut by = node;
    if results.len() > body.results.len() {
        let mut function = body.function.clone();
        set_params(&mut function, &body.params);
        set_results(&mut function, &results);
        let _ = remove_dead_nodes(&mut function);
        let slices = &function.result_types()[op.results.len()..];
        let types = op.results.iter().cloned().chain(slices.iter().map(|slice| stack_of(&op.trip, slice))).collect();
        let name = function.name.clone();
        let new = Scan { body: add(module, function, &name, "saving"), results: types, ..op.clone() };
        by = graph.add(Op::Scan(new), &args, loc.clone())?;
    }
    let all = outs(by, 0..results.len());
    let mut stacks: BTreeMap<Value, Value> = BTreeMap::new();
    for (place, param) in body.params.iter().enumerate().skip(op.carried).take(op.scanned) {
        stacks.insert(*param, args[place]);
    }
    for (value, out, carried) in stacked {
        let stack = match carried {
            Some(place) => before(&mut Build::at(graph, &loc), op, args[place], all[out])?,
            None => all[out],
        };
        stacks.insert(value, stack);
    }
    Ok(Saved { node: by, values: outs(by, 0..op.results.len()), stacks })
}

/// What iterations found, from what they left and from the start.
fn before(b: &mut Build<'_>, op: &Scan, start: Value, left: Value) -> Result<Value, Diag> {
    let first = stack_of(&Dim::ONE, b.ty(start));
    let first = b.add(Op::Reshape(first.shape), &[start])?;
    let (order, from) = if op.reverse { ([left, first], Dim::ONE) } else { ([first, left], Dim::ZERO) };
    let all = b.add(Op::Concat(0), &order)?;
    let axis = |(axis, size): (usize, &Dim)| {
        let (start, size) = if axis == 0 { (from.clone(), op.trip.clone()) } else { (Dim::ZERO, size.clone()) };
        SliceAxis { start, size, step: 1 }
    };
    let axes = b.ty(all).shape.clone().iter().enumerate().map(axis).collect();
    b.add(Op::Slice(axes), &[all])
}

/// The backward scan in the graph, and what its results are.
struct Backward {
    node: NodeId,
    /// Places of active carried operands.
    carried: Vec<usize>,
    /// Terms that are summed up from one iteration to the next.
    terms: Vec<Value>,
    /// Places of active scanned operands.
    scanned: Vec<usize>,
    /// Late values that are stacked.
    stacked: Vec<Value>,
}

impl Body {
    fn backward(
        &self,
        module: &mut Module,
        graph: &mut Graph,
        (op, loc): (&Scan, Loc),
        totals: &Totals,
        (residuals, saved): (&Residuals, &Saved),
        cotangents: &[Option<Value>],
    ) -> Result<Backward, Diag> {
        let mut b = Copier::new(self, residuals, &loc);
        let needed = b.needed(&self.roots(totals));
        let places = |group: Group| self.gradients_of(group).into_iter().map(|(place, _)| place).collect::<Vec<_>>();
        let (carried, scanned) = (places(Group::Carried), places(Group::Scanned));
        let (mut takes, mut operands) = ([Vec::new(), Vec::new(), Vec::new()], [Vec::new(), Vec::new(), Vec::new()]);
        for (place, seed) in &self.seeds {
            let group = usize::from(*place >= self.carried);
            takes[group].push(b.param(*seed));
            let zero = |graph: &mut Graph| Build::at(graph, &loc).zeros(&op.results[*place]);
            operands[group].push(cotangents[*place].unwrap_or_else(|| zero(graph)));
        }
        let mut sums = Vec::new();
        for term in &totals.terms {
            let ty = self.function.graph.ty(*term);
            // Summed as a reduction is: 16-bit floats would stop growing.
            let ty = Type::new(ty.dtype.compute(), ty.shape.clone());
            sums.push(b.function.add_param(ty.clone(), Role::Arg("sum".to_owned()), loc.clone()).into());
            operands[0].push(Build::at(graph, &loc).zeros(&ty));
        }
        takes[0].extend(&sums);
        for value in needed.iter().filter(|value| saved.stacks.contains_key(value)) {
            takes[1].push(b.param(*value));
            operands[1].push(saved.stacks[value]);
        }
        let args = graph.args(saved.node);
        for (place, param) in self.params.iter().enumerate().skip(self.carried + self.scanned) {
            if needed.contains(param) {
                takes[2].push(b.param(*param));
                operands[2].push(args[place]);
            }
        }
        b.copy(&needed)?;
        let mut gives: Vec<Value> = carried.iter().map(|place| b.values[&self.gradients[place]]).collect();
        for (term, sum) in totals.terms.iter().zip(sums) {
            let term = b.values[term];
            let mut build = Build::at(&mut b.function.graph, &loc);
            let wide = build.ty(sum).dtype;
            let term = converted(&mut build, term, wide)?;
            gives.push(build.sum_of(sum, term));
        }
        gives.extend(scanned.iter().map(|place| b.values[&self.gradients[place]]));
        let stacked: Vec<Value> = totals.stacked.iter().copied().filter(|value| self.times.is_late(*value)).collect();
        gives.extend(stacked.iter().map(|value| b.values[value]));
        set_params(&mut b.function, &takes.concat());
        set_results(&mut b.function, &gives);
        let count = takes[0].len();
        let types: Vec<Type> = b.function.result_types();
        let results = types[..count].iter().cloned().chain(types[count..].iter().map(|ty| stack_of(&op.trip, ty))).collect();
        let body = add(module, b.function, &self.function.name, "vjp");
        let (trip, reverse) = (op.trip.clone(), !op.reverse);
        let new = Op::Scan(Scan { body, trip, carried: count, scanned: takes[1].len(), reverse, at_once: false, results });
        let node = graph.add(new, &operands.concat(), loc)?;
        Ok(Backward { node, carried, terms: totals.terms.clone(), scanned, stacked })
    }
}

impl Backward {
    fn derivatives(&self, graph: &mut Graph, body: &Body, totals: &Totals, saved: &Saved) -> Result<Vec<(usize, Value)>, Diag> {
        let count = self.carried.len() + self.terms.len();
        let all = outs(self.node, 0..count + self.scanned.len() + self.stacked.len());
        let mut found: Vec<(usize, Value)> = self.carried.iter().copied().zip(all.iter().copied()).collect();
        found.extend(self.scanned.iter().copied().zip(all[count..].iter().copied()));
        let loc = graph.loc(self.node).clone();
        let mut sums: BTreeMap<Value, Value> = BTreeMap::new();
        for (term, sum) in self.terms.iter().zip(&all[self.carried.len()..count]) {
            let dtype = body.function.graph.ty(*term).dtype;
            sums.insert(*term, converted(&mut Build::at(graph, &loc), *sum, dtype)?);
        }
        let mut stacks = saved.stacks.clone();
        stacks.extend(self.stacked.iter().copied().zip(all[count + self.scanned.len()..].iter().copied()));
        for (place, gradient) in body.gradients_of(Group::Closed) {
            let total = totals.value(&mut Build::at(graph, &loc), &body.function.graph, gradient, (&mut sums, &stacks))?;
            found.push((place, total));
        }
        debug_assert!(found.iter().all(|(place, _)| body.active[*place]), "G5: only active operands have cotangents");
        Ok(found)
    }
}

/// The value in another type, if it is not of it.
fn converted(b: &mut Build<'_>, value: Value, dtype: DType) -> Result<Value, Diag> {
    if b.ty(value).dtype == dtype { Ok(value) } else { b.add(Op::Cast(dtype), &[value]) }
}

/// The body of the backward scan under construction.
struct Copier<'a> {
    body: &'a Body,
    residuals: &'a Residuals,
    function: Function,
    /// Values of the differentiated body in the new one.
    values: BTreeMap<Value, Value>,
    loc: Loc,
}

impl<'a> Copier<'a> {
    fn new(body: &'a Body, residuals: &'a Residuals, loc: &Loc) -> Self {
        Self { body, residuals, function: Function::new(""), values: BTreeMap::new(), loc: loc.clone() }
    }

    /// A parameter for a value of the body.
    fn param(&mut self, value: Value) -> Value {
        let ty = self.body.function.graph.ty(value).clone();
        let param = self.function.add_param(ty, Role::Arg(format!("x{}", self.function.params.len())), self.loc.clone()).into();
        self.values.insert(value, param);
        param
    }

    /// Every value that these are computed from, themselves among them, as far as residuals and parameters.
    fn needed(&self, roots: &[Value]) -> BTreeSet<Value> {
        let (mut found, mut open) = (BTreeSet::new(), roots.to_vec());
        while let Some(value) = open.pop() {
            let fresh = found.insert(value);
            if fresh && !self.residuals.saved.contains(&value) {
                open.extend(self.body.function.graph.args(value.node));
            }
        }
        found
    }

    fn copy(&mut self, needed: &BTreeSet<Value>) -> Result<(), Diag> {
        let graph = &self.body.function.graph;
        let nodes: BTreeSet<NodeId> =
            needed.iter().filter(|value| !self.values.contains_key(value)).map(|value| value.node).collect();
        for node in graph.topo().into_iter().filter(|node| nodes.contains(node)) {
            let args: Vec<Value> = graph.args(node).iter().map(|arg| self.values[arg]).collect();
            let new = self.function.graph.add(graph.op(node).clone(), &args, graph.loc(node).clone())?;
            let count = graph.node(node).outs.len();
            for (out, value) in outs(node, 0..count).into_iter().zip(outs(new, 0..count)) {
                self.values.entry(out).or_insert(value);
            }
        }
        Ok(())
    }
}
