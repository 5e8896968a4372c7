//! Bodies of control flow while they are recorded: functions of the module that may use what is around them.
//!
//! A tensor made around a body becomes one of its parameters, and an operand of the operation that applies it; so do a slot of state
//! that it reads and the random key. What that operation does with them (carry, scan, close over) is told once the body is whole.

use std::collections::BTreeMap;
use std::panic::Location;

use graver_ir::{DType, Diag, FuncId, Function, Param, Role, Shape, Sink, StateId, Type, Value};

use crate::context::{Frame, Trace, Traced, with, with_any};
use crate::tensor::Tensor;

/// What a body has met of its surroundings.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// Tensors made around the body, and the parameters that they are inside.
    captured: Vec<(Tensor, Value)>,
    /// Slots of state, as the body finds and leaves them.
    states: BTreeMap<StateId, Cell>,
    /// The random key.
    key: Option<Tensor>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    found: Option<Tensor>,
    left: Option<Tensor>,
}

impl Trace {
    fn surroundings(&mut self) -> Option<&mut Surroundings> {
        self.frames.last_mut().and_then(|frame| frame.body.as_mut())
    }

    /// A tensor made around the body as a parameter of it.
    pub(crate) fn capture(&mut self, x: Tensor, func: FuncId, value: Value) -> Value {
        let ty = self.module.function(func).graph.ty(value).clone();
        let loc = self.module.function(func).graph.loc(value.node).clone();
        let surroundings = self.surroundings().expect("the body of a composite uses only its own operands");
        if let Some((_, known)) = surroundings.captured.iter().find(|(captured, _)| captured.index() == x.index()) {
            return *known;
        }
        let own = self.frame().func;
        let param = self.module.function_mut(own).add_param(ty, Role::Arg("closed".to_owned()), loc).into();
        if let Some(surroundings) = self.surroundings() {
            surroundings.captured.push((x, param));
        }
        param
    }

    /// A slot of state, with what was set so far where the trace stands.
    pub(crate) fn state_value(&mut self, id: StateId) -> Tensor {
        if self.frame().body.is_none() {
            let slot = &self.state[id.0 as usize];
            return slot.update.unwrap_or(slot.input);
        }
        let cell = self.cell(id);
        if let Some(known) = cell.left.or(cell.found) {
            return known;
        }
        let ty = self.module.state_decl(id).ty.clone();
        let found = self.hidden(ty, "state");
        self.set_cell(id, Cell { found: Some(found), left: None });
        found
    }

    /// Whether the slot was set, here or around.
    pub(crate) fn is_updated(&self, id: StateId) -> bool {
        let in_body = |frame: &Frame| {
            let cell = frame.body.as_ref().and_then(|body| body.states.get(&id));
            cell.is_some_and(|cell| cell.left.is_some())
        };
        self.state[id.0 as usize].update.is_some() || self.frames.iter().any(in_body)
    }

    /// Leaves another value in the slot.
    pub(crate) fn update_state(&mut self, id: StateId, value: Tensor) {
        if self.frame().body.is_none() {
            self.state[id.0 as usize].update = Some(value);
            return;
        }
        let cell = self.cell(id);
        self.set_cell(id, Cell { left: Some(value), ..cell });
    }

    /// The key of the body under construction; `None` outside of bodies.
    pub(crate) fn key_in_body(&mut self) -> Option<Tensor> {
        if let Some(key) = self.surroundings()?.key {
            return Some(key);
        }
        let key = self.hidden(Type::new(DType::U32, Shape::new([4])), "key");
        self.surroundings()?.key = Some(key);
        Some(key)
    }

    fn cell(&mut self, id: StateId) -> Cell {
        self.surroundings().and_then(|body| body.states.get(&id).copied()).unwrap_or_default()
    }

    fn set_cell(&mut self, id: StateId, cell: Cell) {
        if let Some(body) = self.surroundings() {
            body.states.insert(id, cell);
        }
    }

    /// A parameter of the function under construction that the user's code does not name.
    fn hidden(&mut self, ty: Type, name: &str) -> Tensor {
        let func = self.frame().func;
        let param = self.module.function_mut(func).add_param(ty, Role::Arg(name.to_owned()), graver_ir::Loc::UNKNOWN);
        self.tensor(Some(param.into()))
    }
}

/// A body that is recorded.
pub(crate) struct Body<R> {
    pub(crate) func: FuncId,
    /// The parameters that were asked for.
    pub(crate) params: Vec<Value>,
    /// What the user's code gave.
    pub(crate) results: Vec<Value>,
    /// What it gave, as it gave it.
    pub(crate) given: R,
    pub(crate) met: Met,
}

/// What a recorded body has met, in values of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    pub(crate) captured: Vec<(Tensor, Value)>,
    /// What was found and what was left, where it was set.
    pub(crate) states: BTreeMap<StateId, (Option<Value>, Option<Value>)>,
    pub(crate) key: Option<Value>,
    /// The key of the next iteration, where that is asked for.
    pub(crate) next_key: Option<Value>,
}

