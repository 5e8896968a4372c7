//! From a decoded model to a module: the walk over nodes, names and their scopes, functions inlined, problems collected.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use graver_ir::{Array, Diag, Dim, Error, Function, Loc, Module, NodeId, Op, Place, Role, Sink, Symbol, Value};

use crate::build::Builder;
use crate::control::Flow;
use crate::format;
use crate::node::Node;
use crate::ops;
use crate::problem::{Failure, Problem, Result, unsupported, wrong};
use crate::proto::OperatorSetIdProto;
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use crate::sequence::OnSequence;
use crate::tensor::{self, External};

/// The deepest nesting of functions and branches.
pub(crate) const MAX_DEPTH: usize = 32;
/// The newest version of the format.
const NEWEST: i64 = 14;
/// The most nodes, those of functions counted at every call.
const MAX_NODES: usize = 1 << 18;
/// The most sizes that are taken as equal or bounded.
const MAX_ASSUMED: usize = 64;
/// The most problems that are listed.
const MAX_PROBLEMS: usize = 64;

/// How a model is imported.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name of the model in messages: its file.
    pub name: String,
    /// The folder where external data may lie: the model's own. Without it external data is refused.
    pub folder: Option<PathBuf>,
    /// Shapes of inputs: numbers instead of symbols, and shapes for inputs that declare none.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of inputs, which become constants and are no arguments any more.
    pub values: BTreeMap<String, Array>,
    /// Inputs that are arguments though they have an initializer: a call gives another value. Other names are of no matter.
    pub replaced: BTreeSet<String>,
    /// What inputs that are sequences or optional values hold; without it they are refused.
    pub forms: BTreeMap<String, Form>,
}

/// An imported model.
#[derive(Debug)]
pub struct Imported {
    /// The verified module; its entry is the model's graph.
    pub module: Module,
    /// For each argument of the entry, what it is of the model's inputs.
    pub inputs: Vec<Origin>,
    /// What the model's outputs are: each has as many of the entry's results as its form says.
    pub outputs: Vec<Form>,
}

/// Which input an argument is, or is an element of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The place among the model's inputs.
    pub input: usize,
    /// The place in the sequence that the input is.
    pub item: Option<usize>,
}

/// What an input or output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing: an optional value that is not there.
    Absent,
    /// A tensor.
    Tensor,
    /// A sequence of so many tensors. As inputs they are called by the sequence's name and their place, `x.0`.
    Sequence(usize),
}

impl Form {
    /// How many tensors it is.
    #[must_use]
    pub const fn tensors(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Tensor => 1,
            Self::Sequence(count) => count,
        }
    }
}

/// Imports a model.
///
/// # Errors
/// What is wrong with the model, or with this importer.
pub fn import(model: &ModelProto, options: &Options) -> std::result::Result<Imported, Failure> {
    let Some(graph) = &model.graph else { return Err(Diag::new("a model without a graph").into()) };
    if model.ir_version > NEWEST {
        let what = format!("version {} of the format; {NEWEST} is the newest that is known", model.ir_version);
        return Err(Failure::Unsupported(Diag::new(what).into()));
    }
    let opsets = opsets(&model.opset_import)?;
    let mut assumed = Vec::new();
    loop {
        let mut importer = Importer::new(model, options, &assumed);
        importer.run(graph, opsets.clone())?;
        match importer.assumption.take() {
            None => return importer.finish(),
            Some(_) if assumed.len() == MAX_ASSUMED => {
                return Err(Diag::new(format!("more than {MAX_ASSUMED} sizes must be taken as equal")).into());
            }
            Some(assumption) => assumed.push(assumption),
        }
    }
}

/// A symbol and what takes its place everywhere: another size that it must equal, or the same symbol with a lesser bound.
pub(crate) type Assumption = (Symbol, Dim);
/// What a name stands for.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    Value(Value),
    /// A sequence, by its place among the importer's.
    List(usize),
    /// An optional operand that the caller left out.
    Absent,
    /// Its node has a problem, which is recorded.
    Broken,
}

/// Names in reach, innermost scope last, and the world around them.
pub(crate) struct Frame {
    pub(crate) scopes: Vec<BTreeMap<String, Slot>>,
    pub(crate) opsets: BTreeMap<String, i64>,
    pub(crate) caller: Loc,
    /// The function's name in places; empty for the graph.
    pub(crate) name: String,
    pub(crate) depth: usize,
}

