//! If, Loop, Scan, and attention whose scores a graph changes: branches and bodies become functions of the module, and what they use from outside becomes operands. A branch
//! whose condition is known is taken at import.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::op::{If, Scan, While, slice_of, stack_of};
use graver_ir::{Array, DType, Diag, Dim, FuncId, Op, ScalarFn, Type, Value};

use crate::build::Outer;
use crate::import::{Frame, Importer, MAX_DEPTH, Outcome, Slot, Stopped, operands};
use crate::known::Known;
use crate::ops::attention::Flexible;
use crate::ops::reduce::softmax;
use crate::problem::{Problem, Result, unsupported, wrong};
use crate::proto::{GraphProto, NodeProto, ValueInfoProto};

/// An operation that has graphs inside.
#[derive(Clone, Copy)]
pub(crate) enum Flow {
    If,
    Loop,
    Scan,
    FlexAttention,
}

impl Flow {
    pub(crate) fn of(domain: &str, op: &str) -> Option<Self> {
        match (domain, op) {
            ("", "If") => Some(Self::If),
            ("", "Loop") => Some(Self::Loop),
            ("", "Scan") => Some(Self::Scan),
            ("ai.onnx.preview", "FlexAttention") => Some(Self::FlexAttention),
            _ => None,
        }
    }
}

type Flowed<T> = std::result::Result<T, Stopped>;

/// Values of the surrounding function that a body uses, by name.
type Captured = Vec<(String, Value)>;

/// What a body's name stands for where it is built.
struct Param {
    name: String,
    ty: Type,
    known: Option<Known>,
}

fn attribute<'p>(proto: &'p NodeProto, name: &str) -> Result<&'p GraphProto> {
    let found = proto.attribute.iter().find(|attribute| attribute.name == name).and_then(|attribute| attribute.g.as_ref());
    match found {
        Some(graph) => Ok(graph),
        None => wrong(format!("it has no `{name}`")),
    }
}

fn ints(proto: &NodeProto, name: &str) -> Vec<i64> {
    proto.attribute.iter().find(|attribute| attribute.name == name).map_or_else(Vec::new, |attribute| attribute.ints.clone())
}

/// The names that a graph uses and does not define.
fn free(graph: &GraphProto, depth: usize) -> Result<BTreeSet<String>> {
    let Some(depth) = depth.checked_sub(1) else { return wrong(format!("graphs nest deeper than {MAX_DEPTH}")) };
    let mut defined: BTreeSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    defined.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    let mut used = BTreeSet::new();
    for node in &graph.node {
        let mut wanted: BTreeSet<String> = node.input.iter().cloned().collect();
        for inner in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            wanted.extend(free(inner, depth)?);
        }
        used.extend(wanted.into_iter().filter(|name| !name.is_empty() && !defined.contains(name.as_str())));
        defined.extend(node.output.iter().map(String::as_str));
    }
    used.extend(graph.output.iter().map(|output| output.name.clone()).filter(|name| !defined.contains(name.as_str())));
    Ok(used)
}

/// A body under construction, with the values of its parameters and of the graph's outputs.
struct Body {
    outer: Outer,
    params: Vec<Value>,
    outputs: Vec<Value>,
}