/// What becomes of the key at a body's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyAtEnd {
    /// Nothing.
    Stays,
    /// The body makes that of the next iteration.
    Advances,
}

/// Records a body. `f` may run user code; it gives its results and what else is to be kept of it.
#[track_caller]
pub(crate) fn record<R>(
    name: &str,
    types: &[Type],
    at_end: KeyAtEnd,
    f: impl FnOnce(&[Tensor]) -> (Vec<Tensor>, R),
) -> Result<Body<R>, (crate::context::Failed, R)> {
    struct Pop(usize);
    impl Drop for Pop {
        fn drop(&mut self) {
            with_any(|trace| trace.into_iter().for_each(|trace| trace.frames.truncate(self.0)));
        }
    }
    let line = Location::caller();
    let (func, tensors, pop) = with(|trace| {
        let func = trace.module.add(Function::new(""));
        trace.module.function_mut(func).name = format!("{name}.{}", func.0);
        trace.frames.push(Frame { func, call: None, body: Some(Surroundings::default()) });
        let param = |(place, ty): (usize, &Type)| trace.param(ty.clone(), Role::Arg(format!("x{place}")), line);
        let params: Vec<Tensor> = types.iter().enumerate().map(param).collect();
        (func, params, Pop(trace.frames.len() - 1))
    });
    let (results, given) = f(&tensors);
    let closed = close(&tensors, &results, at_end);
    drop(pop);
    match closed {
        Ok((params, results, met)) => Ok(Body { func, params, results, given, met }),
        Err(failed) => {
            // A half-built function is not part of the program.
            with(|trace| trace.module.functions.remove(&func));
            Err((failed, given))
        }
    }
}

#[track_caller]
fn close(params: &[Tensor], results: &[Tensor], at_end: KeyAtEnd) -> Traced<(Vec<Value>, Vec<Value>, Met)> {
    let key = with(|trace| trace.surroundings().and_then(|body| body.key));
    let next = match (key, at_end) {
        (Some(key), KeyAtEnd::Advances) => Some(next_key(key)?),
        (_, KeyAtEnd::Stays) | (None, _) => None,
    };
    with(|trace| {
        let (params, results) = (trace.values(params)?, trace.values(results)?);
        let [key, next_key] = [key, next].map(|key| key.map(|key| trace.value(key)).transpose());
        let cells = trace.surroundings().map(|body| body.states.clone()).unwrap_or_default();
        let mut states = BTreeMap::new();
        for (id, cell) in cells {
            let [found, left] = [cell.found, cell.left].map(|of| of.map(|of| trace.value(of)).transpose());
            states.insert(id, (found?, left?));
        }
        // Last: a result may be what only then is closed over.
        let captured = trace.surroundings().map(|body| body.captured.clone()).unwrap_or_default();
        Ok((params, results, Met { captured, states, key: key?, next_key: next_key? }))
    })
}

/// A key of its own, from one that others draw by.
#[track_caller]
pub(super) fn next_key(key: Tensor) -> Traced {
    let next = crate::ops::random::split(key, &graver_ir::Dim::ONE)?;
    crate::context::emit(graver_ir::Op::Reshape(Shape::new([4])), &[next])
}

/// Gives a body its parameters and results in the order that the operation wants. A parameter that it does not have is added: it uses
/// it for nothing.
pub(crate) fn arrange(trace: &mut Trace, func: FuncId, params: &[Result<Value, Type>], results: &[Value]) {
    let function = trace.module.function_mut(func);
    let mut order: Vec<Param> = Vec::new();
    for param in params {
        let value = match param {
            Ok(value) => *value,
            Err(ty) => function.add_param(ty.clone(), Role::Arg("unused".to_owned()), graver_ir::Loc::UNKNOWN).into(),
        };
        let known = function.params.iter().find(|param| param.node == value.node);
        order.push(known.expect("a body's parameters are its own").clone());
    }
    function.params = order;
    results.iter().for_each(|value| function.add_result(*value, Sink::Out));
}

/// What a body must give for what it carries.
pub(crate) fn check_carried(trace: &Trace, func: FuncId, what: &str, wanted: &[Type], results: &[Value]) -> Traced<()> {
    let graph = &trace.module.function(func).graph;
    if wanted.len() != results.len() {
        return crate::context::wrong(format!("{what} {} tensors, the body gives {}", wanted.len(), results.len()));
    }
    let types = wanted.iter().zip(results).map(|(wanted, value)| (wanted, graph.ty(*value)));
    match types.enumerate().find(|(_, (wanted, given))| wanted != given) {
        None => Ok(()),
        Some((place, (wanted, given))) => Err(Diag::new(format!("{what} {wanted} as tensor {place}, the body gives {given}"))
            .help("an iteration must leave the type that it starts from: cast or reshape the start")
            .into()),
    }
}