impl Frame {
    pub(crate) fn find(&self, name: &str) -> Option<Slot> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    /// Whether the innermost scope has the name: there, every name is given once.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|scope| scope.contains_key(name))
    }

    pub(crate) fn define(&mut self, name: &str, slot: Slot) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), slot);
        }
    }
}

/// Why a node has no values: a problem of its own, or of its operands.
pub(crate) enum Stopped {
    Here(Problem),
    Before,
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Here(problem)
    }
}

pub(crate) type Outcome = std::result::Result<Vec<Slot>, Stopped>;

pub(crate) struct Importer<'a> {
    pub(crate) builder: Builder,
    pub(crate) options: &'a Options,
    external: External,
    /// The version of the format.
    pub(crate) version: i64,
    functions: BTreeMap<(&'a str, &'a str, &'a str), &'a FunctionProto>,
    pub(crate) assumed: &'a [Assumption],
    /// Why the import must begin again.
    pub(crate) assumption: Option<Assumption>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) lists: Vec<Vec<Value>>,
    nodes: usize,
    pub(crate) inputs: Vec<Origin>,
    outputs: Vec<Form>,
}

/// The version of each domain's operators, which is one.
fn opsets(imports: &[OperatorSetIdProto]) -> std::result::Result<BTreeMap<String, i64>, Diag> {
    let mut versions = BTreeMap::new();
    for set in imports {
        let before = versions.insert(domain(&set.domain).to_owned(), set.version);
        if let Some(before) = before.filter(|before| *before != set.version) {
            return Err(Diag::new(format!(
                "the operators of `{}` are imported in versions {before} and {}",
                set.domain, set.version
            )));
        }
    }
    Ok(versions)
}

/// The standard domain has two names.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

