//! From recorded bodies to operations: what is carried, what is scanned and what is closed over, and what becomes of state and keys.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::op::{Call, Composite, If, Scan, While, stack_of};
use graver_ir::{DType, Diag, Dim, FuncId, Op, StateId, Type, Value};

use super::body::{Body, Met, arrange, check_carried, next_key};
use super::types_of;
use crate::context::{Traced, emit_all, with, wrong};
use crate::ops::random::{key, split};
use crate::size::Size;
use crate::state::StateCell;
use crate::tensor::Tensor;

/// Which slice is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forwards,
    Backwards,
    /// All at once.
    AtOnce,
}

/// The types of what is carried, and of a slice of everything that is scanned.
pub(super) fn slices(start: &[Tensor], scanned: &[Tensor]) -> Traced<(Vec<Type>, Vec<Type>)> {
    let stacks = types_of(scanned)?;
    let Some(first) = stacks.first() else {
        return Err(Diag::new("there is nothing to scan, so the number of iterations is unknown")
            .help("scan the numbers of iterations: arange")
            .into());
    };
    for ty in &stacks {
        if ty.shape.is_empty() {
            return wrong(format!("{ty} has no first axis, along which slices are taken"));
        }
        if ty.shape.first() != first.shape.first() {
            return wrong(format!("everything that is scanned has one first size, got {first} and {ty}"));
        }
    }
    Ok((types_of(start)?, stacks.iter().map(graver_ir::op::slice_of).collect()))
}

/// What the operation gets besides what the user named.
#[derive(Default)]
pub(super) struct Hidden {
    pub(super) operands: Vec<Tensor>,
    pub(super) params: Vec<Result<Value, Type>>,
}

impl Hidden {
    pub(super) fn types(&self) -> Traced<Vec<Type>> {
        types_of(&self.operands)
    }

    pub(super) fn add(&mut self, operand: Tensor, param: Option<Value>) -> Traced<()> {
        let ty = operand.ty()?;
        self.operands.push(operand);
        self.params.push(param.ok_or(ty));
        Ok(())
    }
}

fn state(id: StateId) -> Tensor {
    StateCell(id).get()
}

/// The slots that a body sets, with what it leaves.
fn updated(met: &Met) -> Vec<(StateId, Value)> {
    met.states.iter().filter_map(|(id, (_, left))| left.map(|left| (*id, left))).collect()
}

fn found(met: &Met, id: StateId) -> Option<Value> {
    met.states.get(&id).and_then(|(found, _)| *found)
}

/// What a body closes over: captured tensors, and slots that nobody sets.
fn closed(met: &Met, carried: &BTreeSet<StateId>) -> Traced<Hidden> {
    let mut hidden = Hidden::default();
    for (outer, param) in &met.captured {
        hidden.add(*outer, Some(*param))?;
    }
    for (id, (param, _)) in met.states.iter().filter(|(id, _)| !carried.contains(id)) {
        hidden.add(state(*id), *param)?;
    }
    Ok(hidden)
}

#[track_caller]
pub(super) fn scan<R>(
    (direction, trip): (Direction, Dim),
    start: &[Tensor],
    scanned: &[Tensor],
    carried: &[Type],
    body: &Body<R>,
) -> Traced<Vec<Tensor>> {
    let (kept, stacked) = body.results.split_at(carried.len().min(body.results.len()));
    with(|trace| check_carried(trace, body.func, "the scan carries", carried, kept))?;
    let updates = updated(&body.met);
    if direction == Direction::AtOnce && !updates.is_empty() {
        return Err(Diag::new("state is set inside, where every instance would leave another value in it")
            .help("give back what is to be kept, and set the state after the map")
            .into());
    }
    let (mut states, mut keys) = (Hidden::default(), Hidden::default());
    for (id, _) in &updates {
        states.add(state(*id), found(&body.met, *id))?;
    }
    if let Some(param) = body.met.key {
        keys.add(split(key(), &trip)?, Some(param))?;
    }
    let hidden = closed(&body.met, &updates.iter().map(|(id, _)| *id).collect())?;
    let own = |values: &[Value]| values.iter().copied().map(Ok).collect::<Vec<_>>();
    let (own_carried, own_slices) = body.params.split_at(start.len());
    let params = [own(own_carried), states.params, own(own_slices), keys.params, hidden.params].concat();
    let left: Vec<Value> = updates.iter().map(|(_, left)| *left).collect();
    let results = with(|trace| {
        arrange(trace, body.func, &params, &[kept, &left, stacked].concat());
        trace.module.function(body.func).result_types()
    });
    let count = start.len() + left.len();
    let stacks = results[count..].iter().map(|slice| stack_of(&trip, slice));
    let op = Scan {
        body: body.func,
        carried: count,
        scanned: scanned.len() + keys.operands.len(),
        reverse: direction == Direction::Backwards,
        at_once: direction == Direction::AtOnce,
        results: results[..count].iter().cloned().chain(stacks).collect(),
        trip,
    };
    let operands = [start, &states.operands, scanned, &keys.operands, &hidden.operands].concat();
    let outs = emit_all(Op::Scan(op), &operands)?;
    leave(&updates, &outs[start.len()..count]);
    Ok([&outs[..start.len()], &outs[count..]].concat())
}

