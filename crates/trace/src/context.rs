//! The trace under construction: a thread-local stack of traces, into the innermost of which every operation is recorded.
//!
//! Invariants: a [`Tensor`] names an entry of one trace, and is refused in any other; no borrow of the stack is held while
//! user code runs; a trace leaves the stack when its [`Guard`] drops, unwinding included. An operation that fails records
//! one [`Diag`] and gives a poisoned tensor, and what is computed from that fails without a word.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use graver_ir::{Diag, Dim, FuncId, Function, Loc, Module, Op, Place, Role, Sink, StateDecl, StateId, Symbol, Type, Value};
use rustc_hash::FxHashMap;

use crate::control::Surroundings;
use crate::param::ParamId;
use crate::state::{Origin, StateKey};
use crate::tap::Tap;
use crate::tensor::Tensor;

/// How many errors a trace keeps: more are consequences more often than news.
const MAX_ERRORS: usize = 20;

/// The function that a trace builds; the others are composites.
const ROOT: FuncId = FuncId(0);

/// Whether layers behave as in training or as in evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout drops, batch norm uses and updates the statistics of the batch.
    Train,
    /// Layers are functions of their input and parameters.
    Eval,
}

/// Why an operation gave no tensor.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// An operand is poisoned: the cause is recorded already.
    Poisoned,
    /// It is wrong: what, both sides, what to do.
    Wrong(Box<Diag>),
}

/// What recording gives.
pub(crate) type Traced<T = Tensor> = Result<T, Failed>;

impl From<Diag> for Failed {
    fn from(diag: Diag) -> Self {
        Self::Wrong(Box::new(diag))
    }
}

/// A failure with this message.
pub(crate) fn wrong<T>(message: impl Into<String>) -> Traced<T> {
    Err(Diag::new(message).into())
}

/// The payload that unwinds from a shape query on a poisoned tensor to the trace, past the user's code, in silence.
pub(crate) struct Quiet;

pub(crate) fn unwind() -> ! {
    std::panic::resume_unwind(Box::new(Quiet))
}

/// What a trace knows of a tensor: its function, and its value unless it is poisoned.
#[derive(Clone, Copy, Debug)]
struct Slot {
    func: FuncId,
    value: Option<Value>,
}

/// A composite is built once for each of these: a name with its attributes, and the operands' types.
pub(crate) type CompositeKey = (String, Vec<Type>);

/// A slot of state that the trace has met.
#[derive(Clone, Debug)]
pub(crate) struct StateSlot {
    pub(crate) key: StateKey,
    pub(crate) origin: Origin,
    /// The value as the call found it.
    pub(crate) input: Tensor,
    /// The value that the call leaves, if it differs.
    pub(crate) update: Option<Tensor>,
}

/// A function under construction: the root, the body of a composite, which has one place (the call), or a body of control flow.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) func: FuncId,
    pub(crate) call: Option<Loc>,
    /// What a body of control flow has met of its surroundings.
    pub(crate) body: Option<Surroundings>,
}

/// An open scope: a path, and the line that opened it.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) path: Rc<str>,
    pub(crate) line: &'static Location<'static>,
    /// What the paths of the files begin with whose lines say nothing here.
    pub(crate) sources: Option<&'static str>,
}

/// One traced program.
#[derive(Debug)]
pub(crate) struct Trace {
    id: u32,
    pub(crate) module: Module,
    pub(crate) frames: Vec<Frame>,
    slots: Vec<Slot>,
    pub(crate) dims: Vec<Dim>,
    pub(crate) symbols: BTreeMap<String, Symbol>,
    pub(crate) errors: Vec<Diag>,
    pub(crate) composites: HashMap<CompositeKey, FuncId>,
    pub(crate) scopes: Vec<Scope>,
    /// The places of operations, by line and path. Never iterated over.
    locs: FxHashMap<(usize, u32, u32, Rc<str>), Loc>,
    pub(crate) mode: Mode,
    /// Whether state may be updated.
    pub(crate) updates: bool,
    pub(crate) streams: u32,
    /// The paths of the module's state, each with the number that the next of its name is tried with.
    taken: BTreeMap<String, u32>,
    /// One entry a slot of the module's state, in the same order.
    pub(crate) state: Vec<StateSlot>,
    pub(crate) state_ids: BTreeMap<StateKey, StateId>,
    /// What parameters stand for inside of derivatives, innermost last.
    pub(crate) bindings: Vec<BTreeMap<ParamId, Tensor>>,
    /// The paths of walked models' parameters.
    pub(crate) paths: BTreeMap<ParamId, String>,
    /// The paths of walked models' modules, by address and type.
    pub(crate) modules: HashMap<(usize, std::any::TypeId), String>,
    pub(crate) seed: u64,
    /// Values that were named for reading.
    pub(crate) taps: Vec<Tap>,
}