impl<'a> Importer<'a> {
    fn new(model: &'a ModelProto, options: &'a Options, assumed: &'a [Assumption]) -> Self {
        let key = |f: &'a FunctionProto| (domain(&f.domain), f.name.as_str(), f.overload.as_str());
        Self {
            builder: Builder::new(),
            options,
            external: External(options.folder.clone()),
            version: model.ir_version,
            functions: model.functions.iter().map(|function| (key(function), function)).collect(),
            assumed,
            assumption: None,
            problems: Vec::new(),
            lists: Vec::new(),
            nodes: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn run(&mut self, graph: &GraphProto, opsets: BTreeMap<String, i64>) -> std::result::Result<(), Failure> {
        let mut frame = Frame { scopes: vec![BTreeMap::new()], opsets, caller: Loc::UNKNOWN, name: String::new(), depth: 0 };
        let replaced = |name: &str| {
            let another = self.options.replaced.contains(name) || self.options.values.contains_key(name);
            another && self.is_input(graph, name)
        };
        let replaced: BTreeSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).filter(|name| replaced(name)).collect();
        self.initializers(graph, &replaced, &mut frame);
        self.arguments(graph, &mut frame);
        self.walk(&graph.node, &mut frame);
        self.builder.loc = Loc::UNKNOWN;
        if self.assumption.is_some() {
            return Ok(());
        }
        self.results(graph, &frame);
        self.verdict()
    }

    fn finish(mut self) -> std::result::Result<Imported, Failure> {
        prune(&mut self.builder.function);
        self.builder.module.functions.values_mut().for_each(prune);
        let Some((entry, _)) = self.builder.module.entry() else { return Err(Diag::new("a module without an entry").into()) };
        *self.builder.module.function_mut(entry) = self.builder.function;
        graver_ir::verify(&self.builder.module).map_err(Failure::Invalid)?;
        Ok(Imported { module: self.builder.module, inputs: self.inputs, outputs: self.outputs })
    }

    /// The value, or a recorded problem.
    pub(crate) fn slot(&mut self, value: Result<Value>, what: &str) -> Slot {
        match value {
            Ok(value) => Slot::Value(value),
            Err(problem) => {
                self.problems.push(problem.map(|diag| Diag { message: format!("{what}: {}", diag.message), ..diag }));
                Slot::Broken
            }
        }
    }

    // ---- names

    /// Gives initializers their names, but for those that are replaced.
    pub(crate) fn initializers(&mut self, graph: &GraphProto, replaced: &BTreeSet<&str>, frame: &mut Frame) {
        for tensor in graph.initializer.iter().filter(|tensor| !replaced.contains(tensor.name.as_str())) {
            let value = tensor::coded(tensor, &self.external).and_then(|(array, format)| self.builder.stored(array, format));
            let value = if frame.has(&tensor.name) { wrong("it is there twice") } else { value };
            let slot = self.slot(value, &format!("the initializer `{}`", tensor.name));
            frame.define(&tensor.name, slot);
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
            let slot = self.slot(unsupported("a sparse tensor"), &format!("the initializer `{name}`"));
            frame.define(name, slot);
        }
    }

    fn results(&mut self, graph: &GraphProto, frame: &Frame) {
        for (place, output) in graph.output.iter().enumerate() {
            if graph.output[..place].iter().any(|before| before.name == output.name) {
                self.slot(wrong("it is there twice"), &format!("the output `{}`", output.name));
            }
            match frame.find(&output.name) {
                Some(Slot::Value(value)) => {
                    if let Err(problem) = self.as_declared(output, value) {
                        self.slot(Err(problem), &format!("the output `{}`", output.name));
                    }
                    self.builder.function.add_result(value, Sink::Out);
                    self.outputs.push(Form::Tensor);
                }
                Some(Slot::List(list)) => {
                    let items = &self.lists[list];
                    items.iter().for_each(|item| self.builder.function.add_result(*item, Sink::Out));
                    self.outputs.push(Form::Sequence(items.len()));
                }
                Some(Slot::Absent) => self.outputs.push(Form::Absent),
                Some(Slot::Broken) if !self.problems.is_empty() => {}
                Some(Slot::Broken) | None => {
                    self.slot(wrong("no node computes it"), &format!("the output `{}`", output.name));
                }
            }
        }
    }

    // ---- nodes

    pub(crate) fn walk(&mut self, nodes: &[NodeProto], frame: &mut Frame) {
        for (position, proto) in nodes.iter().enumerate() {
            self.nodes += 1;
            if self.assumption.is_some() {
                return;
            }
            if self.nodes > MAX_NODES || self.problems.len() >= MAX_PROBLEMS {
                self.problems.push(Problem::Wrong(Diag::new(format!("more than {MAX_NODES} nodes or {MAX_PROBLEMS} problems"))));
                return;
            }
            let loc = self.place(proto, position, frame);
            self.builder.loc = loc.clone();
            let slots = self.node(proto, frame).unwrap_or_else(|stopped| {
                match stopped {
                    Stopped::Here(Problem::Assume(symbol, dim)) => self.assumption = Some((symbol, dim)),
                    Stopped::Here(problem) => self.problems.push(problem.map(|diag| diag.op(&proto.op_type).at(&loc))),
                    Stopped::Before => {}
                }
                Vec::new()
            });
            for (place, name) in proto.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                if frame.has(name) {
                    self.problems.push(self.twice(name, &nodes[..position], frame, &loc));
                }
                frame.define(name, slots.get(place).copied().unwrap_or(Slot::Broken));
            }
        }
    }

    /// What is said of a value that has a node, or is given, before.
    fn twice(&self, name: &str, before: &[NodeProto], frame: &Frame, loc: &Loc) -> Problem {
        let first = before.iter().position(|node| node.output.iter().any(|output| output == name));
        let first = first.map_or_else(
            || "it is given, or another output of this node".to_owned(),
            |position| format!("one at {}", self.place(&before[position], position, frame)),
        );
        Problem::Wrong(Diag::new(format!("`{name}` has two values: {first}, and here")).at(loc))
    }

    /// `model.onnx:7:1 (Gather /embeddings/Gather)`: the node's number, its operation and its name.
    fn place(&self, proto: &NodeProto, position: usize, frame: &Frame) -> Loc {
        let name = if proto.name.is_empty() { proto.output.first().map_or("", String::as_str) } else { &proto.name };
        let inside = if frame.name.is_empty() { String::new() } else { format!("{}: ", frame.name) };
        let line = u32::try_from(position + 1).unwrap_or(u32::MAX);
        let (file, scope) = (self.options.name.clone(), format!("{inside}{} {name}", proto.op_type));
        Loc::new(Place { file, line, column: 1, scope, caller: frame.caller.clone() })
    }