/// Sets the slots that a body has set.
fn leave(updates: &[(StateId, Value)], values: &[Tensor]) {
    for ((id, _), value) in updates.iter().zip(values) {
        with(|trace| trace.update_state(*id, *value));
    }
}

#[track_caller]
pub(super) fn repeat(
    most: Option<Size>,
    start: &[Tensor],
    types: &[Type],
    test: Body<()>,
    body: Body<()>,
) -> Traced<Vec<Tensor>> {
    let most = most.map(Size::to_dim).transpose()?;
    condition(with(|trace| trace.module.function(test.func).graph.ty(test.results[0]).clone()))?;
    with(|trace| check_carried(trace, body.func, "the loop carries", types, &body.results))?;
    if !updated(&test.met).is_empty() {
        return wrong("a condition cannot set state");
    }
    let updates = updated(&body.met);
    let carried: BTreeSet<StateId> = updates.iter().map(|(id, _)| *id).collect();
    // Both functions take the same operands: what one does not know it does not use.
    let mut hidden = Hidden::default();
    let mut test_params: Vec<Result<Value, Type>> = Vec::new();
    let mut both = |operand: Tensor, own: Option<Value>, tests: Option<Value>| -> Traced<()> {
        hidden.add(operand, own)?;
        test_params.push(tests.ok_or(operand.ty()?));
        Ok(())
    };
    for (id, _) in &updates {
        both(state(*id), found(&body.met, *id), found(&test.met, *id))?;
    }
    let key_is_used = body.met.key.is_some() || test.met.key.is_some();
    if key_is_used {
        both(key(), body.met.key, test.met.key)?;
    }
    let count = start.len() + updates.len() + usize::from(key_is_used);
    for (outer, own, tests) in union(&body.met, &test.met, &carried) {
        both(outer, own, tests)?;
    }
    let own = |values: &[Value]| values.iter().copied().map(Ok).collect::<Vec<_>>();
    let left: Vec<Value> = updates.iter().map(|(_, left)| *left).chain(body.met.next_key).collect();
    if key_is_used && body.met.next_key.is_none() {
        return wrong("a condition draws random numbers, its loop's body none: they would be the same in every iteration");
    }
    with(|trace| {
        arrange(trace, body.func, &[own(&body.params), hidden.params].concat(), &[&body.results[..], &left].concat());
        arrange(trace, test.func, &[own(&test.params), test_params].concat(), &test.results);
    });
    let op = While { cond: test.func, body: body.func, carried: count, most };
    let outs = emit_all(Op::While(op), &[start, &hidden.operands].concat())?;
    leave(&updates, &outs[start.len()..start.len() + updates.len()]);
    Ok(outs[..start.len()].to_vec())
}

/// What two bodies close over: the parameter that it is in each, if it is.
type InBoth = (Tensor, Option<Value>, Option<Value>);

/// What either body closes over, but for slots that are carried.
fn union(x: &Met, y: &Met, carried: &BTreeSet<StateId>) -> Vec<InBoth> {
    let mut tensors: BTreeMap<usize, InBoth> = BTreeMap::new();
    let mut note = |outer: Tensor, param: Option<Value>, second: bool| {
        let entry = tensors.entry(outer.index()).or_insert((outer, None, None));
        let place = if second { &mut entry.2 } else { &mut entry.1 };
        *place = param;
    };
    for (met, second) in [(x, false), (y, true)] {
        met.captured.iter().for_each(|(outer, param)| note(*outer, Some(*param), second));
    }
    let mut all: Vec<_> = tensors.into_values().collect();
    let ids: BTreeSet<StateId> = x.states.keys().chain(y.states.keys()).copied().collect();
    all.extend(ids.difference(carried).map(|id| (state(*id), found(x, *id), found(y, *id))));
    all
}

/// A body as a function that is called, and what its calls take beside the operands.
#[derive(Debug)]
pub(super) struct Called {
    func: FuncId,
    results: Vec<Type>,
    hidden: Vec<Taken>,
    /// The slots that it sets, whose values are its last results.
    sets: Vec<StateId>,
}

/// What a call takes beside its operands.
#[derive(Clone, Copy, Debug)]
enum Taken {
    /// What the body closes over.
    Closed(Tensor),
    /// A slot of state.
    State(StateId),
    /// The random key.
    Key,
}