thread_local! {
    static STACK: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

/// Takes its trace off the stack when it drops, and what was begun inside and not ended with it.
pub(crate) struct Guard {
    depth: usize,
}

impl Guard {
    /// Begins a trace, which becomes the innermost one.
    pub(crate) fn begin(mode: Mode) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let trace = Trace::new(NEXT.fetch_add(1, Ordering::Relaxed), mode);
        STACK.with_borrow_mut(|stack| {
            stack.push(trace);
            Self { depth: stack.len() }
        })
    }

    /// Ends the trace.
    pub(crate) fn end(self) -> Trace {
        STACK.with_borrow_mut(|stack| {
            stack.truncate(self.depth);
            stack.pop().expect("a guard's trace is on the stack until the guard ends or drops")
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        STACK.with_borrow_mut(|stack| stack.truncate(self.depth - 1));
    }
}

/// Whether a trace is under construction on this thread.
#[must_use]
pub fn is_tracing() -> bool {
    STACK.with_borrow(|stack| !stack.is_empty())
}

/// The innermost trace. `f` must not run user code.
///
/// # Panics
/// Outside of any trace: there is nothing that could return an error.
#[track_caller]
pub(crate) fn with<R>(f: impl FnOnce(&mut Trace) -> R) -> R {
    let line = Location::caller();
    STACK.with_borrow_mut(|stack| match stack.last_mut() {
        Some(trace) => f(trace),
        None => panic!("{line}: tensors exist only while a function is traced; this one is used outside of compile and step"),
    })
}

/// The innermost trace, if there is one. `f` must not run user code.
pub(crate) fn with_any<R>(f: impl FnOnce(Option<&mut Trace>) -> R) -> R {
    STACK.with_borrow_mut(|stack| f(stack.last_mut()))
}

impl Trace {
    fn new(id: u32, mode: Mode) -> Self {
        let mut module = Module::default();
        module.functions.insert(ROOT, Function::new("main"));
        Self {
            id,
            module,
            frames: vec![Frame { func: ROOT, call: None, body: None }],
            slots: Vec::new(),
            dims: Vec::new(),
            symbols: BTreeMap::new(),
            errors: Vec::new(),
            composites: HashMap::new(),
            scopes: Vec::new(),
            locs: FxHashMap::default(),
            mode,
            updates: false,
            streams: 0,
            taken: BTreeMap::new(),
            state: Vec::new(),
            state_ids: BTreeMap::new(),
            bindings: Vec::new(),
            paths: BTreeMap::new(),
            modules: HashMap::new(),
            seed: 0,
            taps: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn frame(&self) -> &Frame {
        self.frames.last().expect("the root's frame is never popped")
    }

    /// The line that tells a user something: lines of the standard library (`map(Tensor::relu)`), of this crate's closures and
    /// of a library's layers do not, so the line that opened the scope stands for them.
    pub(crate) fn telling(&self, line: &'static Location<'static>) -> &'static Location<'static> {
        let begins = |sources: &str| line.file().starts_with(sources);
        let foreign = |scope: &&Scope| begins("/rustc/") || begins(crate::SOURCES) || scope.sources.is_some_and(begins);
        self.scopes.last().filter(foreign).map_or(line, |scope| scope.line)
    }

    /// The place of an operation: the user's line and scope. Inside a composite: unknown, which inlining makes the call.
    pub(crate) fn loc(&mut self, line: &'static Location<'static>) -> Loc {
        if self.frame().call.is_some() {
            return Loc::UNKNOWN;
        }
        let line = self.telling(line);
        let path = self.path();
        let key = (line.file().as_ptr().addr(), line.line(), line.column(), path);
        if let Some(known) = self.locs.get(&key) {
            return known.clone();
        }
        let place = Place {
            file: line.file().to_owned(),
            line: line.line(),
            column: line.column(),
            scope: key.3.as_ref().to_owned(),
            caller: Loc::UNKNOWN,
        };
        self.locs.entry(key).or_insert(Loc::new(place)).clone()
    }

    /// Records an error of the operation at `line`; a composite's errors are its call's.
    pub(crate) fn record(&mut self, diag: Diag, line: &'static Location<'static>) {
        let loc = self.frame().call.clone().unwrap_or_else(|| self.loc(line));
        let diag = diag.at(&loc);
        if self.errors.len() < MAX_ERRORS && !self.errors.contains(&diag) {
            self.errors.push(diag);
        }
    }

    /// A value of the function under construction as a tensor.
    pub(crate) fn tensor(&mut self, value: Option<Value>) -> Tensor {
        let func = self.frame().func;
        self.tensor_of(func, value)
    }

    fn tensor_of(&mut self, func: FuncId, value: Option<Value>) -> Tensor {
        self.slots.push(Slot { func, value });
        let index = u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 tensors in a trace");
        Tensor::new(self.id, index)
    }

    /// The function of a tensor of this trace that is under construction, and the tensor's value in it.
    fn made(&self, x: Tensor) -> Traced<(FuncId, Value)> {
        if x.trace() != self.id {
            return Err(Diag::new("a tensor of another trace is used here")
                .help("a tensor lives only inside the function that made it: pass the array as an argument")
                .into());
        }
        let slot = self.slots[x.index()];
        if !self.frames.iter().any(|frame| frame.func == slot.func) {
            return Err(Diag::new("a tensor of a loop's or a branch's body is used after it")
                .help("let the body give it back: what it carries, stacks or returns is there afterwards")
                .into());
        }
        Ok((slot.func, slot.value.ok_or(Failed::Poisoned)?))
    }

    /// Where a tensor of this trace was made, unless it is poisoned or its function is finished.
    pub(crate) fn whereabouts(&self, x: Tensor) -> Option<(FuncId, Value)> {
        self.made(x).ok()
    }

    /// The name, or the name with the first number, that no tap has.
    pub(crate) fn free_tap_name(&self, name: String) -> String {
        let taken = |name: &String| self.taps.iter().any(|tap| tap.name() == name);
        let numbered = (2..).map(|count| format!("{name}.{count}"));
        std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).expect("one of infinitely many is free")
    }

    /// The value of a tensor of this trace in the function under construction. A body of control flow closes over what was made
    /// around it.
    pub(crate) fn value(&mut self, x: Tensor) -> Traced<Value> {
        let (func, value) = self.made(x)?;
        if func == self.frame().func { Ok(value) } else { Ok(self.capture(x, func, value)) }
    }

    pub(crate) fn values(&mut self, args: &[Tensor]) -> Traced<Vec<Value>> {
        args.iter().map(|arg| self.value(*arg)).collect()
    }

    pub(crate) fn ty(&self, x: Tensor) -> Traced<Type> {
        let (func, value) = self.made(x)?;
        Ok(self.module.function(func).graph.ty(value).clone())
    }

    /// Records an operation.
    pub(crate) fn emit(&mut self, op: Op, args: &[Tensor], line: &'static Location<'static>) -> Traced<Vec<Tensor>> {
        let args = self.values(args)?;
        let loc = self.loc(line);
        let func = self.frame().func;
        let graph = &mut self.module.function_mut(func).graph;
        let node = graph.add(op, &args, loc)?;
        let outs = u16::try_from(graph.node(node).outs.len()).expect("I2: a node has fewer than 65536 results");
        Ok((0..outs).map(|out| self.tensor(Some(node.out(out)))).collect())
    }

    /// Adds a parameter to the function under construction.
    pub(crate) fn param(&mut self, ty: Type, role: Role, line: &'static Location<'static>) -> Tensor {
        let loc = self.loc(line);
        let func = self.frame().func;
        let node = self.module.function_mut(func).add_param(ty, role, loc);
        self.tensor(Some(node.into()))
    }

    /// Adds a slot of state, read by the root, whatever is under construction.
    pub(crate) fn lift(
        &mut self,
        key: StateKey,
        mut decl: StateDecl,
        origin: Origin,
        line: &'static Location<'static>,
    ) -> StateId {
        assert!(self.frame().func == ROOT || self.frame().body.is_some(), "the body of a composite reads no state");
        decl.path = self.unique_path(&decl.path);
        let ty = decl.ty.clone();
        let id = self.module.add_state(decl);
        let loc = self.loc(line);
        let node = self.module.function_mut(ROOT).add_param(ty, Role::State(id), loc);
        let input = self.tensor_of(ROOT, Some(node.into()));
        self.state.push(StateSlot { key: key.clone(), origin, input, update: None });
        self.state_ids.insert(key, id);
        id
    }

    /// The path, or the path with the first number that no slot has taken.
    fn unique_path(&mut self, path: &str) -> String {
        let mut free = path.to_owned();
        if let Some(mut number) = self.taken.get(path).copied() {
            while self.taken.contains_key(&free) {
                free = format!("{path}.{number}");
                number += 1;
            }
            self.taken.insert(path.to_owned(), number);
        }
        self.taken.insert(free.clone(), 2);
        free
    }

    /// Adds the root's results and updates, after which the module is whole. Poisoned results are skipped: there are errors then.
    pub(crate) fn finish(&mut self, results: &[Tensor]) {
        let updates: Vec<(Sink, Tensor)> = (0..)
            .zip(&self.state)
            .filter_map(|(id, slot)| slot.update.map(|update| (Sink::Update(StateId(id)), update)))
            .collect();
        for (sink, x) in results.iter().map(|x| (Sink::Out, *x)).chain(updates) {
            match self.value(x) {
                Ok(value) => self.module.function_mut(ROOT).add_result(value, sink),
                Err(Failed::Poisoned) => {}
                Err(Failed::Wrong(diag)) => self.errors.push(*diag),
            }
        }
    }

    pub(crate) fn poison(&mut self) -> Tensor {
        self.tensor(None)
    }

    pub(crate) fn scope_path(&self) -> &str {
        self.scopes.last().map_or("", |scope| &scope.path)
    }

    /// The same to be kept.
    pub(crate) fn path(&self) -> Rc<str> {
        self.scopes.last().map_or_else(|| Rc::from(""), |scope| Rc::clone(&scope.path))
    }
}

/// Records what `f` does without places: it follows from the whole program, and no line of the user's asked for it.
pub(crate) fn nowhere<R>(f: impl FnOnce() -> R) -> R {
    with(|trace| trace.frames.push(Frame { func: ROOT, call: Some(Loc::UNKNOWN), body: None }));
    let result = f();
    with(|trace| trace.frames.pop());
    result
}

/// Records an operation with one result.
#[track_caller]
pub(crate) fn emit(op: Op, args: &[Tensor]) -> Traced {
    emit_all(op, args).map(|outs| outs[0])
}

/// Records an operation with any number of results.
#[track_caller]
pub(crate) fn emit_all(op: Op, args: &[Tensor]) -> Traced<Vec<Tensor>> {
    let line = Location::caller();
    with(|trace| trace.emit(op, args, line))
}

/// The end of every public operation: an error is recorded under the operation's name, and the result is poisoned.
#[track_caller]
pub(crate) fn done(name: &str, result: Traced) -> Tensor {
    match result {
        Ok(x) => x,
        Err(failed) => {
            report(name, failed);
            with(Trace::poison)
        }
    }
}

/// Records what a layer, a loss or an optimiser found wrong, at the caller's line, and gives a poisoned tensor, so that tracing
/// goes on to find more.
#[track_caller]
pub fn fail(diag: Diag) -> Tensor {
    done("", Err(diag.into()))
}

/// [`done`] for operations of several results.
#[track_caller]
pub(crate) fn done_all<const N: usize>(name: &str, result: Traced<[Tensor; N]>) -> [Tensor; N] {
    match result {
        Ok(xs) => xs,
        Err(failed) => {
            report(name, failed);
            with(|trace| [(); N].map(|()| trace.poison()))
        }
    }
}

/// Records a failure.
#[track_caller]
pub(crate) fn report(name: &str, failed: Failed) {
    let line = Location::caller();
    match failed {
        Failed::Poisoned => {}
        Failed::Wrong(diag) => with(|trace| trace.record(diag.op(name), line)),
    }
}

/// Records a failure that leaves the user's code nothing to go on with, and unwinds to the trace.
#[track_caller]
pub(crate) fn give_up(name: &str, failed: Failed) -> ! {
    report(name, failed);
    unwind()
}