    fn node(&mut self, proto: &NodeProto, frame: &mut Frame) -> Outcome {
        let domain = domain(&proto.domain);
        let key = (domain, proto.op_type.as_str(), proto.overload.as_str());
        if let Some(function) = self.functions.get(&key).copied() {
            // What a function does not support is told even where its operands have problems.
            let broken = proto.input.iter().any(|name| matches!(frame.find(name), Some(Slot::Broken)));
            let args = if broken { vec![Slot::Broken; proto.input.len()] } else { slots(proto, frame)? };
            return Ok(self.call(function, proto, &args, frame)?);
        }
        if let Some(flow) = Flow::of(domain, &proto.op_type) {
            return self.flow(flow, proto, frame);
        }
        if let Some(op) = OnSequence::of(domain, &proto.op_type) {
            let slots = slots(proto, frame)?;
            return self.sequence(op, proto, &slots, frame);
        }
        if proto.op_type == "Identity"
            && let [slot @ (Slot::List(_) | Slot::Absent)] = slots(proto, frame)?.as_slice()
        {
            return Ok(vec![*slot]);
        }
        let Some(version) = frame.opsets.get(domain).copied() else {
            return Err(Problem::Wrong(Diag::new(format!("the model does not import the operators of `{domain}`"))).into());
        };
        // An unknown operation is told even where its operands have problems, so that all are listed at once.
        let translate = ops::find(domain, &proto.op_type, version)?;
        let args = operands(proto, frame)?;
        let format = format::through(&self.builder, &proto.op_type, &args)?;
        let mut node = self.spelled(proto, &args, version);
        let results = translate.run(&mut node);
        // What follows from an attribute that is not what it must be is not of interest.
        node.well_typed()?;
        let results = results?;
        if let Some(format) = format {
            results.iter().for_each(|result| self.builder.mark(*result, format));
        }
        Ok(results.into_iter().map(Slot::Value).collect())
    }

    /// What a translation sees of a node.
    pub(crate) fn spelled<'n>(&'n mut self, proto: &'n NodeProto, args: &'n [Option<Value>], version: i64) -> Node<'n> {
        Node { b: &mut self.builder, proto, args, version, external: &self.external, mistyped: RefCell::default() }
    }

    /// A function of the model, inlined.
    fn call(&mut self, function: &FunctionProto, proto: &NodeProto, args: &[Slot], frame: &Frame) -> Result<Vec<Slot>> {
        if frame.depth >= MAX_DEPTH {
            return wrong(format!("functions nest deeper than {MAX_DEPTH}, or call themselves"));
        }
        let mut attributes: BTreeMap<String, AttributeProto> = BTreeMap::new();
        for attribute in function.attribute_proto.iter().chain(&proto.attribute) {
            attributes.insert(attribute.name.clone(), attribute.clone());
        }
        let slot = |place: usize| args.get(place).copied().unwrap_or(Slot::Absent);
        let scope = function.input.iter().enumerate().map(|(place, name)| (name.clone(), slot(place))).collect();
        let caller = self.builder.loc.clone();
        let mut inner = Frame {
            scopes: vec![scope],
            opsets: opsets(&function.opset_import)?,
            caller,
            name: function.name.clone(),
            depth: frame.depth + 1,
        };
        self.walk(&resolved(&function.node, &attributes), &mut inner);
        Ok(function.output.iter().map(|name| inner.find(name).unwrap_or(Slot::Broken)).collect())
    }

    // ---- problems

    /// Whether there are problems, and whose fault they are.
    fn verdict(&mut self) -> std::result::Result<(), Failure> {
        let (mut invalid, mut unsupported, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        let mut inputs = BTreeSet::new();
        for problem in self.problems.drain(..) {
            match problem {
                Problem::Wrong(diag) => invalid.push(diag),
                Problem::Unsupported(diag) => unsupported.push(diag),
                Problem::Assume(symbol, dim) => invalid.push(Diag::new(format!("{} is not {dim}", symbol.name()))),
                Problem::Unknown(value, diag) => {
                    let from = origins(&self.builder.function, value);
                    if from.is_empty() {
                        unsupported.push(diag)
                    } else {
                        unknown.push(diag)
                    }
                    inputs.extend(from);
                }
            }
        }
        if !invalid.is_empty() {
            // Everything is told at once.
            invalid
                .extend(unsupported.into_iter().map(|diag| Diag { message: format!("not supported: {}", diag.message), ..diag }));
            unsupported = Vec::new();
        }
        if let Some(error) = Error::from_diags(invalid) {
            return Err(Failure::Invalid(error));
        }
        if let Some(error) = Error::from_diags(unsupported) {
            return Err(Failure::Unsupported(error));
        }
        match Error::from_diags(unknown) {
            Some(error) => Err(Failure::Undetermined { inputs: inputs.into_iter().collect(), error }),
            None => Ok(()),
        }
    }
}