impl Importer<'_> {
    pub(crate) fn flow(&mut self, flow: Flow, proto: &NodeProto, frame: &mut Frame) -> Outcome {
        if frame.depth >= MAX_DEPTH {
            return Err(Problem::Wrong(Diag::new(format!("graphs nest deeper than {MAX_DEPTH}"))).into());
        }
        let args = match operands(proto, frame) {
            Err(Stopped::Before) => return self.surveyed(proto, frame),
            args => args?,
        };
        self.plain(args.iter().flatten())?;
        let values = match flow {
            Flow::If => return self.branch(proto, &args, frame),
            Flow::Loop => self.repeat(proto, &args, frame)?,
            Flow::Scan => self.scan(proto, &args, frame)?,
            Flow::FlexAttention => vec![self.flexible(proto, &args, frame)?],
        };
        Ok(values.into_iter().map(Slot::Value).collect())
    }

    // ---- bodies

    /// Records what is not supported in the graphs of a node whose operands have problems; nothing comes of it.
    fn surveyed(&mut self, proto: &NodeProto, frame: &Frame) -> Outcome {
        for graph in proto.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            let outside = free(graph, MAX_DEPTH)?.into_iter().filter(|name| frame.find(name).is_some());
            let inside = graph.input.iter().map(|input| input.name.clone());
            let mut inner = inner(frame);
            inner.scopes.push(inside.chain(outside).map(|name| (name, Slot::Broken)).collect());
            let outer = self.builder.begin("survey");
            inner.scopes.push(BTreeMap::new());
            self.initializers(graph, &BTreeSet::new(), &mut inner);
            self.walk(&graph.node, &mut inner);
            self.builder.abandon(outer);
        }
        Err(Stopped::Before)
    }

    /// The values of these names outside, each once, and what is known of them.
    fn captured(&self, names: &BTreeSet<String>, frame: &Frame) -> Result<Captured> {
        let value = |name: &String| match frame.find(name) {
            Some(Slot::Value(value)) => Some(Ok((name.clone(), value))),
            Some(Slot::List(_)) => Some(unsupported("a sequence in a body that is no part of the program around it")),
            Some(Slot::Absent | Slot::Broken) | None => None,
        };
        names.iter().filter_map(value).collect()
    }

    /// Bodies have no operands whose elements are codes.
    fn plain<'v>(&self, values: impl IntoIterator<Item = &'v Value>) -> Result<()> {
        match values.into_iter().find_map(|x| self.builder.format(*x)) {
            Some(format) => unsupported(format!("elements of {} in a body", format.name)),
            None => Ok(()),
        }
    }

    fn param(&self, name: &str, x: Value) -> Param {
        Param { name: name.to_owned(), ty: self.builder.ty(x).clone(), known: None }
    }

    /// Builds a graph as a function of these parameters and of what is captured. Constants are known inside too.
    fn body(&mut self, graph: &GraphProto, name: &str, params: Vec<Param>, captured: &Captured, frame: &Frame) -> Flowed<Body> {
        self.plain(captured.iter().map(|(_, x)| x))?;
        let closed: Vec<Param> =
            captured.iter().map(|(name, x)| Param { known: self.builder.known(*x).cloned(), ..self.param(name, *x) }).collect();
        let outer = self.builder.begin(name);
        let problems = self.problems.len();
        let mut inner = inner(frame);
        let mut values = Vec::new();
        for param in params.into_iter().chain(closed) {
            let value = match self.builder.param(param.ty, &param.name) {
                Ok(value) => value,
                Err(problem) => {
                    self.builder.abandon(outer);
                    return Err(problem.into());
                }
            };
            values.push(value);
            let seen = match param.known {
                Some(Known::Array(array)) => self.builder.constant(array)?,
                Some(known) => {
                    self.builder.know(value, known);
                    value
                }
                None => value,
            };
            inner.define(&param.name, Slot::Value(seen));
        }
        self.initializers(graph, &BTreeSet::new(), &mut inner);
        self.walk(&graph.node, &mut inner);
        if graph.output.iter().any(|output| matches!(inner.find(&output.name), Some(Slot::List(_) | Slot::Absent))) {
            self.builder.abandon(outer);
            return Err(Problem::Unsupported(Diag::new("a sequence or an optional value as a body's result")).into());
        }
        let output = |output: &ValueInfoProto| match inner.find(&output.name) {
            Some(Slot::Value(value)) => Some(value),
            Some(Slot::List(_) | Slot::Absent | Slot::Broken) | None => None,
        };
        let outputs: Option<Vec<Value>> = graph.output.iter().map(output).collect();
        // Values of a body that is gone cannot be asked for.
        for problem in &mut self.problems[problems..] {
            if let Problem::Unknown(_, diag) = problem {
                *problem = Problem::Unsupported(diag.clone());
            }
        }
        match outputs {
            Some(outputs) => Ok(Body { outer, params: values, outputs }),
            None => {
                self.builder.abandon(outer);
                Err(Stopped::Before)
            }
        }
    }

    /// Ends a body; its function and the types of its results.
    fn finished(&mut self, body: Body, results: &[Value]) -> (FuncId, Vec<Type>) {
        let func = self.builder.end(body.outer, results);
        (func, self.builder.module.function(func).result_types())
    }

    fn types(&self, values: &[Value]) -> Vec<Type> {
        values.iter().map(|x| self.builder.ty(*x).clone()).collect()
    }

    /// Whether a value is known to be true.
    fn holds(&self, condition: Value) -> bool {
        self.builder.known(condition).and_then(Known::array).is_some_and(|array| array.numel() == 1 && !array.get(0).is_zero())
    }

    // ---- if

    fn branch(&mut self, proto: &NodeProto, args: &[Option<Value>], frame: &mut Frame) -> Outcome {
        let Some(condition) = args.first().copied().flatten() else { return Err(missing("the condition")) };
        let (then, otherwise) = (attribute(proto, "then_branch")?, attribute(proto, "else_branch")?);
        let known = self.builder.known(condition).and_then(Known::array).filter(|array| array.numel() == 1);
        if let Some(array) = known {
            let taken = if array.get(0).is_zero() { otherwise } else { then };
            return Ok(self.inlined(taken, frame));
        }
        let mut names = free(then, MAX_DEPTH)?;
        names.extend(free(otherwise, MAX_DEPTH)?);
        let captured = self.captured(&names, frame)?;
        let condition = self.builder.reshape(condition, [])?;
        // Both, so that the problems of both are told.
        let (first, second) =
            (self.one_branch(then, "then", &captured, frame), self.one_branch(otherwise, "else", &captured, frame));
        if let (Err(_), Err(Stopped::Here(problem))) = (&first, &second) {
            let loc = self.builder.loc.clone();
            self.problems.push(problem.clone().map(|diag| diag.op(&proto.op_type).at(&loc)));
        }
        let ((then, results), (otherwise, others)) = (first?, second?);
        if results != others {
            let what = format!("branches of different types, ({}) and ({}), chosen at run time", list(&results), list(&others));
            return Err(Problem::Unsupported(Diag::new(what)).into());
        }
        let operands: Vec<Value> = std::iter::once(condition).chain(values(&captured)).collect();
        let results = self.builder.emit_all(Op::If(If { then, otherwise, results }), &operands)?;
        Ok(results.into_iter().map(Slot::Value).collect())
    }

    fn one_branch(&mut self, graph: &GraphProto, name: &str, captured: &Captured, frame: &Frame) -> Flowed<(FuncId, Vec<Type>)> {
        let body = self.body(graph, name, Vec::new(), captured, frame)?;
        let outputs = body.outputs.clone();
        Ok(self.finished(body, &outputs))
    }

    /// A graph's nodes as if they stood here.
    pub(crate) fn inlined(&mut self, graph: &GraphProto, frame: &mut Frame) -> Vec<Slot> {
        frame.depth += 1;
        frame.scopes.push(BTreeMap::new());
        self.initializers(graph, &BTreeSet::new(), frame);
        self.walk(&graph.node, frame);
        let slots = graph.output.iter().map(|output| frame.find(&output.name).unwrap_or(Slot::Broken)).collect();
        frame.scopes.pop();
        frame.depth -= 1;
        slots
    }

    // ---- attention

    /// Attention with the graphs that change its scores and its shares, as if they stood here.
    fn flexible(&mut self, proto: &NodeProto, args: &[Option<Value>], frame: &mut Frame) -> Flowed<Value> {
        let attention = Flexible::of(&mut self.spelled(proto, args, 1))?;
        let graph =
            |name| proto.attribute.iter().find(|attribute| attribute.name == name).and_then(|attribute| attribute.g.as_ref());
        let (of_scores, of_shares) = (graph("score_mod"), graph("prob_mod"));
        if of_scores.is_none() && of_shares.is_none() {
            return Ok(attention.plain(&mut self.builder)?);
        }
        let scores = attention.scores(&mut self.builder)?;
        let scores = self.changed(of_scores, scores, frame)?;
        let shares = softmax(&mut self.builder, scores)?;
        let shares = self.changed(of_shares, shares, frame)?;
        Ok(attention.shared(&mut self.builder, shares)?)
    }

    /// What a graph of one input makes of a value.
    fn changed(&mut self, graph: Option<&GraphProto>, x: Value, frame: &mut Frame) -> Flowed<Value> {
        let Some(graph) = graph else { return Ok(x) };
        let ([input], [_]) = (graph.input.as_slice(), graph.output.as_slice()) else {
            let what =
                format!("a graph of {} inputs and {} outputs where one value is changed", graph.input.len(), graph.output.len());
            return Err(Problem::Wrong(Diag::new(what)).into());
        };
        frame.scopes.push(BTreeMap::from([(input.name.clone(), Slot::Value(x))]));
        let slots = self.inlined(graph, frame);
        frame.scopes.pop();
        let Some(Slot::Value(y)) = slots.first().copied() else { return Err(Stopped::Before) };
        if self.builder.ty(y) != self.builder.ty(x) {
            let what = format!("a graph that makes {} of {}", self.builder.ty(y), self.builder.ty(x));
            return Err(Problem::Wrong(Diag::new(what)).into());
        }
        Ok(y)
    }

    // ---- loops

    /// A loop whose number of steps is a size, and whose condition never fails, is a scan; any other one gives its last values alone.
    fn repeat(&mut self, proto: &NodeProto, args: &[Option<Value>], frame: &Frame) -> Flowed<Vec<Value>> {
        let graph = attribute(proto, "body")?;
        let start: Option<Vec<Value>> = args.get(2..).unwrap_or(&[]).iter().copied().collect();
        let Some(start) = start else { return Err(missing("what is carried")) };
        if graph.input.len() != start.len() + 2 || graph.output.len() < start.len() + 1 {
            let what =
                format!("{} inputs and {} outputs of a body that carries {}", graph.input.len(), graph.output.len(), start.len());
            return Err(Problem::Wrong(Diag::new(what)).into());
        }
        let captured = self.captured(&free(graph, MAX_DEPTH)?, frame)?;
        let most = args.first().copied().flatten();
        let condition = args.get(1).copied().flatten();
        let trip = most.and_then(|most| self.builder.known(most)?.dims()?.first().cloned());
        if let Some(trip) = trip
            && condition.is_none_or(|condition| self.holds(condition))
            && let Some(results) = self.counted(graph, &trip, &start, &captured, frame)?
        {
            return Ok(results);
        }
        if graph.output.len() > start.len() + 1 {
            if let Some(most) = most.filter(|most| self.builder.known(*most).is_none()) {
                return Err(Problem::Unknown(most, Diag::new("the number of steps must be known before the program runs")).into());
            }
            let what = "a loop that stacks results and whose end is known only when the program runs";
            return Err(Problem::Unsupported(Diag::new(what)).into());
        }
        self.conditional(graph, [most, condition], &start, &captured, frame)
    }

    /// The loop as a scan over the numbers of its steps; nothing if its condition may fail.
    fn counted(
        &mut self,
        graph: &GraphProto,
        trip: &Dim,
        start: &[Value],
        captured: &Captured,
        frame: &Frame,
    ) -> Flowed<Option<Vec<Value>>> {
        let trip = trip.max_with(&Dim::ZERO);
        let mut params: Vec<Param> = start.iter().zip(&graph.input[2..]).map(|(x, input)| self.param(&input.name, *x)).collect();
        params.push(Param { name: graph.input[0].name.clone(), ty: Type::scalar(DType::I64), known: None });
        // The condition is not carried: it holds, or this is not the way.
        let yes = self.builder.constant(Array::scalar(true))?;
        let mut closed = captured.clone();
        closed.push((graph.input[1].name.clone(), yes));
        let body = self.body(graph, "loop", params, &closed, frame)?;
        if !self.holds(body.outputs[0]) {
            self.builder.abandon(body.outer);
            return Ok(None);
        }
        let outputs = body.outputs[1..].to_vec();
        let (func, types) = self.finished(body, &outputs);
        let steps = self.builder.count(DType::I64, &trip)?;
        Ok(Some(self.over(func, &types, &trip, start, &[steps], &closed)?))
    }

    /// A function over slices.
    fn over(
        &mut self,
        func: FuncId,
        outputs: &[Type],
        trip: &Dim,
        start: &[Value],
        scanned: &[Value],
        captured: &Captured,
    ) -> Result<Vec<Value>> {
        let (kept, slices) = outputs.split_at(start.len().min(outputs.len()));
        let own = self.types(start);
        if kept != own {
            return unsupported(format!("a loop that carries ({}) and leaves ({})", list(&own), list(kept)));
        }
        let results = own.into_iter().chain(slices.iter().map(|ty| stack_of(trip, ty))).collect();
        let op = Scan {
            body: func,
            trip: trip.clone(),
            carried: start.len(),
            scanned: scanned.len(),
            reverse: false,
            at_once: false,
            results,
        };
        let closed: Vec<Value> = values(captured).collect();
        self.builder.emit_all(Op::Scan(op), &[start, scanned, &closed].concat())
    }

    /// The loop as long as its condition holds: the step's number and the condition are carried too.
    fn conditional(
        &mut self,
        graph: &GraphProto,
        [most, condition]: [Option<Value>; 2],
        start: &[Value],
        captured: &Captured,
        frame: &Frame,
    ) -> Flowed<Vec<Value>> {
        let condition = match condition {
            Some(condition) => self.builder.reshape(condition, [])?,
            None => self.builder.constant(Array::scalar(true))?,
        };
        let most = match most {
            Some(most) => self.builder.reshape(most, [])?,
            None => self.builder.constant(Array::scalar(i64::MAX))?,
        };
        let zero = self.builder.constant(Array::scalar(0i64))?;
        let carried: Vec<Value> = [zero, condition].into_iter().chain(start.iter().copied()).collect();
        let params: Vec<Param> = carried.iter().zip(&graph.input).map(|(x, input)| self.param(&input.name, *x)).collect();
        let mut closed: Captured = vec![(String::new(), most)];
        closed.extend(captured.iter().cloned());
        let body = self.body(graph, "loop", params, &closed, frame)?;
        let next = self.builder.with(ScalarFn::Add, body.params[0], 1.0)?;
        let again = self.builder.reshape(body.outputs[0], [])?;
        let results: Vec<Value> = [next, again].into_iter().chain(body.outputs[1..].iter().copied()).collect();
        let (func, outputs) = self.finished(body, &results);
        let types = self.types(&carried);
        if outputs != types {
            let what = format!("a loop that carries ({}) and leaves ({})", list(&types), list(&outputs));
            return Err(Problem::Unsupported(Diag::new(what)).into());
        }
        let operands: Vec<Value> = carried.iter().copied().chain(values(&closed)).collect();
        let cond = self.builder.body("again", &self.types(&operands), |builder, params| {
            let early = builder.map(ScalarFn::Lt, &[params[0], params[carried.len()]])?;
            Ok(vec![builder.map(ScalarFn::And, &[early, params[1]])?])
        })?;
        let op = While { cond, body: func, carried: carried.len(), most: None };
        let mut results = self.builder.emit_all(Op::While(op), &operands)?;
        results.drain(..2);
        Ok(results)
    }

    // ---- scan

    fn scan(&mut self, proto: &NodeProto, args: &[Option<Value>], frame: &Frame) -> Flowed<Vec<Value>> {
        let graph = attribute(proto, "body")?;
        let count =
            proto.attribute.iter().find(|attribute| attribute.name == "num_scan_inputs").map_or(0, |attribute| attribute.i);
        if frame.opsets.get("").is_some_and(|version| *version < 9) {
            let what = "scans of batches, which version 9 of the operators has no more";
            return Err(Problem::Unsupported(Diag::new(what)).into());
        }
        let all: Option<Vec<Value>> = args.iter().copied().collect();
        let Some(all) = all else { return Err(missing("an operand")) };
        let carried = usize::try_from(count).ok().and_then(|count| all.len().checked_sub(count));
        let Some(carried) = carried.filter(|carried| *carried < all.len() && graph.input.len() == all.len()) else {
            return Err(Problem::Wrong(Diag::new(format!("{count} of {} operands are scanned", all.len()))).into());
        };
        let (start, scanned) = all.split_at(carried);
        let mut slices = Vec::new();
        for (place, x) in scanned.iter().enumerate() {
            slices.push(self.placed(proto, "scan_input", place, *x, true)?);
        }
        let trip = self.builder.shape(slices[0])[0].clone();
        let captured = self.captured(&free(graph, MAX_DEPTH)?, frame)?;
        let mut params: Vec<Param> = Vec::new();
        for (place, (x, input)) in start.iter().chain(&slices).zip(&graph.input).enumerate() {
            let param = self.param(&input.name, *x);
            params.push(if place < carried { param } else { Param { ty: slice_of(&param.ty), ..param } });
        }
        let body = self.body(graph, "scan", params, &captured, frame)?;
        let outputs = body.outputs.clone();
        let (func, types) = self.finished(body, &outputs);
        let mut results = self.over(func, &types, &trip, start, &slices, &captured)?;
        for (place, result) in results.iter_mut().skip(carried).enumerate() {
            *result = self.placed(proto, "scan_output", place, *result, false)?;
        }
        Ok(results)
    }

    /// An operand with its scanned axis first and in the order of the steps, or a result with that axis where it belongs.
    fn placed(&mut self, proto: &NodeProto, what: &str, place: usize, x: Value, first: bool) -> Result<Value> {
        let one = |name: &str| ints(proto, &format!("{what}_{name}")).get(place).copied().unwrap_or(0);
        let rank = self.builder.rank(x);
        let axis = one("axes");
        let axis = usize::try_from(if axis < 0 { axis.saturating_add(i64::try_from(rank).unwrap_or(0)) } else { axis });
        let Some(axis) = axis.ok().filter(|axis| *axis < rank) else { return wrong(format!("no axis to scan of rank {rank}")) };
        let mut order: Vec<usize> = (0..rank).collect();
        if first {
            let moved = order.remove(axis);
            order.insert(0, moved);
        } else {
            let moved = order.remove(0);
            order.insert(axis, moved);
        }
        let backwards = one("directions") == 1;
        let x = if backwards && !first { self.builder.emit(Op::Reverse(vec![0]), &[x])? } else { x };
        let x = self.builder.permute(x, order)?;
        if backwards && first { self.builder.emit(Op::Reverse(vec![0]), &[x]) } else { Ok(x) }
    }
}

/// What a body's nodes see before it has names.
fn inner(frame: &Frame) -> Frame {
    Frame {
        scopes: vec![BTreeMap::new()],
        opsets: frame.opsets.clone(),
        caller: frame.caller.clone(),
        name: frame.name.clone(),
        depth: frame.depth + 1,
    }
}

fn values(captured: &Captured) -> impl Iterator<Item = Value> + '_ {
    captured.iter().map(|(_, value)| *value)
}

/// Types as the language writes them.
fn list(types: &[Type]) -> String {
    types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ")
}

fn missing(what: &str) -> Stopped {
    Problem::Wrong(Diag::new(format!("{what} is missing"))).into()
}