impl Called {
    pub(super) fn of<R>(body: &Body<R>) -> Self {
        let type_of = |id: StateId| with(|trace| trace.module.state_decl(id).ty.clone());
        let closed = body.met.captured.iter().map(|(outer, param)| (Taken::Closed(*outer), Ok(*param)));
        let states = body.met.states.iter().map(|(id, (param, _))| (Taken::State(*id), param.ok_or_else(|| type_of(*id))));
        let key = body.met.key.map(|param| (Taken::Key, Ok(param)));
        let (hidden, params): (Vec<Taken>, Vec<Result<Value, Type>>) = closed.chain(states).chain(key).unzip();
        let (sets, left): (Vec<StateId>, Vec<Value>) = updated(&body.met).into_iter().unzip();
        let own: Vec<Result<Value, Type>> = body.params.iter().copied().map(Ok).collect();
        let results = with(|trace| {
            arrange(trace, body.func, &[own, params].concat(), &[&body.results[..], &left].concat());
            trace.module.function(body.func).result_types()
        });
        Self { func: body.func, results, hidden, sets }
    }

    /// The slots that it reads or sets.
    pub(super) fn states(&self) -> impl Iterator<Item = StateId> + '_ {
        self.hidden.iter().filter_map(|taken| if let Taken::State(id) = taken { Some(*id) } else { None })
    }

    /// Its results of these operands, with `slot` in the place of each slot of state.
    #[track_caller]
    pub(super) fn call(&self, tag: Option<Composite>, args: &[Tensor], slot: impl Fn(StateId) -> StateId) -> Traced<Vec<Tensor>> {
        let hidden = self.hidden.iter().map(|taken| match taken {
            Taken::Closed(outer) => Ok(*outer),
            Taken::State(id) => Ok(state(slot(*id))),
            // What is computed again draws the same numbers; what is done again draws others.
            Taken::Key if tag == Some(Composite::Checkpoint) => Ok(key()),
            Taken::Key => next_key(key()),
        });
        let args: Vec<Tensor> = args.iter().copied().map(Ok).chain(hidden).collect::<Traced<_>>()?;
        let op = Op::Call(Call { func: self.func, tag, vjp: None, results: self.results.clone() });
        let mut outs = emit_all(op, &args)?;
        let left = outs.split_off(outs.len() - self.sets.len());
        for (id, value) in self.sets.iter().zip(left) {
            with(|trace| trace.update_state(slot(*id), value));
        }
        Ok(outs)
    }
}

fn condition(ty: Type) -> Traced<()> {
    if ty == Type::scalar(DType::Bool) {
        return Ok(());
    }
    Err(Diag::new(format!("a condition is one bool, got {ty}")).help("compare, then take all() or any()").into())
}

#[track_caller]
pub(super) fn branch<R>(holds: Tensor, then: &Body<R>, otherwise: &Body<R>) -> Traced<Vec<Tensor>> {
    condition(holds.ty()?)?;
    let set: BTreeSet<StateId> = [then, otherwise].iter().flat_map(|arm| updated(&arm.met)).map(|(id, _)| id).collect();
    let (mut hidden, mut second): (Hidden, Vec<Result<Value, Type>>) = Default::default();
    let mut both = |operand: Tensor, own: Option<Value>, other: Option<Value>| -> Traced<()> {
        hidden.add(operand, own)?;
        second.push(other.ok_or(operand.ty()?));
        Ok(())
    };
    let seen = union(&then.met, &otherwise.met, &BTreeSet::new());
    for (outer, own, other) in seen {
        both(outer, own, other)?;
    }
    if then.met.key.is_some() || otherwise.met.key.is_some() {
        both(key(), then.met.key, otherwise.met.key)?;
    }
    let params = [hidden.params, second];
    let mut results = Vec::new();
    for (arm, params) in [then, otherwise].into_iter().zip(&params) {
        results.push(with(|trace| {
            arrange(trace, arm.func, params, &arm.results);
            let function = trace.module.function_mut(arm.func);
            // An arm that does not set a slot leaves it as it is.
            for id in &set {
                let (found, left) = arm.met.states.get(id).copied().unwrap_or_default();
                let place = place_of_slot(&then.met, &otherwise.met, *id);
                let kept = || Value::from(function.params[place].node);
                let value = left.or(found).unwrap_or_else(kept);
                function.add_result(value, graver_ir::Sink::Out);
            }
            function.result_types()
        }));
    }
    let mut pairs = results[0].iter().zip(&results[1]).enumerate();
    if let Some((place, (x, y))) = pairs.find(|(_, (x, y))| x != y) {
        return wrong(format!("the two closures give {x} and {y} as tensor {place}"));
    }
    let results = results.swap_remove(0);
    let op = If { then: then.func, otherwise: otherwise.func, results };
    let outs = emit_all(Op::If(op), &[&[holds], &hidden.operands[..]].concat())?;
    let (own, states) = outs.split_at(then.results.len());
    for (id, value) in set.iter().zip(states) {
        with(|trace| trace.update_state(*id, *value));
    }
    Ok(own.to_vec())
}

/// The place of a slot among the operands of a branch: after the captured tensors, in the order of slots.
fn place_of_slot(x: &Met, y: &Met, id: StateId) -> usize {
    let tensors: BTreeSet<usize> = x.captured.iter().chain(&y.captured).map(|(outer, _)| outer.index()).collect();
    let ids: BTreeSet<StateId> = x.states.keys().chain(y.states.keys()).copied().collect();
    tensors.len() + ids.into_iter().take_while(|other| *other != id).count()
}