/// What a node's inputs stand for; none is broken.
fn slots(proto: &NodeProto, frame: &Frame) -> std::result::Result<Vec<Slot>, Stopped> {
    let mut slots = Vec::new();
    for name in &proto.input {
        slots.push(match frame.find(name) {
            _ if name.is_empty() => Slot::Absent,
            Some(Slot::Broken) => return Err(Stopped::Before),
            Some(slot @ (Slot::Value(_) | Slot::List(_) | Slot::Absent)) => slot,
            None => {
                let what = format!("`{name}` is used before any node computes it, or in a circle");
                return Err(Problem::Wrong(Diag::new(what)).into());
            }
        });
    }
    Ok(slots)
}

/// The tensors that a node's inputs stand for.
pub(crate) fn operands(proto: &NodeProto, frame: &Frame) -> std::result::Result<Vec<Option<Value>>, Stopped> {
    let tensor = |slot: Slot| match slot {
        Slot::Value(value) => Ok(Some(value)),
        Slot::Absent => Ok(None),
        Slot::List(_) => Err(Problem::Unsupported(Diag::new("an operand that is a sequence")).into()),
        Slot::Broken => Err(Stopped::Before),
    };
    slots(proto, frame)?.into_iter().map(tensor).collect()
}

/// A function's nodes with the attributes of its call in place of their names.
fn resolved(nodes: &[NodeProto], attributes: &BTreeMap<String, AttributeProto>) -> Vec<NodeProto> {
    let attribute = |attribute: &AttributeProto| {
        if !attribute.ref_attr_name.is_empty() {
            let given = attributes.get(&attribute.ref_attr_name)?.clone();
            return Some(AttributeProto { name: attribute.name.clone(), ..given });
        }
        let inside = |graph: &GraphProto| GraphProto { node: resolved(&graph.node, attributes), ..graph.clone() };
        Some(AttributeProto { g: attribute.g.as_ref().map(inside), ..attribute.clone() })
    };
    let node = |node: &NodeProto| NodeProto { attribute: node.attribute.iter().filter_map(attribute).collect(), ..node.clone() };
    nodes.iter().map(node).collect()
}

/// The names of the arguments that a value depends on.
fn origins(function: &Function, value: Value) -> BTreeSet<String> {
    let (mut seen, mut stack) = (vec![false; function.graph.bound()], vec![value.node]);
    while let Some(node) = stack.pop() {
        if !std::mem::replace(&mut seen[node.index()], true) {
            stack.extend(function.graph.args(node).iter().map(|arg| arg.node));
        }
    }
    let named = |param: &graver_ir::Param| match &param.role {
        Role::Arg(name) if seen[param.node.index()] => Some(name.clone()),
        Role::Arg(_) | Role::State(_) => None,
    };
    function.params.iter().filter_map(named).collect()
}

/// Removes what no result needs; arguments stay.
fn prune(function: &mut Function) {
    let mut order: Vec<NodeId> = function.graph.topo();
    order.reverse();
    let mut results = vec![false; function.graph.bound()];
    function.results.iter().for_each(|result| results[result.value.node.index()] = true);
    for node in order {
        if !results[node.index()] && !matches!(function.graph.op(node), Op::Param(_)) && !function.graph.has_users(node) {
            function.graph.remove(node);
        }
    }
}
